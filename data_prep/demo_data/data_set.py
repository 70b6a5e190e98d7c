"""The demo data set as a folder: its videos, their markers, its tables."""

import dataclasses
import functools
import logging
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import scipy

from data_prep.demo_data import clips, scenes
from data_prep.demo_data.clips import LABELS, SPLITS, ClipPlan
from data_prep.lists import box_lists, manifest
from data_prep.parallel import in_processes
from l3net.errors import UserError
from l3net.files import write_csv
from l3net.flags import REQUIRED, setting
from l3net.json_files import read_json, write_json
from l3net.media import ffmpeg, video_writer

VERSION = 5  # of the drawings and sounds; another version is another data set
CONFIG_FILE, MANIFEST_FILE = "demo.json", "manifest.csv"
CLIPS_FILE, BOXES_FILE = "clips.csv", "boxes.csv"
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
class Config:
    """The demo data set."""

    out_dir: str | pathlib.Path = setting(REQUIRED, "Folder for the data set; made if need be.")
    # Many short clips rather than few long ones: of 280 clips of 4 s a network remembers each.
    clips_per_class: tuple[str, ...] = setting(
        ("56", "5", "9"), "Number of clips of each class for train, val and test."
    )
    clip_seconds: float = setting(
        2.0, "Length of every clip, seconds (the papers' clips have 10).", at_least=1, at_most=60
    )
    seed: int = setting(0, "Seed; another one makes another data set.", at_least=0)
    num_workers: int | None = setting(
        None, "Number of processes; one per processor unless given.", at_least=1
    )
    labels: tuple[str, ...] = LABELS

    def counts(self) -> tuple[int, ...]:
        """Returns `clips_per_class` as numbers; raises UserError if they are unusable."""
        try:
            counts = tuple(int(count) for count in self.clips_per_class)
        except ValueError:
            counts = ()
        if len(counts) != len(SPLITS) or min(counts) < 0 or not sum(counts):
            given = f"clips_per_class is {','.join(map(str, self.clips_per_class))}"
            raise UserError(f"{given}; need three counts for train,val,test, such as 20,4,6")
        return counts

    def check(self) -> None:
        """Raises UserError if a value is unusable."""
        self.counts()
        if not 1 <= self.clip_seconds <= 60:
            raise UserError(f"clip_seconds is {self.clip_seconds}; need 1 to 60")
        if self.seed < 0 or (self.num_workers is not None and self.num_workers < 1):
            given = f"num_workers is {self.num_workers} and seed is {self.seed}"
            raise UserError(f"{given}; need at least 1 and at least 0")
        if len(self.labels) < 2 or not set(self.labels) <= set(LABELS):
            given = f"labels are {list(self.labels)}"
            raise UserError(f"{given}; need at least two of {', '.join(LABELS)}")


