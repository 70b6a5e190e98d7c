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
from collections.abc import Callable
from typing import Any

import numpy as np

from l3net.files import write_whole


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
    """Keeps an array under a key."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_whole(array_path(folder, key), buffer.getvalue())


def read_array(folder: pathlib.Path, key: str) -> np.ndarray | None:
    """Returns the array of a key, mapped from disk (read only), or None if there is none."""
    path = array_path(folder, key)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None  # a damaged file counts as absent: it is computed and written again


def write_json(folder: pathlib.Path, key: str, value: Any) -> None:
    """Keeps a value that JSON can hold under a key."""
    write_whole(folder / f"{key}.json", json.dumps(value).encode())


def read_json(folder: pathlib.Path, key: str) -> Any | None:
    """Returns the value of a key, or None if there is none."""
    try:
        return json.loads((folder / f"{key}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None


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
