"""nDCG against hand-computed numbers and its plain definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import ndcg


def test_gain_and_dcg_of_the_docstrings():
    assert ndcg.gain_of(np.array([0, 1, 3])).tolist() == [0, 1, 7]
    assert ndcg.gain_of(np.array([0, 1, 3]), ndcg.LINEAR).tolist() == [0, 1, 3]
    assert ndcg.dcg(np.array([1, 0, 2])) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="square"):
        ndcg.gain_of(np.array([1]), "square")
    histogram = np.array([2, 1, 1])
    best = 3 / math.log2(2) + 1 / math.log2(3)
    assert ndcg.ideal_dcg(histogram, 2) == pytest.approx(best)
    assert ndcg.ideal_dcg(histogram, 30) == pytest.approx(best)
    assert ndcg.ndcg(np.array([[1, 0]]), histogram[None]) == pytest.approx([1 / best])
    chance = ndcg.random_ndcg(np.array([[1, 0, 0, 1]]), 2)
    assert chance == pytest.approx([3.5 * (1 + 1 / math.log2(3)) / 7])


def test_ideal_is_of_the_whole_gallery_not_of_what_was_retrieved():
    nothing = np.array([[4, 0, 0]])
    assert ndcg.ndcg(np.array([[0, 0]]), nothing).tolist() == [0.0]
    assert ndcg.random_ndcg(nothing, 2).tolist() == [0.0]
    retrieved = np.array([[1, 1]])  # sorted as well as it can be, but better was to be had
    assert ndcg.ndcg(retrieved, np.array([[0, 2, 5]]))[0] == pytest.approx(1 / 3)
    assert ndcg.ndcg(retrieved, np.array([[9, 2, 0]]))[0] == 1.0


def _ndcg_by_definition(ranked: list[int], gain: str, k: int) -> float:
    """nDCG of a gallery ranked by some order, term by term."""

    def worth(relevance: int) -> float:
        return 2**relevance - 1 if gain == ndcg.EXPONENTIAL else relevance

    def cumulated(order: list[int]) -> float:
        return sum(worth(r) / math.log2(rank + 1) for rank, r in enumerate(order[:k], start=1))

    ideal = cumulated(sorted(ranked, reverse=True))
    return cumulated(ranked) / ideal if ideal else 0.0


@settings(deadline=None)
@given(
    ranked=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    gain=st.sampled_from(ndcg.GAINS),
    k=st.integers(1, 40),
)
def test_ndcg_is_the_definition(ranked, gain, k):
    histogram = np.bincount(ranked, minlength=21)[None]
    retrieved = np.array([ranked[:k]])
    if len(ranked) < k:  # a short list: k is then the length of what was retrieved
        k = len(ranked)
    expected = _ndcg_by_definition(ranked, gain, k)
    assert ndcg.ndcg(retrieved, histogram, gain=gain)[0] == pytest.approx(expected)


@pytest.mark.parametrize("gain", ndcg.GAINS)
def test_random_chance_is_the_mean_over_random_rankings(gain):
    rng = np.random.default_rng(0)
    relevance = rng.integers(0, 5, 12)
    orders = [rng.permutation(relevance).tolist() for _ in range(4000)]
    scores = [_ndcg_by_definition(order, gain, 4) for order in orders]
    expected = ndcg.random_ndcg(np.bincount(relevance, minlength=5)[None], 4, gain=gain)
    assert expected[0] == pytest.approx(np.mean(scores), abs=4 * np.std(scores) / math.sqrt(4000))
