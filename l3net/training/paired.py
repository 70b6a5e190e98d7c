"""With paired negatives every frame and sound is in two pairs: each is computed once."""

import keras
import tensorflow as tf

from l3net import constants
from l3net.data import avc_pairs


def on_clips(model: keras.Model, *, sampling: str) -> keras.Model:
    """Returns a network of the same layers and weights that pairs up what its subnetworks give.

    A step then costs half as much as one on pairs. Loss and gradients are the same: batch norm's
    mean and variance do not change if every row is there twice.

    Args:
        model: a network with subnetworks "vision" and "audio".
        sampling: under "naive" the sounds come in rows of pairs already: their mismatches have
            seconds of their own.

    Returns:
        A functional model: the model's inputs with one row for each clip to the model's outputs
        with the rows of `avc_pairs.paired_targets`.
    """
    rows = {"vision": avc_pairs.frames_of_pairs, "audio": avc_pairs.sounds_of_pairs}
    if sampling == avc_pairs.NAIVE:
        del rows["audio"]

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        if layer.name not in rows:
            return outputs
        return {name: _layer(rows[layer.name])(output) for name, output in outputs.items()}

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _layer(rows) -> keras.layers.Layer:
    return keras.layers.Lambda(
        rows, output_shape=lambda shape: (None, *shape[1:]), autocast=False, dtype="float32"
    )


def pairs_of(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns a batch or the inputs of paired negatives with a row for each pair, to be shown."""
    num_pairs = len(batch[constants.CORRESPONDS_KEY])
    sounds = ("waveform", constants.LOG_SPECTROGRAM)

    def rows(name: str, value: tf.Tensor) -> tf.Tensor:
        if len(value) == num_pairs:
            return value
        return (avc_pairs.sounds_of_pairs if name in sounds else avc_pairs.frames_of_pairs)(value)

    return {name: rows(name, value) for name, value in batch.items()}
