import io
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep.shards.flow import (
    METHODS,
    Flow,
    _encode_red_green,
    _opencv,
    opencv_version,
    optical_flow,
)
from l3net import constants
from l3net.data import schema
from l3net.errors import UserError
from tests import tiny_shards

MARGIN_PX = 8  # nothing shows what came in from outside


def scene(size_px: int = 192) -> np.ndarray:
    """A texture with detail of every size, as real pictures have; uint8 [size, size, 3]."""
    rng = np.random.default_rng(0)
    picture = np.zeros((size_px, size_px))
    for grains in (3, 6, 12, 24, 48):
        coarse = Image.fromarray(rng.normal(0, 1 / grains, (grains, grains)).astype(np.float32))
        picture += np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC))
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    return np.repeat(picture.astype(np.uint8)[..., np.newaxis], 3, axis=-1)


def window(picture: np.ndarray, right: int, down: int, height: int = 64, width: int = 88) -> bytes:
    """The picture seen through a fixed window, moved by so many pixels."""
    top, left = 48 - down, 48 - right
    return tiny_shards.encode_jpeg(picture[top : top + height, left : left + width], 95)


def inner(flow: np.ndarray) -> np.ndarray:
    return flow[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def levels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def decode(flow: Flow, index: int = 0) -> np.ndarray:
    """Displacement in x (right) and y (down), pixels per frame step; float32 [height, width, 2]."""
    planes = np.stack(np.split(levels(flow.flows[index]), 2), axis=-1).astype(np.float32)
    return (planes - constants.FLOW_ZERO_LEVEL) * np.float32(flow.flow_scale_px)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("right", "down"), [(3, 0), (-3, 0), (0, 2), (0, -2), (4, -1)])
def test_a_translation_comes_back_with_sign_and_size(right, down, method):
    frames = [window(scene(), 0, 0), window(scene(), right, down)]
    flow = optical_flow(frames, smallest_side_px=64, method=method)
    assert (flow.flow_height_px, flow.flow_width_px, len(flow.flows)) == (64, 88, 1)
    motion = inner(decode(flow))
    np.testing.assert_allclose(np.median(motion, (0, 1)), (right, down), atol=0.1)
    assert np.abs(motion - (right, down)).mean() < 0.2


def test_x_is_above_y_in_one_grey_jpeg():
    frames = [window(scene(), 0, 0), window(scene(), 3, -2)]
    flow = optical_flow(frames, smallest_side_px=64)
    picture = levels(flow.flows[0])
    assert picture.shape == (128, 88)
    for half, pixels in ((picture[:64], 3), (picture[64:], -2)):
        wanted = 128 + 127 * pixels / (20 / 256 * 64)
        assert np.median(inner(half)) == pytest.approx(wanted, abs=2)


