"""Reads every record of a prepared folder back and says what is wrong with it."""

import collections
import dataclasses
import functools
import itertools
import pathlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from data_prep.lists.manifest import hash_64
from data_prep.parallel import in_processes, num_processors
from data_prep.shards import flow
from data_prep.shards.config import TFRECORD, Config
from data_prep.shards.folder import read_prep
from data_prep.shards.formats import format_of, shard_names
from l3net import constants
from l3net.data import schema
from l3net.data.markers import (
    LABELS_FILE,
    OUTCOMES_FILE,
    Marker,
    marker_path,
    read_marker,
)
from l3net.data.shards import read_labels
from l3net.errors import UserError, first_line
from l3net.files import sha256_of
from l3net.media import ffmpeg

DEFAULT_FRAMES_PER_CLIP = 8
_BYTES_WORTH_A_PROCESS = 1 << 28  # read in about the time that a process takes to start


@dataclasses.dataclass
class SplitSummary:
    """Expected shards of a split, and what was read back: clips, seconds of sound, file sizes."""

    num_shards: int = 0
    num_clips: int = 0
    num_frames: int = 0
    seconds: float = 0.0
    num_bytes: int = 0

    def add(self, other: "SplitSummary") -> None:
        """Adds what another one counted."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclasses.dataclass(frozen=True)
class Report:
    """What is in a folder, split -> summary, and what is wrong with it, a line per fault."""

    splits: Mapping[str, SplitSummary]
    faults: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Folder:
    """What every check needs to know."""

    path: pathlib.Path
    frames_per_clip: int
    config: Config
    config_hash: str
    labels: tuple[str, ...]


class _Shard:
    """What one process found in one shard."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.summary = SplitSummary(num_shards=1)
        self.faults: list[str] = []
        self.clips: list[tuple[int, str, str]] = []  # number of the record, example_id, media_id

    def fault(self, what: str, where: str | None = None) -> None:
        self.faults.append(f"{where or self.name}: {what}")

    def digests(self) -> np.ndarray:
        """Returns (digest of the example_id, number of the record): uint64 [num_clips, 2]."""
        pairs = [(hash_64(example_id), number) for number, example_id, _ in self.clips]
        return np.array(pairs, np.uint64).reshape(-1, 2)


def verify_folder(
    shards_dir: str | pathlib.Path,
    *,
    frames_per_clip: int = DEFAULT_FRAMES_PER_CLIP,
    num_workers: int | None = None,
) -> Report:
    """Reads every record back, in several processes (None: one per processor, few for little).

    Checked per shard: that it is there, with marker, size and sha256; per record: that it is a
    clip, that its frames are JPEGs of the stated size with increasing times, that its sound is as
    long as its frames, that its labels are in labels.txt, that no other record has its id, that it
    has optical flow between all frames, of the stated size and scale, or none, as prep.json says.
    So many frames and flows of a clip are decoded completely (0 is all), of the others the header.

    Memory grows by 16 bytes a clip.

    Raises:
        UserError: if this is no folder of shards at all.
    """
    folder = _open(pathlib.Path(shards_dir), frames_per_clip)
    faults: list[str] = []
    splits: dict[str, SplitSummary] = collections.defaultdict(SplitSummary)
    if list(folder.labels) != sorted(set(folder.labels)):
        faults.append(f"{LABELS_FILE}: labels are not sorted or come twice")
    shards = shard_names(folder.config)
    names = [name for _, name in shards]
    check = functools.partial(_check_shard, folder)
    workers = num_workers or _worthwhile_workers([folder.path / name for name in names])
    found = in_processes(check, names, "verifying", unit="shard", num_workers=workers)
    for (split, _), (summary, lines, _) in zip(shards, found, strict=True):
        splits[split].add(summary)
        faults += lines
    faults += _repeated_ids(names, [digests for *_, digests in found])
    if not (folder.path / OUTCOMES_FILE).is_file():
        faults.append(f"{OUTCOMES_FILE}: missing: write_shards has not come to its end")
    return Report(dict(splits), tuple(faults))


