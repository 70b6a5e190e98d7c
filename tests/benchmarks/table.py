"""The one table of `make bench`: speeds beside a peer's and beside what limits them.

    python -m tests.benchmarks.table --out=runs/bench/bench.md runs/bench/*.json

The benchmarks write their rows with --out; this puts them together as Markdown.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from l3net import flags
from l3net.files import write_whole
from l3net.flags import setting
from tests.benchmarks.timing import say

_COLUMNS = {
    "what": "",
    "ours": ">",
    "beside": "",
    "ours / that": ">",
    "limit": "",
    "ours / limit": ">",
}
OUT_HELP = "File that gets rows of the table of `make bench`, as JSON."


@dataclasses.dataclass(frozen=True)
class Row:
    """A rate or a time, and how its speed compares: medians over rounds by turns."""

    what: str
    ours: float
    unit: str
    beside: str = ""  # the peer, or the other way to do it
    of_beside: float | None = None  # above 1: ours is faster
    limit: str = ""
    of_limit: float | None = None


@dataclasses.dataclass(frozen=True)
class Config:
    """Where the table goes."""

    out: str = setting("runs/bench/bench.md", "File that gets the table, as Markdown.")
    not_run: str = setting("", "What was not measured, to be said below the table.")


def write_rows(path: str | None, rows: Iterable[Row]) -> None:
    """Writes a benchmark's rows for this table, where a path is given."""
    if path is not None:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([dataclasses.asdict(row) for row in rows], indent=1)
        write_whole(pathlib.Path(path), text)


def head(columns: Mapping[str, str]) -> str:
    """Returns the first lines of a Markdown table; see `line`."""
    rulers = ("---:" if spec else "---" for spec in columns.values())
    return f"| {' | '.join(columns)} |\n|{'|'.join(rulers)}|"


def line(row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Returns a line of a Markdown table: columns are names and format specifications, "": text."""
    return f"| {' | '.join(format(row[name], spec) for name, spec in columns.items())} |"


def _shown(row: Row) -> dict[str, str]:
    ours = f"{row.ours:.3g}" if row.ours < 100 else f"{row.ours:,.0f}"
    return {
        "what": row.what,
        "ours": f"{ours} {row.unit}",
        "beside": row.beside or "—",
        "ours / that": _ratio(row.of_beside),
        "limit": row.limit or "—",
        "ours / limit": _ratio(row.of_limit),
    }


def _ratio(ratio: float | None) -> str:
    return "—" if ratio is None else f"{ratio:.2f}"


def main(paths: list[str], config: Config) -> None:
    """Reads the rows, prints and writes the table."""
    rows = [Row(**row) for path in paths for row in json.loads(pathlib.Path(path).read_text())]
    lines = [head(_COLUMNS), *(line(_shown(row), _COLUMNS) for row in rows)]
    text = "".join(f"{each}\n" for each in lines)
    if config.not_run:
        text += f"\nNot run: {config.not_run}.\n"
    say(text)
    write_whole(pathlib.Path(config.out), text)


if __name__ == "__main__":
    flags.run(main, Config, arguments="the files that benchmarks wrote with --out")
