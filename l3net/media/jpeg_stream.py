"""JPEGs that follow each other, as ffmpeg writes them: taken apart, and their sizes."""

import re
from collections.abc import Iterator

# In the coded part 0xff precedes 0 (a stuffed byte) or a restart mark, or begins a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


def split_jpegs(stream: bytes | bytearray) -> list[bytes]:
    """Splits JPEGs; an incomplete last one is left out; ValueError if something else is there."""
    jpegs, start, view = [], 0, memoryview(stream)
    while start < len(stream):
        if view[start : start + 2] != b"\xff\xd8":
            raise ValueError(f"no JPEG starts at byte {start} of the stream")
        end = _jpeg_end(stream, start + 2)
        if end is None:
            break
        jpegs.append(bytes(view[start:end]))
        start = end
    return jpegs


def _jpeg_end(stream: bytes | bytearray, start: int) -> int | None:
    for marker, position, _ in _segments(stream, start):
        if marker == _END_OF_IMAGE:
            return position
    return None


def _segments(stream: bytes | bytearray, position: int) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, position of its content, size of its content)."""
    match = _MARKER.search(stream, position)
    while match:
        marker, position = match[0][1], match.end()
        size = 0
        if marker != _END_OF_IMAGE:
            size = int.from_bytes(stream[position : position + 2], "big")
        yield marker, position, size
        match = _MARKER.search(stream, position + size)


def jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Returns (height, width) in pixels from a JPEG's header; ValueError if there is none."""
    for marker, position, _ in _segments(jpeg, 2):
        if 0xC0 <= marker <= 0xC3:  # start of frame: length, precision, height, width
            height = int.from_bytes(jpeg[position + 3 : position + 5], "big")
            return height, int.from_bytes(jpeg[position + 5 : position + 7], "big")
        if marker == _START_OF_SCAN:
            break
    raise ValueError("JPEG without a frame header")
