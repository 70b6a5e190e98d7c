"""Signatures and metadata as a SavedModel of ours: written, reloaded, compared, then named."""

import contextlib
import datetime
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from l3net import constants, provenance
from l3net.errors import UserError
from l3net.files import check_for_weights, disk_errors
from l3net.inference import model_card, saved_model
from l3net.json_files import write_json

RELATIVE_TOLERANCE = 1e-4
_HOP = 20 * constants.STFT_HOP_SAMPLES  # between the two seconds of a check, 0.1 s
Function: TypeAlias = tf.types.experimental.PolymorphicFunction  # what tf.function makes
Functions: TypeAlias = Mapping[str, Function]


def check_replaceable(out: pathlib.Path) -> None:
    """Raises UserError unless `out` is free, an empty folder, or a SavedModel of ours.

    Also if nobody could load it from there.
    """
    check_for_weights(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        saved_model.read_metadata(out)
    except UserError as error:
        raise UserError(
            f"--out={out} exists and is no SavedModel of ours; name another folder"
        ) from error


def write(
    out: pathlib.Path,
    made: Functions,
    network: keras.Model,
    metadata: Mapping[str, Any],
    *,
    expected: Functions,
) -> dict[str, dict[str, int]]:
    """Writes a SavedModel, which takes its name when it gives the same numbers after reloading.

    Beside the weights is a model card, README.md.

    Args:
        out: the folder, replaced if it exists.
        made: signature -> function, each with an input signature.
        network: what the functions compute with; its variables are saved, nothing else of Keras.
        metadata: of assets.extra/l3net.json, "frame_px" and "weights_sha256" among it, and
            "license" for the model card; versions and the size of each feature are added here.
        expected: signature -> function whose numbers the reloaded one must give.

    Returns:
        Signature -> output -> number of features of a row.

    Raises:
        UserError: if an output differs by more than 1e-4 of the largest value, or the disk is full.
    """
    with disk_errors(out), _replaced_when_complete(out) as folder:
        _save(made, network, folder)
        sizes = {name: _feature_sizes(function) for name, function in made.items()}
        added = {
            "feature_sizes": sizes,
            "exported_at": datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec="seconds"
            ),
            "versions": provenance.versions(),
            "git_commit": provenance.commit(),
            "files": saved_model.digests(folder),
        }
        content = {"format": 1, **metadata, **added}
        write_json(folder / saved_model.METADATA_FILE, content)
        (folder / model_card.FILE).write_text(model_card.model_card(content))
        check(folder, expected, side_px=metadata["frame_px"])
    return sizes


def _save(made: Functions, network: keras.Model, folder: pathlib.Path) -> None:
    # keras.Model is not a tf.Module, and saving one would drag its classes into the SavedModel: a
    # plain module holds the variables and the functions, nothing of Keras.
    module = tf.Module()
    module.network_variables = [variable.value for variable in network.variables]
    for name, function in made.items():
        setattr(module, name, function)
    served = dict(made)
    # What is taken where no name is given, our choice: `audio` where the network hears, else
    # `vision`. TensorFlow Serving looks for the signature, keras.layers.TFSMLayer for `serve`.
    for name in [name for name in (saved_model.AUDIO, saved_model.VISION) if name in made][:1]:
        served[saved_model.DEFAULT] = module.serve = made[name]
    tf.saved_model.save(module, str(folder), signatures=served)


def _feature_sizes(function: Function) -> dict[str, int]:
    outputs = function.get_concrete_function().structured_outputs
    return {name: spec.shape[-1] for name, spec in outputs.items() if spec.shape.rank == 2}


def weights_digest(network: keras.Model, setting: str = "") -> str:
    """Returns the SHA-256 of a network's weights, in Keras' order, after what else is in its graph.

    Features of equal digests are the same network's: extraction and search go on with them.
    """
    digest = hashlib.sha256(setting.encode())
    for array in network.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# --- Check ---------------------------------------------------------------------------------------
def check(folder: pathlib.Path, expected: Functions, *, side_px: int) -> None:
    """Reloads a SavedModel and compares it on random inputs with functions.

    Images are of `side_px` where a signature takes any size. Raises UserError if an output differs
    by more than 1e-4 of the largest value.
    """
    loaded = tf.saved_model.load(str(folder))
    for name, function in expected.items():
        inputs = [_random_input(spec, side_px) for spec in function.input_signature]
        named = zip(function.input_signature, inputs, strict=True)
        results = loaded.signatures[name](**{spec.name: value for spec, value in named})
        # Without tracing: faster, and the written graph is compared with no graph at all.
        for output, values in function.python_function(*inputs).items():
            _compare(f"{name}/{output}", results[output].numpy(), values.numpy())


def _random_input(spec: tf.TensorSpec, side_px: int) -> tf.Tensor:
    """Returns two random examples of an input of a signature."""
    rng = np.random.default_rng(0)
    if spec.name == saved_model.HOP:
        return tf.constant(_HOP)
    if spec.shape.rank == 1:  # a stretch of sound
        shape = [constants.AUDIO_SAMPLES + _HOP]
    else:
        shape = [2, *(size or side_px for size in spec.shape[1:])]
    if spec.dtype == tf.uint8:
        return tf.constant(rng.integers(0, 256, shape).astype(np.uint8))
    return tf.constant(rng.uniform(-1, 1, shape).astype(np.float32))


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


# --- The folder ----------------------------------------------------------------------------------
@contextlib.contextmanager
def _replaced_when_complete(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a folder to fill; it takes the name `out` only if nothing was raised."""
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
