"""Batch normalization of the ConvNets: TensorFlow's fused operation, per replica as in 2017."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("l3net")
class BatchNorm(keras.layers.Layer):
    """Batch normalization over all axes but the last (Ioffe and Szegedy 2015).

    `keras.layers.BatchNormalization` computes the same from elementary operations; the fused
    operation, which TensorFlow also merges with the ReLU that follows, made the training step 1.4
    to 1.9 times as fast on a CPU (docs/measurements.md).

    Every replica normalizes with the mean and variance of its own part of the batch, as the papers'
    16 GPUs did with 16 or 128 pairs each, and keeps its own moving averages; outside the replicas
    (evaluation, checkpoints) one reads their mean. The option `synchronized` normalizes over the
    whole global batch instead. The moving variance takes the unbiased estimate, as the fused
    operation gives it.
    """

    def __init__(
        self,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        synchronized: bool = False,
        **kwargs,
    ):
        """Takes the settings.

        Args:
            momentum: of the moving averages (ours; the papers give none).
            epsilon: added to the variance (ours: 1e-3, as TensorFlow did in 2017).
            synchronized: whether statistics are those of all replicas together (ours; off).
            **kwargs: of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.momentum, self.epsilon, self.synchronized = momentum, epsilon, synchronized

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes gamma, beta and the moving averages, float32 [channels] each."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta", autocast=False)
        self.moving_mean = _moving_average("moving_mean", shape, "zeros")
        self.moving_variance = _moving_average("moving_variance", shape, "ones")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalizes.

        Args:
            inputs: [batch, ..., channels].
            training: whether to use, and follow, the statistics of this batch. A frozen layer
                (`trainable` False) never does.

        Returns:
            The same shape and dtype.
        """
        if not (training and self.trainable):
            mean, variance = self._tensors(self.moving_mean, self.moving_variance)
            return self._fused(inputs, mean=mean, variance=variance, is_training=False)[0]
        if self.synchronized:
            output, mean, variance = self._over_all_replicas(inputs)
        else:
            output, mean, variance = self._fused(
                inputs, mean=tf.zeros([0]), variance=tf.zeros([0]), is_training=True
            )
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return output

    def _fused(self, inputs, **statistics):
        gamma, beta = self._tensors(self.gamma, self.beta)
        shape = tf.shape(inputs)
        if len(inputs.shape) == 5:  # frames of a clip: the operation takes images alone
            inputs = tf.reshape(inputs, [-1, *tf.unstack(shape)[2:4], inputs.shape[-1]])
        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, epsilon=self.epsilon, **statistics
        )
        return tf.reshape(result.y, shape), result.batch_mean, result.batch_variance

    def _over_all_replicas(self, inputs):
        """Normalizes with the mean and variance of the global batch."""
        x = tf.cast(inputs, tf.float32)
        axes = list(range(len(x.shape) - 1))
        context = tf.distribute.get_replica_context()

        def total(values):
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        count = total(tf.cast(tf.size(x) / x.shape[-1], tf.float32))
        mean = total(tf.reduce_sum(x, axes)) / count
        # Around the mean, though that takes one more exchange: sound's spectrogram is nearly
        # constant, and the mean square less the squared mean would be rounding errors.
        variance = total(tf.reduce_sum(tf.square(x - mean), axes)) / count
        gamma, beta = self._tensors(self.gamma, self.beta)
        output = tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon)
        unbiased = variance * count / tf.maximum(count - 1.0, 1.0)
        return tf.cast(output, inputs.dtype), mean, unbiased

    @staticmethod
    def _tensors(*variables) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(variable) for variable in variables]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in ("momentum", "epsilon", "synchronized")}
        return {**super().get_config(), **own}


def _moving_average(name: str, shape: tuple[int], initializer: str) -> keras.Variable:
    # ON_READ: each replica updates its own copy without talking to the others.
    return keras.Variable(
        keras.initializers.get(initializer),
        shape=shape,
        dtype="float32",
        trainable=False,
        autocast=False,
        aggregation="mean",
        synchronization="on_read",
        name=name,
    )
