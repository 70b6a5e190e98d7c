"""Files written whole, then given their name: nobody ever sees half of one. CSV text, hashes."""

import csv
import hashlib
import io
import os
import pathlib
import secrets
from collections.abc import Iterable, Sequence

_READ_BYTES = 1 << 18


def write_whole(path: str | pathlib.Path, data: str | bytes) -> None:
    """Writes a file so that it is never seen in part, even after a power cut.

    Args:
        path: of the file, replaced if it exists; its folder is made if need be.
        data: its contents; text is written as UTF-8.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Drawn: two processes, on one machine or two, that write the same file share no half of it.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(partial, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def csv_text(columns: Sequence[str], rows: Iterable[Iterable]) -> str:
    """Returns a table as CSV: a line of column names, then the rows, each ended by a newline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def sha256_of(path: str | pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hexadecimal digits; memory stays small."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
