"""Results kept on disk under the hash of everything they depend on, so nothing is computed twice.

A key is the hash of the inputs' contents and of a version string; when an input changes the key
changes, so there is nothing to invalidate. Files appear complete or not at all: a run that was
interrupted goes on from what it had finished.
"""

import hashlib
import io
import json
import pathlib
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from l3net import json_files
from l3net.errors import UserError
from l3net.files import regular, write_whole
from l3net.npz_files import ARRAY_ERRORS

_CHECKSUM_BYTES = 4  # CRC-32
_VALUE = "value"
_checked: set[pathlib.Path] = set()


def key_of(*parts: Any) -> str:
    """Returns the key, 64 hexadecimal digits, of a result that depends on these parts alone.

    Args:
        *parts: strings, numbers, or lists and dicts of them; their order matters.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def hash_array(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's type, shape and values, 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def array_path(folder: pathlib.Path, key: str) -> pathlib.Path:
    """Returns the file of a key's array; 256 subfolders keep listings short."""
    return folder / key[:2] / f"{key}.npy"


def write_array(folder: pathlib.Path, key: str, array: np.ndarray) -> None:
    """Keeps an array under a key, with a checksum behind it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    data = buffer.getvalue()
    write_whole(array_path(folder, key), data + _checksum(data))


def read_array(folder: pathlib.Path, key: str) -> np.ndarray | None:
    """Returns the array of a key, mapped from disk (read only), or None if there is none.

    A damaged file counts as none: it is computed and written again. A process compares a file's
    checksum once; files of before there were any have none.
    """
    path = array_path(folder, key)
    try:
        array = np.load(regular(path), mmap_mode="r", allow_pickle=False)
        if path not in _checked:
            if not _is_whole(path.read_bytes(), array.nbytes):
                return None
            _checked.add(path)
        return array
    except (OSError, *ARRAY_ERRORS):
        return None


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")


def _is_whole(data: bytes, num_bytes: int) -> bool:
    """Whether a file of `write_array` with so many bytes of values is as it was written."""
    header_bytes = int.from_bytes(data[8:10], "little") + 10
    if len(data) == header_bytes + num_bytes:  # no checksum
        return True
    return data[-_CHECKSUM_BYTES:] == _checksum(data[:-_CHECKSUM_BYTES])


def write_json(folder: pathlib.Path, key: str, value: Any) -> None:
    """Keeps a value that JSON can hold under a key."""
    json_files.write_json(folder / f"{key}.json", {_VALUE: value})


def read_json(folder: pathlib.Path, key: str) -> Any | None:
    """Returns the value of a key, or None if there is none, or none that is whole."""
    try:
        content = json_files.read_json(folder / f"{key}.json", Any, "")
    except (FileNotFoundError, UserError):
        return None
    if not isinstance(content, dict) or _VALUE not in content:
        return content  # of before there were checksums
    return content[_VALUE] if len(content) == 1 else None


def remembered(
    cache_dir: str | pathlib.Path, key: str, compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Returns the result of a key with "seconds"; computes, times and keeps it if there is none."""
    folder = pathlib.Path(cache_dir) / "results"
    result = read_json(folder, key)
    if result is None:
        started = time.monotonic()
        result = {**compute(), "seconds": round(time.monotonic() - started, 1)}
        write_json(folder, key, result)
    return result
