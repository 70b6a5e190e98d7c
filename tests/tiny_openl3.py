"""Weights files laid out as openl3's, made from a seed, and inputs to compare networks on.

NumPy and h5py alone: the environment of the real openl3 (make prove-openl3) imports this, too. The
layers are written down here on their own, not taken from the network that is tested.
"""

import gzip
import io
import itertools
import pathlib
import zlib

import h5py
import numpy as np

AUDIO_SIZES, IMAGE_SIZES = (6144, 512), (8192, 512)
NAMES = [
    f"openl3_{modality}_{input_repr}_{content}"
    for modality, input_repr, content in itertools.product(
        ("audio", "image"), ("linear", "mel128", "mel256"), ("music", "env")
    )
]
_CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512)
NUM_PICKED = 24
RATES_HZ = (48_000, 44_100)  # of `sound`: as the networks hear it, and to be resampled


def sizes_of(name: str) -> tuple[int, int]:
    """Returns the two sizes of a network's embedding."""
    return AUDIO_SIZES if "_audio_" in name else IMAGE_SIZES


def layers(name: str) -> list[list[np.ndarray]]:
    """Returns the arrays of each layer with weights of one of `NAMES`, by a seed of its own."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))

    def batch_norm(num: int, mean: float = 0.0, variance: float = 1.0) -> list[np.ndarray]:
        return [
            rng.uniform(0.5, 1.5, num),
            rng.normal(0.0, 0.1, num),
            rng.normal(mean, 0.1, num),
            rng.uniform(0.5, 1.5, num) * variance,
        ]

    is_audio = "_audio_" in name
    # Decibels from -80 to 0, or pixels from -1 to 1.
    made = [batch_norm(1, -40.0, 400.0) if is_audio else batch_norm(3, 0.0, 0.3)]
    before = 1 if is_audio else 3
    for number, channels in enumerate(_CHANNELS, start=1):
        scale = np.sqrt(2 / (9 * before))
        kernel = rng.standard_normal((3, 3, before, channels), np.float32) * scale
        made.append([kernel, rng.normal(0.0, 0.1, channels)])
        if number < len(_CHANNELS):
            made.append(batch_norm(channels))
        before = channels
    return [[array.astype(np.float32) for array in arrays] for arrays in made]


def write_weights(path: pathlib.Path, made: list[list[np.ndarray]]) -> pathlib.Path:
    """Writes layers as Keras 2 did, packed by gzip if the name ends with .gz."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        names = ["input_1"]  # a layer without weights
        file.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for number, arrays in enumerate(made, start=1):
            kind, keys = (
                ("conv2d", ("kernel:0", "bias:0"))
                if arrays[0].ndim == 4
                else ("batch_normalization", ("gamma:0", "beta:0", "moving_mean:0", "variance:0"))
            )
            layer = f"{kind}_{number}"
            names.append(layer)
            keys = [f"{layer}/{key}" for key in keys]
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array(keys, "S")
            for key, array in zip(keys, arrays, strict=True):
                group[key] = array
        file.attrs["layer_names"] = np.array(names, "S")
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
    raw = content.getvalue()
    path.write_bytes(gzip.compress(raw, 1) if path.suffix == ".gz" else raw)
    return path


def waveforms() -> np.ndarray:
    """Returns a second of each of several sounds, float32 [4, 48000]; the first has everything."""
    rng = np.random.default_rng(0)
    seconds = np.arange(48_000) / 48_000
    noise = rng.uniform(-1.0, 1.0, 48_000)
    bell = np.exp(-6 * seconds) * np.sin(2 * np.pi * 520 * seconds)
    sweep = np.sin(2 * np.pi * (100 + 5_000 * seconds) * seconds)
    sounds = [
        0.3 * bell + 0.2 * sweep + 0.01 * noise,
        noise,
        np.zeros(48_000),
        noise * 2**-15 * (seconds > 0.5),  # the last bit of 16, after silence
    ]
    return np.stack(sounds).astype(np.float32)


def sound() -> np.ndarray:
    """Returns a sound longer than a window, of any of `RATES_HZ`: float32 [81600]."""
    return np.concatenate([waveforms()[0], waveforms()[1][:33_600] * np.float32(0.1)])


def images() -> np.ndarray:
    """Returns images, uint8 [3, 224, 224, 3]; the first has everything."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (224, 224, 3))
    slope = np.add.outer(np.arange(224), np.arange(224))[..., np.newaxis] * [0.2, 0.4, 0.5]
    return np.stack([slope + noise // 8, noise, np.zeros_like(noise)]).astype(np.uint8)


def picked(embedding: np.ndarray) -> np.ndarray:
    """Returns some of the numbers of an embedding [D], spread over cells and channels."""
    return embedding[np.arange(NUM_PICKED) * 397 % len(embedding)]
