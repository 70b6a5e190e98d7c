"""Trainers and the service, each a process of its own."""

import pathlib
import time

import numpy as np
import pytest

from l3net.training import checkpoints, run_dir
from tests import commands, tiny_service, tiny_training

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS = 60


def _start(run, shards, *flags) -> commands.Process:
    command = ["-m", "l3net.train", f"--run_dir={run}", f"--shards={shards}"]
    command += [*tiny_training.FLAGS, f"--num_steps={NUM_STEPS}", *flags]
    return commands.start(*command, cwd=ROOT)


def _finish(process: commands.Process) -> str:
    _, error = process.communicate(timeout=1200)
    assert process.returncode == 0, error
    return error


def _wait_for_step(process: commands.Process, run: pathlib.Path, step: int) -> None:
    while not any(line["step"] >= step for line in run_dir.read_metrics(run)):
        assert not process.poll(), process.communicate(1)
        time.sleep(0.02)


@pytest.mark.slow
def test_what_the_service_prepares_trains_the_same_network_after_a_kill_too(tmp_path):
    """And two trainers that share batches, one of which starts late, come to their ends."""
    shards = tiny_training.make_shards(tmp_path / "shards")
    whole, killed, first, late = (tmp_path / name for name in ("whole", "killed", "first", "late"))
    _finish(_start(whole, shards))
    with tiny_service.running() as (address, _):
        service = f"--data_service={address}"
        process = _start(killed, shards, service)
        _wait_for_step(process, killed, NUM_STEPS // 3)
        process.kill()
        process.communicate(60)
        assert "resuming at step" in _finish(_start(killed, shards, service))
        process = _start(first, shards, service, "--share_pairs")
        _wait_for_step(process, first, 2)
        rate = "--learning_rate=1e-3"
        both = [process, _start(late, shards, service, "--share_pairs", rate)]
        for process in both:
            _finish(process)
    metrics = [tiny_training.metrics_of(run) for run in (whole, killed)]
    assert metrics[0] == metrics[1]
    networks = [checkpoints.load_model(run, "last")[0] for run in (whole, killed)]
    for a, b in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(a, b)
    for run in (first, late):
        assert run_dir.read_metrics(run)[-1]["step"] == NUM_STEPS
