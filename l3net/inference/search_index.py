"""An index of embeddings in one SQLite file: files are added one by one and found by distance.

`index.sqlite` holds a row of `about` (the network's fingerprint, how entries are made), a row of
`file` per file and a row of `part` per stream of a file: float32 vectors [rows, D] of length 1, one
after another. A file is added in one transaction, so a process that dies leaves the index as it was
before the file in work. docs/search_engines.md compares SQLite with other engines.

Distances are Euclidean, as AVE-Net compares embeddings (OTS §3), in [0, 2]. All are computed.
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from scipy.spatial import distance

from l3net.errors import UserError, first_line
from l3net.files import disk_errors, locked, written_whole
from l3net.json_files import check, parse, plain, read_json, read_lines
from l3net.media.file_kinds import IMAGE, SOUND

MODALITIES = (SOUND, IMAGE)
_FORMAT = 2
_DATABASE = "index.sqlite"
_CONFIG_1 = "index.json"  # of an index of format 1
_SCHEMA = f"""
PRAGMA page_size = 32768;
CREATE TABLE about (fingerprint TEXT NOT NULL, size INTEGER NOT NULL, settings TEXT NOT NULL);
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL);
CREATE TABLE part (
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES file ON DELETE CASCADE,
    modality TEXT NOT NULL, step_seconds REAL NOT NULL, vectors BLOB NOT NULL);
