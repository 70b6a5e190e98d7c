"""Pairs per second of the training step, beside the machine's matrix-product rate.

    python -m tests.benchmarks.bench_training_step [--sizes=stride1,stride2] [--pytorch]

The step is `Trainer`'s own, on one replica (a GPU if there is one): jitter, log-spectrogram,
forward, backward, L2 penalty, Adam; the batch lies ready in memory. GFLOP/s counts the
convolutions' and fully connected layers' multiplications and additions, three times the forward
pass (the gradient of the first layer's input, which nobody computes, left out); the matrix product
beside it is measured in the same run, float32 and bfloat16. "paired" is the step with
--paired_negatives, which computes every frame and sound once for two pairs.

--pytorch also measures plain PyTorch steps of the same network, channels last (forward, backward,
Adam), where torch is installed (`pip install torch`): "pytorch" with the same jitter and
log-spectrogram inside, "network" with inputs that were prepared before.
"""

import dataclasses
import importlib.util
import json
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from l3net import constants, flags, models
from l3net.data import augment, input_pipeline
from l3net.flags import setting
from l3net.models import convnets
from l3net.training.step import Trainer, TrainingConfig
from tests import tiny_shards
from tests.benchmarks.timing import say, seconds_of


@dataclasses.dataclass(frozen=True)
class Size:
    """A network to measure, and pairs per step."""

    config: models.ModelConfig
    batch_size: int


PAIRED = "paired"  # ours with --paired_negatives: half of the arithmetic
PYTORCH, NETWORK_ALONE = "pytorch", "network"
SIZES = {
    "stride1": Size(models.ModelConfig("l3_net"), 8),
    "stride2": Size(models.ModelConfig("l3_net_ots"), 16),
    "stride2_width0.25": Size(models.ModelConfig("l3_net_ots", width=0.25), 32),
    "demo": Size(
        models.ModelConfig("l3_net_ots", width=0.25, frame_px=112, spectrogram_average=2), 32
    ),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    sizes: tuple[str, ...] = setting(tuple(SIZES), "Networks to measure, of the default ones.")
    precisions: tuple[str, ...] = setting(("float32", "bfloat16"), "Arithmetic of the ConvNets.")
    seconds: float = setting(15.0, "Seconds of each measurement, at least three steps.")
    pytorch: bool = setting(False, "Also measure PyTorch.")
    out: str | None = setting(None, "File that gets the figures, as JSON.")


def main(config: Config) -> None:
    """Measures and prints."""
    limits = {name: matmul_gflops(name, config.seconds) for name in config.precisions}
    for precision, limit in limits.items():
        say(f"matrix product {precision:8s} {limit:8.0f} GFLOP/s")
    rows = []
    for name in config.sizes:
        size = SIZES[name]
        gflop = training_gflop_per_pair(size.config)
        for engine, precision, step in _steps(size, config):
            rate = size.batch_size / seconds_per_step(step, config.seconds)
            done = rate * gflop / (2 if engine == PAIRED else 1)
            share = done / limits[precision]
            rows.append([name, engine, precision, rate, done, share])
            say(
                f"{name:18s} {engine:10s} {precision:8s} {rate:8.1f} pairs/s "
                f"{done:7.0f} GFLOP/s  {share:5.2f} of the matrix product"
            )
    if config.out:
        pathlib.Path(config.out).write_text(json.dumps({"limits": limits, "rows": rows}, indent=1))


def _steps(size: Size, config: Config) -> Iterator[tuple[str, str, Callable[[], None]]]:
    for precision in config.precisions:
        yield "ours", precision, _our_step(size, precision)
        yield PAIRED, precision, _our_step(size, precision, paired_negatives=1)
    if config.pytorch and importlib.util.find_spec("torch"):
        for precision in config.precisions:
            yield PYTORCH, precision, _torch_step(size, precision)
            yield NETWORK_ALONE, precision, _torch_step(size, precision, prepares=False)


def seconds_per_step(step: Callable[[], None], seconds: float) -> float:
    """Returns the median over at least three steps, after two that do not count."""
    step()
    step()
    times = []
    while len(times) < 3 or sum(times) < seconds:
        times.append(seconds_of(step))
    return statistics.median(times)


def matmul_gflops(precision: str, seconds: float, side: int = 2048) -> float:
    """Returns the machine's rate on a product of two square matrices."""
    a = tf.cast(tf.random.normal([side, side]), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.cast(tf.matmul(a, a), tf.float32)))
    return 2 * side**3 / seconds_per_step(lambda: product().numpy(), seconds) / 1e9


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


