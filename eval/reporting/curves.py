"""Learning curves of training runs: validation accuracy after so many steps.

    python -m eval.reporting.curves --runs=runs/demo/ave_net,runs/demo/l3_net --out_dir=runs/demo

Writes learning_curves.json and .md; eval.figures draws them. The accuracies are those that
l3net.train measured on fixed validation pairs (for classifiers, of classes); nothing is run here.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from eval.reporting import synthetic, tables
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting
from l3net.json_files import read_json, read_lines

_NUM_COLUMNS = 12


@dataclasses.dataclass(frozen=True)
class Config:
    """Learning curves."""

    runs: tuple[str, ...] = setting((), "Run folders of l3net.train, separated by commas.")
    out_dir: str = setting("runs/tables", "Folder for learning_curves.json and learning_curves.md.")


@dataclasses.dataclass(frozen=True)
class Curve:
    """The accuracies of one run."""

    name: str  # name of the run's folder
    data: str  # name of the data set
    model: str  # a key of l3net.models.MODELS
    batch_size: int  # pairs per step
    accuracy: dict[int, float]  # step -> validation accuracy in [0, 1]


@dataclasses.dataclass(frozen=True)
class _Data:
    name: str


@dataclasses.dataclass(frozen=True)
class _Model:
    model: str


@dataclasses.dataclass(frozen=True)
class _Pipeline:
    batch_size: int


@dataclasses.dataclass(frozen=True)
class _Run:
    """What of training.json is read."""

    data: _Data
    model: _Model
    pipeline: _Pipeline


@dataclasses.dataclass(frozen=True)
class _Point:
    """What of a line of metrics is read."""

    step: int
    split: str
    accuracy: float = 0.0


def read_curve(run_dir: str | pathlib.Path) -> Curve:
    """Reads a run's validation accuracies, by increasing step.

    Raises:
        UserError: if it is no run, or was never evaluated.
    """
    run_dir = pathlib.Path(run_dir)
    try:
        run = read_json(run_dir / "training.json", _Run, "put a copy of it there")
        points = read_lines(run_dir / "metrics.jsonl", _Point)
    except FileNotFoundError as error:
        raise UserError(f"{run_dir} is no run of l3net.train: it lacks {error.filename}") from error
    evaluated = (p for p in points if p["split"] != "train" and "accuracy" in p)
    accuracy = {p["step"]: p["accuracy"] for p in evaluated}
    if not accuracy:
        raise UserError(f"{run_dir} was never evaluated; train with --eval_every_steps")
    return Curve(
        run_dir.name,
        run.data.name,
        run.model.model,
        run.pipeline.batch_size,
        dict(sorted(accuracy.items())),
    )


def make_table(curves: Sequence[Curve]) -> tables.Table:
    """Returns a row per run, a column per number of steps; of many steps some are left out."""
    steps = sorted({step for curve in curves for step in curve.accuracy})
    steps = steps[:: -(-len(steps) // _NUM_COLUMNS)]
    rows = [
        tables.Row(
            synthetic.display_name(curve.data),
            curve.name,
            tables.RUN,
            ours={
                str(step): 100 * curve.accuracy[step] for step in steps if step in curve.accuracy
            },
            note=f"{curve.model}, {curve.batch_size} pairs a step",
            details={"accuracy": curve.accuracy, "batch_size": curve.batch_size},
        )
        for curve in curves
    ]
    return tables.Table(
        "learning_curves",
        "Validation accuracy % after so many steps",
        [tables.Metric(str(step), str(step)) for step in steps],
        rows,
        ["On fixed validation pairs, chance 50 %; of classifiers, of the pairs' classes."],
    )


def main(config: Config) -> None:
    """Reads the runs and writes the table."""
    if not config.runs:
        raise UserError("--runs is needed: run folders, separated by commas")
    curves = [read_curve(run_dir) for run_dir in config.runs]
    tables.make_and_write(lambda: make_table(curves), config)


if __name__ == "__main__":
    flags.run(main, Config)
