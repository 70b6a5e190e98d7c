import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from l3net.data import avc_pairs

SECOND = 48_000
FRAME_RATES_HZ = (23.976, 24.0, 25.0, 29.97, 30.0, 50.0)


def _draw(times_us, num_samples, draws, sampling, padding=0, **settings):
    result = avc_pairs.draw_times(
        tf.constant(times_us, tf.int64),
        num_samples,
        tf.constant(draws, tf.float32),
        sampling=sampling,
        num_padding_frames=padding,
        **settings,
    )
    return [x.numpy() for x in result]


def _check_positives(times_us, num_samples, draws, sampling, padding=0):
    index, matching, other = _draw(times_us, num_samples, draws, sampling, padding)
    time_samples = np.asarray(times_us)[index] * 0.048
    assert np.all(index >= min(padding, len(times_us) - 1))
    assert np.all(matching <= time_samples), "frame before its second of sound"
    assert np.all(time_samples <= matching + SECOND + 1), "frame after its second of sound"
    for start in (matching, other):
        assert np.all((start >= 0) & (start + SECOND <= num_samples))


_four = st.tuples(*[st.floats(0, 1, exclude_max=True, width=32)] * avc_pairs.NUM_TIME_DRAWS)
_draws = st.lists(_four, min_size=1, max_size=8)


@settings(max_examples=120, deadline=None)
@given(
    frame_rate_hz=st.sampled_from(FRAME_RATES_HZ),
    seconds=st.floats(1.0, 12.0),
    sampling=st.sampled_from(avc_pairs.SAMPLINGS),
    late_seconds=st.floats(0.0, 0.9),
    draws=_draws,
)
def test_every_positive_frame_lies_in_its_second(
    frame_rate_hz, seconds, sampling, late_seconds, draws
):
    """Constant frame rates, picture from the clip's start or late."""
    times_us = np.arange(late_seconds, seconds, 1 / frame_rate_hz) * 1e6
    _check_positives(times_us.astype(np.int64), round(seconds * SECOND), draws, sampling)


@settings(max_examples=120, deadline=None)
@given(
    gaps_us=st.lists(st.integers(1, 700_000), min_size=1, max_size=60),
    sampling=st.sampled_from(avc_pairs.SAMPLINGS),
    padding=st.integers(0, 5),
    draws=_draws,
)
def test_variable_frame_rates_and_padding(gaps_us, sampling, padding, draws):
    times_us = np.cumsum(gaps_us)
    num_samples = max(SECOND, int(times_us[-1] * 0.048) + 1)
    _check_positives(times_us, num_samples, draws, sampling, padding)


