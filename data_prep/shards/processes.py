"""Writes shards on one machine: a process per processor, one shard at a time each."""

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import cast

from data_prep.parallel import num_processors
from data_prep.shards import writer
from data_prep.shards.clip_records import Outcome
from data_prep.shards.writer import Job
from l3net.errors import UserError
from l3net.media import ffmpeg
from l3net.progress import Progress, progress


def write_shards(shards: Mapping[str, int], job: Job, *, num_workers: int | None = None) -> None:
    """Writes shards that are not finished.

    Args:
        shards: name -> number of rows.
        job: what they have in common.
        num_workers: None is a process per processor.

    Raises:
        UserError: if the disk refuses or a worker died.
    """
    # Large shards first, so that none is left alone at the end.
    names = sorted(shards, key=lambda name: -shards[name])
    num_workers = min(num_workers or num_processors(), len(names))
    with progress("preparing", unit="clip", total=sum(shards.values())) as shown:
        if num_workers <= 1:
            for name in names:
                writer.write_shard(name, job, lambda _: shown.advance())
        else:
            _run_in_processes(names, job, num_workers, shown)


def worker_context() -> ForkServerContext:
    """Returns how workers are started: TensorFlow is imported once, in a process without threads.

    The workers, its children, share that memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["l3net.data.schema", ffmpeg.__name__])
    return context


def _run_in_processes(names: Sequence[str], job: Job, num_workers: int, shown: Progress) -> None:
    # One connection per worker and no shared queue: a killed worker leaves no lock behind, and
    # its closed connection shows that it died.
    context = worker_context()
    waiting = list(reversed(names))
    busy: dict[Connection, ForkServerProcess] = {}
    processes = []
    try:
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, job), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            busy[ours] = process
            ours.send(waiting.pop())
        while busy:
            for ready in multiprocessing.connection.wait(list(busy)):
                _on_message(cast(Connection, ready), busy, waiting, shown)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _on_message(
    connection: Connection,
    busy: dict[Connection, ForkServerProcess],
    waiting: list[str],
    shown: Progress,
) -> None:
    """Takes one message of a worker: an outcome, an error, or None: the shard is done."""
    try:
        message = connection.recv()
        if isinstance(message, UserError):
            raise message
        if isinstance(message, Outcome):
            shown.advance()
        elif waiting:
            connection.send(waiting.pop())
        else:
            connection.send(None)
            busy.pop(connection)
    except (EOFError, ConnectionError):
        process = busy[connection]
        process.join()
        raise UserError(
            f"a worker process died (exit status {process.exitcode}; -9 is often a lack of "
            "memory); finished shards are kept: run the same command again, perhaps with a "
            "smaller --num_workers"
        ) from None


def _work(connection: Connection, job: Job) -> None:
    """Body of a worker process: shards to write come in, outcomes go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    with contextlib.suppress(EOFError, ConnectionError):  # the main process is gone
        while shard := connection.recv():
            try:
                writer.write_shard(shard, job, connection.send)
            except UserError as error:
                connection.send(error)
                return
            connection.send(None)
