"""Images and the frames of videos as the networks take them."""

import contextlib
import itertools
import math
import pathlib
from collections.abc import Generator

import numpy as np
import PIL
from PIL import Image, ImageOps

from l3net import constants
from l3net.errors import UserError
from l3net.media import ffmpeg, file_kinds

_SIXTEEN_BITS_TO_EIGHT = 257  # 65535 = 255 * 257


def uncropped_px(frame_px: int) -> int:
    """Returns the smallest side of an image whose centre crop has `frame_px`: 256 for 224."""
    return round(frame_px * constants.SMALLEST_SIDE_PX / constants.FRAME_PX)


def video_frames(
    path: pathlib.Path, *, frame_rate_hz: float, frame_px: int
) -> Generator[np.ndarray, None, None]:
    """Decodes the centre crops of a video of any length in bounded memory.

    Frame k is the picture shown at k / frame_rate_hz seconds: the last whose timestamp is not
    later, or the first one where the picture starts later. Yields uint8 [frame_px, frame_px, 3],
    RGB. Raises UserError if the file has no picture or cannot be decoded to its end.
    """
    # Every n-th of at least 25 a second: a picture that starts late is repeated in front as it is
    # at the first of the times, at a low rate long after its start.
    every = max(1, math.ceil(constants.FRAME_RATE_HZ / frame_rate_hz))
    frames = ffmpeg.stream_frames(
        path, frame_rate_hz=frame_rate_hz * every, smallest_side_px=uncropped_px(frame_px)
    )
    with ffmpeg.in_plain_words(file_kinds.LACKING), contextlib.closing(frames):
        for frame in itertools.islice(frames, 0, None, every):
            yield center_crop(frame, frame_px)


def read_image(path: pathlib.Path, frame_px: int) -> np.ndarray:
    """Reads an image upright (EXIF orientation applied) and takes its centre crop.

    Of an animation the first picture counts, and transparency is dropped. Returns uint8 [frame_px,
    frame_px, 3], RGB; UserError if the file is no image, is damaged or unreasonably large.
    """
    try:
        with Image.open(path) as image:
            return center_crop(_as_rgb(ImageOps.exif_transpose(image)), frame_px)
    except PIL.UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image, whatever its name says") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot decode the image ({error})") from error


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = np.asarray(image).astype(np.uint32) // _SIXTEEN_BITS_TO_EIGHT
        image = Image.fromarray(grey.astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def center_crop(image: np.ndarray, frame_px: int) -> np.ndarray:
    """Takes the centre square of 224/256 of the smallest side, as evaluation in training does.

    uint8 [height, width, 3] becomes uint8 [frame_px, frame_px, 3], resized if need be by Pillow's
    bilinear filter with antialiasing.
    """
    height, width, _ = image.shape
    ratio = constants.FRAME_PX / constants.SMALLEST_SIDE_PX
    crop_px = max(1, round(min(height, width) * ratio))
    top, left = (height - crop_px) // 2, (width - crop_px) // 2
    crop = image[top : top + crop_px, left : left + crop_px]
    if crop_px == frame_px:
        return crop
    size = (frame_px, frame_px)
    return np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BILINEAR))
