"""Shared by the benchmarks."""

import sys
import time
from collections.abc import Callable


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def seconds_of(run: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
