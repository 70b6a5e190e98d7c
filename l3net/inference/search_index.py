"""An index of embeddings on disk: files are added one by one, and asked for by distance.

    index.json     format, the network's fingerprint, the settings of the embeddings
    vectors.npy    float32 [rows, D], each of length 1; read through a memory map
    files.jsonl    a line per file, in the order of the rows: path (from the index folder),
                   SHA-256 of its content, and its streams with their numbers of rows
    sound-R.faiss, image-R.faiss   clusters of the first R rows of one modality, if there are many

A line of files.jsonl, written after its rows are safe on disk, is what makes a file part of the
index. A process that dies leaves at most rows without a line and half a line; the next one writes
over both. The clusters can be made again at any time from the rest.

Distances are Euclidean, as AVE-Net compares embeddings (OTS §3.1), in [0, 2]. Up to `EXACT_ROWS`
rows of a modality all distances are computed. Above that, with FAISS installed, an inverted file
(`IndexIVFFlat`) looks at the rows in the few clusters nearest to the query, and at all rows added
since it was made; tests/benchmarks/bench_search.py measures what that finds and costs.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from l3net.errors import UserError
from l3net.files import write_whole
from l3net.media.file_kinds import IMAGE, SOUND

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

MODALITIES = (SOUND, IMAGE)
EXACT_ROWS = 250_000
NUM_PROBES = 32
_FORMAT = 1
_CONFIG, _VECTORS, _FILES, _LOCK = "index.json", "vectors.npy", "files.jsonl", "lock"
_HEADER_BYTES = 128
_ROWS_AT_ONCE = 1 << 16
_TRAINING_ROWS_PER_CLUSTER = 64
# Clusters are made again when more of a modality's rows lie outside them.
_MAX_UNCLUSTERED_SHARE = 0.1
_FIRST_CANDIDATES, _MAX_CANDIDATES = 256, 16_384

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows of one stream of a file.

    Attributes:
        modality: `SOUND` or `IMAGE`.
        num_rows: in the index, one after another.
        step_seconds: row k of the part is of k * step_seconds on the file's own time line.
    """

    modality: str
    num_rows: int
    step_seconds: float


