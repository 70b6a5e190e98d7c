"""Optical flow between the frames of a clip, for AVE+OF (OTS §3.2): TV-L1, or DIS if asked for.

OTS gives "10 frames of optical flow" to a second stream, in the style of Simonyan & Zisserman 2014,
and neither names the method's settings nor how flow is scaled: all of it here is our choice. A flow
frame of H x W pixels is ONE greyscale JPEG of 2H x W, the displacement in x above that in
y, so that a reader decodes nothing but its crop of each half:

    level = round(128 + displacement_px / scale_px), 1 to 255; 128 is no motion
    scale_px = 20/256 of the smallest side / 127; a faster motion is cut off there

A displacement leads from where something is in frame i to where it is in frame i + 1: positive x is
to the right, positive y down. A level means the same share of the picture in a flow of any size.

With `--mediasequence_flow` it is stored once more, as MediaPipe's FlowToImageCalculator makes it
for MediaSequence and DMVR's `add_image(is_flow=True)` reads it: ONE JPEG of H x W in colour, red
for x, green for y, blue empty; levels 0 to 255 are -1 to 1 times the saturation, 20/256 of the
smallest side. We round where MediaPipe cuts off. Nothing of ours reads it.
"""

import dataclasses
import functools
import itertools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from l3net import constants
from l3net.errors import UserError, needs_extra

TV_L1, DIS = METHODS = ("tvl1", "dis")  # the papers', and one that takes a small part of the time
MIN_SMALLEST_SIDE_PX = 16  # of OpenCV's coarsest level
JPEG_QUALITY = 90
# Red and green mix in a JPEG's own colours: at 90 levels would err twice as much as in grey.
RED_GREEN_QUALITY = 95
# Chosen by known shifts (to 16 pixels) and rotations (to 4 degrees) of real frames 256 pixels high:
# mean error 0.07 pixels. OpenCV's own settings take 4.5 times as long and err by 3 to 6 pixels at a
# shift of 16, because five levels of 0.8 end at 0.41 of the size: here a level is half of the one
# before, so the coarsest of five sees 20 pixels as 1.25. 30 inner steps would take 1.7 times as
# long for an error of 0.06.
TV_L1_SETTINGS = {
    "nscales": 5,
    "scaleStep": 0.5,
    "warps": 3,
    "outerIterations": 1,
    "innnerIterations": 15,  # OpenCV's spelling
}


@dataclasses.dataclass(frozen=True)
class Flow:
    """The flow of a clip; fields as in `schema.Clip`, see the head of this file."""

    flows: tuple[bytes, ...]
    flow_scale_px: float
    flow_height_px: int
    flow_width_px: int
    forward_flows: tuple[bytes, ...] = ()


def optical_flow(
    frames: Sequence[bytes],
    *,
    smallest_side_px: int,
    method: str = TV_L1,
    mediasequence: bool = False,
) -> Flow:
    """Computes the flow from each frame to the next, in pixels per frame step.

    Frames of the same bytes have no motion between them, and no time is spent on them.

    Args:
        frames: at least two JPEGs of one size.
        smallest_side_px: frames are made grey and scaled to this before.
        method: one of METHODS.
        mediasequence: whether to encode the flow once more, as MediaSequence and DMVR read it.

    Raises:
        ValueError: if there are fewer than two frames, one is no JPEG or has another size, or
            OpenCV finds no flow.
        UserError: if OpenCV is missing.
    """
    if len(frames) < 2:
        raise ValueError(f"got {len(frames)} frames; flow needs at least two")
    if smallest_side_px < MIN_SMALLEST_SIDE_PX:
        raise ValueError(f"smallest side {smallest_side_px} px; need {MIN_SMALLEST_SIDE_PX} px")
    motions = list(_motions(frames, smallest_side_px, method))
    height_px, width_px, _ = motions[0].shape
    per_level_px = scale_px(smallest_side_px)
    jpegs = tuple(_encode(motion, per_level_px) for motion in motions)
    forward = [
        _encode_red_green(m, constants.FLOW_LEVELS * per_level_px) for m in motions if mediasequence
    ]
    return Flow(jpegs, per_level_px, height_px, width_px, tuple(forward))


