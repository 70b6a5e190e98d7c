"""Nearest neighbours among L2-normalised features, and how good their order is (OTS §3.1).

All scores of a block of queries come from one matrix product; of each block only the best are
kept, so memory does not grow with queries x items.
"""

import dataclasses
import sys

import numpy as np
import tqdm

from eval.metrics import accuracy
from eval.sets import ontology

SCORES_AT_ONCE = 1 << 24  # of a block of queries: 64 MB
_GROUP = 64  # items whose best score is looked at first


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """Scales rows to length 1; a row of zeros stays as it is.

    Args:
        features: float [num, size].

    Returns:
        float32 [num, size].
    """
    features = np.asarray(features, np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)


def nearest(
    queries: np.ndarray, items: np.ndarray, k: int, *, leave_out_own: bool = False
) -> np.ndarray:
    """Finds each query's best items: those with the highest inner product.

    For rows of length 1 these are the ones at the smallest Euclidean distance. Of items that score
    alike the earlier comes first: put them in a random order if features may coincide.

    Args:
        queries: float32 [num_queries, size].
        items: float32 [num_items, size].
        k: how many; fewer if there are not as many.
        leave_out_own: whether query i must not find item i.

    Returns:
        int64 [num_queries, k], the best first.
    """
    k = min(k, len(items) - leave_out_own)
    num_groups = max(k, -(-len(items) // _GROUP))
    size = -(-len(items) // num_groups) * num_groups
    padded = np.zeros((size, items.shape[1]), np.float32)
    padded[: len(items)] = items
    step = max(1, SCORES_AT_ONCE // size)
    found = np.empty((len(queries), k), np.int64)
    starts = range(0, len(queries), step)
    seconds = 0.1 if sys.stderr.isatty() else 30.0  # a log file needs no more
    for start in tqdm.tqdm(starts, desc="nearest", delay=5, leave=False, mininterval=seconds):
        scores = queries[start : start + step] @ padded.T
        scores[:, len(items) :] = -np.inf
        if leave_out_own:
            own = np.arange(len(scores))
            scores[own, start + own] = -np.inf
        found[start : start + step] = _best(scores, k, num_groups)
    return found


def _best(scores: np.ndarray, k: int, num_groups: int) -> np.ndarray:
    """Returns the columns of each row's k highest scores, the highest first.

    At least k items reach the k-th highest of the groups' maxima, so only groups that reach it are
    looked into: one fast pass over the scores in place of a selection among all of them.

    Args:
        scores: float32 [num_rows, a multiple of num_groups].
        k: at most num_groups.
        num_groups: column c is of group c % num_groups.

    Returns:
        int64 [num_rows, k].
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


@dataclasses.dataclass(frozen=True)
class Score:
    """nDCG@k of one direction of retrieval.

    Attributes:
        mean: over all queries.
        standard_error: of that mean.
    """

    mean: float
    standard_error: float


class Judge:
    """Scores rankings of a set of clips, each of them a query and an item.

    Attributes:
        k: length of the list.
        gain: one of metrics.GAINS.
    """

    def __init__(self, relevance: ontology.Relevance, *, k: int, gain: str = accuracy.EXPONENTIAL):
        """Counts, for every distinct set of labels, what could be found.

        Args:
            relevance: between the clips.
            k: length of the list.
            gain: one of metrics.GAINS.
        """
        self.k, self.gain = k, gain
        self._relevance = relevance
        self._whole = relevance.histograms()
        # A clip's relevance to itself is the highest, whatever its labels.
        self._without_own = self._whole - np.eye(
            1, ontology.NUM_LEVELS, ontology.MAX_RELEVANCE, int
        )

    def score(
        self, queries: np.ndarray, items: np.ndarray, *, leave_out_own: bool = False
    ) -> Score:
        """Ranks the items by each query and scores the rankings.

        Args:
            queries: float32 [num_clips, size], L2-normalised.
            items: float32 [num_clips, size], likewise, of the same clips in the same order.
            leave_out_own: whether clip i is no item for query i.

        Returns:
            The score.
        """
        found = nearest(queries, items, self.k, leave_out_own=leave_out_own)
        relevance = self._relevance.between(np.arange(len(found)), found)
        histograms = self._histograms(leave_out_own)[self._relevance.set_of]
        return _summary(accuracy.ndcg(relevance, histograms, gain=self.gain))

    def random_chance(self, *, leave_out_own: bool = False) -> Score:
        """Returns the expected score of rankings drawn at random; see `metrics.random_ndcg`."""
        histograms = self._histograms(leave_out_own)
        by_set = accuracy.random_ndcg(histograms, self.k, gain=self.gain)
        return _summary(by_set[self._relevance.set_of])

    def _histograms(self, leave_out_own: bool) -> np.ndarray:
        return self._without_own if leave_out_own else self._whole


def _summary(scores: np.ndarray) -> Score:
    return Score(float(scores.mean()), float(scores.std() / np.sqrt(len(scores))))
