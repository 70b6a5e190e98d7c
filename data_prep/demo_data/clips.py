"""The clips of the demo data set: its classes, and what each clip shows and sounds like."""

import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.random import Generator

from data_prep.demo_data import motions, objects, scenes, sounds
from data_prep.demo_data.actors import Looks
from l3net import constants

SPLITS = ("train", "val", "test")
UNRELATED_SHARE = 0.03
SILENT_SHARE = 0.1
INSTRUMENT, PERCUSSION, TOOL = "Musical instrument", "Percussion", "Tools"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A class: its family (a name above its own in AudioSet's ontology), sound and looks."""

    family: str
    sound: Callable[[Generator, float], sounds.Sound]
    looks: Looks


def _kind(family: str, sound: Callable, *looks, **more_looks) -> Kind:
    return Kind(family, sound, Looks(*looks, **more_looks))


KINDS: Mapping[str, Kind] = {
    "Accordion": _kind(INSTRUMENT, sounds.accordion, objects.accordion, motions.bellows, tilt=0.3),
    "Acoustic guitar": _kind(
        INSTRUMENT, sounds.acoustic_guitar, objects.guitar, motions.nod, tilt=1.0, scale=1.1
    ),
    "Church bell": _kind(
        INSTRUMENT, sounds.church_bell, objects.church_bell, motions.swing, tilt=0.1
    ),
    "Drill": _kind(TOOL, sounds.drill, objects.drill, motions.boring, tilt=0.5),
    "Flute": _kind(INSTRUMENT, sounds.flute, objects.flute, motions.nod, tilt=0.8, scale=1.1),
    "Hammer": _kind(TOOL, sounds.hammer, objects.hammer, motions.hammering, tilt=0.5),
    "Harp": _kind(INSTRUMENT, sounds.harp, objects.harp, motions.tremble, tilt=0.15),
    "Hi-hat": _kind(
        PERCUSSION, sounds.hi_hat, objects.hi_hat, motions.clapping, objects.top_cymbal, tilt=0.12
    ),
    "Marimba, xylophone": _kind(
        PERCUSSION, sounds.marimba, objects.marimba, motions.malleting, objects.mallets, tilt=0.3
    ),
    "Organ": _kind(INSTRUMENT, sounds.organ, objects.organ, motions.tremble, tilt=0.08),
    "Sawing": _kind(TOOL, sounds.sawing, objects.saw, motions.stroking, tilt=0.5),
    "Snare drum": _kind(
        PERCUSSION, sounds.snare_drum, objects.snare_drum, motions.drumming, objects.sticks
    ),
    "Trumpet": _kind(INSTRUMENT, sounds.trumpet, objects.trumpet, motions.nod, tilt=0.4),
    "Violin, fiddle": _kind(
        INSTRUMENT, sounds.violin, objects.violin, motions.bowing, objects.bow, 0.7, 1.1
    ),
}
LABELS = tuple(KINDS)


@dataclasses.dataclass(frozen=True)
class ClipPlan:
    """What one clip shows and sounds like."""

    example_id: str  # also its media id
    split: str  # one of SPLITS
    label: str  # the class that is seen
    heard_label: str  # the class that is heard; another one where the sound is unrelated
    silent_label: str  # the class of a second object that makes no sound, or ""
    seed: tuple[int, int]
    seconds: float

    @property
    def path(self) -> str:
        """The video's path, relative to the data set."""
        return f"{self.split}/{self.example_id}.mp4"

    @property
    def family(self) -> str:
        """What the manifest says it is."""
        return KINDS[self.label].family

    @property
    def unrelated(self) -> bool:
        """Whether the sound has nothing to do with the picture."""
        return self.heard_label != self.label


def plan_clips(
    labels: Sequence[str], clips_per_class: Sequence[int], clip_seconds: float, seed: int
) -> list[ClipPlan]:
    """Decides what every clip shows; they come by split (SPLITS), then number, then class."""
    seconds = math.floor(clip_seconds * constants.FRAME_RATE_HZ) / constants.FRAME_RATE_HZ
    plans = []
    for split, count in zip(SPLITS, clips_per_class, strict=True):
        for index in range(count):
            for label in labels:
                name = re.sub(r"[^a-z]+", "_", label.lower())
                example_id = f"{split}_{name}_{index:03d}"
                clip_seed = (seed, zlib.crc32(example_id.encode()))
                drawn = _draw_labels(label, labels, clip_seed)
                plans.append(ClipPlan(example_id, split, label, *drawn, clip_seed, seconds))
    return plans


def _draw_labels(label: str, labels: Sequence[str], seed: tuple[int, int]) -> tuple[str, str]:
    """Returns the class that is heard and that of the silent object."""
    rng = np.random.default_rng((*seed, 0))
    others = [other for other in labels if other != label]
    unrelated, silent = rng.random() < UNRELATED_SHARE, rng.random() < SILENT_SHARE
    heard = others[rng.integers(len(others))]
    standing_by = others[rng.integers(len(others))]
    # What is heard must not stand by: then it would be related.
    silent = silent and not (unrelated and standing_by == heard)
    return heard if unrelated else label, standing_by if silent else ""


def compose(plan: ClipPlan) -> tuple[np.ndarray, scenes.Scene, int]:
    """Returns a clip's sound, int16 [num_samples, 1 or 2], its scene, and x264's quality."""
    rng = np.random.default_rng((*plan.seed, 1))
    sound = KINDS[plan.heard_label].sound(rng, plan.seconds)
    waveform = sounds.record(rng, sound)
    silent = KINDS[plan.silent_label].looks if plan.silent_label else None
    attacks = sound.attacks_seconds
    if plan.unrelated:
        attacks = KINDS[plan.label].sound(rng, plan.seconds).attacks_seconds
    num_frames = round(plan.seconds * constants.FRAME_RATE_HZ)
    scene = scenes.make_scene(KINDS[plan.label].looks, attacks, num_frames, rng, silent)
    return np.round(waveform * 32767).astype(np.int16), scene, int(rng.integers(20, 31))
