"""The training loop: strategy, step, metrics, checkpoints, resume. A plain function, no flags."""

import dataclasses
import json
import logging
import math
import pathlib
import platform
import sys
import time
from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from l3net import __version__, checkpoints, constants, models, optimization
from l3net.data import fixed_pairs, input_pipeline, schema
from l3net.errors import UserError

_log = logging.getLogger("l3net.training")

CONFIG_FILE = "training.json"
METRICS_FILE = "metrics.jsonl"
VERSIONS_FILE = "versions.json"
TENSORBOARD = "tensorboard"


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
        seed: of the weights; the pipeline has its own.
    """

    shards: str
    learning_rate: float = constants.LEARNING_RATE
    learning_rate_decay: float = constants.LEARNING_RATE_DECAY
    epochs_per_decay: int = constants.EPOCHS_PER_DECAY
    pairs_per_epoch: int = 0
    warmup_steps: int = 0
    weight_decay: float = constants.WEIGHT_DECAY
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How far to train and how often to look: may change when a run resumes.

    Attributes:
        num_steps: in all, those before a resume included.
        log_every_steps: one line of metrics.jsonl each; checkpoints fall on these steps.
        eval_every_steps: accuracy on the fixed pairs of `eval_split`; 0 only at the end.
        eval_split: must not be the test split.
        num_eval_pairs: see `fixed_pairs.fixed_pairs`; 0 for no evaluation.
        checkpoint_every_seconds: at most this much work is lost when a run is killed.
    """

    num_steps: int
    log_every_steps: int = 50
    eval_every_steps: int = 0
    eval_split: str = "val"
    num_eval_pairs: int = 2048
    checkpoint_every_seconds: float = 300.0


