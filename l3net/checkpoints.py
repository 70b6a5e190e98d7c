"""What a run directory holds of a network: its configuration and its checkpoints.

runs/<name>/model.json       the ModelConfig
runs/<name>/checkpoints/     tf.train.Checkpoint files, numbered by step
"""

import dataclasses
import json
import pathlib

import keras
import tensorflow as tf

from l3net import models
from l3net.errors import UserError

MODEL_FILE = "model.json"
CHECKPOINTS = "checkpoints"


def save_model_config(run_dir: pathlib.Path, config: models.ModelConfig) -> None:
    """Writes a network's configuration into its run directory."""
    temporary = run_dir / f"{MODEL_FILE}.tmp"
    temporary.write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    temporary.replace(run_dir / MODEL_FILE)


def load_model_config(run_dir: str | pathlib.Path) -> models.ModelConfig:
    """Reads a run's network configuration.

    Raises:
        UserError: if the directory is no run of ours.
    """
    path = pathlib.Path(run_dir) / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{run_dir} holds no {MODEL_FILE}; give the --run_dir of l3net.train")
    return models.ModelConfig(**json.loads(path.read_text()))


def load_model(run_dir: str | pathlib.Path) -> tuple[keras.Model, models.ModelConfig, int]:
    """Builds a run's network and restores the weights of its last checkpoint.

    Args:
        run_dir: of l3net.train.

    Returns:
        The model, its configuration and the number of steps it was trained for.

    Raises:
        UserError: if there is no run or no checkpoint.
    """
    config = load_model_config(run_dir)
    folder = pathlib.Path(run_dir) / CHECKPOINTS
    latest = tf.train.latest_checkpoint(str(folder))
    if latest is None:
        raise UserError(f"{folder} holds no checkpoint; was the run stopped before its first one?")
    model = models.build_model(config)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    tf.train.Checkpoint(model=model, step=step).read(latest).expect_partial()
    return model, config, int(step)
