"""Names of the files of a prepared folder, and the shards' commit markers. Needs no TensorFlow."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from l3net.errors import UserError
from l3net.json_files import read_json, write_json

if TYPE_CHECKING:
    from l3net.data.storage import Location, RemotePath

LABELS_FILE = "labels.txt"
PREP_FILE = "prep.json"
OUTCOMES_FILE = "outcomes.csv"
_Path = TypeVar("_Path", pathlib.Path, "RemotePath", "Location")


@dataclasses.dataclass(frozen=True)
class Marker:
    """What a shard's commit marker holds; only the first two fields are in every marker.

    Attributes:
        num_clips: records in the shard.
        media_ids: those of the clips' videos, sorted.
        num_bytes: size of the shard.
        sha256: hash of the shard's content, 64 hexadecimal digits.
        config_hash: what prep.json holds under this name.
        outcomes: one row of outcomes.csv (column -> value) per row of the manifest.
    """

    num_clips: int
    media_ids: tuple[str, ...]
    num_bytes: int | None = None
    sha256: str | None = None
    config_hash: str | None = None
    outcomes: Sequence[Mapping[str, Any]] | None = None


def shard_name(dataset_name: str, split: str, index: int, num_shards: int) -> str:
    """Returns a shard's file name, such as "demo-train-00007-of-00064"."""
    return f"{dataset_name}-{split}-{index:05d}-of-{num_shards:05d}"


def marker_path(shard_path: _Path) -> _Path:
    """Returns the path of a shard's commit marker."""
    return shard_path.with_name(shard_path.name + ".json")


def write_marker(shard_path: pathlib.Path, marker: Marker) -> None:
    """Writes a shard's commit marker; the shard must be there already."""
    write_json(marker_path(shard_path), dataclasses.asdict(marker))


def read_marker(shard_path: "Location") -> Marker:
    """Reads a shard's commit marker; it may hold more than `Marker`.

    Raises:
        UserError: if there is none, or it is damaged.
    """
    path = marker_path(shard_path)
    try:
        return read_json(path, Marker, "delete it and run data_prep.write_shards again")
    except FileNotFoundError as error:
        raise UserError(
            f"shard {shard_path} has no commit marker {path.name}, so it may be half-written; "
            "run data_prep.write_shards again to finish it"
        ) from error


def fitting_marker(shard_path: pathlib.Path, config_hash: str) -> Marker | None:
    """Returns a shard's commit marker if the shard is finished, else None.

    A shard is finished if its marker is readable and has this hash of the configuration and the
    shard's size.
    """
    try:
        marker = read_marker(shard_path)
        num_bytes = shard_path.stat().st_size
    except (UserError, OSError):
        return None
    fits = marker.config_hash == config_hash and marker.num_bytes == num_bytes
    return marker if fits else None
