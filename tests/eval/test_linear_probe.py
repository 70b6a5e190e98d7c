import logging

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from eval.methods import linear_probe


def _problem(num_samples, num_features, num_classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, num_samples)
    centers = generator.normal(size=(num_classes, num_features))
    spread = np.linspace(3, 0.2, num_features)
    features = centers[labels] + generator.normal(size=(num_samples, num_features)) * spread
    return features, labels


def _with_ones(features):
    return np.concatenate([features, np.ones((len(features), 1), features.dtype)], axis=1)


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(120, 10), (30, 50)], ids=["tall", "wide"])
def test_equals_linear_svc(shape, c):
    features, labels = _problem(*shape)
    samples = _with_ones(features)
    signs = linear_probe.class_signs(labels, 4, samples.dtype)
    weights = linear_probe.solve(samples, signs, c, tolerance=1e-10)
    expected = LinearSVC(C=c, dual=False, tol=1e-12, max_iter=100_000).fit(features, labels)
    # Both stop by the gradient, which grows with C: so does what the weights may differ by.
    close = {"atol": 1e-6 * max(1, c), "rtol": 1e-5}
    np.testing.assert_allclose(weights[:, :-1], expected.coef_, **close)
    np.testing.assert_allclose(weights[:, -1], expected.intercept_, **close)
    decision = samples @ weights.T
    np.testing.assert_allclose(decision, expected.decision_function(features), **close)


def test_zero_is_left_only_as_far_as_the_hinge_asks():
    # One sample x = 1 of the class, no bias column: min w^2/2 + C (1-w)^2 gives w = 2C / (1 + 2C).
    weights = linear_probe.solve(np.array([[1.0]]), np.array([[1.0]]), 0.5, tolerance=1e-12)
    assert weights[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(300, 40), (60, 200)], ids=["tall", "wide"])
def test_float32_and_warm_starts_end_where_float64_does(shape):
    features, labels = _problem(*shape, seed=1)
    rows = np.arange(len(features))
    grid = (1e-4, 1e-3, 1e-2)

    def fit(samples, grid, tolerance):
        given = {"num_classes": 4, "grid": grid, "tolerance": tolerance}
        return linear_probe.fit_path(samples, labels, rows, **given)

    *_, last = fit(features.astype(np.float32), grid, 1e-4)
    (exact,) = fit(features, grid[-1:], 1e-10)
    scores, expected = last.scores(features), exact.scores(features)
    assert last.weights.dtype == np.float32
    assert np.abs(scores - expected).max() < 1e-3 * np.abs(expected).max()


def test_unsolved_classes_are_reported(monkeypatch, caplog):
    monkeypatch.setattr(linear_probe, "_MAX_STEPS", 1)
    features, labels = _problem(100, 10)
    signs = linear_probe.class_signs(labels, 4, features.dtype)
    with caplog.at_level(logging.WARNING):
        linear_probe.solve(features, signs, 1.0, tolerance=1e-12)
    assert "not solved" in caplog.text


def test_z_score_of_training_rows_only_and_of_a_constant_feature():
    features = np.array([[1.0, 7.0], [3.0, 7.0], [1000.0, 9.0]])
    z_score = linear_probe.fit_z_score(features, np.array([0, 1]))
    np.testing.assert_allclose(z_score.mean, [2, 7])
    np.testing.assert_allclose(z_score.scale, [1, 1])
    # A classifier scores unscaled features as z-scored ones.
    features, labels = _problem(80, 6)
    rows = np.arange(50)
    (classifier,) = linear_probe.fit_path(features, labels, rows, num_classes=4, grid=[0.1])
    z_score = linear_probe.fit_z_score(features, rows)
    scaled = (features - z_score.mean) / z_score.scale
    signs = linear_probe.class_signs(labels[rows], 4, features.dtype)
    weights = linear_probe.solve(_with_ones(scaled[rows]), signs, 0.1)
    np.testing.assert_allclose(classifier.scores(features), _with_ones(scaled) @ weights.T)


