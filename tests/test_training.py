import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from l3net import checkpoints, distribution, models, optimization, run_dir, training
from l3net.data import input_pipeline, schema
from l3net.errors import UserError
from l3net.trainer import TrainingConfig
from l3net.validation import Validator
from tests import synthetic_shards, tiny_training
from tests.tiny_training import MODEL, make_trainer, train, weights


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_training.make_shards(tmp_path_factory.mktemp("shards"))


def _metrics(folder):
    measured_anew = ("pairs_per_second", "seconds")
    lines = run_dir.read_metrics(folder)
    return [{key: line[key] for key in line if key not in measured_anew} for line in lines]


def _assert_same_weights(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_stopped_run_goes_on_as_if_unbroken(tmp_path, shards):
    """With precise batch norm, whose forward passes must not disturb the training."""
    settings = {"schedule": {"eval_every_steps": 2}, "config": {"batch_norm_batches": 2}}
    train(tmp_path / "whole", shards, num_steps=6, **settings)
    train(tmp_path / "stopped", shards, num_steps=4, **settings)
    # What a kill leaves behind: metrics of steps after the last checkpoint, half a line, half a
    # checkpoint, and a best network from a future that the resumed run has not seen.
    with open(tmp_path / "stopped" / run_dir.METRICS_FILE, "a") as file:
        file.write(json.dumps({"step": 6, "split": "train", "loss": 9.0}) + '\n{"step": 8, "sp')
    (tmp_path / "stopped" / "checkpoints" / "ckpt-5.data-00000-of-00001").write_bytes(b"half")
    _keep_a_best_of_the_future(tmp_path / "stopped")
    train(tmp_path / "stopped", shards, num_steps=6, **settings)
    assert _metrics(tmp_path / "whole") == _metrics(tmp_path / "stopped")
    assert [line["step"] for line in _metrics(tmp_path / "stopped")] == [2, 2, 4, 4, 6, 6]
    for which in ("last", "best"):
        _assert_same_weights(
            weights(tmp_path / "whole", which), weights(tmp_path / "stopped", which)
        )
    summaries = [run_dir.read_summary(tmp_path / name) for name in ("whole", "stopped")]
    assert summaries[0]["best"] == summaries[1]["best"]
    assert not list((tmp_path / "stopped" / "checkpoints").glob("ckpt-5.*"))


def _keep_a_best_of_the_future(folder):
    model = models.build_model(MODEL, seed=99)
    step, accuracy = tf.Variable(5, dtype=tf.int64), tf.Variable(1.0, dtype=tf.float64)
    best = tf.train.Checkpoint(model=model, step=step, accuracy=accuracy)
    manager = tf.train.CheckpointManager(best, str(folder / checkpoints.BEST), max_to_keep=2)
    manager.save(checkpoint_number=5)
    assert checkpoints.load_model(folder, "best")[2] == 5


def test_a_finished_run_is_left_alone_and_goes_on_with_more_steps(tmp_path, shards):
    """Its seconds add up over resumes."""
    first = train(tmp_path / "run", shards, num_steps=2)
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


def test_run_directory_holds_what_design_says(tmp_path, shards):
    metrics = train(tmp_path / "run", shards, num_steps=2)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "best", "checkpoints", "metrics.jsonl", "model.json", "summary.json", "tensorboard",
        "training.json", "versions.json",
    }  # fmt: skip
    assert checkpoints.load_model_config(tmp_path / "run") == MODEL
    assert checkpoints.load_model(tmp_path / "run")[2] == 2
    assert metrics["val_pairs"] == 8 and 0 <= metrics["val_accuracy"] <= 1
    summary = run_dir.read_summary(tmp_path / "run")
    assert summary["best"] == {"step": 2, "accuracy": metrics["val_accuracy"]}
    assert summary["last"]["val_accuracy"] == metrics["val_accuracy"]
    model = models.build_model(MODEL)
    assert summary["num_parameters"] == sum(int(tf.size(v)) for v in model.trainable_variables)
    _check_tensorboard(tmp_path / "run" / "tensorboard")


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
    train(tmp_path / "run", shards, num_steps=7, schedule=schedule, config={"learning_rate": 3e-3})
    steps = [(line["step"], line["split"]) for line in run_dir.read_metrics(tmp_path / "run")]
    evaluated = [(3, "train"), (3, "val"), (4, "train"), (6, "train"), (6, "val")]
    assert steps == [(2, "train"), *evaluated, (7, "train"), (7, "val")]
    model, _, step = checkpoints.load_model(tmp_path / "run", "best")
    lines = [line for line in run_dir.read_metrics(tmp_path / "run") if line["split"] == "val"]
    best = max(lines, key=lambda line: line["accuracy"])
    assert step == best["step"]
    trainer = make_trainer(shards)
    pairs = training._evaluation_pairs(
        str(shards),
        training.Schedule(num_steps=1, num_eval_pairs=16),
        trainer.pipeline_config,
        distribution.place_of(trainer.strategy),
    )
    validator = Validator(trainer, pairs, batch_norm_batches=0)
    validator.model.set_weights(model.get_weights())
    assert validator.accuracy() == (best["accuracy"], 16)


