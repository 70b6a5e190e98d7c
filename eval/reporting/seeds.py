r"""Puts the tables of several seeds together: mean and standard deviation of every number.

    python -m eval.reporting.seeds --out_dir=runs/demo/over_seeds \
        runs/demo/retrieval.json runs/demo/seed1/retrieval.json runs/demo/seed2/retrieval.json

The tables are those that the same script wrote for networks trained with other seeds. Files of
several tables may be given at once; each table comes out under its own name.
"""

import dataclasses
import statistics
from collections.abc import Sequence

from eval.reporting import tables
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting


@dataclasses.dataclass(frozen=True)
class Config:
    """Mean and spread over seeds."""

    out_dir: str = setting("runs/demo/over_seeds", "Folder for the combined tables.")
    seeds: tuple[str, ...] = setting(
        (), "Training seeds, separated by commas, in the order of the files; for the tables' notes."
    )
    only_run: bool = setting(False, "Leave out the rows that were not run, and quoted ones.")


def combine(of_seeds: Sequence[tables.Table], seeds: Sequence[str] = ()) -> tables.Table:
    """Averages tables that differ in the seed alone.

    Args:
        of_seeds: tables of one name; one may lack rows of the first, or have another order.
        seeds: their networks' seeds, for the note; without them it says how many.

    Returns:
        A table whose numbers are means, with sample standard deviations (n - 1) as spread where
        there are two or more, and mean standard errors over what was tested: seeds share that, so
        their mean is no surer of it. A row is averaged over the seeds that ran it (our choice),
        its note says how many of how many.

    Raises:
        UserError: if a table has rows with results that the first lacks.
    """
    first = of_seeds[0]
    by_row = [{(row.data, row.method): row for row in table.rows} for table in of_seeds]
    for table, own in zip(of_seeds[1:], by_row[1:], strict=True):
        strange = [
            method
            for (data, method), row in own.items()
            if row.status == tables.RUN and (data, method) not in by_row[0]
        ]
        if table.name != first.name or strange:
            raise UserError(
                f"tables {first.name!r} and {table.name!r} of different seeds have other rows "
                f"({', '.join(strange) or 'and names'}); name the one with most rows first"
            )
    rows = [
        _combined(row, [of_table.get(key) for of_table in by_row]) for key, row in by_row[0].items()
    ]
    which = f"seeds {', '.join(seeds)}" if seeds else f"{len(of_seeds)} seeds"
    note = (
        f"Mean and standard deviation over networks of {which}; of a row that was run with one, "
        "its standard error over what was tested."
    )
    return tables.Table(first.name, first.title, first.metrics, rows, [note, *first.notes])


def _combined(first: tables.Row, rows: Sequence[tables.Row | None]) -> tables.Row:
    run = [row for row in rows if row is not None and row.status == tables.RUN]
    if not run:
        return first
    keys = [key for key in run[0].ours if all(key in row.ours for row in run)]
    values = {key: [row.ours[key] for row in run] for key in keys}
    notes = [run[0].note] if len({row.note for row in run}) == 1 else []
    notes += [f"{len(run)} of {len(rows)} seeds"] if len(run) < len(rows) else []
    return tables.Row(
        first.data,
        first.method,
        tables.RUN,
        first.paper,
        {key: statistics.fmean(numbers) for key, numbers in values.items()},
        note="; ".join(filter(None, notes)),
        details={"by_seed": values},
        errors={
            key: statistics.fmean(row.errors[key] for row in run)
            for key in keys
            if all(key in row.errors for row in run)
        },
        # What no seed changes, such as a classifier on fixed features, has no spread.
        spread={k: statistics.stdev(v) for k, v in values.items() if len(set(v)) > 1},
    )


def run_rows(table: tables.Table) -> tables.Table:
    """Returns a table without the rows that were not run."""
    return dataclasses.replace(table, rows=[r for r in table.rows if r.status == tables.RUN])


def main(paths: Sequence[str], config: Config) -> None:
    """Reads the tables, writes their means."""
    if not paths:
        raise UserError("name the .json files of tables; see --help")
    by_name: dict[str, list[tuple[tables.Table, dict]]] = {}
    for path in paths:
        table, record = tables.read_table(path)
        by_name.setdefault(table.name, []).append((table, record))
    for name, read in by_name.items():
        if config.seeds and len(read) != len(config.seeds):
            raise UserError(f"got {len(read)} tables {name!r} for {len(config.seeds)} seeds")
        combined = combine([table for table, _ in read], config.seeds)
        tables.write_table(
            run_rows(combined) if config.only_run else combined,
            config.out_dir,
            flags={"tables": list(paths), "seeds": list(config.seeds)},
            seconds=sum(record["seconds"] for _, record in read),
        )


if __name__ == "__main__":
    flags.run(main, Config, arguments=".json files of tables, all of the first seed first.")
