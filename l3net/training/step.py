"""One training step: a global batch through network, loss, gradients, optimizer; all replicas."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from l3net import constants, models
from l3net.data import avc_pairs, input_pipeline
from l3net.data import service as data_service
from l3net.data.service import HERE, DataService
from l3net.data.shards import Shard, find_shards
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.training import distribution, optimization, paired


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What is trained on, and how; with the network, it decides the weights.

    A run resumes only with the same values.
    """

    shards: str = setting(
        REQUIRED,
        "Prepared folder of data_prep.write_shards, or its address on object storage (s3://, "
        "gs://); see --train_splits.",
    )
    train_splits: tuple[str, ...] = setting(
        ("train",),
        'Splits that are trained on together; train,val is OTS\'s "train-val set" read literally: '
        "then nothing is left to validate on, and the last checkpoint is the one to export.",
    )
    learning_rate: float = setting(
        constants.LEARNING_RATE,
        "Adam's learning rate; L3 searched a grid and found that 1e-4 usually works well.",
    )
    learning_rate_decay: float = setting(
        constants.LEARNING_RATE_DECAY,
        "Factor on the learning rate every --epochs_per_decay epochs; 0.94 in OTS; L3 names none, "
        "which is 1.",
    )
    epochs_per_decay: int = setting(
        constants.EPOCHS_PER_DECAY, "Epochs between two decays of the rate; 16 in OTS.", at_least=1
    )
    pairs_per_epoch: int = setting(
        0, "Pairs that make an epoch, not given in the papers; 0: as many as training clips."
    )
    warmup_steps: int = setting(
        0, "Steps over which the learning rate rises linearly; none in the papers.", at_least=0
    )
    weight_decay: float = setting(
        constants.WEIGHT_DECAY, "L2 penalty on the kernels, part of the loss; 1e-5 in the papers."
    )
    adam_epsilon: float = setting(
        constants.ADAM_EPSILON,
        "Adam's epsilon, not given in the papers; 1e-8 in Adam's paper and TensorFlow of 2017, "
        "1e-7 in Keras today.",
    )
    accumulation_steps: int = setting(
        1,
        "Parts of a batch that a device takes one after the other, for batches that do not fit "
        "into its memory.",
        at_least=1,
    )
    xla: bool = setting(False, "Compile forward and backward pass with XLA.")
    batch_norm_batches: int = setting(
        0,
        "Training batches that give batch norm's statistics of the evaluated and exported network; "
        "0: its moving averages.",
    )
    init_from: tuple[str, ...] = setting(
        (), "Folders of runs whose weights a new run starts from, where names and shapes fit."
    )
    seed: int = setting(
        0, "Seed of the weights, the order of the pairs and the augmentation.", at_least=0
    )


def training_shards(folder: str, splits: Sequence[str]) -> list[Shard]:
    """Returns the shards of all splits that are trained on, one split after the other.

    Raises:
        UserError: if there is no split, the test split, one twice, or one without clips.
    """
    given = f"--train_splits={','.join(splits)}"
    if "test" in splits:
        raise UserError(f"{given}: test sets are touched once, by eval; train on train, val")
    if not splits or len(set(splits)) < len(splits):
        raise UserError(f"{given}: need one or more different splits, such as train or train,val")
    parts = [find_shards(folder, split) for split in splits]
    if not all(parts):
        have = ", ".join(
            f"{split}: {sum(shard.num_clips for shard in part)} clips"
            for split, part in zip(splits, parts, strict=True)
        )
        raise UserError(f"{given}: a split of {folder} is empty ({have}); leave it out")
    return list(itertools.chain.from_iterable(parts))


