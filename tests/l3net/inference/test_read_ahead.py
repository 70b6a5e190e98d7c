import threading

import pytest

from l3net.inference.read_ahead import ReadAhead


def test_items_come_in_order_and_then_the_error():
    def items():
        yield from range(5)
        raise KeyboardInterrupt

    ahead = ReadAhead(items(), 2)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    for _ in range(2):  # and again, as often as asked
        with pytest.raises(KeyboardInterrupt):
            next(ahead)
    assert list(ReadAhead([], 1)) == []


def test_it_begins_at_once_and_stays_so_far_ahead():
    taken, third = [], threading.Event()

    def items():
        for number in range(9):
            taken.append(number)
            if number == 2:
                third.set()
            yield number

    ahead = ReadAhead(items(), 2)
    assert third.wait(10)  # two are held, the third waits for its place
    ahead.close()
    assert taken == [0, 1, 2] or taken == [0, 1, 2, 3]
    assert list(ahead) == []


def test_closing_ends_the_generator_in_its_thread():
    ended = []

    def items():
        try:
            yield from range(100)
        finally:
            ended.append(threading.current_thread())

    ahead = ReadAhead(items(), 1)
    assert next(ahead) == 0
    ahead.close()
    assert len(ended) == 1 and ended[0] is not threading.main_thread()
    ahead.close()
