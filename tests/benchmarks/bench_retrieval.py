"""Times retrieval's scores at AudioSet-Instruments' size and at 100k clips, on made-up features.

    python -m tests.benchmarks.bench_retrieval [--clips=4361,100000] [--ontology=ontology.json]

For each size: the seconds of four directions, how many times the bare matrix products of the same
blocks that is, measured in the same run, and the peak memory of the process (sizes run from small
to large, so a later one's peak holds the earlier ones'). Without --ontology the labels are of a
made-up tree as large as AudioSet's; a clip has one to five of them, some far more often than
others.
"""

import dataclasses
import resource
import time

import numpy as np

from eval.metrics import ranking
from eval.sets import ontology
from l3net import flags
from l3net.flags import setting
from tests.benchmarks.timing import say, seconds_of

_NUM_CLASSES = 632
_NUM_RETRIEVED = 30
_DIRECTIONS = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclasses.dataclass(frozen=True)
class Config:
    """The made-up clips."""

    clips: tuple[str, ...] = setting(("4361", "100000"), "Numbers of clips.")
    size: int = setting(128, "Features per clip.")
    ontology: str | None = setting(None, "AudioSet's ontology.json; if not given, made up.")


def main(config: Config) -> None:
    """Measures and prints."""
    classes, names = _classes(config.ontology)
    for num_clips in sorted(map(int, config.clips)):
        _measure(num_clips, config.size, classes, names)


def _classes(path: str | None) -> tuple[ontology.Ontology, list[str]]:
    if path:
        read = ontology.read_ontology(path)
        return read, sorted(label for label in read.labels if label.startswith("/"))
    rng = np.random.default_rng(0)
    names = [f"class{number}" for number in range(_NUM_CLASSES)]
    children: dict[str, list[str]] = {name: [] for name in names}
    for number in range(1, _NUM_CLASSES):
        children[names[rng.integers(max(0, number // 4 - 2), (number + 3) // 4)]] += [names[number]]
    return ontology.Ontology(children), names


def _measure(num_clips: int, size: int, classes: ontology.Ontology, names: list[str]) -> None:
    rng = np.random.default_rng(1)
    weights = 1 / (np.arange(len(names)) + 10.0)  # of classes by how common they are
    chosen = rng.choice(len(names), (num_clips, 5), p=weights / weights.sum())
    counts = rng.choice(5, num_clips, p=(0.4, 0.3, 0.15, 0.1, 0.05)) + 1
    labels = [[names[i] for i in row[:count]] for row, count in zip(chosen, counts, strict=True)]
    features = [
        ranking.l2_normalize(rng.standard_normal((num_clips, size), np.float32)) for _ in range(2)
    ]
    started = time.perf_counter()
    relevance = ontology.Relevance(classes, labels)
    judge = ranking.Judge(relevance, k=_NUM_RETRIEVED)
    prepared = time.perf_counter() - started
    scores = [judge.score(features[a], features[b]).mean for a, b in _DIRECTIONS]
    seconds = time.perf_counter() - started
    bare = sum(_bare_product(features[a], features[b]) for a, b in _DIRECTIONS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    chance = judge.random_chance().mean
    say(
        f"{num_clips} clips, {relevance.num_sets} distinct label sets: four directions in "
        f"{seconds:.1f} s ({prepared:.1f} s of it relevance), {seconds / bare:.2f} times the bare "
        f"products' {bare:.1f} s; peak memory {peak:.2f} GB; nDCG "
        f"{' '.join(f'{score:.3f}' for score in scores)}, chance {chance:.3f}"
    )


def _bare_product(queries: np.ndarray, items: np.ndarray) -> float:
    """Returns the seconds of the products alone, in blocks as large as ranking's."""
    step = max(1, ranking.SCORES_AT_ONCE // len(items))
    starts = range(0, len(queries), step)
    return sum(seconds_of(lambda k=k: queries[k : k + step] @ items.T) for k in starts)


if __name__ == "__main__":
    flags.run(main, Config)
