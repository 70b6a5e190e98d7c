"""Writes shards on a cluster, through Apache Beam: Flink, Spark, Dataflow, or Beam's own runner.

    manifest.csv -> (shard, row) -> grouped by shard -> write_shard

The job graph holds no row: one worker reads the manifest from the prepared folder and the runner
carries the rows. Every worker sees the prepared folder and the videos at the same paths (a network
file system). Nothing comes back but the files: shards and their commit markers say what is done.
"""

import contextlib
import dataclasses
import io
import pathlib
import threading
import time
import types
from collections.abc import Iterable, Iterator, Sequence

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from data_prep.shards import folder, writer
from data_prep.shards.writer import Job, Shard
from l3net.data.shards import marker_path
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
            runner = _pipeline_options(options).get_all_options()["runner"]
        beam.runners.create_runner(runner or "DirectRunner")
    except (SystemExit, ValueError) as error:
        lines = printed.getvalue().strip().splitlines() or [str(error)]
        raise UserError(f"Beam refuses {' '.join(options)}: {lines[-1]}") from error


def write_shards(shards: Sequence[Shard], job: Job, *, options: Sequence[str] = ()) -> None:
    """Writes shards that are not finished; the workers look for themselves, too.

    Raises:
        UserError: if Beam is not installed, the pipeline fails, or shards are missing at its end.
    """
    beam, job = _beam(), dataclasses.replace(job, out_dir=job.out_dir.absolute())
    try:
        with (
            _progress(shards, job),
            beam.Pipeline(options=_pipeline_options(options)) as pipeline,
        ):
            _build(beam, pipeline, job)
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
def _progress(shards: Sequence[Shard], job: Job) -> Iterator[None]:
    """Shows how many shards got a new marker, the only thing that every runner shows alike."""
    markers = [marker_path(job.out_dir / shard.name) for shard in shards]
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


def _wait_for_markers(shards: Sequence[Shard], job: Job) -> None:
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


def _build(beam: types.ModuleType, pipeline, job: Job) -> None:
    _ = (
        pipeline
        | "Manifest" >> beam.Create([str(job.out_dir / folder.MANIFEST_FILE)])
        | "Rows" >> beam.FlatMap(_rows_of_shards, job)
        | "Shards" >> beam.GroupByKey()
        | "Write" >> beam.Map(_write, job)
    )


def _rows_of_shards(manifest_path: str, job: Job) -> Iterator[tuple[str, ManifestRow | None]]:
    """Yields (shard name, row), and (shard name, None) once for each: a shard may have no row."""
    config = job.recipe.config
    for name in writer.shard_names(config):
        yield name, None
    for row in manifest.read_manifest(manifest_path):
        yield writer.shard_name_of(row, config), row


def _write(name_and_rows: tuple[str, Iterable[ManifestRow | None]], job: Job) -> None:
    name, rows = name_and_rows
    shard = writer.make_shard(name, (row for row in rows if row is not None))
    # A runner that lost a worker's answer sends the shard again.
    if not writer.is_finished(shard, job):
        writer.write_shard(shard, job, lambda outcome: None)
