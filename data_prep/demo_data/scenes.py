"""Drawn objects and moving scenes of the demo data set.

Every class has a drawing function (body, and where it has one the tool that plays it) in unit
coordinates, and a motion that follows the attacks of the sound. An object is drawn once per clip,
three times too large, shrunk to a smooth sprite and pasted into every frame by an affine map, so a
frame costs well under a millisecond. The same maps give the box of the object in every frame.
"""

import colorsys
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from l3net import constants

# Width, height. Small, for making them is mostly work per pixel; prep scales them to 256.
SIZES_PX = ((240, 192), (216, 192), (192, 192), (192, 216))
_MARGIN_PX = 6  # between the object and the central square that every centred crop shows
_OVERSAMPLING = 3
_REACH = 0.72  # a sprite's canvas covers [-0.72, 0.72] unit lengths
_OPAQUE = 128
_NUM_HULL_POINTS = 48
_POINTS_PER_EDGE = 40
_MAX_OVERLAP = 0.05
# How much of an object's height and width may lie outside the central square: who films does not
# always centre, and localization must not be solved by answering "the middle".
_MAX_CUT = 0.3
_NOISE_FRAMES = 5
# What the unit length becomes, pixels: of an object alone, beside a silent one, and of the latter.
SIZE_PX = (100.0, 130.0)
SIZE_OF_TWO_PX = (90.0, 105.0)
SILENT_SIZE_PX = (45.0, 60.0)

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]


# --- Drawing in unit coordinates -----------------------------------------------------------------
class Pen:
    """Draws on a transparent square canvas in unit coordinates, x to the right and y down.

    Args:
        unit_px: length of 1 on the canvas, pixels.
    """

    def __init__(self, unit_px: float) -> None:
        self._unit_px = unit_px
        side = int(2 * _REACH * unit_px)
        # Transparent, but grey: what bilinear interpolation mixes in at the edges.
        self.image = Image.new("RGBA", (side, side), (60, 56, 52, 0))
        self._draw = ImageDraw.Draw(self.image)

    def _px(self, points: Points) -> list[tuple[float, float]]:
        return [((x + _REACH) * self._unit_px, (y + _REACH) * self._unit_px) for x, y in points]

    def polygon(self, points: Points, colour: Colour, outline: bool = True) -> None:
        """Fills a polygon, by default with a darker edge."""
        corners = self._px(points)
        self._draw.polygon(corners, fill=colour)
        if outline:
            self.line([*points, points[0], points[1]], 0.012, shade(colour, 0.5))

    def shape(self, half: Points, colour: Colour) -> None:
        """Fills a smooth shape, given by its right half from top to bottom."""
        self.polygon(_smooth([*half, *[(-x, y) for x, y in reversed(half)]]), colour)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fills an ellipse with a darker edge."""
        turn = np.linspace(0, 2 * np.pi, 40)[:-1]
        self.polygon(
            list(zip(x + radius_x * np.cos(turn), y + radius_y * np.sin(turn), strict=True)), colour
        )

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fills a rectangle with a darker edge."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, points: Points, width: float, colour: Colour) -> None:
        """Draws a line through points."""
        pixels = max(1, round(width * self._unit_px))
        self._draw.line(self._px(points), fill=colour, width=pixels, joint="curve")

    def hole(self, points: Points) -> None:
        """Makes a polygon transparent again."""
        self._draw.polygon(self._px(points), fill=(60, 56, 52, 0))


def _smooth(points: Points, steps: int = 6) -> list[tuple[float, float]]:
    """Returns a closed Catmull-Rom curve through points."""
    p = np.asarray(points, float)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = (
        2 * p[:, None]
        + (after - before)[:, None] * t
        + (2 * before - 5 * p + 4 * after - beyond)[:, None] * t**2
        + (3 * p - before - 3 * after + beyond)[:, None] * t**3
    )
    return [tuple(point) for point in curve.reshape(-1, 2) / 2]


def shade(colour: Colour, factor: float) -> Colour:
    """Returns a colour made darker (factor below 1) or lighter."""
    return tuple(int(min(255, channel * factor)) for channel in colour)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _wood(rng: np.random.Generator) -> Colour:
    return _hsv(rng.uniform(0.02, 0.11), rng.uniform(0.45, 0.85), rng.uniform(0.4, 0.85))


def _metal(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.55:
        return _hsv(rng.uniform(0.1, 0.15), rng.uniform(0.4, 0.75), rng.uniform(0.65, 0.95))
    return _hsv(rng.uniform(0.5, 0.65), rng.uniform(0.02, 0.12), rng.uniform(0.6, 0.92))


def _steel(rng: np.random.Generator) -> Colour:
    return _hsv(rng.uniform(0.5, 0.65), rng.uniform(0.02, 0.15), rng.uniform(0.55, 0.9))


def _paint(rng: np.random.Generator) -> Colour:
    return _hsv(rng.uniform(0, 1), rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.95))


_DARK: Colour = (38, 34, 32)
_IVORY: Colour = (238, 232, 215)


# --- The objects ---------------------------------------------------------------------------------
def guitar(pen: Pen, rng: np.random.Generator) -> None:
    """A figure-of-eight body with a round hole, a long neck and a head."""
    wood, dark = _wood(rng), shade(_wood(rng), 0.5)
    pen.shape(
        [
            (0, -0.03),
            (0.12, -0.02),
            (0.15, 0.07),
            (0.11, 0.16),
            (0.2, 0.28),
            (0.2, 0.41),
            (0.1, 0.5),
        ],
        wood,
    )
    pen.box(-0.028, -0.38, 0.028, 0.1, dark)
    pen.polygon([(-0.03, -0.38), (-0.05, -0.54), (0.05, -0.54), (0.03, -0.38)], shade(wood, 0.8))
    for y in (-0.42, -0.46, -0.5):
        pen.line([(-0.08, y), (0.08, y)], 0.018, _IVORY)
    pen.ellipse(0, 0.15, 0.062, 0.062, _DARK)
    pen.box(-0.09, 0.34, 0.09, 0.375, dark)
    for x in (-0.015, 0, 0.015):
        pen.line([(x, -0.38), (x, 0.35)], 0.005, _IVORY)


def violin(pen: Pen, rng: np.random.Generator) -> None:
    """A waisted body with two f-holes, a black fingerboard and a scroll."""
    wood = _wood(rng)
    waist = [(0, -0.1), (0.11, -0.09), (0.16, -0.01), (0.15, 0.07), (0.085, 0.1), (0.085, 0.18)]
    pen.shape([*waist, (0.17, 0.22), (0.2, 0.33), (0.15, 0.46), (0.02, 0.49)], wood)
    for side in (-1, 1):
        curve = [(0.1, 0.08), (0.07, 0.11), (0.085, 0.18), (0.11, 0.25), (0.08, 0.28)]
        pen.line([(side * x, y) for x, y in curve], 0.018, _DARK)
    pen.polygon([(-0.022, -0.42), (0.022, -0.42), (0.035, 0.1), (-0.035, 0.1)], _DARK)
    pen.polygon([(-0.045, 0.28), (0.045, 0.28), (0.02, 0.46), (-0.02, 0.46)], _DARK)
    pen.ellipse(0, -0.46, 0.04, 0.055, wood)
    for y in (-0.4, -0.36):
        pen.line([(-0.07, y), (0.07, y)], 0.02, _DARK)
    pen.box(-0.05, 0.175, 0.05, 0.195, _IVORY)
    pen.ellipse(-0.11, 0.43, 0.075, 0.05, _DARK)


def bow(pen: Pen, rng: np.random.Generator) -> None:
    """A violin's bow, lying."""
    pen.line([(-0.46, -0.02), (0, 0), (0.46, -0.03)], 0.025, shade(_wood(rng), 0.8))
    pen.line([(-0.46, 0.012), (0.46, 0.012)], 0.016, _IVORY)
    pen.box(-0.46, -0.03, -0.38, 0.025, _DARK)


