"""JSON files: written with a checksum, and checked where they are read, field by field."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from l3net.errors import UserError, first_line
from l3net.files import write_whole

CHECKSUM = "checksum"
_Content = TypeVar("_Content")


class Readable(Protocol):
    """A file that is on no disk; see `l3net.data.storage`."""

    def read_text(self) -> str:
        """Reads a file of UTF-8 text."""


def write_json(
    path: str | pathlib.Path, content: Mapping[str, Any], *, sort_keys: bool = False
) -> None:
    """Writes an object and, as its last member, a checksum of it."""
    fields = json.loads(json.dumps(content, sort_keys=sort_keys))  # as it will be read
    write_whole(path, json.dumps({**fields, CHECKSUM: _checksum(fields)}, indent=1) + "\n")


def read_json(path: str | pathlib.Path | Readable, kind: type[_Content], advice: str) -> _Content:
    """Reads a JSON file.

    A file without a checksum, as people write it, is taken as it is.

    Args:
        path: the file.
        kind: what must be in it: a dataclass, whose fields have types, or `dict[str, int]` and the
            like. Members that a dataclass does not know are left out.
        advice: what to do if it is damaged.

    Returns:
        The content.

    Raises:
        FileNotFoundError: if there is no such file.
        UserError: if it is no JSON, a member is missing or of another type, or its checksum is not
            that of its content.
    """
    try:
        if isinstance(path, str | pathlib.Path):
            text = pathlib.Path(path).read_text(encoding="utf-8-sig")
        else:
            text = path.read_text()
        content = json.loads(text)
        checksum = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        if checksum is not None and checksum != _checksum(content):
            raise ValueError("its checksum is not that of its content")
        return msgspec.convert(content, kind)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({plain(error)}); {advice}") from error


def check(path: str | pathlib.Path, content: Any, kind: type[_Content], advice: str) -> _Content:
    """Returns a part of a file's content as a `kind`, or raises UserError; see `read_json`."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is damaged ({plain(error)}); {advice}") from error


def plain(error: Exception) -> str:
    """Says what is wrong with a JSON text: "num_clips: expected `int`, got `str`"."""
    text, _, where = first_line(error).partition(" - at `")
    where = where.rstrip("`").removeprefix("$").lstrip(".")
    return f"{where}: {text[:1].lower()}{text[1:]}" if where else text


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
