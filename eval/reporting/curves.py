"""Learning curves of training runs: validation accuracy after so many steps.

    python -m eval.reporting.curves --runs=runs/demo_ave_net,runs/demo_l3_net --out_dir=runs/demo

Writes learning_curves.json and .md; eval.figures draws them. The accuracies are those that
l3net.train measured on fixed validation pairs (for classifiers, of classes); nothing is run here.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence

from absl import flags

from eval.reporting import flags as shared
from eval.reporting import tables
from l3net import errors
from l3net.errors import UserError

_NUM_COLUMNS = 12


@dataclasses.dataclass(frozen=True)
class Curve:
    """What one run's metrics say.

    Attributes:
        name: of the run directory.
        data: name of the data set.
        model: a key of l3net.models.MODELS.
        batch_size: pairs per step.
        accuracy: step -> validation accuracy in [0, 1].
    """

    name: str
    data: str
    model: str
    batch_size: int
    accuracy: dict[int, float]


def read_curve(run_dir: str | pathlib.Path) -> Curve:
    """Reads a run's validation accuracies.

    Args:
        run_dir: of l3net.train.

    Returns:
        The curve, by increasing step.

    Raises:
        UserError: if it is no run, or was never evaluated.
    """
    run_dir = pathlib.Path(run_dir)
    try:
        run = json.loads((run_dir / "training.json").read_text())
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    except OSError as error:
        raise UserError(f"{run_dir} is no run of l3net.train: it lacks {error.filename}") from error
    points = [json.loads(line) for line in lines if line.endswith("}")]
    accuracy = {p["step"]: p["accuracy"] for p in points if p["split"] != "train"}
    if not accuracy:
        raise UserError(f"{run_dir} was never evaluated; train with --eval_every_steps")
    return Curve(
        run_dir.name,
        run["data"]["name"],
        run["model"]["model"],
        run["pipeline"]["batch_size"],
        dict(sorted(accuracy.items())),
    )


def make_table(curves: Sequence[Curve]) -> tables.Table:
    """Describes the curves: a row per run, a column per number of steps.

    Args:
        curves: of the runs; of many steps some are left out.

    Returns:
        The table.
    """
    steps = sorted({step for curve in curves for step in curve.accuracy})
    steps = steps[:: -(-len(steps) // _NUM_COLUMNS)]
    rows = [
        tables.Row(
            curve.data + (" data (synthetic)" if curve.data == "demo" else ""),
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
        [tables.Metric(str(step), str(step), in_paper=False) for step in steps],
        rows,
        ["On fixed validation pairs, chance 50 %; of classifiers, of the pairs' classes."],
    )


def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    runs = flags.DEFINE_list("runs", [], "Run directories of l3net.train.")
    return {**shared.define(), runs.name: runs}


def main(_: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and writes the table."""
    values = {name: holder.value for name, holder in holders.items()}
    if not values["runs"]:
        raise UserError("--runs is needed: run directories, separated by commas")
    curves = [read_curve(run_dir) for run_dir in values["runs"]]
    tables.make_and_write(lambda: make_table(curves), values)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