def harp(pen: Pen, rng: np.random.Generator) -> None:
    """A tall triangle of pillar, curved neck and soundboard around its strings."""
    frame = _wood(rng) if rng.random() < 0.5 else _metal(rng)
    neck = [(0.3, -0.47), (0.2, -0.4), (0.08, -0.34), (-0.08, -0.36), (-0.24, -0.3), (-0.3, -0.18)]
    for x in np.linspace(-0.22, 0.24, 13):
        top = np.interp(x, [p[0] for p in neck[::-1]], [p[1] for p in neck[::-1]])
        bottom = np.interp(x, [-0.3, 0.26], [-0.18, 0.42])
        pen.line([(x, top), (x, bottom)], 0.008, _IVORY)
    pen.line([(0.3, -0.47), (0.27, 0.45)], 0.06, shade(frame, 0.9))
    pen.line(neck, 0.075, frame)
    pen.polygon([(-0.34, -0.2), (-0.26, -0.22), (0.3, 0.38), (0.22, 0.5)], shade(frame, 0.8))
    pen.box(0.12, 0.43, 0.36, 0.52, shade(frame, 0.65))
    pen.ellipse(0.3, -0.48, 0.05, 0.04, frame)


def church_bell(pen: Pen, rng: np.random.Generator) -> None:
    """A flared bell with a crown, bands and a clapper."""
    bronze = _metal(rng) if rng.random() < 0.7 else _hsv(0.45, 0.35, rng.uniform(0.4, 0.7))
    pen.box(-0.06, -0.5, 0.06, -0.36, shade(bronze, 0.7))
    pen.ellipse(0, 0.37, 0.075, 0.085, shade(bronze, 0.5))
    right = [(0.13, -0.38), (0.2, -0.28), (0.22, 0), (0.27, 0.18), (0.38, 0.32), (0.39, 0.36)]
    pen.polygon([*right, *[(-x, y) for x, y in reversed(right)]], bronze)
    for y, half in ((0.22, 0.3), (-0.2, 0.205)):
        pen.line([(-half, y), (half, y)], 0.022, shade(bronze, 0.6))
    pen.polygon(
        [(-0.12, -0.3), (-0.06, -0.3), (-0.1, 0.15), (-0.17, 0.15)], shade(bronze, 1.3), False
    )


def organ(pen: Pen, rng: np.random.Generator) -> None:
    """A row of pipes over a wooden case with a keyboard."""
    pipes, wood = _metal(rng), _wood(rng)
    order = [3, 2, 1, 0, 1, 2, 3] if rng.random() < 0.5 else [0, 1, 2, 3, 4, 5, 6]
    for index, rank in enumerate(order):
        x, top = -0.36 + 0.12 * index, -0.5 + 0.05 * rank * (2 if max(order) == 3 else 1)
        pen.box(x - 0.045, top, x + 0.045, 0.15, pipes)
        pen.line([(x - 0.015, top + 0.02), (x - 0.015, 0.1)], 0.018, shade(pipes, 1.3))
        pen.polygon([(x - 0.03, 0.06), (x + 0.03, 0.06), (x, 0.0)], _DARK, False)
    pen.box(-0.46, 0.12, 0.46, 0.5, wood)
    pen.box(-0.38, 0.24, 0.38, 0.36, _IVORY)
    for x in np.arange(-0.34, 0.36, 0.055):
        pen.box(x - 0.01, 0.24, x + 0.01, 0.31, _DARK)
    pen.box(-0.46, 0.42, 0.46, 0.5, shade(wood, 0.7))


