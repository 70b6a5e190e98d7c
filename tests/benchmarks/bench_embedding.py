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

import contextlib
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting
from tests.benchmarks import embedding_peers
from tests.benchmarks.timing import say

SIZES = {
    "stride1": {"model": "l3_net"},
    "stride2": {"model": "l3_net_ots"},
    "demo": {"model": "l3_net_ots", "width": 0.25, "frame_px": 112, "spectrogram_average": 2},
}
FLOAT32, BFLOAT16 = "float32", "bfloat16"
SHARED, APART, MATMUL = "shared", "apart", "matrix product"
_REPOSITORY = pathlib.Path(__file__).parents[2]
_OURS = "from tests.benchmarks import bench_embedding as b; import sys; b.serve(*sys.argv[1:])"
_COLUMNS = (
    "network|arithmetic|batch|engine|windows/s|of shared|GFLOP/s|of matrix product|difference"
)


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
    out: str | None = setting(None, "File that gets the figures, as JSON.")


def main(config: Config) -> None:
    """Measures and prints."""
    rows: list[dict] = []
    say("| " + _COLUMNS.replace("|", " | ") + " |\n|" + "---|---|---:|---|" + "---:|" * 5)
    for size in config.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            most = max(map(int, config.batches))
            arguments = [str(folder), json.dumps(SIZES[size]), str(most)]
            gflop = float(_run([sys.executable, "-c", _MAKE, *arguments]).splitlines()[-1])
            for precision in config.precisions:
                with _engines(config, folder, precision) as engines:
                    for batch in map(int, config.batches):
                        for row in _compare(engines, batch, gflop, config):
                            rows.append({"network": size, "arithmetic": precision, **row})
                            say(_line(rows[-1]))
    if config.out:
        pathlib.Path(config.out).write_text(json.dumps(rows, indent=1))


# --- By turns ------------------------------------------------------------------------------------
class _Engine:
    """A process that answers with the time of a batch."""

    def __init__(self, name: str, folder: pathlib.Path, command: list[str]):
        self.name, self.folder = name, folder
        self._process = subprocess.Popen(
            command,
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "errors.txt").open("w"),
            text=True,
        )

    def answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            said = (self.folder / "errors.txt").read_text()[-500:]
            raise UserError(f"{self.name} failed: {json.dumps(said)}")
        return line

    def seconds(self, batch: int) -> tuple[float, float]:
        """Returns seconds on the clock and of processor time of one batch."""
        self._process.stdin.write(f"{batch}\n")
        self._process.stdin.flush()
        return tuple(json.loads(self.answer()))

    def pool4(self, batch: int) -> np.ndarray:
        return np.load(self.folder / f"pool4_{batch}.npy")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def _engines(config: Config, made: pathlib.Path, precision: str) -> Iterator[list[_Engine]]:
    ours = [(name, sys.executable, ["-c", _OURS, name]) for name in (SHARED, APART, MATMUL)]
    peers = [] if config.other_python is None else ["pytorch", "onnxruntime"]
    if precision != FLOAT32:
        peers = peers[:1]
    script = str(pathlib.Path(embedding_peers.__file__))
    peers = [(name, config.other_python, [script, name]) for name in peers]
    if peers and not (made / "network.onnx").exists():
        _convert(config.other_python, made)
    with contextlib.ExitStack() as stack:
        started = []
        for name, python, command in [*ours, *peers]:
            folder = made / f"{name} {precision}"
            folder.mkdir()
            for file in ("sound.npy", "saved_model", "weights.npz", "network.onnx"):
                (folder / file).symlink_to(made / file)
            engine = _Engine(name, folder, [python, *command, str(folder), precision])
            stack.callback(engine.close)
            started.append(engine)
            engine.answer()
        yield started


def _compare(engines: list[_Engine], batch: int, gflop: float, config: Config) -> Iterator[dict]:
    turns = [[engine.seconds(batch) for engine in engines] for _ in range(config.rounds)]
    times = np.array(turns)[..., int(config.processor_time)]
    median = dict(zip([engine.name for engine in engines], np.median(times, axis=0), strict=True))
    reference = np.load(engines[0].folder.parent / "reference.npy")[:batch]
    limit = 2 * _SIDE**3 / median.pop(MATMUL) / 1e9
    for number, engine in enumerate(engines):
        if engine.name == MATMUL:
            continue
        difference = np.abs(engine.pool4(batch) - reference).max() / np.abs(reference).max()
        rate = batch / median[engine.name]
        yield {
            "batch": batch,
            "engine": engine.name,
            "windows/s": float(rate),
            "of shared": statistics.median(times[:, 0] / times[:, number]),
            "GFLOP/s": float(rate * gflop),
            "of matrix product": float(rate * gflop / limit),
            "difference": float(difference),
        }


def _line(row: dict) -> str:
    shown = {
        **row,
        "windows/s": f"{row['windows/s']:.1f}",
        "of shared": f"{row['of shared']:.2f}",
        "GFLOP/s": f"{row['GFLOP/s']:.0f}",
        "of matrix product": f"{row['of matrix product']:.2f}",
        "difference": f"{row['difference']:.0e}",
    }
    return "| " + " | ".join(str(shown[name]) for name in _COLUMNS.split("|")) + " |"


# --- What the engines run ------------------------------------------------------------------------
_SIDE = 2048
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
    settings = {"pad_end": False, **config.spectrogram_settings}
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
    import tensorflow as tf

    from l3net.inference import saved_model

    made = pathlib.Path(folder)
    if name == MATMUL:
        a = tf.cast(tf.random.normal([_SIDE, _SIDE]), precision)
        product = tf.function(lambda: tf.reduce_sum(tf.cast(tf.matmul(a, a), tf.float32)))
        embedding_peers.serve(lambda _: product().numpy(), made)
        return
    if precision == BFLOAT16:
        saved_model.use_bfloat16()
    model = saved_model.SavedModel(made / "saved_model")
    if name == SHARED:
        function = model.windows("pool4", embedding_peers.HOP)
    else:
        function = model.features(saved_model.AUDIO, "pool4")
    embedding_peers.serve(lambda sound: function(embedding_peers.windows_of(sound)), made)


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
