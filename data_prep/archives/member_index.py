"""Where every member of some archives is: one SQLite file, made once and kept.

    .members.sqlite           complete; replaced as a whole, so whoever reads it is not disturbed
    .members.sqlite.partial   what an interrupted run has of the next one, archive by archive

An archive is known by its path, size and time of change; one that differs is read again.
"""

import contextlib
import logging
import os
import pathlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_prep.archives import tar_files, zip_files
from data_prep.archives.members import Damage, Member
from l3net.errors import UserError
from l3net.progress import track

FILE = ".members.sqlite"
_VERSION = 2
_CACHE_KIB = 64 << 10
_TABLES = """
CREATE TABLE archives (
    id INTEGER PRIMARY KEY, path BLOB UNIQUE, label TEXT, rank INTEGER, num_bytes INTEGER,
    time_ns INTEGER, damage TEXT, refused TEXT, points BLOB);
CREATE TABLE members (
    path TEXT, archive INTEGER, name TEXT, offset INTEGER, num_bytes INTEGER, num_stored INTEGER,
    is_deflated INTEGER, crc INTEGER, refusal TEXT, PRIMARY KEY (path, archive)) WITHOUT ROWID;
"""
# Within an archive the last of a name counts, as in unpacking, but a file before what is none.
_INSERT = """
INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path, archive) DO UPDATE SET
    offset = excluded.offset, num_bytes = excluded.num_bytes, num_stored = excluded.num_stored,
    is_deflated = excluded.is_deflated, crc = excluded.crc, refusal = excluded.refusal
WHERE excluded.refusal = '' OR members.refusal != ''
"""
_log = logging.getLogger(__name__)


class Archive(NamedTuple):
    """An archive: its file, and the path that it has, or would have, in the folder of the media."""

    path: pathlib.Path
    label: str


class Place(NamedTuple):
    """A member and the archive that it is in."""

    member: Member
    archive: pathlib.Path
    num_bytes: int  # of the archive, when the index was made
    time_ns: int
    archive_id: int


# --- Making --------------------------------------------------------------------------------------
def update(path: pathlib.Path, archives: Sequence[Archive], others: Sequence[pathlib.Path]) -> None:
    """Makes the index of these archives complete; those that are known are not read again.

    Args:
        path: the index.
        archives: of two with a member of the same path, the first counts.
        others: indices made elsewhere, from which what is known is taken, too.

    Raises:
        UserError: if an archive cannot be opened or the index cannot be written.
    """
    states = [_state(archive.path) for archive in archives]
    wanted = [
        (os.fsencode(archive.path), archive.label, rank, *state)
        for rank, (archive, state) in enumerate(zip(archives, states, strict=True))
    ]
    try:
        if _content(path) != wanted:
            partial = path.with_name(path.name + ".partial")
            with contextlib.closing(_begun(partial, [path, *others])) as index:
                _complete(index, wanted)
            os.replace(partial, path)
        _warn(path)
    except sqlite3.Error as error:
        raise UserError(f"cannot write the index of archives {path}: {error}") from error


def _state(path: pathlib.Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read the archive {path}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _content(path: pathlib.Path) -> list[tuple] | None:
    """Returns (path, label, rank, size, time) of an index's archives; None if it is unusable."""
    try:
        with contextlib.closing(_opened(path)) as index:
            columns = "path, label, rank, num_bytes, time_ns"
            return index.execute(f"SELECT {columns} FROM archives ORDER BY rank").fetchall()
    except sqlite3.Error:
        return None


def _begun(partial: pathlib.Path, others: Sequence[pathlib.Path]) -> sqlite3.Connection:
    """Opens what is to become the index: as an earlier run left it, else with all that is known."""
    index = sqlite3.connect(partial)
    if _version(index) != _VERSION:
        index.close()
        partial.unlink()
        index = _new(partial, others)
    index.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return index


def _new(partial: pathlib.Path, others: Sequence[pathlib.Path]) -> sqlite3.Connection:
    index = sqlite3.connect(partial)
    index.executescript(_TABLES)
    known = next((other for other in others if _content(other) is not None), None)
    if known is not None:
        index.execute("ATTACH ? AS known", (str(known),))
        with index:
            for table in ("archives", "members"):
                index.execute(f"INSERT INTO {table} SELECT * FROM known.{table}")
        index.execute("DETACH known")
    index.execute(f"PRAGMA user_version = {_VERSION}")
    return index


def _complete(index: sqlite3.Connection, wanted: Sequence[tuple]) -> None:
    """Makes an index that of the wanted archives, each in a transaction of its own."""
    keys = {(path, label, *state) for path, label, _, *state in wanted}
    columns = "path, label, num_bytes, time_ns"
    known = {(row[1:]): row[0] for row in index.execute(f"SELECT id, {columns} FROM archives")}
    with index:
        # One pass, however many archives are gone.
        index.execute("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY)")
        gone = ((number,) for key, number in known.items() if key not in keys)
        index.executemany("INSERT INTO gone VALUES (?)", gone)
        for table, column in (("members", "archive"), ("archives", "id")):
            index.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM gone)")
    new = [each for each in wanted if (*each[:2], *each[3:]) not in known]
    for each in track(new, "indexing archives", unit="archive"):
        with index:
            _add(index, *each)
    with index:
        ranks = ((rank, path) for path, _, rank, *_ in wanted)
        index.executemany("UPDATE archives SET rank = ? WHERE path = ?", ranks)


def _add(
    index: sqlite3.Connection, path: bytes, label: str, rank: int, num_bytes: int, time_ns: int
) -> None:
    """Reads the names in one archive, as far as they can be read."""
    found = _Found()
    number = index.execute(
        "INSERT INTO archives (path, label, rank, num_bytes, time_ns) VALUES (?, ?, ?, ?, ?)",
        (path, label, rank, num_bytes, time_ns),
    ).lastrowid
    folder = label[: label.rfind("/") + 1]
    members = found.members(pathlib.Path(os.fsdecode(path)))
    index.executemany(_INSERT, ((folder + member.name, number, *member) for member in members))
    # What the disk refuses today may be there tomorrow: with no time it is read again then.
    time_ns = -1 if found.is_unreadable else time_ns
    values = (found.damage, found.refused, found.points, time_ns, number)
    columns = "damage = ?, refused = ?, points = ?, time_ns = ?"
    index.execute(f"UPDATE archives SET {columns} WHERE id = ?", values)


class _Found:
    """What is found in an archive, beside its members.

    Attributes:
        damage: why the rest of it cannot be read.
        is_unreadable: whether that is the disk's doing.
        refused: how many members are refused, and why the first.
        points: where reading of a .tar.gz may begin.
    """

    damage, is_unreadable, refused, points = "", False, "", None

    def members(self, path: pathlib.Path) -> Iterator[Member]:
        """Yields the members whose names can be a file's."""
        num_refused, first = 0, ""
        try:
            for member in self._all(path):
                if member.refusal:
                    num_refused += 1
                    name = f"{member.name!r:.100}: " if member.name else ""
                    first = first or name + member.refusal
                if member.name:
                    yield member
        except Damage as error:
            self.damage = str(error)
        except OSError as error:
            self.damage, self.is_unreadable = error.strerror or str(error), True
        if num_refused:
            self.refused = f"{num_refused} members; the first: {first}"

    def _all(self, path: pathlib.Path) -> Iterator[Member]:
        with open(path, "rb") as file:
            head = file.read(4)
            file.seek(0)
            if head[:2] == b"PK" or path.suffix.lower() == ".zip":
                yield from zip_files.members(file)
            elif head[:2] != b"\x1f\x8b":
                yield from tar_files.members(file)
            else:
                yield from self._all_of_gzip(path)

    def _all_of_gzip(self, path: pathlib.Path) -> Iterator[Member]:
        with tar_files.opened_gzip(path) as file:
            limit = tar_files.gzip_limit_bytes(path.stat().st_size)
            try:
                yield from tar_files.members(file, limit)
            finally:
                self.points = tar_files.exported_points(file)


def _warn(path: pathlib.Path) -> None:
    """Names the archives that cannot be read to their end, and members that are refused."""
    with contextlib.closing(_opened(path)) as index:
        for archive, damage, refused in index.execute(
            "SELECT path, damage, refused FROM archives WHERE damage != '' OR refused != ''"
        ):
            name = os.fsdecode(archive)
            if damage:
                _log.warning("%s: what can be read of it is taken: %s", name, damage)
            if refused:
                _log.warning("%s: left out %s", name, refused)
        (num_twice,) = index.execute(
            "SELECT count(*) FROM (SELECT 1 FROM members WHERE refusal = '' GROUP BY path "
            "HAVING count(*) > 1)"
        ).fetchone()
    if num_twice:
        _log.warning(
            "%d files are in several archives; those of the first count (put the archives into "
            "folders of their own if they are others)",
            num_twice,
        )


# --- Reading -------------------------------------------------------------------------------------
class Index:
    """A complete index, opened for reading; close it. Raises UserError if it cannot be read."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        with self._errors():
            self._index = _opened(path)

    def close(self) -> None:
        """Closes it."""
        self._index.close()

    def paths(self) -> Iterator[str]:
        """Yields the paths of the usable members, each once, sorted by their UTF-8 bytes."""
        with self._errors():
            yield from (
                path
                for (path,) in self._index.execute(
                    "SELECT DISTINCT path FROM members WHERE refusal = '' ORDER BY path"
                )
            )

    def damaged(self) -> dict[str, str]:
        """Returns label -> damage of the archives that have some, in their order."""
        with self._errors():
            rows = "SELECT label, damage FROM archives WHERE damage != '' ORDER BY rank"
            return dict(self._index.execute(rows))

    def find(self, path: str) -> Place | None:
        """Returns where the member of a path is; None if there is none."""
        columns = "name, offset, m.num_bytes, num_stored, is_deflated, crc, refusal"
        with self._errors():
            row = self._index.execute(
                f"SELECT {columns}, a.path, a.num_bytes, time_ns, id FROM members m "
                "JOIN archives a ON a.id = m.archive WHERE m.path = ? "
                "ORDER BY refusal != '', rank LIMIT 1",
                (path,),
            ).fetchone()
        if row is None:
            return None
        *member, archive, num_bytes, time_ns, archive_id = row
        file = pathlib.Path(os.fsdecode(archive))
        return Place(Member(*member), file, num_bytes, time_ns, archive_id)

    def points(self, archive_id: int) -> bytes | None:
        """Returns where reading of a .tar.gz may begin, as tar_files exported it; None if none."""
        with self._errors():
            row = "SELECT points FROM archives WHERE id = ?"
            return self._index.execute(row, (archive_id,)).fetchone()[0]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(
                f"cannot read the index of archives {self._path}: {error}; delete it and run the "
                "same command again"
            ) from error


def _opened(path: pathlib.Path) -> sqlite3.Connection:
    """Opens an index for reading, without locks, which network file systems may lack."""
    index = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    if _version(index) != _VERSION:
        index.close()
        raise sqlite3.DatabaseError("it is damaged or made by another version")
    return index


def _version(index: sqlite3.Connection) -> int | None:
    """Returns the version of an index, 0 of a new one; None if it is damaged."""
    try:
        return index.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error:
        return None
