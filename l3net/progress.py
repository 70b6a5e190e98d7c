"""Progress of long work: a bar on a terminal, a line every 20 s in a log file."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

import tqdm

LINE_SECONDS = 20.0
_LEAST_SECONDS = 1.0
_SECONDS_BEFORE_BAR = 0.5
_WITHOUT_TIMES = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
_Item = TypeVar("_Item")
_log = logging.getLogger(__name__)
_last_line_seconds = time.monotonic()


class Progress:
    """How far some work is; from `progress`.

    Attributes:
        done: units that are done.
        total: units in all; None if nobody knows.
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: int | None,
        *,
        done: int = 0,
        shows_times: bool = True,
        bar: tqdm.tqdm | None = None,
    ):
        self.done, self.total = done, total
        self._what, self._unit, self._shows_times, self._bar = what, unit, shows_times, bar
        self._start, self._first, self._note = time.monotonic(), done, ""

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
        seconds, new = time.monotonic() - self._start, self.done - self._first
        of_total = f" of {self.total}" if self.total else ""
        parts = [f"{self.done}{of_total} {self._unit}s"] if self.done or self.total else []
        if not new or not self.total:
            parts.append(f"{_clock(seconds)} so far")
        elif self._shows_times and self.done < self.total:
            parts.append(f"{_clock(seconds / new * (self.total - self.done))} left")
        return f"{self._what}: {', '.join([*parts, *filter(None, [self._note])])}"


@contextlib.contextmanager
def progress(
    what: str,
    *,
    unit: str = "item",
    total: int | None = None,
    done: int = 0,
    shows_times: bool = True,
) -> Iterator[Progress]:
    """Shows how far some work is while it runs.

    On a terminal it is a bar that disappears at the end. Elsewhere it is a line in the log every
    20 s, also while a single unit takes longer, and over several works: when the last line is older
    than that, the next work writes one after 1 s.

    Args:
        what: the work, in a few words.
        unit: what is counted, in the singular.
        total: units in all; None if nobody knows.
        done: units that an earlier process has done.
        shows_times: whether to guess the time left; False if a note says it.

    Yields:
        What counts them.
    """
    if sys.stderr.isatty():
        with tqdm.tqdm(
            total=total,
            initial=done,
            desc=what,
            unit=unit,
            bar_format=None if shows_times else _WITHOUT_TIMES,
            dynamic_ncols=True,
            leave=False,
            delay=_SECONDS_BEFORE_BAR,
        ) as bar:
            yield Progress(what, unit, total, done=done, shows_times=shows_times, bar=bar)
        return
    made = Progress(what, unit, total, done=done, shows_times=shows_times)
    ended = threading.Event()
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
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(what, unit=unit, total=total) as shown:
        for item in items:
            yield item
            shown.advance()


def write_line(text: str) -> None:
    """Writes a line to standard output, past a bar."""
    tqdm.tqdm.write(text)


def _write_lines(shown: Progress, ended: threading.Event) -> None:
    global _last_line_seconds
    least = min(_LEAST_SECONDS, LINE_SECONDS)
    while not ended.wait(max(least, _last_line_seconds + LINE_SECONDS - time.monotonic())):
        _last_line_seconds = time.monotonic()
        _log.info("%s", shown.line())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