def flute(pen: Pen, rng: np.random.Generator) -> None:
    """A long thin tube with round keys."""
    tube = _steel(rng) if rng.random() < 0.6 else _wood(rng)
    pen.box(-0.62, -0.04, 0.64, 0.04, tube)
    pen.line([(-0.6, -0.018), (0.62, -0.018)], 0.014, shade(tube, 1.35))
    pen.ellipse(-0.44, -0.02, 0.06, 0.05, shade(tube, 0.8))
    pen.ellipse(-0.44, -0.025, 0.028, 0.02, _DARK)
    for x in (-0.3, 0.42):
        pen.box(x - 0.02, -0.05, x + 0.02, 0.05, shade(tube, 0.7))
    for x in (-0.2, -0.12, -0.04, 0.06, 0.14, 0.22, 0.31, 0.52):
        pen.ellipse(x, -0.02, 0.034, 0.042, shade(tube, 0.85))
    pen.line([(-0.2, 0.045), (0.3, 0.045)], 0.012, shade(tube, 0.5))


def trumpet(pen: Pen, rng: np.random.Generator) -> None:
    """A tube wound once, three valves and a wide bell."""
    brass = _metal(rng)
    dark = shade(brass, 0.6)
    for width, colour in ((0.06, dark), (0.042, brass)):
        pen.line([(-0.5, -0.08), (0.2, -0.08)], width, colour)
        loop = [(0.1, -0.08), (-0.26, -0.08), (-0.33, -0.02), (-0.33, 0.08), (-0.26, 0.14)]
        pen.line([*loop, (0.16, 0.14), (0.22, 0.08), (0.22, 0), (0.16, -0.05)], width, colour)
    flare = [(0.1, -0.055), (0.3, -0.03), (0.42, 0.03), (0.5, 0.13)]
    pen.polygon([*[(x, -0.16 - y) for x, y in flare], *flare[::-1]], brass)
    pen.ellipse(0.5, -0.08, 0.03, 0.215, shade(brass, 0.75))
    for x in (-0.12, -0.02, 0.08):
        pen.box(x - 0.036, -0.18, x + 0.036, 0.22, brass)
        pen.line([(x, -0.18), (x, -0.26)], 0.022, dark)
        pen.ellipse(x, -0.27, 0.035, 0.02, _IVORY)
    pen.polygon([(-0.56, -0.12), (-0.56, -0.04), (-0.48, -0.065), (-0.48, -0.095)], dark)


def accordion(pen: Pen, rng: np.random.Generator) -> None:
    """Two blocks, one with keys and one with buttons, and a pleated bellows between."""
    paint, folds = _paint(rng), _paint(rng)
    edges = np.linspace(-0.24, 0.24, 11)
    for index, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        bulge = 0.03 * (index % 2)
        fold = [(left, -0.3 - bulge), (right, -0.33 + bulge), (right, 0.33 - bulge)]
        pen.polygon([*fold, (left, 0.3 + bulge)], shade(folds, 1.15 if index % 2 else 0.6))
    pen.box(-0.5, -0.36, -0.22, 0.36, paint)
    pen.box(0.22, -0.36, 0.46, 0.36, paint)
    pen.box(-0.5, -0.32, -0.36, 0.32, _IVORY)
    for y in np.arange(-0.27, 0.3, 0.09):
        pen.box(-0.5, y, -0.42, y + 0.03, _DARK)
    for x in (0.28, 0.34, 0.4):
        for y in np.arange(-0.28, 0.3, 0.08):
            pen.ellipse(x, y, 0.018, 0.018, _IVORY)
    pen.line([(-0.29, -0.28), (-0.29, 0.28)], 0.03, shade(paint, 1.5))


def snare_drum(pen: Pen, rng: np.random.Generator) -> None:
    """A shallow cylinder with a white skin, hoops and tension rods."""
    shell, metal = (_paint(rng) if rng.random() < 0.7 else _wood(rng)), _steel(rng)
    pen.ellipse(0, 0.24, 0.43, 0.15, shade(metal, 0.8))
    pen.box(-0.41, -0.08, 0.41, 0.22, shell)
    pen.ellipse(0, 0.21, 0.41, 0.14, shell)
    pen.polygon([(-0.405, -0.06), (0.405, -0.06), (0.405, 0.2), (-0.405, 0.2)], shell, False)
    for x in (-0.34, -0.2, 0, 0.2, 0.34):
        depth = 0.15 * np.sqrt(1 - (x / 0.43) ** 2)
        pen.line([(x, -0.06 + depth), (x, 0.22 + depth)], 0.02, metal)
        pen.box(x - 0.022, 0.05 + depth, x + 0.022, 0.12 + depth, shade(metal, 0.8))
    pen.ellipse(0, -0.08, 0.43, 0.16, metal)
    pen.ellipse(0, -0.09, 0.39, 0.135, _IVORY)


def sticks(pen: Pen, rng: np.random.Generator) -> None:
    """Two drumsticks that meet at the middle."""
    wood = shade(_wood(rng), 1.15)
    for x in (-0.3, 0.22):
        pen.line([(x * 0.2, 0.02), (x + 0.1, -0.4)], 0.034, wood)
        pen.ellipse(x * 0.2, 0.02, 0.024, 0.03, wood)


