"""Images and the frames of videos as the networks take them."""

import contextlib
import functools
import io
import itertools
import math
import pathlib
import struct
import warnings
from collections.abc import Generator, Iterator

import numpy as np
import PIL
from PIL import Image, ImageOps

from l3net import constants
from l3net.errors import UserError, first_line
from l3net.files import regular
from l3net.media import ffmpeg, file_kinds

# As Pillow calls them; JPEG includes those of several pictures (MPO).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MAX_MEGAPIXELS = 64  # our choice: decoding one then takes less than a gigabyte
_SMALLEST_JPEG_SCALE = 8
_TOO_LARGE = f"need at most {MAX_MEGAPIXELS} megapixels: make it smaller (a JPEG may have more)"
_SIXTEEN_BITS_TO_EIGHT = 257  # 65535 = 255 * 257


def uncropped_px(frame_px: int) -> int:
    """Returns the smallest side of an image whose centre crop has `frame_px`: 256 for 224."""
    return round(frame_px * constants.SMALLEST_SIDE_PX / constants.FRAME_PX)


def video_frames(
    path: pathlib.Path, *, frame_rate_hz: float, frame_px: int, track: int | None = None
) -> Generator[np.ndarray, None, None]:
    """Decodes the centre crops of a video of any length in bounded memory.

    Frame k is the picture shown at k / frame_rate_hz seconds: the last whose timestamp is not
    later, or the first one where the picture starts later. Yields uint8 [frame_px, frame_px, 3],
    RGB. The track is counted from 0; None is the default one. Raises UserError if the file has no
    picture, no such track, or cannot be decoded to its end.
    """
    # Every n-th of at least 25 a second: a picture that starts late is repeated in front as it is
    # at the first of the times, at a low rate long after its start.
    every = max(1, math.ceil(constants.FRAME_RATE_HZ / frame_rate_hz))
    frames = ffmpeg.stream_frames(
        path,
        frame_rate_hz=frame_rate_hz * every,
        smallest_side_px=uncropped_px(frame_px),
        track=track,
    )
    with ffmpeg.in_plain_words(file_kinds.LACKING), contextlib.closing(frames):
        for frame in itertools.islice(frames, 0, None, every):
            yield center_crop(frame, frame_px)


@contextlib.contextmanager
def opened(source: str | pathlib.Path | bytes) -> Iterator[Image.Image]:
    """Opens an image, given as its path or itself; the only place that does.

    The content decides what it is, not the name, and of all that Pillow knows only `FORMATS` are
    tried: PostScript, for example, would start another program. A JPEG of more than
    MAX_MEGAPIXELS is decoded at a half, a quarter or an eighth of its size.

    Yields:
        The image, not decoded yet; decoding may raise what becomes the same UserError here.

    Raises:
        UserError: if it is no image of these formats, damaged, or too large.
    """
    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and odd tags: said below, or harmless
            data = io.BytesIO(source) if isinstance(source, bytes) else regular(source)
            with Image.open(data, formats=_formats()) as image:
                _limit(image, name)
                yield image
    except PIL.UnidentifiedImageError as error:
        raise UserError(
            f"{name}: not an image of the formats {', '.join(_formats())}, whatever its name says"
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise UserError(f"{name}: cannot decode the image ({first_line(error)})") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: {_TOO_LARGE}") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _limit(image: Image.Image, name: str) -> None:
    side = 1
    while image.width * image.height > MAX_MEGAPIXELS * 1e6:
        side *= 2
        size = image.size
        image.draft("RGB", (size[0] // 2, size[1] // 2))
        if image.size == size or side > _SMALLEST_JPEG_SCALE:
            raise UserError(f"{name}: {size[0]} x {size[1]} pixels; {_TOO_LARGE}")


def read_rgb(source: str | pathlib.Path | bytes) -> np.ndarray:
    """Decodes an image upright (EXIF orientation applied) to uint8 [height, width, 3].

    Of an animation the first picture counts, and transparency is dropped. For the errors see
    `opened`.
    """
    with opened(source) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return _as_rgb(image)


def read_image(path: pathlib.Path, frame_px: int) -> np.ndarray:
    """Reads an image as `read_rgb` does and takes its centre crop.

    Returns uint8 [frame_px, frame_px, 3], RGB; for the errors see `opened`.
    """
    return center_crop(read_rgb(path), frame_px)


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = np.empty((image.height, image.width), np.uint8)
        np.floor_divide(np.asarray(image), _SIXTEEN_BITS_TO_EIGHT, out=grey, casting="unsafe")
        image = Image.fromarray(grey)
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
