"""Progress of long work: a bar on a terminal, a line every 20 s in a log file."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

LINE_SECONDS = 20.0
_Item = TypeVar("_Item")
_log = logging.getLogger(__name__)


class Progress:
    """How far some work is; from `progress`.

    Attributes:
        done: units that are done.
        total: units in all; None if nobody knows.
    """

    def __init__(self, what: str, unit: str, total: int | None, bar: tqdm.tqdm | None):
        self.done, self.total = 0, total
        self._what, self._unit, self._bar = what, unit, bar
        self._start, self._note = time.monotonic(), ""

    def advance(self, num: int = 1) -> None:
        """Counts units as done."""
        self.done += num
        if self._bar is not None:
            self._bar.update(num)

    def note(self, text: str) -> None:
        """Shows a few words behind the numbers, such as "2 failed"."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def line(self) -> str:
        """Returns what a log file gets, such as "MFCC: 12 of 400 recordings, 0:03:10 left"."""
        seconds = time.monotonic() - self._start
        if not self.total:
            done = f"{self.done} {self._unit}s, " if self.done else ""
            text = f"{self._what}: {done}{_clock(seconds)} so far"
        else:
            text = f"{self._what}: {self.done} of {self.total} {self._unit}s"
            if 0 < self.done < self.total:
                text += f", {_clock(seconds / self.done * (self.total - self.done))} left"
            elif not self.done:
                text += f", {_clock(seconds)} so far"
        return f"{text}, {self._note}" if self._note else text


@contextlib.contextmanager
def progress(what: str, *, unit: str = "item", total: int | None = None) -> Iterator[Progress]:
    """Shows how far some work is while it runs.

    On a terminal it is a bar that disappears at the end. Elsewhere it is a line in the log every
    20 s, also while a single unit takes longer; work that is done sooner writes none.

    Args:
        what: the work, in a few words.
        unit: what is counted, in the singular.
        total: units in all; None if nobody knows.

    Yields:
        What counts them.
    """
    if sys.stderr.isatty():
        with tqdm.tqdm(
            total=total, desc=what, unit=unit, dynamic_ncols=True, leave=False, delay=0.5
        ) as bar:
            yield Progress(what, unit, total, bar)
        return
    made, ended = Progress(what, unit, total, None), threading.Event()
    thread = threading.Thread(target=_write_lines, args=(made, ended), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        ended.set()
        thread.join()


def track(
    items: Iterable[_Item], what: str, *, unit: str = "item", total: int | None = None
) -> Iterator[_Item]:
    """Yields items and shows how many have been worked on; see `progress`."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with progress(what, unit=unit, total=total) as shown:
        for item in items:
            yield item
            shown.advance()


def _write_lines(shown: Progress, ended: threading.Event) -> None:
    while not ended.wait(LINE_SECONDS):
        _log.info("%s", shown.line())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
