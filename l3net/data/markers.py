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


def finished_marker(shard_path: pathlib.Path, config_hash: str) -> Marker | None:
    """Returns a shard's commit marker; None if the shard is not finished.

    A shard is finished if it is there with a marker that has this hash of the configuration.

    Raises:
        UserError: if the marker cannot be read, or the shard has not the size that it says.
    """
    if not (shard_path.exists() and marker_path(shard_path).exists()):
        return None
    marker = read_marker(shard_path)
    if marker.config_hash != config_hash:
        return None
    if marker.num_bytes != (num_bytes := shard_path.stat().st_size):
        raise UserError(
            f"{shard_path} has {num_bytes} bytes, its marker says {marker.num_bytes}; delete the "
            "marker and run data_prep.write_shards again"
        )
    return marker


def fitting_marker(shard_path: pathlib.Path, config_hash: str) -> Marker | None:
    """Returns what `finished_marker` does; None where that raises, for the shard is made again."""
    try:
        return finished_marker(shard_path, config_hash)
    except (UserError, OSError):
        return None
