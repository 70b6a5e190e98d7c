"""Do features know the classes that they never saw? Clusters and single units (L3 §3.5.3).

Clusters: normalized mutual information (NMI) of k-means with the classes (L3 Table 4). Units:
classes that some unit prefers, by the items that excite it most (L3 §3.5.3).
"""

import dataclasses

import numpy as np
import scipy.special

from l3net.errors import needs_extra

# Each k-means is the best of as many starts by k-means++ (our choice; the paper gives none).
NUM_INITS = 10
TOP = 5


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far each of several clusterings agrees with the classes.

    Attributes:
        nmi: normalized mutual information in [0, 1]. Not corrected for chance: it grows with the
            number of clusters and shrinks with the number of items.
        adjusted: adjusted mutual information, 0 by chance, 1 if equal.
    """

    nmi: tuple[float, ...]
    adjusted: tuple[float, ...]


def nmi(classes: np.ndarray, clusters: np.ndarray) -> float:
    """Returns the normalized mutual information, divided by the mean of the two entropies.

    The arithmetic mean, for with it (and not with minimum or maximum) random clusters give the
    .165 of L3 Table 4. Classes a a b b and clusters 0 0 0 1 share 0.3113 bit; the entropies are 1
    and 0.8113 bit, so it is 0.3437.
    """
    with needs_extra("eval", "comparing clusters"):
        from sklearn import metrics
    return float(
        metrics.normalized_mutual_info_score(classes, clusters, average_method="arithmetic")
    )


def agreement(classes: np.ndarray, clusterings: list[np.ndarray]) -> Agreement:
    """Compares clusterings, int [num] each, with classes [num]."""
    with needs_extra("eval", "comparing clusters"):
        from sklearn import metrics
    adjusted = metrics.adjusted_mutual_info_score
    return Agreement(
        tuple(nmi(classes, clusters) for clusters in clusterings),
        tuple(float(adjusted(classes, clusters)) for clusters in clusterings),
    )


def nmi_error(classes: np.ndarray, clusterings: list[np.ndarray]) -> float:
    """Returns the standard error of the mean NMI of some clusterings, over the items.

    The jackknife (our choice; the paper gives no error): NMI is computed without each of the n
    items in turn, and the variance is (n - 1) / n times the sum of squared deviations. A bootstrap
    repeats items, which raises NMI (.163 to .26 for random clusters of 1,900 items), and gives too
    small an error; the jackknife's is right or, where nearly each pair of class and cluster is
    single, up to half too large. Clusters stay as they are: k-means is not run again.

    Args:
        classes: [num], two items or more.
        clusterings: int [num] each.
    """
    without = np.mean([_nmi_without_each(classes, clusters) for clusters in clusterings], axis=0)
    return float(np.sqrt((len(without) - 1) * without.var()))


def _nmi_without_each(classes: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Returns NMI of all items but one, float64 [num] for each that is left out."""
    _, row = np.unique(classes, return_inverse=True)
    _, column = np.unique(clusters, return_inverse=True)
    _, pair = np.unique(row * len(classes) + column, return_inverse=True)
    entropies = []
    for group in (row, column, pair):  # of classes, of clusters, of both
        counts, num = np.bincount(group), len(group) - 1
        terms, less = (scipy.special.xlogy(c, c) for c in (counts, counts - 1))
        entropies.append((np.log(num) - (terms.sum() - terms + less) / num)[group])
    of_class, of_cluster, of_both = entropies
    mean = (of_class + of_cluster) / 2
    shared = of_class + of_cluster - of_both
    return np.divide(shared, mean, out=np.ones_like(mean), where=mean > 1e-12)


def random_clusterings(
    num_items: int, num_clusters: int, *, num_draws: int, seed: int
) -> list[np.ndarray]:
    """Draws clusterings, int [num_items] each: "random assignments" of L3 Table 4."""
    rng = np.random.default_rng(seed)
    return [rng.integers(num_clusters, size=num_items) for _ in range(num_draws)]


def kmeans_clustering(features: np.ndarray, num_clusters: int, *, seed: int) -> np.ndarray:
    """Clusters features [num_items, num_features] by k-means, the best of `NUM_INITS` starts."""
    with needs_extra("eval", "k-means"):
        from sklearn import cluster
    kmeans = cluster.KMeans(num_clusters, n_init=NUM_INITS, random_state=seed)
    return kmeans.fit_predict(features)


def unit_length(features: np.ndarray) -> np.ndarray:
    """Scales each row to length 1; a row of zeros stays. [[3, 4]] gives [[0.6, 0.8]]."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def preferred_classes(
    activations: np.ndarray, classes: np.ndarray, *, num_needed: int, top: int = TOP
) -> dict[str, int]:
    """Finds the classes that have a high-preference unit (L3 §3.5.3).

    For each unit all items are ranked by its activation and the top 5 are kept; if 4 of them are
    of one class, that class has a high-preference unit. Equal activations rank by index. Our
    choice: an item at the unit's lowest activation is not excited by it and does not count, so a
    unit that gives all items the same prefers no class.

    Activations are float [num_items, num_units], such as pool4, every item of another clip;
    `num_needed` of the `top` items must be of one class, 4 or 3 in the paper.

    Returns:
        Class -> the first unit that prefers it, sorted by class. Items of classes a b a, with
        activations 3 1 2 of a single unit, give {"a": 0} for 2 of the top 2.
    """
    order = np.argsort(-activations, axis=0, kind="stable")[:top]
    excited = np.take_along_axis(activations, order, axis=0) > activations.min(axis=0)
    unit_of_class: dict[str, int] = {}
    for unit in range(activations.shape[1]):
        names, counts = np.unique(classes[order[excited[:, unit], unit]], return_counts=True)
        for name in names[counts >= num_needed]:
            unit_of_class.setdefault(str(name), unit)
    return dict(sorted(unit_of_class.items()))
