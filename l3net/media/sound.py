"""Sound as the networks take it: 48 kHz, mono, float in [-1, 1], a second at a time."""

import math
import numbers
import pathlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from l3net import constants
from l3net.errors import UserError, first_line
from l3net.media import ffmpeg, file_kinds

# Ways to resample sound in memory.
AS_FFMPEG, AS_OPENL3 = "ffmpeg", "openl3"

# Of 32768 (our choice): codecs turn silence into samples of a few units, a quiet room into more.
MAX_SILENCE = 8
SILENCE_DBFS = 20 * math.log10(MAX_SILENCE / 32768)

_LENGTH = constants.AUDIO_SAMPLES
_INTEGERS = (np.int8, np.int16, np.int32)
_LEAST_RATE_HZ = 1000
_MAX_CHANNELS = 64
_ROUNDED_FULL_SCALE = 1.001  # -32768 / 32767, for one


def sound_blocks(path: pathlib.Path, track: int | None = None) -> Iterator[np.ndarray]:
    """Decodes the sound of a file of any length in bounded memory, as training data is decoded.

    Yields int16 [up to 48000], 48 kHz mono, on the file's own time line. The track is counted from
    0; None is the default one. Raises UserError if the file has no sound, no such track, or cannot
    be decoded to its end.
    """
    with ffmpeg.in_plain_words(file_kinds.LACKING):
        yield from ffmpeg.stream_audio(path, track=track)


def is_silent(waveform: np.ndarray) -> bool:
    """Returns whether int16 [samples] hold no sound: none is further than MAX_SILENCE from 0."""
    return not len(waveform) or bool(
        waveform.max() <= MAX_SILENCE and waveform.min() >= -MAX_SILENCE
    )


# --- Sound in memory -----------------------------------------------------------------------------
def mono_48k(waveform: Any, sample_rate_hz: float, resampling: str = AS_FFMPEG) -> np.ndarray:
    """Returns any sound in memory as the networks take it.

    `waveform` is [samples] or [samples, channels], int8, int16 or int32 (its type's full range) or
    float in [-1, 1]. Channels are averaged, other rates than 48000 resampled: `AS_FFMPEG`, as all
    sound of files is, in training, too, or `AS_OPENL3`, as openl3 does. Our choices: [1,
    samples] is one channel, and samples somewhat beyond 1 are cut off there, both with a warning.
    Returns float32 [samples] in [-1, 1].

    Raises UserError for anything else: a rate that `checked_rate` refuses; no array, an empty one,
    one of another shape ([channels, samples] could be several sounds, too) or type; values that
    `check_samples` refuses, or that are of 16 bits in int32.
    """
    sample_rate_hz = checked_rate(sample_rate_hz)
    samples = _samples_by_channels(waveform)
    if np.issubdtype(samples.dtype, np.floating):
        if check_samples(samples) > _ROUNDED_FULL_SCALE:
            warnings.warn("samples beyond 1 are cut off there, as in 16-bit files", stacklevel=2)
    else:
        samples = samples / -float(np.iinfo(samples.dtype).min)
    mono = samples.mean(axis=1)
    if sample_rate_hz != constants.SAMPLE_RATE_HZ:
        mono = _resample(mono, sample_rate_hz, resampling)
    return np.clip(mono, -1, 1).astype(np.float32)


def checked_rate(sample_rate_hz: float) -> float:
    """Returns a sample rate; UserError unless it is a number of at least 1000 Hz (our choice)."""
    if isinstance(sample_rate_hz, bool) or not isinstance(sample_rate_hz, numbers.Real):
        raise UserError(f"sample rate of {sample_rate_hz!r}: need a number, in Hz")
    if not (math.isfinite(sample_rate_hz) and sample_rate_hz >= _LEAST_RATE_HZ):
        raise UserError(
            f"sample rate of {sample_rate_hz} Hz: need at least {_LEAST_RATE_HZ}; if it is in kHz, "
            "multiply it by 1000"
        )
    return float(sample_rate_hz)


