"""Pairs per second of the training step, beside PyTorch and the machine's matrix-product rate.

    python -m tests.benchmarks.bench_training_step [--sizes=stride1,stride2] [--other_python=…]

The step is `Trainer`'s own, on one replica (a GPU if there is one): jitter, log-spectrogram,
forward, backward, L2 penalty, Adam; the batch lies ready in memory. GFLOP/s counts the
convolutions' and fully connected layers' multiplications and additions, three times the forward
pass (the gradient of the first layer's input, which nobody computes, left out). "paired" is the
step with --paired_negatives, which computes every frame and sound once for two pairs.

With the Python of an environment that has torch, PyTorch does the same, channels last, with Adam
and its weight decay: "pytorch" with the same jitter and log-spectrogram inside (this checks that
they give the same), "network" with inputs that were prepared before.

Each is a process of its own; they run by turns, beside TensorFlow's matrix product in the same
arithmetic. The table has the median rate of each and the medians of the rounds' ratios.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from l3net import constants, flags, models
from l3net.data import augment, input_pipeline
from l3net.errors import UserError
from l3net.flags import setting
from l3net.models import convnets
from l3net.training.step import Trainer, TrainingConfig
from tests import tiny_shards
from tests.benchmarks import by_turns, table
from tests.benchmarks.timing import say


@dataclasses.dataclass(frozen=True)
class Size:
    """A network to measure, and pairs per step."""

    config: models.ModelConfig
    batch_size: int


OURS, PAIRED = "ours", "paired"
_PEERS = {"pytorch": "PyTorch", "network": "PyTorch, network alone"}
SIZES = {
    "stride1": Size(models.ModelConfig("l3_net"), 8),
    "stride2": Size(models.ModelConfig("l3_net_ots"), 16),
    "stride2_width0.25": Size(models.ModelConfig("l3_net_ots", width=0.25), 32),
    "demo": Size(
        models.ModelConfig("l3_net_ots", width=0.25, frame_px=112, spectrogram_average=2), 32
    ),
}
_PEER = "tests.benchmarks.training_peer"  # imports torch
_COLUMNS = {
    "network": "",
    "arithmetic": "",
    "engine": "",
    "pairs/s": ".1f",
    "of ours": ".2f",
    "GFLOP/s": ".0f",
    "of matrix product": ".2f",
}
_SERVE = "from tests.benchmarks import bench_training_step as b; import sys; b.serve(*sys.argv[1:])"


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    other_python: str | None = setting(
        None, "Python of an environment with torch; without it PyTorch is not measured."
    )
    sizes: tuple[str, ...] = setting(tuple(SIZES), "Networks to measure, of the default ones.")
    precisions: tuple[str, ...] = setting(("float32", "bfloat16"), "Arithmetic of the ConvNets.")
    rounds: int = setting(7, "Steps of each engine, by turns.", at_least=1)
    out: str | None = setting(None, table.OUT_HELP)


def main(config: Config) -> None:
    """Measures and prints."""
    say(table.head(_COLUMNS))
    rows = []
    for size in config.sizes:
        with tempfile.TemporaryDirectory() as name:
            made = pathlib.Path(name)
            _write_batch(SIZES[size], made)
            for precision in config.precisions:
                commands = _commands(config, size, made, precision)
                with by_turns.started(commands, made) as engines:
                    times = by_turns.times_of(engines, SIZES[size].batch_size, config.rounds)
                _check_inputs(made, config)
                for row in _rates(times, SIZES[size]):
                    rows.append({"network": size, "arithmetic": precision, **row})
                    say(table.line(rows[-1], _COLUMNS))
    table.write_rows(config.out, _table_rows(rows))


def _commands(
    config: Config, size: str, made: pathlib.Path, precision: str
) -> dict[str, list[str]]:
    ours = {
        name: [sys.executable, "-c", _SERVE, name, size, precision]
        for name in (OURS, PAIRED, by_turns.MATRIX_PRODUCT)
    }
    if config.other_python is None:
        return ours
    peer = [config.other_python, "-m", _PEER]
    return ours | {name: [*peer, name, str(made), precision] for name in _PEERS}


def _rates(times: dict[str, np.ndarray], size: Size) -> Iterator[dict]:
    gflop = dict.fromkeys(times, training_gflop_per_pair(size.config))
    gflop[PAIRED] /= 2
    clock = {name: each[:, 0] for name, each in times.items()}
    return by_turns.rates(clock, "pairs/s", size.batch_size, gflop)


def _table_rows(rows: list[dict]) -> Iterator[table.Row]:
    """Yields a row for each of ours beside each peer."""
    for row in rows:
        what = f"training step, {row['network']}, {row['arithmetic']}"
        if row["engine"] == OURS:
            ours = row
        elif row["engine"] == PAIRED:
            yield _table_row(
                f"{what}, paired negatives", row, "ours, independent pairs", row["of ours"]
            )
        else:
            yield _table_row(what, ours, _PEERS[row["engine"]], 1 / row["of ours"])


def _table_row(what: str, shown: dict, beside: str, ratio: float) -> table.Row:
    limit = by_turns.MATRIX_PRODUCT, shown["of matrix product"]
    return table.Row(what, shown["pairs/s"], "pairs/s", beside, ratio, *limit)


def training_gflop_per_pair(config: models.ModelConfig) -> float:
    """Counts the arithmetic of one pair's forward and backward pass from the layers' shapes."""
    model = models.build_model(config)
    total = 0.0
    for owner in (model, *(layer for layer in model.layers if hasattr(layer, "layers"))):
        for layer in owner.layers:
            if not hasattr(layer, "kernel"):
                continue
            positions = np.prod(layer.output.shape[1:-1])
            forward = 2 * positions * np.prod(layer.kernel.shape)
            total += forward * (2 if layer.name == "conv1_1" else 3)
    return total / 1e9


# --- Our engines ---------------------------------------------------------------------------------
def serve(name: str, size: str, precision: str) -> None:
    """Runs one of this package's steps, or the matrix product."""
    if name == by_turns.MATRIX_PRODUCT:
        by_turns.serve_matrix_product(precision)
        return
    step = _step(SIZES[size], precision, paired_negatives=int(name == PAIRED))
    by_turns.serve(lambda _: step())


