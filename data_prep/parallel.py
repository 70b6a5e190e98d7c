"""Calls a function with many items, in several processes."""

import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

from l3net.errors import UserError
from l3net.progress import track

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def num_processors() -> int:
    """Returns how many processors this process may use: a container has fewer than its machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    what: str,
    *,
    unit: str = "clip",
    num_workers: int | None = None,
) -> list[_Result]:
    """Calls a function with each item, in `num_workers` processes (None: one per processor).

    All are pickled; `what` is shown beside the progress, counted in `unit`.

    Returns:
        What the function returned, in the order of the items.

    Raises:
        UserError: if a worker died; and what the function raises.
    """
    num_workers = min(num_workers or num_processors(), len(items))
    if num_workers <= 1:
        return [function(item) for item in track(items, what, unit=unit)]
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process; the first one alone answers it.
    executor = concurrent.futures.ProcessPoolExecutor(
        num_workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        futures = [executor.submit(function, item) for item in items]
        done = concurrent.futures.as_completed(futures)
        for future in track(done, what, unit=unit, total=len(items)):
            future.result()  # an error ends it all at once
        return [future.result() for future in futures]
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker died (out of memory?); run the same command again, with fewer processes "
            "(--num_workers)"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)
