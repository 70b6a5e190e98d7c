import numpy as np
import pytest
import tensorflow as tf

from eval.methods import image_crops
from eval.sets import image_sets
from l3net.errors import UserError
from l3net.media.images import read_rgb
from tests.tiny_sets import write_imagenet

SEEDS = [tf.constant([3, number], tf.int64) for number in range(60)]


def _crops(image, side_px):
    """Crops with every seed, by a graph: eagerly each takes a hundred times as long."""
    crop = tf.function(lambda seed: image_crops.distorted(image, seed, side_px))
    return [crop(seed).numpy() for seed in SEEDS]


def _gradient(height=60, width=80):
    """Red grows with the column, green with the row, blue is constant."""
    image = np.full((height, width, 3), 100, np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None, :]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    return tf.constant(image)


def test_central_crop_by_hand():
    crop = image_crops.central(_gradient(), 32).numpy()
    assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8
    # 80 columns, 87.5 % of them: 5 are cut off on each side, 1/16 of 255 is 16.
    assert crop[:, 0, 0].mean() == pytest.approx(16, abs=4)
    assert crop[:, -1, 0].mean() == pytest.approx(239, abs=4)
    assert (np.abs(crop[..., 2].astype(int) - 100) <= 1).all()


def _box(crop):
    """Share of the width and height that a crop of `_gradient` shows, and whether it is flipped."""
    columns, rows = crop[..., 0].mean(axis=0), crop[..., 1].mean(axis=1)
    edge = 32 / 31  # from pixel centres to edges
    width, height = (abs(x[-1] - x[0]) / 255 * edge for x in (columns, rows))
    return width, height, columns[-1] < columns[0]


def test_random_crops_without_colours(monkeypatch):
    monkeypatch.setattr(image_crops, "_distort_colours", lambda image, seeds: image)
    boxes = [_box(crop.astype(float)) for crop in _crops(_gradient(), 32)]
    areas = [width * height for width, height, _ in boxes]
    aspects = [80 * width / (60 * height) for width, height, _ in boxes]
    assert 0.04 < min(areas) < 0.2 and 0.6 < max(areas) <= 1.05
    assert 0.70 < min(aspects) < 0.85 and 1.2 < max(aspects) < 1.42
    assert 15 <= sum(flipped for _, _, flipped in boxes) <= 45


def test_colours():
    crops = _crops(tf.constant(np.full((20, 20, 3), (200, 100, 50), np.uint8)), 8)
    colours = np.array([crop.mean(axis=(0, 1)) for crop in crops])
    assert crops[0].dtype == np.uint8
    assert colours.std(axis=0).min() > 10  # every channel changes
    # Hue and saturation leave the largest channel alone, and so does contrast in a flat picture.
    largest = colours.max(axis=1)
    assert largest.std() > 5 and np.abs(largest - 200).max() <= 32 + 1
    assert {tuple(colour.argsort()) for colour in colours} > {(2, 1, 0)}  # hues


def test_four_orders_of_colour_steps(monkeypatch):
    drawn = []

    def record(index, branches):
        drawn.append((int(index), len(branches)))
        return tf.zeros([8, 8, 3])

    monkeypatch.setattr(tf, "switch_case", record)
    for seed in SEEDS[:30]:
        image_crops.distorted(_gradient(), seed, 8)
    assert set(drawn) == {(order, 4) for order in range(4)}
    assert all(sorted(order) == [0, 1, 2, 3] for order in image_crops._ORDERS)


def test_crops_depend_on_the_seed_alone():
    one, again, other = (
        image_crops.distorted(_gradient(), SEEDS[k], 16).numpy() for k in (0, 0, 1)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)


@pytest.fixture
def train(tmp_path):
    write_imagenet(tmp_path)
    return image_sets.read_imagenet(tmp_path).train


def _all(split, rows, **settings):
    found = list(image_crops.batches(split, rows, side_px=16, batch_size=4, **settings))
    return [len(rows) for _, rows in found], *(np.concatenate(x) for x in zip(*found, strict=True))


def test_batches_hold_every_row_once_in_order_and_refuse_a_damaged_image(train):
    order = np.arange(15)[::-1]
    sizes, images, rows = _all(train, order)
    assert sizes == [4, 4, 4, 3] and np.array_equal(rows, order)
    expected = image_crops.central(tf.constant(read_rgb(train.sources[14])), 16)
    assert np.array_equal(images[0], expected)
    broken = image_sets.Split((b"text",), ("x",), np.zeros(1, np.int64))
    with pytest.raises(UserError, match="the image: not an image") as error:
        _all(broken, np.arange(1))
    assert "\n" not in str(error.value)


def test_distorted_batches_depend_on_seed_and_row_not_on_order(train):
    _, first, _ = _all(train, np.arange(15), seed=(0, 1))
    _, second, _ = _all(train, np.arange(15)[::-1], seed=(0, 1))
    assert np.array_equal(first, second[::-1])
    _, third, _ = _all(train, np.arange(15), seed=(0, 2))
    assert not np.array_equal(first, third)
    assert len(np.unique(first.reshape(15, -1), axis=0)) == 15
