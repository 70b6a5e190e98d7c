import json

import numpy as np
import pytest

from eval.reporting import cache, tables
from l3net import provenance
from l3net.errors import UserError

TABLE = tables.Table(
    "table9",
    "L3 Table 9: a test",
    [tables.Metric("accuracy", "accuracy %"), tables.Metric("ndcg", "nDCG", decimals=3)],
    [
        tables.Row(
            *("ESC-10 (400 real recordings)", "Ours", tables.RUN),
            *({"accuracy": 79.3, "ndcg": 0.6041}, {"accuracy": 12.345}),
            details={"confusion": [[1, 0], [0, 1]]},
        ),
        tables.Row("ESC-50 (not given)", "SoundNet", tables.QUOTED, {"accuracy": 74.2}),
        tables.Row("ESC-50 (not given)", "Ours", tables.NOT_RUN, {"accuracy": 79.3}),
    ],
    ["A remark."],
)


def _cells(lines):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_markdown_has_the_papers_numbers_beside_ours():
    lines = tables.markdown(TABLE).splitlines()
    assert lines[0] == "# L3 Table 9: a test"
    cells = _cells(lines[2:7])
    assert cells[0][2:6] == ["accuracy %, paper", "accuracy %, ours", "nDCG, paper", "nDCG, ours"]
    assert cells[2] == ["ESC-10 (400 real recordings)", "Ours", "79.3", "12.3", "0.604", "", ""]
    assert cells[3][2:4] == ["74.2", "(quoted)"]
    assert cells[4][2:4] == ["79.3", "not run"]
    assert len({len(line) for line in lines[2:7]}) == 1  # aligned
    assert "- A remark." in lines


def test_files_hold_everything_a_run_depends_on(tmp_path, capsys):
    path = tables.write_table(TABLE, tmp_path / "new", flags={"seed": 0, "svm_c": "cv"}, seconds=2)
    record = json.loads(path.read_text())
    assert record["seed"] == 0 and record["flags"]["svm_c"] == "cv"
    assert record["rows"][0]["details"]["confusion"] == [[1, 0], [0, 1]]
    assert record["versions"]["numpy"] == np.__version__
    assert "commit" in record
    text = path.with_suffix(".md").read_text()
    assert capsys.readouterr().out == text
    assert sorted(p.name for p in path.parent.iterdir()) == ["table9.json", "table9.md"]


def test_no_commit_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_keys_tell_values_and_order_apart_and_hashes_type_and_shape():
    keys = [cache.key_of("a", 1), cache.key_of("a", "1"), cache.key_of(1, "a"), cache.key_of("a1")]
    assert len(set(keys)) == 4
    assert cache.key_of({"a": 1, "b": 2}) == cache.key_of({"b": 2, "a": 1})
    zeros = np.zeros(4, np.float32)
    hashes = [zeros, zeros.reshape(2, 2), zeros.astype(np.int32), zeros + 1]
    assert len({cache.hash_array(array) for array in hashes}) == 4


def test_a_column_that_is_not_in_the_papers_is_ours_alone():
    metrics = [TABLE.metrics[0], tables.Metric("minutes", "min")]
    rows = [
        tables.Row("d", "a", tables.RUN, {"accuracy": 1.0}, {"accuracy": 2.0, "minutes": 3.0}),
        tables.Row("d", "b", tables.NOT_RUN),
    ]
    table = tables.Table("t", "T", metrics, rows)
    lines = _cells(tables.markdown(table).splitlines()[2:6])
    assert lines[0] == ["Data", "Method", "accuracy %, paper", "accuracy %, ours", "min", "Note"]
    assert lines[2] == ["d", "a", "1.0", "2.0", "3.0", ""]
    assert lines[3] == ["d", "b", "", "not run", "not run", ""]


def test_a_table_reads_back_as_it_was_written(tmp_path, capsys):
    path = tables.write_table(TABLE, tmp_path, flags={"seed": 3}, seconds=1.25)
    table, record = tables.read_table(path)
    assert tables.markdown(table) == tables.markdown(TABLE)
    assert record["flags"] == {"seed": 3} and record["seconds"] == 1.2
    assert "seed 3" in path.with_suffix(".md").read_text()
    path.write_text("[]")
    with pytest.raises(UserError, match="no table of this version"):
        tables.read_table(path)
    with pytest.raises(UserError, match="run its script first"):
        tables.read_table(tmp_path / "none.json")
