import numpy as np
import pytest
import tensorflow as tf

from l3net import constants
from l3net.data import augment
from tests import tiny_shards

NO_JITTER = np.full(augment.NUM_DRAWS, 0.5, np.float32)


def _draws(**columns) -> np.ndarray:
    draws = NO_JITTER.copy()
    for name, value in columns.items():
        draws[getattr(augment, name.upper())] = value
    return draws


def _gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards: a crop shows where it is from."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    return image


def _crop(image, draws, frame_px=224, ratio=1):
    jpeg = tiny_shards.encode_jpeg(image, quality=98)
    return augment.decode_and_crop(jpeg, draws, frame_px=frame_px, ratio=ratio).numpy()


def test_frame_to_float_range():
    floats = augment.frame_to_float(np.array([0, 255], np.uint8)).numpy()
    np.testing.assert_allclose(floats, [-1.0, 1.0], atol=1e-6)


def test_centre_crop_of_the_papers_size():
    image = _gradient(256, 341)
    crop = _crop(image, None)
    assert crop.shape == (224, 224, 3)
    np.testing.assert_allclose(crop.astype(int), image[16:240, 58:282], atol=6)


@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (0.999, 0.999)])
def test_crops_reach_the_corners(y, x):
    image = _gradient(256, 341)
    crop = _crop(image, _draws(crop_y=y, crop_x=x))
    rows, columns = (slice(0, 224), slice(0, 224)) if y == 0 else (slice(32, 256), slice(117, 341))
    np.testing.assert_allclose(crop.astype(int), image[rows, columns], atol=6)


def test_flip():
    image = _gradient(256, 256)
    plain, flipped = _crop(image, _draws(flip=0.9)), _crop(image, _draws(flip=0.1))
    np.testing.assert_array_equal(plain[:, ::-1], flipped)


@pytest.mark.parametrize(
    ("size", "frame_px", "ratio"),
    [((256, 341), 112, 2), ((256, 341), 96, 1), ((512, 512), 224, 2), ((121, 161), 224, 1)],
)
def test_other_sizes_show_the_same_part_of_the_picture(size, frame_px, ratio):
    image = _gradient(*size)
    crop = _crop(image, None, frame_px=frame_px, ratio=ratio)
    assert crop.shape == (frame_px, frame_px, 3)
    side = min(size) * 224 / 256
    expected = 255 * (0.5 - side / size[1] / 2), 255 * (0.5 + side / size[1] / 2)
    np.testing.assert_allclose(crop[frame_px // 2, [0, -1], 0], expected, atol=7)


@pytest.mark.parametrize("flip", [0.1, 0.9])
@pytest.mark.parametrize(("frame_px", "ratio"), [(224, 1), (112, 2), (64, 2)])
def test_frames_of_a_clip_are_cropped_like_each_alone(frame_px, ratio, flip):
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 300, 3)).astype(np.uint8)
    jpegs = tf.constant([tiny_shards.encode_jpeg(frame) for frame in noise])
    how = {"draws": _draws(crop_y=0.3, crop_x=0.8, flip=flip), "frame_px": frame_px, "ratio": ratio}
    together = augment.decode_and_crop_frames(jpegs, **how)
    alone = [augment.decode_and_crop(jpeg, **how) for jpeg in jpegs]
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (3, frame_px, frame_px, 3)


def test_jpeg_ratio():
    sizes = ((256, 224), (256, 112), (256, 56), (256, 113), (120, 224))
    assert [augment.jpeg_ratio(*size) for size in sizes] == [1, 2, 4, 1, 1]


def test_no_jitter_is_the_plain_frame_and_any_stays_in_range():
    frames = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 3), np.uint8)
    jittered = augment.jitter_frames(frames, np.stack([NO_JITTER] * 64))
    np.testing.assert_allclose(jittered, augment.frame_to_float(frames), atol=1e-5)
    draws = np.random.default_rng(1).random((64, augment.NUM_DRAWS), np.float32)
    jittered = augment.jitter_frames(frames, draws).numpy()
    assert jittered.min() >= -1.0 and jittered.max() <= 1.0


def test_brightness_is_an_offset_within_the_range():
    frame = np.full((1, 2, 2, 3), 100, np.uint8)
    for draw, change in ((0.0, -32), (1.0, 32)):
        jittered = augment.jitter_frames(frame, _draws(brightness=draw)[None])
        np.testing.assert_allclose((jittered + 1) * 127.5, 100 + change, atol=1e-2)