def scale_px(smallest_side_px: int) -> float:
    """Returns the displacement in pixels that one level stands for, in a flow of this size."""
    return constants.FLOW_BOUND * smallest_side_px / constants.FLOW_LEVELS


def opencv_version() -> str:
    """Returns the version, such as "4.11.0"; raises UserError if OpenCV is missing."""
    return _opencv().__version__


@functools.cache
def _opencv() -> types.ModuleType:
    # Here, not above: preparation without flow need neither wait for OpenCV nor have it.
    with needs_extra("flow", "optical flow"):
        import cv2
    if not hasattr(cv2, "optflow"):
        raise UserError(
            f"the OpenCV {cv2.__version__} that is installed lacks the contrib modules, which have "
            "TV-L1; put opencv-contrib-python-headless in its place"
        )
    cv2.setNumThreads(1)  # write_shards runs a process per processor
    return cv2


def algorithm(method: str) -> Any:
    """Returns OpenCV's object for one of METHODS: `calc(earlier, later, None)` gives the flow."""
    cv2 = _opencv()
    if method == TV_L1:
        return cv2.optflow.DualTVL1OpticalFlow_create(**TV_L1_SETTINGS)
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _motions(frames: Sequence[bytes], smallest_side_px: int, method: str) -> Iterator[np.ndarray]:
    """Yields float32 [height, width, x and y] per pair of neighbours."""
    cv2, between = _opencv(), algorithm(method)
    earlier = grey(frames[0], smallest_side_px)
    for index, (before, now) in enumerate(itertools.pairwise(frames), start=1):
        if before == now:
            yield np.zeros((*earlier.shape, 2), np.float32)
            continue
        later = grey(now, smallest_side_px)
        if later.shape != earlier.shape:
            raise ValueError(f"frame {index} has another size than those before it")
        try:
            yield between.calc(earlier, later, None)
        except cv2.error as error:
            raise ValueError(f"no flow to frame {index}: {error}") from error
        earlier = later


def grey(jpeg: bytes, smallest_side_px: int) -> np.ndarray:
    """Decodes a frame as uint8 [height, width] of the wanted size."""
    cv2 = _opencv()
    how = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), how) if jpeg else None
    if grey is None:
        raise ValueError("got bytes that are no JPEG")
    ratio = smallest_side_px / min(grey.shape)
    if ratio == 1:
        return grey
    height_px, width_px = (round(side * ratio) for side in grey.shape)
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return cv2.resize(grey, (width_px, height_px), interpolation=how)


def _encode(motion: np.ndarray, scale_px: float) -> bytes:
    if not np.isfinite(motion).all():
        raise ValueError("the flow is not finite")
    steps = np.clip(np.rint(motion / scale_px), -constants.FLOW_LEVELS, constants.FLOW_LEVELS)
    levels = (steps + constants.FLOW_ZERO_LEVEL).astype(np.uint8)
    return _jpeg(np.concatenate([levels[..., 0], levels[..., 1]]), JPEG_QUALITY)


def _encode_red_green(motion: np.ndarray, saturation_px: float) -> bytes:
    """Encodes x as red and y as green: level / 127.5 - 1 is the displacement / saturation_px."""
    levels = np.rint(np.clip(motion / saturation_px, -1, 1) * 127.5 + 127.5).astype(np.uint8)
    blue = np.zeros_like(levels[..., 0])
    return _jpeg(np.stack([blue, levels[..., 1], levels[..., 0]], axis=-1), RED_GREEN_QUALITY)


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Encodes grey or blue, green, red; colours have the full resolution."""
    cv2 = _opencv()
    full = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality, *full])
    if not done:
        raise ValueError(f"OpenCV does not encode a picture of {picture.shape[:2]} px")
    return jpeg.tobytes()
