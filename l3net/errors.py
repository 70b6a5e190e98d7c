"""Errors for people: one line that says what was got, what is allowed and what to do."""

import contextlib
import re
from collections.abc import Iterator

_MOST_CHARACTERS = 500
_MOST_OF_MESSAGE, _END_OF_MESSAGE = 1500, 300  # what to do is at the end
_OF_TENSORFLOW = re.compile(r"\{\{\w+ [^{}]*\}\}| \[Op:\w+\]")


class UserError(Exception):
    """A mistake that the user can mend; its message is one complete line.

    Any module may raise it; `l3net.flags.run` shows it.

    Attributes:
        status: the command's exit status.
    """

    status = 1

    def __str__(self) -> str:
        """Returns the message; strangers' names and values in it may have any sign and length."""
        text = printable(super().__str__())
        if len(text) > _MOST_OF_MESSAGE:
            return f"{text[:-_END_OF_MESSAGE][:_MOST_OF_MESSAGE]} … {text[-_END_OF_MESSAGE:]}"
        return text


def printable(text: str) -> str:
    """Returns a text that stays on its line, moves no cursor and can be written as UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; its type if it has none.

    Names of nodes and operations, which TensorFlow puts around it, are left out, and what is
    behind `_MOST_CHARACTERS`: errors quote the values of damaged files.
    """
    line = next(iter(str(error).strip().splitlines()), "")
    line = _OF_TENSORFLOW.sub("", line).strip() or type(error).__name__
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}…"


@contextlib.contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Guards imports of optional packages, done where they are used and nowhere else.

        with needs_extra("flow", "optical flow"):
            import cv2

    Args:
        extra: which of the package's extras brings them (setup.cfg).
        purpose: what needs them, the beginning of the message.

    Raises:
        UserError: if one is not installed; it names the extra.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{purpose} needs a package that is not installed ({first_line(error)}); "
            f"run pip install 'l3net[{extra}]'"
        ) from error
