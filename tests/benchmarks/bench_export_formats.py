"""Makes one table of how far each format of a network is from its SavedModel, by signature.

    make bench-formats
    python -m tests.benchmarks.bench_export_formats --other_python=newest/bin/python

The other Python has `pip install tensorflow tf2onnx onnxruntime`.

The reference is the SavedModel in this TensorFlow. Beside it: the SavedModel in the TensorFlow of
the other Python; here `keras.layers.TFSMLayer` (it takes one input) and TensorFlow Lite (`audio`);
and what `python -m tf2onnx.convert` of the other Python writes, in onnxruntime. In batches of 1, 3
and 32, of sounds of many kinds (`l3net.tflite.check_sounds`) and images of noise. The number is the
largest difference of any output in any batch, as a share of its largest value in the batch.
"""

import dataclasses
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from l3net import export, flags, models, tflite
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.inference import saved_model
from l3net.training import checkpoints
from tests.benchmarks.timing import say

_BATCHES = (1, 3, 32)
_FORMATS = ("other TensorFlow", "TFSMLayer", "TFLite", "ONNX")
Arrays = dict[str, np.ndarray]

# Both read {"INPUT/BATCH": array} and write {"OUTPUT/BATCH": array}.
_SAVED_MODEL = """
import sys, numpy as np, tensorflow as tf
folder, signature, inputs, outputs = sys.argv[1:]
given, loaded, made = np.load(inputs), tf.saved_model.load(folder), {}
function = loaded.signatures[signature]
for batch in sorted({name.split("/")[1] for name in given.files}):
    names = function.structured_input_signature[1]
    values = function(**{name: tf.constant(given[f"{name}/{batch}"]) for name in names})
    made |= {f"{name}/{batch}": value.numpy() for name, value in values.items()}
np.savez(outputs, **made)
print("TensorFlow", tf.__version__)
"""
_ONNX = """
import sys, numpy as np, onnxruntime, importlib.metadata
path, inputs, outputs = sys.argv[1:]
given, made = np.load(inputs), {}
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
for batch in sorted({name.split("/")[1] for name in given.files}):
    feed = {put.name: given[f"{put.name}/{batch}"] for put in session.get_inputs()}
    made |= {f"{name}/{batch}": v for name, v in zip(names, session.run(names, feed))}
np.savez(outputs, **made)
print("tf2onnx", importlib.metadata.version("tf2onnx"), "onnxruntime", onnxruntime.__version__)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared."""

    other_python: str = setting(
        REQUIRED, "Python of an environment with TensorFlow, tf2onnx and onnxruntime."
    )
    saved_models: tuple[str, ...] = setting(
        (),
        "Folders that l3net.export wrote; without them AVE-Net and AVOL-Net at the papers' size "
        "with random weights.",
    )


