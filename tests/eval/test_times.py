import os
import signal
import subprocess
import sys

import pytest

from eval.reporting import times
from l3net.errors import UserError


def test_only_what_succeeds_is_noted_and_the_status_is_passed_on(tmp_path):
    log = tmp_path / "new" / "times.tsv"
    assert times.run([sys.executable, "-c", "pass"], log, "good") == 0
    assert times.run([sys.executable, "-c", "raise SystemExit(3)"], log, "bad") == 3
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert times.run([sys.executable, "-c", killed], log, "killed") == 128 + signal.SIGKILL
    (line,) = log.read_text().splitlines()
    name, seconds = line.split("\t")
    assert name == "good" and 0 <= float(seconds) < 60
    with pytest.raises(UserError, match="cannot run /no/such"):
        times.run(["/no/such"], log, "none")


def test_summary_adds_up_and_begins_with_the_longest(tmp_path):
    log = tmp_path / "times.tsv"
    assert "nothing had to be run" in times.summary(log)
    log.write_text("table2\t10.0\ntraining\t60.0\ntable2\t30.0\n")
    lines = times.summary(log).splitlines()
    assert lines[1].split() == ["60", "s", "60", "%", "training"]
    assert lines[2].split() == ["40", "s", "40", "%", "table2"]
    assert lines[3].split()[0] == "100"


def test_interrupt_lets_the_command_end_in_its_own_way(tmp_path):
    inner = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    command = [
        sys.executable,
        "-m",
        "eval.reporting.times",
        f"--log={tmp_path / 'log'}",
        "--name=x",
        "--",
    ]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", inner], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 7 and not (tmp_path / "log").exists()
