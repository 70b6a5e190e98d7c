"""Makes the demo data set: real .mp4 files of drawn objects that make synthesised sounds.

    python -m data_prep.demo --out_dir=data/demo/videos

This is SYNTHETIC data. It stands in where the real data sets are absent and proves nothing about
them. 14 classes with AudioSet's names. As in videos from the web, in one clip of thirty the sound
has nothing to do with the picture, in one of ten a second object stands by silently, and the labels
say less than there is to see and to hear: a clip is labelled with its family (musical instrument,
percussion, tools), and only clips.csv tells its class.

Files, below --out_dir:

    demo.json               configuration, counts, versions, and what this is
    manifest.csv            a clip's label is the family it belongs to
    clips.csv               example_id,split,label,heard_label,unrelated,silent_label,family: the
                            truth; `label` is the class that is seen
    boxes.csv               example_id,frame,time_seconds,ymin,xmin,ymax,xmax,label: the sounding
                            object in every frame at 25 fps, shares of height and width; clips
                            with unrelated sound have none, silent objects neither
    train/*.mp4 val/*.mp4 test/*.mp4
    .done/*.json            one commit marker per clip, with its boxes

A clip depends on the seed and its name only, so more clips or workers change no other.
"""

import concurrent.futures
import dataclasses
import functools
import json
import logging
import math
import multiprocessing
import os
import pathlib
import platform
import re
import signal
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import PIL
import scipy
import tqdm
from absl import flags

from data_prep.demo_data import scenes, sounds
from data_prep.lists import box_lists, manifest
from l3net import constants, errors
from l3net.errors import UserError
from l3net.files import write_csv, write_whole
from l3net.media import ffmpeg, video_writer

