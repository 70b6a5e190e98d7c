"""Runs a command and notes how long it took; tells where the time of many commands went.

    python -m eval.reporting.times --log=runs/times.tsv --name=table2 -- COMMAND
    python -m eval.reporting.times --log=runs/times.tsv

The log has a line `name<TAB>seconds` per command that succeeded. `make reproduce-all` uses it.
"""

import functools
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from absl import flags

from l3net import errors
from l3net.errors import UserError


def run(command: Sequence[str], log: pathlib.Path, name: str) -> int:
    """Runs a command and appends its time to the log if it succeeds.

    Args:
        command: program and arguments.
        log: file; made if need be.
        name: of what it makes.

    Returns:
        The command's exit status, as a shell gives it (128 + n for signal n).

    Raises:
        UserError: if the command cannot be started.
    """
    started = time.monotonic()
    # The command gets an interrupt as well (what is handled here is default there), and ends in its
    # own way.
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.Popen(command).wait()
    except OSError as error:
        raise UserError(f"cannot run {command[0]}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGINT, handler)
    if status == 0:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"{name}\t{time.monotonic() - started:.1f}\n")
    return status if status >= 0 else 128 - status


def summary(log: pathlib.Path) -> str:
    """Tells where the time went.

    Args:
        log: that `run` wrote; may be missing.

    Returns:
        Lines of name, seconds and share, those of one name together, the longest first.
    """
    spent: dict[str, float] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        name, seconds = line.split("\t")
        spent[name] = spent.get(name, 0.0) + float(seconds)
    total = sum(spent.values())
    if not spent:
        return "Everything was there already: nothing had to be run."
    lines = [
        f"{seconds:8.0f} s  {100 * seconds / total:3.0f} %  {name}"
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1])
    ]
    return "\n".join(["Where the time went:", *lines, f"{total:8.0f} s         in all"])


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Runs the command after the flags, or prints the summary where there is none."""
    log = pathlib.Path(holders["log"].value)
    if len(argv) == 1:
        sys.stdout.write(summary(log) + "\n")
        return
    if not holders["name"].value:
        raise UserError("--name is needed with a command: what does it make?")
    status = run(argv[1:], log, holders["name"].value)
    if status:
        sys.exit(status)


def _define_flags() -> dict[str, flags.FlagHolder]:
    return {
        "log": flags.DEFINE_string("log", "runs/times.tsv", "File of names and seconds."),
        "name": flags.DEFINE_string("name", None, "What the command makes."),
    }


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
