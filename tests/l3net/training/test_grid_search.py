import json

import pytest

from l3net.errors import UserError
from l3net.training import checkpoints, grid_search, run_dir
from l3net.training.loop import LossNotFiniteError


def _fake_train(calls):
    """Writes what a run of a given rate would leave; 1.0 diverges, 0.001 is the best."""

    def train(folder, rate):
        calls.append(rate)
        standing = checkpoints.Standing(step=10, seconds=2.5, best_step=8, best_accuracy=0.9 - rate)
        lines = [
            {"step": 10, "split": "train", "loss": rate * 3, "pairs_per_second": 7.0},
            {"step": 10, "split": "val", "accuracy": 0.5, "pairs": 4},
        ]
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / run_dir.METRICS_FILE).write_text(text)
        diverged = "the loss became nan" if rate == 1.0 else None
        if diverged:
            standing.best_step = -1
        run_dir.write_summary(folder, standing, 5, diverged=diverged)
        if diverged:
            raise LossNotFiniteError(diverged)

    return train


def test_rates_are_compared_and_a_diverged_one_is_a_row(tmp_path):
    calls = []
    rates = grid_search.parse_rates(["1", "0.1", "1e-3"])
    table = grid_search.search(tmp_path, rates, _fake_train(calls))
    rows = json.loads((tmp_path / "grid_search.json").read_text())
    assert calls == [1.0, 0.1, 0.001]
    assert [row["is_best"] for row in rows] == [False, False, True]
    assert rows[0]["diverged"] == "the loss became nan" and rows[0]["best_accuracy"] is None
    assert rows[2]["best_accuracy"] == 0.899 and rows[2]["last_accuracy"] == 0.5
    assert rows[2]["run_dir"] == str(tmp_path / "learning_rate_0.001")
    assert (tmp_path / "grid_search.md").read_text() == table
    lines = table.splitlines()
    assert lines[2].endswith("| diverged |") and lines[2].startswith("| 1 |")
    assert lines[4] == "| 0.001 | 89.9 | 50.0 | 0.0030 | 2 | best |"
    assert len({line.count("|") for line in lines}) == 1
    calls.clear()  # a diverged run is not tried again
    assert grid_search.search(tmp_path, rates, _fake_train(calls)) == table
    assert calls == [0.1, 0.001]


def test_without_evaluation_the_lowest_loss_wins():
    rows = [
        {"diverged": None, "best_accuracy": None, "train_loss": loss, "is_best": False}
        for loss in (0.7, 0.2, 0.3)
    ]
    rows[0] |= {"diverged": "nan", "train_loss": 0.0}
    grid_search._mark_best(rows)
    assert [row["is_best"] for row in rows] == [False, True, False]


@pytest.mark.parametrize("texts", [["x"], ["-1"], ["1", "1.0"], ["nan"], ["0"]])
def test_a_grid_that_is_none_is_refused(texts):
    with pytest.raises(UserError, match="need different positive numbers"):
        grid_search.parse_rates(texts)