def train(
    run_dir: str | pathlib.Path,
    model_config: models.ModelConfig,
    pipeline_config: input_pipeline.PipelineConfig,
    config: TrainingConfig,
    schedule: Schedule,
    *,
    strategy: tf.distribute.Strategy | None = None,
    notes: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Trains a network, or goes on where a stopped run left off.

    Args:
        run_dir: gets checkpoints/, metrics.jsonl, tensorboard/, model.json, training.json,
            versions.json.
        model_config: which network, how large.
        pipeline_config: how pairs are drawn.
        config: of the optimization.
        schedule: how far and how often.
        strategy: MirroredStrategy over the local devices if None.
        notes: file name -> text to keep in the run directory, such as the flags.

    Returns:
        The last training metrics and, with evaluation, "val_accuracy" and "val_pairs".

    Raises:
        UserError: for unusable shards, a run directory of another configuration, or a loss that
            is no longer finite.
    """
    run_dir = pathlib.Path(run_dir)
    shards = schema.find_shards(config.shards, "train")
    _claim(run_dir, _description(model_config, pipeline_config, config, shards))
    checkpoints.save_model_config(run_dir, model_config)
    for name, text in (notes or {}).items():
        _write_text(run_dir / name, text)
    pairs = _evaluation_pairs(config.shards, schedule, pipeline_config.sampling)
    strategy = strategy or tf.distribute.MirroredStrategy()
    with strategy.scope():
        trainer = Trainer(strategy, model_config, pipeline_config, config, shards)
    run = _Run(run_dir, trainer, schedule, pairs)
    run.restore()
    return run.go()


class Trainer:
    """Model, optimizer and the step on one global batch."""

    def __init__(self, strategy, model_config, pipeline_config, config, shards):
        self.strategy, self.pipeline_config, self.shards = strategy, pipeline_config, shards
        self.model_config, self._config = model_config, config
        self._network = model_config.network
        self.model = models.build_model(model_config, seed=config.seed)
        num_clips = sum(shard.num_clips for shard in shards)
        pairs_per_epoch = config.pairs_per_epoch or num_clips
        self.learning_rate = optimization.LearningRate(
            config.learning_rate,
            steps_per_epoch=pairs_per_epoch / pipeline_config.batch_size,
            decay=config.learning_rate_decay,
            epochs_per_decay=config.epochs_per_decay,
            warmup_steps=config.warmup_steps,
        )
        self.optimizer = optimization.adam(self.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self.run_step = tf.function(self._run_step)
        self._evaluate_batch = tf.function(self._evaluate_batch, reduce_retracing=True)

    def batches(self, start_step: int) -> Iterator:
        """Iterates over global batches, spread over the replicas, from a step on."""
        dataset = input_pipeline.training_batches(
            self.shards, self.pipeline_config, start_step=start_step
        )
        return iter(self.strategy.experimental_distribute_dataset(dataset))

    def _run_step(self, batch):
        """One update; returns the loss and the number of pairs told right."""
        loss, num_right = self.strategy.run(self._replica_step, args=(batch,))
        total = tf.distribute.ReduceOp.SUM
        return (
            self.strategy.reduce(total, loss, axis=None),
            self.strategy.reduce(total, num_right, axis=None),
        )

    def _replica_step(self, batch):
        inputs = self._prepare(batch)
        with tf.GradientTape() as tape:
            outputs = self.model(inputs, training=True)
            losses = self._network.loss(outputs, batch["corresponds"])
            penalty = optimization.l2_penalty(self.model, self._config.weight_decay)
            loss = tf.reduce_sum(losses) / self.pipeline_config.batch_size
            loss += penalty / self.strategy.num_replicas_in_sync
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss, _num_right(outputs, batch["corresponds"])

    def _prepare(self, batch):
        return input_pipeline.prepare_batch(
            batch, spectrogram_settings=self.model_config.spectrogram_settings
        )

    def _evaluate_batch(self, batch):
        outputs = self.model(self._prepare(batch), training=False)
        return _num_right(outputs, batch["corresponds"])

    def evaluate(self, pairs: pathlib.Path) -> tuple[float, int]:
        """Returns the accuracy, in inference mode, over fixed pairs, and their number."""
        dataset = fixed_pairs.read_pairs(
            pairs,
            batch_size=self.pipeline_config.batch_size,
            frame_px=self.model_config.frame_px,
        )
        num_right = num_pairs = 0
        for batch in dataset:
            num_right += int(self._evaluate_batch(batch))
            num_pairs += len(batch["corresponds"])
        return num_right / num_pairs, num_pairs


def _num_right(outputs: dict[str, tf.Tensor], corresponds: tf.Tensor) -> tf.Tensor:
    chosen = tf.argmax(outputs["softmax"], axis=-1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(chosen == corresponds, tf.int32))


class _Run:
    """One call of `train`: the loop around the trainer and its files."""

    def __init__(self, run_dir, trainer: Trainer, schedule: Schedule, pairs):
        self._run_dir, self._trainer, self._schedule = run_dir, trainer, schedule
        self._pairs = pairs
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(model=trainer.model, optimizer=trainer.optimizer, step=self._step),
            str(run_dir / checkpoints.CHECKPOINTS),
            max_to_keep=2,
        )
        self._board = tf.summary.create_file_writer(str(run_dir / TENSORBOARD))
        self._last_save = time.monotonic()

    def restore(self) -> None:
        """Goes back to the last complete checkpoint and forgets the metrics after it."""
        latest = self._manager.restore_or_initialize()
        step = int(self._step)
        kept = [line for line in read_metrics(self._run_dir) if line["step"] <= step]
        _write_text(self._run_dir / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept))
        if latest:
            _log.info("resuming at step %d from %s", step, latest)

    def go(self) -> dict[str, float]:
        """Trains to the last step; returns the last metrics."""
        step = int(self._step)
        last = self._schedule.num_steps
        metrics = _last_metrics(self._run_dir)
        if step >= last:
            if not self._manager.checkpoints:
                self._manager.save(checkpoint_number=step)
            _log.info("%s has %d steps already; nothing to train", self._run_dir, step)
            return metrics
        bar = tqdm(
            total=last,
            initial=step,
            unit="step",
            desc="training",
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
        )
        with bar:
            for step, interval in self._intervals(bar):
                metrics = self._report(step, interval, bar)
                if step == last or _due(step, self._schedule.eval_every_steps):
                    metrics |= self._evaluate(step)
                self._save_if_due(step)
        return metrics

    def _intervals(self, bar: tqdm) -> Iterator[tuple[int, dict[str, float]]]:
        """Runs steps; yields (step, interval metrics) whenever a line of metrics is due."""
        step, last = int(self._step), self._schedule.num_steps
        batches = self._trainer.batches(step)
        loss = num_right = tf.zeros([])
        first, start = step, time.perf_counter()
        while step < last:
            step_loss, step_right = self._trainer.run_step(next(batches))
            loss, num_right = loss + step_loss, num_right + tf.cast(step_right, tf.float32)
            self._step.assign_add(1)
            step += 1
            bar.update()
            if step == last or _due(step, self._schedule.log_every_steps):
                num_steps, seconds = step - first, time.perf_counter() - start
                num_pairs = num_steps * self._trainer.pipeline_config.batch_size
                yield (
                    step,
                    {
                        "loss": float(loss) / num_steps,
                        "accuracy": float(num_right) / num_pairs,
                        "pairs_per_second": num_pairs / seconds,
                    },
                )
                loss = num_right = tf.zeros([])
                first, start = step, time.perf_counter()

    def _report(self, step: int, interval: dict[str, float], bar: tqdm) -> dict[str, float]:
        if not math.isfinite(interval["loss"]):
            raise UserError(
                f"the loss became {interval['loss']} between the last checkpoint and step {step}; "
                f"the checkpoint in {self._run_dir} is kept: lower --learning_rate or add "
                "--warmup_steps, in a new --run_dir"
            )
        rate = float(self._trainer.learning_rate(step - 1))
        metrics = {"step": step, "split": "train", **interval, "learning_rate": rate}
        self._write(metrics)
        bar.set_postfix(
            loss=f"{interval['loss']:.3f}",
            accuracy=f"{interval['accuracy']:.3f}",
            pairs_per_s=f"{interval['pairs_per_second']:.0f}",
        )
        return {f"train_{name}": value for name, value in interval.items()}

    def _evaluate(self, step: int) -> dict[str, float]:
        if self._pairs is None:
            return {}
        split = self._schedule.eval_split
        accuracy, num_pairs = self._trainer.evaluate(self._pairs)
        metrics = {"accuracy": accuracy, "pairs": num_pairs}
        self._write({"step": step, "split": split, **metrics})
        tqdm.write(f"step {step}: AVC accuracy {accuracy:.1%} on {num_pairs} fixed {split} pairs")
        return {f"{split}_{name}": value for name, value in metrics.items()}

    def _write(self, metrics: dict) -> None:
        with open(self._run_dir / METRICS_FILE, "a") as file:
            file.write(json.dumps(metrics) + "\n")
        with self._board.as_default(step=metrics["step"]):
            for name, value in metrics.items():
                if name not in ("step", "split"):
                    tf.summary.scalar(f"{metrics['split']}/{name}", value)
        self._board.flush()

    def _save_if_due(self, step: int) -> None:
        overdue = time.monotonic() - self._last_save >= self._schedule.checkpoint_every_seconds
        if overdue or step == self._schedule.num_steps:
            self._manager.save(checkpoint_number=step)
            self._last_save = time.monotonic()


def read_metrics(run_dir: str | pathlib.Path) -> list[dict]:
    """Returns the lines of a run's metrics.jsonl; none if there is no such file."""
    path = pathlib.Path(run_dir) / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    complete = lines if path.read_text().endswith("\n") else lines[:-1]  # a killed write
    return [json.loads(line) for line in complete]


def _last_metrics(run_dir: pathlib.Path) -> dict[str, float]:
    last = {}
    for line in read_metrics(run_dir):
        last |= {
            f"{line['split']}_{name}": value
            for name, value in line.items()
            if name not in ("step", "split")
        }
    return last


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluation_pairs(shards: str, schedule: Schedule, sampling: str) -> pathlib.Path | None:
    if not schedule.num_eval_pairs:
        return None
    if schedule.eval_split == "test":
        raise UserError("--eval_split=test: test sets are touched once, by eval; use val here")
    return fixed_pairs.fixed_pairs(
        shards, schedule.eval_split, num_pairs=schedule.num_eval_pairs, sampling=sampling
    )


def _description(model_config, pipeline_config, config, shards) -> dict[str, dict]:
    """What a run is, for training.json."""
    training = dataclasses.asdict(config)
    # By content, not by place: a moved data set is the same data set.
    del training["shards"]
    return {
        "model": dataclasses.asdict(model_config),
        "pipeline": dataclasses.asdict(pipeline_config),
        "training": training,
        "data": {
            "name": shards[0].dataset_name,
            "num_clips": sum(shard.num_clips for shard in shards),
            "digest": schema.content_digest(shards),
        },
    }


def _claim(run_dir: pathlib.Path, content: dict[str, dict]) -> None:
    """Writes the description of a new run; refuses to resume another one's."""
    path = run_dir / CONFIG_FILE
    if path.exists():
        before = json.loads(path.read_text())
        changed = [
            f"{part}.{key}: {before.get(part, {}).get(key)!r} -> {value!r}"
            for part, values in content.items()
            for key, value in values.items()
            if before.get(part, {}).get(key) != value
        ]
        if changed:
            raise UserError(
                f"{run_dir} holds a run of another configuration ({'; '.join(changed)}); "
                "give the same flags to resume it, or a new --run_dir"
            )
    run_dir.mkdir(parents=True, exist_ok=True)
    _write_text(run_dir / VERSIONS_FILE, json.dumps(_versions(), indent=1) + "\n")
    _write_text(path, json.dumps(content, indent=1) + "\n")


def _versions() -> dict[str, str]:
    return {
        "l3net": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _write_text(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