def test_precise_batch_norm_is_exported_and_leaves_training_alone(tmp_path, shards):
    schedule = {"eval_every_steps": 2}
    for name, num_batches in (("moving", 0), ("precise", 3)):
        config = {"learning_rate": 3e-3, "batch_norm_batches": num_batches}
        train(tmp_path / name, shards, num_steps=4, config=config, schedule=schedule)
    moving, precise = [checkpoints.load_model(tmp_path / d)[0] for d in ("moving", "precise")]
    for a, b in zip(moving.variables, precise.variables, strict=True):
        same = np.array_equal(a.numpy(), b.numpy())
        assert same == (a.name not in ("moving_mean", "moving_variance")), a.path
    # What is kept as the best is what was evaluated, whichever of the two steps that was.
    _, _, best_step = checkpoints.load_model(tmp_path / "precise", "best")
    if best_step == 4:
        _assert_same_weights(precise.get_weights(), weights(tmp_path / "precise", "best"))
    # The training itself has the moving averages of a run that knows of no other.
    paths = [
        tf.train.latest_checkpoint(str(tmp_path / d / "checkpoints")) for d in ("moving", "precise")
    ]
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


def test_zero_steps_keep_the_untrained_network(tmp_path, shards):
    train(tmp_path / "run", shards, num_steps=0)
    _assert_same_weights(models.build_model(MODEL, seed=0).get_weights(), weights(tmp_path / "run"))
    assert checkpoints.load_model(tmp_path / "run", "best")[2] == 0  # none: the last one


def test_another_configuration_is_refused(tmp_path, shards):
    train(tmp_path / "run", shards, num_steps=0)
    with pytest.raises(UserError, match=r"training.learning_rate: 0.001 -> 0.5.*new --run_dir"):
        train(tmp_path / "run", shards, num_steps=2, config={"learning_rate": 0.5})
    # A run of a version that did not know a setting had its default.
    path = tmp_path / "run" / run_dir.CONFIG_FILE
    content = json.loads(path.read_text())
    del content["training"]["accumulation_steps"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"training.accumulation_steps: 1 -> 2\)"):
        train(tmp_path / "run", shards, num_steps=0, config={"accumulation_steps": 2})
    train(tmp_path / "run", shards, num_steps=0)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path, shards):
    train(tmp_path / "run", shards, num_steps=0)
    model = models.build_model(MODEL)
    kernel = model.get_layer("fc1").kernel
    kernel.assign(np.full(kernel.shape, np.nan, np.float32))
    step = tf.Variable(0, dtype=tf.int64)
    adam = optimization.adam(optimization.LearningRate(1e-3, steps_per_epoch=1))
    adam.build(model.trainable_variables)
    broken = tf.train.Checkpoint(model=model, optimizer=adam, step=step)
    manager = tf.train.CheckpointManager(
        broken, str(tmp_path / "run" / "checkpoints"), max_to_keep=1
    )
    before = manager.save(checkpoint_number=0)
    with pytest.raises(training.LossNotFiniteError, match="became nan.*lower --learning_rate"):
        train(tmp_path / "run", shards, num_steps=2)
    assert tf.train.latest_checkpoint(str(tmp_path / "run" / "checkpoints")) == before
    assert "became nan" in run_dir.read_summary(tmp_path / "run")["diverged"]


def test_the_test_split_is_not_for_training(tmp_path, shards):
    with pytest.raises(UserError, match="--eval_split=test"):
        train(tmp_path / "run", shards, num_steps=2, schedule={"eval_split": "test"})


def test_overfits_eight_pairs(shards):
    """One batch of eight pairs again and again: the loss must go to nearly nothing."""
    trainer = make_trainer(shards, config={"learning_rate": 3e-3, "learning_rate_decay": 1.0})
    batch = next(trainer.batches(0))
    losses = [float(trainer.step(iter([batch]))[0]) for _ in range(60)]
    assert losses[0] > 0.5 and losses[-1] < 0.05, losses[::10]


def test_another_number_of_classes_is_one_clear_line(tmp_path, shards):
    model = dataclasses.replace(MODEL, model="supervised_audio")
    with pytest.raises(UserError, match=r"--num_classes=34: .* has 4 labels \(c0, c1, c2, ...\)"):
        train(tmp_path / "run", shards, num_steps=1, model=model)
    assert not (tmp_path / "run").exists()


def test_no_labels_at_all_is_one_clear_line(tmp_path):
    clips = [synthetic_shards.make_clip(number, seconds=1.2) for number in (1, 2)]
    synthetic_shards.write_shards(tmp_path / "shards", clips)
    (tmp_path / "shards" / schema.LABELS_FILE).write_text("")
    model = dataclasses.replace(MODEL, model="supervised_audio")
    with pytest.raises(UserError, match="have no labels; give data_prep.write_shards a manifest"):
        train(tmp_path / "run", tmp_path / "shards", num_steps=1, model=model)


