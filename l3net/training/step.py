"""The step: one global batch through network, loss, gradients and optimizer, on all replicas."""

import dataclasses
from collections.abc import Iterator

import keras
import tensorflow as tf

from l3net import constants, models
from l3net.data import input_pipeline
from l3net.data.shards import Shard
from l3net.errors import UserError
from l3net.training import distribution, optimization


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What decides the weights that come out: a run resumes only with the same values.

    Attributes:
        shards: prepared folder; its "train" split is trained on.
        learning_rate: the papers' grid search, "1e-4 usually works well" (L3).
        learning_rate_decay: factor every `epochs_per_decay` epochs; 0.94 in OTS, 1 in L3.
        epochs_per_decay: 16 in OTS.
        pairs_per_epoch: ours: what an epoch is; 0 means as many pairs as there are clips.
        warmup_steps: of the learning rate (ours).
        weight_decay: 1e-5, an L2 penalty in the loss (ours; see `optimization.l2_penalty`).
        accumulation_steps: micro-batches to a global batch and replica (ours; see `Trainer`).
        xla: whether XLA compiles forward and backward pass (ours).
        batch_norm_batches: that give the statistics of the evaluated and exported network; 0 takes
            the moving averages (ours; see `precise_batch_norm`).
        init_from: runs whose weights a new run starts from, where they fit.
        seed: of the weights; the pipeline has its own.
    """

    shards: str
    learning_rate: float = constants.LEARNING_RATE
    learning_rate_decay: float = constants.LEARNING_RATE_DECAY
    epochs_per_decay: int = constants.EPOCHS_PER_DECAY
    pairs_per_epoch: int = 0
    warmup_steps: int = 0
    weight_decay: float = constants.WEIGHT_DECAY
    accumulation_steps: int = 1
    xla: bool = False
    batch_norm_batches: int = 0
    init_from: tuple[str, ...] = ()
    seed: int = 0


class Trainer:
    """Model and optimizer, and the step on one global batch.

    The loss is the mean over the global batch plus the L2 penalty; replicas compute their parts of
    the sum, and their gradients are added. Batch norm alone sees less: the pairs that one replica
    takes at once (see `models.batch_norm`).

    With `accumulation_steps` the global batch goes through in that many micro-batches, whose
    gradients are added up before the one update: a small device trains at the papers' 256 or 2048
    pairs. The update is the same as without (but for rounding), save that batch norm's statistics
    are those of the micro-batches, and its moving averages move once for each of them.

    Attributes:
        strategy: of the training.
        shards: of the training split, those of all workers.
        model_config: of the network.
        pipeline_config: of the pairs.
        model: built in the strategy's scope.
        optimizer: Adam over the trainable variables, with a loss scale in float16.
        learning_rate: function of the step.
        micro_batch: pairs that one replica takes at once.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model_config: models.ModelConfig,
        pipeline_config: input_pipeline.PipelineConfig,
        config: TrainingConfig,
        shards: list[Shard],
    ):
        """Builds model and optimizer, with the weights of `config.seed`."""
        place = distribution.place_of(strategy)
        self.strategy, self.shards = strategy, shards
        self.model_config, self.pipeline_config = model_config, pipeline_config
        self._config, self._network = config, model_config.network
        self.micro_batch = distribution.micro_batch_size(
            place, pipeline_config.batch_size, config.accumulation_steps
        )
        _check_compilable(config, model_config, place)
        distribution.shards_of_worker(shards, place)
        self.learning_rate = _learning_rate(config, pipeline_config, shards)
        with strategy.scope():
            self.model = models.build_model(model_config, seed=config.seed)
            self.optimizer = optimization.adam(self.learning_rate, precision=model_config.precision)
            self.optimizer.build(self.model.trainable_variables)
            self._sums = self._make_sums() if config.accumulation_steps > 1 else None
        self._differentiate = (
            tf.function(self._differentiate, jit_compile=True)
            if config.xla
            else self._differentiate
        )
        self._whole_step = tf.function(self._whole_step)
        self._micro_step = tf.function(self._micro_step)
        self._update_step = tf.function(self._update_step)

    def batches(self, start_step: int) -> Iterator:
        """Iterates over micro-batches, from a step on; see `distribution.training_batches`."""
        return distribution.training_batches(
            self.strategy,
            self.shards,
            self.pipeline_config,
            micro_batch=self.micro_batch,
            start_step=start_step,
        )

    def prepare(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Makes this network's inputs of a batch; see `input_pipeline.prepare_batch`."""
        settings = self.model_config.spectrogram_settings
        return input_pipeline.prepare_batch(batch, spectrogram_settings=settings)

    def step(self, batches: Iterator) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes one global batch and updates the weights once.

        Args:
            batches: of `Trainer.batches`, or anything like it.

        Returns:
            The loss, float32 [], and the number of pairs classified correctly, int32 [].
        """
        if self._sums is None:
            return self._whole_step(next(batches))
        for _ in range(self._config.accumulation_steps):
            self._micro_step(next(batches))
        return self._update_step()

    # Each of these three is one tf.function.
    def _whole_step(self, batch):
        return self._over_replicas(self.strategy.run(self._replica_step, args=(batch,)))

    def _micro_step(self, batch):
        self.strategy.run(self._replica_micro_step, args=(batch,))

    def _update_step(self):
        return self._over_replicas(self.strategy.run(self._replica_update_step))

    def _over_replicas(self, values):
        return tuple(self.strategy.reduce("SUM", value, axis=None) for value in values)

    def _replica_step(self, batch):
        gradients, loss, num_correct = self._forward_backward(batch)
        return loss + self._update(gradients), num_correct

    def _replica_micro_step(self, batch):
        gradients, loss, num_correct = self._forward_backward(batch)
        parts = [*gradients, loss, tf.cast(num_correct, tf.float32)]
        for total, part in zip(self._sums, parts, strict=True):
            total.assign_add(part)

    def _replica_update_step(self):
        # Copied: MirroredStrategy with one device does not add up what a variable gives as it is.
        *gradients, loss, num_correct = [tf.identity(total) for total in self._sums]
        loss += self._update(gradients)
        with tf.control_dependencies([loss]):
            for total in self._sums:
                total.assign(tf.zeros_like(total))
        return loss, tf.cast(num_correct, tf.int32)

    def _forward_backward(self, batch):
        """Returns gradients, loss and number of correct pairs of this replica's micro-batch."""
        return self._differentiate(self.prepare(batch), batch[self._network.target])

    def _differentiate(self, inputs, target):
        with tf.GradientTape() as tape:
            outputs = self.model(inputs, training=True)
            losses = self._network.loss(outputs, target)
            loss = tf.reduce_sum(losses) / self.pipeline_config.batch_size
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.model.trainable_variables)
        return gradients, loss, self._network.num_correct(outputs, target)

    def _update(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Adds the L2 penalty, once for each global batch, and updates; returns its part."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            penalty = optimization.l2_penalty(self.model, self._config.weight_decay)
            penalty /= self.strategy.num_replicas_in_sync
            scaled = self.optimizer.scale_loss(penalty)
        of_penalty = tape.gradient(scaled, variables)  # None where there is no penalty
        pairs = zip(gradients, of_penalty, strict=True)
        gradients = [a if b is None else a + b for a, b in pairs]
        optimization.apply_gradients(self.optimizer, gradients, variables)
        return penalty

    def _make_sums(self) -> list[tf.Variable]:
        """Makes what adds up over micro-batches, each replica its own: gradients, loss, correct."""
        shapes = [variable.shape for variable in self.model.trainable_variables]
        return [
            tf.Variable(
                tf.zeros(shape),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for shape in [*shapes, [], []]
        ]

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return int(sum(keras.ops.size(variable) for variable in self.model.trainable_variables))


def _learning_rate(config, pipeline_config, shards) -> optimization.LearningRate:
    pairs_per_epoch = config.pairs_per_epoch or sum(shard.num_clips for shard in shards)
    return optimization.LearningRate(
        config.learning_rate,
        steps_per_epoch=pairs_per_epoch / pipeline_config.batch_size,
        decay=config.learning_rate_decay,
        epochs_per_decay=config.epochs_per_decay,
        warmup_steps=config.warmup_steps,
    )


def _check_compilable(config, model_config, place: distribution.Place) -> None:
    if config.xla and model_config.synchronized_batch_norm and place.num_replicas > 1:
        raise UserError(
            "--xla with --synchronized_batch_norm: XLA compiles each replica by itself, and this "
            "batch norm talks to the others in between; leave out one of the two"
        )