def hi_hat(pen: Pen, rng: np.random.Generator) -> None:
    """A stand with the lower one of two cymbals."""
    steel, brass = shade(_steel(rng), 0.7), _metal(rng)
    for x in (-0.26, 0.02, 0.26):
        pen.line([(0, 0.22), (x, 0.52)], 0.03, steel)
    pen.line([(0, -0.52), (0, 0.32)], 0.03, steel)
    pen.box(-0.04, 0.12, 0.04, 0.22, _DARK)
    pen.ellipse(0, -0.17, 0.44, 0.05, shade(brass, 0.75))


def top_cymbal(pen: Pen, rng: np.random.Generator) -> None:
    """The upper cymbal of a hi-hat."""
    brass = _metal(rng)
    pen.ellipse(0, -0.22, 0.45, 0.05, brass)
    pen.line([(-0.33, -0.225), (0.1, -0.24)], 0.014, shade(brass, 1.3))
    pen.ellipse(0, -0.26, 0.1, 0.05, shade(brass, 0.85))
    pen.box(-0.03, -0.36, 0.03, -0.3, _DARK)


def marimba(pen: Pen, rng: np.random.Generator) -> None:
    """Bars that get shorter, across two rails."""
    wood, rainbow = _wood(rng), rng.random() < 0.5
    rail = shade(_wood(rng), 0.6)
    for sign in (-1, 1):
        pen.line([(-0.54, sign * 0.2), (0.54, sign * 0.1)], 0.04, rail)
    first_hue = rng.uniform(0, 1)
    for index, x in enumerate(np.linspace(-0.47, 0.47, 9)):
        half = 0.33 - 0.018 * index
        colour = _hsv(first_hue + index / 10, 0.75, 0.85) if rainbow else wood
        pen.box(x - 0.046, -half, x + 0.046, half, shade(colour, 1 if index % 2 else 0.88))
        for sign in (-1, 1):
            pen.ellipse(x, sign * (0.2 - 0.011 * index), 0.014, 0.014, _DARK)


def mallets(pen: Pen, rng: np.random.Generator) -> None:
    """Two mallets with round heads."""
    head = _paint(rng)
    for x, y in ((-0.26, 0.0), (0.2, 0.04)):
        pen.line([(x, y), (x + 0.16, 0.48)], 0.024, shade(_wood(rng), 1.2))
        pen.ellipse(x, y, 0.055, 0.055, head)


def drill(pen: Pen, rng: np.random.Generator) -> None:
    """A cordless drill: motor, pistol grip, battery, chuck and bit."""
    paint, grip = _paint(rng), _DARK if rng.random() < 0.6 else shade(_paint(rng), 0.6)
    pen.line([(0.34, -0.19), (0.6, -0.19)], 0.035, _steel(rng))
    pen.polygon([(0.22, -0.29), (0.36, -0.24), (0.36, -0.14), (0.22, -0.09)], (88, 88, 92))
    pen.polygon([(-0.26, -0.1), (-0.04, -0.1), (-0.12, 0.3), (-0.34, 0.3)], grip)
    pen.polygon([(-0.02, -0.1), (0.05, -0.1), (0.0, 0.05), (-0.05, 0.03)], (200, 60, 40))
    body = [(-0.3, -0.3), (-0.2, -0.36), (0.16, -0.34), (0.24, -0.3), (0.24, -0.08), (-0.2, -0.05)]
    pen.polygon([*body, (-0.31, -0.1)], paint)
    pen.box(-0.42, 0.28, -0.06, 0.42, grip)
    for x in (-0.24, -0.2, -0.16):
        pen.line([(x, -0.27), (x, -0.15)], 0.018, _DARK)


def hammer(pen: Pen, rng: np.random.Generator) -> None:
    """A claw hammer."""
    handle = _wood(rng) if rng.random() < 0.7 else _paint(rng)
    steel = shade(_steel(rng), 0.8)
    pen.polygon([(-0.035, -0.3), (0.035, -0.3), (0.055, 0.54), (-0.055, 0.54)], handle)
    pen.box(-0.058, 0.28, 0.058, 0.54, shade(handle, 0.55))
    claw = [(0.05, -0.46), (0.2, -0.44), (0.32, -0.34), (0.36, -0.24), (0.24, -0.32), (0.06, -0.32)]
    pen.polygon(claw, steel)
    pen.box(-0.2, -0.44, -0.05, -0.32, steel)
    pen.box(-0.32, -0.48, -0.19, -0.28, shade(steel, 1.15))
    pen.box(-0.075, -0.47, 0.075, -0.28, shade(steel, 0.85))


def saw(pen: Pen, rng: np.random.Generator) -> None:
    """A hand saw: a long toothed blade and a handle with a hole."""
    blade, handle = _steel(rng), _wood(rng) if rng.random() < 0.7 else _paint(rng)
    xs = np.linspace(-0.22, 0.62, 43)
    edge = [(x, 0.15 - 0.09 * (x + 0.22) / 0.84 + 0.032 * (i % 2)) for i, x in enumerate(xs)]
    pen.polygon([(-0.22, -0.13), (0.62, -0.04), *edge[::-1]], blade)
    pen.line([(-0.2, -0.09), (0.58, -0.02)], 0.016, shade(blade, 1.25))
    grip = [(-0.18, -0.2), (-0.14, 0), (-0.2, 0.2), (-0.36, 0.24), (-0.5, 0.2), (-0.52, 0.08)]
    pen.polygon(_smooth([*grip, (-0.46, -0.02), (-0.5, -0.14), (-0.44, -0.2)]), handle)
    pen.hole(_smooth([(-0.26, -0.1), (-0.24, 0.08), (-0.33, 0.13), (-0.41, 0.06), (-0.36, -0.1)]))


