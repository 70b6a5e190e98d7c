import json

import numpy as np
import pytest

from eval import cache, metrics, report

TABLE = report.Table(
    "table9",
    "L3 Table 9: a test",
    [report.Metric("accuracy", "accuracy %"), report.Metric("ndcg", "nDCG", decimals=3)],
    [
        report.Row(
            "ESC-10 (400 real recordings)",
            "Ours",
            report.RUN,
            {"accuracy": 79.3, "ndcg": 0.6041},
            {"accuracy": 12.345},
            details={"confusion": [[1, 0], [0, 1]]},
        ),
        report.Row("ESC-50 (not given)", "SoundNet", report.QUOTED, {"accuracy": 74.2}),
        report.Row("ESC-50 (not given)", "Ours", report.NOT_RUN, {"accuracy": 79.3}),
    ],
    ["A remark."],
)


def test_markdown_has_the_papers_numbers_beside_ours():
    lines = report.markdown(TABLE).splitlines()
    assert lines[0] == "# L3 Table 9: a test"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:7]]
    assert cells[0][2:6] == ["accuracy %, paper", "accuracy %, ours", "nDCG, paper", "nDCG, ours"]
    assert cells[2] == ["ESC-10 (400 real recordings)", "Ours", "79.3", "12.3", "0.604", "", ""]
    assert cells[3][2:4] == ["74.2", "(quoted)"]
    assert cells[4][2:4] == ["79.3", "not run"]
    assert len({len(line) for line in lines[2:7]}) == 1  # aligned
    assert "- A remark." in lines


def test_files_hold_everything_a_run_depends_on(tmp_path, capsys):
    path = report.write_table(TABLE, tmp_path / "new", flags={"seed": 0, "svm_c": "cv"}, seconds=2)
    record = json.loads(path.read_text())
    assert record["seed"] == 0
    assert record["flags"]["svm_c"] == "cv"
    assert record["rows"][0]["details"]["confusion"] == [[1, 0], [0, 1]]
    assert record["versions"]["numpy"] == np.__version__
    assert "commit" in record
    text = path.with_suffix(".md").read_text()
    assert capsys.readouterr().out == text
    assert sorted(p.name for p in path.parent.iterdir()) == ["table9.json", "table9.md"]


def test_no_commit_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert report.commit() is None


def test_half_written_files_are_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    cache.write_atomically(path, b"old")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fdopen", fail)
    with pytest.raises(KeyboardInterrupt):
        cache.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_keys_tell_values_and_order_apart():
    keys = [cache.key_of("a", 1), cache.key_of("a", "1"), cache.key_of(1, "a"), cache.key_of("a1")]
    assert len(set(keys)) == 4
    assert cache.key_of({"a": 1, "b": 2}) == cache.key_of({"b": 2, "a": 1})


def test_hash_of_arrays_sees_type_and_shape():
    zeros = np.zeros(4, np.float32)
    hashes = [zeros, zeros.reshape(2, 2), zeros.astype(np.int32), zeros + 1]
    assert len({cache.hash_array(array) for array in hashes}) == 4


def test_confusion_by_hand():
    counts = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert counts.tolist() == [[1, 1], [0, 1]]


def test_accuracy_is_the_mean_over_parts_not_over_recordings():
    summary = metrics.accuracy_summary(
        np.array([0, 0, 0, 1, 1]),
        np.array([0, 0, 0, 0, -1]),
        np.array(["1", "1", "1", "2", "train"]),
        tested=["1", "2"],
        classes=["a", "b", "c"],
    )
    assert summary["accuracy"] == 50
    assert summary["accuracy_std"] == 50
    assert summary["accuracy_per_part"] == {"1": 100, "2": 0}
    assert summary["num_tested"] == 4
    assert summary["confusion"] == [[3, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert summary["recall_per_class"] == {"a": 100, "b": 0, "c": None}
