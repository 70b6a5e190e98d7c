import dataclasses
import itertools
import json
import logging
import os
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from l3net import models
from l3net.data import input_pipeline
from l3net.data.markers import LABELS_FILE
from l3net.data.shards import find_shards
from l3net.errors import UserError
from l3net.training import (
    checkpoint_files,
    checkpoints,
    distribution,
    loop,
    optimization,
    run_dir,
    stop,
)
from l3net.training.step import Trainer, TrainingConfig, training_shards
from l3net.training.validation import Validator
from tests import tiny_shards, tiny_training
from tests.tiny_training import CLASSIFIER, MODEL, make_trainer, metrics_of, train, weights


def _assert_same_weights(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def _newest(folder) -> str:
    return str(checkpoint_files.path_of(folder, checkpoint_files.newest(folder)))


def _read_checkpoint(folder) -> dict[str, np.ndarray]:
    """Reads all that a run folder's newest checkpoint holds, but for what differs with time."""
    path = _newest(folder)
    left_out = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter", "seconds")
    names = [name for name, _ in tf.train.list_variables(path) if not name.startswith(left_out)]
    assert any(name.startswith("model/") for name in names)
    return {name: tf.train.load_variable(path, name) for name in names}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("untrained") / "run"
    train(folder, shards, num_steps=0, model=CLASSIFIER)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shards):
    """Two steps; the folder and what `train` returned."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, train(folder, shards, num_steps=2)


PRECISE = {
    "model": CLASSIFIER,
    "schedule": {"eval_every_steps": 2},
    "config": {"learning_rate": 3e-3, "batch_norm_batches": 2},
}


@pytest.fixture(scope="module")
def precise(tmp_path_factory, shards):
    """Six steps with precise batch norm, unbroken."""
    folder = tmp_path_factory.mktemp("precise") / "run"
    train(folder, shards, num_steps=6, **PRECISE)
    return folder


def test_a_stopped_run_goes_on_as_if_unbroken(tmp_path, shards, precise):
    """With precise batch norm, whose forward passes must not disturb the training."""
    train(tmp_path / "stopped", shards, num_steps=4, **PRECISE)
    # What a kill leaves behind: metrics of steps after the last checkpoint, half a line, half a
    # checkpoint, and a best network from a future that the resumed run has not seen.
    with open(tmp_path / "stopped" / run_dir.METRICS_FILE, "a") as file:
        file.write(json.dumps({"step": 6, "split": "train", "loss": 9.0}) + '\n{"step": 8, "sp')
    (tmp_path / "stopped" / "checkpoints" / "ckpt-5.data-00000-of-00001").write_bytes(b"half")
    _keep_a_best_of_the_future(tmp_path / "stopped")
    train(tmp_path / "stopped", shards, num_steps=6, **PRECISE)
    assert metrics_of(precise) == metrics_of(tmp_path / "stopped")
    assert [line["step"] for line in metrics_of(tmp_path / "stopped")] == [2, 2, 4, 4, 6, 6]
    for which in (checkpoints.CHECKPOINTS, checkpoints.BEST):
        whole, resumed = [_read_checkpoint(run / which) for run in (precise, tmp_path / "stopped")]
        assert whole.keys() == resumed.keys()
        _assert_same_weights(whole.values(), resumed.values())
    summaries = [run_dir.read_summary(run) for run in (precise, tmp_path / "stopped")]
    assert summaries[0]["best"] == summaries[1]["best"]
    assert not list((tmp_path / "stopped" / "checkpoints").glob("ckpt-5.*"))


def _signal_at(monkeypatch, owner, name, *, call, number):
    """Sends a signal to this process in a method's n-th call."""
    method, calls = getattr(owner, name), itertools.count(1)

    def with_signal(*args, **kwargs):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, with_signal)


def test_signals_stop_with_a_checkpoint_and_the_run_goes_on_as_if_unbroken(
    tmp_path, shards, precise, capsys
):
    """Between two lines of metrics, in an evaluation, and before the first step."""
    stops = [
        (Trainer, "batches", 1, signal.SIGINT, 0),
        (Trainer, "step", 3, signal.SIGTERM, 3),
        (Validator, "accuracy", 1, signal.SIGINT, 4),
    ]
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for owner, name, call, number, step in stops:
        with pytest.MonkeyPatch.context() as patch:
            _signal_at(patch, owner, name, call=call, number=number)
            with pytest.raises(stop.StoppedError, match=f"stopped by {number.name}") as error:
                train(tmp_path / "run", shards, num_steps=6, **PRECISE)
        assert error.value.status == 128 + number
        assert checkpoints.load_model(tmp_path / "run")[2] == step
        assert f"{number.name}: stopping after this step" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    train(tmp_path / "run", shards, num_steps=6, **PRECISE)
    assert metrics_of(precise) == metrics_of(tmp_path / "run")
    for which in (checkpoints.CHECKPOINTS, checkpoints.BEST):
        expected = _read_checkpoint(precise / which)
        _assert_same_weights(expected.values(), _read_checkpoint(tmp_path / "run" / which).values())


