"""Numbers that sum up a classifier's predictions: plain NumPy on small arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts how often each class was taken for each.

    Args:
        labels: int [num], true classes.
        predictions: int [num].
        num_classes: number of classes.

    Returns:
        int64 [num_classes, num_classes], true class by row, predicted class by column. Labels
        [0, 0, 1] and predictions [0, 1, 1] give [[1, 1], [0, 1]].
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def accuracy_summary(
    labels: np.ndarray,
    predictions: np.ndarray,
    parts: np.ndarray,
    *,
    tested: Sequence[str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Sums up predictions part by part.

    Args:
        labels: int [num_recordings].
        predictions: int [num_recordings].
        parts: str [num_recordings].
        tested: the parts that were tested, each in turn.
        classes: names, by class index.

    Returns:
        "accuracy": mean over the parts of the accuracy in per cent (ESC's measure: "mean accuracy
        over 5 leave-one-fold-out evaluations"); "accuracy_std": their standard deviation
        (population); "accuracy_per_part"; "num_tested"; "classes"; "confusion": counts over all
        parts, true class by row; "recall_per_class" in per cent, None for a class never tested.
    """
    right = labels == predictions
    per_part = [100 * float(right[parts == part].mean()) for part in tested]
    held = np.isin(parts, list(tested))
    confusion = confusion_matrix(labels[held], predictions[held], len(classes))
    totals = confusion.sum(axis=1)
    recall = [
        100 * float(n / t) if t else None for n, t in zip(confusion.diagonal(), totals, strict=True)
    ]
    return {
        "accuracy": float(np.mean(per_part)),
        "accuracy_std": float(np.std(per_part)),
        "accuracy_per_part": dict(zip(tested, per_part, strict=True)),
        "num_tested": int(held.sum()),
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "recall_per_class": dict(zip(classes, recall, strict=True)),
    }


def best_threshold(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Returns the threshold above which to say "positive" for the highest accuracy.

    Args:
        scores: float [num].
        is_positive: bool or 0/1 int [num].

    Returns:
        The middle between two neighbouring scores (of several equally good ones the lowest), or
        just outside all of them. Scores [0.1, 0.4, 0.6] and truth [0, 1, 1] give 0.25.

    Raises:
        ValueError: if there is no score.
    """
    if len(scores) == 0:
        raise ValueError("got no scores; need at least one")
    values = np.unique(np.asarray(scores, np.float64))
    margin = 0.5 * (values[-1] - values[0]) + 1e-9
    middles = (values[1:] + values[:-1]) / 2
    candidates = np.concatenate([[values[0] - margin], middles, [values[-1] + margin]])
    positives = np.sort(np.asarray(scores, np.float64)[np.asarray(is_positive, bool)])
    negatives = np.sort(np.asarray(scores, np.float64)[~np.asarray(is_positive, bool)])
    hits = len(positives) - np.searchsorted(positives, candidates, side="right")
    rejections = np.searchsorted(negatives, candidates, side="right")
    return float(candidates[np.argmax(hits + rejections)])


# --- Ranked lists --------------------------------------------------------------------------------
EXPONENTIAL, LINEAR = GAINS = ("exponential", "linear")


def gain_of(relevance: np.ndarray, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns what an item of some relevance is worth: 2^r - 1, or r itself.

    Args:
        relevance: int or float of any shape, not negative.
        gain: one of GAINS.

    Returns:
        float64 of the same shape. Relevance [0, 1, 3] is worth [0, 1, 7], linear [0, 1, 3].

    Raises:
        ValueError: if the gain is unknown.
    """
    if gain not in GAINS:
        raise ValueError(f"gain {gain!r}: need one of {', '.join(GAINS)}")
    values = np.asarray(relevance, np.float64)
    return np.exp2(values) - 1 if gain == EXPONENTIAL else values


def dcg(relevance: np.ndarray, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the discounted cumulative gain of ranked lists: the sum of gain_i / log2(i + 1).

    Args:
        relevance: [..., k], of the items at ranks 1 to k.
        gain: one of GAINS.

    Returns:
        float64 [...]. Relevance [1, 0, 2] gives 1 / log2(2) + 0 + 3 / log2(4) = 2.5.
    """
    values = gain_of(relevance, gain)
    return values @ _discounts(values.shape[-1])


def ideal_dcg(histograms: np.ndarray, k: int, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the DCG of the best possible ranking of a whole data base.

    Args:
        histograms: int [..., num_levels], the number of items of relevance 0, 1, 2, ...
        k: length of the list; a smaller data base gives a shorter one.
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
    """Returns nDCG@k: the DCG of ranked lists over that of the data base's best ranking.

    Args:
        relevance: int [num_queries, k], of what was found, best rank first.
        histograms: int [num_queries, num_levels], of the whole data base by relevance to each
            query; not of what was found: the ideal is the best that could have been found.
        gain: one of GAINS.

    Returns:
        float64 [num_queries] in [0, 1]; 0 where nothing in the data base is relevant. A query that
        finds relevance [1, 0] in a data base of [2, 1, 1] (see `ideal_dcg`) scores 1 / 3.63 = .275.
    """
    ideal = ideal_dcg(histograms, relevance.shape[-1], gain)
    found = dcg(relevance, gain)
    return np.divide(found, ideal, out=np.zeros_like(found), where=ideal > 0)


def random_ndcg(histograms: np.ndarray, k: int, *, gain: str = EXPONENTIAL) -> np.ndarray:
    """Returns the expected nDCG@k of a ranking drawn at random.

    Every rank then holds a random item, so the expected gain there is the data base's mean.

    Args:
        histograms: see `ndcg`.
        k: length of the list.
        gain: one of GAINS.

    Returns:
        float64 [num_queries]. Of a data base of [1, 0, 0, 1], k = 2, the mean gain is 3.5: 3.5 *
        (1 + 1 / log2(3)) / 7 = .815.
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
