"""Files written completely, then given their name: nobody ever sees half of one. CSV, hashes."""

import contextlib
import csv
import hashlib
import os
import pathlib
import secrets
from collections.abc import Iterable, Iterator, Sequence

_READ_BYTES = 1 << 18


@contextlib.contextmanager
def written_whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to write a file to, which gets its own name when it is safe on disk.

    It is never seen in part, even after a power cut; if writing fails, nothing changes.

    Args:
        path: replaced if it exists; its folder is made if need be.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Drawn: two processes, on one machine or two, that write the same file share no half of it.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: str | pathlib.Path, data: str | bytes) -> None:
    """Writes a file's content as `written_whole` does; text as UTF-8."""
    with written_whole(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


def write_csv(path: str | pathlib.Path, columns: Sequence[str], rows: Iterable[Iterable]) -> None:
    """Writes a table as `written_whole` does, row by row: memory does not grow with it."""
    with written_whole(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def sha256_of(path: str | pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hexadecimal digits; memory stays small."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
