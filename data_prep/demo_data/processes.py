"""Makes the clips of a data set in several processes."""

import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from l3net.errors import UserError
from l3net.progress import track


def in_processes(
    make: Callable[[Any], None],
    plans: Sequence[Any],
    what: str,
    *,
    num_workers: int | None = None,
) -> None:
    """Calls `make` with each plan, in `num_workers` processes (None: one per processor).

    Both are pickled; `what` is shown beside the progress.

    Raises:
        UserError: if a worker died; and what `make` raises.
    """
    num_workers = min(num_workers or os.cpu_count() or 1, len(plans))
    if num_workers <= 1:
        for plan in track(plans, what, unit="clip"):
            make(plan)
        return
    # Spawned, not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process; the first one alone answers it.
    executor = concurrent.futures.ProcessPoolExecutor(
        num_workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        futures = [executor.submit(make, plan) for plan in plans]
        done = concurrent.futures.as_completed(futures)
        for future in track(done, what, unit="clip", total=len(plans)):
            future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker died (out of memory?); run the same command again, with a smaller num_workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)
