"""One member of an archive as a file for as long as it is wanted."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import BinaryIO, cast

from data_prep.archives import tar_files, zip_files
from data_prep.archives.member_index import Index, Place
from data_prep.archives.members import Damage, Member
from l3net.errors import first_line
from l3net.media.ffmpeg import MediaError

_PREFIX = ".member-"
LEFTOVERS = f"{_PREFIX}*"  # of runs that were killed, in the folder of the copies
_READ_BYTES = 1 << 20


@contextlib.contextmanager
def copied(path: str, place: Place, index: Index, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Copies a member's content to a file of a drawn name, which is deleted afterwards.

    Raises:
        MediaError: "refused" if the member is no file for us, "damaged" if its content is not there
            or the archive has changed since it was indexed.
    """
    if place.member.refusal:
        raise MediaError(path, "failed", "refused", place.member.refusal)
    suffix = os.path.splitext(path)[1][:16]  # ffmpeg looks at it
    copy = folder / f"{_PREFIX}{secrets.token_hex(8)}{suffix}"
    try:
        with open(copy, "xb") as file:
            pieces = _content(place, index)
            while (piece := _next(pieces, path, place)) is not None:
                file.write(piece)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _next(pieces: Iterator[bytes], path: str, place: Place) -> bytes | None:
    """Returns the next piece, None at the end; what the archive does is no fault of the disk."""
    try:
        return next(pieces, None)
    except (Damage, OSError, EOFError) as error:
        detail = f"{place.archive.name}: {getattr(error, 'strerror', None) or first_line(error)}"
        raise MediaError(path, "failed", "damaged", detail) from error


def _content(place: Place, index: Index) -> Iterator[bytes]:
    """Yields the content of a member; Damage or OSError if it is not there."""
    with open(place.archive, "rb", buffering=0) as raw:
        status = os.fstat(raw.fileno())
        if (status.st_size, status.st_mtime_ns) != (place.num_bytes, place.time_ns):
            raise Damage("changed since its index was made; run the same command again")
        points = index.points(place.archive_id)
        if place.member.crc >= 0:
            yield from zip_files.content(cast(BinaryIO, raw), place.member)
        elif points is None:
            yield from _range(cast(BinaryIO, raw), place.member)
        else:
            with tar_files.opened_gzip(place.archive, points) as file:
                yield from _range(file, place.member)


def _range(file: BinaryIO, member: Member) -> Iterator[bytes]:
    file.seek(member.offset)
    left = member.num_bytes
    while left:
        piece = file.read(min(left, _READ_BYTES))
        if not piece:
            raise Damage("cut off")
        left -= len(piece)
        yield piece