def check_samples(samples: np.ndarray, name: str = "sound") -> float:
    """Returns the largest magnitude of float samples, any shape but empty.

    Raises UserError, as ffmpeg's decoding does, if some are NaN, infinite or beyond
    `constants.MAX_LEVEL`.
    """
    peak = max(float(samples.max()), -float(samples.min()))
    if not math.isfinite(peak):
        raise UserError(f"{name} holds NaN or infinite samples")
    if peak > constants.MAX_LEVEL:
        raise UserError(
            f"{name} holds samples up to {peak:g}: need floats in [-1, 1]; values of 16 bits are "
            "taken as int16, or divided by 32768"
        )
    return peak


def _samples_by_channels(waveform: Any) -> np.ndarray:
    """Returns samples as they are, [samples, channels], of a type and shape that sound has."""
    try:
        samples = np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise UserError(f"sound of type {type(waveform).__name__}: {first_line(error)}") from error
    is_float = np.issubdtype(samples.dtype, np.floating)
    if not is_float and samples.dtype not in _INTEGERS:
        raise UserError(
            f"sound of type {samples.dtype}: need floats in [-1, 1], int8, int16 or int32; for "
            "files there is l3net.extract"
        )
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise UserError(
            f"sound of shape {samples.shape}: need [samples] or [samples, channels], not empty"
        )
    if samples.dtype == np.int32 and samples.any() and _is_within(samples, np.iinfo(np.int16)):
        raise UserError("int32 samples within the range of 16 bits: give them as int16")
    if samples.ndim == 1:
        return samples[:, np.newaxis]
    num_samples, num_channels = samples.shape
    if num_samples == 1 < num_channels:
        warnings.warn("sound of shape [1, samples] is taken as one channel", stacklevel=3)
        return samples.T
    if num_channels > min(num_samples, _MAX_CHANNELS):
        raise UserError(
            f"sound of shape {samples.shape}: need [samples, channels]; if it is [channels, "
            "samples], as torchaudio and librosa have it, give its transpose, if several sounds, "
            "a list"
        )
    return samples


def _is_within(samples: np.ndarray, limits: np.iinfo) -> bool:
    return limits.min <= samples.min() and samples.max() <= limits.max


def _resample(mono: np.ndarray, sample_rate_hz: float, resampling: str) -> np.ndarray:
    # Imported here: numba takes a second, and files come at 48 kHz from ffmpeg.
    import resampy
    from scipy.signal import windows as tapers

    # The filter of ffmpeg's resampler: a sinc of 16 zero crossings under a Kaiser window of beta 9.
    # Where the rate rises it is cut off at half the old rate, so that it lets more of the image
    # above pass than resampy's own, which a network hears in sound of 8 or 16 kHz.
    ffmpegs = {
        "filter": "sinc_window",
        "num_zeros": 16,
        "window": lambda length: tapers.kaiser(length, 9.0),
        "rolloff": 1.0 if sample_rate_hz < constants.SAMPLE_RATE_HZ else 0.97,
    }
    # What resampy before 0.3, which openl3 requires, calls "kaiser_best"; it has another one now.
    openl3s = {
        "filter": "sinc_window",
        "num_zeros": 64,
        "precision": 9,
        "window": lambda length: tapers.kaiser(length, 14.769656459379492),
        "rolloff": 0.9475937167399596,
    }
    settings = ffmpegs if resampling == AS_FFMPEG else openl3s
    try:
        mono = resampy.resample(
            mono.astype(np.float64), sample_rate_hz, constants.SAMPLE_RATE_HZ, **settings
        )
    except ValueError as error:  # too short for one sample at 48 kHz
        raise UserError(f"cannot resample {len(mono)} samples from {sample_rate_hz} Hz") from error
    # Also as ffmpeg: 16 bits, whose noise is all there is in the bands that the old rate had not.
    return np.round(mono * 32_768) / 32_768 if resampling == AS_FFMPEG else mono


def _to_float(block: np.ndarray) -> np.ndarray:
    """Returns int16 or float samples as float32 in [-1, 1]."""
    if block.dtype == np.int16:
        return block.astype(np.float32) / -float(np.iinfo(np.int16).min)
    return block.astype(np.float32, copy=False)


# --- Windows at regular times --------------------------------------------------------------------
def hop_samples(hop_seconds: float) -> int:
    """Returns seconds between two windows in samples at 48 kHz; UserError if less than one."""
    is_number = isinstance(hop_seconds, numbers.Real) and math.isfinite(hop_seconds)
    samples = round(hop_seconds * constants.SAMPLE_RATE_HZ) if is_number else 0
    if samples < 1:
        raise UserError(f"hop of {hop_seconds} s: need at least one sample at 48 kHz, 1/48000 s")
    return samples


