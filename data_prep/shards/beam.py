"""Writes shards on a cluster, through Apache Beam: Flink, Spark, Dataflow, or Beam's own runner.

    names of the shards -> shared out -> write_shard

Each worker reads the rows of its shards from the table in the prepared folder
(`data_prep.shards.row_table`): neither the job graph nor the runner holds one. Every worker sees
the prepared folder and the videos at the same paths (a network
file system). Nothing comes back but the files: shards and their commit markers say what is done.
"""

import contextlib
import dataclasses
import io
import pathlib
import threading
import time
import types
from collections.abc import Collection, Iterator, Sequence

from data_prep.shards import writer
from data_prep.shards.writer import Job
from l3net.data.markers import marker_path
from l3net.errors import UserError, needs_extra
from l3net.progress import Progress, progress

_SECONDS_BETWEEN_LOOKS = 10.0  # at the markers, over a network
_SECONDS_FOR_MARKERS = 120.0  # a network file system may show new files late


def check_options(options: Sequence[str]) -> None:
    """Checks Beam's pipeline options before anything is written.

    Raises:
        UserError: if Beam is not installed, there is no such runner, or an option's value is
            unusable. Options that Beam does not know are for the runner; Beam warns of them.
    """
    beam, printed = _beam(), io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):  # argparse shows how to use all of them
            given = _pipeline_options(options)
            standard = given.view_as(beam.options.pipeline_options.StandardOptions)
            # First, for a runner brings options of its own.
            beam.runners.create_runner(standard.runner or "DirectRunner")
            given.get_all_options()
    except (SystemExit, ValueError, ImportError, AttributeError) as error:
        lines = printed.getvalue().strip().splitlines() or [str(error)]
        raise UserError(f"Beam refuses {' '.join(options)}: {lines[-1]}") from error


def write_shards(shards: Collection[str], job: Job, *, options: Sequence[str] = ()) -> None:
    """Writes shards that are not finished; the workers look for themselves, too.

    Raises:
        UserError: if Beam is not installed, the pipeline fails, or shards are missing at its end.
    """
    beam = _beam()
    job = dataclasses.replace(job, out_dir=job.out_dir.absolute(), rows=job.rows.absolute())
    try:
        with (
            _progress(shards, job),
            beam.Pipeline(options=_pipeline_options(options)) as pipeline,
        ):
            _build(beam, pipeline, shards, job)
    except Exception as error:  # whatever a runner raises; its last line is the worker's
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = lines[-1] if lines else type(error).__name__
        raise UserError(
            f"the Beam pipeline failed ({what}); finished shards are kept, the same command goes on"
        ) from error
    _wait_for_markers(shards, job)


def _pipeline_options(options: Sequence[str]):
    return _beam().options.pipeline_options.PipelineOptions(list(options))


def _beam() -> types.ModuleType:
    # Here, not above: everything else works without it.
    with needs_extra("beam", "--runner=beam"):
        import apache_beam
        import apache_beam.options.pipeline_options
    return apache_beam


@contextlib.contextmanager
def _progress(shards: Collection[str], job: Job) -> Iterator[None]:
    """Shows how many shards got a new marker, the only thing that every runner shows alike."""
    markers = [marker_path(job.out_dir / shard) for shard in shards]
    before = [_changed_ns(path) for path in markers]
    ended = threading.Event()

    def watch(shown: Progress) -> None:
        is_last_look = False
        while not is_last_look:
            is_last_look = ended.wait(_SECONDS_BETWEEN_LOOKS)
            now = [_changed_ns(path) for path in markers]
            num_new = sum(a != b for a, b in zip(now, before, strict=True) if a)
            shown.advance(num_new - shown.done)

    with progress("preparing", unit="shard", total=len(shards)) as shown:
        watcher = threading.Thread(target=watch, args=(shown,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _changed_ns(path: pathlib.Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _wait_for_markers(shards: Collection[str], job: Job) -> None:
    """Waits until this machine sees what the workers wrote; raises UserError if it never does."""
    deadline = time.monotonic() + _SECONDS_FOR_MARKERS
    job = dataclasses.replace(job, retry_failed=False)  # what failed again is finished, too
    while missing := [shard for shard in shards if not writer.is_finished(shard, job)]:
        if time.monotonic() > deadline:
            raise UserError(
                f"the Beam pipeline ended, but {job.out_dir} lacks {len(missing)} of {len(shards)} "
                "shards; every worker must see this folder at this path"
            )
        time.sleep(1.0)


def _build(beam: types.ModuleType, pipeline, shards: Collection[str], job: Job) -> None:
    _ = (
        pipeline
        | "Shards" >> beam.Create(list(shards))  # each an element: Dask has no Reshuffle
        | "Share out" >> beam.Reshuffle()
        | "Write" >> beam.Map(_write, job)
    )


def _write(shard: str, job: Job) -> None:
    # A runner that lost a worker's answer sends the shard again.
    if not writer.is_finished(shard, job):
        writer.write_shard(shard, job, lambda outcome: None)
