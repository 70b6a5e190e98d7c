"""Checkpoint to SavedModel with named signatures, reloaded and compared before it is kept.

    python -m l3net.export --run_dir=runs/x                   # -> runs/x/saved_model
    python -m l3net.export --run_dir=runs/x --checkpoint=last # not the best on validation
    python -m l3net.export --run_dir=runs/x --random_weights  # -> runs/x/saved_model_random

The SavedModel needs TensorFlow and nothing else: `tf.saved_model.load(folder).signatures["audio"]`.
See `l3net.inference.saved_model` for the signatures; assets.extra/l3net.json inside the folder says
where the weights come from.

Batch norm is not folded into the convolutions: measured on two CPU cores (AMD EPYC, TensorFlow
2.16, float32, full-width stride-2 audio tower, batch 8) that gave 1.04 times the speed, for
TensorFlow fuses the two itself. The tower runs 42 windows a second there.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import logging
import pathlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from l3net import constants, errors, models
from l3net.constants import AUDIO_GRID, IMAGE_GRID
from l3net.data import augment
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.log_spectrogram import log_spectrogram, log_spectrogram_shape
from l3net.models import convnets
from l3net.training import checkpoints
from l3net.training import run_dir as run_files

FLAGS_FILE = "flags.txt"
RELATIVE_TOLERANCE = 1e-4

_log = logging.getLogger(__name__)


# --- Signatures: one function each ---------------------------------------------------------------
def audio_signature(network: keras.Model, config: models.ModelConfig) -> Callable:
    """Makes the signature `audio`: one second of sound to features.

    conv4_2 is taken before the ReLU and max-pooled to 4x3 (L3 §3.3); pool4 after it, as in the
    network.

    Args:
        network: with a nested model named "audio".
        config: of the network; its spectrogram settings go into the graph.

    Returns:
        A `tf.function`: waveform float32 [N, 48000] in [-1, 1] to {"pool4": [N, 512 * width],
        "conv4_2": [N, 6144 * width], "conv4_2_map": [N, bands / 16, windows / 16, 512 * width],
        after the ReLU (of stride 2; L3 Fig. 9)} and what the subnetwork's head gives: "embedding"
        [N, 128] (AVE-Net, AVOL-Net), "softmax" [N, classes] (supervised).
    """
    audio = network.get_layer("audio")

    @tf.function(input_signature=[_waveform_spec()])
    def signature(waveform):
        outputs = audio(log_spectrogram(waveform, **config.spectrogram_settings), training=False)
        conv4_2 = convnets.pool_to_grid(outputs["conv4_2_before_relu"], *AUDIO_GRID)
        return {"conv4_2": conv4_2, "conv4_2_map": outputs["conv4_2"], **_rows(outputs)}

    return signature


def vision_signature(network: keras.Model, config: models.ModelConfig) -> Callable:
    """Makes the signature `vision`: images of any size to features.

    conv4_2 is taken after the ReLU and max-pooled to 4x4 (L3 §3.4); that of AVE+MF's frames over
    all times (ours).

    Args:
        network: built for any frame size, with a nested model named "vision".
        config: of the network.

    Returns:
        A `tf.function`: what the network sees, see `_seen`, of any height and width, to {"pool4":
        [N, 512 * width], "conv4_2": [N, 8192 * width], "conv4_2_map": [N, height / 16, width / 16,
        512 * width], before the grid (of stride 2; L3 Fig. 4)} and what the subnetwork's head
        gives: "embedding" [N, 128] (AVE-Net), "softmax" [N, classes] (supervised). Images too
        small for the 4x4 grid are refused.
    """
    vision = network.get_layer("vision")

    @tf.function(input_signature=_seen(config, None))
    def signature(*seen):
        inputs = _to_inputs(config, seen)
        alone = len(inputs) == 1
        outputs = vision(next(iter(inputs.values())) if alone else inputs, training=False)
        conv4_2 = outputs["conv4_2"]
        if len(conv4_2.shape) == 5:
            conv4_2 = tf.reduce_max(conv4_2, axis=1)
        large_enough = tf.debugging.assert_greater_equal(
            tf.shape(conv4_2)[1:3],
            IMAGE_GRID,
            message="image too small: conv4_2 must be at least 4x4",
        )
        with tf.control_dependencies([large_enough] if large_enough is not None else []):
            grid = convnets.pool_to_grid(conv4_2, *IMAGE_GRID)
        return {"conv4_2": grid, "conv4_2_map": conv4_2, **_rows(outputs)}

    return signature


def avc_signature(network: keras.Model, config: models.ModelConfig) -> Callable:
    """Makes the signature `avc`: does what is seen go with this second of sound?

    Args:
        network: that takes picture and sound.
        config: of the network.

    Returns:
        A `tf.function`: what the network sees, see `_seen`, of `frame_px`, and waveform float32
        [N, 48000] to {"corresponds": float32 [N], the probability} and, of AVE-Net, "distance"
        float32 [N].
    """

    @tf.function(input_signature=[*_seen(config, config.frame_px), _waveform_spec()])
    def signature(*pair):
        outputs = network(_to_inputs(config, pair), training=False)
        return {name: outputs[name] for name in ("corresponds", "distance") if name in outputs}

    return signature


def localize_signature(network: keras.Model, config: models.ModelConfig) -> Callable:
    """Makes the signature `localize`: where in the image is what sounds? (OTS §4).

    Args:
        network: AVOL-Net, built for any frame size.
        config: of the network.

    Returns:
        A `tf.function`: image uint8 [N, height, width, 3], waveform float32 [N, 48000] to {"map":
        float32 [N, height / 16, width / 16] in [0, 1], "corresponds": float32 [N], its maximum}.
    """

    @tf.function(input_signature=[*_seen(config, None), _waveform_spec()])
    def signature(*pair):
        outputs = network(_to_inputs(config, pair), training=False)
        return {name: outputs[name] for name in ("map", "corresponds")}

    return signature


def _rows(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Picks the outputs of a subnetwork that have one row per input."""
    return {name: outputs[name] for name in ("pool4", "embedding", "softmax") if name in outputs}


