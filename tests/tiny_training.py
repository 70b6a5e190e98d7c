"""Training at the smallest size, for the tests of the loop: networks, shards, one call."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from l3net import models
from l3net.data import input_pipeline
from l3net.data.markers import LABELS_FILE
from l3net.data.shards import find_shards
from l3net.training import checkpoints, loop
from l3net.training import run_dir as run_files
from l3net.training.step import Trainer, TrainingConfig
from tests import tiny_shards

MODEL = models.ModelConfig(
    "l3_net_ots", width=0.0625, frame_px=64, spectrogram_average=2, batch_norm_momentum=0.9
)
# Half the layers, half the time of tracing: where it does not matter what is learnt.
CLASSIFIER = dataclasses.replace(MODEL, model="supervised_vision", num_classes=4)
UNLABELLED = {"labels": (), "label_indices": ()}
PIPELINE = {"batch_size": 8, "pairs_per_clip": 2, "shuffle_pairs": 16, "frame_px": 64}
FLAGS = [
    "--model=l3_net_ots", "--width=0.0625", "--frame_px=64", "--spectrogram_average=2",
    "--global_batch_size=8", "--pairs_per_clip=2", "--shuffle_pairs=16", "--num_eval_pairs=8",
    "--log_every_steps=2", "--checkpoint_every_seconds=0",
]  # fmt: skip
SCHEDULE = {"log_every_steps": 2, "num_eval_pairs": 8, "checkpoint_every_seconds": 0}


def make_shards(
    folder: pathlib.Path, *, num_shards: int = 2, labelled: bool = True
) -> pathlib.Path:
    """Writes 8 training and 4 validation clips of 1.2 s, each with a label 0 to 3, or none.

    Noise: in flat pictures max-pooling has ties, which rounding decides, and gradients that should
    agree do not.
    """
    clips = [_noise(k, **({} if labelled else UNLABELLED)) for k in range(1, 9)]
    tiny_shards.write_shards(folder, clips, num_shards=num_shards)
    tiny_shards.write_shards(folder, clips[:4], split="val")
    if labelled:
        (folder / LABELS_FILE).write_text("c0\nc1\nc2\nc3\n")
    return folder


def _noise(number: int, **changes):
    rng = np.random.default_rng(number)
    frames = [rng.integers(0, 256, (64, 72, 3)).astype(np.uint8) for _ in range(3)]
    jpegs = [tiny_shards.encode_jpeg(frame) for frame in frames]
    return tiny_shards.make_clip(
        number,
        seconds=1.2,
        frames=tuple(jpegs[k % 3] for k in range(30)),
        waveform=rng.integers(-9000, 9000, 57_600).astype(np.int16),
        **{"labels": (f"c{number % 4}",), "label_indices": (number % 4,), **changes},
    )


def pipeline_config(model=MODEL, **changes) -> input_pipeline.PipelineConfig:
    """Returns the tiny pipeline of a network."""
    network = model.network
    wanted = {"inputs": network.inputs, "labels": network.is_classifier}
    return input_pipeline.PipelineConfig(**{**PIPELINE, **wanted, **changes})


def train(
    run_dir,
    shards,
    *,
    num_steps,
    model=MODEL,
    strategy=None,
    config=None,
    schedule=None,
    **pipeline,
):
    """Calls `training.train` with the tiny settings, some of them changed."""
    return loop.train(
        run_dir,
        model,
        pipeline_config(model, **pipeline),
        TrainingConfig(str(shards), **{"learning_rate": 1e-3, **(config or {})}),
        loop.Schedule(num_steps=num_steps, **{**SCHEDULE, **(schedule or {})}),
        strategy=strategy,
    )


def make_trainer(shards, *, model=MODEL, strategy=None, config=None, **pipeline):
    """Returns a trainer and its pipeline, in the default strategy unless another is given."""
    return Trainer(
        strategy or tf.distribute.get_strategy(),
        model,
        pipeline_config(model, **pipeline),
        TrainingConfig(str(shards), **{"learning_rate": 1e-3, **(config or {})}),
        find_shards(shards, "train"),
    )


def weights(run_dir, which="last") -> list[np.ndarray]:
    """Returns the weights of a run's checkpoint."""
    return checkpoints.load_model(run_dir, which)[0].get_weights()


def metrics_of(run) -> list[dict]:
    """Returns a run's metrics without what is measured again each time."""
    measured_again = ("pairs_per_second", "seconds")
    lines = run_files.read_metrics(run)
    return [{key: line[key] for key in line if key not in measured_again} for line in lines]