def test_a_classifier_learns_labels(tmp_path, shards):
    model = dataclasses.replace(MODEL, model="supervised_audio", num_classes=4)
    metrics = train(tmp_path / "run", shards, num_steps=2, model=model)
    assert 1.0 < metrics["train_loss"] < 3.0  # ln 4 = 1.39
    assert json.loads((tmp_path / "run" / run_dir.CONFIG_FILE).read_text())["pipeline"]["labels"]


# --- The step ------------------------------------------------------------------------------------
def _freeze_batch_norm(trainer):
    """Freezes it, and makes optimizer and sums anew over what is still trainable."""
    for layer in trainer.model._flatten_layers():
        if type(layer).__name__ == "BatchNorm":
            layer.trainable = False
    precision = trainer.model_config.precision
    trainer.optimizer = optimization.adam(trainer.learning_rate, precision=precision)
    trainer.optimizer.build(trainer.model.trainable_variables)
    if trainer._sums is not None:
        trainer._sums = trainer._make_sums()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_accumulated_gradients_are_those_of_the_large_batch(shards, precision):
    """Batch norm frozen, its gammas and betas too: all else must agree, the L2 penalty once.

    Compared are loss, number right and Adam's first moments after two updates (the weights would
    show rounding: Adam makes steps of equal size from gradients next to zero).
    """
    model = dataclasses.replace(MODEL, precision=precision)
    results = []
    for steps in (1, 4):
        config = {"accumulation_steps": steps, "weight_decay": 0.1, "learning_rate": 1e-3}
        trainer = make_trainer(shards, model=model, config=config)
        _freeze_batch_norm(trainer)
        batches = trainer.batches(0)
        metrics = [[float(x) for x in trainer.step(batches)] for _ in range(2)]
        adam = getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer)
        results.append((metrics, [moment.numpy() for moment in adam._momentums]))
    tolerance = {"float32": 1e-3, "float16": 6e-2}[precision]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=tolerance)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(a).max())


def test_gradients_add_up_in_the_strategy_of_one_machine_too(shards):
    losses = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        trainer = make_trainer(shards, strategy=strategy, config={"accumulation_steps": 2})
        batches = trainer.batches(0)
        losses.append([float(trainer.step(batches)[0]) for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_frozen_subnetworks_are_not_trained(shards):
    model = dataclasses.replace(MODEL, model="supervised_pretraining", conv1_1_stride=2)
    trainer = make_trainer(shards, model=model, config={"weight_decay": 0.1})
    before = trainer.model.get_weights()
    trainer.step(trainer.batches(0))
    variables = zip(trainer.model.variables, before, strict=True)
    changed = [v for v, old in variables if not np.array_equal(v, old)]
    assert [v.path for v in changed] == ["fc1/kernel", "fc1/bias", "fc2/kernel", "fc2/bias"]
    assert trainer.num_parameters == sum(v.numpy().size for v in changed)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_as_float32_does(shards, precision):
    losses = {}
    for name in ("float32", precision):
        model = dataclasses.replace(MODEL, precision=name)
        trainer = make_trainer(shards, model=model)
        batch = next(trainer.batches(0))
        losses[name] = [float(trainer.step(iter([batch]))[0]) for _ in range(6)]
    assert np.isfinite(losses[precision]).all()
    np.testing.assert_allclose(losses[precision], losses["float32"], rtol=0.1)
    assert losses[precision][-1] < losses[precision][0]


def test_xla_computes_the_same(shards):
    losses = []
    for xla in (False, True):
        trainer = make_trainer(shards, config={"xla": xla})
        batches = trainer.batches(0)
        losses.append([float(trainer.step(batches)[0]) for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_float16_leaves_out_an_update_whose_gradients_are_not_finite(shards):
    trainer = make_trainer(shards, model=dataclasses.replace(MODEL, precision="float16"))
    trainer.optimizer.dynamic_scale.assign(1e38)
    before = trainer.model.get_layer("fc1").kernel.numpy()
    trainer.step(trainer.batches(0))
    np.testing.assert_array_equal(before, trainer.model.get_layer("fc1").kernel)
    np.testing.assert_allclose(trainer.optimizer.dynamic_scale, 0.5e38)


def test_batches_that_cannot_be_cut_say_what_would(shards):
    with pytest.raises(UserError, match=r"=8: cannot.*accumulation_steps=3; .* such as 6 or 12"):
        make_trainer(shards, config={"accumulation_steps": 3})


def test_the_pipeline_config_of_a_network_survives_json():
    config = tiny_training.pipeline_config()
    assert isinstance(config, input_pipeline.PipelineConfig)
    content = run_dir.describe(MODEL, config, TrainingConfig("x"), [_FakeShard()])
    assert content == json.loads(json.dumps(content))


class _FakeShard:
    dataset_name, num_clips, media_ids, sha256 = "x", 1, (), ""

    class path:  # noqa: N801
        name = "x"
