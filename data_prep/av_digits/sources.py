"""What av_digits is made of: MNIST's test images and the Free Spoken Digit Dataset.

MNIST: t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with or without .gz (the published IDX
files). Free Spoken Digit Dataset: the folder recordings/, see l3net.data.spoken_digits.
"""

import functools
import gzip
import pathlib
import struct

import numpy as np
import resampy
import soundfile

from l3net import constants
from l3net.data.spoken_digits import WORDS
from l3net.errors import UserError
from l3net.files import regular
from l3net.media import sound

NUM_DIGITS = len(WORDS)
_IMAGES, _LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def read_images(folder: str | pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads MNIST's test images.

    Returns:
        Ink, uint8 [num, 28, 28], 0 the paper and 255 the pen; digits, uint8 [num].

    Raises:
        UserError: if a file is missing or is no IDX file, or their lengths differ.
    """
    images, digits = _read_idx(folder, _IMAGES, 3), _read_idx(folder, _LABELS, 1)
    if len(images) != len(digits) or digits.max(initial=0) >= NUM_DIGITS:
        raise UserError(
            f"{folder}: {len(images)} images and {len(digits)} labels do not go together"
        )
    return images, digits


def _read_idx(folder: str | pathlib.Path, name: str, num_axes: int) -> np.ndarray:
    """Reads bytes in MNIST's format: 0, 0, 8, number of axes, lengths (big-endian), values."""
    paths = [pathlib.Path(folder) / name, pathlib.Path(folder) / f"{name}.gz"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(f"{folder} has no {name} and no {name}.gz; need MNIST's published files")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
        magic, *shape = struct.unpack_from(f">{1 + num_axes}I", content)
        if magic != 0x800 + num_axes:
            raise ValueError(f"begins with {magic:#010x}")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path} is no IDX file of bytes with {num_axes} axes ({error})") from error


@functools.lru_cache(maxsize=4096)
def read_recording(path: pathlib.Path) -> np.ndarray:
    """Reads a recording, float32 [num_samples], 48 kHz mono; UserError if it cannot be decoded."""
    try:
        samples, rate_hz = soundfile.read(regular(path), always_2d=True)
    except (RuntimeError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not len(samples):
        raise UserError(f"the recording {path} holds no sound")
    sound.check_samples(samples, f"the recording {path}")
    # By resampy's own filter, as version 1 of the data set was made.
    mono = resampy.resample(samples.mean(axis=1), rate_hz, constants.SAMPLE_RATE_HZ)
    return mono.astype(np.float32)