def _worthwhile_workers(paths: Sequence[pathlib.Path]) -> int:
    """Returns how many processes have enough to read to make up for their start."""
    num_bytes = sum(path.stat().st_size for path in paths if path.is_file())
    return min(num_processors(), 1 + num_bytes // _BYTES_WORTH_A_PROCESS)


def _open(path: pathlib.Path, frames_per_clip: int) -> _Folder:
    try:
        prep, config = read_prep(path)
        labels = tuple(read_labels(path))
    except OSError as error:
        raise UserError(
            f"{path} is no folder of shards ({error}); data_prep.write_shards makes one"
        ) from error
    return _Folder(path, frames_per_clip, config, prep["config_hash"], labels)


def _repeated_ids(names: Sequence[str], digests: Sequence[np.ndarray]) -> Iterator[str]:
    """Yields a line for each record whose example_id an earlier one has.

    Two ids with the same 64 bits, which would be taken for one, are not to be expected.
    """
    shards = np.repeat(np.arange(len(names)), [len(each) for each in digests])
    ids, records = np.concatenate([np.zeros([0, 2], np.uint64), *digests]).T
    _, firsts, group = np.unique(ids, return_index=True, return_inverse=True)
    first_of = firsts[group]
    for later in np.flatnonzero(first_of != np.arange(len(ids))):
        here, there = (f"{names[shards[k]]}, record {records[k]}" for k in (later, first_of[later]))
        yield f"{here}: has the example_id of {there}"


# --- One shard -----------------------------------------------------------------------------------
def _check_shard(folder: _Folder, name: str) -> tuple[SplitSummary, list[str], np.ndarray]:
    """Returns what is in a shard, the lines of its faults, and the digests of its clips."""
    shard = _Shard(name)
    path = folder.path / name
    if path.is_file():
        _check_file(folder, path, shard)
    else:
        shard.fault("missing")
    return shard.summary, shard.faults, shard.digests()


def _check_file(folder: _Folder, path: pathlib.Path, shard: _Shard) -> None:
    num_bytes = shard.summary.num_bytes = path.stat().st_size
    marker = _marker(folder, path, shard)
    if marker and marker.num_bytes != num_bytes:
        shard.fault(f"has {num_bytes} bytes, its marker says {marker.num_bytes}")
    elif marker and marker.sha256 != sha256_of(path):
        shard.fault("its bytes are not those its marker was made for (sha256)")
    _check_records(folder, path, shard)
    if marker and marker.num_clips != len(shard.clips):
        shard.fault(f"has {len(shard.clips)} clips, its marker says {marker.num_clips}")
    if marker and list(marker.media_ids) != sorted({media_id for *_, media_id in shard.clips}):
        shard.fault("its marker lists other media_ids than its clips have")
    ids = [example_id for _, example_id, _ in shard.clips]
    if ids != sorted(ids):
        shard.fault("clips are not sorted by example_id")


def _marker(folder: _Folder, path: pathlib.Path, shard: _Shard) -> Marker | None:
    """Returns the commit marker of a shard, None if it is unusable."""
    name = marker_path(path).name
    if not marker_path(path).exists():
        shard.fault("has no commit marker, so it may be half-written")
        return None
    try:
        marker = read_marker(path)
    except UserError as error:
        shard.fault(f"damaged ({first_line(error.__cause__ or error)})", name)
        return None
    missing = [field for field, value in vars(marker).items() if value is None]
    if missing:
        shard.fault(f"lacks {', '.join(missing)}", name)
        return None
    if marker.config_hash != folder.config_hash:
        shard.fault("was made with another configuration than prep.json's", name)
    return marker


def _check_records(folder: _Folder, path: pathlib.Path, shard: _Shard) -> None:
    """Checks every record that can be read, and notes its clip."""
    kind = format_of(folder.config)
    records = _records(folder, path)
    for number in itertools.count():
        where = f"{path.name}, record {number}"
        try:
            clip = kind.clip_from_bytes(next(records))
        except StopIteration:
            return
        except (tf.errors.OpError, tarfile.TarError, OSError) as error:
            shard.fault(f"unreadable, and all after it ({first_line(error)})", where)
            return
        except Exception as error:  # noqa: BLE001  any damage may come out of a damaged record
            shard.fault(f"is no clip ({first_line(error)})", where)
        else:
            for what in _clip_faults(clip, folder):
                shard.fault(what, f"{where} ({clip.example_id})")
            shard.summary.num_clips += 1
            shard.summary.num_frames += len(clip.frames)
            shard.summary.seconds += len(clip.waveform) / constants.SAMPLE_RATE_HZ
            shard.clips.append((number, clip.example_id, clip.media_id))


def _records(folder: _Folder, path: pathlib.Path) -> Iterator[bytes]:
    if folder.config.format == TFRECORD:  # with its checksums
        return tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return format_of(folder.config).read_records(path)


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