# --- Motions -------------------------------------------------------------------------------------
class Pose(NamedTuple):
    """A part's place in its object, per frame: each a float [num_frames].

    The part is scaled, then turned by `angle` (radians, clockwise on the screen) about
    (pivot_x, pivot_y), then moved by (x, y); unit lengths.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    scale_x: np.ndarray
    pivot_x: float = 0.0
    pivot_y: float = 0.0


def _pose(times: np.ndarray, *, x=0.0, y=0.0, angle=0.0, scale_x=1.0, pivot=(0.0, 0.0)) -> Pose:
    return Pose(*(np.broadcast_to(v, times.shape) for v in (x, y, angle, scale_x)), *pivot)


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


def _sway(times: np.ndarray, rng: np.random.Generator, amplitude: float) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * times + rng.uniform(0, 6))


def nod(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """The player sways, and gives a jerk at each note."""
    jerk = _kick(times, attacks, 0.12)
    sign = rng.choice([-1, 1])
    body = _pose(times, y=0.02 * jerk, angle=_sway(times, rng, 0.08) + sign * 0.05 * jerk)
    return body, body


def tremble(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """A heavy thing that hardly moves, but shakes a little at each note."""
    body = _pose(times, y=0.015 * _kick(times, attacks, 0.08), angle=_sway(times, rng, 0.02))
    return body, body


def swing(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """A bell that swings about its top, at the turning point at each stroke."""
    amplitude = rng.uniform(0.2, 0.45)
    angle = amplitude * np.cos(np.pi * _stroke(times, attacks))
    body = _pose(times, angle=angle, pivot=(0, -0.45))
    return body, body


def bowing(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """A violin sways while its bow goes to and fro."""
    travel = 0.2 * np.cos(np.pi * _stroke(times, attacks))
    tilt = rng.uniform(-0.3, 0.3)
    body = _pose(times, angle=_sway(times, rng, 0.05))
    tool = _pose(
        times, x=travel * np.cos(tilt), y=0.18 + travel * np.sin(tilt), angle=np.float64(tilt)
    )
    return body, tool


def bellows(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """An accordion is drawn and pressed."""
    stretch = 1.02 + _sway(times, rng, 0.16)
    body = _pose(times, scale_x=stretch, angle=_sway(times, rng, 0.05))
    return body, body


def drumming(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """Sticks fall on the skin at each hit; the drum shakes."""
    hit = _kick(times, attacks, 0.07)
    body = _pose(times, y=0.015 * hit)
    tool = _pose(times, x=0.05, y=-0.12 - 0.1 * (1 - hit), angle=0.25 * (1 - hit))
    return body, tool


def clapping(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """The upper cymbal falls on the lower one at each hit and tips."""
    hit = _kick(times, attacks, 0.1)
    body = _pose(times, angle=_sway(times, rng, 0.01))
    tool = _pose(times, y=-0.09 * (1 - hit), angle=0.12 * hit, pivot=(0, -0.22))
    return body, tool


def malleting(
    times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator
) -> tuple[Pose, Pose]:
    """Mallets jump from bar to bar."""
    stroke = _stroke(times, attacks)
    spots = rng.uniform(-0.2, 0.2, len(attacks) + 2)
    x = np.interp(stroke, np.arange(len(spots)), spots)
    hop = np.abs(np.sin(np.pi * stroke))
    return _pose(times, angle=_sway(times, rng, 0.02)), _pose(times, x=x, y=-0.1 * hop)


def boring(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """A drill shakes and is pushed forward and back."""
    shake = rng.uniform(-0.012, 0.012, (2, len(times)))
    push = _sway(times, rng, 0.05)
    body = _pose(times, x=push + shake[0], y=shake[1], angle=_sway(times, rng, 0.04))
    return body, body


def hammering(
    times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator
) -> tuple[Pose, Pose]:
    """A hammer is raised between blows and falls at each; it turns about the hand."""
    raised = np.abs(np.sin(np.pi * _stroke(times, attacks))) ** 0.7
    body = _pose(times, angle=rng.uniform(0.45, 0.8) * raised, pivot=(0, 0.45))
    return body, body


def stroking(times: np.ndarray, attacks: np.ndarray, rng: np.random.Generator) -> tuple[Pose, Pose]:
    """A saw goes to and fro along its blade."""
    travel = rng.uniform(0.12, 0.22) * np.cos(np.pi * _stroke(times, attacks))
    body = _pose(times, x=travel, angle=_sway(times, rng, 0.03))
    return body, body


@dataclasses.dataclass(frozen=True)
class Looks:
    """How a class is drawn.

    Attributes:
        body: draws the object.
        motion: (times [num_frames], attacks, rng) -> poses of body and tool.
        tool: draws what plays it, in the same coordinates; None where there is nothing.
        tilt: largest angle of the whole object, radians.
        scale: of the object's size; thin things are larger.
    """

    body: Callable[[Pen, np.random.Generator], None]
    motion: Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[Pose, Pose]]
    tool: Callable[[Pen, np.random.Generator], None] | None = None
    tilt: float = 0.2
    scale: float = 1.0


# --- Sprites and maps ----------------------------------------------------------------------------
class Sprite(NamedTuple):
    """A drawn part.

    Attributes:
        image: RGBA, cropped to what is visible.
        to_unit: float [3, 3], from pixels of the image to unit coordinates.
        hull: float [num_points, 2], outermost points of what is visible, unit coordinates.
    """

    image: Image.Image
    to_unit: np.ndarray
    hull: np.ndarray


def draw_sprite(draw: Callable, size_px: float, rng: np.random.Generator) -> Sprite:
    """Draws a part at its final size, smooth and lit from one side.

    Args:
        draw: (pen, rng), see the objects above.
        size_px: what the unit length becomes, pixels.
        rng: decides about colours and light.

    Returns:
        The sprite.
    """
    pen = Pen(size_px * _OVERSAMPLING)
    draw(pen, rng)
    image = pen.image.reduce(_OVERSAMPLING)
    left, top, right, bottom = image.getchannel("A").getbbox()
    image = image.crop((left - 1, top - 1, right + 1, bottom + 1))
    pixels = np.asarray(image).astype(np.float32)
    pixels[..., :3] *= _light(pixels.shape[:2], rng)[..., None]
    scale = 1 / size_px
    to_unit = np.array(
        [[scale, 0, (left - 1) * scale - _REACH], [0, scale, (top - 1) * scale - _REACH], [0, 0, 1]]
    )
    lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGBA")
    return Sprite(lit, to_unit, _hull(pixels[..., 3]) * scale + to_unit[:2, 2])


def _light(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns a factor per pixel: brighter on one side, a little grain."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    grain = rng.standard_normal(shape, dtype=np.float32) * rng.uniform(0, 0.04)
    return 1 + strength * (np.cos(direction) * x + np.sin(direction) * y) + grain


def _hull(alpha: np.ndarray) -> np.ndarray:
    """Returns the outermost points (x, y) of the visible pixels in many directions."""
    rows, columns = np.nonzero(alpha >= _OPAQUE)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1)
    turn = np.linspace(0, 2 * np.pi, _NUM_HULL_POINTS, endpoint=False)
    directions = np.stack([np.cos(turn), np.sin(turn)])
    outermost = points[np.argmax(points @ directions, axis=0)]
    return outermost + 0.5 * np.sign(directions.T)


def _map(angle, scale_x, scale_y, x, y) -> np.ndarray:
    """Returns [num, 3, 3] maps: scale, then turn, then move."""
    angle, scale_x, scale_y, x, y = np.broadcast_arrays(angle, scale_x, scale_y, x, y)
    cos, sin = np.cos(angle), np.sin(angle)
    result = np.zeros((*angle.shape, 3, 3))
    result[..., 0, :] = np.stack([cos * scale_x, -sin * scale_y, x], axis=-1)
    result[..., 1, :] = np.stack([sin * scale_x, cos * scale_y, y], axis=-1)
    result[..., 2, 2] = 1
    return result


def _pose_map(pose: Pose) -> np.ndarray:
    to_pivot = _map(0.0, 1.0, 1.0, -pose.pivot_x, -pose.pivot_y)
    turned = _map(pose.angle, pose.scale_x, 1.0, pose.x + pose.pivot_x, pose.y + pose.pivot_y)
    return turned @ to_pivot


class Actor(NamedTuple):
    """An object in a scene: its sprites and their maps to unit coordinates of the whole scene.

    Attributes:
        sprites: body, and tool where there is one.
        maps: float [num_sprites, num_frames, 3, 3], image pixels -> frame pixels.
        outlines_px: float [num_frames, num_points, 2], points (y, x) around all sprites.
    """

    sprites: tuple[Sprite, ...]
    maps: np.ndarray
    outlines_px: np.ndarray

    @property
    def extent_px(self) -> np.ndarray:
        """The box of all frames together: ymin, xmin, ymax, xmax."""
        points = self.outlines_px.reshape(-1, 2)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def visible_boxes_px(self, height_px: int, width_px: int) -> np.ndarray:
        """The box of what a frame shows of it: float [num_frames, 4], ymin, xmin, ymax, xmax."""
        seen = (self.outlines_px >= 0) & (self.outlines_px <= [height_px, width_px])
        points = np.where(seen.all(axis=2, keepdims=True), self.outlines_px, np.nan)
        return np.concatenate([np.nanmin(points, axis=1), np.nanmax(points, axis=1)], axis=1)

    def moved(self, x_px: float, y_px: float) -> "Actor":
        """Returns the actor somewhere else."""
        maps = _map(0.0, 1.0, 1.0, x_px, y_px) @ self.maps
        return Actor(self.sprites, maps, self.outlines_px + [y_px, x_px])


def make_actor(
    looks: Looks,
    attacks_seconds: np.ndarray,
    *,
    num_frames: int,
    size_px: float,
    room_px: float,
    still: bool,
    rng: np.random.Generator,
) -> Actor:
    """Draws an object and moves it about the origin.

    Args:
        looks: of its class.
        attacks_seconds: of its sound.
        num_frames: at 25 fps.
        size_px: what the unit length becomes, unless the object then needs more than `room_px`.
        room_px: side of the square that it must fit into, with all its motion.
        still: whether it only drifts (a silent object).
        rng: decides about everything else.

    Returns:
        The actor; `moved` puts it in its place.
    """
    seed = rng.integers(2**63)
    size_px *= looks.scale
    for _ in range(4):  # the drift is not scaled, so once may not be enough
        actor = _draw_actor(
            looks, attacks_seconds, num_frames, size_px, still, np.random.default_rng(seed)
        )
        needed_px = np.max(actor.extent_px[2:] - actor.extent_px[:2])
        if needed_px <= room_px:
            break
        size_px *= 0.98 * room_px / needed_px
    return actor


def _draw_actor(looks, attacks_seconds, num_frames, size_px, still, rng) -> Actor:
    """Draws an object and moves it about the origin, however long it gets."""
    times = np.arange(num_frames) / constants.FRAME_RATE_HZ
    poses = looks.motion(np.zeros(1) if still else times, attacks_seconds, rng)
    parts = [part for part in (looks.body, looks.tool) if part is not None]
    sprites = tuple(draw_sprite(part, size_px, rng) for part in parts)
    drift = [_sway(times, rng, rng.uniform(1, 6)) for _ in range(2)]
    tilt = rng.uniform(-looks.tilt, looks.tilt) + _sway(times, rng, 0.02)
    stretch = rng.uniform(0.88, 1.12)
    flip = rng.choice([-1.0, 1.0])
    zoom = size_px * (1 + _sway(times, rng, 0.03))
    whole = _map(tilt, flip * zoom * stretch, zoom / stretch, *drift)
    maps = [
        np.broadcast_to(whole @ _pose_map(pose), (num_frames, 3, 3)) for pose in poses[: len(parts)]
    ]
    points = np.concatenate(
        [
            _outline(s.hull) @ m[:, :2, :2].swapaxes(1, 2) + m[:, None, :2, 2]
            for s, m in zip(sprites, maps, strict=True)
        ],
        axis=1,
    )
    return Actor(
        sprites,
        np.stack([m @ s.to_unit for s, m in zip(sprites, maps, strict=True)]),
        points[..., ::-1],
    )


def _outline(corners: np.ndarray) -> np.ndarray:
    """Returns points on the edges of a polygon, its corners among them."""
    steps = np.linspace(0, 1, _POINTS_PER_EDGE, endpoint=False)[:, None, None]
    edges = corners + steps * (np.roll(corners, -1, axis=0) - corners)
    return edges.reshape(-1, 2)


# --- Scenes --------------------------------------------------------------------------------------
class Scene(NamedTuple):
    """A clip's picture, ready to be drawn frame by frame.

    Attributes:
        width_px, height_px: of the frames.
        boxes: float [num_frames, 4], ymin, xmin, ymax, xmax of the sounding object, in [0, 1].
        has_silent_object: whether a second object stands there.
    """

    width_px: int
    height_px: int
    boxes: np.ndarray
    has_silent_object: bool
    actors: tuple[Actor, ...]
    background: Image.Image
    camera_px: np.ndarray
    look_up: np.ndarray
    noise: np.ndarray | None


def make_scene(
    looks: Looks,
    attacks_seconds: np.ndarray,
    num_frames: int,
    rng: np.random.Generator,
    silent: Looks | None = None,
) -> Scene:
    """Draws the objects and the background and decides where everything moves.

    Args:
        looks: of the object in question.
        attacks_seconds: that its motion follows.
        num_frames: at 25 fps.
        rng: decides about everything.
        silent: looks of a second object; it is left out where it finds no room.

    Returns:
        The scene.
    """
    width, height = SIZES_PX[rng.integers(len(SIZES_PX))]
    room_px = min(width, height) - 2 * _MARGIN_PX
    make = functools.partial(
        make_actor, attacks_seconds=attacks_seconds, num_frames=num_frames, room_px=room_px, rng=rng
    )
    alone = silent is None
    actor = make(looks, size_px=rng.uniform(*(SIZE_PX if alone else SIZE_OF_TWO_PX)), still=False)
    actors = [_placed(actor, width, height, rng, None)]
    if not alone:
        other = make(silent, size_px=rng.uniform(*SILENT_SIZE_PX), still=True)
        other = _placed(other, width, height, rng, actors[0])
        actors = actors if other is None else [other, *actors]
    camera = _camera(num_frames, rng)
    reach = int(camera.max()) + 1
    return Scene(
        width,
        height,
        actors[-1].visible_boxes_px(height, width) / [height, width, height, width],
        len(actors) == 2,
        tuple(actors),
        _background(width + reach, height + reach, rng),
        camera,
        _look_up(rng),
        _sensor_noise(width, height, rng),
    )


def _placed(
    actor: Actor, width: int, height: int, rng: np.random.Generator, other: Actor | None
) -> Actor | None:
    """Puts an actor into the central square, or beyond its border by `_MAX_CUT` at most.

    Keeps away from another actor; None if there is no room.
    """
    side = min(width, height)
    low = np.array([(height - side) / 2, (width - side) / 2]) + _MARGIN_PX
    extent = actor.extent_px
    size = extent[2:] - extent[:2]
    outside = _MAX_CUT * size
    free = side - 2 * _MARGIN_PX - size + 2 * outside
    for _ in range(40):
        y, x = low - outside - extent[:2] + free * rng.uniform(0, 1, 2)
        moved = actor.moved(x, y)
        if other is None or _overlap(moved.extent_px, other.extent_px) <= _MAX_OVERLAP:
            return moved
    return None


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the common area of two boxes as a share of the smaller one's."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    areas = [np.prod(box[2:] - box[:2]) for box in (a, b)]
    return float(np.prod(np.maximum(sides, 0)) / min(areas))


def _camera(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the corner of the visible part of the background, int [num_frames, 2]."""
    times = np.arange(num_frames) / constants.FRAME_RATE_HZ
    path = np.stack([_sway(times, rng, rng.uniform(0, 8)) for _ in range(2)], axis=1)
    return np.round(path - path.min(axis=0)).astype(int)


