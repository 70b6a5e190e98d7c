import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from l3net import flags, models, train
from l3net.data import input_pipeline
from l3net.data.service import DataService
from l3net.training import distribution, loop, step
from tests import commands, tiny_training

CONFIGS = pathlib.Path(__file__).parents[3] / "l3net" / "configs"
TENSORFLOW_NOTE = re.compile(r"WARNING: All log messages before absl|[IWE]\d{4} .*\.cc:\d+\]")


def _run(*arguments):
    return commands.run("-m", "l3net.train", *arguments)


def test_flags_text_repeats_the_run(tmp_path, shards):
    arguments = [*tiny_training.FLAGS, f"--shards={shards}", "--num_steps=2"]
    first = _run(*arguments, f"--run_dir={tmp_path / 'a'}")
    assert first.returncode == 0, first.stderr
    assert "AVC accuracy" in first.stdout and "8 fixed val pairs" in first.stdout
    assert re.search(r"2 of 2 steps, loss \S+, .*, \d+ pairs/s, 0:00:00 left\n", first.stderr)
    flagfile = tmp_path / "a" / "flags.txt"
    again = _run(f"--flagfile={flagfile}", f"--run_dir={tmp_path / 'b'}")
    assert again.returncode == 0, again.stderr
    assert flagfile.read_text() == (tmp_path / "b" / "flags.txt").read_text()
    assert again.stdout.replace(str(tmp_path / "b"), str(tmp_path / "a")) == first.stdout


def test_a_grid_of_learning_rates_is_one_command(tmp_path, shards):
    """One rate diverges; another run starts from the best one, and says so in its files."""
    arguments = [*tiny_training.FLAGS, f"--shards={shards}", "--num_steps=4"]
    arguments += ["--model=supervised_vision", "--num_classes=4"]
    grid = ["--learning_rate_grid=1e18,1e-4", f"--run_dir={tmp_path / 'grid'}"]
    done = _run(*arguments, *grid)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "grid" / "grid_search.md").read_text()
    assert done.stdout.endswith(table)
    rows = json.loads((tmp_path / "grid" / "grid_search.json").read_text())
    assert [bool(row["diverged"]) for row in rows] == [True, False]
    assert [row["is_best"] for row in rows] == [False, True]
    flag_lines = (tmp_path / "grid" / "learning_rate_0.0001" / "flags.txt").read_text().splitlines()
    assert "--learning_rate=0.0001" in flag_lines
    assert not [line for line in flag_lines if "grid" in line]
    best = next(row["run_dir"] for row in rows if row["is_best"])
    again = _run(*arguments, f"--init_from={best}", f"--run_dir={tmp_path / 'next'}")
    assert again.returncode == 0, again.stderr
    assert "0 variables stay random: none" in again.stderr
    content = json.loads((tmp_path / "next" / "training.json").read_text())
    assert content["training"]["init_from"] == [best]
    assert f"--init_from={best}" in (tmp_path / "next" / "flags.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_steps=1"], "--run_dir"),
        (["--num_steps=1", "--run_dir=x", "--shards=nowhere"], "shard folder nowhere does not"),
        (["--flagfile=nowhere.flags"], "nowhere.flags"),
        (["--num_steps=1", "--run_dir=x", "--shards=x", "--strategy=multi_worker"], "TF_CONFIG"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CONFIGS.parents[1]))
    _check_one_clear_line(_run(*arguments), message)
    assert not (tmp_path / "x").exists()


def _check_one_clear_line(done, message):
    assert done.returncode != 0
    assert message in done.stderr
    # TensorFlow 2.21 (Python 3.13) writes notes of its C++ side whatever the log level.
    lines = [line for line in done.stderr.splitlines() if not TENSORFLOW_NOTE.match(line)]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr


def test_start_up_says_nothing_else(tmp_path):
    """A whole process, in which TensorFlow starts, too; its log level is ours to set."""
    command = [sys.executable, "-m", "l3net.train", "--num_steps=1", f"--run_dir={tmp_path / 'x'}"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    _check_one_clear_line(done, "--shards is needed: ")
    assert not (tmp_path / "x").exists()


CONFIGURATIONS = (
    *(train.Config, distribution.Devices, models.ModelConfig),
    *(input_pipeline.PipelineConfig, DataService, step.TrainingConfig, loop.Schedule),
)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.flags")), ids=lambda path: path.name)
def test_every_flagfile_parses_and_says_what_it_reproduces(config):
    given = [f"--flagfile={config}", "--run_dir=x", "--shards=x", "--num_steps=1"]
    rest, parsed = flags.parse(given, *CONFIGURATIONS)
    assert not rest and [type(one) for one in parsed] == list(CONFIGURATIONS)
    text = flags.as_flagfile(*parsed)
    assert flags.parse(text.splitlines(), *CONFIGURATIONS)[1] == parsed
    if not config.name.endswith("common.flags"):
        head = [line for line in config.read_text().splitlines() if line.startswith("#")]
        for part in ("Command:", "Paper:", "Ours:", "Cost:"):
            assert any(part in line for line in head), part
