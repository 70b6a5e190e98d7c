"""Objects that are drawn once per clip and moved by affine maps, which give their boxes as well.

A part is drawn three times too large and shrunk to a smooth sprite; pasting that into a frame takes
well under a millisecond.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image

from data_prep.demo_data.motions import Pose, Poses, sway
from data_prep.demo_data.pen import REACH, Pen
from l3net import constants

_OVERSAMPLING = 3
_OPAQUE = 128
Draw = Callable[[Pen, Generator], None]


@dataclasses.dataclass(frozen=True)
class Looks:
    """How a class is drawn."""

    body: Draw  # draws the object
    motion: Callable[[np.ndarray, np.ndarray, Generator], Poses]  # (times, attacks, rng) -> poses
    tool: Draw | None = None  # draws what plays it, in the same coordinates
    tilt: float = 0.2  # largest angle of the object, radians
    scale: float = 1.0  # factor of the object's size; thin things are larger


class Sprite(NamedTuple):
    """A drawn part."""

    image: Image.Image  # RGBA, cropped to what is visible
    to_unit: np.ndarray  # float [3, 3], from pixels of the image to unit coordinates
    hull: np.ndarray  # float [num_points, 2], outermost points of what is visible, unit coordinates


def _draw_sprite(draw: Draw, size_px: float, rng: Generator) -> Sprite:
    """Draws a part smooth and lit from one side; the unit length becomes `size_px`."""
    pen = Pen(size_px * _OVERSAMPLING)
    draw(pen, rng)
    image = pen.image.reduce(_OVERSAMPLING)
    left, top, right, bottom = image.getchannel("A").getbbox() or (0, 0, *image.size)
    image = image.crop((left - 1, top - 1, right + 1, bottom + 1))
    pixels = np.asarray(image).astype(np.float32)
    pixels[..., :3] *= _light(pixels.shape[:2], rng)[..., None]
    scale = 1 / size_px
    to_unit = np.array(
        [[scale, 0, (left - 1) * scale - REACH], [0, scale, (top - 1) * scale - REACH], [0, 0, 1]]
    )
    lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGBA")
    return Sprite(lit, to_unit, _hull(pixels[..., 3]) * scale + to_unit[:2, 2])


def _light(shape: tuple[int, ...], rng: Generator) -> np.ndarray:
    """Returns a factor per pixel: brighter on one side, a little grain."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    grain = rng.standard_normal(shape, dtype=np.float32) * rng.uniform(0, 0.04)
    return 1 + strength * (np.cos(direction) * x + np.sin(direction) * y) + grain


def _hull(alpha: np.ndarray) -> np.ndarray:
    """Returns the outermost points (x, y) of the visible pixels in many directions."""
    rows, columns = np.nonzero(alpha >= _OPAQUE)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    directions = np.stack([np.cos(turn), np.sin(turn)])
    outermost = points[np.argmax(points @ directions, axis=0)]
    return outermost + 0.5 * np.sign(directions.T)


def _map(angle, scale_x, scale_y, x, y) -> np.ndarray:
    """Returns [num, 3, 3] maps: scale, then turn, then move."""
    angle, scale_x, scale_y, x, y = np.broadcast_arrays(angle, scale_x, scale_y, x, y)
    cos, sin = np.cos(angle), np.sin(angle)
    result = np.zeros((*angle.shape, 3, 3))
    result[..., 0, :] = np.stack([cos * scale_x, -sin * scale_y, x], axis=-1)
    result[..., 1, :] = np.stack([sin * scale_x, cos * scale_y, y], axis=-1)
    result[..., 2, 2] = 1
    return result


def _pose_map(pose: Pose) -> np.ndarray:
    to_pivot = _map(0.0, 1.0, 1.0, -pose.pivot_x, -pose.pivot_y)
    turned = _map(pose.angle, pose.scale_x, 1.0, pose.x + pose.pivot_x, pose.y + pose.pivot_y)
    return turned @ to_pivot


