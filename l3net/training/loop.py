"""The loop: steps, metrics, evaluation, checkpoints, resume.

The step itself is in `step`, evaluation in `validation`, several devices in `distribution`, the
files in `run_dir`, `checkpoints` and `journal`.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import math
import pathlib
import signal
import time
from collections.abc import Iterator, Mapping

import tensorflow as tf

from l3net import models
from l3net.data import fixed_pairs, input_pipeline
from l3net.data.service import HERE, DataService
from l3net.data.shards import read_labels
from l3net.data.storage import Location
from l3net.errors import UserError
from l3net.files import disk_errors, locked, write_whole
from l3net.flags import REQUIRED, setting
from l3net.training import checkpoints, distribution, paired, plateau, run_dir, stop
from l3net.training.journal import Journal
from l3net.training.step import Trainer, TrainingConfig, training_shards
from l3net.training.validation import Validator

_log = logging.getLogger(__name__)


class LossNotFiniteError(UserError):
    """Training diverged."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How far and how often; may change when a run resumes."""

    num_steps: int = setting(
        REQUIRED,
        "Steps in all, those before a resume included; L3: 234,375 (60M pairs / 256).",
    )
    log_every_steps: int = setting(
        50, "Steps between two lines of metrics; checkpoints fall on these steps.", at_least=1
    )
    eval_every_steps: int = setting(
        0, "Steps between two measurements of the accuracy on fixed pairs; 0: only at the end."
    )
    eval_split: str = setting(
        "val",
        "Split of the fixed pairs; the test split is refused, and one of --train_splits is not "
        "evaluated.",
    )
    num_eval_pairs: int = setting(2048, "Number of fixed pairs; 0: no evaluation.", at_least=0)
    checkpoint_every_seconds: float = setting(
        300.0,
        "Seconds between two checkpoints, the most work that is lost when a run is killed; an "
        "evaluation that finds a better network is followed by a checkpoint, too.",
    )


