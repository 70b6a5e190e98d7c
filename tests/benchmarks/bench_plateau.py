"""What moves while a network is at 50 %: loss, gradients and features, step by step.

    python -m tests.benchmarks.bench_plateau --flagfile=l3net/configs/small_l3_net.flags \
        --shards=data/av_digits/shards [--nopaired] [--num_steps=400 --log_every_steps=50]

A row every --log_every_steps steps of a run of `l3net.train` with the same flags, without
validation: the mean loss and accuracy of the steps since the row before; then, of the same 32
training clips in every row,

    gradient     root mean square per weight of the loss's gradient, times 1e4, on one batch: in the
                 ConvNets of picture and sound, and in what comes after them
    features     deviation of pool4 from clip to clip, as a share of its mean
    logit        deviation over all 32 x 32 pairs, and of its variance the parts of picture alone,
                 of sound alone, and of their interaction, which is all that can tell a match
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras
import tensorflow as tf

from l3net import flags
from l3net.data.input_pipeline import PipelineConfig
from l3net.flags import setting
from l3net.models import ModelConfig
from l3net.training import distribution, paired
from l3net.training.distribution import Devices
from l3net.training.loop import Schedule
from l3net.training.step import Trainer, TrainingConfig, training_shards
from tests.benchmarks.timing import say

_NUM_CLIPS = 32
_HEADS = ("fc", "conv5", "conv6", "conv7")


@dataclasses.dataclass(frozen=True)
class Config:
    """The measurement."""

    paired: bool = setting(
        True, "Pair negatives as the flagfile says; --nopaired: draw pairs independently."
    )


def main(
    config: Config,
    devices: Devices,
    model: ModelConfig,
    pipeline: PipelineConfig,
    training: TrainingConfig,
    schedule: Schedule,
) -> None:
    """Trains and prints a table."""
    pipeline = dataclasses.replace(
        pipeline,
        inputs=model.network.inputs,
        frame_px=model.frame_px,
        seed=training.seed,
        paired_negatives=pipeline.paired_negatives if config.paired else 0,
    )
    shards = training_shards(training.shards, training.train_splits)
    strategy = distribution.make_strategy(devices.strategy)
    trainer = Trainer(strategy, model, pipeline, training, shards)
    batches = iter(trainer.batches(0))
    shown = next(batches)
    clips = {name: value[:_NUM_CLIPS] for name, value in trainer.prepare(shown).items()}
    all_pairs = paired.on_clips(trainer.model, _NUM_CLIPS - 1, sampling="ots")
    say(
        "| step | loss | accuracy % | gradient: picture | sound | head | features: picture | sound "
        "| logit | picture % | sound % | interaction % |\n|" + "---:|" * 12
    )
    loss, num_correct, since = 0.0, 0.0, 0
    for step in range(schedule.num_steps + 1):
        if step % schedule.log_every_steps == 0:
            seen = ["", ""]
            if since:
                seen = [
                    f"{loss / since:.3f}",
                    f"{100 * num_correct / since / pipeline.batch_size:.1f}",
                ]
            with _unchanged(trainer.model):
                looked = [*_gradients(trainer, shown), *_features(trainer.model, clips)]
                looked += _logits(all_pairs, clips)
            say(f"| {' | '.join([str(step), *seen, *looked])} |")
            loss, num_correct, since = 0.0, 0.0, 0
        step_loss, correct = trainer.step(batches)
        loss, num_correct, since = loss + float(step_loss), num_correct + float(correct), since + 1


@contextlib.contextmanager
def _unchanged(model: keras.Model) -> Iterator[None]:
    """Gives batch norm its moving averages back: looking changes nothing."""
    before = [variable.numpy() for variable in model.non_trainable_variables]
    yield
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        variable.assign(value)


def _gradients(trainer: Trainer, batch: dict[str, tf.Tensor]) -> list[str]:
    """Returns the gradient's root mean square per weight: ConvNets of picture and sound, head."""
    owner = {
        id(variable): name
        for name in ("vision", "audio")
        for layer in trainer.model.get_layer(name).layers
        if not layer.name.startswith(_HEADS)
        for variable in layer.trainable_variables
    }
    gradients, _, _ = trainer._gradients(batch)
    groups: dict[str, list[tf.Tensor]] = {"vision": [], "audio": [], "head": []}
    for variable, gradient in zip(trainer.model.trainable_variables, gradients, strict=True):
        groups[owner.get(id(variable), "head")].append(tf.reshape(gradient, [-1]))
    return [f"{1e4 * _deviation(tf.concat(group, 0)):.2f}" for group in groups.values()]


def _deviation(x: tf.Tensor) -> float:
    return float(tf.sqrt(tf.reduce_mean(tf.square(x))))


def _features(model: keras.Model, clips: dict[str, tf.Tensor]) -> list[str]:
    made = []
    for name, inputs in zip(("vision", "audio"), ("frame", "log_spectrogram"), strict=True):
        outputs = model.get_layer(name)(clips[inputs], training=True)
        pool4 = (
            outputs["pool4"] if "pool4" in outputs else tf.reduce_max(outputs["conv4_2"], (1, 2))
        )
        between = tf.reduce_mean(tf.math.reduce_std(pool4, axis=0))
        made.append(f"{float(between / tf.reduce_mean(tf.abs(pool4))):.2f}")
    return made


def _logits(all_pairs: keras.Model, clips: dict[str, tf.Tensor]) -> list[str]:
    outputs = all_pairs(clips, training=True)
    logit = outputs["logit"] if "logit" in outputs else outputs["logits"] @ [[-1.0], [1.0]]
    grid = tf.reshape(logit, [_NUM_CLIPS, _NUM_CLIPS])  # frame, and how far on its sound is
    grid = tf.stack([tf.roll(row, number, axis=0) for number, row in enumerate(grid)])
    grid -= tf.reduce_mean(grid)
    picture, sound = tf.reduce_mean(grid, 1, keepdims=True), tf.reduce_mean(grid, 0, keepdims=True)
    total = tf.reduce_mean(tf.square(grid))
    parts = [tf.reduce_mean(tf.square(part)) for part in (picture, sound, grid - picture - sound)]
    return [f"{float(tf.sqrt(total)):.4f}", *(f"{100 * float(part / total):.0f}" for part in parts)]


if __name__ == "__main__":
    flags.run(main, Config, Devices, ModelConfig, PipelineConfig, TrainingConfig, Schedule)