def _look_up(rng: np.random.Generator) -> np.ndarray:
    """Returns the light and colour of a clip: uint8 [3, 256], old value -> new value."""
    values = np.linspace(0, 1, 256)
    gamma, gain, lift = rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.0), rng.uniform(0, 0.1)
    casts = rng.uniform(0.88, 1.0, 3)
    curves = [(lift + (gain - lift) * values**gamma) * cast for cast in casts]
    # Room at both ends, so that noise never wraps around.
    return np.clip(np.array(curves) * 255, 16, 239).astype(np.uint8)


def _sensor_noise(width: int, height: int, rng: np.random.Generator) -> np.ndarray | None:
    """Returns a few frames of noise as uint8 that wraps around: adding 255 takes away 1."""
    if rng.random() < 0.5:
        return None
    noise = rng.standard_normal((_NOISE_FRAMES, height, width, 1), dtype=np.float32)
    noise = np.clip(np.round(noise * rng.uniform(1, 5)), -15, 15)
    return noise.astype(np.int8).view(np.uint8)


def render(scene: Scene) -> Iterator[np.ndarray]:
    """Draws the frames of a scene.

    Args:
        scene: from `make_scene`.

    Yields:
        uint8 [height, width, 3], RGB.
    """
    table = scene.look_up.ravel().tolist()
    background = scene.background.point(table)
    parts = [
        (sprite.image.point([*table, *range(256)]), maps, np.linalg.inv(maps))
        for actor in scene.actors
        for sprite, maps in zip(actor.sprites, actor.maps, strict=True)
    ]
    size = scene.width_px, scene.height_px
    for index, (x, y) in enumerate(scene.camera_px.tolist()):
        frame = background.crop((x, y, x + size[0], y + size[1]))
        for image, to_frame, to_image in parts:
            _paste(frame, image, to_frame[index], to_image[index])
        pixels = np.asarray(frame)
        yield pixels if scene.noise is None else pixels + scene.noise[index % _NOISE_FRAMES]


