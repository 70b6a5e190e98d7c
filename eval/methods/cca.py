"""Canonical correlation analysis: aligns two kinds of features of the same clips (OTS §3.1).

Solved in closed form: both kinds are whitened, and the singular vectors of the cross-covariance of
the whitened features are the directions. (scikit-learn's CCA iterates for each component.)
"""

import dataclasses

import numpy as np
import scipy.linalg

from l3net.errors import UserError

NUM_COMPONENTS = 128  # "all CCA-based methods use 128 components"
# Our choice (the paper names none, which is 0, plain CCA): shares of the features' mean variance,
# one of which is added to each variance. With few training clips a small share lets meaningless
# directions count as much as the best. See `eval.retrieval`.
REGULARIZATION_GRID = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_CHUNK_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Side:
    """One side's map into the common space."""

    mean: np.ndarray  # float64 [size]
    directions: np.ndarray  # float64 [size, num_components]

    def project(self, features: np.ndarray) -> np.ndarray:
        """Returns the canonical variables of features [num, size]: float32 [num, components]."""
        return ((features - self.mean) @ self.directions).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Cca:
    """The two maps and the canonical correlations, which the regularisation shrinks."""

    first: Side
    second: Side
    correlations: np.ndarray  # float64 [num_components], falling


def fit(
    first: np.ndarray,
    second: np.ndarray,
    *,
    regularization: float,
    num_components: int = NUM_COMPONENTS,
) -> Cca:
    """Finds the directions along which two kinds of features correlate most.

    Args:
        first: float [num_pairs, first_size].
        second: float [num_pairs, second_size]; row i belongs to row i of `first`.
        regularization: added to each variance, as a share of the mean variance; 0 is plain CCA.
        num_components: number of directions; fewer if a side has fewer features.

    Returns:
        The maps; on the pairs the canonical variables have variance 1 (without regularisation).
        Directions in which a side does not vary, as of units that never fire, are left out.

    Raises:
        UserError: if there are fewer than two pairs, or a side has constant features only.
        ValueError: if the numbers of rows differ.
    """
    if len(first) != len(second):
        raise ValueError(f"got {len(first)} and {len(second)} rows; need pairs")
    if len(first) < 2:
        raise UserError(f"CCA has {len(first)} pair(s) to be fitted to; need at least 2")
    means = [side.mean(axis=0, dtype=np.float64) for side in (first, second)]
    whitening = [
        _whitening(_covariance(side, side, mean, mean), regularization)
        for side, mean in zip((first, second), means, strict=True)
    ]
    cross = whitening[0].T @ _covariance(first, second, *means) @ whitening[1]
    left, correlations, right = scipy.linalg.svd(cross, full_matrices=False)
    count = min(num_components, len(correlations))
    directions = [
        matrix @ vectors[:, :count]
        for matrix, vectors in zip(whitening, (left, right.T), strict=True)
    ]
    sides = [Side(mean, turned) for mean, turned in zip(means, directions, strict=True)]
    return Cca(sides[0], sides[1], correlations[:count])


def _covariance(a: np.ndarray, b: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray) -> np.ndarray:
    """Returns the covariance of the columns in float64, a chunk of rows at a time."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(a), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        total += (a[rows] - mean_a).T @ (b[rows] - mean_b)
    return total / (len(a) - 1)


def _whitening(covariance: np.ndarray, regularization: float) -> np.ndarray:
    """Returns [size, rank]: maps features to uncorrelated ones of (regularised) variance 1.

    Of directions whose variance is 0 but for rounding it has none, as a pseudo-inverse.
    """
    variances, directions = scipy.linalg.eigh(covariance)
    variances += regularization * np.trace(covariance) / len(covariance)
    kept = variances > variances[-1] * len(covariance) * np.finfo(np.float64).eps
    if not variances[-1] > 0:
        raise UserError(
            f"CCA: all {len(covariance)} features of one side are the same for every clip; is the "
            "network trained, do the clips differ?"
        )
    return directions[:, kept] / np.sqrt(variances[kept])
