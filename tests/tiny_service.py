"""The service that prepares pairs, in a process of its own on loopback."""

import contextlib
import pathlib
import socket
import time
from collections.abc import Iterator

from tests import commands

ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def running() -> Iterator[tuple[str, int]]:
    """Starts `l3net.data_service`; yields its address and its process, and ends it."""
    port = _free_port()
    process = commands.start("-m", "l3net.data_service", f"--port={port}", cwd=ROOT)
    try:
        while not _answers(port + 1):  # the worker starts last
            assert not process.poll(), process.communicate(1)
            time.sleep(0.05)
        yield f"grpc://localhost:{port}", process.pid
    finally:
        process.kill()
        process.communicate(60)


def _free_port() -> int:
    """Returns a port that is free, as the next one is."""
    while True:
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            first = opened.enter_context(socket.create_server(("localhost", 0)))
            port = first.getsockname()[1]
            opened.enter_context(socket.create_server(("localhost", port + 1)))
            return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
        return True
    return False
