"""Rows and lines of the lists that data sets are published with."""

import csv
import pathlib
from collections.abc import Iterator

from l3net.errors import UserError


def csv_rows(path: str | pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, fields) of a UTF-8 CSV; empty lines and those that begin with # are left out.

    Raises:
        UserError: if it cannot be read as such.
    """
    try:
        # utf-8-sig: spreadsheet programs put a byte-order mark in front.
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            for fields in reader:
                if fields and not fields[0].startswith("#"):
                    yield reader.line_num, fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the list {path} as a UTF-8 CSV file: {error}") from error


def text_lines(path: str | pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of a UTF-8 file; empty lines and those that begin with # are left out.

    Raises:
        UserError: if it cannot be read as such.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line, text in enumerate(file, 1):
                if (text := text.strip()) and not text.startswith("#"):
                    yield line, text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path} as UTF-8 text: {error}") from error
