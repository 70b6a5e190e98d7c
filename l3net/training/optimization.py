"""Adam, L2 weight decay and the learning-rate schedule (L3 §2.2; OTS §3.3)."""

import dataclasses

import keras
import tensorflow as tf

from l3net import constants


@keras.saving.register_keras_serializable("l3net")
@dataclasses.dataclass(eq=False)
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Decreased by 6 % every 16 epochs in steps (OTS §3.3), after an optional linear warm-up.

    Attributes:
        peak: the learning rate before any decrease.
        steps_per_epoch: may be a fraction.
        decay: factor of each decrease; 1.0 keeps the rate constant, as L3 seems to do.
        epochs_per_decay: 16 in OTS.
        warmup_steps: the rate rises from peak / warmup_steps to peak (our choice; 0: it does not).
    """

    peak: float
    _: dataclasses.KW_ONLY
    steps_per_epoch: float
    decay: float = constants.LEARNING_RATE_DECAY
    epochs_per_decay: int = constants.EPOCHS_PER_DECAY
    warmup_steps: int = 0

    def __call__(self, step) -> tf.Tensor:
        """Returns the learning rate, a float32 scalar, of a step counted from 0."""
        step = tf.cast(step, tf.float32)
        num_decays = tf.floor(step / (self.epochs_per_decay * self.steps_per_epoch))
        rate = self.peak * tf.pow(self.decay, num_decays)
        if self.warmup_steps:
            rate *= tf.minimum(1.0, (step + 1.0) / self.warmup_steps)
        return rate

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)


def adam(
    learning_rate: LearningRate,
    *,
    epsilon: float = constants.ADAM_EPSILON,
    precision: str = "float32",
) -> keras.optimizers.Optimizer:
    """Returns Adam with its usual moments; weight decay is in the loss, see `l2_penalty`.

    With "float16" its `scale_loss` scales the loss up, for small gradients would vanish; the scale
    is halved, and the update left out, when a gradient is not finite (our choice).
    """
    optimizer = keras.optimizers.Adam(learning_rate, epsilon=epsilon)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "float16" else optimizer


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[tf.Tensor],
    variables: list[keras.Variable],
) -> None:
    """Updates the variables; every replica calls it with its part of the scaled loss' gradients."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # Keras asks the first replica alone whether its gradients are finite. NaN here if those of
        # any replica are not, else 0: all replicas then leave out the same updates.
        doubt = tf.add_n([tf.reduce_sum(gradient * 0.0) for gradient in gradients])
        doubt = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, doubt)
        gradients = [gradient + doubt for gradient in gradients]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def l2_penalty(model: keras.Model, weight_decay: float = constants.WEIGHT_DECAY) -> tf.Tensor:
    """Returns weight_decay * sum(w ** 2) / 2, float32 [], over the trained kernels; 0 without any.

    That is how we read the papers' "weight decay 1e-5": as the TensorFlow practice of 2017, an L2
    penalty in the loss on the kernels of convolutions and fully connected layers, not on biases and
    batch norm (our choice).
    """
    kernels = [v for v in model.trainable_variables if v.path.endswith("/kernel")]
    squares = [tf.nn.l2_loss(tf.convert_to_tensor(v)) for v in kernels]
    return weight_decay * tf.add_n(squares) if squares else tf.zeros([])
