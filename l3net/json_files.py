"""JSON files: written with a checksum, and checked where they are read, field by field.

Also those that others publish, which have none, and files of one JSON object a line.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from l3net.errors import UserError, first_line
from l3net.files import regular, write_whole

CHECKSUM = "checksum"
_Content = TypeVar("_Content")
_ERRORS = (OSError, ValueError, RecursionError, OverflowError)


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
            text = pathlib.Path(regular(path)).read_text(encoding="utf-8-sig")
        else:
            text = path.read_text()
        content = _parsed(text)
        checksum = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        if checksum is not None and checksum != _checksum(content):
            raise ValueError("its checksum is not that of its content")
        _check_kind(content, kind)
        return msgspec.convert(content, kind, str_keys=True)
    except FileNotFoundError:
        raise
    except _ERRORS as error:
        raise UserError(f"{path} is damaged ({plain(error)}); {advice}") from error


def _check_kind(content: Any, kind: type) -> None:
    """Raises ValueError for a file of another kind, where every member of this one may be left out.

    Without any member there is nothing to tell it by.
    """
    if not (dataclasses.is_dataclass(kind) and isinstance(content, dict) and content):
        return
    names = {field.name for field in dataclasses.fields(kind)}
    if names.isdisjoint(content):
        raise ValueError(f"it has none of {', '.join(sorted(names))}")


def read_published(path: str | pathlib.Path, kind: type[_Content], need: str) -> _Content:
    """Reads a JSON file that others made, such as a data set's official list.

    Args:
        path: the file.
        kind: see `read_json`.
        need: what it has to be, for the message.

    Returns:
        The content.

    Raises:
        UserError: if there is no such file or it is another one.
    """
    try:
        content = _parsed(pathlib.Path(regular(path)).read_text(encoding="utf-8-sig"))
        return msgspec.convert(content, kind, str_keys=True)
    except _ERRORS as error:
        reason = getattr(error, "strerror", None) or plain(error)
        raise UserError(f"cannot read {path} ({reason}); need {need}") from error


def read_lines(path: str | pathlib.Path, kind: type) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line; a last line that was cut off is left out.

    Args:
        path: the file.
        kind: what every line must have, a dataclass; it may have more.

    Raises:
        FileNotFoundError: if there is no such file.
        UserError: if a line is damaged.
    """
    text = pathlib.Path(regular(path)).read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")[:-1]  # behind the last end of line is nothing, or half a line
    return [_line(path, number, line, kind) for number, line in enumerate(lines, 1)]


def _line(path: str | pathlib.Path, number: int, line: str, kind: type) -> dict[str, Any]:
    try:
        content = _parsed(line)
        msgspec.convert(content, kind)
        return content
    except _ERRORS as error:
        raise UserError(
            f"line {number} of {path} is damaged ({plain(error)}); delete that line"
        ) from error


def _parsed(text: str) -> Any:
    """Parses JSON; text that UTF-8 cannot hold, which JSON can (half a pair), is an error."""
    content = json.loads(text)
    if "\\ud" in text.lower():
        json.dumps(content, ensure_ascii=False).encode()
    return content


def parse(path: str | pathlib.Path, text: str, kind: type[_Content], advice: str) -> _Content:
    """Returns JSON text that a file holds as a `kind`, or raises UserError; see `read_json`."""
    try:
        return msgspec.convert(_parsed(text), kind, str_keys=True)
    except _ERRORS as error:
        raise UserError(f"{path} is damaged ({plain(error)}); {advice}") from error


def check(path: str | pathlib.Path, content: Any, kind: type[_Content], advice: str) -> _Content:
    """Returns a part of a file's content as a `kind`, or raises UserError; see `read_json`."""
    try:
        return msgspec.convert(content, kind, str_keys=True)
    except _ERRORS as error:
        raise UserError(f"{path} is damaged ({plain(error)}); {advice}") from error


def plain(error: Exception) -> str:
    """Says what is wrong with a JSON text: "num_clips: expected `int`, got `str`"."""
    text, _, where = first_line(error).partition(" - at `")
    where = where.rstrip("`").removeprefix("$").lstrip(".")
    return f"{where}: {text[:1].lower()}{text[1:]}" if where else text


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
