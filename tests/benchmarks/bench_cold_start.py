"""Times how long it takes until something is there: imports, --help, extract, a first embedding.

    python -m tests.benchmarks.bench_cold_start [--openl3_python=.venv/openl3/bin/python]

A first embedding: a new process imports the package, loads a network, and embeds ten seconds of
sound at 44.1 kHz, 101 windows; then once more. The network is openl3's for music, mel256, 512-D,
with weights made from a seed, imported (`l3net.import_openl3`). With --openl3_python (an
environment with the real openl3, which `make prove-openl3` makes) the real one does the same with
the same file. Medians of some processes: seconds on the clock, and of processor time, which other
work beside disturbs less.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import soundfile

from l3net import constants, flags
from l3net.flags import setting
from tests.benchmarks import table
from tests.benchmarks.timing import say

_NAME = "openl3_audio_mel256_music"
_IMPORT = f"""
import sys, pathlib
from l3net.inference import openl3
from tests import tiny_openl3
folder = pathlib.Path(sys.argv[1])
weights = tiny_openl3.write_weights(folder / "{_NAME}-v0_4_0.h5", tiny_openl3.layers("{_NAME}"))
openl3.import_weights(weights, folder / "saved_model", embedding_size=512)
"""
_FIRST = """
import json, sys, time
import numpy as np
marks = []
def mark(): marks.append((time.perf_counter(), time.process_time()))
audio = np.random.default_rng(0).uniform(-0.5, 0.5, 441_000).astype(np.float32)
mark()
{load}
mark()
for _ in range(2):
    {embed}
    mark()
steps = [[b - a for a, b in zip(*pair)] for pair in zip(marks, marks[1:])]
print(json.dumps([embedding.shape, steps]))
"""
_OURS = _FIRST.format(
    load="import l3net; model = l3net.SavedModel(sys.argv[1] + '/saved_model')",
    embed="embedding, _ = l3net.get_audio_embedding(audio, 44_100, model=model)",
)
_REAL = _FIRST.format(
    load="import openl3; model = openl3.models.load_audio_embedding_model_from_path("
    f"sys.argv[1] + '/{_NAME}-v0_4_0.h5', 'mel256', 512)",
    embed="embedding, _ = openl3.get_audio_embedding(audio, 44_100, model=model, verbose=False)",
)
_TENSORFLOW = ("-c", "import tensorflow")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed."""

    repeats: int = setting(3, "Processes per measurement.", at_least=1)
    openl3_python: str | None = setting(
        None, "Python of an environment with the real openl3 and kapre."
    )
    out: str | None = setting(None, table.OUT_HELP)


def main(config: Config) -> None:
    """Measures and prints."""
    measured = {}
    for command in (
        ("-c", "import l3net"),
        ("-m", "l3net", "--help"),
        ("-m", "l3net", "extract", "--help"),
        ("-m", "l3net", "train", "--help"),
        _TENSORFLOW,
    ):
        times = [_process(sys.executable, *command)[:2] for _ in range(config.repeats)]
        measured[command] = times
        say(f"python {' '.join(command)}: {_shown(times)}")
    with tempfile.TemporaryDirectory() as folder:
        _process(sys.executable, "-c", _IMPORT, folder)
        extracted = _extract(folder, config.repeats)
        say(f"l3net.extract of one second of sound: {_shown(extracted)}")
        first = {"l3net": (sys.executable, _OURS)}
        if config.openl3_python:
            first["openl3"] = (config.openl3_python, _REAL)
        wholes = _first(folder, first, config.repeats)
    table.write_rows(config.out, _table_rows(extracted, measured[_TENSORFLOW], wholes))


def _first(
    folder: str, programs: dict[str, tuple[str, str]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Runs the programs by turns; returns the times of their processes."""
    steps: dict[str, list] = {name: [] for name in programs}
    wholes: dict[str, list] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (python, program) in programs.items():
            seconds, cpu, printed = _process(python, "-c", program, folder)
            shape, of_steps = json.loads(printed.splitlines()[-1])
            steps[name].append((shape, of_steps))
            wholes[name].append((seconds, cpu))
    for name in programs:
        say(f"{name}, embedding {steps[name][0][0]}")
        for number, step in enumerate(("import and load", "first call", "second call")):
            say(f"  {step}: {_shown([tuple(each[number]) for _, each in steps[name]])}")
        say(f"  process with both calls: {_shown(wholes[name])}")
    return wholes


def _table_rows(extracted: list, tensorflow: list, wholes: dict[str, list]) -> Iterator[table.Row]:
    seconds, imported = (np.median(times, axis=0)[0] for times in (extracted, tensorflow))
    yield table.Row(
        "start-up: l3net.extract of one second",
        seconds,
        "s",
        limit="import tensorflow",
        of_limit=imported / seconds,
    )
    ours, theirs = (np.array(wholes.get(name, [])) for name in ("l3net", "openl3"))
    yield table.Row(
        "start-up: openl3's network, 10 s of sound twice",
        float(np.median(ours[:, 0])),
        "s",
        "openl3 0.4.2" if len(theirs) else "",
        float(np.median(theirs[:, 0] / ours[:, 0])) if len(theirs) else None,
    )


def _extract(folder: str, repeats: int) -> list[tuple[float, float]]:
    sound = pathlib.Path(folder) / "noise.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, constants.AUDIO_SAMPLES)
    soundfile.write(sound, noise, constants.SAMPLE_RATE_HZ)
    flags_of = (f"--saved_model={folder}/saved_model", f"--out_dir={folder}/out", "--overwrite")
    command = (sys.executable, "-m", "l3net.extract", *flags_of, str(sound))
    return [_process(*command)[:2] for _ in range(repeats)]


def _process(python: str, *arguments: str) -> tuple[float, float, str]:
    """Returns seconds, seconds of processor time and what a new process printed."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(
        [python, *arguments],
        cwd=pathlib.Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    seconds, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system
    return seconds, cpu - before.children_user - before.children_system, done.stdout


def _shown(times: list[tuple[float, float]]) -> str:
    seconds, cpu = (statistics.median(each) for each in zip(*times, strict=True))
    return f"{seconds:.2f} s, {cpu:.2f} s of processor time"


if __name__ == "__main__":
    flags.run(main, Config)
