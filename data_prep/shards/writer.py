"""One shard: its rows, its file and its commit marker.

A shard is written beside its place, renamed, and only then gets its marker: whatever kills a
worker, a shard with a marker is whole, and one without is made again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from data_prep.lists import manifest
from data_prep.shards import clip_records
from data_prep.shards.clip_records import FAILED, OK, Outcome
from data_prep.shards.config import Config
from l3net.data import shards as shard_files
from l3net.data.shards import shard_name
from l3net.errors import UserError, first_line
from l3net.files import sha256_of, write_whole


@dataclasses.dataclass(frozen=True)
class Job:
    """What the shards of a folder have in common; travels to every worker, once.

    Attributes:
        out_dir: of the shards.
        recipe: how clips are made.
        retry_failed: whether to try rows again that failed in an earlier run.
    """

    out_dir: pathlib.Path
    recipe: clip_records.Recipe
    retry_failed: bool = False


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to write: its file name, and its rows, sorted by example_id."""

    name: str
    rows: tuple[manifest.ManifestRow, ...]


# --- What goes where -----------------------------------------------------------------------------
def shard_of(example_id: str, num_shards: int) -> int:
    """Returns the index of the shard that a clip goes to, from nothing but its id."""
    return int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:8], "big") % num_shards


def shard_names(config: Config) -> list[str]:
    """Returns the file names of all shards, split by split."""
    return [
        shard_name(config.dataset_name, split, index, count)
        for split, count in config.num_shards.items()
        for index in range(count)
    ]


def shard_name_of(row: manifest.ManifestRow, config: Config) -> str:
    """Returns the file name of the shard that a row goes to."""
    count = config.num_shards[row.split]
    index = shard_of(row.example_id, count)
    return shard_name(config.dataset_name, row.split, index, count)


def all_shards(rows: Iterable[manifest.ManifestRow], config: Config) -> list[Shard]:
    """Returns every shard with its rows; a shard may have none."""
    rows_of = {name: [] for name in shard_names(config)}
    for row in rows:
        rows_of[shard_name_of(row, config)].append(row)
    return [make_shard(name, shard_rows) for name, shard_rows in rows_of.items()]


def make_shard(name: str, rows: Iterable[manifest.ManifestRow]) -> Shard:
    """Returns a shard of these rows, which may come in any order."""
    return Shard(name, tuple(sorted(rows, key=lambda row: row.example_id)))


# --- Errors of the disk --------------------------------------------------------------------------
@contextlib.contextmanager
def disk_errors(where: pathlib.Path) -> Iterator[None]:
    """Turns a full disk and its like into one line."""
    try:
        yield
    except ConnectionError:
        raise  # of a pipe between processes
    except (OSError, tf.errors.OpError) as error:
        what = first_line(error)
        raise UserError(
            f"cannot write {where}: {what}; make room, then the same command goes on from here"
        ) from error


# --- Commit markers ------------------------------------------------------------------------------
def is_finished(shard: Shard, job: Job) -> bool:
    """Returns whether there is nothing to do for a shard."""
    marker = _read_marker(shard, job)
    if marker is None:
        return False
    if not job.retry_failed:
        return True
    return all(outcome["outcome"] != FAILED for outcome in marker["outcomes"])


def read_outcomes(shard: Shard, job: Job) -> list[Outcome]:
    """Returns what became of the rows of a finished shard, in its order."""
    marker = json.loads(shard_files.marker_path(job.out_dir / shard.name).read_text())
    return [Outcome(**outcome) for outcome in marker["outcomes"]]


def _read_marker(shard: Shard, job: Job) -> dict | None:
    """Returns the commit marker of a shard; None unless shard and marker fit the job."""
    path = job.out_dir / shard.name
    try:
        marker = json.loads(shard_files.marker_path(path).read_text())
        fits = marker["config_hash"] == job.recipe.config.hash()
        fits = fits and marker["num_bytes"] == path.stat().st_size
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return marker if fits else None


# --- Writing -------------------------------------------------------------------------------------
def write_shard(shard: Shard, job: Job, report: Callable[[Outcome], None]) -> None:
    """Writes a shard and its marker.

    Args:
        shard: what to write.
        job: what all shards have in common.
        report: called with every outcome as it comes.

    Raises:
        UserError: if the disk refuses, or ffmpeg or OpenCV is missing.
    """
    path = job.out_dir / shard.name
    # Drawn: of two workers of a cluster that write the same shard each has a file of its own.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with disk_errors(path):
            outcomes = []
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for outcome, record in _results(shard, job):
                    if record is not None:
                        writer.write(record)
                    outcomes.append(outcome)
                    report(outcome)
            _commit(path, partial, outcomes, job)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _results(shard: Shard, job: Job) -> Iterator[tuple[Outcome, bytes | None]]:
    """Yields (outcome, record) per row; what an earlier run could do is not done again."""
    path, marker = job.out_dir / shard.name, _read_marker(shard, job)
    if marker is None or sha256_of(path) != marker["sha256"]:
        for row in shard.rows:
            yield clip_records.make_record(row, job.recipe)
        return
    records = _records(path)
    for row, fields in zip(shard.rows, marker["outcomes"], strict=True):
        outcome = Outcome(**fields)
        if outcome.outcome == FAILED:
            yield clip_records.make_record(row, job.recipe)
        else:
            yield outcome, next(records) if outcome.outcome == OK else None


def _records(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file whose bytes were checked already.

    Not by tf.data: a worker runs no TensorFlow operation, so it starts none of its threads.
    """
    with open(path, "rb") as file:
        while header := file.read(12):  # length, checksum of the length
            yield file.read(int.from_bytes(header[:8], "little"))
            file.read(4)  # checksum of the record


def _commit(
    path: pathlib.Path, partial: pathlib.Path, outcomes: Sequence[Outcome], job: Job
) -> None:
    """Puts a written shard in its place, then its marker."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    marker_path = shard_files.marker_path(path)
    made = [outcome for outcome in outcomes if outcome.outcome == OK]
    marker = {
        "num_clips": len(made),
        "media_ids": sorted({outcome.media_id for outcome in made}),
        "num_bytes": partial.stat().st_size,
        "sha256": sha256_of(partial),
        "config_hash": job.recipe.config.hash(),
        "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    # A marker never stands beside a shard that is not its own.
    marker_path.unlink(missing_ok=True)
    os.replace(partial, path)
    write_whole(marker_path, json.dumps(marker, indent=1) + "\n")
