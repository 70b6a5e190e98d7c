"""Several replicas in one process, and several worker processes, all on this machine's CPU."""

import json
import os
import pathlib
import socket
import time

import numpy as np
import pytest

from l3net.data.shards import find_shards
from l3net.errors import UserError
from l3net.training import checkpoints, distribution, run_dir
from l3net.training.distribution import Position
from tests import commands, tiny_training

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_training.make_shards(tmp_path_factory.mktemp("shards"), num_shards=4)


REPLICAS = """
import dataclasses, json, sys
import keras
import numpy as np
import tensorflow as tf
# Smooth: where a ReLU or a maximum is all but undecided, rounding picks another gradient.
keras.layers.ReLU = lambda name: keras.layers.Activation("softplus", name=name)
keras.layers.MaxPooling2D = keras.layers.AveragePooling2D
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from l3net.training import optimization
from tests.tiny_training import CLASSIFIER, make_trainer

# Sound: its spectrogram is nearly constant, and batch norm's statistics are hardest to add up.
AUDIO = dataclasses.replace(CLASSIFIER, model="supervised_audio")
shards, results = sys.argv[1], {}
one = tf.distribute.get_strategy()
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def run(name, strategy, config=None, num_steps=2, pipeline=(), **changes):
    # With an epsilon of 1e-8 rounding decides the updates whose gradients are all but 0.
    config = {"adam_epsilon": 1e-7, **(config or {})}
    trainer = make_trainer(
        shards, strategy=strategy, model=dataclasses.replace(AUDIO, **changes), config=config,
        **dict(pipeline),
    )
    batches = trainer.batches(0)
    losses = [float(trainer.step(batches)[0]) for _ in range(num_steps)]
    adam = getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer)
    read = lambda variables: [tf.convert_to_tensor(v).numpy() for v in variables]
    return losses, read(adam._momentums), read(trainer.model.non_trainable_variables), trainer

def differ(a, b):
    return max(float(np.abs(x - y).max() / (1e-12 + np.abs(x).max())) for x, y in zip(a, b))

def compare(name, a, b):
    results[name] = {
        "loss": max(abs(x - y) / abs(x) for x, y in zip(a[0], b[0])),
        "moments": differ(a[1], b[1]), "averages": differ(a[2], b[2]),
    }

whole, parts = run("whole", one), run("parts", two)
compare("per replica", whole, parts)
compare("accumulation", run("accumulation", one, {"accumulation_steps": 2}), parts)
pairs = {"pipeline": {"paired_negatives": 1}, "model": "l3_net_ots"}
compare("paired", run("a", one, {"accumulation_steps": 2}, **pairs), run("b", two, **pairs))
synchronized = run("synchronized", two, synchronized_batch_norm=True)
compare("synchronized", whole, synchronized)
half = run("half", two, precision="float16")
compare("float16", parts, half)

trainer = half[3]
scale = trainer.optimizer.dynamic_scale
kernel = trainer.model.get_layer("audio").get_layer("fc1").kernel
before = tf.convert_to_tensor(kernel).numpy(), float(tf.convert_to_tensor(scale))

@tf.function
def step_with_a_bad_second_replica():
    def replica():
        variables = trainer.model.trainable_variables
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        bad = tf.where(tf.equal(number, 1), float("inf"), 0.0)
        gradients = [tf.ones(v.shape) + bad for v in variables]
        optimization.apply_gradients(trainer.optimizer, gradients, variables)
    two.run(replica)

step_with_a_bad_second_replica()
results["bad replica"] = {
    "moved": float(np.abs(tf.convert_to_tensor(kernel).numpy() - before[0]).max()),
    "scale": float(tf.convert_to_tensor(scale)) / before[1],
}
print(json.dumps(results))
"""


def _environment(**more) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **more}


@pytest.fixture(scope="module")
def replicas(shards):
    done = commands.run("-c", REPLICAS, str(shards), env=_environment())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_replicas_with_synchronized_batch_norm_are_as_one(replicas):
    """Loss, gradients (as Adam's first moments) and moving averages of the same global batches."""
    differences = replicas["synchronized"]
    assert differences["loss"] < 1e-5
    assert differences["moments"] < 5e-4 and differences["averages"] < 2e-5