def window_times(num_windows: int, hop: int) -> np.ndarray:
    """Returns the times of windows in seconds, float64: exact multiples of the hop in samples."""
    return np.arange(num_windows, dtype=np.float64) * hop / constants.SAMPLE_RATE_HZ


def windows(
    blocks: Iterable[np.ndarray], *, hop: int, center: bool = False
) -> Iterator[np.ndarray]:
    """Cuts a stream of sound into seconds; holds about one second and one block of it.

    The last window is padded with zeros so that all sound is in a window, and so is sound shorter
    than one second (openl3 does the same). But a rest of less than 0.01 s, one column of the
    spectrogram, opens no window: codecs leave such rests (5 s of Ogg are often 5.001 s). Silence is
    sound like any other.

    Args:
        blocks: int16 or float32 [samples] each, of any length, 48 kHz mono; float in [-1, 1].
        hop: samples between the starts of two windows.
        center: whether window i is centred on sample i * hop, instead of starting there; half a
            second of silence then goes before the sound.

    Yields:
        float32 [48000] in [-1, 1]; nothing at all if there is no sample.
    """
    buffer = np.zeros(_LENGTH // 2 if center else 0, np.float32)
    padding, skip, num_yielded, num_samples = len(buffer), 0, 0, 0
    for block in blocks:
        num_samples += len(block)
        buffer = np.concatenate([buffer, _to_float(block)])
        while len(buffer) - skip >= _LENGTH:
            yield buffer[skip : skip + _LENGTH].copy()
            num_yielded += 1
            skip += hop
        # A hop longer than one second leaves a gap that the next blocks must cross.
        drop = min(skip, len(buffer))
        buffer, skip = buffer[drop:], skip - drop
    covered = (num_yielded - 1) * hop + _LENGTH if num_yielded else 0
    rest = num_samples + padding - covered
    wanted = rest >= constants.STFT_WINDOW_SAMPLES if num_yielded else num_samples > 0
    if wanted and skip < len(buffer):
        yield _padded(buffer[skip:])


def until_last_centre(blocks: Iterable[np.ndarray], *, hop: int) -> Iterator[np.ndarray]:
    """Adds the silence with which centred windows go on to the end of a sound.

    Centred windows end when all sound is in a window, so the last is centred half a second before
    the end. With this silence, float32, there is one for every multiple of the hop within the
    sound; the hop is at most half a second.
    """
    num_samples = 0
    for block in blocks:
        num_samples += len(block)
        yield block
    if num_samples:
        last_centre = (num_samples - 1) // hop * hop
        missing = last_centre + _LENGTH // 2 - num_samples
        yield np.zeros(max(0, missing), np.float32)


def _padded(window: np.ndarray) -> np.ndarray:
    return np.pad(window, (0, _LENGTH - len(window)))


# --- Windows at any times ------------------------------------------------------------------------
def seconds_around(
    blocks: Iterator[np.ndarray], times_seconds: Iterable[float]
) -> Iterator[np.ndarray]:
    """Cuts the second of sound centred on each time out of a stream.

    At the ends of the sound the second is moved inwards, by half a second at most, as in the
    papers' evaluation; where there is no sound at all it is silence.

    The blocks are int16 [samples], 48 kHz mono; the times count from the first sample and rise.
    Yields float32 [48000] in [-1, 1]; one second and one block are held.
    """
    held, first, has_ended = np.zeros(0, np.int16), 0, False
    for time_seconds in times_seconds:
        centre = round(time_seconds * constants.SAMPLE_RATE_HZ)
        start = max(0, centre - _LENGTH // 2)
        while not has_ended and first + len(held) < start + _LENGTH:
            block = next(blocks, None)
            if block is None:
                has_ended = True
            else:
                drop = min(max(0, start - _LENGTH - first), len(held))
                held, first = np.concatenate([held[drop:], block]), first + drop
        end = first + len(held)
        if has_ended and centre <= end:
            start = max(0, min(start, end - _LENGTH))
        yield _to_float(_padded(held[max(0, start - first) :][:_LENGTH]))
