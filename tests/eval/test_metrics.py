"""Sums of predictions against hand-computed numbers."""

import numpy as np
import pytest

from eval.metrics import accuracy


def test_accuracy_is_the_mean_over_parts_not_over_recordings():
    summary = accuracy.accuracy_summary(
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


def test_error_over_folds_or_of_one_test_part():
    folds = {"accuracy_per_part": {"1": 70.0, "2": 80.0, "3": 90.0}, "num_tested": 30}
    assert accuracy.error_of_summary(folds) == pytest.approx(10 / 3**0.5)
    one = {"accuracy_per_part": {"test": 80.0}, "num_tested": 100}
    assert accuracy.error_of_summary(one) == pytest.approx(4.0)


def test_clustered_error_by_hand():
    # Mean 0.5; the clusters' sums of deviations are 1, -1 and 0: sqrt(3/2 * 2) / 6.
    values, clusters = [1, 1, 0, 0, 1, 0], list("aabbcc")
    assert accuracy.clustered_error(values, clusters) == pytest.approx(3**0.5 / 6)
    assert np.isnan(accuracy.clustered_error([1, 0], ["a", "a"]))


def test_clustered_error_of_single_and_of_repeated_values_is_the_binomial_one():
    values = np.random.default_rng(0).random(1000) < 0.8
    share = values.mean()
    binomial = (share * (1 - share) / 1000) ** 0.5
    names = np.arange(1000)
    assert accuracy.clustered_error(values, names) == pytest.approx(binomial, rel=1e-3)
    repeated = accuracy.clustered_error(np.repeat(values, 4), np.repeat(names, 4))
    assert repeated == pytest.approx(binomial, rel=1e-3)  # 4000 values, but not 4000 independent


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([0.1, 0.4, 0.6], [0, 1, 1], 0.25),
        ([0.1, 0.4, 0.6, 0.8], [0, 1, 0, 1], 0.25),
        ([0.5, 0.5], [1, 1], 0.5 - 1e-9),
        ([0.2, 0.4], [0, 0], 0.5),
    ],
)
def test_best_threshold_is_the_middle_of_the_docstring(scores, truth, expected):
    threshold = accuracy.best_threshold(np.array(scores), np.array(truth))
    assert threshold == pytest.approx(expected, abs=1e-8)


def test_best_threshold_beats_every_other_one():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    scores = truth * 0.3 + rng.random(200)

    def correct(threshold):
        return ((scores > threshold) == truth).mean()

    best = correct(accuracy.best_threshold(scores, truth))
    assert best == max(correct(threshold) for threshold in np.linspace(-0.5, 2, 5001))