def _paste(
    frame: Image.Image, image: Image.Image, to_frame: np.ndarray, to_image: np.ndarray
) -> None:
    """Pastes a sprite through an affine map, touching only the part of the frame it covers."""
    (a, b, x), (c, d, y) = to_frame[:2].tolist()
    width, height = image.size
    left = max(0, math.floor(x + min(a * width, 0) + min(b * height, 0)))
    top = max(0, math.floor(y + min(c * width, 0) + min(d * height, 0)))
    right = min(frame.width, math.ceil(x + max(a * width, 0) + max(b * height, 0)))
    bottom = min(frame.height, math.ceil(y + max(c * width, 0) + max(d * height, 0)))
    if right <= left or bottom <= top:
        return
    (a, b, x), (c, d, y) = to_image[:2].tolist()
    piece = image.transform(
        (right - left, bottom - top),
        Image.Transform.AFFINE,
        (a, b, x + a * left + b * top, c, d, y + c * left + d * top),
        Image.Resampling.BILINEAR,
    )
    frame.paste(piece, (left, top), piece)


# --- Backgrounds ---------------------------------------------------------------------------------
def _background(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Returns a wall or room without objects: colours, texture, pattern and clutter."""
    image = Image.fromarray(_texture(width, height, rng))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.3:
        _pattern(draw, width, height, rng)
    for _ in range(rng.integers(0, 5)):
        _clutter(draw, width, height, rng)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.75, 3)))


def _muted(rng: np.random.Generator) -> Colour:
    return _hsv(rng.uniform(0, 1), rng.uniform(0, 0.35), rng.uniform(0.3, 0.95))


def _texture(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a gradient between two colours with blotches, uint8 [height, width, 3]."""
    corners = np.array([_muted(rng) for _ in range(2)], np.float32)
    slope = np.linspace(0, 1, height if rng.random() < 0.5 else width, dtype=np.float32)
    slope = slope[:, None, None] if len(slope) == height else slope[None, :, None]
    cells = int(rng.integers(3, 60))
    coarse = rng.uniform(0, 255, (cells, cells)).astype(np.uint8)
    blotches = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    blotches = (np.asarray(blotches, np.float32)[..., None] - 128) * rng.uniform(0, 0.2)
    return np.clip(corners[0] * slope + corners[1] * (1 - slope) + blotches, 0, 255).astype(
        np.uint8
    )


def _pattern(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Draws planks, tiles or stripes."""
    colour, step = _muted(rng), int(rng.integers(9, 45))
    thickness = int(rng.integers(1, max(2, step // 2)))
    kind = rng.integers(3)
    slant = rng.integers(-60, 60) if kind == 2 else 0
    if kind != 1:
        for x in range(-60, width + 60, step):
            draw.line([(x, 0), (x + slant, height)], fill=colour, width=thickness)
    if kind != 0 and not slant:
        for y in range(0, height, step):
            draw.line([(0, y), (width, y)], fill=colour, width=thickness)


def _clutter(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Draws one meaningless shape."""
    centre = rng.uniform((0, 0), (width, height))
    reach = rng.uniform(6, 45, 2)
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse([*(centre - reach / 2), *(centre + reach / 2)], fill=_muted(rng))
    elif kind == 1:
        draw.rectangle([*(centre - reach / 2), *(centre + reach / 2)], fill=_muted(rng))
    elif kind == 2:
        turn = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        corners = centre + reach * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        draw.polygon([tuple(corner) for corner in corners], fill=_muted(rng))
    else:
        end = centre + rng.uniform(-90, 90, 2)
        draw.line([*centre, *end], fill=_muted(rng), width=int(rng.integers(1, 7)))
