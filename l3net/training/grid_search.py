"""The papers' grid search for the learning rate (L3 §2.2): one run for each rate, compared.

The best run has the highest accuracy of all evaluations on the fixed validation pairs (that of its
best/ checkpoint); without evaluations, the lowest training loss.
"""

import json
import logging
import math
import pathlib
from collections.abc import Callable, Sequence

from l3net.errors import UserError
from l3net.files import write_whole
from l3net.training import run_dir
from l3net.training.loop import LossNotFiniteError

_log = logging.getLogger(__name__)

RESULTS = "grid_search"
_COLUMNS = ("learning rate", "best accuracy %", "last accuracy %", "training loss", "seconds", "")


def parse_rates(texts: Sequence[str]) -> list[float]:
    """Reads --learning_rate_grid; a UserError if one is no positive number, or given twice."""
    try:
        rates = [float(text) for text in texts]
    except ValueError:
        rates = []
    valid = all(rate > 0 and math.isfinite(rate) for rate in rates)
    if not rates or not valid or len(set(rates)) < len(rates):
        raise UserError(
            f"--learning_rate_grid={','.join(texts)}: need different positive numbers, such as "
            "1e-3,3e-4,1e-4"
        )
    return rates


def folder_of(out_dir: str | pathlib.Path, rate: float) -> pathlib.Path:
    """Returns the folder of one rate's run, such as runs/x/learning_rate_0.001."""
    return pathlib.Path(out_dir) / f"learning_rate_{rate:g}"


def search(
    out_dir: str | pathlib.Path,
    rates: Sequence[float],
    train: Callable[[pathlib.Path, float], object],
    *,
    split: str = "val",
    is_chief: bool = True,
) -> str:
    """Trains with every rate and writes grid_search.json and grid_search.md.

    A run that diverged is a row that says so, and is not tried again. Other runs resume.

    Args:
        out_dir: folder of the search; each run gets a folder in it.
        rates: learning rates, tried in this order.
        train: (folder of the run, rate): trains, or raises LossNotFiniteError.
        split: the validation pairs'.
        is_chief: whether to write.

    Returns:
        The table, as Markdown; "" if this is not the chief.
    """
    for rate in rates:
        folder = folder_of(out_dir, rate)
        if (run_dir.read_summary(folder) or {}).get("diverged"):
            _log.info("%s diverged before; left alone", folder)
            continue
        _log.info("learning rate %g, in %s", rate, folder)
        try:
            train(folder, rate)
        except LossNotFiniteError as error:
            _log.warning("learning rate %g: %s", rate, error)
    if not is_chief:
        return ""
    rows = [_row(folder_of(out_dir, rate), rate, split) for rate in rates]
    _mark_best(rows)
    table = _table(rows)
    write_whole(pathlib.Path(out_dir) / f"{RESULTS}.json", json.dumps(rows, indent=1) + "\n")
    write_whole(pathlib.Path(out_dir) / f"{RESULTS}.md", table)
    return table


def _row(folder: pathlib.Path, rate: float, split: str) -> dict:
    summary = run_dir.read_summary(folder) or {}
    best = summary["best"] or {}
    return {
        "learning_rate": rate,
        "run_dir": str(folder),
        "steps": summary["steps"],
        "best_accuracy": best.get("accuracy"),
        "best_step": best.get("step"),
        "last_accuracy": summary["last"].get(f"{split}_accuracy"),
        "train_loss": summary["last"].get("train_loss"),
        "seconds": summary["seconds"],
        "diverged": summary["diverged"],
        "is_best": False,
    }


def _mark_best(rows: list[dict]) -> None:
    done = [row for row in rows if not row["diverged"]]
    measured = [row for row in done if row["best_accuracy"] is not None]
    with_loss = [row for row in done if row["train_loss"] is not None]
    if measured:
        max(measured, key=lambda row: row["best_accuracy"])["is_best"] = True
    elif with_loss:
        min(with_loss, key=lambda row: row["train_loss"])["is_best"] = True


def _table(rows: list[dict]) -> str:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---:|" * (len(_COLUMNS) - 1) + "---|"]
    for row in rows:
        loss = "" if row["train_loss"] is None else f"{row['train_loss']:.4f}"
        note = "diverged" if row["diverged"] else "best" if row["is_best"] else ""
        accuracies = [percent(row[f"{which}_accuracy"]) for which in ("best", "last")]
        cells = [f"{row['learning_rate']:g}", *accuracies, loss, f"{row['seconds']:.0f}", note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
