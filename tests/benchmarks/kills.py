"""Kills commands at random moments, runs them again, and compares the end with an unbroken run's.

    python -m tests.benchmarks.kills [--kills=20] [--seed=0] [--world=FOLDER]

train, extract, search --add and export each get `--kills` times SIGKILL, and train `--terms` times
SIGTERM; after each the same command is run again, and perhaps killed again. A moment is drawn from
the time that the unbroken run takes, from its first instruction on. When a command comes to its end
between two kills, its results are compared and it begins with an empty folder; so they are at the
end. Compared are all files that two unbroken runs write alike (tests.all_commands), and weights.

Counts are written to kills.md.
"""

import dataclasses
import hashlib
import os
import pathlib
import random
import shutil
import signal
import statistics
import sys
import time

from l3net import flags, provenance
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.flags import setting
from l3net.progress import progress
from tests import all_commands, commands, tiny_sets, tiny_training
from tests.all_commands import COMMANDS, OUT, Command

REPORT = "kills.md"
_NUM_FILES = 40  # for extract and search
_NUM_STEPS = 30
_STOPPED = 143  # status of a command that SIGTERM ended, its work kept
_LIMIT_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Config:
    """How often."""

    kills: int = setting(20, "Number of SIGKILL for each command.", at_least=0)
    terms: int = setting(10, "Number of SIGTERM for training.", at_least=0)
    seed: int = setting(0, "Seed of the moments.", at_least=0)
    world: str | None = setting(
        None, "Folder of the inputs, made if need be; without the flag in --out_dir."
    )
    out_dir: str = setting("runs/kills", "Folder for the counts and for all that is made.")


@dataclasses.dataclass
class Job:
    """A command that is killed, and what became of it."""

    name: str
    command: Command
    signal: signal.Signals
    num: int  # of signals
    seconds: float = 0.0  # of an unbroken run
    alike: dict[str, str] = dataclasses.field(default_factory=dict)
    hits: int = 0  # signals that found it at work
    ends: int = 0  # runs that came to their end, with the same results
    left: int = 0  # temporary files that kills left
    stopped_after: list[float] = dataclasses.field(default_factory=list)  # seconds after SIGTERM


def _jobs(config: Config) -> list[Job]:
    train = (*COMMANDS["train"].arguments, f"--num_steps={_NUM_STEPS}")
    train += ("--checkpoint_every_seconds=0", "--eval_every_steps=10")
    work = {
        "extract": COMMANDS["extract"],
        "search --add": COMMANDS["search_add"],
        "export": COMMANDS["export"],
    }
    jobs = [Job(name, each, signal.SIGKILL, config.kills) for name, each in work.items()]
    train_job = Command(train, ("shards",))
    jobs.append(Job("train", train_job, signal.SIGTERM, config.terms))
    return [*jobs, Job("train", train_job, signal.SIGKILL, config.kills)]


# --- Runs ----------------------------------------------------------------------------------------
def _start(job: Job, folder: pathlib.Path) -> commands.Process:
    environment = all_commands.environment()
    return commands.start("-m", *job.command.arguments, cwd=folder, env=environment)


def _results(job: Job, folder: pathlib.Path) -> dict[str, str]:
    results = all_commands.results_of(job.command, folder)
    if job.name == "train":
        digest = hashlib.sha256()
        for array in tiny_training.weights(folder / OUT / "run"):
            digest.update(array.tobytes())
        results["weights"] = digest.hexdigest()
    return results


def _unbroken(job: Job, folder: pathlib.Path) -> None:
    """Runs the command twice; notes how long it takes and what is alike."""
    results = []
    for _ in range(2):
        shutil.rmtree(folder / OUT, ignore_errors=True)
        start = time.monotonic()
        _check_end(job, _start(job, folder))
        job.seconds = time.monotonic() - start
        results.append(_results(job, folder))
    first, second = results
    job.alike = {path: digest for path, digest in first.items() if second.get(path) == digest}


def _check_end(job: Job, process: commands.Process) -> None:
    _, error = process.communicate(_LIMIT_SECONDS)
    if process.returncode:
        raise UserError(f"{job.name} ended with {process.returncode}: {error[-2000:]}")


