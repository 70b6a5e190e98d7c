"""nDCG: how good a ranked list is, as a share of the best list that the gallery allows."""

import numpy as np

EXPONENTIAL, LINEAR = GAINS = ("exponential", "linear")


def gain_of(relevance: np.ndarray, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the gain of items by their relevance r: 2^r - 1 (exponential), or r (linear).

    Relevance [0, 1, 3] has gain [0, 1, 7], linear [0, 1, 3].

    Raises:
        ValueError: if the gain is unknown.
    """
    if gain not in GAINS:
        raise ValueError(f"gain {gain!r}: need one of {', '.join(GAINS)}")
    values = np.asarray(relevance, np.float64)
    return np.exp2(values) - 1 if gain == EXPONENTIAL else values


def dcg(relevance: np.ndarray, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the discounted cumulative gain of ranked lists: the sum of gain_i / log2(i + 1).

    The relevance of ranks 1 to k is the last axis: [1, 0, 2] gives 1 / log2(2) + 0 + 3 / log2(4)
    = 2.5.
    """
    values = gain_of(relevance, gain)
    return values @ _discounts(values.shape[-1])


def ideal_dcg(histograms: np.ndarray, k: int, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the DCG of the best possible ranking of the whole gallery.

    Args:
        histograms: int [..., num_levels], the number of items of relevance 0, 1, 2, ...
        k: length of the list; a smaller gallery gives a shorter one.
        gain: one of GAINS.

    Returns:
        float64 [...]. Of two items of relevance 0, one of 1 and one of 2, [2, 1, 1], the best two
        are 2 and 1: 3 / log2(2) + 1 / log2(3) = 3.63.
    """
    best_first = np.flip(np.asarray(histograms), axis=-1)
    ranked = np.minimum(np.cumsum(best_first, axis=-1), k)  # how many up to and with each level
    upto = np.concatenate([[0.0], np.cumsum(_discounts(k))])[ranked]
    share = np.diff(upto, axis=-1, prepend=0.0)
    return share @ np.flip(gain_of(np.arange(best_first.shape[-1]), gain))


def ndcg(relevance: np.ndarray, histograms: np.ndarray, *, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns nDCG@k: the DCG of ranked lists over that of the gallery's best ranking.

    Args:
        relevance: int [num_queries, k], the retrieved items', best rank first.
        histograms: int [num_queries, num_levels], the whole gallery by relevance to each query;
            not only what was retrieved: the ideal is the best that could have been.
        gain: one of GAINS.

    Returns:
        float64 [num_queries] in [0, 1]; 0 where nothing in the gallery is relevant. A query that
        retrieves relevance [1, 0] from a gallery of [2, 1, 1] (see `ideal_dcg`) scores 1 / 3.63.
    """
    ideal = ideal_dcg(histograms, relevance.shape[-1], gain)
    reached = dcg(relevance, gain)
    return np.divide(reached, ideal, out=np.zeros_like(reached), where=ideal > 0)


def random_ndcg(histograms: np.ndarray, k: int, *, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the expected nDCG@k of a ranking drawn at random.

    Every rank then holds a random item, so the expected gain there is the gallery's mean.

    Args:
        histograms: see `ndcg`.
        k: length of the list.
        gain: one of GAINS.

    Returns:
        float64 [num_queries]. In a gallery of [1, 0, 0, 1] with k = 2 the mean gain is 3.5:
        3.5 * (1 + 1 / log2(3)) / 7 = .815.
    """
    counts = np.asarray(histograms, np.float64)
    totals = counts.sum(axis=-1)
    mean = counts @ gain_of(np.arange(counts.shape[-1]), gain) / totals
    lengths = np.minimum(totals, k).astype(int)
    upto = np.concatenate([[0.0], np.cumsum(_discounts(k))])[lengths]
    ideal = ideal_dcg(histograms, k, gain)
    return np.divide(mean * upto, ideal, out=np.zeros_like(mean), where=ideal > 0)


def _discounts(k: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, k + 2))
