"""Reads every record of a prepared folder back and says what is wrong with it."""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from data_prep.shards import flow
from data_prep.shards.folder import read_prep
from l3net import constants
from l3net.data import schema
from l3net.data.shards import (
    LABELS_FILE,
    OUTCOMES_FILE,
    Marker,
    marker_path,
    read_labels,
    read_marker,
    shard_name,
)
from l3net.errors import UserError, first_line
from l3net.files import sha256_of
from l3net.media import ffmpeg
from l3net.progress import track

DEFAULT_FRAMES_PER_CLIP = 8


@dataclasses.dataclass
class SplitSummary:
    """Expected shards of a split, and what was read back: clips, seconds of sound, file sizes."""

    num_shards: int = 0
    num_clips: int = 0
    num_frames: int = 0
    seconds: float = 0.0
    num_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Report:
    """What is in a folder, split -> summary, and what is wrong with it, a line per fault."""

    splits: Mapping[str, SplitSummary]
    faults: tuple[str, ...]


class _Folder:
    """What every check needs to know; collects the faults."""

    def __init__(self, path: pathlib.Path, frames_per_clip: int) -> None:
        self.path, self.frames_per_clip = path, frames_per_clip
        try:
            prep, self.config = read_prep(path)
            self.config_hash, self.labels = prep["config_hash"], read_labels(path)
        except OSError as error:
            raise UserError(
                f"{path} is no folder of shards ({error}); data_prep.write_shards makes one"
            ) from error
        self.splits: dict[str, SplitSummary] = collections.defaultdict(SplitSummary)
        self.record_of_example: dict[str, str] = {}
        self.faults: list[str] = []

    def fault(self, where: str, what: str) -> None:
        self.faults.append(f"{where}: {what}")


def verify_folder(
    shards_dir: str | pathlib.Path, *, frames_per_clip: int = DEFAULT_FRAMES_PER_CLIP
) -> Report:
    """Reads every record back.

    Checked per shard: that it is there, with marker, size and sha256; per record: that it is a
    clip, that its frames are JPEGs of the stated size with increasing times, that its sound is as
    long as its frames, that its labels are in labels.txt, that no other record has its id, that it
    has optical flow between all frames, of the stated size and scale, or none, as prep.json says.
    So many frames and flows of a clip are decoded completely (0 is all), of the others the header.

    Raises:
        UserError: if this is no folder of shards at all.
    """
    folder = _Folder(pathlib.Path(shards_dir), frames_per_clip)
    if folder.labels != sorted(set(folder.labels)):
        folder.fault(LABELS_FILE, "labels are not sorted or come twice")
    shards = [
        (split, shard_name(folder.config.dataset_name, split, index, count))
        for split, count in sorted(folder.config.num_shards.items())
        for index in range(count)
    ]
    for split, name in track(shards, "verifying", unit="shard"):
        folder.splits[split].num_shards += 1
        _check_shard(folder, split, name)
    if not (folder.path / OUTCOMES_FILE).is_file():
        folder.fault(OUTCOMES_FILE, "missing: write_shards has not come to its end")
    return Report(dict(folder.splits), tuple(folder.faults))


# --- One shard -----------------------------------------------------------------------------------
def _check_shard(folder: _Folder, split: str, name: str) -> None:
    path = folder.path / name
    if not path.is_file():
        folder.fault(name, "missing")
        return
    num_bytes = path.stat().st_size
    folder.splits[split].num_bytes += num_bytes
    marker = _marker(folder, path)
    if marker and marker.num_bytes != num_bytes:
        folder.fault(name, f"has {num_bytes} bytes, its marker says {marker.num_bytes}")
    elif marker and marker.sha256 != sha256_of(path):
        folder.fault(name, "its bytes are not those its marker was made for (sha256)")
    clips = list(_check_records(folder, split, path))
    if marker and marker.num_clips != len(clips):
        folder.fault(name, f"has {len(clips)} clips, its marker says {marker.num_clips}")
    if marker and list(marker.media_ids) != sorted({media_id for _, media_id in clips}):
        folder.fault(name, "its marker lists other media_ids than its clips have")
    ids = [example_id for example_id, _ in clips]
    if ids != sorted(ids):
        folder.fault(name, "clips are not sorted by example_id")


def _marker(folder: _Folder, path: pathlib.Path) -> Marker | None:
    """Returns the commit marker of a shard, None if it is unusable."""
    name = marker_path(path).name
    if not marker_path(path).exists():
        folder.fault(path.name, "has no commit marker, so it may be half-written")
        return None
    try:
        marker = read_marker(path)
    except UserError as error:
        folder.fault(name, f"damaged ({first_line(error.__cause__ or error)})")
        return None
    missing = [field for field, value in vars(marker).items() if value is None]
    if missing:
        folder.fault(name, f"lacks {', '.join(missing)}")
        return None
    if marker.config_hash != folder.config_hash:
        folder.fault(name, "was made with another configuration than prep.json's")
    return marker


