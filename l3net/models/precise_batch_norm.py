"""Batch norm's statistics as a plain mean over many batches, in place of moving averages (ours).

Moving averages lag behind weights that still move fast: before the learning rate has decreased,
validation accuracy swings with them. The mean over some batches, all with the weights as they are,
does not lag ("precise batch norm", Wu and Johnson 2021, arXiv 2105.07576).
"""

from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from l3net.models.batch_norm import BatchNorm


def statistics(model: keras.Model) -> list[tf.Variable]:
    """Returns the mean and variance of every batch norm, in the model's order."""
    return [
        variable.value
        for layer in _batch_norms(model)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def _batch_norms(model: keras.Model) -> Iterator[BatchNorm]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
        elif isinstance(layer, BatchNorm):
            yield layer


class PreciseBatchNorm:
    """Recomputes the statistics of one model, which no strategy distributes."""

    def __init__(self, model: keras.Model):
        """Takes the model; frozen batch norms keep the statistics they have."""
        self._model = model
        layers = [layer for layer in _batch_norms(model) if layer.trainable]
        self._averages = [v for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
        # What a forward pass adds to an average: this fraction of the batch's value.
        self._fractions = [1.0 - layer.momentum for layer in layers for _ in range(2)]
        self._of_batch = tf.function(self._of_batch, reduce_retracing=True)

    def recompute(self, batches: Iterable[dict[str, tf.Tensor]]) -> int:
        """Replaces the statistics by their mean over batches.

        Args:
            batches: of the model's inputs, all of one size; at least one. The weights stay.

        Returns:
            The number of batches.
        """
        count, totals = 0, [tf.zeros(variable.shape) for variable in self._averages]
        for inputs in batches:
            count += 1
            totals = [a + b for a, b in zip(totals, self._of_batch(inputs), strict=True)]
        for variable, total in zip(self._averages, totals, strict=True):
            variable.assign(total / count)
        return count

    def _of_batch(self, inputs):
        """Returns the statistics of one batch: what a moving average that starts at 0 moves by."""
        for variable in self._averages:
            variable.assign(tf.zeros(variable.shape))
        self._model(inputs, training=True)
        return [
            tf.convert_to_tensor(variable) / fraction
            for variable, fraction in zip(self._averages, self._fractions, strict=True)
        ]
