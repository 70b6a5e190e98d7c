"""Damages what commands read, at random, and runs them: none may break, hang or say the wrong.

    python -m tests.benchmarks.fuzz --seconds=3600 [--seed=0] [--only=extract,train]

The inputs are those of tests.all_commands, made once. A case is a command, one to three kinds of
damage (tests.mutations) in what it reads, and the command in a process of its own. It fails if

- there is a traceback, the process dies by a signal, or a refusal does not end in its one line;
- it takes longer than its time without damage twenty times over, and two minutes;
- it, or a process below it, has more than 1.5 GB of memory at once, TensorFlow's own included;
- it exits with 0 and other results than without damage, although every damaged file has a checksum
  of ours. Compared is what two runs without damage write alike;
- it leaves a temporary file.

The seed and the number of a case decide all about it: --first=N --cases=1 repeats case N. What
fails is kept in the folder failures: the inputs, the command line, what it said. Counts are written
to fuzz.json and fuzz.md.
"""

import collections
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import statistics
import sys
import time
from collections.abc import Iterator

from l3net import flags, provenance
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.flags import setting
from l3net.json_files import write_json
from l3net.progress import Progress, progress
from tests import all_commands, commands, mutations
from tests.all_commands import COMMANDS, Command

MOST_BYTES = 1_500_000_000
_KILLED_BYTES = 3 * MOST_BYTES  # before the machine suffers
_LEAST_SECONDS = 120.0
_MOST_LINE = 4000  # characters
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp$")  # `files.temporary_name`
OK, REFUSED, FAILED = "ok", "refused", "failed"
_DOORS = ("l3net", "data_prep", "eval")


@dataclasses.dataclass(frozen=True)
class Config:
    """How long, and what."""

    seconds: float = setting(600.0, "Seconds to go on for.", at_least=0)
    seed: int = setting(0, "Seed of all damage.", at_least=0)
    first: int = setting(0, "Number of the first case.", at_least=0)
    cases: int | None = setting(None, "Most cases; without the flag as many as there is time for.")
    only: tuple[str, ...] = setting((), "Names of the commands to run; without the flag all.")
    world: str | None = setting(
        None, "Folder of the inputs, made if need be; without the flag in --out_dir."
    )
    out_dir: str = setting("runs/fuzz", "Folder for the counts and for what fails.")


@dataclasses.dataclass(frozen=True)
class Clean:
    """What a command does without damage."""

    seconds: float
    peak_bytes: int
    results: dict[str, str]  # file -> digest, of files that are alike in two runs


@dataclasses.dataclass(frozen=True)
class Case:
    """What came of a case."""

    command: str
    damages: tuple[str, ...]
    outcome: str
    reason: str = ""  # of a failure
    seconds: float = 0.0
    peak_bytes: int = 0


# --- A run ---------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Ran:
    """A command that has ended, or was ended."""

    status: int
    stderr: str
    seconds: float
    peak_bytes: int
    stopped: str = ""  # why it was


def run(command: Command, folder: pathlib.Path, limit_seconds: float) -> Ran:
    """Runs a command in a folder; ends it at a limit of time or memory."""
    process = commands.start("-m", *command.arguments, cwd=folder, env=all_commands.environment())
    start, stopped = time.monotonic(), ""
    while not process.poll():
        time.sleep(0.02)
        if time.monotonic() - start > limit_seconds:
            stopped = f"after {limit_seconds:.0f} s"
        elif _memory_of(process.pid) > _KILLED_BYTES:
            stopped = f"at {_KILLED_BYTES / 1e9:.1f} GB"
        if stopped:
            process.kill()
    _, stderr = process.communicate(60)
    seconds = time.monotonic() - start
    return Ran(process.returncode, stderr, seconds, process.peak_bytes, stopped)


def _memory_of(pid: int) -> int:
    try:
        pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def failure_of(ran: Ran, folder: pathlib.Path) -> str:
    """Says what is wrong with a run, whatever its inputs were; "" if nothing is."""
    lines = [line for line in ran.stderr.splitlines() if line.strip()]
    if ran.stopped:
        return f"stopped {ran.stopped}"
    if "Traceback (most recent call last)" in ran.stderr:
        return f"traceback: {lines[-1][:200]}"
    if ran.status < 0:
        return f"ended by {signal.Signals(-ran.status).name}"
    if ran.peak_bytes > MOST_BYTES:
        return f"{ran.peak_bytes / 1e9:.2f} GB"
    if ran.status and not (lines and lines[-1].startswith("error: ")):
        return f"status {ran.status} without its line at the end"
    if max(map(len, lines), default=0) > _MOST_LINE:
        return "a line without end"
    partial = [path.name for path in folder.rglob(".*.tmp") if _TEMPORARY.search(path.name)]
    return f"left {partial[0]}" if partial else ""


