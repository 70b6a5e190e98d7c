"""The manifest: a CSV of the clips to cut, one row each.

    example_id,media_id,path,start_seconds,end_seconds,split,labels
    dog_1,dog,animals/dog.mp4,0.0,10.0,train,Bark|Dog

`example_id` is unique; `media_id` names the video (negatives pair different ones); `path` is
relative to the folder of videos, with "/" between its parts; `labels` may be empty.
"""

import dataclasses
import hashlib
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from data_prep.lists.media_files import MediaFiles
from l3net import constants
from l3net.data.list_files import csv_table
from l3net.errors import UserError
from l3net.files import write_csv
from l3net.media.file_kinds import SUFFIXES, VIDEO

COLUMNS = ("example_id", "media_id", "path", "start_seconds", "end_seconds", "split", "labels")
LABEL_SEPARATOR = "|"
_SPLIT = re.compile(r"[A-Za-z0-9_]+")


@dataclasses.dataclass(frozen=True, slots=True)
class ManifestRow:
    """One clip to cut out of one video."""

    example_id: str  # its name, unique within the manifest
    media_id: str  # the video's id; several clips may share it
    path: str  # the video's path, relative to the folder of videos, posix style
    start_seconds: float  # the wanted extent on the video's own time line
    end_seconds: float
    split: str  # letters, digits and "_", such as "train"
    labels: tuple[str, ...] = ()  # label strings, may be empty


def read_manifest(path: str | pathlib.Path) -> Iterator[tuple[int, ManifestRow]]:
    """Yields (line, row) of a manifest (a UTF-8 CSV); whoever takes them sees to unique ids.

    Raises:
        UserError: if the file cannot be read, a column is missing or unknown, or a row is
            unusable; the message names file and line.
    """
    for line, fields in csv_table(path, COLUMNS, others=False, what="the manifest"):
        yield line, _row_from_fields(fields, f"{path}, line {line}")


def write_manifest(path: str | pathlib.Path, rows: Iterable[ManifestRow]) -> None:
    """Writes a complete manifest that `read_manifest` gives back, or raises UserError."""
    lines = (_line(row, f"row {index} for {path}") for index, row in enumerate(rows))
    try:
        write_csv(path, COLUMNS, lines)
    except OSError as error:
        raise UserError(f"cannot write the manifest {path}: {error}") from error


def _line(row: ManifestRow, where: str) -> Iterable:
    """Returns the cells of a row; raises UserError if they would not read back the same."""
    # Not dataclasses.asdict, which copies deeply and takes most of the time.
    fields = {column: getattr(row, column) for column in COLUMNS}
    fields["labels"] = LABEL_SEPARATOR.join(row.labels)
    if _row_from_fields(fields, where) != row:
        raise UserError(f"{where} would not read back the same: {row}")
    return fields.values()


def rows_from_files(
    files: MediaFiles,
    *,
    max_seconds: float = constants.CLIP_SECONDS,
    split_fractions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Iterator[ManifestRow]:
    """Yields one row per video file, in folders or archives: its first seconds.

    Suffixes, else contents say which files are videos (`l3net.media.file_kinds`). The
    split of a file depends on its relative path and the seed only, so adding files moves no other.
    Without fractions all are in "train". Rows are sorted by path and have no labels. An archive
    that cannot be read to its end has a row of its own, which tells of that when it is prepared.

    Raises:
        UserError: if a folder cannot be read, there is no video file, or the fractions are
            unusable.
    """
    fractions = checked_fractions({"train": 1.0} if split_fractions is None else split_fractions)
    paths = {*files.paths(VIDEO), *files.damaged_archives()}
    if not paths:
        places = ", ".join(map(str, files.folders or [each.path for each in files.archives[:9]]))
        raise UserError(
            f"no video file in {places}; looked for {' '.join(SUFFIXES[VIDEO])}; give --manifest "
            "to name files of any kind"
        )
    for path in sorted(paths):
        yield ManifestRow(path, path, path, 0.0, max_seconds, split_of(path, fractions, seed))


def split_of(media_id: str, fractions: Mapping[str, float], seed: int = 0) -> str:
    """Returns the split of a video: a seeded hash of its id, compared with cumulated shares."""
    position = hash_64(f"{seed}:{media_id}") / 2**64
    for split, fraction in fractions.items():
        if position < fraction:
            return split
        position -= fraction
    return split  # rounding of the sum; the last one


def hash_64(name: str) -> int:
    """Returns the first 64 bits of a name's SHA-256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def parse_fractions(text: str) -> dict[str, float]:
    """Parses "train=0.8,val=0.1,test=0.1" to split name -> share; raises UserError if unusable."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        fractions = {split.strip(): float(share) for split, share in pairs}
    except ValueError:
        raise UserError(
            f"split fractions {text!r}: need name=share,name=share, such as train=0.9,test=0.1"
        ) from None
    return checked_fractions(fractions)


def checked_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """Returns usable shares: above 0, with sum 1, for splits with usable names; or UserError."""
    for split in fractions:
        _check_split(split, "split fractions")
    total = math.fsum(fractions.values())
    # Written so that a nan fails, too.
    if not (min(fractions.values(), default=0) > 0 and abs(total - 1) < 1e-6):
        raise UserError(f"split fractions {dict(fractions)}: need shares above 0 that sum to 1")
    return dict(fractions)


def _row_from_fields(fields: Mapping[str, Any], where: str) -> ManifestRow:
    for column in ("example_id", "media_id", "path"):
        if not fields[column] or "\0" in str(fields[column]):
            raise UserError(f"{where}: {column} is {fields[column]!r}; need a name")
    start = _seconds(fields, "start_seconds", where)
    end = _seconds(fields, "end_seconds", where)
    if start < 0 or end <= start:
        raise UserError(
            f"{where}: got start_seconds {start} and end_seconds {end}; need 0 <= start < end"
        )
    _check_split(fields["split"], where)
    example_id, media_id, path = fields["example_id"], fields["media_id"], fields["path"]
    labels = _labels(fields["labels"], where)
    return ManifestRow(example_id, media_id, path, start, end, fields["split"], labels)


def _seconds(fields: Mapping[str, Any], column: str, where: str) -> float:
    try:
        value = float(fields[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {column} is {fields[column]!r}; need seconds, such as 12.5")
    return value


def _check_split(split: str, where: str) -> None:
    if not _SPLIT.fullmatch(split):
        raise UserError(
            f"{where}: split is {split!r}; need a name of letters, digits and _, such as train"
        )


def is_label(text: str) -> bool:
    """Returns whether a text can be a label: printable, without the mark between two of them."""
    return bool(text.strip()) and text.isprintable() and LABEL_SEPARATOR not in text


def _labels(text: str, where: str) -> tuple[str, ...]:
    if not text:
        return ()
    labels = tuple(text.split(LABEL_SEPARATOR))
    if not all(map(is_label, labels)):
        raise UserError(
            f"{where}: labels is {text!r}; need printable names with {LABEL_SEPARATOR} between them"
        )
    return labels
