"""Nearest neighbours and their scores, against sorting everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import ndcg, ranking
from eval.sets import ontology


def test_l2_normalize_leaves_zeros_alone():
    scaled = ranking.l2_normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, 0]], rtol=1e-6)


@settings(deadline=None)
@given(
    num=st.integers(2, 300),
    num_queries=st.integers(1, 20),
    k=st.integers(1, 40),
    own=st.booleans(),
    levels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_nearest_is_a_stable_sort_of_all_scores(num, num_queries, k, own, levels, seed):
    rng = np.random.default_rng(seed)
    # Whole numbers: many items score alike, and products are exact.
    items = rng.integers(-levels, levels + 1, (num, 3)).astype(np.float32)
    queries = rng.integers(-levels, levels + 1, (num_queries, 3)).astype(np.float32)
    scores = queries @ items.T
    if own:
        queries = queries[:num]
        scores = scores[:num]
        np.fill_diagonal(scores, -np.inf)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, num - own)]
    np.testing.assert_array_equal(ranking.nearest(queries, items, k, leave_out_own=own), expected)


def test_queries_come_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    # Whole numbers: products are exact, however a library sums them up in a block of some size.
    items = rng.integers(-999, 1000, (500, 8)).astype(np.float32)
    at_once = ranking.nearest(items, items, 30, leave_out_own=True)
    monkeypatch.setattr(ranking, "SCORES_AT_ONCE", 7 * 512)
    np.testing.assert_array_equal(ranking.nearest(items, items, 30, leave_out_own=True), at_once)


# --- Judge ---------------------------------------------------------------------------------------
TREE = ontology.Ontology({"root": ["x", "y"], "x": ["x1", "x2"], "y": ["y1"]})
DISTANCES = {
    pair: TREE.distance(*pair) for pair in itertools.product(("x1", "x2", "y1", "root"), repeat=2)
}
LABELS = [("x1",), ("x1", "y1"), ("x2",), ("y1",), ("y1",), ("root",), ("x1",)]


def _by_definition(queries, items, k, gain, own) -> float:
    """Mean nDCG@k with the ideal over the whole gallery, nothing shared with the module."""
    scores = []
    for q, query in enumerate(queries):
        order = sorted(range(len(items)), key=lambda i: (-float(query @ items[i]), i))
        order = [i for i in order if not (own and i == q)]
        relevance = [max(20 - DISTANCES[a, b] for a in LABELS[q] for b in LABELS[i]) for i in order]
        worth = [2.0**r - 1 if gain == ndcg.EXPONENTIAL else r for r in relevance]
        discounts = 1 / np.log2(np.arange(2, 2 + min(k, len(worth))))
        best = sorted(worth, reverse=True)
        scores.append(np.dot(worth[:k], discounts) / np.dot(best[:k], discounts))
    return float(np.mean(scores))


@pytest.mark.parametrize("gain", ndcg.GAINS)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("k", [3, 7])
def test_scores_are_the_definition(gain, own, k):
    rng = np.random.default_rng(k)
    k = min(k, len(LABELS) - own)
    queries, items = (ranking.l2_normalize(rng.standard_normal((len(LABELS), 4))) for _ in range(2))
    judge = ranking.Judge(ontology.Relevance(TREE, LABELS), k=k, gain=gain)
    score = judge.score(queries, items, leave_out_own=own)
    assert score.mean == pytest.approx(_by_definition(queries, items, k, gain, own))


def test_perfect_features_score_one_and_none_score_as_chance():
    labels = [(f"{letter}1",) for letter in "xy" for _ in range(40)]
    rng = np.random.default_rng(0)
    labels = [labels[place] for place in rng.permutation(len(labels))]
    judge = ranking.Judge(ontology.Relevance(TREE, labels), k=30)
    perfect = np.array([[of[0] == "x1", of[0] == "y1"] for of in labels], np.float32)
    assert judge.score(perfect, perfect).mean == pytest.approx(1.0)
    chance = judge.random_chance().mean
    assert chance == pytest.approx(0.5 * (1 + (2**16 - 1) / (2**20 - 1)), abs=1e-6)
    drawn = [
        ranking.l2_normalize(np.random.default_rng(seed).standard_normal((80, 6)))
        for seed in range(20)
    ]
    scores = [judge.score(a, b).mean for a, b in zip(drawn, drawn[1:], strict=False)]
    assert np.mean(scores) == pytest.approx(chance, abs=0.02)
    alike = np.ones((80, 4), np.float32)
    assert judge.score(alike, alike).mean == pytest.approx(chance, abs=0.1)


def test_own_item_is_worth_what_it_says():
    rng = np.random.default_rng(1)
    labels = [(("x1", "y1")[i % 2],) for i in range(100)]
    features = ranking.l2_normalize(rng.standard_normal((100, 8)))
    judge = ranking.Judge(ontology.Relevance(TREE, labels), k=30)
    with_own, without = (
        judge.score(features, features, leave_out_own=own).mean for own in (False, True)
    )
    assert with_own > without + 0.02


def test_standard_error_is_the_bootstraps_over_queries():
    rng = np.random.default_rng(0)
    relevance = ontology.Relevance(TREE, [(("x1", "y1", "root")[i % 3],) for i in range(60)])
    judge = ranking.Judge(relevance, k=5)
    features = ranking.l2_normalize(rng.standard_normal((60, 4)))
    score = judge.score(features, features)
    best = ranking.nearest(features, features, 5)
    found = relevance.between(np.arange(60), best)
    of_queries = ndcg.ndcg(found, relevance.histograms()[relevance.set_of])
    means = of_queries[rng.integers(60, size=(1000, 60))].mean(axis=1)
    assert score.standard_error == pytest.approx(means.std(), rel=0.1)
    assert judge.random_chance().standard_error is None