def test_a_run_that_lost_its_checkpoints_is_not_begun_again(tmp_path, shards, finished):
    run = shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(run / checkpoints.CHECKPOINTS)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="has metrics up to step 2 and no checkpoint; nothing was"):
        train(run, shards, num_steps=4)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path, shards, precise, caplog
):
    run = shutil.copytree(precise, tmp_path / "run")
    (run / checkpoints.CHECKPOINTS / "ckpt-6.index").unlink()
    with caplog.at_level(logging.INFO, "l3net.training"):
        train(run, shards, num_steps=6, **PRECISE)
    assert "ckpt-6 is damaged" in caplog.text and "resuming at step 4" in caplog.text
    assert metrics_of(precise) == metrics_of(run)
    assert checkpoint_files.newest(run / checkpoints.CHECKPOINTS) == 6


def _keep_a_best_of_the_future(folder):
    model = models.build_model(CLASSIFIER, seed=99)
    checkpoint_files.write(tf.train.Checkpoint(model=model), folder / checkpoints.BEST, 5)
    assert checkpoint_files.newest(folder / checkpoints.BEST) == 5


def test_a_finished_run_is_left_alone_and_goes_on_with_more_steps(tmp_path, shards, finished):
    """Its seconds add up over resumes."""
    folder, first = finished
    shutil.copytree(folder, tmp_path / "run")
    before, kept = run_dir.read_metrics(tmp_path / "run"), weights(tmp_path / "run")
    again = train(tmp_path / "run", shards, num_steps=2)
    assert again == first
    _assert_same_weights(kept, weights(tmp_path / "run"))
    train(tmp_path / "run", shards, num_steps=4)
    assert checkpoints.load_model(tmp_path / "run")[2] == 4
    lines = run_dir.read_metrics(tmp_path / "run")
    assert lines[: len(before)] == before
    train_lines = [line for line in lines if line["split"] == "train"]
    speeds = [line["pairs_per_second"] for line in train_lines]
    own = sum(2 * 8 / speed for speed in speeds)
    np.testing.assert_allclose(lines[-1]["seconds"], own, rtol=1e-2)
    summary = run_dir.read_summary(tmp_path / "run")
    assert summary["seconds"] == pytest.approx(lines[-1]["seconds"], abs=1e-3)
    assert summary["steps"] == 4
    assert summary["pairs_per_second"] == pytest.approx(np.median(speeds))


def test_run_directory_holds_what_design_says(finished):
    folder, metrics = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {
        ".lock", "best", "checkpoints", "metrics.jsonl", "model.json", "summary.json",
        "tensorboard", "training.json", "versions.json",
    }  # fmt: skip
    assert checkpoints.load_model_config(folder) == MODEL
    assert checkpoints.load_model(folder)[2] == 2
    assert metrics["val_pairs"] == 8 and 0 <= metrics["val_accuracy"] <= 1
    summary = run_dir.read_summary(folder)
    assert summary["best"] == {"step": 2, "accuracy": metrics["val_accuracy"]}
    assert summary["last"]["val_accuracy"] == metrics["val_accuracy"]
    model = models.build_model(MODEL)
    assert summary["num_parameters"] == sum(int(tf.size(v)) for v in model.trainable_variables)
    _check_tensorboard(folder / "tensorboard")


def _check_tensorboard(folder):
    tags, answers = {}, 0
    for path in folder.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags[value.tag] = value.metadata.plugin_data.plugin_name
    for name in ("train/loss", "train/accuracy", "val/accuracy"):
        assert tags[name] == "scalars"
    shown = {name.split("/")[0] for name in tags if name.startswith("pair_")}
    for name in shown:
        answers += re.fullmatch(r"pair_\d_(corresponds|does_not_correspond)", name) is not None
        kinds = {kind: tags[f"{name}/{kind}"] for kind in ("frame", "log_spectrogram", "waveform")}
        assert kinds == {"frame": "images", "log_spectrogram": "images", "waveform": "audio"}
    assert answers == 4 and len({name[7:] for name in shown}) == 2