def make_demo(config: Config) -> None:
    """Makes the data set, or what is missing of it.

    Raises:
        UserError: if a value is unusable, the folder holds a data set of another configuration, a
            file cannot be written, or ffmpeg is missing.
    """
    config.check()
    recorded = {
        "version": VERSION,
        "seed": config.seed,
        "clip_seconds": config.clip_seconds,
        "clips_per_class": dict(zip(SPLITS, config.counts(), strict=True)),
        "labels": list(config.labels),
    }
    out_dir = pathlib.Path(config.out_dir)
    plans = clips.plan_clips(config.labels, config.counts(), config.clip_seconds, config.seed)
    try:
        _open(out_dir, recorded)
        pending = [plan for plan in plans if not _is_done(out_dir, plan)]
        _log.info("%s: %d clips, %d to make", out_dir, len(plans), len(pending))
        make = functools.partial(_make_clip, out_dir)
        in_processes(make, pending, "making demo clips", num_workers=config.num_workers)
        _finish(out_dir, recorded, plans)
    except OSError as error:
        raise UserError(f"cannot write the demo data set in {out_dir}: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Done:
    """A clip's marker: what is not known before it is made."""

    silent_label: str
    boxes: list[tuple[float, float, float, float]]


@dataclasses.dataclass(frozen=True)
class _DemoFile:
    """What of demo.json is read."""

    config: dict[str, Any]


# --- Clips ---------------------------------------------------------------------------------------
def _make_clip(out_dir: pathlib.Path, plan: ClipPlan) -> None:
    waveform, scene, quality = clips.compose(plan)
    path = out_dir / plan.path
    video_writer.write_same_video(path, scenes.render(scene), waveform, quality=quality)
    done = {
        "silent_label": plan.silent_label if scene.has_silent_object else "",
        "boxes": [] if plan.unrelated else np.round(scene.boxes, 4).tolist(),
    }
    write_json(_marker(out_dir, plan), done)


def _marker(out_dir: pathlib.Path, plan: ClipPlan) -> pathlib.Path:
    return out_dir / _DONE / f"{plan.example_id}.json"


def _read_marker(out_dir: pathlib.Path, plan: ClipPlan) -> _Done | None:
    """Returns what a clip's marker says; None if there is none, or it is damaged."""
    try:
        return read_json(_marker(out_dir, plan), _Done, "the clip is made again")
    except (FileNotFoundError, UserError):
        return None


def _is_done(out_dir: pathlib.Path, plan: ClipPlan) -> bool:
    return (out_dir / plan.path).exists() and _read_marker(out_dir, plan) is not None


# --- Files ---------------------------------------------------------------------------------------
def _open(out_dir: pathlib.Path, config: dict) -> None:
    """Makes the folder, or checks that it holds the same data set."""
    path = out_dir / CONFIG_FILE
    if path.exists():
        advice = f"remove {out_dir} or choose another"
        there = read_json(path, _DemoFile, advice).config
        if there != config:
            keys = [key for key in config if there.get(key) != config[key]]
            raise UserError(
                f"{out_dir} holds a demo data set with another {', '.join(keys) or 'configuration'}"
                f" ({', '.join(f'{key}={there.get(key)}' for key in keys)}); remove it or choose "
                "another out_dir"
            )
    for name in (*SPLITS, _DONE):
        (out_dir / name).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_json(path, {"note": _NOTE, "finished": False, "config": config})


def _finish(out_dir: pathlib.Path, config: dict, plans: Sequence[ClipPlan]) -> None:
    """Writes the tables, and demo.json last."""
    advice = "run the same command again"
    done = {plan: read_json(_marker(out_dir, plan), _Done, advice) for plan in plans}
    manifest.write_manifest(out_dir / MANIFEST_FILE, [_manifest_row(plan) for plan in plans])
    rows = (_clip_row(plan, done[plan].silent_label) for plan in plans)
    write_csv(out_dir / CLIPS_FILE, CLIPS_COLUMNS, rows)
    boxes = (
        row
        for plan in plans
        for row in box_lists.boxes_of_frames(plan.example_id, done[plan].boxes, plan.label)
    )
    write_csv(out_dir / BOXES_FILE, box_lists.COLUMNS, boxes)
    content = {
        "note": _NOTE,
        "finished": True,
        "config": config,
        "counts": {
            "clips": len(plans),
            **{split: sum(plan.split == split for plan in plans) for split in SPLITS},
            "unrelated": sum(plan.unrelated for plan in plans),
            "with_silent_object": sum(bool(marker.silent_label) for marker in done.values()),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "pillow": PIL.__version__,
            "ffmpeg": ffmpeg.ffmpeg_version(),
        },
    }
    write_json(out_dir / CONFIG_FILE, content)


def _manifest_row(plan: ClipPlan) -> manifest.ManifestRow:
    name, labels = plan.example_id, (plan.family,)
    return manifest.ManifestRow(name, name, plan.path, 0.0, plan.seconds, plan.split, labels)


def _clip_row(plan: ClipPlan, silent_label: str) -> tuple:
    labels = (plan.label, plan.heard_label, int(plan.unrelated), silent_label, plan.family)
    return plan.example_id, plan.split, *labels