def _check_records(folder: _Folder, split: str, path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Checks every record that can be read; yields (example_id, media_id)."""
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    for index in itertools.count():
        where = f"{path.name}, record {index}"
        try:
            clip = schema.clip_from_bytes(next(records))
        except StopIteration:
            return
        except tf.errors.OpError as error:
            folder.fault(where, f"unreadable, and all after it ({first_line(error)})")
            return
        except Exception as error:  # noqa: BLE001  any damage may come out of a damaged record
            folder.fault(where, f"is no clip ({first_line(error)})")
        else:
            earlier = folder.record_of_example.setdefault(clip.example_id, where)
            if earlier != where:
                folder.fault(where, f"has the example_id of {earlier}: {clip.example_id}")
            for what in _clip_faults(clip, folder):
                folder.fault(f"{where} ({clip.example_id})", what)
            summary = folder.splits[split]
            summary.num_clips += 1
            summary.num_frames += len(clip.frames)
            summary.seconds += len(clip.waveform) / constants.SAMPLE_RATE_HZ
            yield clip.example_id, clip.media_id


# --- One clip ------------------------------------------------------------------------------------
def _clip_faults(clip: schema.Clip, folder: _Folder) -> Iterator[str]:
    if clip.config_hash != folder.config_hash:
        yield "was made with another configuration than prep.json's"
    yield from _time_faults(clip)
    if not np.isclose(clip.frame_rate_hz, folder.config.frame_rate_hz, rtol=1e-6, atol=0):
        yield f"{clip.frame_rate_hz:g} frames a second; need {folder.config.frame_rate_hz:g}"
    size = (clip.height_px, clip.width_px, 3)
    yield from _jpeg_faults("frame", clip.frames, size, folder.frames_per_clip)
    yield from _flow_faults(clip, folder)
    for label, index in zip(clip.labels, clip.label_indices, strict=False):
        if not 0 <= index < len(folder.labels) or folder.labels[index] != label:
            yield f"label {label!r} is not number {index} of {LABELS_FILE}"
    if len(clip.labels) != len(clip.label_indices):
        yield f"{len(clip.labels)} labels, {len(clip.label_indices)} label numbers"


def _time_faults(clip: schema.Clip) -> Iterator[str]:
    times = np.array(clip.timestamps_us, np.int64)
    if not len(clip.frames) or len(times) != len(clip.frames):
        yield f"{len(clip.frames)} frames, {len(times)} timestamps"
    elif (np.diff(times) <= 0).any():
        yield "timestamps do not increase"
    elif times[0] < clip.start_us or times[-1] >= clip.end_us:
        yield f"frames from {times[0]} to {times[-1]} us in {clip.start_us} to {clip.end_us} us"
    seconds = (clip.end_us - clip.start_us) / constants.MICROSECONDS
    num_samples = seconds * constants.SAMPLE_RATE_HZ
    if abs(len(clip.waveform) - num_samples) > 1:
        yield f"{len(clip.waveform)} samples of sound for {seconds:g} s; need {num_samples:.0f}"
    if not 0 <= clip.num_padding_frames < max(1, len(clip.frames)):
        yield f"{clip.num_padding_frames} padding frames of {len(clip.frames)}"


def _flow_faults(clip: schema.Clip, folder: _Folder) -> Iterator[str]:
    smallest_side_px = folder.config.flow_smallest_side_px
    wanted = len(clip.frames) - 1 if smallest_side_px else 0
    if len(clip.flows) != wanted:
        yield f"{len(clip.flows)} flows between {len(clip.frames)} frames; need {wanted}"
    if not clip.flows or not smallest_side_px:
        return
    height_px, width_px = clip.flow_height_px, clip.flow_width_px
    if min(height_px, width_px) != smallest_side_px:
        yield f"flow of {width_px}x{height_px} px; need a smallest side of {smallest_side_px}"
    scale_px = flow.scale_px(smallest_side_px)
    if not np.isclose(clip.flow_scale_px, scale_px, rtol=1e-5, atol=0):
        yield f"flow of {clip.flow_scale_px:g} px per level; need {scale_px:g}"
    size = (2 * height_px, width_px, 1)  # x above y
    yield from _jpeg_faults("flow", clip.flows, size, folder.frames_per_clip)
    wanted = len(clip.flows) if folder.config.mediasequence_flow else 0
    if len(clip.forward_flows) != wanted:
        yield f"{len(clip.forward_flows)} flows for MediaSequence; need {wanted}"
    size = (height_px, width_px, 3)
    yield from _jpeg_faults("forward flow", clip.forward_flows, size, folder.frames_per_clip)


def _jpeg_faults(
    name: str, jpegs: Sequence[bytes], size: tuple[int, int, int], num_decoded: int
) -> Iterator[str]:
    """Checks JPEGs that should be of one size (height, width, channels)."""
    count = len(jpegs)
    chosen = np.linspace(0, count - 1, min(count, num_decoded or count)).round().astype(int)
    for index, jpeg in enumerate(jpegs):
        try:
            height_px, width_px = ffmpeg.jpeg_size(jpeg)
            if index in chosen:
                height_px, width_px = tf.io.decode_jpeg(jpeg, channels=size[2]).shape[:2]
        except (ValueError, tf.errors.OpError) as error:
            yield f"{name} {index} is no JPEG ({first_line(error)})"
            continue
        if (height_px, width_px) != size[:2]:
            yield f"{name} {index} is {width_px}x{height_px} px, stated {size[1]}x{size[0]}"
