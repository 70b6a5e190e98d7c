"""One-vs-all linear SVMs on frozen features, all classes at once (L3 §3.3).

The problem is scikit-learn's `LinearSVC` (squared hinge, L2, the bias regularised like a weight):

    minimise over w_k:  1/2 |w_k|^2 + C sum_n max(0, 1 - y_nk <w_k, x_n>)^2        (x_n ends with 1)

but where `LinearSVC` visits one sample and one class after another, here all K classes move
together, so the work is products of matrices. The method is conjugate gradients with an exact line
search (on a line the objective is piecewise quadratic), preconditioned by I + C X^T X: the Hessian
if half of the samples violate their margin. Ten steps or fewer do at ESC-50's size, and the
Cholesky factor is shared by all classes. Large products are in the features' own precision
(float32 in use), sums over samples and dimensions that decide anything in float64.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import scipy.linalg

from l3net.progress import Progress, progress

_log = logging.getLogger(__name__)

# Our choice, L3 names no C: SoundNet's own code used 0.01.
C_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
DEFAULT_C = 0.01
CHOOSE = "cv"
# Our choice: a class is solved when its gradient has shrunk to this share of the gradient at zero.
TOLERANCE = 1e-3
CHOICE_TOLERANCE = 1e-2  # for choosing C, where only the order of the scores matters
NUM_INNER_PARTS = 5
_ACTIVE_SHARE = 0.5
_MAX_STEPS = 1000
_CHUNK_ROWS = 2048


# --- z-score -------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class ZScore:
    """Shift and scale per feature; see `fit_z_score`."""

    mean: np.ndarray  # float64 [num_features]
    scale: np.ndarray  # float64 [num_features], positive


def fit_z_score(features: np.ndarray, rows: np.ndarray) -> ZScore:
    """Returns the shift and scale that give training rows zero mean and unit variance (L3 §3.3).

    Our choice: statistics from the training subclips only; a feature that does not vary is left
    unscaled.
    """
    mean = sum(features[chunk].sum(0, dtype=np.float64) for chunk in _chunks(rows)) / len(rows)
    center = mean.astype(features.dtype)
    squares = sum(
        np.square(features[chunk] - center).sum(0, dtype=np.float64) for chunk in _chunks(rows)
    )
    deviation = np.sqrt(squares / len(rows))
    varies = deviation > 1e-7 * np.abs(mean) + np.finfo(np.float32).tiny
    return ZScore(mean, np.where(varies, deviation, 1.0))


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _CHUNK_ROWS] for start in range(0, len(rows), _CHUNK_ROWS)]


def _scored_rows(features: np.ndarray, rows: np.ndarray, z_score: ZScore) -> np.ndarray:
    """Returns the z-scored rows with a last column of ones: [num_rows, num_features + 1]."""
    out = np.ones((len(rows), features.shape[1] + 1), features.dtype)
    mean, scale = z_score.mean.astype(out.dtype), z_score.scale.astype(out.dtype)
    for start, chunk in zip(range(0, len(rows), _CHUNK_ROWS), _chunks(rows), strict=True):
        out[start : start + len(chunk), :-1] = (features[chunk] - mean) / scale
    return out


# --- Solver --------------------------------------------------------------------------------------
def class_signs(labels: np.ndarray, num_classes: int, dtype: np.dtype) -> np.ndarray:
    """Returns +1 where a sample is of the class, else -1: [num_classes, num_samples]."""
    return np.where(labels[None, :] == np.arange(num_classes)[:, None], 1, -1).astype(dtype)


def solve(
    samples: np.ndarray,
    signs: np.ndarray,
    c: float,
    *,
    gram: np.ndarray | None = None,
    start: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """Solves the one-vs-all SVMs of all classes.

    Args:
        samples: float [num_samples, num_features], with a column of ones for the bias.
        signs: float [num_classes, num_samples], +1 or -1, of the samples' type.
        c: weight of the hinge losses.
        gram: `smaller_gram(samples)`, if it is known.
        start: float [num_classes, num_features] to start from, such as the solution of a smaller C.
        tolerance: a class is solved when its gradient's norm is at most this share of the norm at
            zero weights.

    Returns:
        float [num_classes, num_features].
    """
    gram = smaller_gram(samples) if gram is None else gram
    precondition = _preconditioner(samples, gram, c)
    weights = np.zeros((len(signs), samples.shape[1]), samples.dtype) if start is None else start
    state = _Descent(samples, signs, c, weights.copy())
    at_zero = np.sqrt(_dot(*2 * [2 * c * (signs @ samples)]))
    for _ in range(_MAX_STEPS):
        gradient = state.gradient()
        open_ = np.sqrt(_dot(gradient, gradient)) > tolerance * at_zero[state.classes]
        if not open_.any():
            return state.weights
        state.keep(open_)
        state.step(gradient[open_], precondition)
    _log.warning("C=%g: %d classes not solved in %d steps", c, len(state.classes), _MAX_STEPS)
    return state.weights


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the inner product of each row of a with that of b, summed in float64."""
    return (a * b).sum(axis=1, dtype=np.float64)


