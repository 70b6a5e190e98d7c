"""An iterator that runs ahead of its reader: files are decoded while the network computes."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Iterator[T], Generic[T]):
    """Takes the items of an iterable in a thread, at once and up to `size` of them ahead.

    Whatever the iterable raises is raised where its next item would have come.
    """

    def __init__(self, items: Iterable[T], size: int):
        """Starts; `close` it unless all items are taken."""
        self._taken: queue.Queue = queue.Queue(size)
        self._is_closed = False
        # A daemon, so that a program that ends does not wait for it.
        self._thread = threading.Thread(target=self._run, args=(iter(items),), daemon=True)
        self._thread.start()

    def _run(self, items: Iterator[T]) -> None:
        end: BaseException = StopIteration()
        try:
            for item in items:
                self._taken.put((item, None))
                if self._is_closed:
                    break
        except BaseException as error:  # Ctrl-C is the reader's, too
            end = error
        finally:
            if hasattr(items, "close"):
                items.close()
            self._taken.put((None, end))

    def __next__(self) -> T:
        """Returns the next item; waits for it."""
        item, end = self._taken.get()
        if end is not None:
            self._taken.put((None, end))
            raise end
        return item

    def close(self) -> None:
        """Ends the iterable, as `close` of a generator does, and waits for that."""
        self._is_closed = True
        while self._thread.is_alive():
            try:
                self._taken.get(timeout=0.01)
            except queue.Empty:
                continue
        self._taken = queue.Queue()
        self._taken.put((None, StopIteration()))
