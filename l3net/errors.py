"""Errors for people: one line that says what was got, what is allowed and what to do.

Every ENTRY module ends with `errors.run(main)`; any module may raise `UserError`.
"""

import logging
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging


class UserError(Exception):
    """A mistake that the user can mend; its message is one complete line."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs an entry point: parses flags, logs to stderr, turns errors for people into one line.

    Exit status: 0 done; 1 a `UserError`; 2 unusable flags; 130 interrupted (Ctrl-C).

    Args:
        main: takes the positional arguments (program name first), returns None.
    """
    app.run(_with_one_line_errors(main), flags_parser=_parse_flags)


def _with_one_line_errors(main: Callable[[Sequence[str]], None]) -> Callable:
    def wrapped(argv: Sequence[str]) -> None:
        _show_own_logs()
        try:
            main(argv)
        except UserError as error:
            _exit(1, str(error))
        except KeyboardInterrupt:
            _exit(130, "interrupted; finished work is kept, run the same command to go on")

    return wrapped


def _show_own_logs() -> None:
    """Shows what our packages log; of TensorFlow and others only warnings."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    for package in ("__main__", "l3net", "data_prep", "eval"):
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
        logger.propagate = False


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    try:
        return flags.FLAGS(list(argv))
    except (flags.Error, OSError) as error:
        message = " ".join(str(error).split())
        _exit(2, f"{message} (--helpshort lists the flags)")


def _exit(status: int, message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    sys.exit(status)
