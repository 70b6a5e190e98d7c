import io
import logging
import sys
import time

from l3net import progress
from l3net.training import loop
from l3net.training.journal import Journal
from l3net.training.step import TrainingConfig
from tests.tiny_training import make_shards, make_trainer

METRICS = {"split": "train", "loss": 0.5, "accuracy": 0.75, "pairs_per_second": 12.4}


def test_where_there_is_no_terminal_lines_are_rare(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.3)
    journal = Journal(tmp_path, num_steps=6, is_chief=True)
    with caplog.at_level(logging.INFO, "l3net"):
        journal.start(1)
        for step in (2, 4):
            journal.advance()
            journal.show({"step": step, **METRICS}, seconds_left=3661.4)
        time.sleep(0.45)
        journal.show({"step": 6, **METRICS}, seconds_left=0.0)
        journal.close()
    text = "training: 3 of 6 steps, loss 0.500, accuracy 0.750, 12 pairs/s"
    # One when it is due, and the last of all.
    assert caplog.messages == [f"{text}, 1:01:01 left", f"{text}, 0:00:00 left"]


def test_progress_in_a_terminal(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_SECONDS_BEFORE_BAR", 0.0)
    journal = Journal(tmp_path, num_steps=6, is_chief=True)
    journal.start(2)
    journal.advance()
    journal.show({"step": 3, **METRICS}, seconds_left=60.0)
    time.sleep(0.2)
    journal.advance()
    journal.close()
    assert "33%" in terminal.getvalue() and "4/6" in terminal.getvalue()
    assert "12 pairs/s, 0:01:00 left" in terminal.getvalue()


def test_other_workers_write_nothing(tmp_path, caplog):
    journal = Journal(tmp_path / "x", num_steps=6, is_chief=False)
    journal.start(0)
    journal.record({"step": 2, **METRICS})
    journal.show({"step": 2, **METRICS}, seconds_left=1.0)
    journal.show_pairs(0, {}, "corresponds")
    journal.close()
    assert not (tmp_path / "x").exists() and not caplog.messages


def test_time_left_counts_evaluations(tmp_path):
    """90 steps of 8 pairs at 4 pairs/s, and evaluations at 40, 80 and 100 of 5 s each."""
    trainer = make_trainer(make_shards(tmp_path / "shards"))
    schedule = loop.Schedule(num_steps=100, eval_every_steps=40)
    run = loop._Run(tmp_path / "run", trainer, schedule, None, TrainingConfig("x"))
    run._standing.step, run._eval_seconds = 10, 5.0
    assert run._seconds_left(4.0) == 90 * 8 / 4.0 + 3 * 5.0
