"""What a run of data_prep.write_shards costs before its first clip and after its last.

    python -m tests.benchmarks.bench_plan [--rows=100000,1000000] [--rows_per_shard=100]

Makes a manifest of so many rows, none of which has a file. The clips themselves cost nothing here:
markers with an outcome for every row are put in their place. Each step is a process of its own:

    plan    a new folder, up to the first clip
    resume  the same, where all shards but one are finished
    end     from the last clip to outcomes.csv
"""

import dataclasses
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

from data_prep.lists.manifest import ManifestRow, write_manifest
from data_prep.shards import clip_records, preparation, processes, writer
from data_prep.shards.config import Media, Target
from data_prep.shards.row_table import rows_of
from l3net import flags
from l3net.data.markers import Marker, write_marker
from l3net.flags import setting
from tests.benchmarks.timing import say

PLAN, RESUME, END = STEPS = ("plan", "resume", "end")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is planned."""

    rows: tuple[str, ...] = setting(("100000", "1000000"), "Numbers of rows, with commas between.")
    rows_per_shard: int = setting(100, "Rows of a shard.", at_least=1)
    step: str = setting("", "Step to measure, in --folder; for the processes that this one starts.")
    folder: str = setting("", "Folder of --step.")


def main(config: Config) -> None:
    """Prints a line per step and number of rows."""
    if config.step:
        _run(config.step, pathlib.Path(config.folder), int(config.rows[0]) // config.rows_per_shard)
        return
    for num_rows in config.rows:
        with tempfile.TemporaryDirectory() as folder:
            write_manifest(pathlib.Path(folder, "manifest.csv"), _rows(int(num_rows)))
            for step in STEPS:
                arguments = (f"--rows={num_rows}", f"--rows_per_shard={config.rows_per_shard}")
                # From a small process: a child's peak begins with that of the one that starts it.
                small = ("sh", "-c", '"$@"; exit', "sh", sys.executable, "-m", __spec__.name)
                subprocess.run(
                    [*small, *arguments, f"--step={step}", f"--folder={folder}"], check=True
                )


def _rows(num: int):
    """Yields rows as AudioSet's might be, in no order."""
    rng = random.Random(0)
    labels = [f"Class number {index}" for index in range(500)]
    for index in range(num):
        name = f"{rng.getrandbits(60):015x}_{index:06d}"
        start = float(rng.randrange(600))
        split = rng.choice(("train", "train", "train", "test"))
        path = f"videos/{name}.mp4"
        yield ManifestRow(name, name, path, start, start + 10, split, tuple(rng.sample(labels, 3)))


def _run(step: str, folder: pathlib.Path, num_shards: int) -> None:
    """Prepares the folder with nothing in the place of the clips."""
    began = 0.0

    def write_shards(shards, job, **_) -> None:
        nonlocal began
        if step != END:
            _say(step, began)
        for shard in list(shards)[step == PLAN :]:
            if step != RESUME:
                _finish(shard, job)
        if step != END:
            raise SystemExit
        began = time.process_time()

    processes.write_shards = write_shards
    preparation.prepare(
        preparation.Source(manifest=folder / "manifest.csv"),
        Target(out_dir=folder / "shards", num_shards=num_shards // 2),
        Media(),
        preparation.Run(),
    )
    _say(step, began)


def _say(step: str, began: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.process_time() - began
    say(f"{step:6s} {seconds:6.1f} s of a processor, peak {usage.ru_maxrss / 1024:.0f} MB")


def _finish(shard: str, job: writer.Job) -> None:
    """Writes an empty shard and its marker, as if all of its clips were in it."""
    outcomes = [
        clip_records.Outcome(
            *(row.example_id, row.media_id, row.path, row.split, clip_records.OK, "", ""),
            *(250, 480_000, 10.0, 0, 1, 0, 1),
        )
        for row in rows_of(job.rows, shard)
    ]
    path = job.out_dir / shard
    path.touch()
    media_ids = tuple(sorted(outcome.media_id for outcome in outcomes))
    rows = [dataclasses.asdict(outcome) for outcome in outcomes]
    hashes = ("0" * 64, job.recipe.config.hash())
    write_marker(path, Marker(len(outcomes), media_ids, 0, *hashes, rows))


if __name__ == "__main__":
    flags.run(main, Config)