def train(
    folder: str | pathlib.Path,
    model_config: models.ModelConfig,
    pipeline_config: input_pipeline.PipelineConfig,
    config: TrainingConfig,
    schedule: Schedule,
    *,
    strategy: tf.distribute.Strategy | None = None,
    service: DataService = HERE,
    notes: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Trains a network, or goes on where a stopped run left off.

    With several workers all of them call it; the chief writes.

    Args:
        folder: the run's; see `run_dir` and `checkpoints` for what it holds.
        model_config: the network.
        pipeline_config: how pairs are drawn, with the network's inputs, and labels if it learns
            them.
        config: what is trained on, and how.
        schedule: how far and how often.
        strategy: see `distribution.make_strategy`; None takes all devices of this machine.
        service: who prepares the pairs, by default this process.
        notes: file name -> text to keep in the folder, such as the flags.

    Returns:
        The last training metrics and, with evaluation, "val_accuracy" and "val_pairs".

    Raises:
        LossNotFiniteError: if training diverged; the last checkpoint is kept.
        UserError: for unusable shards, a folder of another configuration or another process, a full
            disk, a signal, or a lost worker.
    """
    folder = pathlib.Path(folder)
    strategy = strategy or distribution.make_strategy("mirrored")
    position = distribution.position_of(strategy)
    shards = training_shards(config.shards, config.train_splits)
    schedule = _without_seen_pairs(schedule, config)
    model_config = _with_classes(model_config, config.shards)
    content = run_dir.describe(model_config, pipeline_config, config, shards)
    everything = json.dumps([content, dataclasses.asdict(schedule)])
    distribution.check_agreement(strategy, everything, "flags, data or version")
    lock = locked(folder) if position.is_chief else contextlib.nullcontext()
    with disk_errors(folder), lock:
        run_dir.check_same(folder, content, position)
        pairs = _evaluation_pairs(config.shards, schedule, pipeline_config, position)
        trainer = Trainer(strategy, model_config, pipeline_config, config, shards, service)
        run = _Run(folder, trainer, schedule, pairs, config)
        # Nothing is written before everything has been found usable.
        if position.is_chief:
            run_dir.write_description(folder, content, position)
            checkpoints.save_model_config(folder, model_config)
            for name, text in (notes or {}).items():
                write_whole(folder / name, text)
        return run.go()


def accuracy_name(model_config: models.ModelConfig) -> str:
    """Returns what a network's accuracy is called."""
    return "accuracy" if model_config.network.is_classifier else "AVC accuracy"


def _with_classes(model_config: models.ModelConfig, shards: str) -> models.ModelConfig:
    """Takes the number of classes from the shards if it is 0; checks a classifier's."""
    is_classifier = model_config.network.is_classifier
    if model_config.num_classes and not is_classifier:
        return model_config
    labels = read_labels(shards)
    if is_classifier and not labels:
        raise UserError(
            f"--model={model_config.model}: the clips of {shards} have no labels; give "
            "data_prep.write_shards a manifest with labels"
        )
    if model_config.num_classes not in (0, len(labels)):
        raise UserError(
            f"--num_classes={model_config.num_classes}: {shards} has {len(labels)} labels "
            f"({', '.join(labels[:3])}, ...); give --num_classes={len(labels)}"
        )
    return dataclasses.replace(model_config, num_classes=len(labels))


def _without_seen_pairs(schedule: Schedule, config: TrainingConfig) -> Schedule:
    """Returns the schedule without evaluation if its split is trained on."""
    if not schedule.num_eval_pairs or schedule.eval_split not in config.train_splits:
        return schedule
    _log.info(
        "no validation: the split %s is trained on (--train_splits=%s); there is no best "
        "checkpoint, l3net.export takes the last one",
        schedule.eval_split,
        ",".join(config.train_splits),
    )
    return dataclasses.replace(schedule, num_eval_pairs=0)


def _evaluation_pairs(shards: str, schedule: Schedule, config, position) -> Location | None:
    if schedule.eval_split == "test":
        raise UserError("--eval_split=test: test sets are touched once, by eval; use val here")
    if not schedule.num_eval_pairs or not position.is_chief:
        return None
    return fixed_pairs.fixed_pairs(
        shards,
        schedule.eval_split,
        num_pairs=schedule.num_eval_pairs,
        sampling=config.sampling,
        inputs=config.inputs,
    )


class _Run:
    """One call of `train`: the loop around the trainer and its files."""

    def __init__(self, folder, trainer: Trainer, schedule: Schedule, pairs, config: TrainingConfig):
        self._folder, self._trainer, self._schedule = folder, trainer, schedule
        self._strategy = trainer.strategy
        position = distribution.position_of(trainer.strategy)
        self._is_chief, self._is_alone = position.is_chief, position.num_workers == 1
        self._validator = Validator(trainer, pairs, batch_norm_batches=config.batch_norm_batches)
        parts = (trainer.model, trainer.optimizer, self._validator.model)
        self._checkpoints = checkpoints.RunCheckpoints(folder, *parts, is_chief=self._is_chief)
        restored = self._checkpoints.restore()
        self._is_new = restored is None
        if self._is_new:
            run_dir.check_nothing_lost(folder)
            if config.init_from:
                checkpoints.initialize_from(trainer.model, config.init_from)
        self._standing = restored or checkpoints.Standing()
        distribution.check_agreement(self._strategy, str(self._standing.step), "the checkpoint")
        self._evaluates = schedule.num_eval_pairs > 0 or config.batch_norm_batches > 0
        self._eval_seconds = 0.0
        self._last_save = time.monotonic()

    def go(self) -> dict[str, float]:
        """Trains to the last step; returns the last metrics."""
        self._journal = Journal(
            self._folder, num_steps=self._schedule.num_steps, is_chief=self._is_chief
        )
        if self._is_new:  # so a run without a checkpoint is one that lost it
            self._checkpoints.save(self._standing)
        if self._standing.step < self._schedule.num_steps:
            self._train()
        else:
            step = self._standing.step
            _log.info("%s has %d steps already; nothing to train", self._folder, step)
        self._write_summary()
        return run_dir.last_metrics(self._folder)

    def _train(self) -> None:
        start = self._standing.step
        with contextlib.closing(self._journal), stop.on_signals() as self._stop:
            self._journal.start(start)
            try:
                if self._is_eval_step() and self._standing.evaluated_step < start:
                    self._save_if_due(self._evaluate())
                for metrics, num_pairs in self._intervals():
                    self._report(metrics)
                    self._warn_on_plateau(metrics["accuracy"], num_pairs)
                    self._save_if_due(self._is_eval_step() and self._evaluate())
            except stop.StoppedError:
                if self._standing.step > start:
                    self._checkpoints.save(self._standing)
                raise

    def _intervals(self) -> Iterator[tuple[dict[str, float], int]]:
        """Runs steps; yields mean metrics and number of pairs since the last time, when due."""
        standing, schedule, trainer = self._standing, self._schedule, self._trainer
        with self._at_once():
            batches = self._batches()
        loss, num_correct = tf.constant(standing.loss_sum), tf.constant(standing.correct_sum)
        first, start = standing.step - standing.steps_summed, time.perf_counter()
        while standing.step < schedule.num_steps:
            if self._must_stop(is_between=standing.step == first):
                standing.steps_summed = standing.step - first
                standing.loss_sum, standing.correct_sum = float(loss), float(num_correct)
                standing.seconds += time.perf_counter() - start
                raise stop.StoppedError(self._stop.signal or signal.SIGTERM)
            step_loss, step_correct = trainer.step(batches)
            loss, num_correct = loss + step_loss, num_correct + step_correct
            standing.step += 1
            self._journal.advance()
            if self._is_eval_step() or _due(standing.step, schedule.log_every_steps):
                num_steps = standing.step - first
                num_pairs = num_steps * trainer.pipeline_config.batch_size
                metrics = {
                    "loss": float(loss) / num_steps,
                    "accuracy": float(num_correct) / num_pairs,
                }
                seconds = time.perf_counter() - start
                standing.seconds += seconds
                num_now = (num_steps - standing.steps_summed) * trainer.pipeline_config.batch_size
                standing.steps_summed, standing.loss_sum, standing.correct_sum = 0, 0.0, 0.0
                yield {**metrics, "pairs_per_second": num_now / seconds}, num_pairs
                loss = num_correct = tf.zeros([])
                first, start = standing.step, time.perf_counter()

    def _must_stop(self, *, is_between: bool) -> bool:
        """Whether a signal asked for the end; several workers look between intervals, together."""
        asked = self._stop.signal != 0
        if self._is_alone:
            return asked
        return is_between and distribution.any_worker(self._strategy, asked)

    def _at_once(self) -> contextlib.AbstractContextManager:
        """Lets a signal break off what changes no weight; a worker alone would leave the others."""
        return self._stop.at_once() if self._is_alone else contextlib.nullcontext()

    def _batches(self) -> Iterator:
        """Yields micro-batches; shows some pairs of the first one."""
        batches = self._trainer.batches(self._standing.step)
        first = next(batches)
        if self._is_chief:
            local = {k: self._strategy.experimental_local_results(v)[0] for k, v in first.items()}
            target = self._trainer.model_config.network.target
            shown = {**local, **self._trainer.prepare(local)}
            num_mismatches = self._trainer.pipeline_config.paired_negatives
            if num_mismatches:
                shown = paired.pairs_of(shown, num_mismatches)
            self._journal.show_pairs(self._standing.step, shown, target)
        return itertools.chain([first], batches)

    def _is_eval_step(self) -> bool:
        """Whether the network is evaluated after this step."""
        step = self._standing.step
        return step == self._schedule.num_steps or _due(step, self._schedule.eval_every_steps)

    def _report(self, interval: dict[str, float]) -> None:
        step = self._standing.step
        if not math.isfinite(interval["loss"]):
            self._diverged(interval["loss"])
        rate = float(self._trainer.learning_rate(step - 1))
        metrics = {"step": step, "split": "train", **interval, "learning_rate": rate}
        self._journal.record({**metrics, "seconds": round(self._standing.seconds, 3)})
        self._journal.show(metrics, self._seconds_left(interval["pairs_per_second"]))

    def _warn_on_plateau(self, accuracy: float, num_pairs: int) -> None:
        pairs_now = self._standing.step * self._trainer.pipeline_config.batch_size
        warning = plateau.warning(accuracy, num_pairs=num_pairs, pairs_now=pairs_now)
        if warning and not self._trainer.model_config.network.is_classifier:
            _log.warning("%s", warning)

    def _seconds_left(self, pairs_per_second: float) -> float:
        """Guesses from the speed of the last steps and of the last evaluation."""
        left = self._schedule.num_steps - self._standing.step
        every = self._schedule.eval_every_steps or left or 1
        num_evaluations = -(-left // every)
        steps = left * self._trainer.pipeline_config.batch_size / pairs_per_second
        return steps + num_evaluations * self._eval_seconds

    def _diverged(self, loss: float) -> None:
        message = (
            f"the loss became {loss} between the last checkpoint and step {self._standing.step}; "
            f"the checkpoint in {self._folder} is kept: lower --learning_rate or add "
            "--warmup_steps, in a new --run_dir"
        )
        self._write_summary(diverged=message)
        raise LossNotFiniteError(message)

    def _evaluate(self) -> bool:
        """Evaluates on the chief while the others wait; returns whether it is the best so far."""
        if not self._evaluates:
            return False
        start = time.perf_counter()
        standing, is_better = self._standing, False
        with self._at_once():
            self._validator.take()
            if self._is_chief and self._validator.recompute_statistics():
                standing.statistics_step = standing.step
            measures = self._is_chief and self._schedule.num_eval_pairs > 0
            accuracy, num_pairs = self._validator.accuracy() if measures else (0.0, 0)
        if measures:
            is_better = self._keep_accuracy(accuracy, num_pairs)
        standing.evaluated_step = standing.step
        self._eval_seconds = time.perf_counter() - start
        return distribution.any_worker(self._strategy, is_better)

    def _keep_accuracy(self, accuracy: float, num_pairs: int) -> bool:
        """Records it, and keeps the network if it is the best so far; returns whether it is."""
        standing, split = self._standing, self._schedule.eval_split
        metrics = {"step": standing.step, "split": split, "accuracy": accuracy, "pairs": num_pairs}
        self._journal.record({**metrics, "seconds": round(standing.seconds, 3)})
        what = accuracy_name(self._trainer.model_config)
        self._journal.say(
            f"step {standing.step}: {what} {accuracy:.1%} on {num_pairs} fixed {split} pairs"
        )
        if accuracy <= standing.best_accuracy:
            return False
        standing.best_step, standing.best_accuracy = standing.step, accuracy
        self._checkpoints.save_best(standing)
        return True

    def _save_if_due(self, is_better: bool) -> None:
        overdue = time.monotonic() - self._last_save >= self._schedule.checkpoint_every_seconds
        overdue = distribution.any_worker(self._strategy, self._is_chief and overdue)
        if overdue or is_better or self._standing.step == self._schedule.num_steps:
            self._checkpoints.save(self._standing)
            self._last_save = time.monotonic()

    def _write_summary(self, *, diverged: str | None = None) -> None:
        if self._is_chief:
            run_dir.write_summary(
                self._folder, self._standing, self._trainer.num_parameters, diverged=diverged
            )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
