"""The files of a prepared folder: shards and their commit markers, splits, labels.

A prepared folder holds, for a data set called `demo`:

    prep.json                          the configuration it was made with
    labels.txt                         sorted label strings; the line number is the label index
    demo-train-00000-of-00004          a shard
    demo-train-00000-of-00004.json     its commit marker, written last: counts and outcomes
    outcomes.csv                       one row per input video

It is written on a disk, and read from there or from object storage (`storage.locate`).
"""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterator
from concurrent import futures

import tensorflow as tf

from l3net.data import damage
from l3net.data.clip import Clip
from l3net.data.markers import LABELS_FILE, Marker, marker_path, read_marker
from l3net.data.schema import clip_from_bytes, media_id_of
from l3net.data.storage import Location, locate, read_head
from l3net.errors import UserError, first_line
from l3net.files import regular

_HEAD_BYTES = 1 << 16  # of a shard: more than its first record's context takes
_RECORD_START = 12  # after the record's length and that length's checksum
_READERS = 16
_SHARD_NAME = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)-(?P<index>\d{5})-of-(?P<count>\d{5})")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard: its file, number of clips, their media ids, sha256 (hex), data set."""

    path: Location
    num_clips: int
    media_ids: tuple[str, ...]
    sha256: str = ""
    dataset_name: str = ""


# --- Shards of a split ---------------------------------------------------------------------------
def find_shards(folder: str | Location, split: str) -> list[Shard]:
    """Lists the finished shards of one split of a prepared folder, in order, but for empty ones.

    Raises:
        UserError: if the folder does not exist or cannot be read, has no shard of that split, or
            misses some, or a shard is not the one that its marker belongs to.
    """
    folder = locate(folder)
    names = _names_in(folder)
    matches = [match for name in names if (match := _SHARD_NAME.fullmatch(name))]
    splits = {match["split"] for match in matches}
    matches = [match for match in matches if match["split"] == split]
    if not matches:
        have = f"it has the splits {', '.join(sorted(splits))}" if splits else "it has no shards"
        if any(_SHARD_NAME.fullmatch(name.removesuffix(".tar")) for name in names) and not splits:
            have = "it was made for other programs, by write_shards --format=webdataset"
        raise UserError(f"no shards of split {split!r} in {folder}; {have}")
    count = int(matches[0]["count"])
    if len(matches) != count:
        raise UserError(
            f"{folder} has {len(matches)} of {count} {split} shards; "
            "run data_prep.write_shards again to finish it"
        )
    with futures.ThreadPoolExecutor(_READERS) as pool:  # an address answers slowly
        paths = [folder / match.string for match in matches]
        shards = list(pool.map(_finished_shard, paths, [match["name"] for match in matches]))
    return [shard for shard in shards if shard.num_clips]


def _names_in(folder: Location) -> list[str]:
    try:
        if folder.is_dir():
            return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read shard folder {folder}: {first_line(error)}") from error
    raise UserError(f"shard folder {folder} does not exist; data_prep.write_shards makes one")


def content_digest(shards: list[Shard]) -> str:
    """Returns a short hash of the shards' content, from their commit markers."""
    identity = repr([(s.path.name, s.num_clips, s.media_ids, s.sha256) for s in shards])
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _finished_shard(path: Location, dataset_name: str) -> Shard:
    marker = read_marker(path)
    problem = _mismatch(path, marker) if marker.num_clips else None
    if problem is not None:
        raise UserError(
            f"shard {path} is not the one that {marker_path(path).name} belongs to ({problem}); "
            "copy both again, or run data_prep.write_shards again to make it"
        )
    return Shard(path, marker.num_clips, marker.media_ids, marker.sha256 or "", dataset_name)


def _mismatch(path: Location, marker: Marker) -> str | None:
    """Says how a shard's size or its first record differs from its marker's; None if neither."""
    try:
        head, num_bytes = read_head(path, _HEAD_BYTES)
        if marker.num_bytes not in (None, num_bytes):
            return f"it has {num_bytes} bytes, not {marker.num_bytes}"
        media_id = media_id_of(head[_RECORD_START:])
    except (OSError, ValueError) as error:
        return first_line(error)
    return None if media_id in marker.media_ids else f"it begins with video {media_id!r}"


def read_labels(folder: str | Location) -> list[str]:
    """Returns the label strings of a prepared folder; their positions are the label indices.

    Raises:
        UserError: if it has no list of labels.
    """
    path = locate(folder) / LABELS_FILE
    try:
        if isinstance(path, pathlib.Path):
            regular(path)
        return path.read_text().splitlines()
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no {LABELS_FILE}; data_prep.write_shards writes it"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is damaged ({first_line(error)}); delete it and run data_prep.write_shards "
            "again"
        ) from error


def read_clips(shards: list[Shard]) -> Iterator[Clip]:
    """Yields every clip of the shards, in order, one in memory at a time.

    Raises:
        UserError: if a shard is damaged or cannot be read.
    """
    for shard in shards:
        records = tf.data.TFRecordDataset(str(shard.path)).as_numpy_iterator()
        for number, serialized in enumerate(damage.checked(records, [shard.path])):
            try:
                clip = clip_from_bytes(serialized)
            except ValueError as error:
                where = f"record {number} of {shard.path}"
                problem = first_line(error)
                raise UserError(damage.say_damaged(where, problem, shard.path.parent)) from error
            yield clip
