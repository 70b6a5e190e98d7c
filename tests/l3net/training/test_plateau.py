import logging

import pytest

from l3net.training import plateau
from tests.tiny_training import CLASSIFIER, train

FIRST = plateau.FIRST_PAIRS


@pytest.mark.parametrize(
    ("accuracy", "before", "now", "is_due"),
    [
        (0.50, FIRST - 6400, FIRST, True),
        (0.50, FIRST - 6400, FIRST - 1, False),
        (0.50, FIRST, FIRST + 6400, False),  # said once
        (0.50, 2 * FIRST - 10, 2 * FIRST + 6390, True),  # and again when their number has doubled
        (0.50, 0, 9 * FIRST, True),
        (0.51, FIRST - 6400, FIRST, True),  # chance: 50 +- 0.6 %
        (0.52, FIRST - 6400, FIRST, False),
        (0.43, FIRST - 6400, FIRST, True),
    ],
)
def test_when_a_run_says_that_it_learns_nothing(accuracy, before, now, is_due):
    line = plateau.warning(accuracy, num_pairs=now - before, pairs_now=now)
    assert bool(line) == is_due
    if line:
        assert (
            f"{now:,} pairs" in line
            and f"{accuracy:.1%}" in line
            and "try --paired_negatives" in line
        )


@pytest.mark.parametrize("model", [None, CLASSIFIER], ids=["pairs", "labels"])
def test_the_log_of_a_run_says_so(tmp_path, shards, monkeypatch, caplog, model):
    """A rate of 0: nothing is learnt; 8 pairs a step, reports after steps 2, 4, ... 8."""
    monkeypatch.setattr(plateau, "FIRST_PAIRS", 30)
    monkeypatch.setattr(plateau, "_DEVIATIONS", 99.0)
    with caplog.at_level(logging.WARNING, "l3net"):
        train(
            tmp_path / "run",
            shards,
            num_steps=8,
            config={"learning_rate": 0.0},
            **({"model": model} if model else {}),
        )
    said = [line for line in caplog.messages if "still guesses" in line]
    assert [line.split()[1] for line in said] == ([] if model else ["32", "64"])
