"""The audio subnetwork with its front end as a TensorFlow Lite file, checked before it is written.

    python -m l3net.tflite --saved_model=runs/x/saved_model --out=audio.tflite
    python -m l3net.tflite --saved_model=runs/x/saved_model --out=small.tflite --quantize=dynamic

The file has one signature:

    audio    waveform float32 [batch_size, 48000] in [-1, 1]   -> pool4, embedding float32 [N, D]

It runs on built-in operators alone, the spectrogram too (RFFT2D, COMPLEX_ABS, LOG), so
`tf.lite.Interpreter`, tflite_runtime and the interpreters of Android and iOS take it. That is why
the number of windows is fixed: with a batch of any size the converter leaves a StridedSlice of
TensorFlow's own in the graph (TensorFlow 2.16).

Beside `audio.tflite` is `audio.tflite.json`: which weights are in it, and how far its outputs are
from the SavedModel's on sounds of many kinds. A file that differs by more than `TOLERANCES` is
refused, and nothing is written.
"""

import dataclasses
import json
import logging
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from l3net import constants, files, flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.inference import saved_model
from l3net.progress import progress

OUTPUTS = ("pool4", "embedding", "conv4_2")
FLOAT32, FLOAT16, DYNAMIC = "none", "float16", "dynamic"
# Largest difference from the SavedModel, as a share of the output's largest value (our choice).
# Measured on the demo networks: up to 5e-5, 6.5e-2 and 3e-2, all on pure tones: between their lines
# the logarithm enlarges what the FFT rounds, and float16 rounds the Hann window, too.
TOLERANCES = {FLOAT32: 1e-3, FLOAT16: 1e-1, DYNAMIC: 1e-1}
# openl3's spectrogram reaches to 80 dB below its maximum, where a pure tone's holds the FFT's
# rounding alone: 0.1 % less volume changes the SavedModel's own outputs by up to 1.2e-2. Measured:
# up to 2e-2 on tones, below 2e-6 on sounds with noise.
OPENL3_TOLERANCE = 5e-2

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is converted, and how."""

    saved_model: str = setting(
        REQUIRED, "Folder that l3net.export wrote, or hf://owner/name on the Hub."
    )
    out: str = setting(
        REQUIRED,
        "File to write, such as audio.tflite, replaced if it exists; OUT.json goes beside it.",
    )
    outputs: list[str] = setting(
        (),
        f"Output of the file, one of {', '.join(OUTPUTS)}; repeat the flag for several. Without it "
        "pool4 and, where the network has one, embedding.",
    )
    quantize: str = setting(
        FLOAT32,
        "Weights. none: float32. float16: half the bytes, float32 arithmetic. dynamic: 8 bits, a "
        "quarter of the bytes, and integer arithmetic where the machine has it.",
        choices=list(TOLERANCES),
    )
    batch_size: int = setting(
        1, "Windows that go through the network at once; fixed in the file.", at_least=1
    )


def convert(config: Config) -> dict[str, float]:
    """Writes the signature `audio` of a SavedModel as a TensorFlow Lite file.

    Returns output name to its difference from the SavedModel's, as `check` does. Raises UserError
    if there is no such SavedModel or output, or a difference is beyond TOLERANCES.
    """
    out = pathlib.Path(config.out)
    if out.is_dir():
        raise UserError(f"--out={out} is a folder; name a file in it, such as {out}/audio.tflite")
    unknown = set(config.outputs) - set(OUTPUTS)
    if unknown:
        raise UserError(f"--outputs={unknown.pop()}: need one of {', '.join(OUTPUTS)}")
    network = saved_model.SavedModel(config.saved_model)
    outputs = list(config.outputs) or _default_outputs(network)
    references = {name: network.features(saved_model.AUDIO, name) for name in outputs}
    signature = network.signature(saved_model.AUDIO)
    tolerance = TOLERANCES[config.quantize]
    if saved_model.IMPORTED in network.metadata:
        tolerance = max(tolerance, OPENL3_TOLERANCE)
    with progress("converting"):
        content = _convert(signature, outputs, config.quantize, config.batch_size)
        differences = check(content, references, tolerance)
    files.write_whole(out, content)
    description = {
        "outputs": outputs,
        "quantize": config.quantize,
        "batch_size": config.batch_size,
        "difference_from_saved_model": differences,
        "saved_model": network.metadata,
    }
    files.write_whole(out.with_name(f"{out.name}.json"), json.dumps(description, indent=1) + "\n")
    worst = max(differences.values())
    _log.info("wrote %s: %.1f MB, %.1e from the SavedModel", out, len(content) / 1e6, worst)
    return differences


def _default_outputs(network: saved_model.SavedModel) -> list[str]:
    sizes = network.metadata.get("feature_sizes", {}).get(saved_model.AUDIO, {})
    return ["pool4", *(["embedding"] if "embedding" in sizes else [])]


def _convert(
    signature: saved_model.Function, outputs: Sequence[str], quantize: str, batch_size: int
) -> bytes:
    """Returns the content of the file."""
    shape = [batch_size, constants.AUDIO_SAMPLES]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=saved_model.WAVEFORM)])
    def audio(waveform):
        given = signature(**{saved_model.WAVEFORM: waveform})
        return {name: given[name] for name in outputs}

    module = tf.Module()
    module.audio, module.audio_variables = audio, list(signature.variables)
    with tempfile.TemporaryDirectory() as folder:
        # From a SavedModel, for only then the file's signature has names.
        tf.saved_model.save(module, folder, signatures={saved_model.AUDIO: audio})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[saved_model.AUDIO]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize != FLOAT32:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


# --- The check -----------------------------------------------------------------------------------
def check(
    content: bytes,
    references: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    tolerance: float,
) -> dict[str, float]:
    """Compares a file's outputs with the SavedModel's on `check_sounds`.

    `references` has the SavedModel's function for each output. Returns output name to its
    difference, as a share of the largest value; UserError if one is beyond the tolerance, or an
    output is not finite.
    """
    sounds = check_sounds()
    got = run(content, sounds)
    differences = {}
    for name, reference in references.items():
        expected = reference(sounds)
        scale = np.abs(expected).max()
        if not np.isfinite(scale):
            raise UserError(f"{name} of the network is not finite; did the training diverge?")
        difference = np.abs(got[name] - expected).max()
        if not difference <= tolerance * scale:
            raise UserError(
                f"the converted {name} differs from the SavedModel's by {difference:g} of {scale:g}"
                f", more than {tolerance:g} of it; nothing was kept (--quantize=none is closest)"
            )
        differences[name] = float(difference / scale) if scale else 0.0
    return differences


def run(content: bytes, waveforms: np.ndarray) -> dict[str, np.ndarray]:
    """Runs windows, float32 [N, 48000] in [-1, 1], through a file in batches of its size.

    Returns output name to float32 [N, D].
    """
    interpreter = tf.lite.Interpreter(model_content=content)
    size = int(interpreter.get_input_details()[0]["shape"][0])
    runner = interpreter.get_signature_runner(saved_model.AUDIO)
    num = len(waveforms)
    # The last batch is filled up with windows from the beginning.
    filled = np.take(waveforms, range(-(-num // size) * size), axis=0, mode="wrap")
    results = [
        runner(**{saved_model.WAVEFORM: batch}) for batch in saved_model.batches(filled, size)
    ]
    return {name: np.concatenate([each[name] for each in results])[:num] for name in results[0]}


def check_sounds() -> np.ndarray:
    """Returns sounds of many kinds, float32 [8, 48000] in [-1, 1], the same each time."""
    rng = np.random.default_rng(0)
    seconds = np.arange(constants.AUDIO_SAMPLES) / constants.SAMPLE_RATE_HZ
    noise = rng.uniform(-1, 1, constants.AUDIO_SAMPLES)
    partials = [np.sin(2 * np.pi * 520 * n * seconds) / n for n in (1, 2.76, 5.4, 8.93)]
    sounds = [
        np.zeros_like(seconds),
        noise,
        noise * 2**-15,  # the last bit of 16
        0.5 * np.sin(2 * np.pi * 440 * seconds),
        0.8 * np.sin(2 * np.pi * (100 + 5000 * seconds) * seconds),
        0.4 * np.exp(-6 * seconds) * np.sum(partials, axis=0),  # a struck bell
        (rng.random(constants.AUDIO_SAMPLES) < 2e-4).astype(np.float64),  # clicks
        0.3 * noise * np.sin(2 * np.pi * 4 * seconds) ** 2,  # bursts like syllables
    ]
    return np.stack(sounds).astype(np.float32)


if __name__ == "__main__":
    flags.run(convert, Config)