def test_saturation_blends_with_grey():
    frame = np.array([200, 100, 50], np.uint8)[None, None, None]
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    jittered = augment.jitter_frames(frame, _draws(saturation=0.0)[None])
    expected = 0.5 * np.array([200, 100, 50]) + 0.5 * grey
    np.testing.assert_allclose((jittered[0, 0, 0] + 1) * 127.5, expected, atol=1e-2)


def test_volume_changes_by_up_to_ten_percent_consistently():
    waveform = np.random.default_rng(0).uniform(-1, 1, (3, 100)).astype(np.float32)
    draws = np.stack([_draws(volume=v) for v in (0.0, 0.5, 1.0)])
    ratio = np.asarray(augment.jitter_volume(waveform, draws)) / waveform
    np.testing.assert_allclose(ratio, np.tile([[0.9], [1.0], [1.1]], 100), rtol=1e-5)


def _flow_jpeg(x_level, y_level, height=64, width=72):
    levels = (x_level, y_level)
    return tiny_shards.encode_grey_jpeg(
        np.concatenate([np.full((height, width), x, np.uint8) for x in levels])
    )


def test_flow_crop_has_x_and_y_of_each_flow_in_order():
    flows = tf.constant([_flow_jpeg(100, 140), _flow_jpeg(60, 200)])
    crop = augment.decode_and_crop_flow(flows, None, frame_px=32)
    assert crop.shape == (32, 32, 4) and crop.dtype == tf.uint8
    np.testing.assert_allclose(crop.numpy().mean(axis=(0, 1)), [100, 140, 60, 200], atol=1)


def test_flow_crop_is_cut_out_of_both_halves():
    rng = np.random.default_rng(0)
    flows = [tiny_shards.encode_grey_jpeg(rng.integers(0, 256, (128, 72))) for _ in range(2)]
    crop = augment.decode_and_crop_flow(
        tf.constant(flows), _draws(crop_y=0.3, crop_x=0.8, flip=0.9), frame_px=56
    )
    top, left = 2, 13  # of 9 and 17 positions
    for index, jpeg in enumerate(flows):
        full = tf.io.decode_jpeg(jpeg, dct_method="INTEGER_ACCURATE").numpy()[..., 0]
        for half, plane in enumerate(np.split(full, 2)):
            cut = plane[top : top + 56, left : left + 56]
            np.testing.assert_array_equal(crop[..., 2 * index + half], cut)


def test_a_flipped_flow_points_the_other_way():
    flows = tf.constant([_flow_jpeg(100, 140)])
    for flip, expected in ((0.0, [28, 12]), (0.9, [-28, 12])):
        draws = tf.constant(_draws(flip=flip))
        crop = augment.decode_and_crop_flow(flows, draws, frame_px=56)
        flow = augment.flow_to_float(crop).numpy().mean(axis=(0, 1)) * constants.FLOW_LEVELS
        np.testing.assert_allclose(flow, expected, atol=1)


def test_flow_and_frame_are_cropped_alike():
    ramp = np.tile(np.linspace(0, 255, 72).astype(np.uint8), (64, 1))
    frame = tiny_shards.encode_jpeg(np.repeat(ramp[..., np.newaxis], 3, axis=2), quality=95)
    both = tiny_shards.encode_grey_jpeg(np.concatenate([ramp, ramp]))
    draws = np.full(augment.NUM_DRAWS, 0.7, np.float32)  # not flipped
    crop = augment.decode_and_crop(frame, tf.constant(draws), frame_px=56).numpy()
    flow = augment.decode_and_crop_flow(tf.constant([both]), tf.constant(draws), frame_px=56)
    np.testing.assert_allclose(flow[..., 0], crop[..., 0], atol=6)
    np.testing.assert_allclose(flow[..., 1], crop[..., 0], atol=6)


def test_frames_of_a_clip_are_jittered_alike():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 3, 8, 8, 3)).astype(np.uint8)
    draws = tf.constant(rng.random((2, augment.NUM_DRAWS), np.float32))
    together = augment.jitter_frames(tf.constant(frames), draws)
    for index in range(3):
        alone = augment.jitter_frames(tf.constant(frames[:, index]), draws)
        np.testing.assert_allclose(together[:, index], alone, atol=1e-5)
