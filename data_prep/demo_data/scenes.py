"""Moving scenes of the demo data set: objects before a background, seen by a camera."""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image

from data_prep.demo_data.actors import Actor, Looks, make_actor
from data_prep.demo_data.backgrounds import draw_background
from data_prep.demo_data.motions import sway
from l3net import constants

# Width, height. Small, for making them is mostly work per pixel; prep scales them to 256.
SIZES_PX = ((240, 192), (216, 192), (192, 192), (192, 216))
# What the unit length becomes, pixels: for an object alone, beside a silent one, for the latter.
SIZE_PX = (100.0, 130.0)
SIZE_OF_TWO_PX = (90.0, 105.0)
SILENT_SIZE_PX = (45.0, 60.0)
_MARGIN_PX = 6  # between the object and the central square that every centred crop shows
_MAX_OVERLAP = 0.05
# How much of an object's height and width may be outside the central square: who films does not
# always centre, and localization must not be solved by answering "the middle".
_MAX_CUT = 0.3
_NOISE_FRAMES = 5


class Scene(NamedTuple):
    """A clip's picture, ready to be drawn frame by frame."""

    width_px: int  # size of the frames
    height_px: int
    # float [num_frames, 4], ymin, xmin, ymax, xmax of the sounding object, in [0, 1].
    boxes: np.ndarray
    actors: tuple[Actor, ...]  # the objects, the farthest first
    background: Image.Image  # what is behind them, larger than a frame
    # int [num_frames, 2], the background's pixel (x, y) in the frame's corner.
    camera_px: np.ndarray
    look_up: np.ndarray  # uint8 [3, 256], light and colour: old value -> new value
    # uint8 [5, height, width, 1] of the sensor, which wraps around: 255 takes away 1.
    noise: np.ndarray | None

    @property
    def has_silent_object(self) -> bool:
        """Whether it shows a second object."""
        return len(self.actors) == 2


def make_scene(
    looks: Looks, attacks: np.ndarray, num_frames: int, rng: Generator, silent: Looks | None = None
) -> Scene:
    """Draws an object that moves with attacks (times in seconds), and a background; at 25 fps.

    A second object, which is silent, is left out where there is no room.
    """
    width, height = SIZES_PX[rng.integers(len(SIZES_PX))]
    room_px = min(width, height) - 2 * _MARGIN_PX
    make = functools.partial(
        make_actor, attacks=attacks, num_frames=num_frames, room_px=room_px, rng=rng
    )
    size_px = rng.uniform(*(SIZE_PX if silent is None else SIZE_OF_TWO_PX))
    actor = _placed(make(looks, size_px=size_px, still=False), width, height, rng)
    actors = [actor]
    if silent is not None:
        other = make(silent, size_px=rng.uniform(*SILENT_SIZE_PX), still=True)
        tries = (_placed(other, width, height, rng) for _ in range(40))
        apart = (each for each in tries if _overlap(each, actor) <= _MAX_OVERLAP)
        actors = [*itertools.islice(apart, 1), actor]
    camera = _camera(num_frames, rng)
    reach = int(camera.max()) + 1
    boxes = actor.visible_boxes_px(height, width) / [height, width, height, width]
    background = draw_background(width + reach, height + reach, rng)
    light, noise = _look_up(rng), _sensor_noise(width, height, rng)
    return Scene(width, height, boxes, tuple(actors), background, camera, light, noise)


def _placed(actor: Actor, width: int, height: int, rng: Generator) -> Actor:
    """Puts an actor into the central square, or beyond its border by `_MAX_CUT` at most."""
    side = min(width, height)
    low = np.array([(height - side) / 2, (width - side) / 2]) + _MARGIN_PX
    extent = actor.extent_px
    size = extent[2:] - extent[:2]
    outside = _MAX_CUT * size
    free = side - 2 * _MARGIN_PX - size + 2 * outside
    y, x = low - outside - extent[:2] + free * rng.uniform(0, 1, 2)
    return actor.moved(x, y)


def _overlap(actor: Actor, other: Actor) -> float:
    """Returns the common area of two actors' boxes as a share of the smaller one's."""
    a, b = actor.extent_px, other.extent_px
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    areas = [np.prod(box[2:] - box[:2]) for box in (a, b)]
    return float(np.prod(np.maximum(sides, 0)) / min(areas))


def _camera(num_frames: int, rng: Generator) -> np.ndarray:
    times = np.arange(num_frames) / constants.FRAME_RATE_HZ
    path = np.stack([sway(times, rng, rng.uniform(0, 8)) for _ in range(2)], axis=1)
    return np.round(path - path.min(axis=0)).astype(int)


def _look_up(rng: Generator) -> np.ndarray:
    values = np.linspace(0, 1, 256)
    gamma, gain, lift = rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.0), rng.uniform(0, 0.1)
    casts = rng.uniform(0.88, 1.0, 3)
    curves = [(lift + (gain - lift) * values**gamma) * cast for cast in casts]
    # Room at both ends, so that noise never wraps around.
    return np.clip(np.array(curves) * 255, 16, 239).astype(np.uint8)


def _sensor_noise(width: int, height: int, rng: Generator) -> np.ndarray | None:
    if rng.random() < 0.5:
        return None
    noise = rng.standard_normal((_NOISE_FRAMES, height, width, 1), dtype=np.float32)
    noise = np.clip(np.round(noise * rng.uniform(1, 5)), -15, 15)
    return noise.astype(np.int8).view(np.uint8)


def render(scene: Scene) -> Iterator[np.ndarray]:
    """Yields the frames of a scene: uint8 [height, width, 3], RGB."""
    table = scene.look_up.ravel().tolist()
    background = scene.background.point(table)
    parts = [
        (sprite.image.point([*table, *range(256)]), maps, np.linalg.inv(maps))
        for actor in scene.actors
        for sprite, maps in zip(actor.sprites, actor.maps, strict=True)
    ]
    size = scene.width_px, scene.height_px
    for index, (x, y) in enumerate(scene.camera_px.tolist()):
        frame = background.crop((x, y, x + size[0], y + size[1]))
        for image, to_frame, to_image in parts:
            _paste(frame, image, to_frame[index], to_image[index])
        pixels = np.asarray(frame)
        yield pixels if scene.noise is None else pixels + scene.noise[index % _NOISE_FRAMES]


def _paste(
    frame: Image.Image, image: Image.Image, to_frame: np.ndarray, to_image: np.ndarray
) -> None:
    """Pastes a sprite through an affine map, touching only the part of the frame it covers."""
    (a, b, x), (c, d, y) = to_frame[:2].tolist()
    width, height = image.size
    left = max(0, math.floor(x + min(a * width, 0) + min(b * height, 0)))
    top = max(0, math.floor(y + min(c * width, 0) + min(d * height, 0)))
    right = min(frame.width, math.ceil(x + max(a * width, 0) + max(b * height, 0)))
    bottom = min(frame.height, math.ceil(y + max(c * width, 0) + max(d * height, 0)))
    if right <= left or bottom <= top:
        return
    (a, b, x), (c, d, y) = to_image[:2].tolist()
    piece = image.transform(
        (right - left, bottom - top),
        Image.Transform.AFFINE,
        (a, b, x + a * left + b * top, c, d, y + c * left + d * top),
        Image.Resampling.BILINEAR,
    )
    frame.paste(piece, (left, top), piece)
