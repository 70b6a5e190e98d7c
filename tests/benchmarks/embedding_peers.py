"""Engines that embed sound, each in a process of its own; `bench_embedding` asks them by turns.

    python -m tests.benchmarks.embedding_peers pytorch FOLDER float32

The peers, PyTorch and ONNX Runtime, run in another environment: nothing of l3net is imported here.
FOLDER holds sound.npy, float32 [samples] at 48 kHz, and what `bench_embedding` wrote for the
engine. A request's size is the number of windows of a batch; the work leads from the sound in
memory to pool4 in memory.
"""

import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from tests.benchmarks import by_turns

HOP, LENGTH, STFT_HOP = 4_800, 48_000, 240  # 0.1 s, a window, and a hop of its spectrogram
# float32 [samples], windows -> pool4 float32 [windows, D]
Engine = Callable[[np.ndarray], np.ndarray]


def num_samples(num_windows: int) -> int:
    """Returns the length of a stretch of sound with so many windows."""
    return LENGTH + (num_windows - 1) * HOP


def windows_of(sound: np.ndarray) -> np.ndarray:
    """Returns the windows of a stretch of sound, float32 [N, 48000]."""
    views = np.lib.stride_tricks.sliding_window_view(sound, LENGTH)
    return np.ascontiguousarray(views[::HOP])


def result_path(folder: pathlib.Path, name: str, precision: str, num_windows: int) -> pathlib.Path:
    """Returns the file of an engine's pool4 for the first windows, float32 [num_windows, D]."""
    return folder / f"{name} {precision} {num_windows}.npy"


def serve(engine: Engine, folder: pathlib.Path, name: str, precision: str) -> None:
    """Answers requests, the number of windows; the first result of each goes into a file."""
    sound = np.load(folder / "sound.npy")

    def work(num_windows):
        pool4 = engine(sound[: num_samples(num_windows)])
        path = result_path(folder, name, precision, num_windows)
        if not path.exists():
            np.save(path, pool4)

    by_turns.serve(work)


def onnxruntime_engine(folder: pathlib.Path, precision: str) -> Engine:
    """Runs FOLDER/network.onnx, which takes windows."""
    import onnxruntime

    if precision != "float32":
        raise ValueError("ONNX Runtime has no bfloat16 convolutions on a CPU")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(
        str(folder / "network.onnx"), options, providers=["CPUExecutionProvider"]
    )
    (name,) = [put.name for put in session.get_inputs()]
    return lambda sound: session.run(["pool4"], {name: windows_of(sound)})[0]


def pytorch_engine(folder: pathlib.Path, precision: str) -> Engine:
    """Runs the network of FOLDER/weights.npz: channels last, batch norm in the convolutions."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    weights = dict(np.load(folder / "weights.npz"))
    tower = _tower(weights).eval().to(memory_format=torch.channels_last)
    pad_end, average = bool(weights["pad_end"]), int(weights["average"])
    window = torch.hann_window(2 * STFT_HOP)

    def images(sound):
        frames = torch.nn.functional.pad(sound, (0, STFT_HOP if pad_end else 0))
        frames = frames.unfold(-1, 2 * STFT_HOP, STFT_HOP) * window
        image = torch.log(torch.fft.rfft(frames, 512).abs() + 1e-3).transpose(1, 2)[:, None]
        if average > 1:
            image = torch.nn.functional.avg_pool2d(
                image, average, ceil_mode=True, count_include_pad=False
            )
        return image.contiguous(memory_format=torch.channels_last)

    def engine(sound):
        with torch.inference_mode(), torch.autocast("cpu", enabled=precision == "bfloat16"):
            return tower(images(torch.from_numpy(windows_of(sound)))).float().numpy()

    return engine


def _tower(weights):
    import torch
    from torch import nn

    layers = []
    for block in range(1, 5):
        for name in (f"conv{block}_1", f"conv{block}_2"):
            kernel = torch.from_numpy(weights[name]).permute(3, 2, 0, 1)
            stride = int(weights["stride"]) if name == "conv1_1" else 1
            # TensorFlow's "same" with stride 2 pads an odd side by 1 and 1, an even one by 0 and 1.
            pads = [_same(int(side), stride) for side in reversed(weights["sides"])]
            if stride > 1:
                layers.append(nn.ZeroPad2d([pad for pair in pads for pad in pair]))
            convolution = nn.Conv2d(
                *kernel.shape[1::-1], 3, stride, padding=0 if stride > 1 else 1, bias=False
            )
            normalize = nn.BatchNorm2d(len(kernel), eps=1e-3)
            with torch.no_grad():
                convolution.weight.copy_(kernel)
                names = ("weight", "bias", "running_mean", "running_var")
                for parameter, value in zip(names, weights[f"{name}_batch_norm"], strict=True):
                    getattr(normalize, parameter).copy_(torch.from_numpy(value))
            fused = nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), normalize.eval())
            layers += [fused, nn.ReLU(inplace=True)]
        if block < 4:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())


def _same(side: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + 3 - side, 0)
    return total // 2, total - total // 2


ENGINES = {"pytorch": pytorch_engine, "onnxruntime": onnxruntime_engine}

if __name__ == "__main__":
    _name, _folder, _precision = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    serve(ENGINES[_name](_folder, _precision), _folder, _name, _precision)
