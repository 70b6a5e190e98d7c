"""Times a search among 1M made-up embeddings: NumPy, FAISS flat, and the clusters of an index.

    python -m tests.benchmarks.bench_search [--rows=1000000] [--probes=8,32,64]

The vectors are 128-D, of length 1, scattered around cluster centres of very unequal size, as the
embeddings of videos are; the queries are drawn alike and are not among them. Single queries, one
at a time: median and 95th percentile of the milliseconds, and how many of the ten nearest rows
are among the ten found (recall@10, against all distances computed). Exact search has to read all
vectors, so beside it stands how long merely reading them takes in this run (their sum, and a copy).
Last the whole `SearchIndex.query`, from an index on disk with 200 rows a file.
"""

import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from l3net.inference import search_index

_ROWS = flags.DEFINE_integer("rows", 1_000_000, "Vectors in the index.")
_SIZE = flags.DEFINE_integer("size", 128, "Numbers per vector.")
_QUERIES = flags.DEFINE_integer("queries", 200, "Single queries timed per method.")
_PROBES = flags.DEFINE_list("probes", ["8", "32", "64"], "Clusters looked at.")
_NUM_CENTRES = 3000
_SPREAD = 0.7  # length of the noise beside a centre of length 1
_ROWS_PER_FILE = 200  # a minute of video: two sounds and one picture a second
_TOP = 10


def main(argv):
    """Measures and prints."""
    del argv
    rng = np.random.default_rng(0)
    centres = _of_length_one(rng.standard_normal((_NUM_CENTRES, _SIZE.value), np.float32))
    vectors = _draw(rng, centres, _ROWS.value)
    queries = _draw(rng, centres, _QUERIES.value)
    _say(f"{len(vectors)} vectors of {_SIZE.value}, {vectors.nbytes / 2**20:.0f} MB; {_memory()}")
    _bare_reading(vectors)
    expected = _measure("NumPy, all distances", queries, lambda q: _with_numpy(vectors, q), None)
    if not search_index.has_faiss():
        _say("FAISS is not installed")
        return
    import faiss

    _flat(faiss, vectors, queries, expected)
    _clusters(faiss, vectors, queries, expected)
    with tempfile.TemporaryDirectory() as folder:
        _whole_index(pathlib.Path(folder) / "index", vectors, queries)


def _draw(rng: np.random.Generator, centres: np.ndarray, num: int) -> np.ndarray:
    weights = 1 / (np.arange(len(centres)) + 10.0)
    chosen = rng.choice(len(centres), num, p=weights / weights.sum())
    vectors = np.empty((num, centres.shape[1]), np.float32)
    for start in range(0, num, 1 << 16):
        part = slice(start, start + (1 << 16))
        noise = rng.standard_normal((len(chosen[part]), centres.shape[1]), np.float32)
        spread = np.float32(_SPREAD / np.sqrt(centres.shape[1]))
        vectors[part] = _of_length_one(centres[chosen[part]] + spread * noise)
    return vectors


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _bare_reading(vectors: np.ndarray) -> None:
    """Tells how long it takes to read the vectors, in the best of five."""
    target = np.empty_like(vectors)
    for name, run in (("sum", vectors.sum), ("copy", lambda: np.copyto(target, vectors))):
        best = min(_seconds(run) for _ in range(5))
        rate = vectors.nbytes / best / 1e9
        _say(f"bare {name} of all vectors: {1000 * best:.1f} ms, {rate:.1f} GB/s read")


def _with_numpy(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    scores, _ = search_index.scores_of(vectors, query[np.newaxis])
    best = np.argpartition(-scores, _TOP)[:_TOP]
    return best[np.argsort(-scores[best])]


def _flat(faiss, vectors: np.ndarray, queries: np.ndarray, expected: list) -> None:
    started = time.perf_counter()
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    _say(f"FAISS flat: made in {time.perf_counter() - started:.1f} s; {_memory()}")
    _measure("FAISS flat", queries, lambda q: flat.search(q[np.newaxis], _TOP)[1][0], expected)


def _clusters(faiss, vectors: np.ndarray, queries: np.ndarray, expected: list) -> None:
    started = time.perf_counter()
    index = search_index.make_clusters(faiss, vectors, np.arange(len(vectors)))
    seconds = time.perf_counter() - started
    _say(f"clusters: {index.nlist}, made in {seconds:.1f} s; {_memory()}")
    for probes in map(int, _PROBES.value):
        index.nprobe = probes
        name = f"clusters, {probes} looked at"
        _measure(name, queries, lambda q: index.search(q[np.newaxis], _TOP)[1][0], expected)


def _whole_index(folder: pathlib.Path, vectors: np.ndarray, queries: np.ndarray) -> None:
    """Measures an index on disk: adding, clusters, questions for the ten nearest files."""
    index = search_index.SearchIndex.create(
        folder, fingerprint="made up", size=vectors.shape[1], settings={}
    )
    started = time.perf_counter()
    with index.adding() as adder:
        for start in range(0, len(vectors), _ROWS_PER_FILE):
            rows = vectors[start : start + _ROWS_PER_FILE]
            streams = [(search_index.SOUND, [rows], 0.5)]
            name = pathlib.Path(folder / f"{start}.wav")
            adder.add(name, sha256=str(start), kind="sound", streams=streams)
    _say(f"index on disk: {len(index.files)} files added in {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    index.build_clusters()
    _say(f"its clusters: made and written in {time.perf_counter() - started:.1f} s")
    index = search_index.SearchIndex(folder)

    def files_of(query: np.ndarray, exact: bool) -> np.ndarray:
        hits = index.query(query[np.newaxis], top=_TOP, exact=exact)
        return np.array([hit.file.first_row for hit in hits])

    started = time.perf_counter()
    files_of(queries[0], False)
    _say(f"first question, files opened: {1000 * (time.perf_counter() - started):.0f} ms")
    exact = _measure("ten nearest files, exact", queries, lambda q: files_of(q, True), None)
    _measure("ten nearest files", queries, lambda q: files_of(q, False), exact)


def _measure(
    name: str,
    queries: np.ndarray,
    run: Callable[[np.ndarray], np.ndarray],
    expected: list[np.ndarray] | None,
) -> list[np.ndarray]:
    run(queries[0])
    found, milliseconds = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(run(query))
        milliseconds.append(1000 * (time.perf_counter() - started))
    median, slow = np.percentile(milliseconds, (50, 95))
    text = f"{name}: median {median:.2f} ms, 95 % {slow:.2f} ms"
    if expected is not None:
        shares = [np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)]
        text += f", recall@{_TOP} {np.mean(shares):.4f}"
    _say(text)
    return found


def _seconds(run: Callable) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _memory() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    app.run(main)