class Actor(NamedTuple):
    """An object in a scene."""

    sprites: tuple[Sprite, ...]  # body, and tool where there is one
    maps: np.ndarray  # float [num_sprites, num_frames, 3, 3], image pixels -> frame pixels
    outlines_px: np.ndarray  # float [num_frames, num_points, 2], points (y, x) around all sprites

    @property
    def extent_px(self) -> np.ndarray:
        """The box of all frames together: ymin, xmin, ymax, xmax."""
        points = self.outlines_px.reshape(-1, 2)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def visible_boxes_px(self, height_px: int, width_px: int) -> np.ndarray:
        """The box of what a frame shows of it: float [num_frames, 4], ymin, xmin, ymax, xmax."""
        seen = (self.outlines_px >= 0) & (self.outlines_px <= [height_px, width_px])
        points = np.where(seen.all(axis=2, keepdims=True), self.outlines_px, np.nan)
        return np.concatenate([np.nanmin(points, axis=1), np.nanmax(points, axis=1)], axis=1)

    def moved(self, x_px: float, y_px: float) -> "Actor":
        """Returns the actor somewhere else."""
        maps = _map(0.0, 1.0, 1.0, x_px, y_px) @ self.maps
        return Actor(self.sprites, maps, self.outlines_px + [y_px, x_px])


def make_actor(
    looks: Looks,
    attacks: np.ndarray,
    *,
    num_frames: int,
    size_px: float,
    room_px: float,
    still: bool,
    rng: Generator,
) -> Actor:
    """Draws an object and moves it about the origin with attacks (times in seconds), at 25 fps.

    The unit length becomes `size_px`, or less if the object with all its motion then needs more
    than a square of `room_px`. If `still`, it only drifts.
    """
    seed = rng.integers(2**63)
    size_px *= looks.scale
    for _ in range(4):  # the drift is not scaled, so once may not be enough
        same_rng = np.random.default_rng(seed)
        actor = _draw_actor(looks, attacks, num_frames, size_px, still, same_rng)
        needed_px = np.max(actor.extent_px[2:] - actor.extent_px[:2])
        if needed_px <= room_px:
            break
        size_px *= 0.98 * room_px / needed_px
    return actor


def _draw_actor(
    looks: Looks, attacks: np.ndarray, num_frames: int, size_px: float, still: bool, rng: Generator
) -> Actor:
    times = np.arange(num_frames) / constants.FRAME_RATE_HZ
    poses = looks.motion(np.zeros(1) if still else times, attacks, rng)
    parts = [part for part in (looks.body, looks.tool) if part is not None]
    sprites = tuple(_draw_sprite(part, size_px, rng) for part in parts)
    drift = [sway(times, rng, rng.uniform(1, 6)) for _ in range(2)]
    tilt = rng.uniform(-looks.tilt, looks.tilt) + sway(times, rng, 0.02)
    stretch = rng.uniform(0.88, 1.12)
    flip = rng.choice([-1.0, 1.0])
    zoom = size_px * (1 + sway(times, rng, 0.03))
    overall = _map(tilt, flip * zoom * stretch, zoom / stretch, *drift)
    shape = (num_frames, 3, 3)
    maps = [np.broadcast_to(overall @ _pose_map(pose), shape) for pose in poses]
    pairs = list(zip(sprites, maps, strict=True))
    points = [_outline(s.hull) @ m[:, :2, :2].swapaxes(1, 2) + m[:, None, :2, 2] for s, m in pairs]
    outlines = np.concatenate(points, axis=1)[..., ::-1]
    return Actor(sprites, np.stack([m @ s.to_unit for s, m in pairs]), outlines)


def _outline(corners: np.ndarray) -> np.ndarray:
    """Returns points on the edges of a polygon, its corners among them."""
    steps = np.linspace(0, 1, 40, endpoint=False)[:, None, None]
    edges = corners + steps * (np.roll(corners, -1, axis=0) - corners)
    return edges.reshape(-1, 2)
