import dataclasses
import hashlib
import json
import random
import subprocess
import sys

import pytest

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from data_prep.shards import row_table
from data_prep.shards.clip_records import FAILED, OK, Outcome
from l3net.errors import UserError

ROWS = [
    ManifestRow(f"{name} {number}", name, f"{name}.mp4", number / 8, number + 1.5, split, labels)
    for name, split, labels in (("ü", "train", ("Dog", "Cat")), ("a'b", "test", ()))
    for number in range(9)
]
PLANS = """
import sys
from data_prep.shards import preparation, processes
from data_prep.shards.config import Media, Target

def write_shards(shards, job, **_):
    print(sum(shards.values()), sorted({"tensorflow", "apache_beam"} & sys.modules.keys()))
    raise SystemExit

processes.write_shards = write_shards
source = preparation.Source(manifest=sys.argv[1])
preparation.prepare(source, Target(out_dir=sys.argv[2]), Media(), preparation.Run())
"""


@pytest.fixture
def table(tmp_path):
    rows = random.Random(0).sample(ROWS, len(ROWS))
    with row_table.opened(tmp_path) as opened:
        opened.add_rows(rows)
        yield opened


def test_rows_come_sorted_and_by_shard(table):
    ordered = sorted(ROWS, key=lambda row: row.example_id)
    assert list(table.rows()) == ordered
    assert table.labels == {"Dog", "Cat"} and table.num_clips() == {"train": 9, "test": 9}
    table.place(lambda row: f"shard {row.example_id[-1]}")
    assert table.num_rows() == {f"shard {number}": 2 for number in range(9)}
    assert row_table.rows_of(table.path, "shard 3") == [ordered[3], ordered[12]]
    assert row_table.rows_of(table.path, "another") == []


def test_the_hash_is_that_of_all_rows_in_order(table):
    ordered = sorted(map(dataclasses.astuple, ROWS))
    whole = hashlib.sha256(json.dumps(ordered).encode()).hexdigest()
    assert table.hash() == whole[:16]


def test_outcomes_come_sorted_and_counted(table):
    given = [
        Outcome("b", "b", "b.mp4", "train", FAILED, "missing", "none, at all"),
        Outcome("a", "a", "a.mp4", "test", OK, "", "", 250, 480_000, 10.0, 0, 1, None, 1),
        Outcome("c", "c", "c.mp4", "test", OK, "", "", 50, 96_000, 2.0, 0, 1, 0, 1, "turned"),
    ]
    table.add_outcomes([*given, given[0]])
    columns = [dataclasses.astuple(given[index]) for index in (1, 0, 2)]
    assert list(table.outcomes()) == columns
    assert table.counts() == ({("ok", ""): 2, ("failed", "missing"): 1}, 12.0)


def test_what_a_killed_run_left_is_deleted_and_so_is_the_table(tmp_path):
    (tmp_path / ".rows.sqlite.0123456789abcdef.tmp").write_bytes(b"left over")
    with row_table.opened(tmp_path) as table:
        assert [path.name for path in tmp_path.iterdir()] == [table.path.name]
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="cannot read the table of rows .*unable to open"):
        row_table.rows_of(table.path, "any")


def test_planning_needs_neither_tensorflow_nor_beam(tmp_path):
    manifest.write_manifest(tmp_path / "manifest.csv", ROWS)
    command = [sys.executable, "-c", PLANS, tmp_path / "manifest.csv", tmp_path / "out"]
    assert subprocess.check_output(command, text=True) == "18 []\n"


def test_a_table_that_cannot_be_made_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(row_table, "_TABLES", "CREATE TABLE a (b); no statement")
    refused = pytest.raises(UserError, match="cannot write the table of rows .*make room")
    with refused, row_table.opened(tmp_path):
        raise AssertionError
    assert not list(tmp_path.iterdir())