def test_mean_per_recording_by_hand():
    scores = np.array([[1.0, 0.0], [0.0, 4.0], [3.0, 3.0]])
    means = linear_probe.mean_per_recording(scores, np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(means, [[0.5, 2.0], [0.0, 0.0], [3.0, 3.0]])


def _folded(num_recordings=100, num_subclips=3, noise=1.5):
    generator = np.random.default_rng(3)
    labels = np.arange(num_recordings) % 4
    parts = (np.arange(num_recordings) // 4 % 5 + 1).astype(str)
    owner = np.repeat(np.arange(num_recordings), num_subclips)
    centers = generator.normal(size=(4, 20))
    features = centers[labels][owner] + noise * generator.normal(size=(len(owner), 20))
    return features.astype(np.float32), owner, labels, parts


def _evaluate(features, owner, labels, parts, tested, c=None):
    return linear_probe.evaluate(features, owner, labels, parts, tested=list(tested), c=c, seed=0)


def test_every_fold_is_tested_and_c_is_chosen_from_the_grid():
    outcome = _evaluate(*_folded(), tested="12345")
    assert np.mean(outcome.predictions == _folded()[2]) > 0.9
    assert len(outcome.chosen_c) == 5
    assert set(outcome.chosen_c) <= set(linear_probe.C_GRID)
    assert _evaluate(*_folded(), tested="12", c=0.5).chosen_c == (0.5, 0.5)


def test_labels_of_the_tested_fold_change_nothing():
    features, owner, labels, parts = _folded(noise=4)
    shuffled = labels.copy()
    shuffled[parts == "2"] = np.roll(labels[parts == "2"], 1)
    run = [_evaluate(features, owner, y, parts, tested="2") for y in (labels, shuffled)]
    assert run[0].chosen_c == run[1].chosen_c
    np.testing.assert_array_equal(run[0].predictions, run[1].predictions)
    assert set(run[0].predictions[parts != "2"]) == {-1}


def test_training_sets_are_shared_between_tested_folds_and_progress_counts_the_fits(monkeypatch):
    calls, shown = [], []
    fit_path, problem = linear_probe.fit_path, linear_probe._Problem

    def counted(*args, **kwargs):
        calls.append(kwargs["grid"])
        return fit_path(*args, **kwargs)

    monkeypatch.setattr(linear_probe, "fit_path", counted)
    monkeypatch.setattr(linear_probe, "_Problem", lambda *a: shown.append(a[-1]) or problem(*a))
    _evaluate(*_folded(), tested="12345")
    assert len(calls) == 10 + 5  # pairs of folds left out, then one per tested fold
    assert shown[0].done == shown[0].total == 10 * len(linear_probe.C_GRID) + 5


def test_inner_groups_keep_folds_or_spread_each_class():
    labels = np.repeat([0, 1], 10)
    folds = np.tile(list("12345"), 4)
    assert linear_probe.inner_parts(labels, folds, list("12345"), seed=0) is folds
    speakers = np.array(["ann", "bob", "test", "test"] * 5)  # chosen on speakers, too
    assert linear_probe.inner_parts(labels, speakers, ["test"], seed=0) is speakers
    split = np.array(["train"] * 10 + ["test"] * 10)
    labels = np.tile([0, 1], 10)
    groups = linear_probe.inner_parts(labels, split, ["test"], seed=0)
    assert set(groups[10:]) == {"test"}
    assert sorted(np.unique(groups[:10])) == [f"inner {i}" for i in range(5)]
    assert all(len(set(groups[:10][labels[:10] == k])) == 5 for k in (0, 1))
    again = linear_probe.inner_parts(labels, split, ["test"], seed=0)
    np.testing.assert_array_equal(groups, again)


def test_one_training_group_falls_back_to_the_default(caplog):
    features, owner, labels, _ = _folded(8)
    parts = np.array(["1"] * 4 + ["2"] * 4)
    outcome = _evaluate(features, owner, labels, parts, tested="12")
    assert outcome.chosen_c == (linear_probe.DEFAULT_C,) * 2
    assert "cannot be chosen" in caplog.text
