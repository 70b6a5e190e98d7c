import contextlib
import json
import os
import pathlib
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from l3net.errors import UserError
from l3net.inference.search_index import IMAGE, SOUND, SearchIndex

SIZE = 16


def unit(rng, num: int) -> np.ndarray:
    vectors = rng.standard_normal((num, SIZE)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def create(folder) -> SearchIndex:
    return SearchIndex.create(folder, fingerprint="a" * 64, size=SIZE, settings={"hop": 0.5})


def add(index, name: str, sound=None, image=None, **keywords):
    streams = [
        (modality, iter(np.array_split(rows, 2)), 0.5)
        for modality, rows in ((SOUND, sound), (IMAGE, image))
        if rows is not None
    ]
    keywords = {"sha256": f"of {name}", "kind": "video", **keywords}
    with index.adding():
        index.add(index.folder.parent / name, streams=streams, **keywords)


@pytest.fixture
def filled(tmp_path):
    """Ten files of 5 sounds and 3 images, and their vectors by file."""
    rng = np.random.default_rng(0)
    index, vectors = create(tmp_path / "idx"), {}
    for number in range(10):
        vectors[f"{number}.mp4"] = unit(rng, 5), unit(rng, 3)
        add(index, f"{number}.mp4", *vectors[f"{number}.mp4"])
    return index, vectors


def name_of(hit) -> str:
    return hit.path.name


def names_in(index) -> list[str]:
    with contextlib.closing(sqlite3.connect(index.folder / "index.sqlite")) as db:
        return [path.decode()[3:] for (path,) in db.execute("SELECT path FROM file ORDER BY id")]


def by_hand(vectors, queries, modalities) -> list[tuple[float, str]]:
    """Returns (distance, file) of all files, the slow way."""
    rows_found = []
    for name, rows in vectors.items():
        wanted = [r for r, m in zip(rows, (SOUND, IMAGE), strict=True) if m in modalities]
        apart = np.concatenate(wanted)[:, np.newaxis] - queries[np.newaxis]
        rows_found.append((float(np.linalg.norm(apart, axis=2).min()), name))
    return sorted(rows_found)


@pytest.mark.parametrize("modalities", [(SOUND,), (IMAGE,), (SOUND, IMAGE)])
@pytest.mark.parametrize("num_queries", [1, 4])
@pytest.mark.parametrize("batch_bytes", [1, 1 << 18])
def test_files_come_by_their_nearest_row(filled, modalities, num_queries, batch_bytes, monkeypatch):
    monkeypatch.setattr("l3net.inference.search_index._BATCH_BYTES", batch_bytes)
    index, vectors = filled
    queries = unit(np.random.default_rng(9), num_queries)
    for opened in (index, SearchIndex(index.folder)):
        hits = opened.query(queries, modalities=modalities, top=4)
        expected = by_hand(vectors, queries, modalities)[:4]
        assert [name_of(hit) for hit in hits] == [name for _, name in expected]
        np.testing.assert_allclose([h.distance for h in hits], [d for d, _ in expected], atol=1e-6)


def test_a_hit_has_modality_time_and_query(filled):
    index, vectors = filled
    (hit,) = index.query(np.stack([-vectors["3.mp4"][0][0], vectors["3.mp4"][1][2]]), top=1)
    assert (name_of(hit), hit.modality, hit.time_seconds, hit.query_row) == ("3.mp4", IMAGE, 1.0, 1)
    assert hit.distance < 1e-6
    assert len(index.query(vectors["3.mp4"][0], top=100)) == 10
    hits = index.query(vectors["3.mp4"][0], top=100, without="of 3.mp4")
    assert len(hits) == 9 and "3.mp4" not in map(name_of, hits)


def test_equal_files_come_in_the_order_of_adding_and_equal_rows_in_that_of_time(tmp_path):
    index, rng = create(tmp_path / "idx"), np.random.default_rng(3)
    same = unit(rng, 1)
    names = [f"{k}.wav" for k in rng.permutation(40)]
    for number, name in enumerate(names):
        rows = np.concatenate([-same] * (number % 7) + [same] * (1 + number % 5))
        add(index, name, rows)
    hits = index.query(np.concatenate([-same, same])[1:], top=25)
    assert [name_of(hit) for hit in hits] == names[:25]
    assert {hit.distance for hit in hits} == {0.0}
    assert [hit.time_seconds for hit in hits] == [0.5 * (k % 7) for k in range(25)]


def test_a_file_added_again_or_moved_replaces_the_old_one(filled):
    index, _ = filled
    new = unit(np.random.default_rng(5), 2)
    add(index, "3.mp4", new, sha256="changed")
    add(index, "moved.mp4", new, sha256="of 0.mp4")
    index = SearchIndex(index.folder)
    names = names_in(index)
    assert len(names) == 10 and "0.mp4" not in names and names[-2:] == ["3.mp4", "moved.mp4"]
    assert index.counts() == {SOUND: 8 * 5 + 4, IMAGE: 8 * 3, "files": 10}
    assert sorted(map(name_of, index.query(new, top=100))) == sorted(names)


def test_names_that_are_no_text_files_without_rows_and_empty_indexes(filled, tmp_path):
    index, _ = filled
    name = os.fsdecode(b"\xff\xfe'?#%.wav")
    rows = unit(np.random.default_rng(6), 1)
    add(index, name, rows, sha256="bytes")
    add(index, "short.wav", np.zeros((0, SIZE), np.float32))
    assert name_of(index.query(rows, top=1)[0]) == name
    assert index.counts()["files"] == 12 and len(index.query(rows, top=100)) == 11
    empty = create(tmp_path / "empty")
    assert empty.query(rows) == []
    with empty.adding():
        pass
    assert empty.counts() == {SOUND: 0, IMAGE: 0, "files": 0}


def test_what_fails_half_way_leaves_the_index_as_it_was(filled):
    index, _ = filled
    before = {p.name: p.read_bytes() for p in index.folder.iterdir()}

    def broken():
        yield unit(np.random.default_rng(0), 100)
        raise UserError("cut off")

    with pytest.raises(UserError, match="cut off"), index.adding():
        index.add(pathlib.Path("x"), sha256="x", kind="sound", streams=[(SOUND, broken(), 0.5)])
    assert {p.name: p.read_bytes() for p in index.folder.iterdir()} == before


ADDS_FOREVER = """
import pathlib, sys
import numpy as np
from l3net.inference.search_index import SearchIndex
index = SearchIndex(sys.argv[1])
rows = np.eye(16, dtype=np.float32)
with index.adding():
    for k in range(1 << 30):
        path, streams = pathlib.Path(f"{k}.wav"), [("sound", [rows], 1)]
        index.add(path, sha256=str(k), kind="sound", streams=streams)
        print(k, flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_added(filled):
    index, vectors = filled
    command = [sys.executable, "-c", ADDS_FOREVER, str(index.folder)]
    most = 0  # lines of a process: the second one adds the same files again, and perhaps more
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            said = [process.stdout.readline() for _ in range(5)]
            with pytest.raises(UserError, match="another process is at work in .*; wait for it"):
                index.adding().__enter__()
            assert index.query(vectors["7.mp4"][0][:1], top=1)[0].distance < 1e-6
            process.kill()
            said += process.stdout.readlines()
        most = max(most, len(said))
        assert index.counts()["files"] - 10 in (most, most + 1)
    add(index, "new.mp4", rows := unit(np.random.default_rng(3), 4))
    (hit,) = SearchIndex(index.folder).query(rows[2:3], top=1)
    assert name_of(hit) == "new.mp4" and hit.time_seconds == 1.0 and hit.distance < 1e-6


@pytest.mark.parametrize("broken", ["half", "text", "empty"])
def test_damage_is_one_line_and_touched_by_nobody(filled, broken):
    index, _ = filled
    path = index.folder / "index.sqlite"
    data = path.read_bytes()
    path.write_bytes({"half": data[: len(data) // 2], "text": b"x" * 5000, "empty": b""}[broken])
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"index.sqlite (is damaged|has format 0)") as caught:
        SearchIndex(index.folder)
    assert "\n" not in str(caught.value) and path.read_bytes() == before


def test_another_network_another_format_no_index(filled, tmp_path):
    index, _ = filled
    index.check_network("a" * 64)
    with pytest.raises(UserError, match="another network"):
        index.check_network("b" * 64)
    with pytest.raises(UserError, match="is no index"):
        SearchIndex(tmp_path / "none")
    with pytest.raises(UserError, match="no index of ours"):
        create(tmp_path)
    with sqlite3.connect(index.folder / "index.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="format 99"):
        SearchIndex(index.folder)


def write_format_1(folder, vectors) -> None:
    """Writes an index as the version before SQLite did; the first file was added again."""
    first, *others = vectors.items()
    folder.mkdir()
    config = {"format": 1, "fingerprint": "a" * 64, "size": SIZE, "settings": {"hop": 0.5}}
    (folder / "index.json").write_text(json.dumps(config))
    rows, lines = [], []
    for name, (sound, image) in [(first[0], others[0][1]), first, *others]:
        streams = ((SOUND, sound), (IMAGE, image))
        parts = [{"modality": m, "num_rows": len(r), "step_seconds": 0.5} for m, r in streams]
        line = {"path": f"../{name}", "sha256": f"of {name}", "kind": "video", "parts": parts}
        lines.append(json.dumps({**line, "replaces": ""}) + "\n")
        rows += [sound, image]
    (folder / "files.jsonl").write_text("".join(lines) + '{"path": "../half')
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little") + b" " * 118
    data = np.concatenate(rows).astype("<f4").tobytes()
    (folder / "vectors.npy").write_bytes(header + data + b"\xff" * 100)  # rows without a line


def test_an_index_of_format_1_is_converted(filled, tmp_path):
    index, vectors = filled
    write_format_1(tmp_path / "old", vectors)
    old = SearchIndex(tmp_path / "old")
    assert old.settings == {"hop": 0.5} and names_in(old) == names_in(index)
    queries = unit(np.random.default_rng(9), 3)
    assert old.query(queries, top=20) == index.query(queries, top=20)
    assert {path.name for path in old.folder.iterdir()} == {
        *("index.json", "files.jsonl", "vectors.npy"),  # as they were, and no longer needed
        *("index.sqlite", ".lock"),
    }
    add(old, "new.mp4", queries)
    assert names_in(old)[-1] == "new.mp4"


@pytest.mark.parametrize("name", ["index.json", "files.jsonl", "vectors.npy"])
def test_a_damaged_index_of_format_1_is_refused(filled, tmp_path, name):
    write_format_1(tmp_path / "old", filled[1])
    path = tmp_path / "old" / name
    data = path.read_bytes()
    path.write_bytes(b"{}\n" + data if name == "files.jsonl" else data[: len(data) // 2])
    with pytest.raises(UserError, match="format 1 that is damaged or cut off") as caught:
        SearchIndex(tmp_path / "old")
    assert "\n" not in str(caught.value) and not list(path.parent.glob("index.sqlite*"))


def test_files_that_are_gone_take_no_place_and_are_dropped_on_request(filled):
    index, vectors = filled
    queries = unit(np.random.default_rng(5), 3)
    every = [hit.path for hit in index.query(queries, top=20)]
    for path in every[::2]:
        path.touch()
    there = [hit.path for hit in index.query(queries, top=3, is_there=pathlib.Path.is_file)]
    assert there == every[::2][:3]
    with index.adding():
        assert index.prune() == len(every) - len(every[::2])
    assert [hit.path for hit in index.query(queries, top=20)] == every[::2]
    assert index.counts()["files"] == len(every[::2])


@pytest.mark.parametrize("value", [np.nan, np.inf, 318.5, -40.0])
def test_damaged_vectors_are_no_answer(filled, value):
    index, vectors = filled
    with sqlite3.connect(index.folder / "index.sqlite") as db:
        number, data = db.execute("SELECT id, vectors FROM part ORDER BY id DESC").fetchone()
        rows = np.frombuffer(data, "<f4").copy()
        rows[5] = value
        db.execute("UPDATE part SET vectors = ? WHERE id = ?", (rows.tobytes(), number))
    with pytest.raises(UserError, match="damaged: it has vectors that are not of length 1"):
        index.query(unit(np.random.default_rng(5), 3), top=2)


CHANGES = {
    "about: no row": "DELETE FROM about",
    "about: size is a text": "UPDATE about SET size = 'x'",
    "about: size is 0": "UPDATE about SET size = 0",
    "about: size is another": "UPDATE about SET size = 15",
    "about: settings are no JSON": "UPDATE about SET settings = '{'",
    "about: settings are a list": "UPDATE about SET settings = '[1]'",
    "about: settings are bytes": "UPDATE about SET settings = x'00ff'",
    "file: path is a number": "UPDATE file SET path = id",
    "file: kind is none": "UPDATE file SET kind = 'smell'",
    "part: modality is none": "UPDATE part SET modality = 'sou'",
    "part: step is a text": "UPDATE part SET step_seconds = 'x'",
    "part: vectors are a number": "UPDATE part SET vectors = 12345678",
    "part: vectors are cut off": "UPDATE part SET vectors = substr(vectors, 1, 70)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_columns_of_other_types_and_values_are_one_line(filled, change):
    index, _ = filled
    with contextlib.closing(sqlite3.connect(index.folder / "index.sqlite")) as db, db:
        db.execute(CHANGES[change])
    with pytest.raises(UserError, match=r"index.sqlite is damaged") as caught:
        again = SearchIndex(index.folder)
        again.counts()
        again.query(unit(np.random.default_rng(5), 3), top=20)
    assert "\n" not in str(caught.value)