def _compare(job: Job, folder: pathlib.Path) -> None:
    """Compares what came of kills with the unbroken run; begins with an empty folder."""
    results = _results(job, folder)
    other = sorted(path for path, digest in job.alike.items() if results.get(path) != digest)
    if other:
        raise UserError(f"{job.name}: after {job.hits} kills there is another {other[0]}")
    job.ends += 1
    job.left += len(list((folder / OUT).rglob("*.tmp")))
    shutil.rmtree(folder / OUT)


def _strike(job: Job, folder: pathlib.Path, draw: random.Random) -> None:
    """Runs the command and sends the signal at a random moment, unless it ends before."""
    process, start = _start(job, folder), time.monotonic()
    moment = start + draw.uniform(0.0, job.seconds)
    while time.monotonic() < moment:
        if process.poll():
            _check_end(job, process)
            _compare(job, folder)
            return
        time.sleep(0.002)
    os.kill(process.pid, job.signal)
    sent = time.monotonic()
    _, error = process.communicate(_LIMIT_SECONDS)
    if process.returncode == 0:  # at its very end
        _compare(job, folder)
        return
    if process.returncode not in (-job.signal, _STOPPED):
        raise UserError(f"{job.name} ended with {process.returncode}: {error[-2000:]}")
    job.hits += 1
    if process.returncode == _STOPPED:
        job.stopped_after.append(time.monotonic() - sent)


# --- All -----------------------------------------------------------------------------------------
def main(config: Config) -> None:
    """Kills; fails if a result differs or a command cannot go on."""
    out_dir = pathlib.Path(config.out_dir)
    world = pathlib.Path(config.world or out_dir / "world")
    if not (world / "figures" / "figures.json").is_file():
        world.mkdir(parents=True, exist_ok=True)
        all_commands.make_world(world)
    jobs = _jobs(config)
    with progress("killing", unit="kill", total=sum(job.num for job in jobs)) as shown:
        for job in jobs:
            folder = out_dir / f"{job.name} {job.signal.name}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            all_commands.copy_reads(world, job.command, folder)
            for number in range(_NUM_FILES if "media" in job.command.reads else 0):
                tone = folder / "media" / f"tone{number:02d}.wav"
                tiny_sets.write_tone(tone, hz=200 + 20 * number, seconds=3)
            _unbroken(job, folder)
            shutil.rmtree(folder / OUT)
            draw = random.Random(f"{config.seed} {job.name} {job.signal}")
            while job.hits < job.num:
                before = job.hits
                _strike(job, folder, draw)
                shown.advance(job.hits - before)
                shown.note(f"{job.name}: {job.hits} hits, {job.ends} ends")
            _check_end(job, _start(job, folder))
            _compare(job, folder)
            _report(jobs, config)
    sys.stdout.write((out_dir / REPORT).read_text())


def _report(jobs: list[Job], config: Config) -> None:
    commit, date = (provenance.commit() or "unknown")[:12], time.strftime("%Y-%m-%d")
    lines = [
        f"{date}, commit {commit}, seed {config.seed}: every result was that of an unbroken run.",
        "",
        "| command | signal | hits | ends, alike | files compared | s, unbroken | files left |",
        "| ------- | ------ | ---: | ----------: | -------------: | ----------: | ---------: |",
    ]
    lines += [
        f"| {job.name} | {job.signal.name} | {job.hits} | {job.ends} | {len(job.alike)} | "
        f"{job.seconds:.0f} | {job.left} |"
        for job in jobs
        if job.hits
    ]
    if stopped := [seconds for job in jobs for seconds in job.stopped_after]:
        lines += ["", f"{len(stopped)} of the SIGTERM came when training had begun: it ended after"]
        lines[-1] += f" {statistics.median(stopped):.1f} s, at most {max(stopped):.1f} s."
    text = "\n".join(lines) + "\n"
    write_whole(pathlib.Path(config.out_dir) / REPORT, text)


if __name__ == "__main__":
    flags.run(main, Config)
