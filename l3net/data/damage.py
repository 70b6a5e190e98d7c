"""Damage in TFRecord files that are read: one line that names file and record."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import tensorflow as tf

from l3net.data.storage import Location, RemotePath
from l3net.errors import UserError, first_line

_Batch = TypeVar("_Batch")
# A record's length; with its checksum; with that of the record, too.
_LENGTH_BYTES, _HEAD_BYTES, _FRAME_BYTES = 8, 12, 16
_NODE = re.compile(r"\{\{.*?\}\}\s*")  # which operation of TensorFlow's it was
_OURS = re.compile(r"ValueError: (shard .+)")  # from `PartialRecords`, within TensorFlow's error
_POSITION = re.compile(r"(?:corrupted|truncated) record at (\d+)")


def checked(batches: Iterable[_Batch], paths: Sequence[Location]) -> Iterator[_Batch]:
    """Yields batches that are made of the records of some files.

    Raises:
        UserError: naming file and record, if one cannot be read.
    """
    left = iter(batches)
    while True:
        try:
            batch = next(left)
        except StopIteration:
            return
        except (
            tf.errors.DataLossError,
            tf.errors.InvalidArgumentError,
            tf.errors.UnknownError,
        ) as error:
            raise UserError(_say(str(error), paths)) from error
        yield batch


def _say(text: str, paths: Sequence[Location]) -> str:
    if match := _OURS.search(text):
        return match[1].strip()
    folder, text = paths[0].parent, _NODE.sub("", text)
    where = f"a record of {folder}"
    if match := _POSITION.search(text):
        for path in paths:
            if (number := _number_at(path, int(match[1]))) is not None and _is_damaged(path):
                where = f"record {number} of {path}"
                break
    return (
        f"{where} is damaged ({first_line(RuntimeError(text))[:150]}); "
        f"data_prep.verify_shards --shards_dir={folder} finds every one, write_shards mends it"
    )


def num_records(path: Location) -> int:
    """Counts the records of a TFRecord file by their lengths; ValueError if it is cut off."""
    return sum(1 for _ in _starts(path))


def _number_at(path: Location, position: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, tf.errors.OpError):
        for number, start in enumerate(_starts(path)):
            if position in (start, start + _HEAD_BYTES):  # the length's checksum, or the record's
                return number
    return None


def _is_damaged(path: Location) -> bool:
    try:
        for _ in tf.data.TFRecordDataset(str(path)):
            pass
    except tf.errors.OpError:
        return True
    return False


def _starts(path: Location) -> Iterator[int]:
    """Yields where each record begins."""
    end = path.num_bytes() if isinstance(path, RemotePath) else path.stat().st_size
    with path.open() if isinstance(path, RemotePath) else open(path, "rb") as file:
        position = 0
        while position < end:
            file.seek(position)
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            yield position
            position += _FRAME_BYTES + length
        if position != end:
            raise ValueError(f"{path} is cut off")
