"""Files per second of l3net.extract, beside its two halves: the bare decoding and the bare network.

    python -m tests.benchmarks.bench_extract --media_dir=../shared/data/esc10

Three measurements by turns, of the same files, in one process with a warm network:

    decode   every file to 48 kHz mono sound in memory, one after the other
    network  their windows, in memory, through the network as l3net.extract sends them
    extract  `extract_files`: decode, network, one .npz per file

The sum of processor time of the first two over the cores is a bound as well: nothing that does
both can take less. Medians of the rounds; ratios are of the same round. The network is that of
the demo's or the papers' size with random weights.
"""

import dataclasses
import os
import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from l3net import export, extract, flags, models
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.inference import file_features, saved_model
from l3net.media import file_kinds, sound
from l3net.training import checkpoints
from tests.benchmarks import table
from tests.benchmarks.bench_embedding import SIZES
from tests.benchmarks.timing import say

DECODE, NETWORK, EXTRACT = "decode", "network", "extract"


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    media_dir: str = setting(REQUIRED, "Folder of sounds.")
    num_files: int = setting(100, "Files to take, spread over the folder.", at_least=1)
    sizes: tuple[str, ...] = setting(tuple(SIZES), "Networks to measure, of the default ones.")
    hops_seconds: tuple[str, ...] = setting(("0.5", "0.1"), "Seconds between windows.")
    rounds: int = setting(3, "Runs of each measurement, by turns.", at_least=1)
    out: str | None = setting(None, table.OUT_HELP)


def main(config: Config) -> None:
    """Measures and prints."""
    files, rows = _files(config), []
    for size in config.sizes:
        with tempfile.TemporaryDirectory() as name:
            run_dir = pathlib.Path(name)
            checkpoints.save_model_config(run_dir, models.ModelConfig(**SIZES[size]))
            network = export.export(run_dir, random_weights=True)
            for hop in config.hops_seconds:
                row = {"size": size, "hop": hop, **_measure(files, network, hop, config)}
                say(_line(row, len(files)))
                rows += _table_rows(row, len(files))
    table.write_rows(config.out, rows)


def _files(config: Config) -> list[pathlib.Path]:
    found, _ = file_features.files_below(pathlib.Path(config.media_dir))
    found = [path for path in found if file_kinds.kind_in_folder(path) == file_kinds.SOUND]
    if len(found) < config.num_files:
        raise UserError(f"--media_dir={config.media_dir} holds {len(found)} sounds")
    return found[:: len(found) // config.num_files][: config.num_files]


def _measure(
    files: list[pathlib.Path], network: pathlib.Path, hop: str, config: Config
) -> dict[str, list[float]]:
    model = saved_model.SavedModel(network)
    function = model.windows("pool4", sound.hop_samples(float(hop)))
    sounds = [np.concatenate(list(sound.sound_blocks(path))) for path in files]

    def decode():
        for path in files:
            for _ in sound.sound_blocks(path):
                pass

    def compute():
        for waveform in sounds:
            windows = sound.windows([waveform], hop=sound.hop_samples(float(hop)))
            for batch in saved_model.batches(windows, 32):
                function(batch)

    def everything():
        loaded = mock.patch.object(saved_model, "SavedModel", lambda _: model)
        with tempfile.TemporaryDirectory() as out, loaded:
            made = extract.Config(saved_model=str(network), out_dir=out)
            settings = extract.Settings(hop_seconds=float(hop))
            outcomes = extract.extract_files(files, made, settings)
        assert all(outcome.status == "done" for outcome in outcomes)

    runs = {DECODE: decode, NETWORK: compute, EXTRACT: everything}
    compute()
    times = [{name: _seconds(run) for name, run in runs.items()} for _ in range(config.rounds)]
    seconds = sum(map(len, sounds)) / 48_000
    return {
        "seconds of sound": seconds,
        **{name: statistics.median(turn[name][0] for turn in times) for name in runs},
        **{f"{name} cpu": statistics.median(turn[name][1] for turn in times) for name in runs},
        "of the slower": statistics.median(
            turn[EXTRACT][0] / max(turn[DECODE][0], turn[NETWORK][0]) for turn in times
        ),
        "of the bound": statistics.median(turn[EXTRACT][0] / _bound(turn) for turn in times),
        "cpu of both": statistics.median(
            turn[EXTRACT][1] / (turn[DECODE][1] + turn[NETWORK][1]) for turn in times
        ),
    }


def _table_rows(row: dict[str, Any], num_files: int) -> Iterator[table.Row]:
    what = f"extract, {row['size']}, every {row['hop']} s"
    slower = f"the slower of decode and network ({max((DECODE, NETWORK), key=row.get)})"
    yield table.Row(
        what,
        num_files / row[EXTRACT],
        "files/s",
        slower,
        1 / row["of the slower"],
        "both on all cores",
        1 / row["of the bound"],
    )


def _bound(turn: dict[str, tuple[float, float]]) -> float:
    cores = len(os.sched_getaffinity(0))
    both = (turn[DECODE][1] + turn[NETWORK][1]) / cores
    return max(turn[DECODE][0] / cores, turn[NETWORK][0], both)


def _seconds(run: Callable[[], None]) -> tuple[float, float]:
    """Returns seconds on the clock and of processor time, ffmpeg's included."""
    wall, processor = time.perf_counter(), _processor()
    run()
    return time.perf_counter() - wall, _processor() - processor


def _processor() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _line(row: dict, num_files: int) -> str:
    parts = [f"{row['size']:8s} hop {row['hop']:4s}"]
    for name in (DECODE, NETWORK, EXTRACT):
        rates = (
            f"{num_files / row[name]:6.1f} files/s {row['seconds of sound'] / row[name]:6.0f} s/s"
        )
        parts.append(f"{name} {rates} {row[f'{name} cpu']:6.1f} s cpu")
    parts.append(
        f"extract takes {row['of the slower']:.2f} of the slower, {row['of the bound']:.2f} of the "
        f"bound; cpu {row['cpu of both']:.2f} of both"
    )
    return "\n    ".join(parts)


if __name__ == "__main__":
    flags.run(main, Config)
