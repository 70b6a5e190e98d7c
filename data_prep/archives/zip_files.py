"""The members of a .zip by its directory, entry by entry.

Python's zipfile keeps an object per member, over a gigabyte for two million, in every process that
reads one of them. Here the directory is read once, and a member by its place.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from data_prep.archives.members import MAX_MEMBER_BYTES, Damage, Member, checked_name
from l3net.errors import first_line

# APPNOTE.TXT 4.3.7, 4.3.12, 4.3.14 to 4.3.16; 0xFFFFFFFF: the number is in the zip64 part.
_LOCAL = struct.Struct("<4s22xHH")
_ENTRY = struct.Struct("<4s4xHH4xLLLHHH4xLL")
_END = struct.Struct("<4s8xLLH")
_END_64 = struct.Struct("<4s36xQQ")
_LOCATOR_64 = struct.Struct("<4s16x")
_ELSEWHERE, _ZIP_64 = 0xFFFFFFFF, 1
_MAX_COMMENT_BYTES = 1 << 16
_ENCRYPTED, _UTF_8 = 0x41, 0x800
_STORED, _DEFLATED = 0, 8
_FOLDER, _FILE = 0o04, 0o10  # a Unix file's type, the upper bits of its mode
_MAX_RATIO = 100  # videos do not shrink: beyond it is a bomb (our choice)
_READ_BYTES = 1 << 20


def members(file: BinaryIO) -> Iterator[Member]:
    """Yields the members in the order of the directory, but for folders.

    Raises:
        Damage: if the directory, which is at the end, is cut off or damaged.
        OSError: if the disk refuses.
    """
    num = 0
    try:
        start, end, shift = _directory(file)
        file.seek(start)
        last = start
        while start < end:
            fields = _ENTRY.unpack(file.read(_ENTRY.size))
            if fields[0] != b"PK\1\2":
                raise Damage("no entry of its directory")
            num_name, num_extra, num_comment = fields[6:9]
            name, extra = file.read(num_name), file.read(num_extra)
            file.seek(num_comment, 1)
            start += _ENTRY.size + num_name + num_extra + num_comment
            num += 1
            if not name.endswith(b"/"):
                yield _member(fields, name, extra, shift, last)
    except Damage as error:
        raise Damage(f"{error}, after {num} members") from error
    except (ValueError, struct.error) as error:
        raise Damage(f"{first_line(error)}, after {num} members") from error


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Returns where the directory begins and ends, and what to add to the offsets in it."""
    num_bytes = file.seek(0, 2)
    file.seek(max(0, num_bytes - _END.size - _MAX_COMMENT_BYTES))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise Damage("its directory is not there: cut off, or no zip file")
    end = num_bytes - len(tail) + at
    _, size, offset, _ = _END.unpack_from(tail, at)
    before = _END_64.size + _LOCATOR_64.size
    if end >= before:
        file.seek(end - before)
        head = file.read(before)
        if head[:4] == b"PK\6\6" and head[_END_64.size :][:4] == b"PK\6\7":
            _, size, offset = _END_64.unpack_from(head)
            end -= before
    if size > end:
        raise Damage("its directory is larger than the file")
    return end - size, end, end - size - offset


def _member(fields: tuple, raw_name: bytes, extra: bytes, shift: int, last: int) -> Member:
    _, flags, method, crc, num_stored, num_bytes, *_, attributes, offset = fields
    text = raw_name.decode("utf-8" if flags & _UTF_8 else "cp437", "surrogateescape")
    name, refusal = checked_name(text)
    wide = _wide_numbers(extra)
    num_bytes, num_stored, offset = (
        next(wide, 0) if number == _ELSEWHERE else number
        for number in (num_bytes, num_stored, offset)
    )
    kind = attributes >> 28
    if not refusal and kind not in (0, _FILE):
        refusal = "a link" if kind == 0o12 else "not a regular file"
    elif not refusal and flags & _ENCRYPTED:
        refusal = "encrypted"
    elif not refusal and method not in (_STORED, _DEFLATED):
        refusal = f"compressed by method {method}; stored and deflated members are read"
    elif not refusal and num_bytes > min(MAX_MEMBER_BYTES, _MAX_RATIO * num_stored + _READ_BYTES):
        refusal = f"{num_bytes} bytes of {num_stored}; at most {MAX_MEMBER_BYTES} are read, and "
        refusal += f"{_MAX_RATIO} times what is stored"
    elif not refusal and not 0 <= offset + shift < last:
        refusal = f"at {offset}, beyond the archive's members"
    if refusal:
        return Member(name, refusal=refusal)
    return Member(name, offset + shift, num_bytes, min(num_stored, last), method == _DEFLATED, crc)


def _wide_numbers(extra: bytes) -> Iterator[int]:
    """Yields the numbers of 8 bytes in a member's zip64 part."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _ZIP_64:
            part = extra[4 : 4 + size]
            yield from (number for (number,) in struct.iter_unpack("<Q", part[: size // 8 * 8]))
            return
        extra = extra[4 + size :]


def content(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Yields the content of a member in pieces, never more than it should have.

    Raises:
        Damage: if it is not there, or not what its CRC was made of.
    """
    file.seek(member.offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
        raise Damage("no member where the directory says")
    _, num_name, num_extra = _LOCAL.unpack(head)
    file.seek(num_name + num_extra, 1)
    crc, left = 0, member.num_bytes
    for piece in _inflated(file, member) if member.is_deflated else _stored(file, member):
        left -= len(piece)
        if left < 0:
            break
        crc = zlib.crc32(piece, crc)
        yield piece
    if left or crc != member.crc:
        raise Damage("its content is cut off or damaged (CRC)")


def _stored(file: BinaryIO, member: Member) -> Iterator[bytes]:
    left = member.num_stored
    while left and (piece := file.read(min(left, _READ_BYTES))):
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, member: Member) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for stored in _stored(file, member):
            while stored and not inflater.eof:
                yield inflater.decompress(stored, _READ_BYTES)
                stored = inflater.unconsumed_tail
            if inflater.eof:
                break
        yield inflater.flush()
    except zlib.error as error:
        raise Damage(first_line(error)) from error
