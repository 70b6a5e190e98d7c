"""SIGINT (Ctrl-C) and SIGTERM (Slurm, Kubernetes, spot machines) end a training in good order."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from l3net.errors import UserError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(UserError):
    """A signal asked for the end; what was done is in a checkpoint."""

    def __init__(self, number: int):
        super().__init__(
            f"stopped by {signal.Signals(number).name}; the last checkpoint has every step: "
            "run the same command to go on"
        )
        self.status = 128 + number


class _StopNow(BaseException):
    """What the handler of a signal raises: libraries wrap every Exception in one of their own."""


class StopRequest:
    """Whether a signal asked for the end.

    Attributes:
        signal: its number; 0 for none.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._may_raise = False

    def check(self) -> None:
        """Raises StoppedError if the end was asked for."""
        if self.signal:
            raise StoppedError(self.signal)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Lets a signal raise StoppedError in the middle of what is done inside."""
        self.check()
        self._may_raise = True
        try:
            yield
        except (Exception, _StopNow) as error:
            if self.signal:  # C++ makes an error of its own of what a callback raises
                raise StoppedError(self.signal) from error
            raise
        finally:
            self._may_raise = False

    def handle(self, number: int, _frame: object) -> None:
        """Takes a signal: the first asks, a second ends the process."""
        if self.signal:
            os._exit(128 + number)
        self.signal = number
        sys.stderr.write(
            f"\n{signal.Signals(number).name}: stopping after this step, with a checkpoint; once "
            "more ends at once and loses the steps since the last one\n"
        )
        if self._may_raise:
            raise _StopNow


@contextlib.contextmanager
def on_signals() -> Iterator[StopRequest]:
    """Turns signals into a request while something runs; outside the main thread, none come."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
