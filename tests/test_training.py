import json

import numpy as np
import pytest
import tensorflow as tf

from l3net import checkpoints, models, optimization, training
from l3net.data import input_pipeline, schema
from l3net.errors import UserError
from tests import synthetic_shards

MODEL = models.ModelConfig(
    "l3_net_ots", width=0.0625, frame_px=64, spectrogram_average=2, batch_norm_momentum=0.9
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    clips = [synthetic_shards.make_clip(k, seconds=1.2) for k in range(1, 9)]
    synthetic_shards.write_shards(folder, clips, num_shards=2)
    synthetic_shards.write_shards(folder, clips[:4], split="val")
    return folder


def _train(run_dir, shards, *, num_steps, strategy=None, config=None, schedule=None, **pipeline):
    settings = {"batch_size": 8, "pairs_per_clip": 2, "shuffle_pairs": 16, "frame_px": 64}
    return training.train(
        run_dir,
        MODEL,
        input_pipeline.PipelineConfig(**{**settings, **pipeline}),
        training.TrainingConfig(str(shards), **{"learning_rate": 1e-3, **(config or {})}),
        training.Schedule(
            num_steps=num_steps,
            **{
                "log_every_steps": 2,
                "num_eval_pairs": 8,
                "checkpoint_every_seconds": 0,
                **(schedule or {}),
            },
        ),
        strategy=strategy,
    )


def _weights(run_dir):
    return checkpoints.load_model(run_dir)[0].get_weights()


def _metrics(run_dir):
    lines = training.read_metrics(run_dir)
    return [{key: line[key] for key in line if key != "pairs_per_second"} for line in lines]


def test_a_stopped_run_goes_on_as_if_unbroken(tmp_path, shards):
    schedule = {"eval_every_steps": 2}
    _train(tmp_path / "whole", shards, num_steps=6, schedule=schedule)
    _train(tmp_path / "stopped", shards, num_steps=4, schedule=schedule)
    # What a kill leaves behind: metrics of steps after the last checkpoint, and half a line.
    with open(tmp_path / "stopped" / training.METRICS_FILE, "a") as file:
        file.write(json.dumps({"step": 6, "split": "train", "loss": 9.0}) + '\n{"step": 8, "sp')
    _train(tmp_path / "stopped", shards, num_steps=6, schedule=schedule)
    assert _metrics(tmp_path / "whole") == _metrics(tmp_path / "stopped")
    assert [line["step"] for line in _metrics(tmp_path / "stopped")] == [2, 2, 4, 4, 6, 6]
    for whole, stopped in zip(
        _weights(tmp_path / "whole"), _weights(tmp_path / "stopped"), strict=True
    ):
        np.testing.assert_array_equal(whole, stopped)


def test_run_directory_holds_what_design_says(tmp_path, shards):
    metrics = _train(tmp_path / "run", shards, num_steps=2)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "checkpoints", "metrics.jsonl", "model.json", "tensorboard", "training.json",
        "versions.json",
    }  # fmt: skip
    assert checkpoints.load_model_config(tmp_path / "run") == MODEL
    assert checkpoints.load_model(tmp_path / "run")[2] == 2
    assert metrics["val_pairs"] == 8 and 0 <= metrics["val_accuracy"] <= 1
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_finished_run_is_left_alone(tmp_path, shards):
    first = _train(tmp_path / "run", shards, num_steps=2)
    before = _weights(tmp_path / "run")
    again = _train(tmp_path / "run", shards, num_steps=2)
    assert again["val_accuracy"] == first["val_accuracy"]
    for a, b in zip(before, _weights(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_zero_steps_keep_the_untrained_network(tmp_path, shards):
    _train(tmp_path / "run", shards, num_steps=0)
    untrained = models.build_model(MODEL, seed=0).get_weights()
    for a, b in zip(untrained, _weights(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_configuration_is_refused(tmp_path, shards):
    _train(tmp_path / "run", shards, num_steps=0)
    with pytest.raises(UserError, match=r"training.learning_rate: 0.001 -> 0.5.*new --run_dir"):
        _train(tmp_path / "run", shards, num_steps=2, config={"learning_rate": 0.5})


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path, shards):
    _train(tmp_path / "run", shards, num_steps=0)
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
    with pytest.raises(UserError, match="the loss became nan.*lower --learning_rate"):
        _train(tmp_path / "run", shards, num_steps=2)
    assert tf.train.latest_checkpoint(str(tmp_path / "run" / "checkpoints")) == before


def test_the_test_split_is_not_for_training(tmp_path, shards):
    with pytest.raises(UserError, match="--eval_split=test"):
        _train(tmp_path / "run", shards, num_steps=2, schedule={"eval_split": "test"})


def test_overfits_eight_pairs(shards):
    """One batch of eight pairs again and again: the loss must go to nearly nothing."""
    trainer = training.Trainer(
        tf.distribute.get_strategy(),
        MODEL,
        input_pipeline.PipelineConfig(8, pairs_per_clip=2, shuffle_pairs=16, frame_px=64),
        training.TrainingConfig(str(shards), learning_rate=3e-3, learning_rate_decay=1.0),
        schema.find_shards(shards, "train"),
    )
    batch = next(trainer.batches(0))
    losses = [float(trainer.run_step(batch)[0]) for _ in range(60)]
    assert losses[0] > 0.5 and losses[-1] < 0.05, losses[::10]


def test_no_run_or_no_checkpoint_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="holds no model.json"):
        checkpoints.load_model(tmp_path)
    checkpoints.save_model_config(tmp_path, MODEL)
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.load_model(tmp_path)