def test_without_it_each_replica_normalizes_its_own_part(replicas):
    """As documented: like one replica that takes the two parts one after the other."""
    assert replicas["accumulation"]["loss"] < 1e-5
    assert replicas["accumulation"]["moments"] < 1e-3
    assert replicas["per replica"]["loss"] > 1e-4
    assert replicas["per replica"]["moments"] > 2e-2
    # Two momentum steps, or the mean of two first ones.
    assert replicas["accumulation"]["averages"] > 1e-3


def test_replicas_pair_up_their_own_clips(replicas):
    """As the micro-batches of one: a match and its mismatch are never parted."""
    assert replicas["paired"]["loss"] < 1e-5 and replicas["paired"]["moments"] < 1e-3


def test_float16_on_two_replicas(replicas):
    assert replicas["float16"]["loss"] < 0.02
    assert replicas["bad replica"] == {"moved": 0.0, "scale": 0.5}


def test_a_worker_reads_its_own_shards(shards):
    training = find_shards(shards, "train")
    parts = [distribution.shards_of_worker(training, Position(k, 2, 2)) for k in range(2)]
    assert parts == [training[::2], training[1::2]]
    for worker in range(5):
        with pytest.raises(UserError, match=r"worker 4 of 5 would get 0 of 4 training shard"):
            distribution.shards_of_worker(training, Position(worker, 5, 5))


@pytest.mark.parametrize(
    ("position", "batch_size", "steps", "expected"),
    [
        (Position(0, 1, 1), 256, 1, 256),
        (Position(0, 1, 4), 256, 2, 32),
        (Position(1, 2, 16), 2048, 1, 128),  # OTS §3.3
        (Position(0, 1, 3), 256, 1, "such as 252 or 258"),
        (Position(0, 4, 4), 4, 1, "need a multiple of 8, such as 8"),
    ],
)
def test_cutting_a_batch(position, batch_size, steps, expected):
    if isinstance(expected, int):
        assert distribution.micro_batch_size(position, batch_size, steps) == expected
    else:
        with pytest.raises(UserError, match=expected):
            distribution.micro_batch_size(position, batch_size, steps)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [7]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_an_invalid_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match='need jobs worker .* such as {"cluster"'):
        distribution.make_strategy("multi_worker")


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def _tf_config(monkeypatch, *ports):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))


def test_a_worker_that_is_missing_is_named(monkeypatch, caplog):
    own, there, missing = (_free_port() for _ in range(3))
    _tf_config(monkeypatch, own, there, missing)
    monkeypatch.setattr(distribution, "_SAY_SECONDS", 0.1)
    monkeypatch.setattr(distribution, "_LOOK_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", there)):
        with pytest.raises(UserError, match=f"no answer from 127.0.0.1:{missing} of TF_CONFIG in"):
            distribution.make_strategy("multi_worker", wait_seconds=0.5)
        assert f"waiting for 127.0.0.1:{missing} of TF_CONFIG since" in caplog.text
        _tf_config(monkeypatch, there, missing)
        with pytest.raises(UserError, match=f"port {there} of this worker .*cannot be used"):
            distribution.make_strategy("multi_worker", wait_seconds=0.5)


WORKER = """
import os, pathlib, sys
import numpy as np
from l3net.training import distribution, loop, step
strategy = distribution.make_strategy()
from tests import tiny_training
made = []
loop.Trainer = lambda *arguments: made.append(step.Trainer(*arguments)) or made[-1]
out, shards, num_steps = sys.argv[1:]
with distribution.lost_worker_is_one_line():
    for steps in range(2, int(num_steps) + 1, 2):  # resumes in between
        tiny_training.train(
            pathlib.Path(out) / "run", shards, num_steps=steps, strategy=strategy,
            model=tiny_training.CLASSIFIER, config={"batch_norm_batches": 2},
        )
worker = distribution.position_of(strategy).worker
np.savez(f"{out}/worker{worker}.npz", *made[-1].model.get_weights())
"""