def smaller_gram(samples: np.ndarray) -> np.ndarray:
    """Returns X^T X or X X^T, whichever is smaller; the first if equal."""
    tall = len(samples) >= samples.shape[1]
    return samples.T @ samples if tall else samples @ samples.T


def _preconditioner(
    samples: np.ndarray, gram: np.ndarray, c: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that multiplies rows by the inverse of I + weight X^T X.

    With fewer samples than features the inverse is I - weight X^T (I + weight X X^T)^-1 X
    (Woodbury), so the factored matrix is never larger than the number of samples.
    """
    weight = 2 * c * _ACTIVE_SHARE
    matrix = weight * gram
    matrix[np.diag_indices_from(matrix)] += 1
    factor = scipy.linalg.cho_factor(matrix, overwrite_a=True, check_finite=False)

    def invert(rows: np.ndarray) -> np.ndarray:
        solved = scipy.linalg.cho_solve(factor, rows.T, check_finite=False)
        return np.ascontiguousarray(solved.T)

    if len(samples) >= samples.shape[1]:
        return invert
    return lambda rows: rows - weight * (invert(rows @ samples.T) @ samples)


class _Descent:
    """Preconditioned conjugate gradients; classes that are solved drop out.

    Attributes:
        weights: [num_classes, num_features], those of all classes.
        classes: indices of the classes still moving; every other attribute has a row for each.
    """

    def __init__(self, samples: np.ndarray, signs: np.ndarray, c: float, weights: np.ndarray):
        self.samples, self.c, self.weights = samples, c, weights
        self.classes = np.arange(len(weights))
        self.signs = signs
        self.margins = 1 - signs * (weights @ samples.T)
        self.direction = np.zeros_like(weights)
        self.old_scaled = np.zeros_like(weights)
        self.old_decrease = np.full(len(weights), np.inf)

    def gradient(self) -> np.ndarray:
        """Returns the objective's gradient, [num_moving, num_features]."""
        violations = np.maximum(self.margins, 0)
        return self.weights[self.classes] - (2 * self.c) * (
            (self.signs * violations) @ self.samples
        )

    def keep(self, moving: np.ndarray) -> None:
        """Drops the classes that are solved; a copy only when there are some."""
        if moving.all():
            return
        names = ("classes", "signs", "margins", "direction", "old_scaled", "old_decrease")
        for name in names:
            setattr(self, name, getattr(self, name)[moving])

    def step(self, gradient: np.ndarray, precondition: Callable) -> None:
        """Moves along the next conjugate direction (Polak-Ribiere) to its lowest point."""
        scaled = precondition(gradient)
        decrease = _dot(gradient, scaled)
        beta = np.maximum(0, (decrease - _dot(gradient, self.old_scaled)) / self.old_decrease)
        direction = beta[:, None].astype(gradient.dtype) * self.direction - scaled
        uphill = _dot(gradient, direction) >= 0
        direction[uphill] = -scaled[uphill]
        slopes = self.signs * (direction @ self.samples.T)
        along = _dot(self.weights[self.classes], direction)
        length = _line_search(self.margins, slopes, along, _dot(direction, direction), self.c)
        length = length[:, None].astype(gradient.dtype)
        self.weights[self.classes] += length * direction
        self.margins -= length * slopes
        self.direction, self.old_scaled, self.old_decrease = direction, scaled, decrease


def _line_search(
    margins: np.ndarray, slopes: np.ndarray, along: np.ndarray, norm: np.ndarray, c: float
) -> np.ndarray:
    """Returns where the objective of each class is lowest on a line.

    On the line the objective is  t along + t^2 norm / 2 + C sum max(0, margins - t slopes)^2,
    convex and piecewise quadratic, so Newton's method inside a shrinking bracket ends exactly.
    Margins 1 - y <w, x> and slopes y <direction, x> are [num_classes, num_samples], along =
    <w, direction> and norm = |direction|^2 float64 [num_classes].
    """
    low, high = np.zeros(len(along)), np.full(len(along), np.inf)
    length = np.ones(len(along))
    for _ in range(30):
        left = margins - length[:, None].astype(margins.dtype) * slopes
        active = np.where(left > 0, slopes, 0)
        rise = along + length * norm - 2 * c * _dot(left, active)
        low = np.where(rise < 0, length, low)
        high = np.where(rise >= 0, length, high)
        new = length - rise / (norm + 2 * c * _dot(active, active))
        outside = (new < low) | (new > high)
        middle = np.where(np.isfinite(high), (low + high) / 2, 2 * length)
        new = np.where(outside, middle, new)
        if np.all(np.abs(new - length) <= 1e-9 * length):
            return new
        length = new
    return length


# --- Classifier of recordings --------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class LinearClassifier:
    """Linear scores of unscaled features."""

    weights: np.ndarray  # [num_classes, num_features]
    bias: np.ndarray  # float64 [num_classes]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Returns the class scores of subclips, float64 [num_subclips, num_classes]."""
        return features @ self.weights.T + self.bias


def fit_path(
    features: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    num_classes: int,
    grid: Iterable[float],
    tolerance: float = TOLERANCE,
) -> Iterator[LinearClassifier]:
    """Trains on some subclips for each C, from small to large, each starting from the last.

    Features [num_subclips, num_features] are not z-scored; `rows` are the training subclips. A
    class without a sample scores low everywhere.

    Yields:
        A classifier per C; the z-score is folded into its weights.
    """
    z_score = fit_z_score(features, rows)
    samples = _scored_rows(features, rows, z_score)
    signs = class_signs(labels[rows], num_classes, samples.dtype)
    gram = smaller_gram(samples)
    weights = None
    for c in grid:
        weights = solve(samples, signs, c, gram=gram, start=weights, tolerance=tolerance)
        plain = weights[:, :-1] / z_score.scale
        bias = weights[:, -1] - plain @ z_score.mean
        yield LinearClassifier(plain.astype(features.dtype), bias)


def mean_per_recording(scores: np.ndarray, recording_of: np.ndarray, num: int) -> np.ndarray:
    """Returns each recording's mean score over its subclips, float64 [num, num_classes] (L3 §3.3).

    One without subclips gets zeros. Two subclips [[1, 0], [0, 4]] of one recording give [[.5, 2]].
    """
    sums = np.zeros((num, scores.shape[1]))
    np.add.at(sums, recording_of, scores)
    return sums / np.maximum(1, np.bincount(recording_of, minlength=num))[:, None]


# --- Protocol ------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Outcome:
    """Predictions of every tested recording."""

    predictions: np.ndarray  # int64 [num_recordings]; -1 where a recording is never tested
    chosen_c: tuple[float, ...]  # the C used for each tested part, in order


def inner_parts(
    labels: np.ndarray, parts: np.ndarray, tested: Sequence[str], seed: int
) -> np.ndarray:
    """Returns the groups, str [num_recordings], that stay together when C is chosen.

    They are the data set's folds or its parts to train on, such as speakers; where it has one
    training split, we choose five groups of recordings drawn by seed, each class spread evenly over
    them.
    """
    if len(tested) > 1 or len({*parts} - {*tested}) > 1:
        return parts
    groups = parts.astype(object)
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero((labels == label) & (parts != tested[0])))
        for position, member in enumerate(members):
            groups[member] = f"inner {position % NUM_INNER_PARTS}"
    return groups.astype(str)


