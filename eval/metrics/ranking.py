"""Nearest neighbours among L2-normalised features, and how good their order is (OTS §3.1).

All scores of a block of queries come from one matrix product; of each block only the best are
kept, so memory does not grow with queries x items.
"""

import dataclasses
from typing import Protocol

import numpy as np

from eval.metrics import ndcg
from l3net.progress import track

SCORES_AT_ONCE = 1 << 24  # in a block of queries: 64 MB
_GROUP = 64  # items whose best score is looked at first


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """Scales rows to length 1, as float32; a row of zeros stays as it is."""
    features = np.asarray(features, np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)


def nearest(
    queries: np.ndarray, gallery: np.ndarray, k: int, *, leave_out_own: bool = False
) -> np.ndarray:
    """Returns each query's best items: those with the highest inner product.

    For rows of length 1 these are the ones at the smallest Euclidean distance. Of items that score
    alike the earlier comes first: put them in a random order if features may coincide.

    Args:
        queries: float32 [num_queries, size].
        gallery: float32 [num_items, size].
        k: the number of items; fewer if there are not as many.
        leave_out_own: whether query i must not retrieve item i.

    Returns:
        int64 [num_queries, k], indices into the gallery, the best first.
    """
    k = min(k, len(gallery) - leave_out_own)
    num_groups = max(k, -(-len(gallery) // _GROUP))
    size = -(-len(gallery) // num_groups) * num_groups
    padded = np.zeros((size, gallery.shape[1]), np.float32)
    padded[: len(gallery)] = gallery
    step = max(1, SCORES_AT_ONCE // size)
    best = np.empty((len(queries), k), np.int64)
    for start in track(range(0, len(queries), step), "nearest neighbours", unit="block"):
        scores = queries[start : start + step] @ padded.T
        scores[:, len(gallery) :] = -np.inf
        if leave_out_own:
            own = np.arange(len(scores))
            scores[own, start + own] = -np.inf
        best[start : start + step] = _best(scores, k, num_groups)
    return best


def _best(scores: np.ndarray, k: int, num_groups: int) -> np.ndarray:
    """Returns the columns of each row's k highest scores, the highest first.

    At least k items reach the k-th highest of the groups' maxima, so only groups that reach it are
    looked into: one fast pass over the scores in place of a selection among all of them. Column c
    belongs to group c % num_groups.
    """
    grouped = scores.reshape(len(scores), -1, num_groups)
    maxima = grouped.max(axis=1)
    reach = np.partition(maxima, num_groups - k, axis=1)[:, num_groups - k]
    rows, groups = np.nonzero(maxima >= reach[:, None])
    members = grouped[rows, :, groups]
    pair, inside = np.nonzero(members >= reach[rows][:, None])
    rows, columns = rows[pair], inside * num_groups + groups[pair]
    order = np.lexsort((columns, -members[pair, inside], rows))
    starts = np.searchsorted(rows, np.arange(len(scores)))  # rows are in order already
    return columns[order[starts[:, None] + np.arange(k)]]


class Relevance(Protocol):
    """Relevance between labelled clips, such as `eval.sets.ontology.Relevance`."""

    set_of: np.ndarray

    def between(self, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the relevance of clips [num_queries, k] to clips [num_queries]."""

    def histograms(self) -> np.ndarray:
        """Returns for each distinct set of labels the number of clips of each relevance to it."""


@dataclasses.dataclass(frozen=True)
class Score:
    """nDCG@k in one direction of retrieval.

    Attributes:
        mean: over all queries.
        standard_error: of that mean over the queries, the gallery as it is; None: exact. It is
            what a bootstrap over queries tends to with more and more resamples, which of a mean
            has a closed form: the standard deviation by the square root of their number.
    """

    mean: float
    standard_error: float | None


class Judge:
    """Scores rankings of a set of clips, each of them a query and an item of the gallery."""

    def __init__(self, relevance: Relevance, *, k: int, gain: str = ndcg.EXPONENTIAL):
        """Counts, for every distinct set of labels, what could be retrieved.

        Args:
            relevance: between the clips.
            k: length of the list.
            gain: one of `ndcg.GAINS`.
        """
        self._relevance, self._k, self._gain = relevance, k, gain
        self._all = relevance.histograms()
        # A clip's relevance to itself is the highest, whatever its labels.
        self._without_own = self._all.copy()
        self._without_own[:, -1] -= 1

    def score(
        self, queries: np.ndarray, gallery: np.ndarray, *, leave_out_own: bool = False
    ) -> Score:
        """Ranks the gallery by each query and scores the rankings.

        Args:
            queries: float32 [num_clips, size], L2-normalised.
            gallery: float32 [num_clips, size], likewise, of the same clips in the same order.
            leave_out_own: whether clip i is no item for query i.
        """
        best = nearest(queries, gallery, self._k, leave_out_own=leave_out_own)
        relevance = self._relevance.between(np.arange(len(best)), best)
        histograms = self._histograms(leave_out_own)[self._relevance.set_of]
        scores = ndcg.ndcg(relevance, histograms, gain=self._gain)
        return Score(float(scores.mean()), float(scores.std() / np.sqrt(len(scores))))

    def random_chance(self, *, leave_out_own: bool = False) -> Score:
        """Returns the expected score of rankings drawn at random; see `ndcg.random_ndcg`."""
        histograms = self._histograms(leave_out_own)
        by_set = ndcg.random_ndcg(histograms, self._k, gain=self._gain)
        return Score(float(by_set[self._relevance.set_of].mean()), None)

    def _histograms(self, leave_out_own: bool) -> np.ndarray:
        return self._without_own if leave_out_own else self._all
