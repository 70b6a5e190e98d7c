"""Kill proof: kill -9 at any moment, start again, and the shards are those of an unbroken run."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from tests.tiny_folders import contents, rows_in

ROOT = pathlib.Path(__file__).parents[2]
NUM_KILLS = 20
NUM_SHARDS = 40
CLIPS_PER_VIDEO = 20


def _write_manifest(videos: pathlib.Path, path: pathlib.Path) -> None:
    """Cuts many clips out of few videos; one row in ten has no file."""
    rows = []
    for row in rows_in(videos / "manifest.csv"):
        for cut in range(CLIPS_PER_VIDEO):
            start = cut / CLIPS_PER_VIDEO * 0.9
            name = f"{row.example_id}_{cut}"
            file = row.path if cut else "missing.mp4"
            split, labels = ("train" if cut % 5 else "val"), row.labels
            rows.append(ManifestRow(name, name, file, start, start + 1.0, split, labels))
    manifest.write_manifest(path, rows)


def _start(videos: pathlib.Path, manifest_path: pathlib.Path, out_dir: pathlib.Path, workers: int):
    command = [
        sys.executable, "-m", "data_prep.write_shards", f"--manifest={manifest_path}",
        f"--videos_dir={videos}", f"--out_dir={out_dir}", "--dataset_name=killed",
        f"--num_shards={NUM_SHARDS}", f"--num_workers={workers}",
    ]  # fmt: skip
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **output)


def _finish(process: subprocess.Popen) -> None:
    _, printed = process.communicate(timeout=600)
    assert process.returncode == 0, printed


def _num_markers(folder: pathlib.Path) -> int:
    return len(list(folder.glob("killed-*.json")))


def _wait_for_a_marker(
    process: subprocess.Popen, folder: pathlib.Path, before: int, seconds: float = 600.0
) -> None:
    deadline = time.monotonic() + seconds
    while _num_markers(folder) <= before and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it was killed: too few clips"
        time.sleep(0.002)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tiny_videos, tmp_path):
    """Kill -9 of the whole process group: ten times during start-up, ten times amid the writing.

    91 s of processor time; 3.4 minutes on two cores with load 4 (not measured on an idle machine).
    """
    manifest_path = tmp_path / "manifest.csv"
    _write_manifest(tiny_videos, manifest_path)
    began, whole = time.monotonic(), _start(tiny_videos, manifest_path, tmp_path / "whole", 2)
    _wait_for_a_marker(whole, tmp_path / "whole", 0)
    start_up_seconds = time.monotonic() - began
    _finish(whole)
    out_dir, rng = tmp_path / "killed", random.Random(1)
    reached, half_written = [], 0
    for kill in range(NUM_KILLS):
        before = _num_markers(out_dir)
        process = _start(tiny_videos, manifest_path, out_dir, workers=1 + kill % 3)
        if kill % 2:
            _wait_for_a_marker(process, out_dir, before)
            time.sleep(rng.uniform(0.0, 0.25))
        else:
            _wait_for_a_marker(process, out_dir, before, rng.uniform(0.0, start_up_seconds))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        reached.append(_num_markers(out_dir))
        half_written += bool(list(out_dir.glob(".killed-*.tmp")))
    # The kills did hit: there was progress, not all of it, and shards were cut off half-written.
    assert 0 < reached[-1] < 2 * NUM_SHARDS, reached
    assert len(set(reached)) > 4 and half_written > 4, (reached, half_written)
    _finish(_start(tiny_videos, manifest_path, out_dir, workers=4))
    assert contents(out_dir) == contents(tmp_path / "whole")
