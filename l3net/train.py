r"""Trains a network: flags -> data, model, loop.

    python -m l3net.train --flagfile=l3net/configs/small_l3_net.flags --shards=data/demo/shards \
        --run_dir=runs/demo/l3_net

The same command resumes a stopped run. The run directory's flags.txt is itself a flagfile:
`--flagfile=runs/demo/l3_net/flags.txt --run_dir=runs/again` repeats the run.

    python -m l3net.train --flagfile=... --run_dir=runs/grid --learning_rate_grid=1e-3,3e-4,1e-4

trains one run for each learning rate, in runs/grid/learning_rate_0.001 and so on, and compares
them in runs/grid/grid_search.md. On several machines, the same command on each, with TF_CONFIG in
the environment (see `l3net.training.distribution`).
"""

import dataclasses
import gc
import pathlib
import sys

from l3net import flags
from l3net.data.input_pipeline import PipelineConfig
from l3net.data.service import DataService
from l3net.flags import REQUIRED, setting
from l3net.models import ModelConfig
from l3net.training import distribution, grid_search, loop, run_dir
from l3net.training.distribution import Devices
from l3net.training.loop import Schedule
from l3net.training.step import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Config:
    """The run."""

    run_dir: str = setting(REQUIRED, "Folder of the run: checkpoints, metrics, flags.")
    learning_rate_grid: tuple[str, ...] = setting(
        (), "Learning rates to try, one run each, as in the papers' grid search."
    )


def main(
    config: Config,
    devices: Devices,
    model: ModelConfig,
    pipeline: PipelineConfig,
    service: DataService,
    training: TrainingConfig,
    schedule: Schedule,
) -> None:
    """Trains one run, or one for each learning rate of the grid."""
    # First of all: several workers must find each other before TensorFlow does anything else.
    strategy = distribution.make_strategy(devices.strategy, wait_seconds=devices.wait_seconds)
    is_chief = distribution.position_of(strategy).is_chief
    pipeline = dataclasses.replace(
        pipeline, inputs=model.network.inputs, labels=model.network.is_classifier
    )

    def train(folder: str | pathlib.Path, training: TrainingConfig) -> dict[str, float]:
        text = flags.as_flagfile(devices, model, pipeline, service, training, schedule)
        notes = {run_dir.FLAGS_FILE: text}
        data = {"strategy": strategy, "service": service}
        return loop.train(folder, model, pipeline, training, schedule, notes=notes, **data)

    def train_with(folder: pathlib.Path, rate: float) -> None:
        train(folder, dataclasses.replace(training, learning_rate=rate))
        gc.collect()  # the graphs of the run before

    with distribution.lost_worker_is_one_line():
        if config.learning_rate_grid:
            text = grid_search.search(
                config.run_dir,
                grid_search.parse_rates(config.learning_rate_grid),
                train_with,
                split=schedule.eval_split,
                is_chief=is_chief,
            )
        else:
            metrics = train(config.run_dir, training)
            text = _summary(config.run_dir, model, schedule, metrics)
    if is_chief:
        sys.stdout.write(text)


def _summary(folder: str, model: ModelConfig, schedule: Schedule, metrics: dict[str, float]) -> str:
    parts, split = [f"{folder}: {schedule.num_steps} steps"], schedule.eval_split
    if "train_loss" in metrics:
        parts.append(f"training loss {metrics['train_loss']:.3f}")
    if f"{split}_accuracy" in metrics:
        accuracy, num_pairs = metrics[f"{split}_accuracy"], metrics[f"{split}_pairs"]
        what = loop.accuracy_name(model)
        parts.append(f"{what} {accuracy:.1%} on {num_pairs} fixed {split} pairs")
    return ", ".join(parts) + "\n"


if __name__ == "__main__":
    flags.run(
        main, Config, Devices, ModelConfig, PipelineConfig, DataService, TrainingConfig, Schedule
    )