CREATE INDEX part_file ON part (file);
PRAGMA user_version = {_FORMAT};
"""
_BATCH_BYTES = 1 << 18  # stays in a core's own cache
_BUSY_SECONDS = 60.0
# Files whose scalar products in float32 differ by less are compared again in float64.
_SCORE_ERROR = 1e-5
_MOST_NUMBERS = 1 << 20  # in a vector
_LENGTH_ERROR = 1e-3  # of vectors of length 1
_NOT_OF_LENGTH_1 = "it has vectors that are not of length 1"
_ADVICE = "copy the index again, or name a new --index and --add the files again"
_Row = TypeVar("_Row")

_log = logging.getLogger(__name__)


class _Part(NamedTuple):
    """A stream of a file, as a query reads it."""

    name: bytes
    sha256: str
    kind: Literal["sound", "image", "video"]
    modality: str
    step_seconds: float
    vectors: bytes


@dataclasses.dataclass(frozen=True)
class Hit:
    """A file and its best row.

    Attributes:
        path: where the file was when it was added, as seen from here.
        sha256: the SHA-256 of its content.
        kind: "sound", "image" or "video".
        distance: the row's Euclidean distance, in [0, 2].
        modality: the row's, `SOUND` or `IMAGE`.
        time_seconds: the row's, on the file's own time line.
        query_row: index of the nearest of the query's vectors.
    """

    path: pathlib.Path
    sha256: str
    kind: str
    distance: float
    modality: str
    time_seconds: float
    query_row: int


class SearchIndex:
    """An index in a folder; several processes may query it while one adds.

    Attributes:
        folder: the folder.
        settings: how the entries are made, for later additions and queries.
    """

    def __init__(self, folder: str | pathlib.Path):
        """Opens an index that `create` made; one of format 1 is converted.

        Raises:
            UserError: if there is none, it is damaged or of an unknown format.
        """
        self.folder = pathlib.Path(folder)
        self._path = self.folder / _DATABASE
        if not is_index(folder):
            raise UserError(f"--index={folder} is no index; give --add to make one")
        if not self._path.is_file():
            with locked(self.folder):
                _convert(self.folder)
        with _open(self._path) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != _FORMAT:
                raise UserError(f"{self._path} has format {version}; this version reads {_FORMAT}")
            about = db.execute("SELECT fingerprint, size, settings FROM about").fetchone()
        known = self._checked(about, tuple[str, int, str])
        self._fingerprint, self._size = known[:2]
        self.settings: dict[str, Any] = parse(self._path, known[2], dict[str, Any], _ADVICE)
        if not 0 < self._size <= _MOST_NUMBERS:
            raise self._damaged(f"it has vectors of {self._size} numbers")

    @classmethod
    def create(
        cls, folder: str | pathlib.Path, *, fingerprint: str, size: int, settings: dict[str, Any]
    ) -> "SearchIndex":
        """Makes an empty index of vectors of `size` numbers in a folder that is new or empty.

        Raises:
            UserError: if the folder holds something else or cannot be written.
        """
        folder = pathlib.Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--index={folder} exists and is no index of ours; name a new folder")
        with locked(folder), _new_database(folder, fingerprint, size, settings):
            pass
        return cls(folder)

    def check_network(self, fingerprint: str) -> None:
        """Raises UserError unless the index was made with this network."""
        if self._fingerprint != fingerprint:
            raise UserError(
                f"{self.folder} was made with another network (weights "
                f"{self._fingerprint[:12]}, not {fingerprint[:12]}): its vectors cannot be "
                "compared; give that --saved_model, or another --index"
            )

    def counts(self) -> dict[str, int]:
        """Returns the number of rows of each modality, and of "files"."""
        counts = (
            "SELECT modality, sum(length(vectors)) / ? FROM part GROUP BY modality "
            "UNION SELECT 'files', count(*) FROM file"
        )
        with _open(self._path) as db:
            rows = db.execute(counts, (4 * self._size,)).fetchall()
        kind = list[tuple[Literal["sound", "image", "files"], int | float]]
        counted = {name: int(count) for name, count in self._checked(rows, kind)}
        return dict.fromkeys(MODALITIES, 0) | counted

    # --- Adding ----------------------------------------------------------------------------------
    def adding(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from adding; raises UserError if one does or cannot write."""
        return locked(self.folder)

    def find(self, sha256: str) -> pathlib.Path | None:
        """Returns where the file of this content was when it was added."""
        with _open(self._path) as db:
            row = db.execute("SELECT path FROM file WHERE sha256 = ?", (sha256,)).fetchone()
        return self._path_of(*self._checked(row, tuple[bytes])) if row else None

    def add(
        self,
        path: pathlib.Path,
        *,
        sha256: str,
        kind: str,
        streams: Iterable[tuple[str, Iterable[np.ndarray], float]],
    ) -> None:
        """Adds a file, completely or not at all; it replaces those of its path or its content.

        Args:
            path: the file.
            sha256: the SHA-256 of its content.
            kind: "sound", "image" or "video".
            streams: (modality, chunks of vectors float32 [n, D], step_seconds) each. What they
                raise is raised, with the index as it was.
        """
        parts = []
        for modality, chunks, step_seconds in streams:
            rows = b"".join(np.asarray(chunk, "<f4").tobytes() for chunk in chunks)
            parts.append((modality, step_seconds, rows))
        name = pathlib.Path(os.path.relpath(path.resolve(), self.folder.resolve())).as_posix()
        with _open(self._path) as db:
            _insert(db, name, sha256, kind, parts)

    def prune(self) -> int:
        """Drops the files that are gone; returns how many they were."""
        with _open(self._path) as db:
            names = db.execute("SELECT id, path FROM file").fetchall()
            names = self._checked(names, list[tuple[int, bytes]])
            gone = [(number,) for number, name in names if not self._path_of(name).is_file()]
            db.executemany("DELETE FROM file WHERE id = ?", gone)
        return len(gone)

    def _path_of(self, name: bytes) -> pathlib.Path:
        return pathlib.Path(os.path.normpath(self.folder / os.fsdecode(name)))

    # --- Queries ---------------------------------------------------------------------------------
    def query(
        self,
        vectors: np.ndarray,
        *,
        modalities: Sequence[str] = MODALITIES,
        top: int = 10,
        without: str | None = None,
        is_there: Callable[[pathlib.Path], bool] = lambda path: True,
    ) -> list[Hit]:
        """Finds the files nearest to a query.

        A file is as near as its nearest row is to the nearest vector of the query. Memory does not
        grow with the index, but for a number per file.

        Args:
            vectors: float32 [Q, D] of length 1.
            modalities: the modalities of the rows that are compared.
            top: the number of files wanted.
            without: SHA-256 of a file to leave out.
            is_there: whether a file may be a hit; asked of the nearest ones alone.

        Returns:
            At most `top` hits, one per file, nearest first; equal ones in the order of adding.

        Raises:
            UserError: if vectors are damaged; of those that are no hit only gross damage is seen.
        """
        with _open(self._path) as db:
            db.execute("BEGIN")  # all statements see the same files
            files, scores = self._scores(db, vectors, modalities, without)
            if not len(files):
                return []
            hits: list[Hit] = []
            least = -np.inf  # the score of the last hit that is wanted
            for place in np.argsort(-scores, kind="stable"):
                if len(hits) >= top and scores[place] < least - _SCORE_ERROR:
                    break
                hit = self._hit(db, int(files[place]), vectors, modalities)
                if is_there(hit.path):
                    hits.append(hit)
                    least = scores[place] if len(hits) <= top else least
        return sorted(hits, key=lambda hit: hit.distance)[:top]

    def _scores(
        self, db: sqlite3.Connection, queries: np.ndarray, modalities: Sequence[str], without
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all files, in the order of adding, and their best scalar products."""
        parts = db.execute(
            "SELECT file, vectors FROM part WHERE instr(?, modality) AND length(vectors) AND file "
            "NOT IN (SELECT id FROM file WHERE sha256 = ?) ORDER BY id",
            (",".join(modalities), without),
        )
        files, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        checked = (self._checked(part, tuple[int, bytes]) for part in parts)
        for batch in _batches(checked):
            products = self._matrix(b"".join(vectors for _, vectors in batch)) @ queries.T
            ends = np.cumsum([len(vectors) for _, vectors in batch]) // (4 * self._size)
            files.append(np.array([file for file, _ in batch]))
            best = products.max(axis=1)
            if not np.abs(products).max() <= 1 + _LENGTH_ERROR:  # NaN, too
                raise self._damaged(_NOT_OF_LENGTH_1)
            scores.append(np.maximum.reduceat(best, [0, *ends[:-1]]))
        ids, firsts = np.unique(np.concatenate(files), return_index=True)
        best = np.concatenate(scores)
        return ids, np.maximum.reduceat(best, firsts) if len(ids) else best

    def _checked(self, row: Any, kind: type[_Row]) -> _Row:
        """Returns what was read: SQLite keeps any type in any column."""
        try:
            return msgspec.convert(row, kind)
        except (ValueError, OverflowError) as error:
            raise self._damaged(plain(error)) from error

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self._path} is damaged: {what}; {_ADVICE}")

    def _hit(
        self, db: sqlite3.Connection, file: int, queries: np.ndarray, modalities: Sequence[str]
    ) -> Hit:
        """Returns the best row of a file in double precision, the first of equal ones."""
        parts = db.execute(
            "SELECT path, sha256, kind, modality, step_seconds, vectors FROM part JOIN file ON "
            "file.id = part.file WHERE file.id = ? AND instr(?, modality) AND length(vectors) "
            "ORDER BY part.id",
            (file, ",".join(modalities)),
        )
        hits = []
        for part in parts:
            name, sha256, kind, modality, step_seconds, vectors = self._checked(part, _Part)
            rows = self._matrix(vectors).astype(np.float64)
            if not np.abs(np.linalg.norm(rows, axis=1) - 1).max() <= _LENGTH_ERROR:
                raise self._damaged(_NOT_OF_LENGTH_1)
            apart = distance.cdist(rows, queries)
            row, query = map(int, np.unravel_index(apart.argmin(), apart.shape))
            nearest = float(np.linalg.norm(rows[row] - queries[query]))
            best = nearest, modality, row * step_seconds, query
            hits.append(Hit(self._path_of(name), sha256, kind, *best))
        if not hits:
            raise self._damaged("it has vectors of a file that it has not")
        return min(hits, key=lambda hit: hit.distance)

    def _matrix(self, vectors: bytes) -> np.ndarray:
        if len(vectors) % (4 * self._size):
            raise self._damaged("it has a vector that is cut off")
        return np.frombuffer(vectors, "<f4").reshape(-1, self._size)


def _batches(parts: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Yields parts together: many files are single pictures."""
    batch, num_bytes = [], 0
    for part in parts:
        batch.append(part)
        num_bytes += len(part[1])
        if num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


# --- The database --------------------------------------------------------------------------------
def is_index(folder: str | pathlib.Path) -> bool:
    """Returns whether a folder holds an index, damaged or not."""
    return any((pathlib.Path(folder) / name).is_file() for name in (_DATABASE, _CONFIG_1))


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Yields a connection, committed at the end; what SQLite refuses is one line."""
    name = f"{path.resolve().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(name, _BUSY_SECONDS, uri=True)) as db, db:
            db.execute("PRAGMA foreign_keys = ON")
            yield db
    except sqlite3.OperationalError as error:
        with disk_errors(path):
            raise UserError(f"cannot read or write {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path} is damaged ({error}); {_ADVICE}") from error


@contextlib.contextmanager
def _new_database(
    folder: pathlib.Path, fingerprint: str, size: int, settings: dict[str, Any]
) -> Iterator[sqlite3.Connection]:
    """Yields a database that gets its name when it is complete."""
    with written_whole(folder / _DATABASE) as partial:
        partial.write_bytes(b"")
        with _open(partial) as db:
            db.executescript(_SCHEMA)
            about = fingerprint, size, json.dumps(settings)
            db.execute("INSERT INTO about VALUES (?, ?, ?)", about)
            yield db


def _insert(
    db: sqlite3.Connection, name: str, sha256: str, kind: str, parts: Iterable[tuple]
) -> None:
    file = os.fsencode(name), sha256, kind
    db.execute("DELETE FROM file WHERE path = ? OR sha256 = ?", file[:2])
    inserted = db.execute("INSERT INTO file (path, sha256, kind) VALUES (?, ?, ?)", file)
    db.executemany(
        "INSERT INTO part (file, modality, step_seconds, vectors) VALUES (?, ?, ?, ?)",
        [(inserted.lastrowid, *part) for part in parts],
    )


@dataclasses.dataclass(frozen=True)
class _About1:
    """index.json of format 1."""

    fingerprint: str
    size: int
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Part1:
    modality: str
    step_seconds: float
    num_rows: int


@dataclasses.dataclass(frozen=True)
class _File1:
    """A line of files.jsonl of format 1."""

    path: str
    sha256: str
    kind: str
    parts: list[_Part1]


def _convert(folder: pathlib.Path) -> None:
    """Makes the database of an index of format 1, whose files stay as they are."""
    if (folder / _DATABASE).is_file():
        return  # another process did
    try:
        about = read_json(folder / _CONFIG_1, _About1, _ADVICE)
        lines = read_lines(folder / "files.jsonl", _File1)
        files = [check(folder / "files.jsonl", line, _File1, _ADVICE) for line in lines]
        new = _new_database(folder, about.fingerprint, about.size, about.settings)
        with open(folder / "vectors.npy", "rb") as vectors, new as db:
            vectors.seek(128)  # the .npy header
            for file in files:
                parts = []
                for part in file.parts:
                    num_bytes = 4 * about.size * part.num_rows
                    parts.append((part.modality, part.step_seconds, vectors.read(num_bytes)))
                    if len(parts[-1][2]) != num_bytes:
                        raise ValueError("vectors are cut off")
                _insert(db, file.path, file.sha256, file.kind, parts)
    except (OSError, ValueError, UserError) as error:
        raise UserError(
            f"{folder} is an index of format 1 that is damaged or cut off ({first_line(error)}); "
            f"{_ADVICE}"
        ) from error
    _log.info("%s: made %s; the older files beside it may be removed", folder, _DATABASE)
