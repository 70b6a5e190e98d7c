"""The papers' pool4: a max-pool over all positions."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("l3net")
class GlobalMax(keras.layers.Layer):
    """Takes the maximum over all positions, and times if there are any.

    As a max-pool, whose gradient goes to the position that was taken. `keras.layers.
    GlobalMaxPooling2D` is a reduction: XLA computes its input a second time for the gradient,
    rounds it differently, finds the maximum nowhere and divides 0 by 0.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pools.

        Args:
            inputs: [batch, (time,) height, width, channels].

        Returns:
            [batch, channels], of the same dtype.
        """
        positions = inputs.shape[1:-1]
        if not all(positions):  # any size: only SavedModels are, and they have no gradient
            return tf.reduce_max(inputs, axis=list(range(1, len(inputs.shape) - 1)))
        count, channels = positions.num_elements(), inputs.shape[-1]
        rows = tf.reshape(inputs, [-1, count, 1, channels])
        return tf.reshape(tf.nn.max_pool2d(rows, [count, 1], 1, "VALID"), [-1, channels])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns (batch, channels)."""
        return (input_shape[0], input_shape[-1])
