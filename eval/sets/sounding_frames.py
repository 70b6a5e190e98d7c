"""Frames with boxes around what sounds, and the second of sound around each (OTS §4.1).

A boxes.csv has a row per box: columns example_id, frame, time_seconds, ymin, xmin, ymax, xmax
(shares of the whole frame's height and width) and label, "" if unknown. data_prep.demo and
data_prep.datasets (VGG-SS, Flickr-SoundNet) write one. The frames come from prepared shards or, as
Flickr-SoundNet's annotated ones, from a folder of pictures and sounds. Of a clip with several
annotated frames the one nearest to its middle counts.
"""

import collections
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from eval.reporting import paper_values, synthetic
from eval.sets import clips, recordings
from l3net import constants
from l3net.data import augment, schema
from l3net.data.list_files import csv_table
from l3net.data.shards import read_clips
from l3net.errors import UserError

_COLUMNS = ("example_id", "time_seconds", "ymin", "xmin", "ymax", "xmax", "label")
_PICTURES, _SOUNDS = (".jpg", ".jpeg"), (".wav", ".flac", ".ogg")
# Why a clip gives no frame.
NO_BOX, NO_FRAME = "without a box", "without a picture or sound at the annotated time"


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The boxes of one frame: ymin, xmin, ymax, xmax in shares of the frame."""

    time_seconds: float  # from the clip's start
    boxes: np.ndarray  # float [num, 4]
    label: str  # what sounds, "" if unknown


@dataclasses.dataclass(frozen=True)
class SoundingFrame:
    """An annotated frame and the second of sound around it, int16 [48000].

    Sounds of other videos (`media_id`) are "mismatched".
    """

    example_id: str
    media_id: str
    jpeg: bytes
    waveform: np.ndarray
    annotation: Annotation


@dataclasses.dataclass(frozen=True)
class FrameSet:
    """The annotated frames of a data set, read again at each use, never held together.

    `read` returns an iterator over frames and, where a clip gives none, the reason.
    """

    data: str  # how a row of a table names it
    num_clips: int  # clips that are read: no fewer than give a frame
    read: Callable[[], Iterator[SoundingFrame | str]]
    data_set: str | None = None  # as the papers name it; None if it is none of theirs


def read_boxes(path: str | pathlib.Path) -> dict[str, list[Annotation]]:
    """Reads a boxes.csv.

    Returns:
        Example id -> its annotated frames, by time.

    Raises:
        UserError: if the file cannot be read, lacks a column or has a bad row.
    """
    rows = collections.defaultdict(list)
    try:
        for _, row in csv_table(path, _COLUMNS, what="the boxes in"):
            box = [float(row[name]) for name in ("ymin", "xmin", "ymax", "xmax")]
            if not (0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1):
                raise ValueError(f"the box {box} of {row['example_id']}")
            time = float(row["time_seconds"])
            if not 0 <= time < math.inf:
                raise ValueError(f"the time {time} of {row['example_id']}")
            rows[row["example_id"], time].append((box, row["label"]))
    except ValueError as error:
        raise UserError(
            f"cannot read {path} ({error}); need a CSV with the columns {', '.join(_COLUMNS)}, "
            "sides as shares in [0, 1]"
        ) from None
    annotations = collections.defaultdict(list)
    for (example_id, time), boxes in sorted(rows.items()):
        sides = np.array([box for box, _ in boxes])
        annotations[example_id].append(Annotation(time, sides, boxes[0][1]))
    if not annotations:
        raise UserError(f"{path} holds no box")
    return dict(annotations)


# --- From shards ---------------------------------------------------------------------------------
def from_shards(
    folder: str | pathlib.Path, split: str, boxes: Mapping[str, list[Annotation]]
) -> FrameSet:
    """Returns the annotated frames of a prepared folder, in the order of the shards.

    Raises:
        UserError: if there is no such split.
    """
    shards = clips.nonempty_shards(folder, split)
    name = shards[0].dataset_name

    def read() -> Iterator[SoundingFrame | str]:
        for clip in read_clips(shards):
            yield _of_clip(clip, boxes.get(clip.example_id))

    data = f"{synthetic.display_name(name)}, {split}"
    num_clips = sum(shard.num_clips for shard in shards)
    return FrameSet(data, num_clips, read, paper_values.data_set_of(name))


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
    """Cuts the second centred on a time, [48000], moved inwards at the ends of the sound."""
    start = round(time_seconds * constants.SAMPLE_RATE_HZ) - constants.AUDIO_SAMPLES // 2
    start = min(max(start, 0), len(waveform) - constants.AUDIO_SAMPLES)
    return waveform[start : start + constants.AUDIO_SAMPLES]


# --- From a folder of pictures and sounds --------------------------------------------------------
def from_folder(folder: str | pathlib.Path, boxes: Mapping[str, list[Annotation]]) -> FrameSet:
    """Returns annotated pictures ID.jpg with their sounds ID.wav, anywhere below a folder, by id.

    Flickr-SoundNet's annotated frames are distributed so (frames/ID.jpg, audio/ID.wav). The middle
    second of a sound is taken (our choice).

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
    levels = schema.int16_of(waveform)
    middle = second_around(levels, len(levels) / 2 / constants.SAMPLE_RATE_HZ)
    return SoundingFrame(name, name, picture.read_bytes(), middle, annotation)


# --- What the network is shown -------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class View:
    """The part of a frame that a network sees, its top left corner and size in shares of the frame.

    View(0.1, 0.2, 0.5, 0.5) sees at (0.5, 0.5) what the frame has at (0.35, 0.45).
    """

    ymin: float = 0.0
    xmin: float = 0.0
    height: float = 1.0
    width: float = 1.0

    def to_frame(self, point: tuple[float, float]) -> tuple[float, float]:
        """Turns a position (y, x) in the view into one in the frame."""
        return self.ymin + point[0] * self.height, self.xmin + point[1] * self.width

    def of_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Turns boxes [num, 4] of the frame into boxes of the view, cut at its borders.

        A box outside the view has no area. View(0.1, 0.2, 0.5, 0.5) turns (0, 0.2, 0.35, 0.7) into
        (0, 0, 0.5, 1).
        """
        shifted = boxes - np.array([self.ymin, self.xmin] * 2)
        return np.clip(shifted / np.array([self.height, self.width] * 2), 0.0, 1.0)


def centre_crop(height_px: int, width_px: int) -> View:
    """Returns what the networks see of a frame in evaluation (`augment.decode_and_crop`).

    It is the centre square of 224/256 of the smallest side: of 256 x 320 pixels
    View(16/256, 48/320, 224/256, 224/320).
    """
    crop_px = round(min(height_px, width_px) * constants.FRAME_PX / constants.SMALLEST_SIDE_PX)
    top_px, left_px = (height_px - crop_px) // 2, (width_px - crop_px) // 2
    return View(top_px / height_px, left_px / width_px, crop_px / height_px, crop_px / width_px)


def decode(jpeg: bytes, frame_px: int, *, whole: bool = False) -> tuple[np.ndarray, View]:
    """Decodes what the network sees of a frame.

    Args:
        jpeg: the frame.
        frame_px: height and width of the result.
        whole: whether to squash the complete frame into the square, so that every box is in view,
            in place of the centre crop that the network knows from training.

    Returns:
        uint8 [frame_px, frame_px, 3], and the part of the frame that it shows.

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
