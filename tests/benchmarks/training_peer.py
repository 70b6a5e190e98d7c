"""PyTorch's training step for `bench_training_step`, in an environment of its own.

    python -m tests.benchmarks.training_peer pytorch|network FOLDER float32|bfloat16

FOLDER holds the batch and the settings that `bench_training_step` wrote; "pytorch" makes the
network's inputs inside the step and writes them once to peer_prepared.npz, "network" before.
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from tests.benchmarks import by_turns


def step_of(folder: pathlib.Path, precision: str, *, prepares: bool) -> Callable[[], float]:
    """Returns a training step: forward, backward, Adam; channels last."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = json.loads((folder / "settings.json").read_text())
    vision, audio = _tower(3, settings), _tower(1, settings)
    pool4 = settings["layers"][-1][1]
    head = nn.Sequential(nn.Linear(2 * pool4, 128), nn.ReLU(), nn.Linear(128, 2))
    network = nn.ModuleList([vision, audio, head]).to(device, memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-5)
    loss_of = nn.CrossEntropyLoss()
    raw = [torch.from_numpy(array).to(device) for array in np.load(folder / "batch.npz").values()]
    ready = inputs(*raw, settings)
    frame, sound = (each.cpu().permute(0, 2, 3, 1).numpy() for each in ready)
    np.savez(folder / "peer_prepared.npz", frame=frame, log_spectrogram=sound)
    target = torch.tensor([1, 0] * (len(frame) // 2), device=device)
    half = precision == "bfloat16"

    def step():
        frame, sound = inputs(*raw, settings) if prepares else ready
        adam.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = loss_of(head(torch.cat([vision(frame), audio(sound)], 1)).float(), target)
        loss.backward()
        adam.step()
        return float(loss)

    return step


def inputs(image, waveform, draws, settings: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Does what `input_pipeline.prepare_batch` does: jitter and log-spectrogram.

    Returns:
        float32 frames [N, 3, H, W] and spectrograms [N, 1, F, T].
    """
    draws, device = 2.0 * draws - 1.0, image.device
    amount = settings["saturation_range"] * draws[:, settings["saturation"], None, None]
    brightness = 2.0 * settings["brightness_range"] * draws[:, settings["brightness"], None, None]
    luma = torch.tensor(settings["luma"], device=device)[:, None].expand(3, 3)
    matrix = (1.0 + amount) * torch.eye(3, device=device) - amount * luma
    pixels = image.reshape(len(image), -1, 3).float() / 127.5 - 1.0
    pixels = torch.clip(torch.baddbmm(brightness, pixels, matrix), -1.0, 1.0)
    frame = pixels.reshape(image.shape).permute(0, 3, 1, 2)  # as it lies there: channels last

    hop, length = settings["stft_hop"], settings["stft_window"]
    volume = 1.0 + settings["volume_range"] * draws[:, settings["volume"], None]
    sound = nn.functional.pad(waveform.float() / 32768.0 * volume, (0, hop * settings["pad_end"]))
    windows = sound.unfold(1, length, hop) * torch.hann_window(length, device=device)
    magnitude = torch.fft.rfft(windows, settings["fft_length"]).abs()
    sound = torch.log(magnitude + settings["log_offset"]).transpose(1, 2)[:, None]
    if settings["average"] > 1:
        sound = nn.functional.avg_pool2d(
            sound, settings["average"], ceil_mode=True, count_include_pad=False
        )
    return frame, sound


def _tower(channels: int, settings: dict) -> nn.Module:
    layers = []
    for name, units in settings["layers"]:
        if units is None:
            layers.append(nn.MaxPool2d(2))
            continue
        step = settings["stride"] if name == "conv1_1" else 1
        layers += [
            nn.Conv2d(channels, units, 3, stride=step, padding=1, bias=False),
            nn.BatchNorm2d(units),
            nn.ReLU(inplace=True),
        ]
        channels = units
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())


if __name__ == "__main__":
    _step = step_of(pathlib.Path(sys.argv[2]), sys.argv[3], prepares=sys.argv[1] == "pytorch")
    by_turns.serve(lambda _: _step())
