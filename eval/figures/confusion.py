"""Which sounds a classifier of Table 2 takes for which: its confusion matrix."""

import dataclasses
import math

import numpy as np

from eval.figures import drawings
from eval.reporting import tables
from l3net.errors import UserError
from l3net.json_files import check

_ADVICE = "run eval.table2_sound again"
SUBJECT = drawings.Subject("confusion", "Confusion matrix of sound classification", "L3 Table 2")


@dataclasses.dataclass(frozen=True)
class _Details:
    """What of a row's details is drawn."""

    confusion: list[list[float]]  # true class -> predicted class -> recordings
    classes: list[str]


def draw(table: tables.Table, method: str = "Ours") -> drawings.Drawing:
    """Draws the confusion matrix of L3 Table 2's first row of a method that was run.

    Raises:
        UserError: if that method was not run.
    """
    rows = [row for row in table.rows if row.method == method and "confusion" in row.details]
    if not rows:
        raise UserError(f'the table has no row "{method}" that was run')
    counts, names = _shares(check(table.name, rows[0].details, _Details, _ADVICE))
    side = max(4.5, 0.32 * len(names) + 2)
    figure = drawings.new_figure(side + 0.9, side)
    axes = figure.subplots()
    image = axes.imshow(counts, cmap="Blues", vmin=0, vmax=100)
    short = [name.split(",")[0] for name in names]
    axes.set_xticks(range(len(short)), short, rotation=90)
    axes.set_yticks(range(len(short)), short)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"{rows[0].data}, {method}")
    if len(names) <= 20:
        for (row, column), share in np.ndenumerate(counts):
            if share >= 0.5:
                colour = "white" if share > 60 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the true class's recordings, %", shrink=0.8)
    accuracy = rows[0].ours.get("accuracy", math.nan)
    return drawings.Drawing(
        SUBJECT,
        f'Row "{method}" of Table 2, {rows[0].data}, accuracy {accuracy:.1f} %: of the '
        "recordings of each class (rows, 100 %) how many were classified as which class "
        "(columns). The papers show no such figure.",
        figure,
    )


def _shares(details: _Details) -> tuple[np.ndarray, list[str]]:
    """Returns per cent of each true class, and the classes' names."""
    names = details.classes
    if {len(names)} != {len(details.confusion), *map(len, details.confusion)}:
        raise UserError(f"the table's confusion matrix is not of its {len(names)} classes")
    counts = np.array(details.confusion, float)
    sums = counts.sum(axis=1, keepdims=True)
    return 100 * counts / np.where(sums > 0, sums, 1), names