def evaluate(
    features: np.ndarray,
    recording_of: np.ndarray,
    labels: np.ndarray,
    parts: np.ndarray,
    *,
    tested: Sequence[str],
    c: float | None,
    seed: int,
    grid: Sequence[float] = C_GRID,
) -> Outcome:
    """Tests each of the `tested` parts with SVMs trained on all the others.

    Features are float32 [num_subclips, num_features] of the recordings `recording_of`, labels and
    parts (fold or split) [num_recordings]. If C is None it is chosen from the increasing grid by
    cross-validation inside the training parts (our choice), see `inner_parts`.
    """
    groups = inner_parts(labels, parts, tested, seed)
    trained = [frozenset(groups[parts != part]) for part in tested]
    left_out = {used - {group} for used in trained for group in used if len(used) > 1}
    num_fits = len(trained) + (len(left_out) * len(grid) if c is None else 0)
    predictions, chosen = np.full(len(labels), -1), []
    with progress("linear SVM", unit="fit", total=num_fits) as shown:
        problem = _Problem(features, recording_of, labels, groups, shown)
        for part, used in zip(tested, trained, strict=True):
            best = problem.choose_c(used, tuple(grid)) if c is None else c
            predicted = problem.scores(used, (best,), TOLERANCE)[0].argmax(axis=1)
            held = parts == part
            predictions[held] = predicted[held]
            chosen.append(best)
            accuracy = np.mean(predictions[held] == labels[held])
            _log.info("part %s: C=%g, accuracy %.1f %%", part, best, 100 * accuracy)
    return Outcome(predictions, tuple(chosen))


