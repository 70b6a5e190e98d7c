import warnings

import numpy as np
import pytest
import soundfile

from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.media import sound
from tests.tiny_sounds import RATE, tone


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


# --- Sound in memory -----------------------------------------------------------------------------
SHORT = np.round(tone(0.1) * 32_767).astype(np.int16)


@pytest.mark.parametrize(
    "waveform",
    [
        SHORT,
        SHORT.astype(np.int32) * 65_536,
        SHORT / 32_768,
        (SHORT / 32_768).tolist(),
        np.stack([SHORT, SHORT], axis=1),
        np.stack([2 * (SHORT / 32_768), np.zeros(len(SHORT))], axis=1),
    ],
)
def test_one_sound_in_many_forms(waveform):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mono = sound.mono_48k(waveform, RATE)
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, SHORT / 32_768, atol=1e-6)


def test_what_is_repaired_is_said():
    with pytest.warns(UserWarning, match=r"shape \[1, samples\] is taken as one channel"):
        mono = sound.mono_48k(SHORT[np.newaxis], RATE)
    np.testing.assert_allclose(mono, SHORT / 32_768, atol=1e-6)
    with pytest.warns(UserWarning, match="beyond 1 are cut off"):
        mono = sound.mono_48k(10 * tone(0.1), RATE)
    np.testing.assert_array_equal(mono, np.clip(10 * tone(0.1), -1, 1))


class Unreadable:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("call cpu() first\nmore")


def spoilt(value: float, where: int) -> np.ndarray:
    return np.where(np.arange(4800)[:, np.newaxis] == [where, -1], value, 0.1)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((2, 4800)), r"shape \(2, 4800\).*give its transpose, if several sounds, a list"),
        (np.zeros((4800, 65)), "need .samples, channels."),
        (np.zeros((2, 3, 4)), "shape"),
        (0.5, "shape"),
        ([], "not empty"),
        (SHORT.astype(np.float32), "samples up to 1.*values of 16 bits"),
        (SHORT.astype(np.int32), "int32 samples within the range of 16 bits"),
        (SHORT.astype(int), "type int64"),
        (SHORT.astype(np.uint16), "type uint16"),
        (SHORT > 0, "type bool"),
        (SHORT * 1j, "type complex128"),
        ("a.wav", "type <U5: .* l3net.extract"),
        ([[0.1, 0.2], [0.1]], "type list"),
        (Unreadable(), "type Unreadable: call cpu.. first$"),
        *((spoilt(value, 0), "NaN or infinite") for value in (np.nan, np.inf, -np.inf)),
        (spoilt(-16.5, 4799), "samples up to 16.5"),
    ],
)
def test_doubtful_sounds_are_refused(waveform, message):
    with pytest.raises(UserError, match=message):
        sound.mono_48k(waveform, RATE)


@pytest.mark.parametrize("rate", ["44100", None, True, np.nan, np.inf, 0, -1, 1, 44.1, 999.9, 1j])
def test_rates_that_are_none_or_in_khz_are_refused(rate):
    with pytest.raises(UserError, match="sample rate of .*: need"):
        sound.mono_48k(SHORT, rate)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_in_memory_is_resampled_as_files_are(tmp_path, rate, channels):
    # Noise shows all of a filter.
    noise = np.random.default_rng(0).normal(0, 0.1, (rate // 2, channels)).clip(-1, 1)
    soundfile.write(tmp_path / "noise.wav", noise, rate, subtype="FLOAT")
    from_file = np.concatenate(list(sound.sound_blocks(tmp_path / "noise.wav"))) / 32_768

    def difference(resampling: str) -> float:
        ours = sound.mono_48k(noise, rate, resampling)
        assert abs(len(ours) - len(from_file)) <= 1
        ends = slice(500, len(ours) - 500)
        return np.std(ours[ends] - from_file[ends]) / np.std(from_file)

    assert difference(sound.AS_FFMPEG) < 0.01 < 0.05 < difference(sound.AS_OPENL3)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (44_100, [0.1489784, 0.0287425, -0.1840549, -0.0528266]),
        (96_000, [0.0296594, -0.0318262, 0.1235061, 0.0031688]),
    ],
)
def test_openl3s_resampler_is_that_of_resampy_0_2(rate, expected):
    # Made by resampy 0.2.2: resample(noise, rate, 48_000)[50:201:50].
    noise = np.random.default_rng(0).normal(0, 0.1, 441)
    got = sound.mono_48k(noise, rate, sound.AS_OPENL3)[50:201:50]
    np.testing.assert_allclose(got, expected, atol=2e-7)
