"""Canonical correlation analysis: aligns two kinds of features of the same clips (OTS §3.1).

Solved in closed form: both kinds are whitened, and the singular vectors of the cross-covariance of
the whitened features are the directions. (scikit-learn's CCA iterates for each component.)
"""

import dataclasses

import numpy as np
import scipy.linalg

from l3net.errors import UserError

NUM_COMPONENTS = 128  # "all CCA-based methods use 128 components"
# Our choice (the paper names none): shares of the features' mean variance, one of which is added to
# each variance. Units that are always 0 would make the covariance singular; and with few training
# clips a small share lets meaningless directions count as much as the best. See `eval.retrieval`.
REGULARIZATION_GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
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

    Raises:
        UserError: if there are fewer than two pairs, or a covariance is singular.
        ValueError: if the numbers of rows differ.
    """
    if len(first) != len(second):
        raise ValueError(f"got {len(first)} and {len(second)} rows; need pairs")
    if len(first) < 2:
        raise UserError(f"CCA has {len(first)} pair(s) to be fitted to; need at least 2")
    means = [side.mean(axis=0, dtype=np.float64) for side in (first, second)]
    factors = [
        _factor(_covariance(side, side, mean, mean), regularization)
        for side, mean in zip((first, second), means, strict=True)
    ]
    cross = _covariance(first, second, *means)
    half = scipy.linalg.solve_triangular(factors[0], cross, lower=True)
    whitened = scipy.linalg.solve_triangular(factors[1], half.T, lower=True).T
    left, correlations, right = scipy.linalg.svd(whitened, full_matrices=False)
    count = min(num_components, len(correlations))
    directions = [
        scipy.linalg.solve_triangular(factor, vectors[:, :count], lower=True, trans="T")
        for factor, vectors in zip(factors, (left, right.T), strict=True)
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


def _factor(covariance: np.ndarray, regularization: float) -> np.ndarray:
    """Returns the lower Cholesky factor of a regularised covariance."""
    matrix = covariance.copy()
    matrix[np.diag_indices_from(matrix)] += regularization * np.trace(covariance) / len(covariance)
    try:
        return scipy.linalg.cholesky(matrix, lower=True)
    except np.linalg.LinAlgError as error:
        raise UserError(
            f"CCA: the covariance of {len(matrix)} features is singular with a regularisation of "
            f"{regularization:g} (constant or duplicate features, or too few clips); raise it: "
            "--cca_regularization"
        ) from error