def test_the_best_network_is_the_one_that_was_evaluated(tmp_path, shards):
    """Its accuracy, measured again from the file, is the highest of all lines."""
    schedule = {"log_every_steps": 2, "eval_every_steps": 3, "num_eval_pairs": 16}
    settings = {"model": CLASSIFIER, "schedule": schedule, "config": {"learning_rate": 3e-3}}
    train(tmp_path / "run", shards, num_steps=7, **settings)
    steps = [(line["step"], line["split"]) for line in run_dir.read_metrics(tmp_path / "run")]
    evaluated = [(3, "train"), (3, "val"), (4, "train"), (6, "train"), (6, "val")]
    assert steps == [(2, "train"), *evaluated, (7, "train"), (7, "val")]
    model, _, step = checkpoints.load_model(tmp_path / "run", "best")
    lines = [line for line in run_dir.read_metrics(tmp_path / "run") if line["split"] == "val"]
    best = max(lines, key=lambda line: line["accuracy"])
    assert step == best["step"]
    trainer = make_trainer(shards, model=CLASSIFIER)
    pairs = loop._evaluation_pairs(
        str(shards),
        loop.Schedule(num_steps=1, num_eval_pairs=16),
        trainer.pipeline_config,
        distribution.position_of(trainer.strategy),
    )
    validator = Validator(trainer, pairs, batch_norm_batches=0)
    validator.model.set_weights(model.get_weights())
    assert validator.accuracy() == (best["accuracy"], 16)


def test_precise_batch_norm_is_exported_and_leaves_training_alone(tmp_path, shards, precise):
    config = {**PRECISE["config"], "batch_norm_batches": 0}
    train(tmp_path / "moving", shards, num_steps=6, **{**PRECISE, "config": config})
    runs = (tmp_path / "moving", precise)
    of_moving, of_precise = [checkpoints.load_model(run)[0] for run in runs]
    for a, b in zip(of_moving.variables, of_precise.variables, strict=True):
        same = np.array_equal(a.numpy(), b.numpy())
        assert same == (a.name not in ("moving_mean", "moving_variance")), a.path
    # What is kept as the best is what was evaluated, whichever of the three steps that was.
    best, _, best_step = checkpoints.load_model(precise, "best")
    if best_step == 6:
        _assert_same_weights(of_precise.get_weights(), best.get_weights())
    # The training itself has the moving averages of a run that knows of no other.
    paths = [_newest(run / checkpoints.CHECKPOINTS) for run in runs]
    names = [name for name, _ in tf.train.list_variables(paths[0]) if "moving_mean" in name]
    names = [name for name in names if name.startswith("model/")]
    assert names
    for name in names:
        values = [tf.train.load_variable(path, name) for path in paths]
        np.testing.assert_array_equal(*values)


def test_a_new_run_that_cannot_start_leaves_nothing_behind(tmp_path, shards):
    nowhere = {"init_from": (str(tmp_path / "nowhere"),)}
    with pytest.raises(UserError, match="nowhere holds no model.json"):
        train(tmp_path / "run", shards, num_steps=1, config=nowhere)
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", shards, num_steps=0)  # is not refused as another configuration


def test_zero_steps_keep_the_untrained_network(untrained):
    expected = models.build_model(CLASSIFIER, seed=0).get_weights()
    _assert_same_weights(expected, weights(untrained))
    assert checkpoints.load_model(untrained, "best")[2] == 0  # none: the last one


def test_another_configuration_is_refused(tmp_path, shards, untrained):
    run = shutil.copytree(untrained, tmp_path / "run")
    with pytest.raises(UserError, match=r"training.learning_rate: 0.001 -> 0.5.*new --run_dir"):
        train(run, shards, num_steps=2, model=CLASSIFIER, config={"learning_rate": 0.5})
    # A run of a version that did not know a setting had its default.
    path = run / run_dir.CONFIG_FILE
    content = json.loads(path.read_text())
    del content["checksum"]
    del content["training"]["accumulation_steps"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"training.accumulation_steps: 1 -> 2\)"):
        train(run, shards, num_steps=0, model=CLASSIFIER, config={"accumulation_steps": 2})
    train(run, shards, num_steps=0, model=CLASSIFIER)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path, shards, untrained):
    run = shutil.copytree(untrained, tmp_path / "run")
    model = models.build_model(CLASSIFIER)
    kernel = model.get_layer("vision").get_layer("fc1").kernel
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    adam = optimization.adam(optimization.LearningRate(1e-3, steps_per_epoch=1))
    adam.build(model.trainable_variables)
    broken = tf.train.Checkpoint(model=model, optimizer=adam)
    checkpoint_files.write(broken, run / "checkpoints", 0)
    with pytest.raises(loop.LossNotFiniteError, match="became nan.*lower --learning_rate"):
        train(run, shards, num_steps=2, model=CLASSIFIER)
    assert checkpoint_files.steps(run / "checkpoints") == [0]
    assert "became nan" in run_dir.read_summary(run)["diverged"]


def test_the_test_split_is_not_for_training(tmp_path, shards):
    with pytest.raises(UserError, match="--eval_split=test"):
        train(tmp_path / "run", shards, num_steps=2, schedule={"eval_split": "test"})


