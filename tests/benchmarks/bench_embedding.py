"""Windows of sound embedded per second, beside PyTorch, ONNX Runtime and the matrix product.

    make bench-embedding
    python -m tests.benchmarks.bench_embedding --other_python=.venv/formats/bin/python

The networks have the papers' size at stride 1 and 2, and the demo's, with random weights. Sound is
in memory, windows of one second are 0.1 s apart; a run takes a batch of them to pool4 in memory,
spectrogram included. "shared" is what l3net.extract does: windows share their spectrogram
(`SavedModel.windows`); "apart" sends each window by itself (`SavedModel.features`). The peers run
the same weights window by window, in the other Python, which has `pip install tensorflow tf2onnx
onnxruntime torch`: PyTorch channels last with batch norm folded into the convolutions, ONNX
Runtime what tf2onnx makes of the signature `audio`. It has no bfloat16 convolutions on a CPU.

Each engine is a process of its own. They run by turns, some rounds: the table has the median of
each, and the median of the rounds' ratios to "shared". GFLOP/s counts the convolutions; the share
is that of the matrix product of TensorFlow in the same run. "difference" is that of pool4 from
"apart" in float32, as a share of the largest value.

On a machine with other work pin it to one core and count processor time:

    taskset -c 1 python -m tests.benchmarks.bench_embedding --processor_time ...
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting
from tests.benchmarks import by_turns, embedding_peers, table
from tests.benchmarks.timing import say

SIZES = {
    "stride1": {"model": "l3_net"},
    "stride2": {"model": "l3_net_ots"},
    "demo": {"model": "l3_net_ots", "width": 0.25, "frame_px": 112, "spectrogram_average": 2},
}
FLOAT32, BFLOAT16 = "float32", "bfloat16"
SHARED, APART = "shared", "apart"
PYTORCH = "pytorch"
PEERS = {PYTORCH: "PyTorch", "onnxruntime": "ONNX Runtime"}
_REPOSITORY = pathlib.Path(__file__).parents[2]
_OURS = "from tests.benchmarks import bench_embedding as b; import sys; b.serve(*sys.argv[1:])"
_COLUMNS = {
    "network": "",
    "arithmetic": "",
    "batch": "d",
    "engine": "",
    "windows/s": ".1f",
    "of shared": ".2f",
    "GFLOP/s": ".0f",
    "of matrix product": ".2f",
    "difference": ".0e",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    other_python: str | None = setting(
        None,
        "Python of an environment with tensorflow, tf2onnx, onnxruntime and torch; without it "
        "only this package is measured.",
    )
    sizes: tuple[str, ...] = setting(tuple(SIZES), "Networks to measure, of the default ones.")
    precisions: tuple[str, ...] = setting((FLOAT32, BFLOAT16), "Arithmetic of the convolutions.")
    batches: tuple[str, ...] = setting(("1", "32"), "Windows that go through at once.")
    rounds: int = setting(7, "Runs of each engine, by turns.", at_least=1)
    processor_time: bool = setting(
        False, "Count processor time in place of seconds on the clock, for busy machines."
    )
    out: str | None = setting(None, table.OUT_HELP)


def main(config: Config) -> None:
    """Measures and prints."""
    rows: list[dict] = []
    say(table.head(_COLUMNS))
    for size in config.sizes:
        with tempfile.TemporaryDirectory() as made:
            for row in _measure(size, pathlib.Path(made), config):
                rows.append({"network": size, **row})
                say(table.line(rows[-1], _COLUMNS))
    table.write_rows(config.out, _table_rows(rows))


# --- By turns ------------------------------------------------------------------------------------
def _measure(size: str, made: pathlib.Path, config: Config) -> Iterator[dict]:
    arguments = [str(made), json.dumps(SIZES[size]), str(max(map(int, config.batches)))]
    gflop = float(_run([sys.executable, "-c", _MAKE, *arguments]).splitlines()[-1])
    for precision in config.precisions:
        with by_turns.started(_commands(config, made, precision), made) as engines:
            for batch in map(int, config.batches):
                times = by_turns.times_of(engines, batch, config.rounds)
                clock = {name: each[:, int(config.processor_time)] for name, each in times.items()}
                work = dict.fromkeys(clock, gflop)
                for row in by_turns.rates(clock, "windows/s", batch, work):
                    difference = _difference(made, row["engine"], precision, batch)
                    given = {"arithmetic": precision, "batch": batch}
                    yield {**given, **row, "difference": difference}


def _commands(config: Config, made: pathlib.Path, precision: str) -> dict[str, list[str]]:
    ours = {
        name: [sys.executable, "-c", _OURS, name, str(made), precision]
        for name in (SHARED, APART, by_turns.MATRIX_PRODUCT)
    }
    if config.other_python is None:
        return ours
    if not (made / "network.onnx").exists():
        _convert(config.other_python, made)
    peers = [config.other_python, "-m", embedding_peers.__name__]
    return ours | {
        name: [*peers, name, str(made), precision]
        for name in (PEERS if precision == FLOAT32 else [PYTORCH])
    }


def _difference(made: pathlib.Path, engine: str, precision: str, batch: int) -> float:
    reference = np.load(made / "reference.npy")[:batch]
    pool4 = np.load(embedding_peers.result_path(made, engine, precision, batch))
    return float(np.abs(pool4 - reference).max() / np.abs(reference).max())


def _table_rows(rows: list[dict]) -> Iterator[table.Row]:
    """Yields a row for each peer beside "shared"."""
    for row in rows:
        if row["engine"] == SHARED:
            ours = row
        elif row["engine"] in PEERS:
            yield table.Row(
                f"embedding, {row['network']}, {row['arithmetic']}, batches of {row['batch']}",
                ours["windows/s"],
                "windows/s",
                PEERS[row["engine"]],
                1 / row["of shared"],
                by_turns.MATRIX_PRODUCT,
                ours["of matrix product"],
            )


# --- What the engines run ------------------------------------------------------------------------
_MAKE = (
    "from tests.benchmarks import bench_embedding as b; import sys; print(b.make(*sys.argv[1:]))"
)


def make(folder: str, model_config: str, num_windows: str) -> float:
    """Writes a network, a sound and its pool4 for the engines; returns GFLOP per window."""
    from l3net import export, models
    from l3net.inference import saved_model
    from l3net.training import checkpoints

    made, config = pathlib.Path(folder), models.ModelConfig(**json.loads(model_config))
    checkpoints.save_model_config(made, config)
    export.export(made, made / "saved_model", random_weights=True)
    audio = models.build_model(config, seed=0).get_layer("audio")
    weights, flop = {}, 0
    for layer in audio.layers:
        if hasattr(layer, "kernel"):
            weights[layer.name] = layer.kernel.numpy()
            flop += 2 * np.prod(layer.output.shape[1:-1]) * layer.kernel.numpy().size
        elif layer.name.endswith("_batch_norm"):
            named = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
            weights[layer.name] = np.stack([variable.numpy() for variable in named])
    settings = config.spectrogram_settings
    sides = audio.input.shape[1:3]
    np.savez(made / "weights.npz", sides=sides, stride=config.stride, **settings, **weights)
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.3, 0.3, embedding_peers.num_samples(int(num_windows))).astype(np.float32)
    np.save(made / "sound.npy", sound)
    windows = embedding_peers.windows_of(sound)[: int(num_windows)]
    function = saved_model.SavedModel(made / "saved_model").features(saved_model.AUDIO, "pool4")
    batches = saved_model.batches(windows, 32)
    np.save(made / "reference.npy", np.concatenate([function(batch) for batch in batches]))
    return float(flop / 1e9)


def serve(name: str, folder: str, precision: str) -> None:
    """Runs one of this package's engines, or the matrix product."""
    from l3net.inference import saved_model

    made = pathlib.Path(folder)
    if name == by_turns.MATRIX_PRODUCT:
        by_turns.serve_matrix_product(precision)
        return
    if precision == BFLOAT16:
        saved_model.use_bfloat16()
    model = saved_model.SavedModel(made / "saved_model")
    if name == SHARED:
        function = model.windows("pool4", embedding_peers.HOP)
    else:
        function = model.features(saved_model.AUDIO, "pool4")
    embedding_peers.serve(
        lambda sound: function(embedding_peers.windows_of(sound)), made, name, precision
    )


def _convert(python: str, made: pathlib.Path) -> None:
    arguments = ["--saved-model", str(made / "saved_model"), "--signature_def", "audio"]
    out = ["--output", str(made / "network.onnx")]
    _run([python, "-m", "tf2onnx.convert", *arguments, *out])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command)[:60]!r} failed: {json.dumps(done.stderr[-500:])}")
    return done.stdout


if __name__ == "__main__":
    flags.run(main, Config)
