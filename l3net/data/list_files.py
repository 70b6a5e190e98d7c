"""Rows and lines of the lists that data sets are published with, and of tables with names."""

import csv
import dataclasses
import pathlib
from collections import Counter
from collections.abc import Collection, Iterator

from l3net.errors import UserError
from l3net.files import regular
from l3net.json_files import read_published

ONTOLOGY = "AudioSet's ontology.json: a list of nodes with id, name and child_ids"


@dataclasses.dataclass(frozen=True)
class OntologyNode:
    """A class of AudioSet's ontology."""

    id: str
    name: str
    child_ids: list[str]


def csv_rows(
    path: str | pathlib.Path, *, what: str = "the list", plain: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, fields) of a UTF-8 CSV; empty lines and those that begin with # are left out.

    With `plain`, spaces are kept and # begins a field as any other: so tables are written.
    Messages call the file `what`.

    Raises:
        UserError: if it cannot be read as such.
    """
    try:
        # utf-8-sig: spreadsheet programs put a byte-order mark in front.
        with open(regular(path), newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=not plain, strict=True)
            for fields in reader:
                if fields and (plain or not fields[0].startswith("#")):
                    yield reader.line_num, fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {what} {path} as a UTF-8 CSV file: {error}") from error


def csv_table(
    path: str | pathlib.Path,
    columns: Collection[str],
    *,
    others: bool = True,
    optional: Collection[str] = (),
    what: str = "the list",
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, column -> field) of a UTF-8 CSV whose first line has the columns' names.

    Args:
        path: the file.
        columns: those that must be there.
        others: whether there may be more than `columns` and `optional`.
        optional: see `others`.
        what: what messages call the file.

    Raises:
        UserError: if it cannot be read as such, a column is missing, unknown or named twice, or a
            line has more or fewer fields.
    """
    rows = csv_rows(path, what=what, plain=True)
    line, names = next(rows, (1, []))
    twice = [name for name, count in Counter(names).items() if count > 1]
    known = others or set(names) <= {*columns, *optional}
    if twice or not known or not set(columns) <= set(names):
        need = f"need {'a CSV with the columns' if others else 'exactly'} {', '.join(columns)}"
        raise UserError(
            f"cannot read {path}, line {line}: got the columns {', '.join(names) or 'none'}; {need}"
            + (f", {twice[0]} but once" if twice else "")
        )
    for line, fields in rows:
        if len(fields) != len(names):
            raise UserError(
                f"{path}, line {line}: too many or too few fields; need {len(names)} (quote commas)"
            )
        yield line, dict(zip(names, fields, strict=True))


def text_lines(path: str | pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of a UTF-8 file; empty lines and those that begin with # are left out.

    Raises:
        UserError: if it cannot be read as such.
    """
    try:
        with open(regular(path), encoding="utf-8-sig") as file:
            for line, text in enumerate(file, 1):
                if (text := text.strip()) and not text.startswith("#"):
                    yield line, text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path} as UTF-8 text: {error}") from error


def ontology_nodes(path: str | pathlib.Path) -> list[OntologyNode]:
    """Reads AudioSet's ontology.json.

    Raises:
        UserError: if it cannot be read as such.
    """
    return read_published(path, list[OntologyNode], ONTOLOGY)