class Trainer:
    """Model and optimizer, and the step on one global batch.

    The loss is the mean over the global batch plus the L2 penalty; replicas compute their parts of
    the sum, and their gradients are added. Batch norm alone sees less: the pairs that one replica
    takes at once (see `models.batch_norm`).

    With `accumulation_steps` the global batch goes through in that many micro-batches, whose
    gradients are added up before the one update. The update is the same as without (but for
    rounding), save that batch norm's statistics are those of the micro-batches, and its moving
    averages move once for each of them.

    Attributes:
        shards: those of all training splits and all workers.
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
        service: DataService = HERE,
    ):
        """Builds model and optimizer, with the weights of `config.seed`."""
        position = distribution.position_of(strategy)
        self.strategy, self.shards = strategy, shards
        self.model_config, self.pipeline_config = model_config, pipeline_config
        self._config, self._network = config, model_config.network
        self.micro_batch = distribution.micro_batch_size(
            position, pipeline_config.batch_size, config.accumulation_steps
        )
        data_service.check(service, pipeline_config)
        self._service = service
        _check_compilable(config, model_config, position)
        _check_pairing(pipeline_config, self.micro_batch)
        distribution.shards_of_worker(shards, position)
        self.learning_rate = _learning_rate(config, pipeline_config, shards)
        with strategy.scope():
            self.model = models.build_model(model_config, seed=config.seed)
            # The same layers and weights.
            self._trained = self.model
            if num_mismatches := pipeline_config.paired_negatives:
                self._trained = paired.on_clips(
                    self.model, num_mismatches, sampling=pipeline_config.sampling
                )
            self.optimizer = optimization.adam(
                self.learning_rate,
                epsilon=config.adam_epsilon,
                precision=model_config.precision,
            )
            self.optimizer.build(self.model.trainable_variables)
            self._sums = self._make_sums() if config.accumulation_steps > 1 else None
        compiled = tf.function(self._forward_backward, jit_compile=True)
        self._differentiate = compiled if config.xla else self._forward_backward

    def batches(self, start_step: int) -> Iterator:
        """Yields micro-batches, from a step on; see `distribution.training_batches`."""
        return distribution.training_batches(
            self.strategy,
            self.shards,
            self.pipeline_config,
            micro_batch=self.micro_batch,
            start_step=start_step,
            service=self._service,
        )

    def prepare(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the network's inputs of a batch; see `input_pipeline.prepare_batch`."""
        settings = self.model_config.spectrogram_settings
        return input_pipeline.prepare_batch(batch, spectrogram_settings=settings)

    def step(self, batches: Iterator) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes one global batch of `batches` and updates the weights once.

        Returns:
            The loss, and the number of pairs classified correctly, float32 []; of paired negatives
            all mismatches of a clip count as one pair.
        """
        if self._sums is None:
            return self._single_step(next(batches))
        for _ in range(self._config.accumulation_steps):
            self._micro_step(next(batches))
        return self._update_step()

    @tf.function
    def _single_step(self, batch):
        return self._over_replicas(self.strategy.run(self._replica_step, args=(batch,)))

    @tf.function
    def _micro_step(self, batch):
        self.strategy.run(self._replica_micro_step, args=(batch,))

    @tf.function
    def _update_step(self):
        return self._over_replicas(self.strategy.run(self._replica_update_step))

    def _over_replicas(self, values):
        return tuple(self.strategy.reduce("SUM", value, axis=None) for value in values)

    def _replica_step(self, batch):
        gradients, loss, num_correct = self._gradients(batch)
        return loss + self._update(gradients), num_correct

    def _replica_micro_step(self, batch):
        gradients, loss, num_correct = self._gradients(batch)
        parts = [*gradients, loss, num_correct]
        for total, part in zip(self._sums, parts, strict=True):
            total.assign_add(part)

    def _replica_update_step(self):
        # Copied: MirroredStrategy with one device does not add up what a variable gives as it is.
        *gradients, loss, num_correct = [tf.identity(total) for total in self._sums]
        loss += self._update(gradients)
        with tf.control_dependencies([loss]):
            for total in self._sums:
                total.assign(tf.zeros_like(total))
        return loss, num_correct

    def _gradients(self, batch):
        """Returns gradients, loss and number of correct pairs of this replica's micro-batch."""
        return self._differentiate(self.prepare(batch), batch[self._network.target])

    def _forward_backward(self, inputs, target):
        with tf.GradientTape() as tape:
            outputs = self._trained(inputs, training=True)
            weights = self._weights(target)
            losses = self._network.loss(outputs, target) * weights
            loss = tf.reduce_sum(losses) / self.pipeline_config.batch_size
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.model.trainable_variables)
        is_correct = tf.cast(self._network.is_correct(outputs, target), tf.float32)
        return gradients, loss, tf.reduce_sum(is_correct * weights)

    def _weights(self, target: tf.Tensor) -> tf.Tensor:
        """Returns how much each row counts: float32 [rows], or [] for all alike."""
        num_mismatches = self.pipeline_config.paired_negatives
        if not num_mismatches:
            return tf.constant(1.0)
        num_clips = tf.size(target) // (1 + num_mismatches)
        return avc_pairs.weights_of_pairs(num_clips, num_mismatches)

    def _update(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Adds the L2 penalty, once for each global batch, and updates; returns the penalty."""
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


def _check_pairing(config: input_pipeline.PipelineConfig, micro_batch: int) -> None:
    num_mismatches = config.paired_negatives
    if num_mismatches and (micro_batch % 2 or micro_batch <= 2 * num_mismatches):
        raise UserError(
            f"--paired_negatives={num_mismatches}: {micro_batch} pair(s) on a device at once; need "
            f"an even number of at least {2 * num_mismatches + 2}: change it, --global_batch_size "
            "or --accumulation_steps"
        )


def _check_compilable(config, model_config, position: distribution.Position) -> None:
    if config.xla and model_config.synchronized_batch_norm and position.num_replicas > 1:
        raise UserError(
            "--xla with --synchronized_batch_norm: XLA compiles each replica by itself, and this "
            "batch norm talks to the others in between; leave out one of the two"
        )
