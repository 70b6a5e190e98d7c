"""Times a search among 1M made-up embeddings: NumPy alone, and an index on disk.

    python -m tests.benchmarks.bench_search [--rows=1000000] [--rows_per_file=200]

The vectors are 128-D, of length 1, scattered around cluster centres of very unequal size, as the
embeddings of videos are; the queries are drawn alike and are not among them. Single queries, one
at a time: median and 95th percentile of the milliseconds. Exact search has to read all vectors, so
beside it stands how long merely reading them takes in this run (their sum, and a copy).
"""

import dataclasses
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable

import numpy as np

from l3net import flags
from l3net.flags import setting
from l3net.inference import search_index
from tests.benchmarks.timing import say, seconds_of

_NUM_CENTRES = 3000
_SPREAD = 0.7  # length of the noise beside a centre of length 1
_TOP = 10
_ROWS_AT_ONCE = 1 << 16


@dataclasses.dataclass(frozen=True)
class Config:
    """The made-up vectors."""

    rows: int = setting(1_000_000, "Vectors in the index.", at_least=_TOP)
    size: int = setting(128, "Numbers per vector.", at_least=1)
    queries: int = setting(200, "Single queries timed per method.", at_least=1)
    rows_per_file: int = setting(
        200, "Vectors per file; 200 are a minute of video, 1 is a picture.", at_least=1
    )


def main(config: Config) -> None:
    """Measures and prints."""
    rng = np.random.default_rng(0)
    centres = _of_length_one(rng.standard_normal((_NUM_CENTRES, config.size), np.float32))
    vectors = _draw(rng, centres, config.rows)
    queries = _draw(rng, centres, config.queries)
    say(f"{len(vectors)} vectors of {config.size}, {vectors.nbytes / 2**20:.0f} MB; {_memory()}")
    _bare_reading(vectors)
    _measure("NumPy, ten nearest rows", queries, lambda query: _with_numpy(vectors, query))
    with tempfile.TemporaryDirectory() as folder:
        _whole_index(pathlib.Path(folder) / "index", vectors, queries, config.rows_per_file)


def _draw(rng: np.random.Generator, centres: np.ndarray, num: int) -> np.ndarray:
    weights = 1 / (np.arange(len(centres)) + 10.0)
    chosen = rng.choice(len(centres), num, p=weights / weights.sum())
    vectors = np.empty((num, centres.shape[1]), np.float32)
    for start in range(0, num, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        noise = rng.standard_normal((len(chosen[part]), centres.shape[1]), np.float32)
        spread = np.float32(_SPREAD / np.sqrt(centres.shape[1]))
        vectors[part] = _of_length_one(centres[chosen[part]] + spread * noise)
    return vectors


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _bare_reading(vectors: np.ndarray) -> None:
    """Prints how long it takes to read the vectors, in the best of five."""
    target = np.empty_like(vectors)
    for name, run in (("sum", vectors.sum), ("copy", lambda: np.copyto(target, vectors))):
        best = min(seconds_of(run) for _ in range(5))
        rate = vectors.nbytes / best / 1e9
        say(f"bare {name} of all vectors: {1000 * best:.1f} ms, {rate:.1f} GB/s read")


def _with_numpy(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    scores = np.concatenate(
        [vectors[k : k + _ROWS_AT_ONCE] @ query for k in range(0, len(vectors), _ROWS_AT_ONCE)]
    )
    best = np.argpartition(-scores, _TOP)[:_TOP]
    return best[np.argsort(-scores[best])]


def _whole_index(
    folder: pathlib.Path, vectors: np.ndarray, queries: np.ndarray, rows_per_file: int
) -> None:
    """Measures an index on disk: adding, the first query, queries for the ten nearest files."""
    index = search_index.SearchIndex.create(
        folder, fingerprint="made up", size=vectors.shape[1], settings={}
    )
    starts = range(0, len(vectors), rows_per_file)
    started = time.perf_counter()
    with index.adding():
        for start in starts:
            streams = [(search_index.SOUND, [vectors[start : start + rows_per_file]], 0.5)]
            name = folder / f"{start}.wav"
            index.add(name, sha256=str(start), kind="sound", streams=streams)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    seconds = time.perf_counter() - started
    say(f"index on disk: {len(starts)} files added in {seconds:.1f} s, {size:.0f} MB")
    index = search_index.SearchIndex(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = seconds_of(lambda: index.query(queries[:1], top=_TOP))
    say(f"first query: {1000 * seconds:.0f} ms")
    _measure("ten nearest files", queries, lambda query: index.query(query[np.newaxis], top=_TOP))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    say(f"peak memory grew by {grown / 2**10:.0f} MB during the queries")
    many = queries[: min(len(queries), 100)]
    say(f"one query of {len(many)} vectors: {seconds_of(lambda: index.query(many)):.2f} s")


def _measure(name: str, queries: np.ndarray, run: Callable[[np.ndarray], object]) -> None:
    run(queries[0])
    milliseconds = [1000 * seconds_of(lambda query=query: run(query)) for query in queries]
    median, slow = np.percentile(milliseconds, (50, 95))
    say(f"{name}: median {median:.2f} ms, 95 % {slow:.2f} ms")


def _memory() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"


if __name__ == "__main__":
    flags.run(main, Config)
