"""Waveform to log-spectrogram: the only definition, used by training, export and evaluation."""

import math

import tensorflow as tf

from l3net import constants

# What a figure's colours span: silence, and a full-scale sine, whose magnitude is half the window's
# sum, a quarter of its length for a Hann window.
VALUE_RANGE = (math.log(constants.LOG_OFFSET), math.log(constants.STFT_WINDOW_SAMPLES / 4))
_HOPS = constants.AUDIO_SAMPLES // constants.STFT_HOP_SAMPLES  # of one second: 200


def log_spectrogram(waveform: tf.Tensor, *, pad_end: bool = False, average: int = 1) -> tf.Tensor:
    """Turns one second of sound into the audio ConvNet's input (L3 §2.2).

    A 0.01 s window (480 samples) with half-window overlap (hop 240) gives
    (48000 - 480) // 240 + 1 = 199 windows; a 512-point FFT gives 257 bands. The natural logarithm
    of the magnitude follows. OTS writes 257 x 200: pass `pad_end=True` there.

    Our choice, for the papers do not say: the window is a Hann window, and 1e-3 is added to the
    magnitude before the logarithm. One step of 16-bit sound (1 / 32768) has a magnitude of about
    4e-4 in a band, so digital silence and the last bit's noise look alike, at -6.9.

    Args:
        waveform: float32 [batch, 48000], mono, in [-1, 1].
        pad_end: whether to pad the end with zeros to a 200th window.
        average: our choice, for small networks: averages squares of this many bands x windows. 1
            is the papers' input.

    Returns:
        float32 [batch, ceil(257 / average), ceil(199 or 200 / average), 1]: frequency (0 Hz
        first), time, channel.

    Raises:
        ValueError: if the last dimension is not one second at 48 kHz.
    """
    if waveform.shape[-1] != constants.AUDIO_SAMPLES:
        raise ValueError(
            f"waveform has {waveform.shape[-1]} samples; need one second at 48 kHz, "
            f"{constants.AUDIO_SAMPLES}"
        )
    hops = tf.reshape(waveform, [-1, _HOPS, constants.STFT_HOP_SAMPLES])
    windows = constants.NUM_WINDOWS_OTS if pad_end else constants.NUM_WINDOWS_L3
    log_magnitude = tf.reshape(_log_magnitude(hops, pad_end), [-1, windows, constants.NUM_BANDS])
    return _images(log_magnitude, average)


def log_spectrograms(
    waveform: tf.Tensor, hop: tf.Tensor, *, pad_end: bool = False, average: int = 1
) -> tf.Tensor:
    """Turns a stretch of sound into the log-spectrograms of its seconds, `hop` samples apart.

    They are those of `log_spectrogram` but for the last bit, which depends on where in a tensor the
    processor's vector instructions meet a number. What seconds have in common is computed once: at
    a hop of 0.1 s nine tenths.

    Args:
        waveform: float32 [samples], mono, in [-1, 1]; a multiple of 240 samples, one second or
            more.
        hop: int32 [], a positive multiple of 240.
        pad_end: as in `log_spectrogram`.
        average: as in `log_spectrogram`.

    Returns:
        float32 [1 + (samples - 48000) // hop, bands, windows, 1].

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, if a number is no such multiple.
    """
    hops = tf.reshape(waveform, [1, -1, constants.STFT_HOP_SAMPLES])
    rest = tf.debugging.assert_equal(hop % constants.STFT_HOP_SAMPLES, 0, "hop: not n * 240")
    with tf.control_dependencies([rest]):
        step = hop // constants.STFT_HOP_SAMPLES
    starts = tf.range(0, tf.shape(hops)[1] - _HOPS + 1, step)
    rows = _log_magnitude(hops, pad_end=False)
    common = tf.range(constants.NUM_WINDOWS_L3)
    log_magnitude = tf.gather(rows, starts[:, tf.newaxis] + common)
    if pad_end:  # behind its end each second has silence of its own
        ends = tf.gather(hops[0], starts + constants.NUM_WINDOWS_L3)
        ends = _log_magnitude(ends[:, tf.newaxis], pad_end=True)
        log_magnitude = tf.concat([log_magnitude, ends[:, tf.newaxis]], axis=1)
    return _images(log_magnitude, average)


def _images(log_magnitude: tf.Tensor, average: int) -> tf.Tensor:
    """Returns float32 [batch, windows, bands] as log-spectrograms [batch, bands, windows, 1]."""
    image = tf.transpose(log_magnitude, [0, 2, 1])[..., tf.newaxis]
    if average > 1:
        image = tf.nn.avg_pool2d(image, ksize=average, strides=average, padding="SAME")
    return image


def _log_magnitude(hops: tf.Tensor, pad_end: bool) -> tf.Tensor:
    """Returns what `_frames` gives as float32 [batch * windows, 257]."""
    magnitude = tf.abs(tf.signal.rfft(_frames(hops, pad_end), [constants.FFT_LENGTH]))
    return tf.math.log(magnitude + constants.LOG_OFFSET)


def _frames(hops: tf.Tensor, pad_end: bool) -> tf.Tensor:
    """Returns windows of sound times Hann and with zeros behind: float32 [batch * windows, 512].

    It takes float32 [batch, hops, 240]. A window is two hops long, so halves of a window are rows
    of one reshape. `tf.signal.stft` gives the same bits at the same speed; its graph has no ONNX,
    which needs a Fourier transform of rank 2 and known width.
    """
    hop = constants.STFT_HOP_SAMPLES
    if pad_end:
        hops = tf.pad(hops, [[0, 0], [0, 1], [0, 0]])
    window = tf.signal.hann_window(constants.STFT_WINDOW_SAMPLES, dtype=hops.dtype)
    first, second = hops[:, :-1] * window[:hop], hops[:, 1:] * window[hop:]
    zeros = tf.zeros_like(first[..., : constants.FFT_LENGTH - constants.STFT_WINDOW_SAMPLES])
    return tf.reshape(tf.concat([first, second, zeros], axis=-1), [-1, constants.FFT_LENGTH])


def log_spectrogram_shape(*, pad_end: bool = False, average: int = 1) -> tuple[int, int, int]:
    """Returns (bands, windows, 1): the shape of one log-spectrogram of these settings."""
    windows = constants.NUM_WINDOWS_OTS if pad_end else constants.NUM_WINDOWS_L3
    return -(-constants.NUM_BANDS // average), -(-windows // average), 1