def _step(size: Size, precision: str, *, paired_negatives: int) -> Callable[[], None]:
    config = dataclasses.replace(size.config, precision=precision)
    pipeline = input_pipeline.PipelineConfig(
        size.batch_size, frame_px=config.frame_px, paired_negatives=paired_negatives
    )
    with tempfile.TemporaryDirectory() as folder:
        clips = [tiny_shards.make_clip(number) for number in (1, 2)]
        shards = tiny_shards.write_shards(pathlib.Path(folder), clips)
        strategy = tf.distribute.MirroredStrategy(_one_device())
        trainer = Trainer(strategy, config, pipeline, TrainingConfig(folder), shards)
    raw = _raw_batch(size.config.frame_px, pipeline.clips_per_batch)
    batch = {name: tf.constant(array) for name, array in raw.items()}
    batch["corresponds"] = tf.constant([1, 0] * (size.batch_size // 2))
    forever = iter(lambda: batch, None)
    return lambda: trainer.step(forever)[0].numpy()


def _one_device() -> list[str]:
    return ["/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"]


def _raw_batch(side: int, num: int) -> dict[str, np.ndarray]:
    """Returns what the input pipeline gives, by name."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (num, side, side, 3)).astype(np.uint8),
        "waveform": rng.integers(-9000, 9000, (num, constants.AUDIO_SAMPLES)).astype(np.int16),
        "draws": rng.random((num, augment.NUM_DRAWS), np.float32),
    }


# --- The peer's input ----------------------------------------------------------------------------
def _write_batch(size: Size, made: pathlib.Path) -> None:
    """Writes the batch for the peer, what it shall make of it, and the network's settings."""
    raw = _raw_batch(size.config.frame_px, size.batch_size)
    settings = size.config.spectrogram_settings
    prepared = input_pipeline.prepare_batch(
        {name: tf.constant(array) for name, array in raw.items()}, spectrogram_settings=settings
    )
    np.savez(made / "batch.npz", **raw)
    np.savez(made / "prepared.npz", **{name: array.numpy() for name, array in prepared.items()})
    layers = [
        [name, units and convnets.scaled_channels(units, size.config.width)]
        for name, units in convnets.CONVNET_LAYERS
    ]
    named = ("SATURATION", "BRIGHTNESS", "VOLUME", "SATURATION_RANGE", "BRIGHTNESS_RANGE", "LUMA")
    described = {
        "layers": layers,
        "stride": size.config.stride,
        **{name.lower(): getattr(augment, name) for name in named},
        "volume_range": constants.VOLUME_JITTER,
        "stft_hop": constants.STFT_HOP_SAMPLES,
        "stft_window": constants.STFT_WINDOW_SAMPLES,
        "fft_length": constants.FFT_LENGTH,
        "log_offset": constants.LOG_OFFSET,
        **settings,
    }
    (made / "settings.json").write_text(json.dumps(described))


def _check_inputs(made: pathlib.Path, config: Config) -> None:
    """Refuses a peer that prepares other inputs than this package."""
    if config.other_python is None:
        return
    ours, theirs = np.load(made / "prepared.npz"), np.load(made / "peer_prepared.npz")
    for name in theirs.files:
        apart = np.abs(ours[name] - theirs[name]).max()
        if not apart < 1e-3:
            raise UserError(f"PyTorch's {name} differs by {apart:.1e}; need the same input")


if __name__ == "__main__":
    flags.run(main, Config)
