"""Accuracy on fixed validation pairs, by a copy of the network: what is evaluated is what is kept.

The copy is outside the strategy: the chief alone evaluates it, may replace its batch norm's
statistics (`PreciseBatchNorm`) and keeps it as the best checkpoint. Training goes on with the
moving averages.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import tensorflow as tf

from l3net import models
from l3net.data import damage, fixed_pairs, input_pipeline
from l3net.data.shards import Shard
from l3net.data.storage import Location
from l3net.models.batch_norm import PreciseBatchNorm
from l3net.training.step import Trainer

_SEED_OF_STATISTICS = 104_729  # added to the pipeline's: other pairs than those trained on next


def batches_of_statistics(
    shards: list[Shard],
    pipeline_config: input_pipeline.PipelineConfig,
    model_config: models.ModelConfig,
    *,
    size: int,
) -> Iterator[dict[str, tf.Tensor]]:
    """Yields a network's inputs for `PreciseBatchNorm` without end, `size` pairs at a time.

    They are drawn and augmented as in training, by another seed that follows from the pipeline's.
    """
    seed = pipeline_config.seed + _SEED_OF_STATISTICS
    config = dataclasses.replace(pipeline_config, seed=seed, paired_negatives=0)
    batches = input_pipeline.training_batches(shards, config).rebatch(size)
    for batch in damage.checked(batches, [shard.path for shard in shards]):
        yield input_pipeline.prepare_batch(
            batch, spectrogram_settings=model_config.spectrogram_settings
        )


class Validator:
    """The copy, and what is done with it.

    Attributes:
        model: the copy; has the trained network's weights after `take`.
    """

    def __init__(self, trainer: Trainer, pairs: Location | None, *, batch_norm_batches: int):
        """Builds the copy; `pairs` is a file of `fixed_pairs.fixed_pairs`, or None."""
        self._trainer, self._pairs, self._num_batches = trainer, pairs, batch_norm_batches
        self.model = models.build_model(trainer.model_config)
        self._network = trainer.model_config.network
        self._precise = PreciseBatchNorm(self.model) if batch_norm_batches else None

    def take(self) -> None:
        """Copies the weights; all workers must: batch norm's averages are the mean of theirs."""
        trained = self._trainer.model.variables
        for mine, theirs in zip(self.model.variables, trained, strict=True):
            mine.assign(tf.convert_to_tensor(theirs))

    def recompute_statistics(self) -> bool:
        """Gives the copy precise batch norm statistics, always of the same batches.

        Returns:
            Whether that was asked for.
        """
        if self._precise is None:
            return False
        trainer = self._trainer
        batches = batches_of_statistics(
            trainer.shards,
            trainer.pipeline_config,
            trainer.model_config,
            size=trainer.micro_batch,
        )
        self._precise.recompute(itertools.islice(batches, self._num_batches))
        return True

    def accuracy(self) -> tuple[float, int]:
        """Returns the copy's accuracy in inference mode on the fixed pairs, and their number."""
        config = self._trainer.pipeline_config
        assert self._pairs is not None
        dataset = fixed_pairs.read_pairs(
            self._pairs,
            batch_size=self._trainer.micro_batch,
            frame_px=config.frame_px,
            inputs=config.inputs,
        )
        num_correct = num_pairs = 0
        for batch in damage.checked(dataset, [self._pairs]):
            num_correct += int(self._count_correct(batch))
            num_pairs += len(batch[self._network.target])
        return num_correct / num_pairs, num_pairs

    @tf.function(reduce_retracing=True)
    def _count_correct(self, batch):
        outputs = self.model(self._trainer.prepare(batch), training=False)
        is_correct = self._network.is_correct(outputs, batch[self._network.target])
        return tf.reduce_sum(tf.cast(is_correct, tf.int32))
