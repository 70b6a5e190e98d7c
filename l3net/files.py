"""Files written completely, then given their name: nobody ever sees half of one. CSV, hashes.

Also what a disk may refuse, and the lock of a folder.
"""

import contextlib
import csv
import errno
import fcntl
import hashlib
import logging
import os
import pathlib
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence

from l3net.errors import UserError, first_line

_READ_BYTES = 1 << 18
_LOCK_FILE = ".lock"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR}
# Libraries put the system's words into errors of their own; the last is SQLite's.
_WORDS = (*map(os.strerror, sorted(_FULL)), "disk is full")
_log = logging.getLogger(__name__)


class CannotWriteError(UserError):
    """The disk is full, read-only or of another user: so it is for the next file, too."""


@contextlib.contextmanager
def disk_errors(path: str | pathlib.Path) -> Iterator[None]:
    """Turns what a disk refuses while something is written into one line; see `CannotWriteError`.

    Args:
        path: what is written.
    """
    try:
        yield
    except CannotWriteError:
        raise
    except Exception as error:
        if not _is_refusal(error, pathlib.Path(path)):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CannotWriteError(
            f"cannot write {path}: {reason}; make room, or name a folder that can be written, and "
            "run the same command again"
        ) from error


def _is_refusal(error: Exception, path: pathlib.Path) -> bool:
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        named = pathlib.Path(os.fsdecode(error.filename or ""))
        return named.parent == path.parent or named in path.parents  # and not what is read
    known = isinstance(error, OSError) and error.errno in _FULL
    return known or any(words in str(error) for words in _WORDS)


@contextlib.contextmanager
def locked(folder: str | pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of a folder, which is made if need be.

    The system drops the lock when the process ends, however it ends. Over NFS it needs a server
    with locks; a file system without them is named in the log, and nothing is locked there.

    Raises:
        UserError: if another process has it, or the folder cannot be written.
    """
    folder = pathlib.Path(folder)
    is_new = not folder.exists()
    path = folder / _LOCK_FILE
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at work in {folder}; wait for it, or name another folder"
            ) from None
        except OSError as error:
            _log.warning(
                "the file system of %s has no locks (%s): see to it that one process alone works "
                "there",
                folder,
                error.strerror,
            )
        try:
            yield
        finally:
            if is_new and [each.name for each in folder.iterdir()] == [_LOCK_FILE]:
                path.unlink()  # nothing came of it
                folder.rmdir()


@contextlib.contextmanager
def written_whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to write a file to, which gets its own name when it is safe on disk.

    It is never seen in part, even after a power cut; if writing fails, nothing changes.

    Args:
        path: replaced if it exists; its folder is made if need be.

    Raises:
        CannotWriteError: if the disk refuses.
    """
    path = pathlib.Path(path)
    partial = temporary_name(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


def temporary_name(path: pathlib.Path) -> pathlib.Path:
    """Draws a name beside a file's, for what is not complete yet: `.NAME.0123456789abcdef.tmp`.

    Two processes, on one machine or two, that write the same file share no half of it, and nobody
    can have put a link there. A name has at most 255 bytes, so a long one is cut.
    """
    name = os.fsdecode(os.fsencode(path.name)[:200])
    return path.with_name(f".{name}.{secrets.token_hex(8)}.tmp")


def is_utf8(name: str) -> bool:
    """Returns whether a name can be written to a list, and TensorFlow can open it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_for_weights(folder: str | os.PathLike) -> None:
    """Raises UserError if TensorFlow would find no weights in a folder of this path.

    It takes the path for a pattern, in which [ and the backslash mean something else.
    """
    if set("[\\") & set(str(folder)):
        raise UserError(
            f"{folder}: TensorFlow finds no weights below a folder with [ or \\ in its name; "
            "rename it"
        )


def write_whole(path: str | pathlib.Path, data: str | bytes) -> None:
    """Writes a file's content as `written_whole` does; text as UTF-8."""
    with written_whole(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


def regular(path: str | pathlib.Path) -> str | pathlib.Path:
    """Returns the path of a file that ends; OSError if it is a pipe or a device, or not there."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # to open a folder is an error, too
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return path


def read_text(path: str | pathlib.Path, advice: str) -> str:
    """Reads a file of UTF-8 text; raises UserError, with the advice, if it is none."""
    try:
        return pathlib.Path(regular(path)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"cannot read {path} ({reason}); {advice}") from error


def write_csv(path: str | pathlib.Path, columns: Sequence[str], rows: Iterable[Iterable]) -> None:
    """Writes a table as `written_whole` does, row by row: memory does not grow with it."""
    with written_whole(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def sha256_of(path: str | pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hexadecimal digits; memory stays small."""
    digest = hashlib.sha256()
    with open(regular(path), "rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
