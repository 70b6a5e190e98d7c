"""Learning curves: validation accuracy over the pairs seen, of the runs that a table lists."""

import dataclasses

from eval.figures import drawings
from eval.reporting import tables
from l3net.errors import UserError
from l3net.json_files import check

SUBJECT = drawings.Subject("curves", "Learning curves", "Training")


@dataclasses.dataclass(frozen=True)
class _Details:
    """What of a row's details is drawn."""

    accuracy: dict[int, float]  # step -> share
    batch_size: int


def draw(table: tables.Table) -> drawings.Drawing:
    """Draws the curves of a table that `eval.reporting.curves` wrote.

    Raises:
        UserError: if the table is another one.
    """
    figure = drawings.new_figure(7, 4.5)
    axes = figure.subplots()
    for row in table.rows:
        if not {"accuracy", "batch_size"} <= row.details.keys():
            raise UserError(
                f'"{row.method}" has no learning curve; eval.reporting.curves makes them'
            )
        curve = check(table.name, row.details, _Details, "run eval.reporting.curves again")
        pairs = [step * curve.batch_size / 1000 for step in curve.accuracy]
        percent = [100 * accuracy for accuracy in curve.accuracy.values()]
        axes.plot(pairs, percent, marker=".", label=row.method)
    axes.axhline(50, color="grey", linestyle="--", linewidth=1, label="chance (AVC)")
    axes.set(
        xlabel="pairs seen, thousands",
        ylabel="validation accuracy, %",
        title=f"Learning curves, {', '.join(sorted({row.data for row in table.rows}))}",
    )
    axes.legend(fontsize="small")
    return drawings.Drawing(
        SUBJECT,
        "Validation accuracy during training, on fixed pairs; for classifiers, of classes. The "
        "papers show no such figure.",
        figure,
    )
