import numpy as np
import pytest
import tensorflow as tf

from l3net import constants
from l3net.log_spectrogram import log_spectrogram, log_spectrogram_shape, log_spectrograms


def _sine(frequency_hz: float, amplitude: float = 1.0) -> np.ndarray:
    time_seconds = np.arange(48_000) / 48_000
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_seconds)).astype(np.float32)[None]


def test_shapes_are_the_papers():
    silence = np.zeros((2, 48_000), np.float32)
    assert log_spectrogram(silence).shape == (2, 257, 199, 1)
    assert log_spectrogram(silence, pad_end=True).shape == (2, 257, 200, 1)
    assert log_spectrogram(silence, pad_end=True, average=2).shape == (2, 129, 100, 1)
    assert constants.NUM_WINDOWS_L3 == (48_000 - 480) // 240 + 1


@pytest.mark.parametrize("pad_end", [False, True])
@pytest.mark.parametrize("average", [1, 2, 3])
def test_shape_function_agrees(pad_end, average):
    settings = {"pad_end": pad_end, "average": average}
    image = log_spectrogram(np.zeros((1, 48_000), np.float32), **settings)
    assert image.shape[1:] == log_spectrogram_shape(**settings)


@pytest.mark.parametrize("frequency_hz", [440.0, 3000.0, 12_000.0])
def test_sine_lights_its_band(frequency_hz):
    image = log_spectrogram(_sine(frequency_hz))[0, :, :, 0].numpy()
    assert np.all(image.argmax(axis=0) == round(frequency_hz / (48_000 / 512)))


def test_silence_is_the_offset():
    image = log_spectrogram(np.zeros((1, 48_000), np.float32))
    np.testing.assert_allclose(image, np.log(constants.LOG_OFFSET), rtol=1e-6)


def test_natural_logarithm_of_the_magnitude():
    loud, soft = log_spectrogram(_sine(3000.0)), log_spectrogram(_sine(3000.0, amplitude=0.5))
    np.testing.assert_allclose((loud - soft)[0, 32, :, 0], np.log(2.0), atol=1e-3)


def test_equals_numpy():
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 48_000)).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)  # periodic Hann
    columns = [np.fft.rfft(noise[0, k * 240 : k * 240 + 480] * window, 512) for k in range(199)]
    expected = np.log(np.abs(np.stack(columns, axis=1)) + constants.LOG_OFFSET)
    np.testing.assert_allclose(log_spectrogram(noise)[0, :, :, 0], expected, atol=2e-3)


@pytest.mark.parametrize("pad_end", [False, True])
def test_equals_tensorflows_stft(pad_end):
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 48_000)).astype(np.float32)
    magnitude = tf.abs(tf.signal.stft(noise, 480, 240, 512, pad_end=pad_end))
    expected = np.log(magnitude.numpy() + constants.LOG_OFFSET).transpose(0, 2, 1)
    got = log_spectrogram(noise, pad_end=pad_end)[..., 0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_last_window_of_ots_is_padded_with_zeros():
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 48_000)).astype(np.float32)
    padded = log_spectrogram(noise, pad_end=True)
    np.testing.assert_allclose(padded[:, :, :199], log_spectrogram(noise), atol=1e-4)


@pytest.mark.parametrize(("hop", "num"), [(4_800, 11), (240, 7), (24_000, 3), (72_000, 2)])
@pytest.mark.parametrize("settings", [{}, {"pad_end": True, "average": 2}, {"average": 3}])
def test_seconds_that_share_their_spectrum_equal_those_apart(hop, num, settings):
    noise = np.random.default_rng(hop).uniform(-1, 1, 48_000 + (num - 1) * hop + 240)
    noise = noise.astype(np.float32)
    seconds = np.stack([noise[start * hop :][:48_000] for start in range(num)])
    got = tf.function(log_spectrograms)(noise, tf.constant(hop), **settings)
    assert len(got) == num + (hop == 240)  # a rest opens no second unless it is a hop
    expected = log_spectrogram(seconds, **settings)
    np.testing.assert_allclose(got[:num], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("samples", "hop"), [(52_800, 4_801), (52_801, 4_800), (52_800, 0)])
def test_seconds_at_other_steps_are_refused(samples, hop):
    with pytest.raises(tf.errors.InvalidArgumentError):
        log_spectrograms(tf.zeros([samples]), tf.constant(hop))


def test_refuses_another_length():
    with pytest.raises(ValueError, match="44100 samples; need one second at 48 kHz, 48000"):
        log_spectrogram(tf.zeros([1, 44_100]))
