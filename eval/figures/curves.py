"""Learning curves: validation accuracy over the pairs seen, of the runs that a table lists."""

from eval import figures
from eval.reporting import tables
from l3net.errors import UserError

SUBJECT = figures.Subject("curves", "Learning curves", "Training")


def draw(table: tables.Table) -> figures.Drawing:
    """Draws the curves.

    Args:
        table: of `eval.reporting.curves`.

    Returns:
        The figure: thousands of pairs seen, validation accuracy in per cent.

    Raises:
        UserError: if the table is of another kind.
    """
    figure = figures.new_figure(7, 4.5)
    axes = figure.subplots()
    for row in table.rows:
        if not {"accuracy", "batch_size"} <= row.details.keys():
            raise UserError(
                f'"{row.method}" has no learning curve; eval.reporting.curves makes them'
            )
        accuracy, batch_size = row.details["accuracy"], row.details["batch_size"]
        pairs = [int(step) * batch_size / 1000 for step in accuracy]
        axes.plot(pairs, [100 * a for a in accuracy.values()], marker=".", label=row.method)
    axes.axhline(50, color="grey", linestyle="--", linewidth=1, label="chance (AVC)")
    axes.set(
        xlabel="pairs seen, thousands",
        ylabel="validation accuracy, %",
        title=f"Learning curves, {', '.join(sorted({row.data for row in table.rows}))}",
    )
    axes.legend(fontsize="small")
    return figures.Drawing(
        SUBJECT,
        "Validation accuracy during training, on fixed pairs; for classifiers, of classes. The "
        "papers show no such figure.",
        figure,
    )
