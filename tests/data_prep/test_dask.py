"""A real cluster: Apache Beam on Dask, scheduler and workers processes of their own on loopback."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

import pytest

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from tests.tiny_folders import contents, prepare

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = {"dataset_name": "tiny", "smallest_side_px": 64, "num_shards": 20}
CLIPS_PER_VIDEO = 10


@pytest.fixture
def start(tmp_path):
    """Starts a module in a process; returns it, and where it writes what it says."""
    with contextlib.ExitStack() as running:

        def start(*arguments) -> tuple[subprocess.Popen, pathlib.Path]:
            log = tmp_path / f"{arguments[0]}.log"
            with open(log, "ab") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", *map(str, arguments)],
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdout=file,
                    stderr=file,
                )
            running.callback(process.wait)
            running.callback(process.kill)
            return process, log

        yield start


@pytest.fixture
def cluster(start, tmp_path):
    """A client of the cluster, the scheduler's file, and the two workers."""
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: l3net[beam]")
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: l3net[test]")
    file = tmp_path / "scheduler.json"
    given = (f"--scheduler-file={file}", "--no-dashboard")
    start("distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", *given)
    given += ("--no-nanny", "--nthreads=1", f"--local-directory={tmp_path}")
    workers = [start("distributed.cli.dask_worker", *given)[0] for _ in range(2)]
    with distributed.Client(scheduler_file=str(file), timeout=300) as client:
        client.wait_for_workers(2, timeout=300)
        yield client, file, workers


def _write_manifest(videos: pathlib.Path, path: pathlib.Path) -> None:
    """Cuts many clips out of few videos; one row in ten has no file."""
    rows = []
    for number, video in enumerate(sorted(videos.glob("*.mp4"))):
        for cut in range(CLIPS_PER_VIDEO):
            name, file = f"{video.stem}_{cut}", video.name if cut else "missing.mp4"
            start, split = cut / CLIPS_PER_VIDEO * 0.9, "val" if number % 4 == 0 else "train"
            rows.append(ManifestRow(name, name, file, start, start + 1.0, split, ("any",)))
    manifest.write_manifest(path, rows)


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_driver_change_nothing(cluster, start, tiny_videos, tmp_path):
    client, file, workers = cluster
    given = {"manifest": tmp_path / "manifest.csv", "videos_dir": tiny_videos, **SETTINGS}
    _write_manifest(tiny_videos, given["manifest"])
    prepare(**given, out_dir=tmp_path / "local", num_workers=1)
    out_dir = tmp_path / "dask"
    command = ["data_prep.write_shards", *(f"--{name}={value}" for name, value in given.items())]
    command += [f"--out_dir={out_dir}", "--runner=beam", "--"]
    command += ["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"]
    command += [f"--dask_scheduler_file={file}", "--dask_partition_size=1"]

    def markers() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out_dir.glob("tiny-*.json")}

    def wait(driver, is_true) -> None:
        process, log = driver
        while not is_true():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)

    driver = start(*command)
    wait(driver, lambda: len(markers()) > 3 and all(client.processing().values()))
    workers[0].kill()
    before = len(markers())
    wait(driver, lambda: len(markers()) > before + 3)
    driver[0].kill()
    driver[0].wait()
    kept = markers()
    assert len(kept) < 2 * SETTINGS["num_shards"], "it ended before it was killed: too few clips"
    again, log = start(*command)
    assert again.wait() == 0, log.read_text()
    assert contents(out_dir) == contents(tmp_path / "local")
    assert kept.items() <= markers().items()  # what was finished is not made again
