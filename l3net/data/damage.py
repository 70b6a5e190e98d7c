"""TFRecord files that are damaged or out of reach: one line that names file and record."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import tensorflow as tf

from l3net.data.storage import Location, RemotePath
from l3net.errors import UserError, first_line
from l3net.files import regular

_Batch = TypeVar("_Batch")
# A record's length; with its checksum; with that of the record, too.
_LENGTH_BYTES, _HEAD_BYTES, _FRAME_BYTES = 8, 12, 16
_OURS = re.compile(r"UserError: (.+)")  # from `PartialRecords`, within TensorFlow's error
# What reading ends with: of a damaged record, of a file that is gone or forbidden, and of one at an
# address that does not answer. The last are a lost worker's errors, too: they count there alone.
_DAMAGED = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.UnknownError)
_GONE = (
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
)
_NO_ANSWER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.DeadlineExceededError,
)
_POSITION = re.compile(r"(?:corrupted|truncated) record at (\d+)")


def checked(batches: Iterable[_Batch], paths: Sequence[Location]) -> Iterator[_Batch]:
    """Yields batches that are made of the records of some files.

    Raises:
        UserError: naming file and record, if one cannot be read.
    """
    is_remote = any(isinstance(path, RemotePath) for path in paths)
    expected = (*_DAMAGED, *_GONE, *(_NO_ANSWER if is_remote else ()))
    left = iter(batches)
    while True:
        try:
            batch = next(left)
        except StopIteration:
            return
        except expected as error:
            raise UserError(_say(error, paths, is_remote=is_remote)) from error
        yield batch


def say_damaged(where: str, problem: str, folder: Location) -> str:
    """Returns the line for a record that cannot be used.

    Args:
        where: "record 3 of" a file, or what is known of it.
        problem: what is wrong with it.
        folder: the prepared folder.
    """
    return (
        f"{where} is damaged ({problem}); data_prep.verify_shards --shards_dir={folder} finds "
        "every one, write_shards mends it"
    )


def say_unreadable(what: object, problem: str) -> str:
    """Returns the line for shards that are gone, forbidden or behind a lost connection."""
    return (
        f"cannot read {what} ({problem}); see to it that it can be read and run the same command "
        "again: training goes on from its last checkpoint"
    )


def _say(error: tf.errors.OpError, paths: Sequence[Location], *, is_remote: bool) -> str:
    text = str(error)
    if match := _OURS.search(text):
        return match[1].strip()
    folder, problem = paths[0].parent, first_line(error).lstrip(": ")[:150]
    if not isinstance(error, _DAMAGED) or (is_remote and isinstance(error, tf.errors.UnknownError)):
        return say_unreadable(paths[0] if len(paths) == 1 else folder, problem)
    where = f"a record of {folder}"
    if match := _POSITION.search(text):
        for path in paths:
            if (number := _number_at(path, int(match[1]))) is not None and _is_damaged(path):
                where = f"record {number} of {path}"
                break
    return say_damaged(where, problem, folder)


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
    with path.open() if isinstance(path, RemotePath) else open(regular(path), "rb") as file:
        position = 0
        while position < end:
            file.seek(position)
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            yield position
            position += _FRAME_BYTES + length
        if position != end:
            raise ValueError(f"{path} is cut off")