def test_labels_that_do_not_fit_are_one_clear_line(tmp_path, shards):
    model = dataclasses.replace(MODEL, model="supervised_audio")
    with pytest.raises(UserError, match=r"--num_classes=34: .* has 4 labels \(c0, c1, c2, ...\)"):
        train(tmp_path / "run", shards, num_steps=1, model=model)
    assert not (tmp_path / "run").exists()
    clips = [tiny_shards.make_clip(number, seconds=1.2) for number in (1, 2)]
    tiny_shards.write_shards(tmp_path / "shards", clips)
    (tmp_path / "shards" / LABELS_FILE).write_text("")
    with pytest.raises(UserError, match="have no labels; give data_prep.write_shards a manifest"):
        train(tmp_path / "run", tmp_path / "shards", num_steps=1, model=model)


def test_a_classifier_learns_labels(tmp_path, shards):
    model = dataclasses.replace(MODEL, model="supervised_audio", num_classes=0)
    metrics = train(tmp_path / "run", shards, num_steps=2, model=model)
    assert 1.0 < metrics["train_loss"] < 3.0  # ln 4 = 1.39
    content = json.loads((tmp_path / "run" / run_dir.CONFIG_FILE).read_text())
    assert content["pipeline"]["labels"] and content["model"]["num_classes"] == 4
    assert checkpoints.load_model_config(tmp_path / "run").num_classes == 4


def test_the_pipeline_config_of_a_network_survives_json(shards):
    config = tiny_training.pipeline_config()
    assert isinstance(config, input_pipeline.PipelineConfig)
    content = run_dir.describe(MODEL, config, TrainingConfig("x"), find_shards(shards, "train"))
    assert content == json.loads(json.dumps(content))


BOTH = {"train_splits": ("train", "val")}


def test_two_splits_are_trained_on_and_then_none_validates(tmp_path, shards, caplog):
    caplog.set_level("INFO")
    metrics = train(tmp_path / "run", shards, num_steps=2, model=CLASSIFIER, config=BOTH)
    assert "no validation: the split val is trained on" in caplog.text
    assert "val_accuracy" not in metrics and not (tmp_path / "run" / "best").exists()
    assert run_dir.read_summary(tmp_path / "run")["best"] is None
    assert checkpoints.load_model(tmp_path / "run", "best")[2] == 2  # the last one
    content = json.loads((tmp_path / "run" / run_dir.CONFIG_FILE).read_text())
    assert content["data"]["num_clips"] == 8 + 4
    assert content["training"]["train_splits"] == ["train", "val"]
    with pytest.raises(UserError, match=r"train_splits: \['train', 'val'\] -> \['train'\]"):
        train(tmp_path / "run", shards, num_steps=2, model=CLASSIFIER)


def test_two_splits_make_an_epoch_and_are_all_seen(shards):
    both = training_shards(str(shards), BOTH["train_splits"])
    pipeline = tiny_training.pipeline_config(CLASSIFIER)
    strategy = tf.distribute.get_strategy()
    trainer = Trainer(strategy, CLASSIFIER, pipeline, TrainingConfig(str(shards)), both)
    # Twelve clips in batches of eight: the rate falls after 16 * 12 / 8 steps.
    rates = [float(trainer.learning_rate(step)) for step in (23, 24)]
    assert rates[1] == pytest.approx(0.94 * rates[0])
    workers = [distribution.Position(k, 3, 3) for k in range(3)]
    parts = [distribution.shards_of_worker(both, worker) for worker in workers]
    assert sorted(s.path.name for part in parts for s in part) == sorted(s.path.name for s in both)
    assert {shard.path.name.split("-")[1] for shard in both} == {"train", "val"}


def test_a_run_from_before_there_were_splits_goes_on(tmp_path, shards, untrained):
    run = shutil.copytree(untrained, tmp_path / "run")
    path = run / run_dir.CONFIG_FILE
    content = json.loads(path.read_text())
    del content["checksum"]
    assert content["training"].pop("train_splits") == ["train"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="train_splits"):
        train(run, shards, num_steps=0, model=CLASSIFIER, config=BOTH)
    train(run, shards, num_steps=0, model=CLASSIFIER)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "test"), "train_splits=train,test: test sets are touched once"),
        (("train", "dev"), "no shards of split 'dev' in .*; it has the splits empty, train, val"),
        (("train", "empty"), r"is empty \(train: 8 clips, empty: 0 clips\)"),
        (("train", "train"), "different splits"),
        ((), "one or more"),
    ],
)
def test_splits_that_cannot_be_trained_on(tmp_path, shards, splits, message):
    folder = shutil.copytree(shards, tmp_path / "shards")
    tiny_shards.write_shards(folder, [], split="empty")
    config = {"train_splits": splits}
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", folder, num_steps=0, model=CLASSIFIER, config=config)
    assert not (tmp_path / "run").exists()
