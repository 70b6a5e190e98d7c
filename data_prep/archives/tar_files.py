"""The members of a .tar or .tar.gz, by Python's tarfile, in bounded memory."""

import contextlib
import io
import pathlib
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from data_prep.archives.members import MAX_MEMBER_BYTES, Damage, Member, checked_name
from l3net.errors import first_line, needs_extra

_MAX_PADDING_BYTES = 1 << 20  # zeros behind the last member
_MAX_HEADER_BYTES = 1 << 20  # of one member, with all that names it; tarfile itself has no limit
# Of a .tar.gz. Between two points where reading may begin lie so many bytes, or more in a large
# file: each point takes 32 KiB, and all are in memory while a member is read.
_LEAST_SPACING_BYTES, _MAX_POINTS = 4 << 20, 1024
_READ_BYTES = 1 << 18
# Videos do not shrink: what becomes larger than this is a bomb (our choice).
_MAX_RATIO, _ALWAYS_ALLOWED_BYTES = 10, 64 << 20


def members(file: BinaryIO, limit_bytes: float = float("inf")) -> Iterator[Member]:
    """Yields the members of a tar file in its order, but for folders.

    Args:
        file: the tar, decompressed, at its beginning.
        limit_bytes: how much of it may be read; only what must be decompressed has a limit.

    Raises:
        Damage: where it is cut off or damaged, or claims more than the limit.
        OSError: if the disk refuses.
    """
    headers, num = _Headers(file), 0
    try:
        tar: Any = tarfile.TarFile(fileobj=cast(Any, headers), encoding="utf-8")
        while (info := tar.next()) is not None:
            member = _member(info)
            if info.size < 0 or tar.offset <= info.offset:
                raise Damage(f"{info.name!r:.100} has a size of {info.size}")
            if info.isreg() and not info.issparse():
                _check_end(file, info, limit_bytes)
            num += 1
            if not info.isdir():
                yield member
            tar.members.clear()  # else it keeps them all
            tar.pax_headers = {}
            headers.left = _MAX_HEADER_BYTES
        file.seek(tar.offset)
        rest = file.read(_MAX_PADDING_BYTES + 1)
        if any(rest) or len(rest) > _MAX_PADDING_BYTES:  # of zeros: not all of it has arrived
            raise Damage("no header where a member should begin")
    except Damage as error:
        raise Damage(f"{error}, after {num} members") from error
    except Exception as error:  # noqa: BLE001  anything may come out of a damaged header
        if getattr(error, "errno", None):  # the disk, not the archive
            raise
        raise Damage(f"{first_line(error)}, after {num} members") from error


def _member(info: tarfile.TarInfo) -> Member:
    name, refusal = checked_name(info.name)
    if not refusal and (info.issym() or info.islnk()):
        refusal = "a link"
    elif not refusal and (not info.isreg() or info.issparse()):
        refusal = "not a regular file"
    elif not refusal and info.size > MAX_MEMBER_BYTES:
        refusal = f"{info.size} bytes; at most {MAX_MEMBER_BYTES} are read"
    if refusal:
        return Member(name, refusal=refusal)
    return Member(name, info.offset_data, info.size, info.size)


def _check_end(file: BinaryIO, info: tarfile.TarInfo, limit_bytes: float) -> None:
    """Raises Damage unless a member's last byte is there and may be read."""
    last = info.offset_data + info.size - 1
    if last >= limit_bytes:
        raise Damage(f"{info.name!r:.100} of {info.size} bytes is too much for its archive")
    if info.size and (file.seek(last) != last or not file.read(1)):
        raise Damage(f"cut off in {info.name!r:.100}")


class _Headers:
    """What tarfile may read of a file: so many bytes for one member's headers."""

    def __init__(self, file: BinaryIO) -> None:
        self.left = _MAX_HEADER_BYTES
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, num_bytes: int) -> bytes:
        if not 0 <= num_bytes <= self.left:
            raise Damage("a header is too large")
        self.left -= num_bytes
        return self._file.read(num_bytes)


# --- .tar.gz -------------------------------------------------------------------------------------
@contextlib.contextmanager
def opened_gzip(path: pathlib.Path, points: bytes | None = None) -> Iterator[Any]:
    """Opens what a gzip file holds for reading at any place.

    Args:
        path: the gzip file.
        points: where reading may begin, from `exported_points`; None if that is not known. They
            are found as the file is read for the first time.

    Raises:
        UserError: if indexed_gzip is not installed.
    """
    with needs_extra("prep", f"reading {path.name}"):
        import indexed_gzip
    spacing = max(_LEAST_SPACING_BYTES, path.stat().st_size // _MAX_POINTS)
    file = indexed_gzip.IndexedGzipFile(
        str(path),
        spacing=spacing,
        readbuf_size=_READ_BYTES,
        buffer_size=_READ_BYTES,
        drop_handles=False,
    )
    with contextlib.closing(file):
        if points is not None:
            file.import_index(fileobj=io.BytesIO(points))
        yield file


def gzip_limit_bytes(num_bytes: int) -> int:
    """Returns how much may come out of a .tar.gz of so many bytes."""
    return _MAX_RATIO * num_bytes + _ALWAYS_ALLOWED_BYTES


def exported_points(file: Any) -> bytes:
    """Returns where reading may begin in what `opened_gzip` opened, as far as it was read."""
    points = io.BytesIO()
    file.export_index(fileobj=points)
    return points.getvalue()