def _start_workers(command: list[str], other: list[str] = ()) -> list[commands.Process]:
    """Starts two workers with the same command, or the second with another one."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    hosts = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = []
    for index, arguments in enumerate((command, other or command)):
        task = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = _environment(TF_CONFIG=json.dumps(task))
        processes.append(commands.start(*arguments, env=environment))
    return processes


def _finish(processes: list[commands.Process]) -> list[tuple[int, str, str]]:
    ends = []
    for process in processes:
        try:
            out, error = process.communicate(timeout=240)
        finally:
            process.kill()
        ends.append((process.returncode, out, error))
    return ends


def test_two_workers_train_together(tmp_path, shards):
    """Equal weights on both, one run directory, which alone has files, and a resume."""
    ends = _finish(_start_workers(["-c", WORKER, str(tmp_path), str(shards), "4"]))
    assert [end[0] for end in ends] == [0, 0], ends
    assert "8 fixed val pairs" in ends[0][1] and not ends[1][1]
    weights = [np.load(tmp_path / f"worker{k}.npz") for k in range(2)]
    for name in weights[0].files:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
    lines = [(line["step"], line["split"]) for line in run_dir.read_metrics(tmp_path / "run")]
    assert lines == [(2, "train"), (2, "val"), (4, "train"), (4, "val")]
    assert checkpoints.load_model(tmp_path / "run", "best")[2] in (2, 4)
    assert checkpoints.load_model(tmp_path / "run")[2] == 4
    content = json.loads((tmp_path / "run" / run_dir.CONFIG_FILE).read_text())
    assert content["distribution"] == {"num_workers": 2, "num_replicas": 2}
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2  # one for each call


def _command(run, shards, *more: str) -> list[str]:
    command = ["-m", "l3net.train", f"--run_dir={run}", f"--shards={shards}"]
    return [*command, *tiny_training.FLAGS, "--num_steps=120", "--eval_every_steps=40", *more]


@pytest.mark.slow
def test_lost_workers_come_back(tmp_path, shards):
    """kill -9 of one worker, then of the chief; all are restarted: weights as if unbroken.

    Equal up to 1e-6 for batch norm's moving averages (each replica goes on from the mean of all,
    which rounds otherwise), bit for bit for all else. 203 s on two cores at load 4.
    """
    ends = _finish(_start_workers(_command(tmp_path / "whole", shards)))
    assert [end[0] for end in ends] == [0, 0], ends
    for lost, after_step in ((1, 10), (0, 60)):
        processes = _start_workers(_command(tmp_path / "broken", shards))
        _wait_for_step(tmp_path / "broken", after_step)
        processes[lost].kill()
        ends = _finish(processes)
        code, _, error = ends[1 - lost]
        assert code == 1, ends
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "another worker of TF_CONFIG is gone" in lines[0], error
        assert "Traceback" not in error
    assert run_dir.read_metrics(tmp_path / "broken")[-1]["step"] < 120
    ends = _finish(_start_workers(_command(tmp_path / "broken", shards)))
    assert [end[0] for end in ends] == [0, 0], ends
    for which in ("last", "best"):
        a, b = [checkpoints.load_model(tmp_path / d, which) for d in ("whole", "broken")]
        assert a[2] == b[2]
        for x, y in zip(a[0].variables, b[0].variables, strict=True):
            tolerance = 1e-6 if x.name.startswith("moving_") else 0.0
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=tolerance, atol=tolerance)
    steps = [line["step"] for line in run_dir.read_metrics(tmp_path / "broken") if "loss" in line]
    assert steps == list(range(2, 121, 2))


def test_workers_that_were_started_differently_are_refused(tmp_path, shards):
    commands = [_command(tmp_path / "run", shards, f"--learning_rate={x}") for x in (0.1, 0.2)]
    ends = _finish(_start_workers(*commands))
    assert [end[0] for end in ends] == [1, 1], ends
    assert all("differ in flags, data or version" in end[2] for end in ends), ends
    assert not (tmp_path / "run").exists()


def _wait_for_step(run, step: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        lines = run_dir.read_metrics(run)
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"{run} did not reach step {step}")