def main(config: Config) -> None:
    """Compares and prints."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        given = config.saved_models or [_random(folder, model) for model in ("ave_net", "avol_net")]
        say(f"reference: SavedModel, TensorFlow {tf.__version__}")
        rows = ["| network | signature | " + " | ".join(_FORMATS) + " |", "|---|---|" + "---:|" * 4]
        for path in map(pathlib.Path, given):
            # serving_default is another name of one of the others, and audio_windows is audio.
            other = {saved_model.DEFAULT, saved_model.AUDIO_WINDOWS}
            named = set(tf.saved_model.load(str(path)).signatures) - other
            for signature in sorted(named):
                differences = _compare(path, signature, config.other_python, folder)
                network = saved_model.read_metadata(path)["model_config"]["model"]
                numbers = [
                    f"{differences[name]:.1e}" if name in differences else "–" for name in _FORMATS
                ]
                rows.append(f"| {network} | {signature} | " + " | ".join(numbers) + " |")
                say(rows[-1])
    say("\n" + "\n".join(rows))


def _random(folder: pathlib.Path, model: str) -> pathlib.Path:
    run = folder / model
    run.mkdir()
    checkpoints.save_model_config(run, models.ModelConfig(model))
    return export.export(run, random_weights=True)


def _compare(
    path: pathlib.Path, signature: str, python: str, folder: pathlib.Path
) -> dict[str, float]:
    """Returns format -> largest difference, of those that there are."""
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures[signature]
    side_px = saved_model.read_metadata(path)["frame_px"]
    specs = function.structured_input_signature[1]
    inputs = {
        f"{name}/{batch}": _input(spec, batch, side_px)
        for name, spec in specs.items()
        for batch in _BATCHES
    }
    np.savez(folder / "inputs.npz", **inputs)
    expected = _run(function, specs, inputs)
    made = {
        "other TensorFlow": _elsewhere(folder, python, _SAVED_MODEL, str(path), signature),
        "ONNX": _onnx(folder, python, path, signature),
    }
    if len(specs) == 1:
        (name,) = specs
        layer = keras.layers.TFSMLayer(str(path), call_endpoint=signature)
        made["TFSMLayer"] = _run(lambda **given: layer(given[name]), specs, inputs)
    if signature == saved_model.AUDIO:
        made["TFLite"] = _tflite(folder, path, inputs)
    return {name: _largest(got, expected) for name, got in made.items()}


def _input(spec: tf.TensorSpec, batch: int, side_px: int) -> np.ndarray:
    if spec.name == saved_model.WAVEFORM:
        # From the noise on: of silence alone nothing could be seen.
        return np.take(tflite.check_sounds(), range(1, batch + 1), axis=0, mode="wrap")
    shape = [batch, *(side or side_px for side in spec.shape[1:])]
    rng = np.random.default_rng(batch)
    if spec.dtype == tf.uint8:
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _run(function, specs: Mapping[str, tf.TensorSpec], inputs: Arrays) -> Arrays:
    made = {}
    for batch in _BATCHES:
        values = function(**{name: tf.constant(inputs[f"{name}/{batch}"]) for name in specs})
        made |= {f"{name}/{batch}": value.numpy() for name, value in values.items()}
    return made


def _tflite(folder: pathlib.Path, path: pathlib.Path, inputs: Arrays) -> Arrays:
    made: Arrays = {}
    sizes = saved_model.read_metadata(path)["feature_sizes"][saved_model.AUDIO]
    outputs = [name for name in tflite.OUTPUTS if name in sizes]
    for batch in _BATCHES:
        out = folder / "audio.tflite"
        tflite.convert(tflite.Config(str(path), str(out), outputs=outputs, batch_size=batch))
        values = tflite.run(out.read_bytes(), inputs[f"{saved_model.WAVEFORM}/{batch}"])
        made |= {f"{name}/{batch}": value for name, value in values.items()}
    return made


def _onnx(folder: pathlib.Path, python: str, path: pathlib.Path, signature: str) -> Arrays:
    out = str(folder / "network.onnx")
    arguments = ["--saved-model", str(path), "--signature_def", signature, "--output", out]
    _call(python, "-m", "tf2onnx.convert", *arguments)
    return _elsewhere(folder, python, _ONNX, out)


def _elsewhere(folder: pathlib.Path, python: str, program: str, *arguments: str) -> Arrays:
    """Returns what a program makes of the inputs in the other Python; prints its versions."""
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    say(_call(python, "-c", program, *arguments, str(inputs), str(outputs)).strip())
    with np.load(outputs) as read:
        return dict(read)


def _call(python: str, *arguments: str) -> str:
    done = subprocess.run([python, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = json.dumps(done.stderr[-300:])
        raise UserError(f"{python} {arguments[0]} {arguments[1][:30]!r} failed: {said}")
    return done.stdout


def _largest(got: Arrays, expected: Arrays) -> float:
    """Returns the largest difference of what a format has, as a share of the largest value."""
    return max(
        float(np.abs(got[name] - values).max() / np.abs(values).max())
        for name, values in expected.items()
        if name in got
    )


if __name__ == "__main__":
    flags.run(main, Config)
