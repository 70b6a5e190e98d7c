"""How the objects of the demo data set move with their sounds."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator


class Pose(NamedTuple):
    """Where a part is in its object: each a number or a float [num_frames], in unit lengths.

    The part is scaled, then turned by `angle` (radians, clockwise on the screen) about
    (pivot_x, pivot_y), then moved by (x, y).
    """

    x: np.ndarray | float = 0.0
    y: np.ndarray | float = 0.0
    angle: np.ndarray | float = 0.0
    scale_x: np.ndarray | float = 1.0
    pivot_x: float = 0.0
    pivot_y: float = 0.0


Poses = tuple[Pose, ...]  # of the object, and of the tool that plays it if there is one


def _stroke(times: np.ndarray, attacks: np.ndarray) -> np.ndarray:
    """Returns the position in a series of strokes: n at attack n, between them in proportion."""
    if len(attacks) < 2:
        return times * 2
    step = attacks[-1] - attacks[-2]
    return np.interp(times, np.append(attacks, attacks[-1] + step), np.arange(len(attacks) + 1))


def _kick(times: np.ndarray, attacks: np.ndarray, decay_seconds: float) -> np.ndarray:
    """Returns 1 at each attack, decaying after it."""
    since = times[:, None] - attacks[None, :]
    return np.where(since >= 0, np.exp(-np.maximum(since, 0) / decay_seconds), 0).max(axis=1)


def sway(times: np.ndarray, rng: Generator, amplitude: float) -> np.ndarray:
    """Returns a slow swinging about 0 in a rhythm of its own."""
    return amplitude * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * times + rng.uniform(0, 6))


def nod(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """The player sways, and gives a jerk at each note."""
    jerk = _kick(times, attacks, 0.12)
    sign = rng.choice([-1, 1])
    return (Pose(y=0.02 * jerk, angle=sway(times, rng, 0.08) + sign * 0.05 * jerk),)


def tremble(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """A heavy thing that hardly moves, but shakes a little at each note."""
    return (Pose(y=0.015 * _kick(times, attacks, 0.08), angle=sway(times, rng, 0.02)),)


def swing(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """A bell that swings about its top, at the turning point at each stroke."""
    amplitude = rng.uniform(0.2, 0.45)
    angle = amplitude * np.cos(np.pi * _stroke(times, attacks))
    return (Pose(angle=angle, pivot_y=-0.45),)


def bowing(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """A violin sways while its bow goes to and fro."""
    travel = 0.2 * np.cos(np.pi * _stroke(times, attacks))
    tilt = rng.uniform(-0.3, 0.3)
    body = Pose(angle=sway(times, rng, 0.05))
    return body, Pose(travel * np.cos(tilt), 0.18 + travel * np.sin(tilt), tilt)


def bellows(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """An accordion is drawn and pressed."""
    stretch = 1.02 + sway(times, rng, 0.16)
    return (Pose(scale_x=stretch, angle=sway(times, rng, 0.05)),)


def drumming(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """Sticks fall on the skin at each hit; the drum shakes."""
    hit = _kick(times, attacks, 0.07)
    body = Pose(y=0.015 * hit)
    return body, Pose(x=0.05, y=-0.12 - 0.1 * (1 - hit), angle=0.25 * (1 - hit))


def clapping(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """The upper cymbal falls on the lower one at each hit and tips."""
    hit = _kick(times, attacks, 0.1)
    body = Pose(angle=sway(times, rng, 0.01))
    return body, Pose(y=-0.09 * (1 - hit), angle=0.12 * hit, pivot_y=-0.22)


def malleting(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """Mallets jump from bar to bar."""
    stroke = _stroke(times, attacks)
    spots = rng.uniform(-0.2, 0.2, len(attacks) + 2)
    x = np.interp(stroke, np.arange(len(spots)), spots)
    hop = np.abs(np.sin(np.pi * stroke))
    return Pose(angle=sway(times, rng, 0.02)), Pose(x=x, y=-0.1 * hop)


def boring(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """A drill shakes and is pushed forward and back."""
    shake = rng.uniform(-0.012, 0.012, (2, len(times)))
    push = sway(times, rng, 0.05)
    return (Pose(x=push + shake[0], y=shake[1], angle=sway(times, rng, 0.04)),)


def hammering(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """A hammer is raised between blows and falls at each; it turns about the hand."""
    raised = np.abs(np.sin(np.pi * _stroke(times, attacks))) ** 0.7
    return (Pose(angle=rng.uniform(0.45, 0.8) * raised, pivot_y=0.45),)


def stroking(times: np.ndarray, attacks: np.ndarray, rng: Generator) -> Poses:
    """A saw goes to and fro along its blade."""
    travel = rng.uniform(0.12, 0.22) * np.cos(np.pi * _stroke(times, attacks))
    return (Pose(x=travel, angle=sway(times, rng, 0.03)),)