# --- Without damage -----------------------------------------------------------------------------
def has_checksum(name: str) -> bool:
    """Returns whether any change of a file of the world must be seen."""
    path = pathlib.PurePath(name)
    if "saved_model" in path.parts or "saved_model_random" in path.parts:
        return path.name != "README.md"
    return path.parts[0] in ("shards", "features") and path.suffix not in (".csv", ".txt", ".html")


def measure(name: str, world: pathlib.Path, scratch: pathlib.Path) -> Clean:
    """Runs a command twice without damage; raises UserError if that fails."""
    command, ran, results = COMMANDS[name], [], []
    for _ in range(2):
        folder = _new(scratch / "clean")
        all_commands.copy_reads(world, command, folder)
        ran.append(run(command, folder, 600.0))
        if ran[-1].status or failure_of(ran[-1], folder):
            raise UserError(f"{name} fails without damage: {ran[-1].stderr[-500:]}")
        results.append(all_commands.results_of(command, folder))
    alike = {path: digest for path, digest in results[0].items() if results[1].get(path) == digest}
    return Clean(max(each.seconds for each in ran), max(each.peak_bytes for each in ran), alike)


def _new(folder: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- A case --------------------------------------------------------------------------------------
def damage(
    name: str, world: pathlib.Path, folder: pathlib.Path, draw: random.Random
) -> list[tuple[str, str]]:
    """Copies what a command reads and damages it; returns (file, kind of damage) each."""
    command, done = COMMANDS[name], []
    all_commands.copy_reads(world, command, folder)
    everything = sorted(path for path in world.rglob("*") if path.is_file())
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        # A folder first, then a file in it: a few lists count as much as many recordings.
        roots = [folder / read for read in command.reads]
        paths = _files(draw.choice(roots)) or [path for root in roots for path in _files(root)]
        if not paths:
            break
        path = draw.choice(paths)
        where = str(path.relative_to(folder))
        done.append((where, mutations.mutate(path, everything, draw)))
    return done


def _files(root: pathlib.Path) -> list[pathlib.Path]:
    paths = [root] if not root.is_dir() else root.rglob("*")
    return sorted(path for path in paths if path.exists() and stat.S_ISREG(path.lstat().st_mode))


def run_case(name: str, number: int, world: pathlib.Path, clean: Clean, config: Config) -> Case:
    """Runs one case; what fails is kept."""
    out_dir, draw = pathlib.Path(config.out_dir), random.Random(f"{config.seed} {number} {name}")
    folder = _new(out_dir / "case")
    damages = damage(name, world, folder, draw)
    command = COMMANDS[name]
    ran = run(command, folder, max(_LEAST_SECONDS, 20 * clean.seconds))
    reason = failure_of(ran, folder)
    covered = all(has_checksum(where) and kind in mutations.BYTES for where, kind in damages)
    if not reason and ran.status == 0 and covered:
        reason = _difference(clean.results, all_commands.results_of(command, folder))
    kinds = tuple(sorted({kind for _, kind in damages}))
    outcome = FAILED if reason else (OK if ran.status == 0 else REFUSED)
    if reason:
        kept = _new(out_dir / "failures" / f"{number}-{name}")
        damage(name, world, _new(kept / "inputs"), random.Random(f"{config.seed} {number} {name}"))
        told = [f"cd {kept / 'inputs'} && python -m {' '.join(command.arguments)}", reason]
        told += [f"{kind}: {where!r}" for where, kind in damages]
        (kept / "command.txt").write_text("\n".join(told) + "\n", errors="replace")
        (kept / "stderr.txt").write_text(ran.stderr, errors="replace")
    return Case(name, kinds, outcome, reason, ran.seconds, ran.peak_bytes)


def _difference(clean: dict[str, str], got: dict[str, str]) -> str:
    other = [path for path, digest in clean.items() if got.get(path) != digest]
    return f"status 0 and another {other[0]}" if other else ""


# --- All -----------------------------------------------------------------------------------------
def main(config: Config) -> None:
    """Fuzzes; fails if a case does."""
    out_dir = pathlib.Path(config.out_dir)
    names = list(config.only or COMMANDS)
    if unknown := set(names) - set(COMMANDS):
        raise UserError(f"unknown command(s) {sorted(unknown)}; there are {', '.join(COMMANDS)}")
    commands.preload(list(_rooms()))
    world = pathlib.Path(config.world or out_dir / "world")
    if not (world / "figures" / "figures.json").is_file():
        all_commands.make_world(_new(world))
    clean: dict[str, Clean] = {}
    cases: list[Case] = []
    start = time.monotonic()
    with progress("fuzzing", unit="second", total=round(config.seconds)) as shown:
        for case in _cases(names, world, clean, config, start):
            cases.append(case)
            _show(shown, cases, time.monotonic() - start)
    _report(cases, clean, config, time.monotonic() - start)
    if failed := [case for case in cases if case.outcome == FAILED]:
        raise UserError(f"{len(failed)} of {len(cases)} cases failed; see {out_dir / 'failures'}")


def _rooms() -> Iterator[str]:
    """Yields every module of ours but the commands, which a process imports itself."""
    for package in _DOORS:
        for path in sorted((all_commands.ROOT / package).rglob("*.py")):
            is_door = '\nif __name__ == "__main__"' in path.read_text()
            if not is_door and path.stem != "__main__":
                parts = path.relative_to(all_commands.ROOT).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _cases(
    names: list[str], world: pathlib.Path, clean: dict[str, Clean], config: Config, start: float
) -> Iterator[Case]:
    number = config.first
    while time.monotonic() - start < config.seconds:
        if config.cases is not None and number >= config.first + config.cases:
            return
        weights = [1 / COMMANDS[name].cost for name in names]
        chosen = random.Random(f"{config.seed} {number}").choices(names, weights)[0]
        if chosen not in clean:
            clean[chosen] = measure(chosen, world, pathlib.Path(config.out_dir))
        yield run_case(chosen, number, world, clean[chosen], config)
        number += 1


def _show(shown: Progress, cases: list[Case], seconds: float) -> None:
    counts = collections.Counter(case.outcome for case in cases)
    shown.advance(max(0, round(seconds) - shown.done))
    shown.note(", ".join(f"{counts[outcome]} {outcome}" for outcome in (OK, REFUSED, FAILED)))
    if cases[-1].outcome == FAILED:
        sys.stderr.write(f"\nfailed: {cases[-1].command}: {cases[-1].reason}\n")


def _report(cases: list[Case], clean: dict[str, Clean], config: Config, seconds: float) -> None:
    """Writes fuzz.json and fuzz.md."""
    out_dir = pathlib.Path(config.out_dir)
    counts = collections.Counter(case.outcome for case in cases)
    commit, date = (provenance.commit() or "unknown")[:12], time.strftime("%Y-%m-%d")
    peak = max((case.peak_bytes for case in cases), default=0)
    lines = [
        f"{date}, commit {commit}, seed {config.seed}, {seconds / 60:.0f} minutes: {len(cases)} "
        f"cases, {counts[OK]} done, {counts[REFUSED]} refused in one line, {counts[FAILED]} "
        f"failed; at most {peak / 1e9:.2f} GB.",
        "",
        "| command | cases | done | refused | failed | median s | GB, with and without damage |",
        "| ------- | ----: | ---: | ------: | -----: | -------: | --------------------------: |",
    ]
    for name, its in _grouped((case.command, case) for case in cases):
        gigabytes = max(case.peak_bytes for case in its), clean[name].peak_bytes
        median = statistics.median(case.seconds for case in its)
        size = " / ".join(f"{value / 1e9:.2f}" for value in gigabytes)
        lines.append(f"| {name} | {_numbers(its)} | {median:.1f} | {size} |")
    lines += ["", "| damage | cases | done | refused | failed |"]
    lines += ["| ------ | ----: | ---: | ------: | -----: |"]
    pairs = ((kind, case) for case in cases for kind in case.damages)
    lines += [f"| {kind} | {_numbers(its)} |" for kind, its in _grouped(pairs)]
    write_whole(out_dir / "fuzz.md", "\n".join(lines) + "\n")
    write_json(out_dir / "fuzz.json", {"cases": [dataclasses.asdict(case) for case in cases]})
    sys.stdout.write("\n".join(lines) + "\n")


def _grouped(pairs) -> list[tuple[str, list[Case]]]:
    groups = collections.defaultdict(list)
    for key, case in pairs:
        groups[key].append(case)
    return sorted(groups.items())


def _numbers(cases: list[Case]) -> str:
    counts = collections.Counter(case.outcome for case in cases)
    return " | ".join(map(str, (len(cases), *(counts[each] for each in (OK, REFUSED, FAILED)))))


if __name__ == "__main__":
    flags.run(main, Config)