@pytest.mark.parametrize("method", METHODS)
def test_a_turn_moves_the_sides_against_each_other(method):
    picture = Image.fromarray(scene())
    turned = np.asarray(picture.rotate(-4, Image.Resampling.BICUBIC))  # clockwise, as seen
    frames = [tiny_shards.encode_jpeg(np.asarray(p)[56:136, 56:136], 95) for p in (picture, turned)]
    x, y = np.moveaxis(decode(optical_flow(frames, smallest_side_px=80, method=method)), -1, 0)
    speed = np.deg2rad(4) * 20  # 20 pixels from the centre
    assert np.median(x[18:22, 30:50]) == pytest.approx(speed, abs=0.3)  # the top goes right
    assert np.median(x[58:62, 30:50]) == pytest.approx(-speed, abs=0.3)
    assert np.median(y[30:50, 58:62]) == pytest.approx(speed, abs=0.3)  # the right side goes down
    assert np.median(y[30:50, 18:22]) == pytest.approx(-speed, abs=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_every_flow_leads_from_its_frame_to_the_next(method):
    frames = [window(scene(), right, 0) for right in (0, 2, 2, 1)]
    flow = optical_flow(frames, smallest_side_px=64, method=method)
    motion = [float(np.median(inner(decode(flow, k))[..., 0])) for k in range(3)]
    np.testing.assert_allclose(motion, (2, 0, -1), atol=0.1)
    # The same bytes again, and in parts, as write_shards computes them.
    parts = [optical_flow(f, smallest_side_px=64, method=method) for f in (frames, frames[2:])]
    assert parts[0] == flow and parts[1].flows == flow.flows[2:]


@pytest.mark.parametrize("method", METHODS)
def test_no_motion_is_exactly_level_128(method):
    # The same bytes take a short cut; another JPEG of the same picture does not.
    still = np.full((64, 88, 3), 77, np.uint8)
    first, other = (tiny_shards.encode_jpeg(still, quality) for quality in (95, 96))
    assert first != other
    for frames in ([window(scene(), 0, 0)] * 2, [first, other]):
        (jpeg,) = optical_flow(frames, smallest_side_px=64, method=method).flows
        assert (levels(jpeg) == constants.FLOW_ZERO_LEVEL).all()


def test_the_short_cut_for_equal_bytes_changes_nothing():
    class Unequal(bytes):
        __hash__ = bytes.__hash__

        def __eq__(self, other):
            return False

    frame = window(scene(), 0, 0)
    slow = optical_flow([Unequal(frame), Unequal(frame)], smallest_side_px=64)
    assert slow == optical_flow([frame, frame], smallest_side_px=64)


def test_a_level_means_the_same_share_of_the_picture_at_any_size():
    # The same scene and motion, twice as large: 3 and 6 pixels.
    medians = []
    for times in (1, 2):
        picture = np.asarray(Image.fromarray(scene()).resize((192 * times,) * 2, 3))
        frames = [
            tiny_shards.encode_jpeg(picture[:, left : left + 128 * times][: 96 * times], 95)
            for left in (16 * times, 13 * times)
        ]
        for smallest_side_px in (96, 48):
            flow = optical_flow(frames, smallest_side_px=smallest_side_px)
            assert flow.flow_scale_px * 127 == pytest.approx(20 / 256 * smallest_side_px)
            x = levels(flow.flows[0])[:smallest_side_px]
            size = (flow.flow_height_px, flow.flow_width_px)
            assert size == x.shape == (smallest_side_px, smallest_side_px * 4 // 3)
            medians.append(np.median(inner(x)))
    np.testing.assert_allclose(medians, 128 + 127 * (3 / 96) / (20 / 256), atol=3)


def test_faster_than_the_bound_is_cut_off_there():
    # 14 pixels of 128, where 20/256 are 10.
    picture = scene(384)
    frames = [window(picture, *by, height=128, width=128) for by in ((0, 0), (14, -14))]
    flow = optical_flow(frames, smallest_side_px=128)
    stacked = levels(flow.flows[0])
    assert np.median(stacked[:128]) == 255
    assert np.median(stacked[128:]) == 1
    np.testing.assert_allclose(np.median(decode(flow), (0, 1)), (10, -10), rtol=1e-5)


def test_portrait_frames_scale_by_their_width():
    frames = [window(scene(), right, 0, height=120, width=80) for right in (0, 2)]
    flow = optical_flow(frames, smallest_side_px=40)
    assert (flow.flow_height_px, flow.flow_width_px) == (60, 40)
    assert np.median(decode(flow)[..., 0]) == pytest.approx(1, abs=0.1)


# MediaSequence's names and types: github.com/google-ai-edge/mediapipe,
# mediapipe/util/sequence/README.md (commit 350fbb2).
MEDIA_SEQUENCE_CONTEXT = {
    "FORWARD_FLOW/image/format": tf.io.FixedLenFeature((), tf.string),
    "FORWARD_FLOW/image/channels": tf.io.FixedLenFeature((), tf.int64),
    "FORWARD_FLOW/image/height": tf.io.FixedLenFeature((), tf.int64),
    "FORWARD_FLOW/image/width": tf.io.FixedLenFeature((), tf.int64),
    "FORWARD_FLOW/image/frame_rate": tf.io.FixedLenFeature((), tf.float32),
    "FORWARD_FLOW/image/saturation": tf.io.FixedLenFeature((), tf.float32),
}
MEDIA_SEQUENCE_LISTS = {
    "FORWARD_FLOW/image/encoded": tf.io.FixedLenSequenceFeature((), tf.string),
    "FORWARD_FLOW/image/timestamp": tf.io.FixedLenSequenceFeature((), tf.int64),
}


def test_media_sequence_and_dmvr_read_the_flow():
    frames = [window(scene(), *shift) for shift in ((0, 0), (3, -2), (3, 1))]
    flow = optical_flow(frames, smallest_side_px=64, mediasequence=True)
    times = (7_000_000, 7_040_000, 7_080_000)
    clip = tiny_shards.make_clip(1, frames=tuple(frames), timestamps_us=times, **vars(flow))
    context, lists = tf.io.parse_single_sequence_example(
        schema.encode_clip(clip), MEDIA_SEQUENCE_CONTEXT, MEDIA_SEQUENCE_LISTS
    )
    assert {key.rpartition("/")[2]: value.numpy() for key, value in context.items()} == {
        "format": b"JPEG",
        "channels": 3,
        "height": 64,
        "width": 88,
        "frame_rate": 25,
        "saturation": 5,  # 20/256 of 64
    }
    assert lists["FORWARD_FLOW/image/timestamp"].numpy().tolist() == [7_000_000, 7_040_000]
    encoded = lists["FORWARD_FLOW/image/encoded"].numpy()
    for index, jpeg in enumerate(encoded):
        image = tf.io.decode_jpeg(jpeg, channels=3)
        assert image.shape == (64, 88, 3) and np.mean(image[..., 2]) < 3
        # What DMVR's processors.normalize_image does: [-1, 1]; the third channel is dropped.
        motion = (tf.cast(image, tf.float32) / 255 * 2 - 1)[..., :2].numpy() * 5
        error = np.abs(motion - decode(flow, index))
        assert error.mean() < 0.04 and np.percentile(error, 99) < 0.16  # one level is 0.039
    motion = inner(motion)  # of the last: 0 to the right, 3 down
    np.testing.assert_allclose(np.median(motion, (0, 1)), (0, 3), atol=0.1)
    plain = optical_flow(frames, smallest_side_px=64)
    assert plain.forward_flows == () and plain.flows == flow.flows


def test_colours_of_a_rough_flow_keep_their_resolution():
    coarse = np.random.default_rng(0).normal(0, 4, (2, 48, 64)).astype(np.float32)
    planes = [Image.fromarray(plane).resize((256, 192), 3) for plane in coarse]
    motion = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    levels = tf.io.decode_jpeg(_encode_red_green(motion, 20.0), channels=3)[..., :2]
    wanted = np.clip(motion / 20, -1, 1) * 127.5 + 127.5
    error = np.abs(tf.cast(levels, tf.float32) - wanted).mean()
    assert error < 1.8  # 1.6; of quality 90 2.0, with colours of half the resolution 2.8


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"x"], "got 1 frames; flow needs at least two"),
        ([b"x", b"y"], "no JPEG"),
        ([b"", b"y"], "no JPEG"),
        ([window(scene(), 0, 0), window(scene(), 0, 0, width=96)], "frame 1 has another size"),
    ],
)
def test_frames_without_flow_are_refused(frames, words):
    with pytest.raises(ValueError, match=words):
        optical_flow(frames, smallest_side_px=64)
    with pytest.raises(ValueError, match="smallest side 8 px; need 16 px|at least two"):
        optical_flow(frames, smallest_side_px=8)


def test_a_lack_of_opencv_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    _opencv.cache_clear()
    try:
        with pytest.raises(UserError, match=r"optical flow .*pip install 'l3net\[flow\]'"):
            opencv_version()
    finally:
        _opencv.cache_clear()


def test_an_opencv_without_contrib_modules_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(__version__="4.13.0"))
    _opencv.cache_clear()
    try:
        with pytest.raises(UserError, match="OpenCV 4.13.0 .* put opencv-contrib-python-headless"):
            opencv_version()
    finally:
        _opencv.cache_clear()


def test_opencv_is_not_imported_before_flow_is_wanted_and_takes_one_thread():
    # By us, that is: Keras imports it where it finds it.
    program = "import sys, data_prep.shards.flow; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    opencv_version()
    import cv2

    assert cv2.getNumThreads() == 1
