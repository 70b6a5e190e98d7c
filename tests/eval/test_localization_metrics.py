"""Positions, regions and overlaps, all against numbers worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from eval.metrics import localization as metrics
from eval.sets import sounding_frames
from l3net.data import augment
from tests.tiny_shards import encode_jpeg


@pytest.mark.parametrize(("height", "width"), [(256, 341), (341, 256), (256, 256), (255, 301)])
def test_the_crop_is_the_one_that_the_networks_see(height, width):
    # A picture whose levels are positions: red is y, green is x.
    y, x = np.mgrid[:height, :width]
    levels = [255 * (y + 0.5) / height, 255 * (x + 0.5) / width, np.zeros((height, width))]
    jpeg = encode_jpeg(np.stack(levels, axis=-1).astype(np.uint8), quality=100)
    crop = augment.decode_and_crop(tf.constant(jpeg), None, frame_px=56).numpy() / 255.0
    view = sounding_frames.centre_crop(height, width)
    for point in ((0.1, 0.1), (0.9, 0.2), (0.5, 0.5), (0.25, 0.95)):
        seen = crop[int(point[0] * 56), int(point[1] * 56), :2]
        assert np.allclose(seen, view.to_frame(point), atol=0.03)


def test_view_by_hand():
    assert sounding_frames.centre_crop(256, 320) == sounding_frames.View(
        16 / 256, 48 / 320, 224 / 256, 224 / 320
    )
    view = sounding_frames.View(0.1, 0.2, 0.5, 0.5)
    assert view.to_frame((0.5, 0.5)) == pytest.approx((0.35, 0.45))
    boxes = view.of_boxes(np.array([[0, 0.2, 0.35, 0.7], [0.7, 0, 1, 1]]))
    assert np.allclose(boxes[0], [0, 0, 0.5, 1])
    assert boxes[1, 0] == boxes[1, 2] == 1  # outside: no area
    assert sounding_frames.View().to_frame((0.3, 0.7)) == (0.3, 0.7)


def test_hits():
    one = np.array([[0, 0, 0.5, 0.5]])
    assert metrics.is_hit((0.5, 0.5), one) and not metrics.is_hit((0.51, 0.5), one)
    two = np.array([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.4, 0.4]])
    assert metrics.is_hit((0.5, 0.5), two)
    assert not metrics.is_hit((0.5, 0.5), two, consensus=2)
    assert metrics.is_hit((0.3, 0.3), two, consensus=2)


def test_where_nobody_agrees_any_box_counts():
    apart = np.array([[0, 0, 0.2, 0.2], [0.8, 0.8, 1, 1]])
    assert metrics.is_hit((0.1, 0.1), apart, consensus=2)
    assert metrics.is_hit((0.9, 0.9), apart, consensus=2)
    assert not metrics.is_hit((0.5, 0.5), apart, consensus=2)
    # Boxes that cross overlap most at no corner of their own.
    cross = np.array([[0.4, 0, 0.6, 1], [0, 0.4, 1, 0.6]])
    assert not metrics.is_hit((0.5, 0.1), cross, consensus=3)
    assert metrics.is_hit((0.5, 0.5), cross, consensus=3)


def test_wilson_interval():
    assert metrics.wilson_interval(81, 100) == pytest.approx((0.7222, 0.8749), abs=2e-4)
    assert metrics.wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert metrics.wilson_interval(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)


def test_consensus_map_and_upper_half():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]])
    assert metrics.consensus_map(boxes, 2, size=2).tolist() == [[1, 1], [0.5, 0.5]]
    assert metrics.consensus_map(boxes, 1, size=2).tolist() == [[1, 1], [1, 1]]
    assert metrics.consensus_map(boxes[1:] * 0, size=2).sum() == 0
    assert metrics.upper_half(np.array([[1, 4], [2, 3]])).tolist() == [[False, True], [False, True]]
    raster = np.random.default_rng(0).random((224, 224))
    assert metrics.upper_half(raster).mean() == 0.5


def test_ciou_by_hand():
    agreed = np.array([1, 0, 0.5])
    assert metrics.ciou(np.array([True, True, False]), agreed) == pytest.approx(1 / 2.5)
    assert metrics.ciou(np.array([True, False, True]), agreed) == 1
    assert metrics.ciou(np.array([False, True, False]), agreed) == 0
    assert metrics.ciou(np.zeros(3, bool), np.zeros(3)) == 0
    # Where one person drew, it is the IoU.
    area, box = np.random.default_rng(1).random((2, 20, 20)) > 0.5
    assert metrics.ciou(area, box.astype(float)) == (area & box).sum() / (area | box).sum()


def test_success_rate_and_area_under_it():
    assert metrics.success_rate([0.3, 0.5, 0.8]) == 2 / 3
    assert metrics.success_auc([0.5]) == pytest.approx(0.525)
    assert metrics.success_auc([1.0]) == 1
    assert metrics.success_auc([0.0]) == pytest.approx(0.025)
    # 0.15 reaches the fourth threshold, 3/20, though 3 * 0.05 is more than 0.15.
    assert 3 * 0.05 > 0.15 and metrics.success_auc([0.15]) == pytest.approx(0.175)
    # Of many, it is about their mean.
    values = np.random.default_rng(0).random(500)
    assert math.isclose(metrics.success_auc(values), values.mean(), abs_tol=0.01)