@dataclasses.dataclass(frozen=True)
class IndexedFile:
    """One file of an index.

    Attributes:
        path: from the index folder, with "/".
        sha256: of its content.
        kind: "sound", "image" or "video".
        first_row: of its rows.
        parts: in the order of its rows.
        replaces: path of an earlier file that is no longer part of the index: the same content,
            that was moved here; "" for none.
    """

    path: str
    sha256: str
    kind: str
    first_row: int
    parts: tuple[Part, ...]
    replaces: str = ""

    @property
    def num_rows(self) -> int:
        """Of all its parts."""
        return sum(part.num_rows for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Hit:
    """The best row of a file.

    Attributes:
        file: that it belongs to.
        distance: Euclidean, in [0, 2].
        modality: of the row.
        time_seconds: of the row, on the file's own time line.
        query_row: of the query's vectors, the nearest.
    """

    file: IndexedFile
    distance: float
    modality: str
    time_seconds: float
    query_row: int


# --- The index -----------------------------------------------------------------------------------
class SearchIndex:
    """An index in a folder.

    Attributes:
        folder: that it lies in.
        config: the content of index.json.
        num_rows: in the index, those of files that were replaced included.
    """

    def __init__(self, folder: str | pathlib.Path):
        """Opens an index.

        Args:
            folder: that `create` made.

        Raises:
            UserError: if there is none, or a file of it is damaged or incomplete.
        """
        self.folder = pathlib.Path(folder)
        self.config = _read_config(self.folder)
        self._load()

    @classmethod
    def create(
        cls, folder: str | pathlib.Path, *, fingerprint: str, size: int, settings: dict[str, Any]
    ) -> "SearchIndex":
        """Makes an empty index.

        Args:
            folder: for it; new or empty.
            fingerprint: of the network's weights.
            size: D of the vectors.
            settings: that the embeddings are made with, for later additions and queries.

        Raises:
            UserError: if the folder holds something else or cannot be written.
        """
        folder = pathlib.Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--index={folder} exists and is no index of ours; name a new folder")
        config = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "size": size,
            "settings": settings,
        }
        try:
            write_whole(folder / _CONFIG, json.dumps(config, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"cannot write --index={folder}: {error.strerror or error}") from error
        return cls(folder)

    def check_network(self, fingerprint: str) -> None:
        """Raises UserError unless the index was made with this network."""
        if self.config["fingerprint"] != fingerprint:
            raise UserError(
                f"{self.folder} was made with another network (weights "
                f"{self.config['fingerprint'][:12]}, not {fingerprint[:12]}): its vectors cannot "
                "be compared; give that --saved_model, or another --index"
            )

    @property
    def files(self) -> list[IndexedFile]:
        """The files that are part of the index now, without those that were replaced."""
        return list(self._by_path.values())

    def path_of(self, file: IndexedFile) -> pathlib.Path:
        """Returns where a file was when it was added, as seen from here."""
        return pathlib.Path(os.path.normpath(self.folder / file.path))

    def counts(self) -> dict[str, int]:
        """Returns the number of rows of each modality, those of replaced files left out."""
        parts = [part for file in self.files for part in file.parts]
        return {
            name: sum(part.num_rows for part in parts if part.modality == name)
            for name in MODALITIES
        }

    def vectors(self) -> np.ndarray:
        """Returns all rows, float32 [num_rows, D], through a memory map."""
        shape = (self.num_rows, self.config["size"])
        if not self.num_rows:
            return np.zeros(shape, np.float32)
        if self._map is None:
            path = self.folder / _VECTORS
            self._map = np.memmap(path, "<f4", "r", offset=_HEADER_BYTES, shape=shape)
        return self._map

    def _load(self) -> None:
        lines, self._files_bytes = _read_lines(self.folder / _FILES)
        self._all_files: list[IndexedFile] = []
        self.num_rows = 0
        by_path: dict[str, IndexedFile] = {}
        for number, line in enumerate(lines, start=1):
            file = _parsed(self.folder / _FILES, number, line, self.num_rows)
            self._append(file, by_path)
        self._by_path = by_path
        self._map: np.ndarray | None = None
        self._tables: dict[Any, _PartTable] = {}
        self._check_vectors()

    def _check_vectors(self) -> None:
        path, row_bytes = self.folder / _VECTORS, 4 * self.config["size"]
        size = path.stat().st_size if path.is_file() else 0
        held = max(0, size - _HEADER_BYTES) // row_bytes
        if held < self.num_rows:
            raise UserError(
                f"{path} holds {held} of {self.num_rows} vectors, it was cut off; copy the index "
                "anew, or name a new --index and --add the files again"
            )

    # --- Adding ----------------------------------------------------------------------------------
    @contextlib.contextmanager
    def adding(self) -> Iterator["Adder"]:
        """Yields what adds files; one process at a time.

        Raises:
            UserError: if another process adds, or the folder cannot be written.
        """
        try:
            with open(self.folder / _LOCK, "a") as lock:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._load()  # another process may have added meanwhile
                with open(self.folder / _VECTORS, "a"):
                    pass
                with (
                    open(self.folder / _VECTORS, "r+b") as vectors,
                    open(self.folder / _FILES, "ab") as lines,
                ):
                    lines.truncate(self._files_bytes)
                    adder = Adder(self, vectors, lines)
                    try:
                        yield adder
                    finally:
                        adder.close()
        except BlockingIOError as error:
            raise UserError(f"another process is adding to {self.folder}; wait for it") from error
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}") from error

    def _append(self, file: IndexedFile, by_path: dict[str, IndexedFile]) -> None:
        self._all_files.append(file)
        self.num_rows += file.num_rows
        by_path.pop(file.replaces, None)
        by_path[file.path] = file  # a later line replaces an earlier one

    def _commit(self, file: IndexedFile) -> None:
        self._append(file, self._by_path)
        self._map = None
        self._tables.clear()

    def _table(self, modalities: Sequence[str], without: str | None = None) -> "_PartTable":
        key = (tuple(modalities), without)
        if key not in self._tables:
            self._tables[key] = _PartTable(self._all_files, self.files, modalities, without)
        return self._tables[key]

    # --- Asking ----------------------------------------------------------------------------------
    def query(
        self,
        vectors: np.ndarray,
        *,
        modalities: Sequence[str] = MODALITIES,
        top: int = 10,
        exact: bool = False,
        without: str | None = None,
    ) -> list[Hit]:
        """Finds the files nearest to a query.

        A file is as near as its nearest row is to the nearest vector of the query.

        Args:
            vectors: float32 [Q, D] of length 1.
            modalities: of the rows to look at.
            top: files wanted.
            exact: whether to compute all distances, however many rows there are.
            without: SHA-256 of a file to leave out.

        Returns:
            At most `top` hits, one per file, nearest first; equal ones in the order of adding.
        """
        parts = self._table(modalities, without)
        if not parts.num_wanted:
            return []
        clusters = {} if exact else self._clusters(modalities)
        if clusters:
            rows, queries = self._near_rows(vectors, clusters, parts, top)
        else:
            rows, queries = self._best_rows(vectors, parts, top)
        hits = [
            self._hit(parts, row, query, vectors) for row, query in zip(rows, queries, strict=True)
        ]
        return sorted(hits, key=lambda hit: hit.distance)[:top]

    def _hit(self, parts: "_PartTable", row: int, query: int, vectors: np.ndarray) -> Hit:
        file, part, offset = parts.place_of(row)
        # Anew in double precision: 2 - 2 x product is good to 0.0005 only where it is near 0.
        apart = np.asarray(self.vectors()[row], np.float64) - vectors[query]
        distance = float(np.linalg.norm(apart))
        return Hit(file, distance, part.modality, offset * part.step_seconds, int(query))

    def _best_rows(
        self, vectors: np.ndarray, parts: "_PartTable", top: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best row of each of the best files, and the query's vector, exactly."""
        scores, queries = scores_of(self.vectors(), vectors)
        return parts.best_of_files(scores, queries, top)

    def _near_rows(
        self, vectors: np.ndarray, clusters: dict[str, tuple[Any, int]], parts, top: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `_best_rows`, among what the clusters give, and all rows outside them."""
        num_candidates = max(_FIRST_CANDIDATES, 4 * top)
        rest = self._rows_outside(clusters, parts)
        scores, queries = scores_of(self.vectors(), vectors, rest)
        while True:
            found = [(rest, scores, queries)]
            found += [_ask(index, vectors, num_candidates) for index, _ in clusters.values()]
            rows, all_scores, all_queries = (
                np.concatenate(column) for column in zip(*found, strict=True)
            )
            best = parts.best_of_rows(rows, all_scores, all_queries, top)
            if len(best[0]) >= top or num_candidates >= _MAX_CANDIDATES:
                return best
            num_candidates *= 4

    def _rows_outside(
        self, clusters: dict[str, tuple[Any, int]], parts: "_PartTable"
    ) -> np.ndarray:
        covered = {name: rows for name, (_, rows) in clusters.items()}
        return parts.rows_from(covered)

    # --- Clusters --------------------------------------------------------------------------------
    def build_clusters(self) -> None:
        """Makes the clusters of each modality that needs new ones; does nothing without FAISS."""
        faiss = _faiss()
        if faiss is None:
            return
        for modality in MODALITIES:
            parts = self._table((modality,))
            rows = parts.rows_from({})
            _, covered = self._cluster_file(modality)
            num_outside = int((rows >= covered).sum())
            if len(rows) > EXACT_ROWS and num_outside > _MAX_UNCLUSTERED_SHARE * len(rows):
                _log.info("clustering %d rows of %s", len(rows), modality)
                self._write_clusters(faiss, modality, rows)

    def _write_clusters(self, faiss, modality: str, rows: np.ndarray) -> None:
        index = make_clusters(faiss, self.vectors(), rows)
        path = self.folder / f"{modality}-{self.num_rows}.faiss"
        partial = path.with_name(f".{path.name}.tmp")
        try:
            faiss.write_index(index, str(partial))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        for other in self.folder.glob(f"{modality}-*.faiss"):
            if other != path:
                other.unlink(missing_ok=True)

    def _cluster_file(self, modality: str) -> tuple[pathlib.Path | None, int]:
        """Returns the clusters that cover most rows, and how many."""
        found = []
        for path in self.folder.glob(f"{modality}-*.faiss"):
            rows = path.stem.removeprefix(f"{modality}-")
            if rows.isdecimal() and int(rows) <= self.num_rows:
                found.append((int(rows), path))
        rows, path = max(found, default=(0, None))
        return path, rows

    def _clusters(self, modalities: Sequence[str]) -> dict[str, tuple[Any, int]]:
        """Returns, by modality, the clusters and the number of rows that they cover."""
        faiss, found = _faiss(), {}
        for modality in modalities:
            path, rows = self._cluster_file(modality)
            if faiss is None or path is None:
                continue
            try:
                index = _read_clusters(str(path), path.stat().st_mtime_ns)
            except (RuntimeError, OSError):
                _log.warning("%s is damaged and not used; remove it and --add to renew it", path)
                continue
            found[modality] = index, rows
        return found


class Adder:
    """Adds files to an index; from `SearchIndex.adding`."""

    def __init__(self, index: SearchIndex, vectors, lines):
        self._index, self._vectors, self._lines = index, vectors, lines
        self._size = index.config["size"]
        self._by_content: dict[str, list[IndexedFile]] = {}
        for file in index.files:
            self._by_content.setdefault(file.sha256, []).append(file)
        self._to_end()

    def find(self, sha256: str) -> IndexedFile | None:
        """Returns the file of this content; one that is still there if there are several."""
        same = self._by_content.get(sha256, [])
        return next(filter(self.is_there, same), same[0] if same else None)

    def is_there(self, file: IndexedFile) -> bool:
        """Returns whether a file is where it was when it was added."""
        return self._index.path_of(file).is_file()

    def add(
        self,
        path: pathlib.Path,
        *,
        sha256: str,
        kind: str,
        streams: Iterable[tuple[str, Iterable[np.ndarray], float]],
        replaces: str = "",
    ) -> IndexedFile:
        """Adds a file, whole or not at all; it replaces one that was added from the same place.

        Args:
            path: of the file.
            sha256: of its content.
            kind: "sound", "image" or "video".
            streams: (modality, chunks of vectors float32 [n, D], step_seconds) each.
            replaces: path in the index of a file that was moved here.

        Returns:
            The file. What `streams` raises is raised, with the index as it was.
        """
        parts = []
        try:
            for modality, chunks, step_seconds in streams:
                num_rows = 0
                for chunk in chunks:
                    self._vectors.write(np.ascontiguousarray(chunk, "<f4").tobytes())
                    num_rows += len(chunk)
                parts.append(Part(modality, num_rows, step_seconds))
            file = IndexedFile(
                self._place(path), sha256, kind, self._index.num_rows, tuple(parts), replaces
            )
            _to_disk(self._vectors)
            line = dataclasses.asdict(file)
            del line["first_row"]
            self._lines.write(json.dumps(line).encode() + b"\n")
            _to_disk(self._lines)
        except BaseException:
            self._to_end()
            raise
        self._index._commit(file)
        self._by_content.setdefault(sha256, []).append(file)
        return file

    def close(self) -> None:
        """Writes the header of the vectors, for np.load."""
        self._to_end()
        self._vectors.seek(0)
        self._vectors.write(_header(self._index.num_rows, self._size))
        _to_disk(self._vectors)

    def _place(self, path: pathlib.Path) -> str:
        start = self._index.folder.resolve()
        return pathlib.Path(os.path.relpath(path.resolve(), start)).as_posix()

    def _to_end(self) -> None:
        """Drops rows without a line."""
        end = _HEADER_BYTES + 4 * self._size * self._index.num_rows
        self._vectors.truncate(end)
        self._vectors.seek(end)


# --- Rows and files ------------------------------------------------------------------------------
class _PartTable:
    """Which rows belong to which part of which file, and which are asked for."""

    def __init__(
        self,
        all_files: Sequence[IndexedFile],
        files: Sequence[IndexedFile],
        modalities: Sequence[str],
        without: str | None,
    ):
        current = {file.first_row for file in files if file.sha256 != without}
        self._parts = [
            (number, file, part)
            for number, file in enumerate(all_files)
            for part in file.parts
            if part.num_rows
        ]
        num_rows = np.array([part.num_rows for _, _, part in self._parts], np.int64)
        self._firsts = np.cumsum(num_rows) - num_rows
        self._ends = self._firsts + num_rows
        self._file_of = np.array([number for number, _, _ in self._parts], np.int64)
        self._wanted = np.array(
            [
                file.first_row in current and part.modality in modalities and file.num_rows > 0
                for _, file, part in self._parts
            ],
            bool,
        )
        self.num_wanted = int(num_rows[self._wanted].sum())
        self._rows_from: dict[Any, np.ndarray] = {}

    def place_of(self, row: int) -> tuple[IndexedFile, Part, int]:
        """Returns the file, the part and the number of a row within it."""
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        _, file, part = self._parts[number]
        return file, part, int(row - self._firsts[number])

    def best_of_files(
        self, scores: np.ndarray, queries: np.ndarray, top: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Picks the best row of each of the best files.

        Args:
            scores: float32 [num_rows], of all rows; higher is nearer.
            queries: int [num_rows].
            top: files wanted.

        Returns:
            (rows, their queries), best first, at most `top`.
        """
        of_parts = np.where(self._wanted, np.maximum.reduceat(scores, self._firsts), -np.inf)
        order = np.argsort(-of_parts, kind="stable")
        _, firsts = np.unique(self._file_of[order], return_index=True)
        chosen = order[np.sort(firsts)][:top]
        chosen = chosen[self._wanted[chosen]]
        rows = [
            self._firsts[part] + int(np.argmax(scores[self._firsts[part] : self._ends[part]]))
            for part in chosen
        ]
        rows = np.array(rows, np.int64)
        return rows, queries[rows]

    def best_of_rows(
        self, rows: np.ndarray, scores: np.ndarray, queries: np.ndarray, top: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `best_of_files`, among some rows; a row may come several times."""
        parts = np.searchsorted(self._firsts, rows, side="right") - 1
        kept = self._wanted[parts]
        rows, scores, queries, parts = (a[kept] for a in (rows, scores, queries, parts))
        order = np.lexsort((rows, -scores))
        _, firsts = np.unique(self._file_of[parts[order]], return_index=True)
        chosen = order[np.sort(firsts)][:top]
        return rows[chosen], queries[chosen]

    def rows_from(self, covered: dict[str, int]) -> np.ndarray:
        """Returns the wanted rows that are not among the first so many of their modality's."""
        key = tuple(sorted(covered.items()))
        if key in self._rows_from:
            return self._rows_from[key]
        spans = [
            np.arange(max(first, covered.get(part.modality, 0)), end)
            for first, end, wanted, (_, _, part) in zip(
                self._firsts, self._ends, self._wanted, self._parts, strict=True
            )
            if wanted and end > covered.get(part.modality, 0)
        ]
        self._rows_from[key] = np.concatenate([np.zeros(0, np.int64), *spans])
        return self._rows_from[key]


def scores_of(
    vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how near each row is to the nearest of several queries.

    Args:
        vectors: float32 [num_rows, D] of length 1.
        queries: float32 [Q, D] of length 1.
        rows: which rows; None takes all.

    Returns:
        (float32 [n], the scalar product: the squared distance is 2 - 2 times it; int64 [n], the
        query).
    """
    num = len(vectors) if rows is None else len(rows)
    scores, nearest = np.empty(num, np.float32), np.zeros(num, np.int64)
    at_once = max(1, _ROWS_AT_ONCE // len(queries)) if len(queries) > 16 else _ROWS_AT_ONCE
    for start in range(0, num, at_once):
        part = slice(start, start + at_once)
        block = vectors[part] if rows is None else vectors[rows[part]]
        if len(queries) == 1:
            scores[part] = block @ queries[0]
            continue
        products = block @ queries.T
        nearest[part] = products.argmax(axis=1)
        scores[part] = products.max(axis=1)
    return scores, nearest


# --- FAISS ---------------------------------------------------------------------------------------
@functools.cache
def _faiss():
    """Returns the module, None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def has_faiss() -> bool:
    """Returns whether FAISS is installed."""
    return _faiss() is not None


def make_clusters(faiss, vectors: np.ndarray, rows: np.ndarray):
    """Clusters rows: about one cluster per square root of their number, a power of two.

    Args:
        faiss: the module.
        vectors: float32 [num_rows, D] of length 1.
        rows: which of them.

    Returns:
        A `faiss.IndexIVFFlat` by scalar product that answers with row numbers.
    """
    size = vectors.shape[1]
    num_clusters = 2 ** round(math.log2(math.sqrt(len(rows))))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(size), size, num_clusters, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed, index.cp.spherical = 1, True
    num_training = min(len(rows), _TRAINING_ROWS_PER_CLUSTER * num_clusters)
    drawn = np.random.default_rng(0).choice(len(rows), num_training, replace=False)
    index.train(np.ascontiguousarray(vectors[np.sort(rows[drawn])]))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        index.add_with_ids(np.ascontiguousarray(vectors[some]), some)
    index.nprobe = NUM_PROBES
    return index


@functools.lru_cache(maxsize=4)
def _read_clusters(path: str, changed_ns: int):
    del changed_ns  # a new file is read anew
    faiss = _faiss()
    index = faiss.read_index(path, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    index.nprobe = NUM_PROBES
    return index


def _ask(index, vectors: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (rows, scores, queries), `num` per query or fewer."""
    scores, rows = index.search(np.ascontiguousarray(vectors, np.float32), min(num, index.ntotal))
    queries = np.broadcast_to(np.arange(len(vectors))[:, np.newaxis], rows.shape)
    found = rows >= 0
    return rows[found], scores[found], queries[found]


# --- Files of the index --------------------------------------------------------------------------
def is_index(folder: str | pathlib.Path) -> bool:
    """Returns whether a folder holds an index, whole or not."""
    return (pathlib.Path(folder) / _CONFIG).is_file()


def _read_config(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        raise UserError(f"--index={folder} is no index; give --add to make one")
    try:
        config = json.loads(path.read_text())
        if config["format"] != _FORMAT:
            raise UserError(f"{path} has format {config['format']}; this version reads {_FORMAT}")
        if not (isinstance(config["fingerprint"], str) and int(config["size"]) > 0):
            raise ValueError
        dict(config["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged; copy the index anew, or name a new --index and --add the files "
            "again"
        ) from error
    return config


def _read_lines(path: pathlib.Path) -> tuple[list[bytes], int]:
    """Returns the whole lines, and their bytes: half a line is of a process that died."""
    data = path.read_bytes() if path.is_file() else b""
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), end


def _parsed(path: pathlib.Path, number: int, line: bytes, first_row: int) -> IndexedFile:
    try:
        fields = json.loads(line)
        parts = tuple(Part(**part) for part in fields.pop("parts"))
        if any(part.num_rows < 0 or part.modality not in MODALITIES for part in parts):
            raise ValueError
        return IndexedFile(first_row=first_row, parts=parts, **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: line {number} is damaged; copy the index anew, or name a new --index and "
            "--add the files again"
        ) from error


def _header(num_rows: int, size: int) -> bytes:
    """Returns the head of a .npy file, of always the same length."""
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({num_rows}, {size}), }}"
    prefix = np.lib.format.magic(1, 0) + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return prefix + words.ljust(_HEADER_BYTES - 11).encode() + b"\n"


def _to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())
