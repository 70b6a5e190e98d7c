"""Kill proof: kill -9 at any moment, start again, and the end is that of an unbroken run."""

import os
import pathlib
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from l3net.training import checkpoints, run_dir
from tests import tiny_training

ROOT = pathlib.Path(__file__).parents[3]
NUM_STEPS = 400
NUM_KILLS = 10


def _start(run, shards) -> subprocess.Popen:
    command = [sys.executable, "-m", "l3net.train", f"--run_dir={run}", f"--shards={shards}"]
    command += [*tiny_training.FLAGS, f"--num_steps={NUM_STEPS}", "--eval_every_steps=20"]
    command += ["--learning_rate=1e-3", "--batch_norm_batches=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _last_step(run) -> int:
    lines = run_dir.read_metrics(run)
    return lines[-1]["step"] if lines else 0


def _finish(process: subprocess.Popen) -> str:
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    return error


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    """Ten kill -9 at random moments: five during start-up, five up to 40 steps further.

    The loop saves a checkpoint every second step, so that many of the latter fall into the writing
    of one. The run after the last kill finishes.

    135 s on two cores at load 3. Bit for bit on a CPU alone: on a GPU two unbroken runs differ,
    too, for cuDNN's backward convolutions add in any order.
    """
    shards = tiny_training.make_shards(tmp_path / "shards")
    start = time.monotonic()
    process = _start(tmp_path / "whole", shards)
    while not _last_step(tmp_path / "whole"):
        time.sleep(0.02)
    start_up = time.monotonic() - start
    _finish(process)
    rng, reached = random.Random(1), []
    for kill in range(NUM_KILLS):
        before = _last_step(tmp_path / "killed")
        process = _start(tmp_path / "killed", shards)
        if kill % 2:
            goal = before + rng.randrange(40)  # steps, for seconds tell little on a busy machine
            while _last_step(tmp_path / "killed") <= goal:
                time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.2 if kill % 2 else start_up))
        process.kill()
        process.communicate()
        reached.append(_last_step(tmp_path / "killed"))
    error = _finish(_start(tmp_path / "killed", shards))
    assert "resuming at step" in error
    # The kills did hit: the run made progress, not all of it, and not in one go.
    assert 0 < reached[-1] < NUM_STEPS and len(set(reached)) > 4, reached
    _check_same(tmp_path / "whole", tmp_path / "killed")


def _check_same(whole: pathlib.Path, killed: pathlib.Path) -> None:
    lines = [tiny_training.metrics_of(run) for run in (whole, killed)]
    assert lines[0] == lines[1]
    for split, every in (("train", 2), ("val", 20)):
        steps = [line["step"] for line in lines[1] if line["split"] == split]
        assert steps == list(range(every, NUM_STEPS + 1, every))
    for which in ("last", "best"):
        a, b = [checkpoints.load_model(run, which) for run in (whole, killed)]
        assert a[2] == b[2]
        for x, y in zip(a[0].get_weights(), b[0].get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)
    assert run_dir.read_summary(whole)["best"] == run_dir.read_summary(killed)["best"]
    for folder in (killed / "checkpoints", killed / "best"):
        names = {path.name.split(".")[0] for path in folder.iterdir()}
        assert len(names) <= 3, names  # two checkpoints and their list, nothing half-written
