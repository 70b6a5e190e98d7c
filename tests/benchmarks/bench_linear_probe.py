"""Times Table 2's SVMs at ESC-50's size on made-up features of that size.

    python -m tests.benchmarks.bench_linear_probe [--recordings=2000] [--features=6144]

Prints the seconds of the whole protocol (five folds, C chosen inside the training folds), the
seconds of one matrix product of the solver and how many of them the protocol's time would hold,
and scikit-learn's LinearSVC beside ours at a size it can manage.
"""

import dataclasses
import statistics
import time

import numpy as np
from sklearn.svm import LinearSVC

from eval.methods import linear_probe
from l3net import flags
from l3net.flags import setting
from tests.benchmarks import table
from tests.benchmarks.timing import say, seconds_of


@dataclasses.dataclass(frozen=True)
class Config:
    """The made-up data."""

    recordings: int = setting(2000, "Number of recordings.")
    subclips: int = setting(10, "Subclips per recording.")
    features: int = setting(6144, "Features per subclip.")
    classes: int = setting(50, "Number of classes.")
    small_recordings: int = setting(40, "Number of recordings beside LinearSVC.")
    out: str | None = setting(None, table.OUT_HELP)


def made_up(num_recordings, num_subclips, num_features, num_classes, seed=0):
    """Returns float32 features and labels: class + recording + subclip, with a decaying spectrum.

    Neighbouring subclips overlap in sound, so most of the variance is the recording's; the first
    direction, as of real sound features the loudness, holds a quarter of it.
    """
    generator = np.random.default_rng(seed)
    spectrum = (np.arange(num_features, dtype=np.float32) + 1) ** -0.45
    spectrum[0] = np.sqrt(np.sum(spectrum[1:] ** 2) / 3)

    def draw(count):
        return generator.standard_normal((count, num_features), np.float32) * spectrum

    labels = np.arange(num_recordings) % num_classes
    # A class differs little from the next, so that scores are not all perfect.
    centers = 0.12 * draw(num_classes)[labels] + draw(num_recordings)
    rotation = generator.choice(np.float32([-1, 1]), num_features)
    order = generator.permutation(num_features)
    features = np.empty((num_recordings * num_subclips, num_features), np.float32)
    for i, center in enumerate(centers):
        rows = (center + draw(num_subclips)) * rotation
        spread = np.fft.rfft(rows, axis=1, n=2 * num_features)[:, :num_features].real
        features[i * num_subclips : (i + 1) * num_subclips] = spread[:, order]
    return features, labels


def main(config):
    """Runs both measurements."""
    num, per = config.recordings, config.subclips
    features, labels = made_up(num, per, config.features, config.classes)
    parts = np.array([str(i // config.classes % 5 + 1) for i in range(num)])
    _time_protocol(features, np.repeat(np.arange(num), per), labels, parts)
    _time_products(features, config.classes)
    num_small = config.small_recordings
    row = _beside_sklearn(features[: num_small * per], np.repeat(labels[:num_small], per))
    table.write_rows(config.out, [row])


def _time_protocol(features, recording_of, labels, parts):
    started = time.perf_counter()
    outcome = linear_probe.evaluate(
        features, recording_of, labels, parts, tested=list("12345"), c=None, seed=0
    )
    seconds = time.perf_counter() - started
    accuracy = 100 * np.mean(outcome.predictions == labels)
    size = f"{len(features)} x {features.shape[1]}, {labels.max() + 1} classes"
    took = f"{seconds:.1f} s (limit 300 s), accuracy {accuracy:.1f} %"
    say(f"{size}, 5 folds, C from {len(linear_probe.C_GRID)}: {took}")


def _time_products(features, num_classes):
    rows = features[: len(features) * 4 // 5]
    weights = np.ones((num_classes, features.shape[1]), np.float32)
    seconds = sum(seconds_of(lambda: (weights @ rows.T) @ rows) for _ in range(5)) / 5
    rate = 4 * rows.size * len(weights) / seconds / 1e9
    say(f"one step's bare products on a training fold: {seconds:.3f} s, {rate:.0f} GFLOP/s")


def _beside_sklearn(small, targets):
    small = np.concatenate(
        [(small - small.mean(0)) / small.std(0), np.ones((len(small), 1), np.float32)], axis=1
    )
    signs = linear_probe.class_signs(targets, targets.max() + 1, small.dtype)
    times, theirs = [], LinearSVC(C=0.01, dual="auto")
    for _ in range(3):
        ours = seconds_of(lambda: linear_probe.solve(small, signs, 0.01))
        times.append((ours, seconds_of(lambda: theirs.fit(small[:, :-1], targets))))
    weights = linear_probe.solve(small, signs, 0.01)
    difference = np.abs(weights[:, :-1] - theirs.coef_).max() / np.abs(theirs.coef_).max()
    ours, seconds = np.median(times, axis=0)
    size = f"{small.shape[0]} x {small.shape[1]}"
    differ = f"weights differ by {difference:.1e} of the largest"
    say(f"{size}: ours {ours:.2f} s, LinearSVC {seconds:.2f} s; {differ}")
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    return table.Row(f"linear SVMs of Table 2, {size}", ours, "s", "LinearSVC", ratio)


if __name__ == "__main__":
    flags.run(main, Config)
