"""Adam, L2 weight decay and the learning-rate schedule (L3 §2.2; OTS §3.3)."""

import keras
import tensorflow as tf

from l3net import constants


@keras.saving.register_keras_serializable("l3net")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Decreased by 6 % every 16 epochs in steps (OTS §3.3), after an optional warm-up (ours).

    Attributes:
        peak: the learning rate before any decrease.
        steps_per_epoch: how many steps make one epoch.
        decay: factor of each decrease; 1.0 keeps the rate constant, as L3 seems to do.
        epochs_per_decay: 16 in OTS.
        warmup_steps: the rate rises linearly from peak / warmup_steps to peak (ours; 0 = none).
    """

    def __init__(
        self,
        peak: float,
        *,
        steps_per_epoch: float,
        decay: float = constants.LEARNING_RATE_DECAY,
        epochs_per_decay: int = constants.EPOCHS_PER_DECAY,
        warmup_steps: int = 0,
    ):
        self.peak = peak
        self.steps_per_epoch = steps_per_epoch
        self.decay = decay
        self.epochs_per_decay = epochs_per_decay
        self.warmup_steps = warmup_steps

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
        return {
            "peak": self.peak,
            "steps_per_epoch": self.steps_per_epoch,
            "decay": self.decay,
            "epochs_per_decay": self.epochs_per_decay,
            "warmup_steps": self.warmup_steps,
        }


def adam(learning_rate: LearningRate) -> keras.optimizers.Optimizer:
    """Returns Adam with its usual moments; weight decay is in the loss, see `l2_penalty`."""
    return keras.optimizers.Adam(learning_rate)


def l2_penalty(model: keras.Model, weight_decay: float = constants.WEIGHT_DECAY) -> tf.Tensor:
    """The papers' "weight decay 1e-5", read as 2017 TensorFlow practice: L2 in the loss (ours).

    weight_decay * sum(w ** 2) / 2 over the kernels of convolutions and fully connected layers;
    not over biases and batch norm (ours).

    Args:
        model: whose kernels to sum.
        weight_decay: 1e-5 in both papers.

    Returns:
        float32 [].
    """
    kernels = [v for v in model.trainable_variables if v.path.endswith("/kernel")]
    return weight_decay * tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(v)) for v in kernels])
