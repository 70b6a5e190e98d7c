"""Frames with boxes around what sounds, and the second of sound around each (OTS §4.1).

A boxes.csv says where: columns example_id, frame, time_seconds, ymin, xmin, ymax, xmax (shares of
the whole frame's height and width) and label, "" if not told; one row per box. data_prep.demo and
data_prep.datasets (VGG-SS, Flickr-SoundNet) write one. The frames come from prepared shards or, as
Flickr-SoundNet's annotated ones, from a folder of pictures and sounds. Of a clip with several
annotated frames the one nearest to its middle counts.
"""

import collections
import csv
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from eval.metrics.localization import View, centre_crop
from eval.sets import clips, recordings
from l3net import constants
from l3net.data import augment, schema
from l3net.data.shards import find_shards, read_clips
from l3net.errors import UserError

_COLUMNS = ("example_id", "time_seconds", "ymin", "xmin", "ymax", "xmax", "label")
_PICTURES, _SOUNDS = (".jpg", ".jpeg"), (".wav", ".flac", ".ogg")
# Why a clip gives no frame.
NO_BOX, NO_FRAME = "without a box", "without a picture or sound at the annotated time"


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The boxes of one frame.

    Attributes:
        time_seconds: of the frame, from the clip's start.
        boxes: float [num, 4] of ymin, xmin, ymax, xmax, in shares of the frame.
        label: of what sounds, "" if not told.
    """

    time_seconds: float
    boxes: np.ndarray
    label: str


@dataclasses.dataclass(frozen=True)
class SoundingFrame:
    """An annotated frame and its sound.

    Attributes:
        example_id: of its clip.
        media_id: of its video; sounds of other videos are "mismatched".
        jpeg: the whole frame.
        waveform: int16 [48000], the second around the frame.
        annotation: its boxes.
    """

    example_id: str
    media_id: str
    jpeg: bytes
    waveform: np.ndarray
    annotation: Annotation


@dataclasses.dataclass(frozen=True)
class FrameSet:
    """The annotated frames of a data set, read as often as asked for, never held together.

    Attributes:
        data: how a row of a table names its data.
        num_clips: that are looked at: no fewer than give a frame.
        read: returns an iterator over `SoundingFrame`s and reasons (NO_BOX, NO_FRAME) for clips
            that give none.
    """

    data: str
    num_clips: int
    read: Callable[[], Iterator[SoundingFrame | str]]


def read_boxes(path: str | pathlib.Path) -> dict[str, list[Annotation]]:
    """Reads a boxes.csv.

    Args:
        path: of the file.

    Returns:
        Example id -> its annotated frames, by time.

    Raises:
        UserError: if the file cannot be read, lacks a column or has a bad row.
    """
    rows = collections.defaultdict(list)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                box = [float(row[name]) for name in ("ymin", "xmin", "ymax", "xmax")]
                if not (0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1):
                    raise ValueError(f"the box {box} of {row['example_id']}")
                rows[row["example_id"], float(row["time_seconds"])].append((box, row["label"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({error}); need a CSV with the columns {', '.join(_COLUMNS)}, "
            "sides as shares in [0, 1]"
        ) from None
    found = collections.defaultdict(list)
    for (example_id, time), boxes in sorted(rows.items()):
        sides = np.array([box for box, _ in boxes])
        found[example_id].append(Annotation(time, sides, boxes[0][1]))
    if not found:
        raise UserError(f"{path} holds no box")
    return dict(found)


# --- From shards ---------------------------------------------------------------------------------
def from_shards(
    folder: str | pathlib.Path, split: str, boxes: Mapping[str, list[Annotation]]
) -> FrameSet:
    """Takes the annotated frames of a prepared folder.

    Args:
        folder: as data_prep.write_shards leaves it.
        split: "test"; the paper annotated 500 clips of its validation data.
        boxes: see `read_boxes`.

    Returns:
        The frames, in the order of the shards.

    Raises:
        UserError: if there is no such split.
    """
    shards = find_shards(folder, split)

    def read() -> Iterator[SoundingFrame | str]:
        for clip in read_clips(shards):
            yield _of_clip(clip, boxes.get(clip.example_id))

    data = clips.data_name(folder, split)
    return FrameSet(f"{data}, {split}", sum(shard.num_clips for shard in shards), read)


def _of_clip(clip: schema.Clip, annotations: list[Annotation] | None) -> SoundingFrame | str:
    if not annotations:
        return NO_BOX
    seconds = (clip.end_us - clip.start_us) / constants.MICROSECONDS
    annotation = min(annotations, key=lambda one: abs(one.time_seconds - seconds / 2))
    times = (np.array(clip.timestamps_us) - clip.start_us) / constants.MICROSECONDS
    index = int(np.abs(times - annotation.time_seconds).argmin())
    # Half a frame step, and a little for rounding: else it is not the annotated picture.
    apart = abs(times[index] - annotation.time_seconds)
    if apart > 0.51 / constants.FRAME_RATE_HZ or index < clip.num_padding_frames:
        return NO_FRAME
    if len(clip.waveform) < constants.AUDIO_SAMPLES:
        return NO_FRAME
    sound = second_around(clip.waveform, times[index])
    return SoundingFrame(clip.example_id, clip.media_id, clip.frames[index], sound, annotation)


def second_around(waveform: np.ndarray, time_seconds: float) -> np.ndarray:
    """Cuts the second centred on a time, moved inwards at the ends of the sound.

    Args:
        waveform: [samples], 48 kHz, at least one second.
        time_seconds: from its start.

    Returns:
        [48000].
    """
    start = round(time_seconds * constants.SAMPLE_RATE_HZ) - constants.AUDIO_SAMPLES // 2
    start = min(max(start, 0), len(waveform) - constants.AUDIO_SAMPLES)
    return waveform[start : start + constants.AUDIO_SAMPLES]


# --- From a folder of pictures and sounds --------------------------------------------------------
def from_folder(folder: str | pathlib.Path, boxes: Mapping[str, list[Annotation]]) -> FrameSet:
    """Takes annotated pictures ID.jpg and their sounds ID.wav, anywhere below a folder.

    So Flickr-SoundNet's annotated frames are handed around (frames/ID.jpg, audio/ID.wav). The
    middle second of a sound is taken (ours).

    Args:
        folder: that holds them.
        boxes: see `read_boxes`.

    Returns:
        The frames, by id.

    Raises:
        UserError: if the folder does not exist.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"the folder of pictures and sounds {folder} does not exist")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures, sounds = (
        {path.stem: path for path in paths if path.suffix.lower() in suffixes}
        for suffixes in (_PICTURES, _SOUNDS)
    )

    def read() -> Iterator[SoundingFrame | str]:
        for name, annotations in sorted(boxes.items()):
            if name in pictures and name in sounds:
                yield _of_files(name, pictures[name], sounds[name], annotations[0])
            else:
                yield NO_FRAME

    return FrameSet(folder.name, len(boxes), read)


