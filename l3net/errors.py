"""Errors for people: one line that says what was got, what is allowed and what to do."""


class UserError(Exception):
    """A mistake that the user can mend; its message is one complete line.

    Any module may raise it; `l3net.flags.run` shows it.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
