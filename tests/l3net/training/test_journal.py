import io
import logging
import sys

from l3net.training import loop
from l3net.training.journal import Journal
from l3net.training.step import TrainingConfig
from tests.tiny_training import make_shards, make_trainer

METRICS = {"split": "train", "loss": 0.5, "accuracy": 0.75, "pairs_per_second": 12.4}


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_where_there_is_no_terminal_lines_are_rare(tmp_path, caplog):
    journal = Journal(tmp_path, num_steps=6, is_chief=True)
    journal.start(0)
    with caplog.at_level(logging.INFO, "l3net.training.loop"):
        for step in (2, 4, 6):
            journal.show({"step": step, **METRICS}, seconds_left=3661.4)
    text = "loss 0.500, accuracy 0.750, 12 pairs/s, 1:01:01 left"
    # The first, and the last of all; not the one in between.
    assert caplog.messages == [f"step 2 of 6: {text}", f"step 6 of 6: {text}"]


def test_progress_in_a_terminal(tmp_path, monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    journal = Journal(tmp_path, num_steps=6, is_chief=True)
    journal.start(2)
    journal.advance()
    journal.show({"step": 3, **METRICS}, seconds_left=60.0)
    journal.close()
    assert "50%" in terminal.getvalue() and "3/6 steps" in terminal.getvalue()
    assert "12 pairs/s, 0:01:00 left" in terminal.getvalue()


def test_other_workers_write_nothing(tmp_path, caplog):
    journal = Journal(tmp_path / "x", num_steps=6, is_chief=False)
    journal.start(0)
    journal.record({"step": 2, **METRICS})
    journal.show({"step": 2, **METRICS}, seconds_left=1.0)
    journal.show_pairs(0, {}, {}, "corresponds")
    journal.close()
    assert not (tmp_path / "x").exists() and not caplog.messages


def test_time_left_counts_evaluations(tmp_path):
    """90 steps of 8 pairs at 4 pairs/s, and evaluations at 40, 80 and 100 of 5 s each."""
    trainer = make_trainer(make_shards(tmp_path / "shards"))
    schedule = loop.Schedule(num_steps=100, eval_every_steps=40)
    run = loop._Run(tmp_path / "run", trainer, schedule, None, TrainingConfig("x"))
    run._standing.step, run._eval_seconds = 10, 5.0
    assert run._seconds_left(4.0) == 90 * 8 / 4.0 + 3 * 5.0
