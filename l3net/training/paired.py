"""With paired negatives every frame and sound is in several pairs: each is computed once."""

import keras
import tensorflow as tf

from l3net import constants
from l3net.data import avc_pairs


def on_clips(model: keras.Model, num_mismatches: int, *, sampling: str) -> keras.Model:
    """Returns a network of the same layers and weights that pairs up what its subnetworks give.

    A step then costs half as much as one on a match and a mismatch of each clip. Loss and gradients
    are the same: batch norm's mean and variance do not change if every row is there as often.

    Args:
        model: a network with subnetworks "vision" and "audio".
        num_mismatches: of each frame and sound.
        sampling: under "naive" mismatches have seconds of their own, behind those of the matches.

    Returns:
        A functional model: the model's inputs with one row for each clip to the model's outputs
        with the rows of `avc_pairs.paired_targets`.
    """
    rows = {
        "vision": lambda x: avc_pairs.frames_of_pairs(x, num_mismatches),
        "audio": lambda x: _sounds(x, num_mismatches, is_naive=sampling == avc_pairs.NAIVE),
    }

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        if layer.name not in rows:
            return outputs
        return {name: _layer(rows[layer.name])(output) for name, output in outputs.items()}

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _sounds(of_clips: tf.Tensor, num_mismatches: int, *, is_naive: bool) -> tf.Tensor:
    parts = tf.split(of_clips, 2) if is_naive else [of_clips]
    return avc_pairs.sounds_of_pairs(parts[0], num_mismatches, *parts[1:])


def _layer(rows) -> keras.layers.Layer:
    return keras.layers.Lambda(
        rows, output_shape=lambda shape: (None, *shape[1:]), autocast=False, dtype="float32"
    )


def pairs_of(batch: dict[str, tf.Tensor], num_mismatches: int) -> dict[str, tf.Tensor]:
    """Returns a batch, with the network's inputs, with a row for each pair, to be shown."""
    num_clips = len(batch["draws"])

    def rows(name: str, value: tf.Tensor) -> tf.Tensor:
        if name == constants.CORRESPONDS_KEY:
            return value
        if name in ("waveform", constants.LOG_SPECTROGRAM):
            return _sounds(value, num_mismatches, is_naive=len(value) > num_clips)
        return avc_pairs.frames_of_pairs(value, num_mismatches)

    return {name: rows(name, value) for name, value in batch.items()}
