"""Puts the tables of several seeds together: mean and standard deviation of every number.

    python -m eval.reporting.seeds --out_dir=runs/demo/over_seeds \
        runs/demo/retrieval.json runs/seed1/demo/retrieval.json runs/seed2/demo/retrieval.json

The tables are those that the same script wrote for networks trained with other seeds. Files of
several tables may be given at once; each table comes out under its own name.
"""

import pathlib
import statistics
from collections.abc import Sequence

from absl import flags

from eval.reporting import tables as report
from l3net import errors
from l3net.errors import UserError

_OUT_DIR = flags.DEFINE_string("out_dir", "runs/demo/over_seeds", "Folder for the tables.")
_SEEDS = flags.DEFINE_list("seeds", None, "Training seeds, in the order of the files, for notes.")


def combine(tables: Sequence[report.Table], seeds: Sequence[str] = ()) -> report.Table:
    """Averages tables that differ in the seed alone.

    Args:
        tables: of one name; a table may lack rows of the first, or have them in another order.
        seeds: of their networks; their number is told if they are not given.

    Returns:
        A table whose numbers are means, with sample standard deviations (n - 1) as spread where
        there are two or more. A row that was not run with every seed is not averaged: "not run".

    Raises:
        UserError: if a table has rows that the first lacks.
    """
    first = tables[0]
    by_row = [{(row.data, row.method): row for row in table.rows} for table in tables]
    for table, rows in zip(tables[1:], by_row[1:], strict=True):
        strange = [method for data, method in rows if (data, method) not in by_row[0]]
        if table.name != first.name or strange:
            raise UserError(
                f"tables {first.name!r} and {table.name!r} of different seeds have other rows "
                f"({', '.join(strange) or 'and names'}); name the one with most rows first"
            )
    rows = [
        _combined(row, [of_table.get(key) for of_table in by_row]) for key, row in by_row[0].items()
    ]
    told = f"seeds {', '.join(seeds)}" if seeds else f"{len(tables)} seeds"
    note = f"Mean and standard deviation over networks of {told}."
    return report.Table(first.name, first.title, first.metrics, rows, [note, *first.notes])


def _combined(first: report.Row, rows: Sequence[report.Row | None]) -> report.Row:
    if any(row is None or row.status != first.status for row in rows):
        return report.Row(
            first.data, first.method, report.NOT_RUN, first.paper, note="not run with every seed"
        )
    keys = [key for key in first.ours if all(key in row.ours for row in rows)]
    values = {key: [row.ours[key] for row in rows] for key in keys}
    return report.Row(
        first.data,
        first.method,
        first.status,
        first.paper,
        {key: statistics.fmean(found) for key, found in values.items()},
        note=first.note if all(row.note == first.note for row in rows) else "",
        details={"by_seed": values},
        spread={k: statistics.stdev(v) for k, v in values.items()} if len(rows) > 1 else {},
    )


def main(argv: Sequence[str]) -> None:
    """Reads the tables, writes their means."""
    if len(argv) < 2:
        raise UserError("name the .json files of tables; see --help")
    seeds = _SEEDS.value or []
    by_name: dict[str, list[tuple[report.Table, dict]]] = {}
    for path in argv[1:]:
        table, record = report.read_table(pathlib.Path(path))
        by_name.setdefault(table.name, []).append((table, record))
    for name, found in by_name.items():
        if seeds and len(found) != len(seeds):
            raise UserError(f"got {len(found)} tables {name!r} for {len(seeds)} seeds")
        table = combine([table for table, _ in found], seeds)
        seconds = sum(record["seconds"] for _, record in found)
        report.write_table(
            table, _OUT_DIR.value, flags={"tables": argv[1:], "seeds": seeds}, seconds=seconds
        )


if __name__ == "__main__":
    errors.run(main)
