"""Writes a table of results: .json for programs, .md for people, the same on the terminal.

Every row names its data, or says that it was not run. The paper's number stands beside ours where
the data is the paper's (`paper_values`); a table without any has no column for them.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from l3net import provenance
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.json_files import check, read_json, write_json

RUN, NOT_RUN, QUOTED = "run", "not run", "quoted"
NUM_TEXT_COLUMNS = 2  # data and method


@dataclasses.dataclass(frozen=True)
class Metric:
    """A column of numbers."""

    key: str  # in `Row.paper` and `Row.ours`
    heading: str  # with its unit, such as "accuracy %"
    decimals: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1  # digits after the point


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table."""

    data: str  # what it was measured on, such as "ESC-10 (400 real recordings)"
    method: str  # in the paper's words
    status: str  # RUN; NOT_RUN; QUOTED: a row that we never run and only repeat from the paper
    paper: dict[str, float] = dataclasses.field(default_factory=dict)  # metric key -> its number
    ours: dict[str, float] = dataclasses.field(default_factory=dict)  # metric key -> our number
    note: str = ""  # one short remark, such as why a row was not run
    details: dict[str, Any] = dataclasses.field(default_factory=dict)  # for the .json only
    # Metric key -> standard error of our number over what was tested: pairs, folds, queries.
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    # Metric key -> standard deviation of our number over seeds, if there are several.
    spread: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results."""

    name: str  # name of its files, such as "table2"
    title: str
    metrics: Sequence[Metric]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What else a table's file holds, as far as it is read again."""

    seconds: float
    seed: int | None = None
    commit: str | None = None
    flags: dict[str, Any] = dataclasses.field(default_factory=dict)


_TABLE_FIELDS = {field.name for field in dataclasses.fields(Table)}


def cells(table: Table) -> list[list[str]]:
    """Returns a table's texts: the header, then a line for each row.

    The first NUM_TEXT_COLUMNS cells and the last are words, the others numbers. Ours have their
    spread over seeds behind them, or else their standard error.
    """
    header = ["Data", "Method"]
    quoted = {key for row in table.rows for key in row.paper}
    for metric in table.metrics:
        both = [f"{metric.heading}, paper", f"{metric.heading}, ours"]
        header += both if metric.key in quoted else [metric.heading]
    lines = [[*header, "Note"]]
    for row in table.rows:
        line = [row.data, row.method]
        blank = {NOT_RUN: "not run", QUOTED: "(quoted)"}.get(row.status, "")
        for metric in table.metrics:
            line += [_cell(metric, row.paper, "", {})] if metric.key in quoted else []
            line.append(_cell(metric, row.ours, blank, row.spread or row.errors))
        lines.append([*line, row.note])
    return lines


def _cell(metric: Metric, values: dict[str, float], blank: str, spread: dict[str, float]) -> str:
    value = values.get(metric.key)
    if value is None:
        return blank
    text = f"{value:.{metric.decimals}f}"
    deviation = spread.get(metric.key)
    return text if deviation is None else f"{text} ± {deviation:.{metric.decimals}f}"


def markdown(table: Table) -> str:
    """Returns the table as Markdown, the paper's numbers beside ours."""
    grid = _aligned(cells(table), num_text=NUM_TEXT_COLUMNS)
    return "\n".join([f"# {table.title}", "", *grid, "", *(f"- {n}" for n in table.notes), ""])


def _aligned(lines: list[list[str]], num_text: int) -> list[str]:
    """Pads the columns so that the source reads as a table too; numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    last = len(widths) - 1

    def joined(line: list[str]) -> str:
        padded = [
            cell.ljust(width) if i < num_text or i == last else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * w if i < num_text or i == last else "-" * (w - 1) + ":" for i, w in enumerate(widths)
    ]
    return [joined(lines[0]), joined(rule), *(joined(line) for line in lines[1:])]


def make_and_write(make: Callable[[], Table], *configs: Any) -> pathlib.Path:
    """Makes a table, takes the time of that and writes it; see `write_table`.

    Args:
        make: makes the table.
        *configs: the command's configurations (dataclasses), recorded as its flags; the first
            `out_dir` among their fields is the folder.

    Returns:
        Path of the .json file.
    """
    flags: dict[str, Any] = {}
    for config in configs:
        flags = dataclasses.asdict(config) | flags
    started = time.monotonic()
    table = make()
    seconds = time.monotonic() - started
    return write_table(table, flags["out_dir"], flags=dict(sorted(flags.items())), seconds=seconds)


def write_table(
    table: Table, out_dir: str | pathlib.Path, *, flags: dict[str, Any], seconds: float
) -> pathlib.Path:
    """Writes `<name>.json` and `<name>.md` into a folder and the table to the terminal.

    Args:
        table: the table.
        out_dir: folder, made if need be.
        flags: flag name -> value of the command that made it.
        seconds: wall-clock time that it took.

    Returns:
        Path of the .json file.
    """
    path = pathlib.Path(out_dir) / f"{table.name}.json"
    record = {
        **dataclasses.asdict(table),
        "flags": flags,
        "seed": flags.get("seed"),
        "seconds": round(seconds, 1),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
    }
    origin = f"Made in {seconds:.0f} s at commit {(record['commit'] or 'unknown')[:12]}"
    seed = f", seed {record['seed']}" if record["seed"] is not None else ""
    origin += f"{seed}; flags, versions and all details: {path.name}."
    text = markdown(dataclasses.replace(table, notes=[*table.notes, origin]))
    write_json(path, record)
    write_whole(path.with_suffix(".md"), text)
    sys.stdout.write(text)
    return path


def read_table(path: str | pathlib.Path) -> tuple[Table, dict[str, Any]]:
    """Reads a table's .json file.

    Returns:
        The table, and what else the file holds: flags, seed, seconds, commit, versions.

    Raises:
        UserError: if there is no such file, or it holds no table.
    """
    advice = "it is no table of this version; run its script again"
    try:
        record = read_json(path, dict[str, Any], advice)
    except FileNotFoundError as error:
        raise UserError(f"no table in {path}: {error.strerror}; run its script first") from error
    table, facts = check(path, record, Table, advice), check(path, record, _Facts, advice)
    return table, {
        **{name: value for name, value in record.items() if name not in _TABLE_FIELDS},
        **dataclasses.asdict(facts),
    }
