"""Engines that do the same work, each in a process of its own, asked by turns.

A machine's speed drifts, so engines are compared round by round: each does the work once, and
ratios are of the same round. A turn is a second of work, for the first run after a pause is slow.
An engine's process calls `serve`. It may be of another Python without this package's requirements:
nothing but NumPy is needed here.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from l3net.errors import UserError

_REPOSITORY = pathlib.Path(__file__).parents[2]
_TURN_SECONDS = 1.0
MATRIX_PRODUCT = "matrix product"  # an engine's name
_SIDE = 2048  # of its matrices


def serve(work: Callable[[int], object]) -> None:
    """Answers requests until the input ends; a size that was not asked before is warmed up first.

    Args:
        work: does the work once; gets the size of the request, whatever that means.
    """
    warm = set()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        size = int(line)
        for _ in range(0 if size in warm else 2):
            work(size)
        warm.add(size)
        print(json.dumps(_turn(work, size)), flush=True)  # noqa: T201


def _turn(work: Callable[[int], object], size: int) -> tuple[float, float]:
    """Returns medians of seconds on the clock and of processor time over a second of work."""
    times: list[tuple[float, float]] = []
    while sum(wall for wall, _ in times) < _TURN_SECONDS:
        wall, processor = time.perf_counter(), time.process_time()
        work(size)
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return tuple(np.median(times, axis=0))


class Engine:
    """A process that answers with the time of its work."""

    def __init__(self, name: str, command: Sequence[str], errors: pathlib.Path):
        self.name, self._errors = name, errors
        self._process = subprocess.Popen(
            command,
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.open("w"),
            text=True,
        )
        self._answer()  # "ready"

    def seconds(self, size: int) -> tuple[float, float]:
        """Returns seconds on the clock and of processor time."""
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        return tuple(json.loads(self._answer()))

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            said = self._errors.read_text()[-500:]
            raise UserError(f"{self.name} failed: {json.dumps(said)}")
        return line


@contextlib.contextmanager
def started(commands: Mapping[str, Sequence[str]], folder: pathlib.Path) -> Iterator[list[Engine]]:
    """Starts engines, one after the other, by name; ends them in the end."""
    with contextlib.ExitStack() as stack:
        engines = []
        for name, command in commands.items():
            engines.append(Engine(name, command, folder / f"{name} errors.txt"))
            stack.callback(engines[-1].close)
        yield engines


def serve_matrix_product(precision: str) -> None:
    """Answers requests of any size with the time of TensorFlow's product of two matrices."""
    import tensorflow as tf

    a = tf.cast(tf.random.normal([_SIDE, _SIDE]), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.cast(tf.matmul(a, a), tf.float32)))
    serve(lambda _: product().numpy())


def times_of(engines: Sequence[Engine], size: int, rounds: int) -> dict[str, np.ndarray]:
    """Asks each engine once per round.

    Returns:
        float64 [rounds, 2] by the engine's name: seconds on the clock and of processor time.
    """
    turns = [[engine.seconds(size) for engine in engines] for _ in range(rounds)]
    times = np.array(turns, np.float64)
    return {engine.name: times[:, k] for k, engine in enumerate(engines)}


def rates(
    times: Mapping[str, np.ndarray], unit: str, num_items: int, gflop: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Yields a row of figures for each engine but the matrix product.

    Args:
        times: float64 [rounds] by the engine's name, the first ours, `MATRIX_PRODUCT` among them.
        unit: what is counted, such as "windows/s".
        num_items: how many of them are done in such a time.
        gflop: operations of an item by the engine's name, in 1e9.
    """
    ours = next(iter(times))
    per_gflop = times[MATRIX_PRODUCT] / (2 * _SIDE**3 / 1e9)
    for name, took in times.items():
        if name != MATRIX_PRODUCT:
            work = num_items * gflop[name]
            yield {
                "engine": name,
                unit: float(num_items / np.median(took)),
                f"of {ours}": float(np.median(times[ours] / took)),
                "GFLOP/s": float(work / np.median(took)),
                "of matrix product": float(np.median(per_gflop * work / took)),
            }
