"""CCA in closed form, against scikit-learn's and against what is known of the data."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from eval.methods import cca
from l3net.errors import UserError


def _pairs(num=400, sizes=(7, 5), num_shared=3, seed=0):
    """Two kinds of features with some hidden variables in common."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((num, num_shared))
    return [
        shared @ rng.standard_normal((num_shared, size)) + rng.standard_normal((num, size)) + 3
        for size in sizes
    ]


def test_canonical_correlations_are_scikit_learns():
    first, second = _pairs()
    found = cca.fit(first, second, num_components=4, regularization=0)
    theirs = CCA(n_components=4, scale=False, max_iter=5000, tol=1e-12).fit(first, second)
    ours = [found.first.project(first), found.second.project(second)]
    a, b = theirs.transform(first, second)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    measured = [np.corrcoef(ours[0][:, i], ours[1][:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(found.correlations, expected, atol=1e-6)
    np.testing.assert_allclose(measured, found.correlations, atol=1e-6)


def test_canonical_variables_are_uncorrelated_and_of_variance_one():
    first, second = _pairs()
    found = cca.fit(first, second, regularization=0)
    assert len(found.correlations) == 5  # no more than the smaller side has features
    for side, features in ((found.first, first), (found.second, second)):
        projected = side.project(features)
        np.testing.assert_allclose(np.cov(projected.T), np.eye(5), atol=1e-5)
        np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_array_less(np.diff(found.correlations), 1e-12)


def test_finds_matching_rows_among_new_pairs_where_plain_features_cannot():
    first, second = _pairs(1200, sizes=(40, 30), num_shared=12)
    found = cca.fit(first[:1000], second[:1000], num_components=12, regularization=0.01)
    a, b = found.first.project(first[1000:]), found.second.project(second[1000:])
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    assert ((a @ b.T).argmax(axis=1) == np.arange(200)).mean() > 0.9


def test_sums_by_chunks_of_rows(monkeypatch):
    first, second = _pairs()
    whole = cca.fit(first, second, regularization=0.01)
    monkeypatch.setattr(cca, "_CHUNK_ROWS", 33)
    again = cca.fit(first, second, regularization=0.01)
    np.testing.assert_allclose(again.correlations, whole.correlations, rtol=1e-9)


def test_plain_cca_leaves_out_what_does_not_vary_and_all_need_pairs():
    first, second = _pairs()
    with pytest.raises(UserError, match="1 pair"):
        cca.fit(first[:1], second[:1], regularization=0.01)
    with pytest.raises(ValueError, match="need pairs"):
        cca.fit(first, second[:-1], regularization=0.01)
    plain = cca.fit(first, second, regularization=0)
    # A unit that never fires, and one that says the same as another.
    more = np.concatenate([first, np.zeros((len(first), 1)), first[:, :1]], axis=1)
    again = cca.fit(more, second, regularization=0)
    np.testing.assert_allclose(again.correlations, plain.correlations, atol=1e-9)
    theirs, ours = again.first.project(more), plain.first.project(first)
    np.testing.assert_allclose(np.abs(theirs), np.abs(ours), atol=1e-4)
    few = cca.fit(first[:4], second[:4], regularization=0)  # fewer pairs than features
    assert len(few.correlations) == 3 and np.isfinite(few.first.directions).all()
    with pytest.raises(UserError, match="all 7 features of one side are the same"):
        cca.fit(np.ones_like(first), second, regularization=0)
