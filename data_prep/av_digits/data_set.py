"""av_digits as a folder: videos, manifest, boxes, an ontology, what was used."""

import dataclasses
import functools
import json
import logging
import pathlib
from typing import Any

import numpy as np

from data_prep.av_digits import clips, sources
from data_prep.av_digits.clips import LABELS, ClipPlan
from data_prep.lists.box_lists import Box, boxes_of_frames
from data_prep.lists.dataset_rows import Result
from data_prep.lists.manifest import ManifestRow
from data_prep.parallel import in_processes
from l3net.data import spoken_digits
from l3net.errors import UserError
from l3net.files import write_csv, write_whole
from l3net.flags import setting
from l3net.json_files import read_json, write_json
from l3net.media import video_writer

NAME = "av_digits"
VERSION = 1  # of everything below; another version is another data set
CONFIG_FILE, SOURCES_FILE, ONTOLOGY_FILE = "av_digits.json", "sources.csv", "ontology.json"
_SOURCES_COLUMNS = ("example_id", "split", "label", "image", "recordings")
_ROOT = "Digit"
_BOXES_FOLDER, _BOXES = ".boxes", "boxes"
_Sides = tuple[float, float, float, float]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """Handwritten digits and voices (av_digits)."""

    mnist: str | None = setting(
        None,
        "For av_digits: folder with MNIST's test images and labels (t10k-images-idx3-ubyte and "
        "t10k-labels-idx1-ubyte, as published, .gz or not).",
    )
    spoken_digits: str | None = setting(
        None, "For av_digits: the folder recordings/ of the Free Spoken Digit Dataset."
    )


@dataclasses.dataclass(frozen=True)
class _Boxes:
    """A clip's file of boxes; it says that the video is complete."""

    boxes: list[_Sides]


def make_digits(config: Config, folder: str | pathlib.Path, seed: int) -> Result:
    """Makes the videos, or those that are missing, and what belongs to them.

    The folder gets train/, val/, test/ and test_heard/ with .mp4 files, av_digits.json (version and
    seed), sources.csv (the image and the recordings of each clip); the folder above it
    ontology.json: ten digits below one class.

    Args:
        config: the sources.
        folder: where the videos are made; itself made if need be.
        seed: seed of everything drawn.

    Returns:
        The manifest's rows and the box of the digit in every frame.

    Raises:
        UserError: if a source is missing or unusable, the folder holds another data set, or a file
            cannot be written.
    """
    if not config.mnist or not config.spoken_digits:
        raise UserError("av_digits needs --mnist and --spoken_digits; see --help")
    images, digits = sources.read_images(config.mnist)
    plans = clips.plan_clips(digits, spoken_digits.list_recordings(config.spoken_digits), seed)
    folder = pathlib.Path(folder)
    try:
        _open(folder, {"name": NAME, "version": VERSION, "seed": seed})
        pending = [plan for plan in plans if _read_boxes(folder, plan) is None]
        _log.info("%s: %d clips, %d to make", folder, len(plans), len(pending))
        make = functools.partial(_make_clip, folder, pathlib.Path(config.spoken_digits))
        in_processes(make, [(plan, images[plan.image]) for plan in pending], "making clips")
        rows = (
            (p.example_id, p.split, LABELS[p.digit], p.image, "|".join(p.recordings)) for p in plans
        )
        write_csv(folder / SOURCES_FILE, _SOURCES_COLUMNS, rows)
        write_whole(folder.parent / ONTOLOGY_FILE, json.dumps(_ontology(), indent=1) + "\n")
        boxes = [box for plan in plans for box in _read_boxes(folder, plan) or ()]
    except OSError as error:
        raise UserError(f"cannot write av_digits in {folder}: {error}") from error
    return Result(rows=[_manifest_row(plan) for plan in plans], boxes=boxes)


def _open(folder: pathlib.Path, config: dict) -> None:
    """Makes the folder, or checks that it holds the same data set."""
    path = folder / CONFIG_FILE
    if path.exists():
        advice = "remove the folder or choose another --media_dir"
        if read_json(path, dict[str, Any], advice) != config:
            raise UserError(
                f"{folder} holds av_digits of another version or --seed; remove it or choose "
                "another --media_dir"
            )
        return
    for name in (*clips.CLIPS_PER_DIGIT, _BOXES_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(path, config)


def _make_clip(folder: pathlib.Path, recordings: pathlib.Path, work: tuple) -> None:
    plan, ink = work
    voices = [sources.read_recording(recordings / name) for name in plan.recordings]
    boxes = []

    def frames():
        for frame, box in clips.draw_frames(plan, ink):
            boxes.append(box)
            yield frame

    sound = clips.compose_sound(plan, voices)
    video_writer.write_same_video(folder / plan.path, frames(), sound)
    # Written last: it says that the video is complete.
    write_json(_boxes_path(folder, plan), {_BOXES: np.round(boxes, 4).tolist()})


def _boxes_path(folder: pathlib.Path, plan: ClipPlan) -> pathlib.Path:
    return folder / _BOXES_FOLDER / f"{plan.example_id}.json"


def _read_boxes(folder: pathlib.Path, plan: ClipPlan) -> list[Box] | None:
    """Returns a clip's boxes; None if it is not made, or its file of boxes is damaged."""
    try:
        made = read_json(_boxes_path(folder, plan), _Boxes, "the clip is made again")
    except (FileNotFoundError, UserError):
        return None
    return list(boxes_of_frames(plan.example_id, made.boxes, LABELS[plan.digit]))


def _manifest_row(plan: ClipPlan) -> ManifestRow:
    name, labels = plan.example_id, (LABELS[plan.digit],)
    return ManifestRow(name, name, plan.path, 0.0, clips.CLIP_SECONDS, plan.split, labels)


def _ontology() -> list[dict]:
    """Returns ten digits below one class, as AudioSet's ontology.json has its classes."""
    top = {"id": _ROOT, "name": _ROOT, "child_ids": list(LABELS)}
    return [top, *({"id": label, "name": label, "child_ids": []} for label in LABELS)]