def _waveform_spec() -> tf.TensorSpec:
    return tf.TensorSpec([None, constants.AUDIO_SAMPLES], tf.float32, name=saved_model.WAVEFORM)


def _seen(config: models.ModelConfig, side_px: int | None) -> list[tf.TensorSpec]:
    """Returns what a network sees, in the order of its inputs.

    `image` uint8 [N, height, width, 3]; `images` uint8 [N, 25, height, width, 3] (AVE+MF); `flow`
    float32 [N, height, width, 20] in [-1, 1], see `augment.flow_to_float` (AVE+OF, beside `image`).
    """
    side = [side_px, side_px]
    specs = {
        constants.FRAME: ([None, *side, 3], tf.uint8, saved_model.IMAGE),
        constants.FRAMES: (
            [None, constants.NUM_FRAMES_MF, *side, 3],
            tf.uint8,
            saved_model.IMAGES,
        ),
        constants.FLOW: (
            [None, *side, 2 * constants.NUM_FLOW_FRAMES],
            tf.float32,
            saved_model.FLOW,
        ),
    }
    inputs = config.network.inputs
    return [tf.TensorSpec(*specs[name]) for name in inputs if name in specs]


def _to_inputs(config: models.ModelConfig, given: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Maps a signature's arguments to the network's inputs."""
    to_input = {
        constants.FRAME: augment.frame_to_float,
        constants.FRAMES: augment.frame_to_float,
        constants.FLOW: tf.identity,
        constants.LOG_SPECTROGRAM: lambda x: log_spectrogram(x, **config.spectrogram_settings),
    }
    # `vision` is given less than the network takes: the sound comes last.
    return {
        name: to_input[name](value)
        for name, value in zip(config.network.inputs, given, strict=False)
    }


def signatures(network: keras.Model, config: models.ModelConfig) -> dict[str, Callable]:
    """Makes the signatures that a network can answer.

    Args:
        network: built for any frame size.
        config: of the network.

    Returns:
        Name to `tf.function`.
    """
    parts = {layer.name for layer in network.layers}
    made = {}
    if "audio" in parts:
        made[saved_model.AUDIO] = audio_signature(network, config)
    if "vision" in parts:
        made[saved_model.VISION] = vision_signature(network, config)
    if "corresponds" in network.output:
        made[saved_model.AVC] = avc_signature(network, config)
    if "map" in network.output:
        made[saved_model.LOCALIZE] = localize_signature(network, config)
    return made


# --- Export --------------------------------------------------------------------------------------
def export(
    run_dir: str | pathlib.Path,
    out: str | pathlib.Path | None = None,
    *,
    checkpoint: str = checkpoints.BEST,
    random_weights: bool = False,
    seed: int = 0,
) -> pathlib.Path:
    """Writes a run's network as a SavedModel, checked before it takes its place.

    Args:
        run_dir: of l3net.train.
        out: folder to write; None is saved_model, or saved_model_random, in `run_dir`.
        checkpoint: "best" for the network of the best validation accuracy (the last one if nothing
            was evaluated), "last" for the last one.
        random_weights: whether to take fresh weights instead of a checkpoint's; batch norm then
            has its initial statistics (mean 0, variance 1).
        seed: of the random weights.

    Returns:
        The folder.

    Raises:
        UserError: if there is no run or checkpoint, `out` is something else than a SavedModel of
            ours, or the written SavedModel does not give the Keras model's numbers.
    """
    run_dir = pathlib.Path(run_dir)
    default_name = "saved_model_random" if random_weights else "saved_model"
    out = run_dir / default_name if out is None else pathlib.Path(out)
    _check_replaceable(out)
    if random_weights:
        config, trained_steps = checkpoints.load_model_config(run_dir), 0
        model = models.build_model(config, seed=seed)
    else:
        model, config, trained_steps = checkpoints.load_model(run_dir, checkpoint)
    model, config = _in_float32(model, config)
    weights = {
        "trained_steps": trained_steps,
        "random_weights": random_weights,
        "seed": seed if random_weights else None,
        "num_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "weights_sha256": _weights_digest(model),
        "trained_on": None if random_weights else _training_data(run_dir),
        "training": None if random_weights else run_files.read_summary(run_dir),
        "run_flags": _run_flags(run_dir),
    }
    with _replaced_when_complete(out) as folder:
        feature_sizes = _write(model, config, folder)
        _write_metadata(folder, config, feature_sizes, weights)
        check(folder, model, config)
    _log.info("wrote %s: %d steps, features %s", out, trained_steps, feature_sizes)
    return out


def _in_float32(
    model: keras.Model, config: models.ModelConfig
) -> tuple[keras.Model, models.ModelConfig]:
    """Returns network and configuration in float32: half precision is for training."""
    if config.precision == "float32":
        return model, config
    config = dataclasses.replace(config, precision="float32")
    rebuilt = models.build_model(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt, config


def _write(model: keras.Model, config: models.ModelConfig, folder: pathlib.Path) -> dict:
    """Saves the signatures; returns the size of each feature by signature."""
    network = models.build_model(config, any_frame_size=True)
    network.set_weights(model.get_weights())
    # keras.Model is not a tf.Module, and saving one would drag its classes into the SavedModel: a
    # plain module holds the variables and the functions, nothing of Keras.
    module = tf.Module()
    module.network_variables = [variable.value for variable in network.variables]
    made = signatures(network, config)
    for name, function in made.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(folder), signatures=made)
    return {
        name: {
            output: spec.shape[-1]
            for output, spec in function.get_concrete_function().structured_outputs.items()
            if spec.shape.rank == 2
        }
        for name, function in made.items()
    }


def check(folder: pathlib.Path, model: keras.Model, config: models.ModelConfig) -> None:
    """Reloads a SavedModel and compares it with the Keras model on random inputs.

    Args:
        folder: of the SavedModel.
        model: that it was made from.
        config: of the model.

    Raises:
        UserError: if an output differs by more than 1e-4 of the largest value.
    """
    inputs = _random_inputs(config)
    loaded = tf.saved_model.load(str(folder))
    for name, function in signatures(model, config).items():
        reloaded = loaded.signatures[name]
        taken = {key: inputs[key] for key in reloaded.structured_input_signature[1]}
        results = reloaded(**taken)
        # Without tracing: faster, and the written graph is compared with no graph at all.
        # The inputs come in the signature's order, for its function takes them by position.
        ordered = [taken[spec.name] for spec in function.input_signature]
        for output, expected in function.python_function(*ordered).items():
            _compare(f"{name}/{output}", results[output].numpy(), expected.numpy())


def _random_inputs(config: models.ModelConfig) -> dict[str, tf.Tensor]:
    """Returns two random examples of each input of the signatures."""
    rng = np.random.default_rng(0)
    made = {}
    for spec in [*_seen(config, config.frame_px), _waveform_spec()]:
        shape = [2, *spec.shape[1:]]
        floats = rng.uniform(-1, 1, shape).astype(np.float32)
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        made[spec.name] = tf.constant(pixels if spec.dtype == tf.uint8 else floats)
    return made


def _compare(name: str, got: np.ndarray, expected: np.ndarray) -> None:
    scale = np.abs(expected).max()
    if not np.isfinite(scale):
        raise UserError(f"{name} of the network is not finite; did the training diverge?")
    difference = np.abs(got - expected).max() if got.shape == expected.shape else np.inf
    if not difference <= RELATIVE_TOLERANCE * scale:
        raise UserError(
            f"the written SavedModel is wrong: {name} differs from the Keras model by "
            f"{difference:g} of {scale:g}, more than {RELATIVE_TOLERANCE:g} of it; nothing was kept"
        )


# --- Metadata ------------------------------------------------------------------------------------
def _write_metadata(
    folder: pathlib.Path, config: models.ModelConfig, feature_sizes: dict, weights: dict
) -> None:
    metadata = {
        "format": 1,
        "model_config": dataclasses.asdict(config),
        "inputs": config.network.inputs,
        "frame_px": config.frame_px,
        "log_spectrogram_shape": log_spectrogram_shape(**config.spectrogram_settings),
        "feature_sizes": feature_sizes,
        **weights,
        "exported_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
        "git_commit": _git_commit(),
    }
    path = folder / saved_model.METADATA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metadata, indent=1) + "\n")


def _training_data(run_dir: pathlib.Path) -> str | None:
    """Returns the name of the data set that a run was trained on; None if it does not say."""
    path = run_dir / run_files.CONFIG_FILE
    return json.loads(path.read_text())["data"]["name"] if path.is_file() else None


def _run_flags(run_dir: pathlib.Path) -> list[str]:
    """Returns the training flags, data set names among them; none for a run without them."""
    path = run_dir / FLAGS_FILE
    return path.read_text().splitlines() if path.is_file() else []


def _weights_digest(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("l3net", "tensorflow", "keras", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _git_commit() -> str | None:
    """Returns the commit of this source tree, None outside a git checkout."""
    source = pathlib.Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


# --- The folder ----------------------------------------------------------------------------------
def _check_replaceable(out: pathlib.Path) -> None:
    """Refuses to replace anything but a SavedModel of ours or an empty folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        saved_model.read_metadata(out)
    except UserError as error:
        raise UserError(
            f"--out={out} exists and is no SavedModel of ours; name another folder"
        ) from error


@contextlib.contextmanager
def _replaced_when_complete(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder to fill; it takes the place of `out` only if nothing was raised."""
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside `out`, so that both renames stay on one file system.
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        new = temporary / "new"
        new.mkdir()
        yield new
        if out.exists():
            out.rename(temporary / "old")
        new.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# --- Entry ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are the keywords of `export`."""
    return {
        "run_dir": flags.DEFINE_string(
            "run_dir",
            None,
            "Directory of l3net.train; with --random_weights only its model.json is read.",
            required=True,
        ),
        "out": flags.DEFINE_string(
            "out",
            None,
            "Folder to write, replaced if it is a SavedModel of ours. Default: saved_model in "
            "--run_dir, saved_model_random with --random_weights.",
        ),
        "checkpoint": flags.DEFINE_enum(
            "checkpoint",
            checkpoints.BEST,
            checkpoints.WHICH,
            "Network of the best validation accuracy, or the last one.",
        ),
        "random_weights": flags.DEFINE_bool(
            "random_weights",
            False,
            "Export the same network with fresh weights: 'ours random' of L3 Tables 2 to 4.",
        ),
        "seed": flags.DEFINE_integer("seed", 0, "Of --random_weights.", lower_bound=0),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and exports."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; settings are flags, see --help")
    export(**{keyword: holder.value for keyword, holder in holders.items()})


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