VERSION = 5  # of the drawings and sounds; another version is another data set
SPLITS = ("train", "val", "test")
# Many short clips rather than few long ones: with 280 clips of 4 s a network learns them by heart.
DEFAULT_CLIPS_PER_CLASS = (56, 5, 9)
DEFAULT_SECONDS = 2.0
UNRELATED_SHARE = 0.03
SILENT_SHARE = 0.1
INSTRUMENT, PERCUSSION, TOOL = "Musical instrument", "Percussion", "Tools"
CONFIG_FILE, MANIFEST_FILE, CLIPS_FILE, BOXES_FILE = (
    "demo.json",
    "manifest.csv",
    "clips.csv",
    "boxes.csv",
)
CLIPS_COLUMNS = (
    *("example_id", "split", "label", "heard_label", "unrelated", "silent_label", "family"),
)
_DONE = ".done"
_NOTE = (
    "Synthetic demo data: drawn objects and synthesised sounds, made by data_prep.demo. "
    "Not AudioSet; only the class names are AudioSet's. Results on it say nothing about real data."
)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A class: what it belongs to, how it sounds and how it looks."""

    family: str  # a name above its own in AudioSet's ontology
    sound: Callable[[np.random.Generator, float], sounds.Sound]
    looks: scenes.Looks


def _kind(family: str, sound: Callable, body: Callable, motion: Callable, **looks) -> Kind:
    return Kind(family, sound, scenes.Looks(body, motion, **looks))


KINDS: Mapping[str, Kind] = {
    "Accordion": _kind(INSTRUMENT, sounds.accordion, scenes.accordion, scenes.bellows, tilt=0.3),
    "Acoustic guitar": _kind(
        INSTRUMENT, sounds.acoustic_guitar, scenes.guitar, scenes.nod, tilt=1.0, scale=1.1
    ),
    "Church bell": _kind(
        INSTRUMENT, sounds.church_bell, scenes.church_bell, scenes.swing, tilt=0.1
    ),
    "Drill": _kind(TOOL, sounds.drill, scenes.drill, scenes.boring, tilt=0.5),
    "Flute": _kind(
        INSTRUMENT,
        sounds.flute,
        scenes.flute,
        scenes.nod,
        tilt=0.8,
        scale=1.1,
    ),
    "Hammer": _kind(TOOL, sounds.hammer, scenes.hammer, scenes.hammering, tilt=0.5),
    "Harp": _kind(INSTRUMENT, sounds.harp, scenes.harp, scenes.tremble, tilt=0.15),
    "Hi-hat": _kind(
        PERCUSSION, sounds.hi_hat, scenes.hi_hat, scenes.clapping, tool=scenes.top_cymbal, tilt=0.12
    ),
    "Marimba, xylophone": _kind(
        PERCUSSION,
        sounds.marimba,
        scenes.marimba,
        scenes.malleting,
        tool=scenes.mallets,
        tilt=0.3,
    ),
    "Organ": _kind(INSTRUMENT, sounds.organ, scenes.organ, scenes.tremble, tilt=0.08),
    "Sawing": _kind(TOOL, sounds.sawing, scenes.saw, scenes.stroking, tilt=0.5),
    "Snare drum": _kind(
        PERCUSSION,
        sounds.snare_drum,
        scenes.snare_drum,
        scenes.drumming,
        tool=scenes.sticks,
        tilt=0.2,
    ),
    "Trumpet": _kind(INSTRUMENT, sounds.trumpet, scenes.trumpet, scenes.nod, tilt=0.4),
    "Violin, fiddle": _kind(
        INSTRUMENT,
        sounds.violin,
        scenes.violin,
        scenes.bowing,
        tool=scenes.bow,
        tilt=0.7,
        scale=1.1,
    ),
}
LABELS = tuple(KINDS)


@dataclasses.dataclass(frozen=True)
class ClipPlan:
    """What one clip shows and sounds like.

    Attributes:
        example_id: also its media id and file name.
        split: one of SPLITS.
        label: the class that is seen.
        heard_label: what is heard; another one where the sound is unrelated.
        silent_label: a second object that makes no sound, or "".
        seed: of this clip.
        seconds: its length.
    """

    example_id: str
    split: str
    label: str
    heard_label: str
    silent_label: str
    seed: tuple[int, int]
    seconds: float

    @property
    def path(self) -> str:
        """Of the video, relative to the data set."""
        return f"{self.split}/{self.example_id}.mp4"

    @property
    def family(self) -> str:
        """What the manifest says it is."""
        return KINDS[self.label].family

    @property
    def unrelated(self) -> bool:
        """Whether the sound has nothing to do with the picture."""
        return self.heard_label != self.label


# --- The data set --------------------------------------------------------------------------------
def make_demo(
    out_dir: str | pathlib.Path,
    *,
    clips_per_class: Sequence[int] = DEFAULT_CLIPS_PER_CLASS,
    clip_seconds: float = DEFAULT_SECONDS,
    seed: int = 0,
    num_workers: int | None = None,
    labels: Sequence[str] = LABELS,
) -> None:
    """Makes the data set, or what is missing of it.

    Args:
        out_dir: folder for it; made if need be.
        clips_per_class: for train, val and test.
        clip_seconds: length of every clip; whole frames.
        seed: another seed gives another data set.
        num_workers: processes; None takes one per core, 1 works in this one.
        labels: the classes, of LABELS.

    Raises:
        UserError: if an argument is unusable, the folder holds a data set of another
            configuration, a file cannot be written, or ffmpeg is missing.
    """
    num_workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    _check(clips_per_class, clip_seconds, seed, num_workers, labels)
    config = {
        "version": VERSION,
        "seed": seed,
        "clip_seconds": clip_seconds,
        "clips_per_class": dict(zip(SPLITS, clips_per_class, strict=True)),
        "labels": list(labels),
    }
    out_dir = pathlib.Path(out_dir)
    plans = plan_clips(labels, clips_per_class, clip_seconds, seed)
    try:
        _open(out_dir, config)
        pending = [plan for plan in plans if not _is_done(out_dir, plan)]
        _log.info("%s: %d clips, %d to make", out_dir, len(plans), len(pending))
        _make_clips(out_dir, pending, num_workers)
        _finish(out_dir, config, plans)
    except OSError as error:
        raise UserError(f"cannot write the demo data set in {out_dir}: {error}") from error


def _check(clips_per_class, clip_seconds, seed, num_workers, labels) -> None:
    if len(clips_per_class) != len(SPLITS) or min(clips_per_class) < 0 or not sum(clips_per_class):
        raise UserError(
            f"clips_per_class is {','.join(map(str, clips_per_class))}; need three counts of at "
            "least 0 for train,val,test, such as 20,4,6"
        )
    if not 1 <= clip_seconds <= 60:
        raise UserError(f"clip_seconds is {clip_seconds}; need 1 to 60")
    if num_workers < 1 or seed < 0:
        raise UserError(
            f"num_workers is {num_workers} and seed is {seed}; need at least 1 and at least 0"
        )
    unknown = [label for label in labels if label not in KINDS]
    if unknown or len(labels) < 2:
        raise UserError(f"labels are {list(labels)}; need at least two of {', '.join(LABELS)}")


def plan_clips(
    labels: Sequence[str], clips_per_class: Sequence[int], clip_seconds: float, seed: int
) -> list[ClipPlan]:
    """Decides what every clip shows; see `make_demo` for the arguments.

    Returns:
        The clips: by split, then number, then class.
    """
    seconds = math.floor(clip_seconds * constants.FRAME_RATE_HZ) / constants.FRAME_RATE_HZ
    plans = []
    for split, count in zip(SPLITS, clips_per_class, strict=True):
        for index in range(count):
            for label in labels:
                name = re.sub(r"[^a-z]+", "_", label.lower())
                plans.append(
                    _plan(f"{split}_{name}_{index:03d}", split, label, labels, seed, seconds)
                )
    return plans


def _plan(example_id, split, label, labels, seed, seconds) -> ClipPlan:
    clip_seed = (seed, zlib.crc32(example_id.encode()))
    rng = np.random.default_rng((*clip_seed, 0))
    others = [other for other in labels if other != label]
    unrelated, silent = rng.random() < UNRELATED_SHARE, rng.random() < SILENT_SHARE
    heard = others[rng.integers(len(others))]
    standing_by = others[rng.integers(len(others))]
    # What is heard must not stand by: then it would be related.
    silent = silent and not (unrelated and standing_by == heard)
    return ClipPlan(
        example_id,
        split,
        label,
        heard if unrelated else label,
        standing_by if silent else "",
        clip_seed,
        seconds,
    )


# --- One clip ------------------------------------------------------------------------------------
def compose(plan: ClipPlan) -> tuple[np.ndarray, scenes.Scene, int]:
    """Makes the sound and the scene of a clip, without drawing its frames.

    Args:
        plan: of the clip.

    Returns:
        Sound int16 [num_samples, 1 or 2]; the scene; x264's quality.
    """
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


def _make_clip(out_dir: pathlib.Path, plan: ClipPlan) -> None:
    waveform, scene, quality = compose(plan)
    path = out_dir / plan.path
    video_writer.write_same_video(path, scenes.render(scene), waveform, quality=quality)
    done = {
        "silent_label": plan.silent_label if scene.has_silent_object else "",
        "boxes": [] if plan.unrelated else np.round(scene.boxes, 4).tolist(),
    }
    write_whole(_marker(out_dir, plan), json.dumps(done))


def _marker(out_dir: pathlib.Path, plan: ClipPlan) -> pathlib.Path:
    return out_dir / _DONE / f"{plan.example_id}.json"


def _is_done(out_dir: pathlib.Path, plan: ClipPlan) -> bool:
    return (out_dir / plan.path).exists() and _marker(out_dir, plan).exists()


def _make_clips(out_dir: pathlib.Path, plans: Sequence[ClipPlan], num_workers: int) -> None:
    """Makes clips in several processes, with a bar that tells the time left."""
    num_workers = min(num_workers, len(plans))
    if num_workers <= 1:
        for plan in _with_bar(plans, len(plans)):
            _make_clip(out_dir, plan)
        return
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    executor = concurrent.futures.ProcessPoolExecutor(
        num_workers, mp_context=context, initializer=_ignore_interrupts
    )
    try:
        futures = [executor.submit(_make_clip, out_dir, plan) for plan in plans]
        for future in _with_bar(concurrent.futures.as_completed(futures), len(plans)):
            future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker died (out of memory?); run the same command again, with a smaller num_workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    # Ctrl-C reaches every process; the first one alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _with_bar(items: Iterable, total: int) -> Iterable:
    return tqdm.tqdm(items, total=total, desc="demo clips", unit="clip", disable=not total)


# --- Files ---------------------------------------------------------------------------------------
def _open(out_dir: pathlib.Path, config: dict) -> None:
    """Makes the folder, or checks that it holds the same data set."""
    path = out_dir / CONFIG_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text())["config"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; remove {out_dir} or choose another") from None
        if found != config:
            keys = [key for key in config if found.get(key) != config[key]]
            raise UserError(
                f"{out_dir} holds a demo data set with another {', '.join(keys) or 'configuration'}"
                f" ({', '.join(f'{key}={found.get(key)}' for key in keys)}); remove it or choose "
                "another out_dir"
            )
    for name in (*SPLITS, _DONE):
        (out_dir / name).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_whole(
            path, json.dumps({"note": _NOTE, "finished": False, "config": config}, indent=2)
        )


def _finish(out_dir: pathlib.Path, config: dict, plans: Sequence[ClipPlan]) -> None:
    """Writes the tables, and demo.json last."""
    done = {plan: json.loads(_marker(out_dir, plan).read_text()) for plan in plans}
    rows = [
        manifest.ManifestRow(
            p.example_id, p.example_id, p.path, 0.0, p.seconds, p.split, (p.family,)
        )
        for p in plans
    ]
    manifest.write_manifest(out_dir / MANIFEST_FILE, rows)
    clips = (_clip_row(plan, done[plan]) for plan in plans)
    write_csv(out_dir / CLIPS_FILE, CLIPS_COLUMNS, clips)
    boxes = (row for plan in plans for row in _box_rows(plan, done[plan]["boxes"]))
    write_csv(out_dir / BOXES_FILE, box_lists.COLUMNS, boxes)
    content = {
        "note": _NOTE,
        "finished": True,
        "config": config,
        "counts": {
            "clips": len(plans),
            **{split: sum(plan.split == split for plan in plans) for split in SPLITS},
            "unrelated": sum(plan.unrelated for plan in plans),
            "with_silent_object": sum(bool(marker["silent_label"]) for marker in done.values()),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "pillow": PIL.__version__,
            "ffmpeg": ffmpeg.ffmpeg_version(),
        },
    }
    write_whole(out_dir / CONFIG_FILE, json.dumps(content, indent=2) + "\n")


def _clip_row(plan: ClipPlan, done: dict) -> tuple:
    unrelated = int(plan.unrelated)
    heard, silent = plan.heard_label, done["silent_label"]
    return plan.example_id, plan.split, plan.label, heard, unrelated, silent, plan.family


def _box_rows(plan: ClipPlan, boxes: Sequence[Sequence[float]]) -> Iterable[tuple]:
    for frame, box in enumerate(boxes):
        time = f"{frame / constants.FRAME_RATE_HZ:.2f}"
        yield plan.example_id, frame, time, *(f"{side:.4f}" for side in box), plan.label


# --- Command line --------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; in a function, because worker processes and tests import this module."""
    return {
        "out_dir": flags.DEFINE_string(
            "out_dir", None, "Folder for the data set, such as data/demo/videos.", required=True
        ),
        "clips_per_class": flags.DEFINE_list(
            "clips_per_class",
            [str(count) for count in DEFAULT_CLIPS_PER_CLASS],
            "Clips of each class for train,val,test.",
        ),
        "clip_seconds": flags.DEFINE_float(
            "clip_seconds", DEFAULT_SECONDS, "Length of every clip, seconds (paper: 10).", 1.0, 60.0
        ),
        "seed": flags.DEFINE_integer("seed", 0, "Another seed makes another data set.", 0),
        "num_workers": flags.DEFINE_integer(
            "num_workers", None, "Processes; one per core unless given.", 1
        ),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Makes the data set the flags describe."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; all options are flags (--helpshort)")
    settings = {name: holder.value for name, holder in holders.items()}
    given = settings.pop("clips_per_class")
    try:
        counts = [int(count) for count in given]
    except ValueError:
        raise UserError(
            f"clips_per_class is {','.join(given)}; need three counts for train,val,test, such as "
            "20,4,6"
        ) from None
    make_demo(settings.pop("out_dir"), clips_per_class=counts, **settings)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
