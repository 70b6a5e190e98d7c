import numpy as np
import pytest

from l3net.inference import saved_model
from l3net.media import sound
from tests.tiny_sounds import RATE


def starts_of(
    num_samples: int, *, hop: int, center: bool = False, block: int = 10_007
) -> list[int]:
    """Cuts a ramp whose value is its sample's number plus 1; returns where windows start."""
    ramp = np.arange(1, num_samples + 1, dtype=np.float32)
    blocks = [ramp[start : start + block] for start in range(0, num_samples, block)]
    starts = []
    for window in sound.windows(blocks, hop=hop, center=center):
        assert window.shape == (RATE,) and window.dtype == np.float32
        samples = np.flatnonzero(window)
        start = int(window[samples[0]]) - 1 - int(samples[0])
        whole = np.arange(start, start + RATE)
        expected = np.where((whole >= 0) & (whole < num_samples), whole + 1, 0)
        np.testing.assert_array_equal(window, expected)
        starts.append(start)
    return starts


@pytest.mark.parametrize(
    ("seconds", "hop_seconds", "expected_seconds"),
    [
        (1.0, 0.5, [0]),
        (0.3, 0.5, [0]),
        (1.005, 0.5, [0]),  # a rest below 0.01 s opens no window
        (1.02, 0.5, [0, 0.5]),
        (5.0, 0.5, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        (5.0, 1.0, [0, 1, 2, 3, 4]),
        (5.0, 2.0, [0, 2, 4]),  # a hop longer than a window
        (5.2, 2.0, [0, 2, 4]),
        (6.2, 2.0, [0, 2, 4, 6]),
    ],
)
@pytest.mark.parametrize("block", [4801, 48_000, 1_000_000])
def test_windows_start_at_multiples_of_the_hop(seconds, hop_seconds, expected_seconds, block):
    starts = starts_of(round(seconds * RATE), hop=round(hop_seconds * RATE), block=block)
    assert starts == [round(start * RATE) for start in expected_seconds]


def test_centred_windows_begin_half_a_second_before():
    starts = starts_of(2 * RATE, hop=RATE // 2, center=True)
    assert starts == [-RATE // 2, 0, RATE // 2, RATE]


@pytest.mark.parametrize("num_samples", [1, 100, 2400, 2401, 50_000, 48_000 + 2399])
@pytest.mark.parametrize("hop", [2400, 24_000])
def test_centres_go_on_to_the_last_one_inside_the_sound(num_samples, hop):
    ramp = np.arange(1, num_samples + 1, dtype=np.float32)
    blocks = sound.until_last_centre(np.array_split(ramp, 3), hop=hop)
    windows = list(sound.windows(blocks, hop=hop, center=True))
    centres = np.arange(0, num_samples, hop)
    assert [window[RATE // 2] for window in windows] == [centre + 1 for centre in centres]
    assert not list(sound.until_last_centre([], hop=hop))


def test_windows_of_nothing_and_of_int16():
    assert not list(sound.windows([], hop=100))
    (window,) = sound.windows([np.full(RATE, -32768, np.int16)], hop=100)
    np.testing.assert_array_equal(window, -1.0)


def test_windows_and_batches_take_no_more_than_they_need():
    taken = 0

    def an_hour():
        nonlocal taken
        for _ in range(3600):
            taken += 1
            yield np.zeros(RATE, np.int16)

    stream = saved_model.batches(sound.windows(an_hour(), hop=RATE // 2), batch_size=8)
    assert next(stream).shape == (8, RATE) and taken == 5
    next(stream)
    assert taken == 9


def check_seconds(num_samples: int, times_seconds, starts_seconds, block: int = 10_007) -> None:
    """Asserts where in a noise the windows around some times start."""
    noise = np.random.default_rng(0).integers(-32_768, 32_768, num_samples).astype(np.int16)
    blocks = iter([noise[k : k + block] for k in range(0, num_samples, block)])
    windows = sound.seconds_around(blocks, times_seconds)
    for start_seconds, window in zip(starts_seconds, windows, strict=True):
        assert window.dtype == np.float32
        samples = noise[round(start_seconds * RATE) :][:RATE]
        expected = np.pad(samples, (0, RATE - len(samples)))
        np.testing.assert_array_equal(np.round(window * 32_768), expected)


@pytest.mark.parametrize("block", [4801, RATE, 10 * RATE])
def test_the_second_is_centred_and_moved_inwards_at_the_ends(block):
    times = [0.0, 0.3, 0.5, 1.0, 2.0, 2.5, 2.9, 3.0]
    check_seconds(3 * RATE, times, [0, 0, 0, 0.5, 1.5, 2, 2, 2], block)


def test_beyond_the_sound_is_silence_and_short_sound_is_padded():
    check_seconds(2 * RATE, [1.9, 2.25, 4.0], [1, 1.75, 3.5])
    check_seconds(RATE // 4, [0.0, 0.1, 0.25], [0, 0, 0])
