"""Numbers that sum up a classifier's predictions: plain NumPy on small arrays."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def accuracy_summary(
    labels: np.ndarray,
    predictions: np.ndarray,
    parts: np.ndarray,
    *,
    tested: Sequence[str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Sums up predictions, int [num_recordings], of each of the `tested` parts.

    Returns:
        "accuracy": mean over the parts of the accuracy in per cent (ESC's measure: "mean accuracy
        over 5 leave-one-fold-out evaluations"); "accuracy_std": their standard deviation
        (population); "accuracy_per_part"; "num_tested"; "classes"; "confusion": counts over all
        parts, true class by row; "recall_per_class" in per cent, None for a class never tested.
    """
    correct = labels == predictions
    per_part = [100 * float(correct[parts == part].mean()) for part in tested]
    held = np.isin(parts, list(tested))
    confusion = np.zeros([len(classes)] * 2, np.int64)
    np.add.at(confusion, (labels[held], predictions[held]), 1)
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


def error_of_summary(summary: dict[str, Any]) -> float:
    """Returns the standard error of the accuracy of `accuracy_summary`, in per cent.

    Over several parts s / sqrt(k): s the sample standard deviation (k - 1) of the k parts'
    accuracies. Of a single part the `binomial_error` of its recordings.
    """
    parts = list(summary["accuracy_per_part"].values())
    if len(parts) > 1:
        return float(np.std(parts, ddof=1) / np.sqrt(len(parts)))
    return binomial_error(parts[0], summary["num_tested"])


def binomial_error(per_cent: float, num: int) -> float:
    """Returns the standard error of a share of `num` independent tests; both in per cent."""
    return math.sqrt(per_cent * (100 - per_cent) / num)


def clustered_error(values: np.ndarray, clusters: np.ndarray) -> float:
    """Returns the standard error of a mean of values that are not independent within a cluster.

    The cluster-robust one: sqrt(G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))^2) / n, of n values
    in G clusters. With one value per cluster it is s / sqrt(n), for 0 and 1 nearly
    sqrt(p (1 - p) / n); where the values of a cluster are all equal, that of G values.

    Args:
        values: numbers [n].
        clusters: [n], equal for values of the same cluster.

    Returns:
        NaN for a single cluster: it does not say how clusters differ.
    """
    values = np.asarray(values, np.float64)
    names, cluster_of = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return float("nan")
    sums = np.bincount(cluster_of.reshape(-1), values - values.mean())
    correction = len(names) / (len(names) - 1)
    return float(np.sqrt(correction * (sums**2).sum()) / len(values))


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