class _Problem:
    """Features with their groups; remembers the scores of each set of training groups.

    Testing fold 1 leaves out fold 2 to choose C, testing fold 2 leaves out fold 1: both train on
    folds 3 to 5. Remembering halves the work.
    """

    def __init__(
        self,
        features: np.ndarray,
        recording_of: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        shown: Progress,
    ):
        self.features, self.recording_of = features, recording_of
        self.labels, self.groups, self.shown = labels, groups, shown
        self.scores = functools.lru_cache(maxsize=64)(self._scores)

    def _scores(
        self, groups: frozenset[str], grid: tuple[float, ...], tolerance: float
    ) -> list[np.ndarray]:
        """Trains on the groups; returns for each C the scores of all other recordings (else 0)."""
        trains = np.isin(self.groups, list(groups))[self.recording_of]
        num_classes = self.labels.max() + 1
        classifiers = []
        for classifier in fit_path(
            self.features,
            self.labels[self.recording_of],
            np.flatnonzero(trains),
            num_classes=num_classes,
            grid=grid,
            tolerance=tolerance,
        ):
            classifiers.append(classifier)
            self.shown.advance()
        rest = np.flatnonzero(~trains)
        scores = np.empty((len(classifiers), len(rest), num_classes))
        for start, rows in zip(range(0, len(rest), _CHUNK_ROWS), _chunks(rest), strict=True):
            values = self.features[rows]
            for position, classifier in enumerate(classifiers):
                scores[position, start : start + len(rows)] = classifier.scores(values)
        owner = self.recording_of[rest]
        return [mean_per_recording(values, owner, len(self.labels)) for values in scores]

    def choose_c(self, groups: frozenset[str], grid: tuple[float, ...]) -> float:
        """Returns the C with most correct answers on left-out groups; the smallest of equals."""
        if len(groups) < 2:
            _log.warning("one training group: C cannot be chosen, using %g", DEFAULT_C)
            return DEFAULT_C
        num_correct = np.zeros(len(grid), int)
        for group in sorted(groups):
            scores = self.scores(groups - {group}, grid, CHOICE_TOLERANCE)
            held = self.groups == group
            num_correct += [np.sum(s[held].argmax(1) == self.labels[held]) for s in scores]
        _log.info("correct answers per C %s: %s", list(grid), num_correct.tolist())
        return grid[int(num_correct.argmax())]