def _of_files(
    name: str, picture: pathlib.Path, sound: pathlib.Path, annotation: Annotation
) -> SoundingFrame:
    waveform = recordings.load_file(sound)
    missing = max(0, constants.AUDIO_SAMPLES - len(waveform))
    waveform = np.pad(waveform, (0, missing))
    levels = np.clip(np.round(waveform * schema.INT16_SCALE), -32768, 32767).astype(np.int16)
    middle = second_around(levels, len(levels) / 2 / constants.SAMPLE_RATE_HZ)
    return SoundingFrame(name, name, picture.read_bytes(), middle, annotation)


# --- What the network is shown -------------------------------------------------------------------
def decode(jpeg: bytes, frame_px: int, *, whole: bool = False) -> tuple[np.ndarray, View]:
    """Decodes what the network sees of a frame.

    Args:
        jpeg: the frame.
        frame_px: height and width of the result.
        whole: whether to squash the whole frame into the square, so that every box is in view, in
            place of the centre crop that the network knows from training.

    Returns:
        uint8 [frame_px, frame_px, 3], and where that lies in the frame.

    Raises:
        UserError: if it is no JPEG.
    """
    try:
        height, width = (int(side) for side in tf.io.extract_jpeg_shape(jpeg)[:2])
        if whole:
            squashed = tf.image.resize(
                tf.io.decode_jpeg(jpeg, channels=3), [frame_px, frame_px], antialias=True
            )
            return np.round(np.clip(squashed.numpy(), 0, 255)).astype(np.uint8), View()
        ratio = augment.jpeg_ratio(min(height, width), frame_px)
        return _cropper(frame_px, ratio)(jpeg).numpy(), centre_crop(height, width)
    except tf.errors.InvalidArgumentError as error:
        raise UserError(f"a picture is no readable JPEG ({len(jpeg)} bytes)") from error


@functools.cache
def _cropper(frame_px: int, ratio: int) -> Callable[[bytes], tf.Tensor]:
    """Returns the crop as one graph, traced once for all pictures of a size."""
    return tf.function(
        functools.partial(augment.decode_and_crop, draws=None, frame_px=frame_px, ratio=ratio),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )
