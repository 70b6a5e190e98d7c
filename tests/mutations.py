"""Damages files as disks, networks, editors and strangers do; every draw comes from a generator."""

import csv
import io
import json
import os
import pathlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Collection
from typing import Any

# Values that some type, length or range does not expect.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 0.5, 10**400, -(10**30), 1e308, float("nan"), float("inf"), 2**63),
    *("", "x", "nan", "1e400", "../../x", "a\nb", "\ud800", "\0", "ä" * 300, "x" * 70_000, "/"),
    *([], {}, [[]], [1, "a"], {"a": {}}),
)
ODD_FIELDS = ("", "nan", "inf", "1e999", "-1", "x" * 200_000, "a\nb", '"', "a|b", "ä\x00", "../x")
ODD_NAMES = (
    *("-v", " ", "a\nb", "ä\u202e", "'; ls", "%d", "file:a", "concat:a|b", "~", "#"),
    *("x" * 200, os.fsdecode(b"\xff\xfe"), "\x1b[31m", ".hidden"),
)
Random = random.Random


# --- Any file ------------------------------------------------------------------------------------
def flip_bits(data: bytes, draw: Random) -> bytes:
    """Changes 1 to 16 bits, together or apart."""
    changed, start = bytearray(data), draw.randrange(max(1, len(data)))
    span = draw.choice((16, len(data)))
    for _ in range(draw.choice((1, 1, 4, 16))):
        place = (start + draw.randrange(max(1, span))) % max(1, len(data))
        if data:
            changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: Random) -> bytes:
    """Keeps the beginning, or the end."""
    place = draw.randrange(len(data) + 1)
    return data[place:] if draw.random() < 0.2 else data[:place]


def zeros(data: bytes, draw: Random) -> bytes:
    """Puts zeros, or ones, in place of a stretch: of a sector, or of numbers that are lengths."""
    length = draw.choice((2, 4, 8, 512, 4096))
    place = draw.randrange(max(1, len(data) - length + 1))
    return data[:place] + draw.choice((b"\0", b"\xff")) * length + data[place + length :]


def repeat(data: bytes, draw: Random) -> bytes:
    """Puts a stretch in twice."""
    start, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:]


def leave_out(data: bytes, draw: Random) -> bytes:
    """Leaves a stretch out."""
    start, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[end:]


def empty(data: bytes, draw: Random) -> bytes:
    """Keeps nothing."""
    return b""


BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    function.__name__: function for function in (flip_bits, cut, zeros, repeat, leave_out, empty)
}


# --- Texts of a known form -----------------------------------------------------------------------
def change_json(data: bytes, draw: Random) -> bytes:
    """Changes a member's type or value, leaves one out, or nests deeply; without its checksum."""
    content = json.loads(data)
    if isinstance(content, dict):
        content.pop("checksum", None)
    places = [place for place in _places(content) if place[1] is not None]
    if not places or draw.random() < 0.03:
        depth = draw.choice((50, 100_000))
        return b"[" * depth + b"]" * depth
    parent, key = draw.choice(places)
    if draw.random() < 0.3:
        del parent[key]
    elif draw.random() < 0.2 and isinstance(parent, dict):
        parent[draw.choice(ODD_NAMES)] = parent[key]
    else:
        parent[key] = draw.choice(ODD_VALUES)
    return json.dumps(content).encode()


def _places(content: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    if isinstance(content, dict | list):
        keys = content if isinstance(content, dict) else range(len(content))
        for key in keys:
            places += [(content, key), *_places(content[key])]
    return places


def change_lines(data: bytes, draw: Random) -> bytes:
    """Changes one JSON line of several, or ends in the middle of one."""
    lines = data.splitlines(keepends=True)
    number = draw.randrange(len(lines))
    lines[number] = change_json(lines[number], draw) + b"\n"
    return b"".join(lines)[: len(data) if draw.random() < 0.2 else None]


def change_csv(data: bytes, draw: Random) -> bytes:
    """Changes a field, a row or a column's name; doubles or drops them."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = draw.randrange(len(rows))
    column = draw.randrange(max(1, len(rows[row])))
    kind = draw.randrange(6)
    if kind < 3 and rows[row]:
        rows[row][column] = draw.choice(ODD_FIELDS)
    elif kind == 3:
        rows.insert(row, list(rows[row]))
    elif kind == 4:
        rows = [each[:column] + each[column + 1 :] for each in rows]
    else:
        rows = [each[: column + 1] + each[column:] for each in rows]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(draw.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")))


def change_xml(data: bytes, draw: Random) -> bytes:
    """Declares another encoding, or puts something else between two tags."""
    if draw.random() < 0.4:
        name = draw.choice(("klingon", "utf-16", "idna", "rot13", "shift_jis"))
        return f'<?xml version="1.0" encoding="{name}"?>'.encode() + data
    parts = data.split(b">")
    parts[draw.randrange(len(parts))] += draw.choice(ODD_FIELDS).encode() + b"<"
    return b">".join(parts)


def change_sqlite(path: pathlib.Path, draw: Random) -> None:
    """Puts a value of another type or size into a column of a row, or of all."""
    database = sqlite3.connect(path)
    with database:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
        table = draw.choice(sorted(name for (name,) in database.execute(tables)))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        values = (None, "x", -1, 0, 1.5, 2**62, b"", b"\xff" * 100, float("inf"), "[" * 5000)
        where = draw.choice(("", "WHERE rowid = (SELECT min(rowid) FROM " + table + ")"))
        statement = f"UPDATE OR IGNORE {table} SET {draw.choice(columns)} = ? {where}"
        try:
            database.execute(statement, (draw.choice(values),))
        except sqlite3.Error:  # what the database itself refuses
            database.execute(f"DELETE FROM {table}")
    database.close()


_BY_SUFFIX = {".json": change_json, ".jsonl": change_lines, ".csv": change_csv, ".xml": change_xml}


# --- One file of a folder ------------------------------------------------------------------------
def mutate(
    path: pathlib.Path, others: list[pathlib.Path], draw: Random, without: Collection[str] = ()
) -> str:
    """Damages a file in place, or moves it, but `without` some; returns the kind of damage."""
    aware = _BY_SUFFIX.get(path.suffix)
    if aware and draw.random() < 0.6:
        try:
            path.write_bytes(aware(path.read_bytes(), draw))
            return aware.__name__
        except (ValueError, IndexError):  # it is damaged already
            pass
    if path.suffix == ".sqlite" and draw.random() < 0.6:
        change_sqlite(path, draw)
        return change_sqlite.__name__
    kinds = (*BYTES, "flip_bits", "cut", "another", "alike", *MOVES)
    kind = draw.choice([each for each in kinds if each not in without])
    if kind in BYTES:
        path.write_bytes(BYTES[kind](path.read_bytes(), draw))
    elif kind in MOVES:
        MOVES[kind](path, draw)
    else:
        alike = [other for other in others if other.suffix == path.suffix and other != path]
        source = draw.choice(alike if kind == "alike" and alike else others)
        path.write_bytes(source.read_bytes())
    return kind


def _folder(path: pathlib.Path, draw: Random) -> None:
    path.unlink()
    path.mkdir()


def _gone(path: pathlib.Path, draw: Random) -> None:
    path.unlink()


def _link(path: pathlib.Path, draw: Random) -> None:
    path.unlink()
    path.symlink_to(draw.choice((path.name, "/dev/zero", "nowhere", "..")))


def _pipe(path: pathlib.Path, draw: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _renamed(path: pathlib.Path, draw: Random) -> None:
    path.rename(path.with_name(draw.choice(ODD_NAMES) + draw.choice((path.suffix, ""))))


def _twin(path: pathlib.Path, draw: Random) -> None:
    suffix = draw.choice((path.suffix, "", ".tmp", ".mp4", ".wav", ".jpg"))
    shutil.copyfile(path, path.with_name(draw.choice(ODD_NAMES) + suffix))


MOVES: dict[str, Callable[[pathlib.Path, Random], None]] = {
    "folder": _folder, "gone": _gone, "link": _link, "pipe": _pipe, "renamed": _renamed,
    "twin": _twin,
}  # fmt: skip