def _our_step(size: Size, precision: str, *, paired_negatives: int = 0) -> Callable[[], None]:
    config = dataclasses.replace(size.config, precision=precision)
    pipeline = input_pipeline.PipelineConfig(
        size.batch_size, frame_px=config.frame_px, paired_negatives=paired_negatives
    )
    with tempfile.TemporaryDirectory() as folder:
        clips = [tiny_shards.make_clip(number) for number in (1, 2)]
        shards = tiny_shards.write_shards(pathlib.Path(folder), clips)
        strategy = tf.distribute.MirroredStrategy(_one_device())
        trainer = Trainer(strategy, config, pipeline, TrainingConfig(folder), shards)
    batch = {name: tf.constant(raw) for name, raw in _raw_batch(size, pipeline.clips_per_batch)}
    batch["corresponds"] = tf.constant([1, 0] * (size.batch_size // 2))
    forever = iter(lambda: batch, None)
    return lambda: trainer.step(forever)[0].numpy()


def _raw_batch(size: Size, num: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what the input pipeline gives, by name."""
    rng, side = np.random.default_rng(0), size.config.frame_px
    yield "image", rng.integers(0, 256, (num, side, side, 3)).astype(np.uint8)
    yield "waveform", rng.integers(-9000, 9000, (num, constants.AUDIO_SAMPLES)).astype(np.int16)
    yield "draws", rng.random((num, augment.NUM_DRAWS), np.float32)


def _one_device() -> list[str]:
    return ["/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"]


# --- The yardstick -------------------------------------------------------------------------------
def _torch_step(size: Size, precision: str, *, prepares: bool = True) -> Callable[[], None]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    width, stride = size.config.width, size.config.stride
    pool4 = convnets.scaled_channels(constants.POOL4_UNITS, width)
    vision, audio = _torch_tower(3, width, stride), _torch_tower(1, width, stride)
    layers = torch.nn.Linear(2 * pool4, 128), torch.nn.ReLU(), torch.nn.Linear(128, 2)
    head = torch.nn.Sequential(*layers)
    network = torch.nn.ModuleList([vision, audio, head])
    network.to(device, memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss_of = torch.nn.CrossEntropyLoss()
    raw = [torch.from_numpy(array).to(device) for _, array in _raw_batch(size, size.batch_size)]
    settings = size.config.spectrogram_settings
    ready = _torch_inputs(*raw, **settings)
    target = torch.tensor([1, 0] * (size.batch_size // 2), device=device)
    half = precision == "bfloat16"

    def step():
        frame, sound = _torch_inputs(*raw, **settings) if prepares else ready
        adam.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = loss_of(head(torch.cat([vision(frame), audio(sound)], 1)).float(), target)
        loss.backward()
        adam.step()
        return float(loss)

    return step


def _torch_inputs(image, waveform, draws, *, pad_end: bool, average: int):
    """Does what `input_pipeline.prepare_batch` does: jitter and log-spectrogram."""
    import torch

    draws = 2.0 * draws - 1.0
    saturation = 1.0 + augment.SATURATION_RANGE * draws[:, augment.SATURATION, None, None]
    brightness = 2.0 * augment.BRIGHTNESS_RANGE * draws[:, augment.BRIGHTNESS, None, None]
    luma = torch.tensor(augment.LUMA, device=image.device)[:, None].expand(3, 3)
    matrix = saturation * torch.eye(3, device=image.device) + (1.0 - saturation) * luma
    pixels = image.reshape(len(image), -1, 3).float() / 127.5 - 1.0
    pixels = torch.clip(torch.baddbmm(brightness, pixels, matrix), -1.0, 1.0)
    frame = pixels.reshape(image.shape).permute(0, 3, 1, 2)  # as it lies there: channels last

    hop, length = constants.STFT_HOP_SAMPLES, constants.STFT_WINDOW_SAMPLES
    volume = 1.0 + constants.VOLUME_JITTER * draws[:, augment.VOLUME, None]
    sound = torch.nn.functional.pad(waveform.float() / 32768.0 * volume, (0, hop * pad_end))
    windows = sound.unfold(1, length, hop) * torch.hann_window(length, device=image.device)
    magnitude = torch.fft.rfft(windows, constants.FFT_LENGTH).abs()
    sound = torch.log(magnitude + constants.LOG_OFFSET).transpose(1, 2)[:, None]
    if average > 1:
        sound = torch.nn.functional.avg_pool2d(sound, average, ceil_mode=True)
    return frame, sound


def _torch_tower(channels: int, width: float, stride: int):
    from torch import nn

    layers = []
    for name, units in convnets.CONVNET_LAYERS:
        if units is None:
            layers.append(nn.MaxPool2d(2))
            continue
        units = convnets.scaled_channels(units, width)
        step = stride if name == "conv1_1" else 1
        layers += [
            nn.Conv2d(channels, units, 3, stride=step, padding=1, bias=False),
            nn.BatchNorm2d(units),
            nn.ReLU(inplace=True),
        ]
        channels = units
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())


if __name__ == "__main__":
    flags.run(main, Config)
