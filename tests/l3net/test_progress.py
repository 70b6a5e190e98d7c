import io
import logging
import sys
import time

import pytest

from l3net import progress


@pytest.fixture
def messages(monkeypatch):
    """What a log file gets, with a line each 50 ms."""
    lines: list[str] = []
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress._log, "info", lambda form, line: lines.append(form % line))
    return lines


def _wait_for(messages, num: int) -> None:
    end = time.monotonic() + 20
    while len(messages) < num and time.monotonic() < end:
        time.sleep(0.01)
    assert len(messages) >= num


def test_a_log_file_gets_lines_also_within_one_long_unit(messages):
    with progress.progress("features", unit="clip", total=3) as shown:
        _wait_for(messages, 2)
        assert messages[1] == "features: 0 of 3 clips, 0:00:00 so far"
        shown.advance(2)
        shown.note("1 failed")
        _wait_for(messages, len(messages) + 2)
        assert messages[-1] == "features: 2 of 3 clips, 0:00:00 left, 1 failed"
    num = len(messages)
    time.sleep(0.15)
    assert len(messages) == num  # it ended


def test_work_without_items_shows_that_it_goes_on_and_an_error_ends_it(messages):
    with progress.progress("fitting the linear SVM"):
        _wait_for(messages, 1)
    assert messages[0] == "fitting the linear SVM: 0:00:00 so far"
    num = len(messages)
    with pytest.raises(ValueError), progress.progress("failing"):
        raise ValueError
    time.sleep(0.15)
    assert len(messages) == num


def test_several_short_works_are_not_silent_together(messages, monkeypatch):
    monkeypatch.setattr(progress, "_LEAST_SECONDS", 0.01)
    progress._last_line_seconds = time.monotonic()
    for number in range(4):
        with progress.progress(f"work {number}"):
            time.sleep(0.04)
    assert messages


def test_short_work_is_silent(caplog):
    caplog.set_level(logging.INFO, "l3net.progress")
    assert list(progress.track(range(3), "counting")) == [0, 1, 2]
    assert not caplog.messages


@pytest.mark.parametrize(
    ("settings", "done", "seconds", "line"),
    [
        ({"total": 400}, 12, 6.0, "w: 12 of 400 items, 0:03:14 left"),
        ({"total": 400}, 400, 6.0, "w: 400 of 400 items"),
        ({"total": None}, 12, 4000.0, "w: 12 items, 1:06:40 so far"),
        ({"total": 40, "done": 20}, 0, 6.0, "w: 20 of 40 items, 0:00:06 so far"),
        ({"total": 40, "done": 20}, 10, 6.0, "w: 30 of 40 items, 0:00:06 left"),
        ({"total": 40, "shows_times": False}, 10, 6.0, "w: 10 of 40 items"),
    ],
)
def test_a_line(monkeypatch, settings, done, seconds, line):
    clock = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    shown = progress.Progress("w", "item", **settings)
    shown.advance(done)
    assert shown.line() == line


def test_a_terminal_gets_a_bar(monkeypatch, caplog):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_SECONDS_BEFORE_BAR", 0.0)
    for _ in progress.track(iter("abc"), "reading", unit="file", total=3):
        time.sleep(0.12)
    assert "reading:  33%" in terminal.getvalue() and "1/3" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")  # it disappears
    assert not caplog.messages


def test_a_line_is_written_past_the_bar(capsys):
    progress.write_line("accuracy 78 %")
    assert capsys.readouterr().out == "accuracy 78 %\n"
