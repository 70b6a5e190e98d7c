"""One shard: its rows, its file and its commit marker.

A shard is written beside its final name, renamed, and only then gets its marker: whatever kills a
worker, a shard with a marker is complete, and one without is made again.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from data_prep.lists.manifest import ManifestRow, hash_64
from data_prep.shards import clip_records, formats
from data_prep.shards.clip_records import FAILED, OK, Outcome
from data_prep.shards.config import Config
from data_prep.shards.row_table import rows_of
from l3net.data.markers import (
    Marker,
    fitting_marker,
    marker_path,
    read_marker,
    write_marker,
)
from l3net.files import disk_errors, sha256_of, temporary_name


@dataclasses.dataclass(frozen=True)
class Job:
    """What the shards of a folder have in common; travels to every worker, once."""

    out_dir: pathlib.Path
    recipe: clip_records.Recipe
    rows: pathlib.Path  # file of the `RowTable`
    retry_failed: bool = False


# --- What goes where -----------------------------------------------------------------------------
def shard_of(example_id: str, num_shards: int) -> int:
    """Returns the index of the shard that a clip goes to, from nothing but its id."""
    return hash_64(example_id) % num_shards


def shard_names(config: Config) -> list[str]:
    """Returns the file names of all shards, split by split."""
    return [name for _, name in formats.shard_names(config)]


def shard_name_of(row: ManifestRow, config: Config) -> str:
    """Returns the file name of the shard that a row goes to."""
    index = shard_of(row.example_id, config.num_shards[row.split])
    return formats.name_of_shard(config, row.split, index)


# --- What is done --------------------------------------------------------------------------------
def is_finished(shard: str, job: Job) -> bool:
    """Returns whether there is nothing to do for a shard."""
    marker = _marker(shard, job)
    if marker is None or not job.retry_failed:
        return marker is not None
    return all(fields["outcome"] != FAILED for fields in marker.outcomes or ())


def read_outcomes(shard: str, job: Job) -> list[Outcome]:
    """Returns what became of the rows of a finished shard, in its order."""
    marker = read_marker(job.out_dir / shard)
    return [Outcome(**fields) for fields in marker.outcomes or ()]


def _marker(shard: str, job: Job) -> Marker | None:
    return fitting_marker(job.out_dir / shard, job.recipe.config.hash())


# --- Writing -------------------------------------------------------------------------------------
def write_shard(shard: str, job: Job, report: Callable[[Outcome], None]) -> None:
    """Writes a shard and its marker; calls `report` with every outcome as it comes.

    Raises:
        UserError: if the disk refuses, or ffmpeg or OpenCV is missing.
    """
    path = job.out_dir / shard
    partial = temporary_name(path)  # of two workers of a cluster each has one of its own
    try:
        with disk_errors(path):
            outcomes = []
            with _format(job).writer(str(partial)) as writer:
                for outcome, record in _results(shard, job):
                    if record is not None:
                        writer.write(record)
                    outcomes.append(outcome)
                    report(outcome)
            _commit(path, partial, outcomes, job)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _results(shard: str, job: Job) -> Iterator[tuple[Outcome, bytes | None]]:
    """Yields (outcome, record) per row; what an earlier run could do is not done again."""
    path, marker = job.out_dir / shard, _marker(shard, job)
    rows = rows_of(job.rows, shard)
    if marker is None or sha256_of(path) != marker.sha256:
        for row in rows:
            yield clip_records.make_record(row, job.recipe)
        return
    records = _format(job).read_records(path)
    for row, fields in zip(rows, marker.outcomes or (), strict=True):
        outcome = Outcome(**fields)
        if outcome.outcome == FAILED:
            yield clip_records.make_record(row, job.recipe)
        else:
            yield outcome, next(records) if outcome.outcome == OK else None


def _format(job: Job) -> formats.Format:
    return formats.format_of(job.recipe.config)


def _commit(
    path: pathlib.Path, partial: pathlib.Path, outcomes: Sequence[Outcome], job: Job
) -> None:
    """Gives a written shard its name, then its marker."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    clips = [outcome for outcome in outcomes if outcome.outcome == OK]
    marker = Marker(
        num_clips=len(clips),
        media_ids=tuple(sorted({clip.media_id for clip in clips})),
        num_bytes=partial.stat().st_size,
        sha256=sha256_of(partial),
        config_hash=job.recipe.config.hash(),
        outcomes=[dataclasses.asdict(outcome) for outcome in outcomes],
    )
    # A marker is never beside a shard that is not its own.
    marker_path(path).unlink(missing_ok=True)
    os.replace(partial, path)
    write_marker(path, marker)
