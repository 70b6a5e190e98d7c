"""The SavedModel's signatures: how each is made of a network; see `saved_model`."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from l3net import constants, models
from l3net.constants import AUDIO_GRID, IMAGE_GRID
from l3net.data import augment
from l3net.inference import saved_model
from l3net.inference.saved_model_writer import Function
from l3net.log_spectrogram import log_spectrogram, log_spectrograms
from l3net.models import convnets


def signatures(network: keras.Model, config: models.ModelConfig) -> dict[str, Function]:
    """Makes the signatures that a network, built for any frame size, can answer, by name."""
    parts = {layer.name for layer in network.layers}
    made = {}
    if "audio" in parts:
        made[saved_model.AUDIO] = audio_signature(network, config)
        made[saved_model.AUDIO_WINDOWS] = audio_windows_signature(network, config)
    if "vision" in parts:
        made[saved_model.VISION] = vision_signature(network, config)
    if "corresponds" in network.output:
        made[saved_model.AVC] = pairs_signature(
            network, config, config.frame_px, ("corresponds", "distance")
        )
    if "map" in network.output:
        made[saved_model.LOCALIZE] = pairs_signature(network, config, None, ("map", "corresponds"))
    return made


def audio_signature(network: keras.Model, config: models.ModelConfig) -> Function:
    """Makes `audio`: one second of sound to features.

    conv4_2 is taken before the ReLU and max-pooled to 4x3 (L3 §3.3); pool4 after it, as in the
    network.

    waveform float32 [N, 48000] in [-1, 1] -> {"pool4": [N, 512 * width], "conv4_2": [N, 6144 *
    width], "conv4_2_map": [N, bands / 16, windows / 16, 512 * width], after the ReLU (of stride 2;
    L3 Fig. 9)} and what the subnetwork's head gives: "embedding" [N, 128] (AVE-Net, AVOL-Net),
    "softmax" [N, classes] (supervised).
    """

    @tf.function(input_signature=[waveform_spec()])
    def signature(waveform):
        return _heard(network, log_spectrogram(waveform, **config.spectrogram_settings))

    return signature


def audio_windows_signature(network: keras.Model, config: models.ModelConfig) -> Function:
    """Makes `audio_windows`: a stretch of sound to the features of its seconds.

    waveform float32 [samples] in [-1, 1], one second or more, hop int32 [], both multiples of 240
    samples -> what `audio` gives, a row for the second from each multiple of the hop on.
    """
    stretch = tf.TensorSpec([None], tf.float32, name=saved_model.WAVEFORM)

    @tf.function(input_signature=[stretch, tf.TensorSpec([], tf.int32, name=saved_model.HOP)])
    def signature(waveform, hop):
        spectrograms = log_spectrograms(waveform, hop, **config.spectrogram_settings)
        return _heard(network, spectrograms)

    return signature


def _heard(network: keras.Model, spectrograms: tf.Tensor) -> dict[str, tf.Tensor]:
    outputs = network.get_layer("audio")(spectrograms, training=False)
    conv4_2 = convnets.pool_to_grid(outputs["conv4_2_before_relu"], *AUDIO_GRID)
    return {"conv4_2": conv4_2, "conv4_2_map": outputs["conv4_2"], **_rows(outputs)}


def vision_signature(network: keras.Model, config: models.ModelConfig) -> Function:
    """Makes `vision`: images of any height and width to features.

    conv4_2 is taken after the ReLU and max-pooled to 4x4 (L3 §3.4); that of AVE+MF's frames over
    all times (our choice). Images too small for the 4x4 grid are refused.

    What is seen (see `_seen`) -> {"pool4": [N, 512 * width], "conv4_2": [N, 8192 * width],
    "conv4_2_map": [N, height / 16, width / 16, 512 * width], before the grid (of stride 2; L3
    Fig. 4)} and what the subnetwork's head gives: "embedding" [N, 128] (AVE-Net), "softmax" [N,
    classes] (supervised).
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
        return {"conv4_2": image_grid(conv4_2), "conv4_2_map": conv4_2, **_rows(outputs)}

    return signature


def image_grid(conv4_2: tf.Tensor) -> tf.Tensor:
    """Pools conv4_2 of images to 4x4: float32 [N, rows, columns, channels] to [N, 16 * channels].

    Images too small for it are refused when the graph runs.
    """
    large_enough = tf.debugging.assert_greater_equal(
        tf.shape(conv4_2)[1:3],
        IMAGE_GRID,
        message="image too small: conv4_2 must be at least 4x4",
    )
    with tf.control_dependencies([large_enough] if large_enough is not None else []):
        return convnets.pool_to_grid(conv4_2, *IMAGE_GRID)


def pairs_signature(
    network: keras.Model, config: models.ModelConfig, side_px: int | None, names: Sequence[str]
) -> Function:
    """Makes `avc` (does the picture go with the sound?) or `localize` (where? OTS §4).

    What is seen (see `_seen`) and waveform float32 [N, 48000] -> those of "corresponds" float32
    [N], the probability, "distance" float32 [N] (AVE-Net), and "map" float32 [N, height / 16,
    width / 16] in [0, 1] (AVOL-Net) that are named and that the network has.
    """

    @tf.function(input_signature=[*_seen(config, side_px), waveform_spec()])
    def signature(*pair):
        outputs = network(_to_inputs(config, pair), training=False)
        return {name: outputs[name] for name in names if name in outputs}

    return signature


def _rows(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Picks the outputs of a subnetwork that have one row per input."""
    return {name: outputs[name] for name in ("pool4", "embedding", "softmax") if name in outputs}


# --- Inputs --------------------------------------------------------------------------------------
def waveform_spec() -> tf.TensorSpec:
    """Returns the input of `audio`: float32 [N, 48000] in [-1, 1]."""
    return tf.TensorSpec([None, constants.AUDIO_SAMPLES], tf.float32, name=saved_model.WAVEFORM)


def _seen(config: models.ModelConfig, side_px: int | None) -> list[tf.TensorSpec]:
    """Returns what a network sees, in the order of its inputs.

    `image` uint8 [N, height, width, 3]; `images` uint8 [N, 25, height, width, 3] (AVE+MF); `flow`
    float32 [N, height, width, 20] in [-1, 1], see `augment.flow_to_float` (AVE+OF, beside `image`).
    """
    side = [side_px, side_px]
    specs = {
        constants.FRAME: ([*side, 3], tf.uint8, saved_model.IMAGE),
        constants.FRAMES: ([constants.NUM_FRAMES_MF, *side, 3], tf.uint8, saved_model.IMAGES),
        constants.FLOW: ([*side, 2 * constants.NUM_FLOW_FRAMES], tf.float32, saved_model.FLOW),
    }
    taken = [specs[name] for name in config.network.inputs if name in specs]
    return [tf.TensorSpec([None, *shape], dtype, name) for shape, dtype, name in taken]


def _to_inputs(config: models.ModelConfig, given: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """Maps a signature's arguments to the network's inputs."""
    to_input = {
        constants.FRAME: augment.frame_to_float,
        constants.FRAMES: augment.frame_to_float,
        constants.FLOW: tf.identity,
        constants.LOG_SPECTROGRAM: lambda x: log_spectrogram(x, **config.spectrogram_settings),
    }
    # `vision` is given less than the network takes: the sound comes last.
    named = zip(config.network.inputs, given, strict=False)
    return {name: to_input[name](value) for name, value in named}
