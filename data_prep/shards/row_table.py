"""The rows of a run, and at its end what became of them: one SQLite file beside the shards.

Whoever plans a run reads it row by row, whoever writes a shard reads that shard's rows, so nobody
holds all of them. It is made again by every run and deleted at its end.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import pathlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from data_prep.lists import manifest
from data_prep.lists.manifest import LABEL_SEPARATOR, ManifestRow
from data_prep.shards.clip_records import Outcome
from l3net.errors import UserError
from l3net.files import temporary_name
from l3net.progress import track

OUTCOME_COLUMNS = tuple(field.name for field in dataclasses.fields(Outcome))
_FILE = "rows.sqlite"
_CACHE_KIB = 64 << 10
# The columns have no type: SQLite keeps numbers and texts as they are given.
_COLUMNS = ", ".join(manifest.COLUMNS)
_TABLES = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE rows ({_COLUMNS}, line, PRIMARY KEY (example_id)) WITHOUT ROWID;
CREATE TABLE shards (name, example_id, PRIMARY KEY (name, example_id)) WITHOUT ROWID;
CREATE TABLE outcomes ({", ".join(OUTCOME_COLUMNS)}, PRIMARY KEY (example_id)) WITHOUT ROWID;
"""
_LEAKS = """
SELECT count(*), min(media_id) FROM (
    SELECT media_id FROM rows GROUP BY media_id HAVING min(split) != max(split))
"""
_OF_SHARD = f"""
SELECT {_COLUMNS} FROM shards JOIN rows USING (example_id) WHERE name = ? ORDER BY example_id
"""
_log = logging.getLogger(__name__)


class RowTable:
    """The rows of a run; from `opened`.

    Attributes:
        path: its file, for `rows_of`.
        labels: all that the rows have.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.labels: set[str] = set()
        self._table = _connected(path, "nolock=1")  # the folder is locked
        self._table.executescript(_TABLES)

    def close(self) -> None:
        """Closes it; its file stays."""
        self._table.close()

    # --- Rows ------------------------------------------------------------------------------------
    def add_manifest(self, path: str | pathlib.Path) -> None:
        """Adds the rows of a manifest; warns if a video is in several splits.

        Raises:
            UserError: as `manifest.read_manifest`, if there is no row, and if an example_id comes
                twice.
        """
        rows = track(manifest.read_manifest(path), "reading the manifest", unit="row")
        for line, row in rows:
            try:
                self._add(row, line)
            except sqlite3.IntegrityError:
                first = "SELECT line FROM rows WHERE example_id = ?"
                ((first_line,),) = self._table.execute(first, (row.example_id,))
                raise UserError(
                    f"{path}, line {line}: example_id {row.example_id!r} was used in line "
                    f"{first_line} already; every row needs its own"
                ) from None
        if not self.num_clips():
            raise UserError(f"{path} has no rows under its column names; need at least one clip")
        ((num_leaks, leak),) = self._table.execute(_LEAKS)
        if num_leaks:
            _log.warning(
                f"{path}: {num_leaks} videos have clips in several splits (first: {leak}), so "
                "test clips may resemble training clips"
            )

    def add_rows(self, rows: Iterable[ManifestRow]) -> None:
        """Adds rows, each with an example_id of its own."""
        for row in rows:
            self._add(row)

    def _add(self, row: ManifestRow, line: int = 0) -> None:
        self.labels.update(row.labels)
        values = [getattr(row, column) for column in manifest.COLUMNS[:-1]]
        values += [LABEL_SEPARATOR.join(row.labels), line]
        self._table.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def num_clips(self) -> dict[str, int]:
        """Returns split -> rows, without the splits that have none."""
        return dict(self._table.execute("SELECT split, count(*) FROM rows GROUP BY split"))

    def paths(self) -> Iterator[str]:
        """Yields the rows' paths."""
        return (path for (path,) in self._table.execute("SELECT path FROM rows"))

    def rows(self) -> Iterator[ManifestRow]:
        """Yields the rows, sorted by example_id."""
        return map(_row, self._table.execute(f"SELECT {_COLUMNS} FROM rows ORDER BY example_id"))

    def hash(self) -> str:
        """Returns 16 hex digits that depend on the rows, not on their order."""
        digest, separator = hashlib.sha256(b"["), ""
        for row in self.rows():
            fields = [getattr(row, column) for column in manifest.COLUMNS]
            digest.update(f"{separator}{json.dumps(fields)}".encode())
            separator = ", "
        digest.update(b"]")
        return digest.hexdigest()[:16]

    # --- Shards ----------------------------------------------------------------------------------
    def place(self, shard_of: Callable[[ManifestRow], str]) -> None:
        """Puts every row into the shard whose name the function returns; see `rows_of`."""
        placed = ((shard_of(row), row.example_id) for row in self.rows())
        self._table.executemany("INSERT INTO shards VALUES (?, ?)", placed)
        self._table.commit()

    def num_rows(self) -> dict[str, int]:
        """Returns name of a shard -> rows, without the shards that have none."""
        return dict(self._table.execute("SELECT name, count(*) FROM shards GROUP BY name"))

    # --- Outcomes --------------------------------------------------------------------------------
    def add_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Adds what became of the rows, in any order; of two of an example_id the first counts."""
        marks = ", ".join("?" * len(OUTCOME_COLUMNS))
        values = (tuple(vars(outcome).values()) for outcome in outcomes)
        self._table.executemany(f"INSERT OR IGNORE INTO outcomes VALUES ({marks})", values)

    def outcomes(self) -> Iterator[Sequence]:
        """Yields the values of OUTCOME_COLUMNS, sorted by example_id."""
        yield from self._table.execute("SELECT * FROM outcomes ORDER BY example_id")

    def counts(self) -> tuple[Counter, float]:
        """Returns (outcome, reason) -> rows, and the seconds of all clips."""
        found = self._table.execute(
            "SELECT outcome, reason, count(*), total(seconds) FROM outcomes GROUP BY 1, 2"
        ).fetchall()
        counts = Counter({(outcome, reason): num for outcome, reason, num, _ in found})
        return counts, sum(seconds for *_, seconds in found)


@contextlib.contextmanager
def opened(folder: pathlib.Path) -> Iterator[RowTable]:
    """Yields an empty table in a folder, which nobody else uses; deletes it, and what is left over.

    Raises:
        UserError: if it cannot be written.
    """
    for leftover in folder.glob(f".{_FILE}.*.tmp*"):
        leftover.unlink(missing_ok=True)
    path = temporary_name(folder / _FILE)
    try:
        with contextlib.closing(RowTable(path)) as table:
            yield table
    except sqlite3.Error as error:
        raise UserError(
            f"cannot write the table of rows in {folder}: {error}; make room there and run the "
            "same command again"
        ) from error
    finally:
        path.unlink(missing_ok=True)


def rows_of(path: pathlib.Path, shard: str) -> list[ManifestRow]:
    """Returns the rows of one shard, sorted by example_id, from the table's file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        # Without locks, which network file systems may lack.
        with contextlib.closing(_connected(path, "mode=ro&immutable=1")) as table:
            return list(map(_row, table.execute(_OF_SHARD, (shard,))))
    except sqlite3.Error as error:
        raise UserError(f"cannot read the table of rows {path}: {error}") from error


def _connected(path: pathlib.Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)


def _row(values: Sequence) -> ManifestRow:
    example_id, media_id, path, start, end, split, text = values
    labels = tuple(text.split(LABEL_SEPARATOR)) if text else ()
    return ManifestRow(example_id, media_id, path, start, end, split, labels)
