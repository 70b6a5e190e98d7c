"""Crops of images as the Inception networks were trained and tested on (L3 §3.4, its [33]).

Szegedy et al. 2016 do not describe them: area, aspect, flip, colours and the crop for testing are
those of the code that was published for these networks (TensorFlow's slim models).
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from eval.sets import image_sets
from l3net.errors import UserError
from l3net.media.images import read_rgb

AREA_RANGE = (0.05, 1.0)
ASPECT_RANGE = (3 / 4, 4 / 3)
MIN_COVERED = 0.1
MAX_ATTEMPTS = 100
BRIGHTNESS_RANGE = 32.0 / 255.0
SATURATION_RANGE = CONTRAST_RANGE = (0.5, 1.5)
HUE_RANGE = 0.2
CENTRAL_SHARE = 0.875
_BRIGHTNESS, _SATURATION, _HUE, _CONTRAST = range(4)
_ORDERS = (
    (_BRIGHTNESS, _SATURATION, _HUE, _CONTRAST),
    (_SATURATION, _BRIGHTNESS, _CONTRAST, _HUE),
    (_CONTRAST, _HUE, _BRIGHTNESS, _SATURATION),
    (_HUE, _SATURATION, _CONTRAST, _BRIGHTNESS),
)


def central(image: tf.Tensor, side_px: int) -> tf.Tensor:
    """Scales the middle 87.5 % of either side of uint8 [height, width, 3] to a square."""
    return _to_pixels(_resized(tf.image.central_crop(image, CENTRAL_SHARE), side_px))


def distorted(image: tf.Tensor, seed: tf.Tensor, side_px: int) -> tf.Tensor:
    """Scales a random part to a square, flips it half of the time, distorts its colours."""
    seeds = tf.unstack(tf.random.split(seed, 7), num=7)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seeds[0],
        min_object_covered=MIN_COVERED,
        aspect_ratio_range=ASPECT_RANGE,
        area_range=AREA_RANGE,
        max_attempts=MAX_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    crop = _resized(tf.slice(image, begin, size), side_px)
    crop = tf.image.stateless_random_flip_left_right(crop, seeds[1])
    return _to_pixels(_distort_colours(crop, seeds[2:]))


@functools.cache
def _traced_distorted(side_px: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns `distorted` as a graph made once, not once for every epoch's data set."""
    signature = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int64)]
    return tf.function(lambda image, seed: distorted(image, seed, side_px), signature)


def _resized(image: tf.Tensor, side_px: int) -> tf.Tensor:
    """Scales to a square (bilinear, antialiased: our choice), float32 in [0, 1]."""
    return tf.image.resize(image, [side_px, side_px], antialias=True) / 255.0


def _to_pixels(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(255.0 * tf.clip_by_value(image, 0.0, 1.0)), tf.uint8)


def _distort_colours(image: tf.Tensor, seeds: Sequence[tf.Tensor]) -> tf.Tensor:
    """Changes brightness, saturation, hue and contrast, in one of four orders."""

    def step(image: tf.Tensor, kind: int) -> tf.Tensor:
        if kind == _BRIGHTNESS:
            return tf.image.stateless_random_brightness(image, BRIGHTNESS_RANGE, seeds[kind])
        if kind == _SATURATION:
            return tf.image.stateless_random_saturation(image, *SATURATION_RANGE, seeds[kind])
        if kind == _HUE:
            return tf.image.stateless_random_hue(image, HUE_RANGE, seeds[kind])
        return tf.image.stateless_random_contrast(image, *CONTRAST_RANGE, seeds[kind])

    def in_order(order: Sequence[int]) -> tf.Tensor:
        changed = image
        for kind in order:
            changed = step(changed, kind)
        return changed

    chosen = tf.random.stateless_uniform([], seeds[4], maxval=len(_ORDERS), dtype=tf.int32)
    return tf.switch_case(chosen, [lambda order=order: in_order(order) for order in _ORDERS])


def batches(
    split: image_sets.Split,
    rows: np.ndarray,
    *,
    side_px: int,
    batch_size: int,
    seed: tuple[int, int] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads and crops images, several at a time; holds a few batches.

    Distorted crops depend on the seed and on the row; without a seed they are central.

    Yields:
        (uint8 [N, side_px, side_px, 3], int64 [N] rows); UserError if an image cannot be read.
    """
    failures = []

    def load(row: np.ndarray) -> np.ndarray:
        try:
            return read_rgb(split.sources[int(row)])
        except UserError as error:
            failures.append(error)
            raise

    def crop(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.ensure_shape(tf.numpy_function(load, [row], tf.uint8), [None, None, 3])
        if seed is None:
            return central(image, side_px), row
        own = tf.random.fold_in(tf.constant(seed, tf.int64), row)
        return _traced_distorted(side_px)(image, own), row

    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
    dataset = dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        if failures:
            raise failures[0] from error
        raise