@pytest.mark.parametrize("largest", [0.0, 0.5, 1.0])
def test_misalignment_reaches_its_largest_shift_and_no_further(largest):
    times_us = np.arange(0, 10_000_000, 40_000)
    draws = np.random.default_rng(0).random((2000, avc_pairs.NUM_TIME_DRAWS))
    index, matching, other = _draw(
        times_us, 10 * SECOND, draws, "ots", misalignment_seconds=largest
    )
    centres = (matching + SECOND // 2) / SECOND
    shifts = centres - times_us[index] / 1e6
    inner = (centres > 0.5) & (centres < 9.5)  # the clip's ends cut the others
    assert np.abs(shifts[inner]).max() == pytest.approx(largest, abs=0.02)
    on_grid = (other + SECOND // 2) % 1920 == 0
    assert on_grid.all() if largest == 0 else on_grid.mean() < 0.1


def test_l3_by_hand():
    times_us, num_samples = [0, 1_000_000, 2_000_000], 3 * SECOND
    draws = [[0.34, 0.0, 0.5, 0.0], [0.34, 0.999999, 0.5, 0.0], [0.0, 0.999999, 0.0, 0.0]]
    index, matching, other = _draw(times_us, num_samples, draws, "l3")
    assert index.tolist() == [1, 1, 0]
    assert matching[0] == 0 and matching[1] == pytest.approx(SECOND, abs=1) and matching[2] == 0
    assert other.tolist() == [SECOND, SECOND, 0]
    with pytest.raises(ValueError, match="need one of l3, ots, naive"):
        _draw([0], SECOND, [[0, 0, 0, 0]], "soundnet")


def test_ots_shares_the_grid_and_the_misalignment():
    """Frames on the 25 fps grid: without misalignment every mid-point is a multiple of 0.04 s."""
    times_us = np.arange(0, 5_000_000, 40_000)
    rng = np.random.default_rng(0)
    draws = rng.random((4000, avc_pairs.NUM_TIME_DRAWS))
    centred = draws.copy()
    centred[:, [1, 3]] = 0.5  # no shift
    index, matching, other = _draw(times_us, 5 * SECOND, centred, "ots")
    np.testing.assert_array_equal((matching + SECOND // 2) % 1920, 0)
    np.testing.assert_array_equal((other + SECOND // 2) % 1920, 0)
    np.testing.assert_array_equal(matching + SECOND // 2, times_us[index] * 6 // 125)
    _, matching, other = _draw(times_us, 5 * SECOND, draws, "ots")
    # The same distribution for positives and negatives: nothing to cheat with.
    quantiles = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(
        np.quantile(matching, quantiles), np.quantile(other, quantiles), atol=0.05 * SECOND
    )


def test_naive_keeps_the_shortcut():
    times_us = np.arange(0, 5_000_000, 40_000)
    draws = np.random.default_rng(0).random((2000, avc_pairs.NUM_TIME_DRAWS))
    _, matching, other = _draw(times_us, 5 * SECOND, draws, "naive")
    assert np.all((matching + SECOND // 2) % 1920 == 0)
    assert np.mean((other + SECOND // 2) % 1920 == 0) < 0.01


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=16), st.integers(0, 2**31))
def test_negatives_come_from_another_video(media_ids, seed):
    draws = np.random.default_rng(seed).random(len(media_ids), np.float32)
    corresponds, partner = avc_pairs.mix_pairs(tf.constant(media_ids, tf.int64), draws)
    ids = np.asarray(media_ids)
    negative = corresponds.numpy() == 0
    assert np.all(ids[negative] != ids[partner.numpy()[negative]])
    expected = np.arange(len(ids)) % 2 == 1
    if len(set(media_ids)) > 1:
        np.testing.assert_array_equal(negative, expected)
    else:
        assert not negative.any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=16), st.data())
def test_every_clip_gives_a_match_and_mismatches(media_ids, data):
    """Which clip a row's frame and sound are of is read from the clips' numbers, sent along."""
    num = data.draw(st.integers(1, len(media_ids) - 1))
    ids, clips = np.asarray(media_ids), tf.range(len(media_ids))
    targets = avc_pairs.paired_targets(tf.constant(media_ids, tf.int64), num).numpy()
    frames = avc_pairs.frames_of_pairs(clips, num).numpy()
    sounds = avc_pairs.sounds_of_pairs(clips, num).numpy()
    np.testing.assert_array_equal(targets, ids[frames] == ids[sounds])
    assert len(set(zip(frames, sounds, strict=True))) == len(frames) == len(ids) * (1 + num)
    is_match = np.arange(len(frames)) % (1 + num) == 0
    np.testing.assert_array_equal(frames == sounds, is_match)
    for of_rows in (frames, sounds):
        np.testing.assert_array_equal(np.bincount(of_rows[~is_match]), num)
    weights = avc_pairs.weights_of_pairs(len(ids), num).numpy()
    assert np.all(weights[is_match] == 1)
    assert weights[~is_match].sum() == pytest.approx(len(ids)) and len(weights) == len(frames)


def test_sounds_of_mismatches_may_be_others():
    matching, others = tf.constant([[1], [2], [3]]), tf.constant([[10], [20], [30]])
    rows = avc_pairs.sounds_of_pairs(matching, 2, others)
    assert rows.numpy().ravel().tolist() == [1, 20, 30, 2, 30, 10, 3, 10, 20]


def test_partner_is_chosen_evenly():
    counts = np.zeros(8)
    for seed in range(400):
        draws = np.random.default_rng(seed).random(8, np.float32)
        _, partner = avc_pairs.mix_pairs(tf.range(8, dtype=tf.int64), draws)
        counts[partner.numpy()[3]] += 1
    assert counts[3] == 0
    assert counts[np.arange(8) != 3].min() > 25  # 57 expected


@pytest.mark.parametrize(
    ("index", "count", "num_frames", "padding", "expected"),
    [
        (5, 4, 50, 0, [3, 4, 5, 6]),
        (5, 5, 50, 0, [3, 4, 5, 6, 7]),
        (1, 5, 50, 0, [0, 0, 1, 2, 3]),
        (48, 5, 50, 0, [46, 47, 48, 49, 49]),
        (4, 5, 50, 3, [3, 3, 4, 5, 6]),
        (0, 3, 1, 0, [0, 0, 0]),
        (20, 10, 49, 0, list(range(15, 25))),  # flow k leads from frame k to k + 1
    ],
)
def test_frame_window_is_centred_and_stays_in_the_clip(index, count, num_frames, padding, expected):
    window = avc_pairs.frame_window(
        tf.constant([index]), count, num_frames, num_padding_frames=padding
    )
    assert window.numpy().tolist() == [expected]
