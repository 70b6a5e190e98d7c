"""Networks at the smallest size: run directories as l3net.train writes them, and SavedModels."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from l3net import models
from l3net.inference.saved_model import METADATA_FILE
from l3net.training import checkpoint_files, checkpoints

TINY = models.ModelConfig("l3_net_ots", width=0.0625, frame_px=64, spectrogram_average=2)
SMALLEST = {"width": 0.03125, "frame_px": 64, "spectrogram_average": 2, "conv1_1_stride": 2}
TRAINED_STEPS = 7
POOL4 = 512 // 16  # of TINY


def save_tiny_run(
    run_dir: pathlib.Path, seed: int = 1, config: models.ModelConfig = TINY
) -> pathlib.Path:
    """Writes a run directory as l3net.train does, batch norm's statistics included."""
    run_dir.mkdir(parents=True, exist_ok=True)
    checkpoints.save_model_config(run_dir, config)
    model = models.build_model(config, seed=seed)
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "moving_" in variable.path or "beta" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    folder = run_dir / checkpoints.CHECKPOINTS
    checkpoint_files.write(tf.train.Checkpoint(model=model), folder, TRAINED_STEPS)
    return run_dir


class TinyNetwork(tf.Module):
    """Energy in 16 bands and their logarithm, in place of a trained network."""

    def __init__(self, gain: float = 1.0):
        super().__init__()
        self.gain = tf.Variable(gain)

    @tf.function(input_signature=[tf.TensorSpec([None, 48_000], tf.float32, name="waveform")])
    def audio(self, waveform):
        spectrum = tf.abs(tf.signal.rfft(waveform))[:, :1600]
        bands = tf.reduce_mean(tf.reshape(spectrum, [-1, 16, 100]), axis=2) * self.gain
        return {"pool4": bands, "conv4_2": tf.math.log(bands + 1e-3)}


def save_tiny_network(
    path: pathlib.Path, *, gain: float = 1.0, signature: str = "audio", metadata: dict | None = None
) -> pathlib.Path:
    """Writes `TinyNetwork` as a SavedModel of ours with one signature."""
    module = TinyNetwork(gain)
    tf.saved_model.save(module, str(path), signatures={signature: module.audio})
    write_metadata(path, **(metadata or {}))
    return path


class TinyVision(tf.Module):
    """Mean colours of a 4x4 grid, in place of a trained network; blind if the gain is 0."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = tf.Variable(gain)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")])
    def vision(self, image):
        grid = tf.image.resize(image, [4, 4], method="area") / 255.0 * self.gain
        return {"conv4_2": tf.reshape(grid, [-1, 48]), "pool4": tf.reduce_max(grid, axis=[1, 2])}


def save_tiny_vision(path: pathlib.Path, *, gain: float = 1.0, **metadata) -> pathlib.Path:
    """Writes `TinyVision` as a SavedModel of ours; its default image size is 64."""
    return save_vision(path, TinyVision(gain), **{"frame_px": 56, **metadata})


def save_vision(path: pathlib.Path, module: tf.Module, **metadata) -> pathlib.Path:
    """Writes a module with a function `vision` as a SavedModel of ours."""
    tf.saved_model.save(module, str(path), signatures={"vision": module.vision})
    write_metadata(path, **metadata)
    return path


def write_metadata(path: pathlib.Path, **metadata) -> None:
    """Writes what a SavedModel of ours says of itself."""
    file = path / METADATA_FILE
    file.parent.mkdir(exist_ok=True)
    metadata.pop("files", None)  # another network's
    file.write_text(json.dumps({"frame_px": 64, **metadata}))
