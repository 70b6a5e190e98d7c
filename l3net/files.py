"""Files written whole, then given their name: nobody ever sees half of one. CSV, hashes."""

import contextlib
import csv
import hashlib
import io
import os
import pathlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

_READ_BYTES = 1 << 18


def write_whole(path: str | pathlib.Path, data: str | bytes) -> None:
    """Writes a file so that it is never seen in part, even after a power cut.

    Args:
        path: of the file, replaced if it exists; its folder is made if need be.
        data: its contents; text is written as UTF-8.
    """
    with _whole(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_csv(path: str | pathlib.Path, columns: Sequence[str], rows: Iterable[Iterable]) -> None:
    """Writes a table as `write_whole` does, row by row: memory does not grow with it.

    Args:
        path: of the file.
        columns: their names, the first line.
        rows: of cells.
    """
    with _whole(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()


@contextlib.contextmanager
def _whole(path: str | pathlib.Path) -> Iterator[BinaryIO]:
    """Yields a file to write, which gets its name when it is safe on disk."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Drawn: two processes, on one machine or two, that write the same file share no half of it.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sha256_of(path: str | pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hexadecimal digits; memory stays small."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
