"""Sound as the networks take it: 48 kHz, mono, float in [-1, 1], a second at a time."""

import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from l3net import constants
from l3net.errors import UserError
from l3net.media import ffmpeg, file_kinds

_LENGTH = constants.AUDIO_SAMPLES


def sound_blocks(path: pathlib.Path) -> Iterator[np.ndarray]:
    """Decodes the sound of a file of any length in bounded memory, as training data is decoded.

    Yields int16 [up to 48000], 48 kHz mono, on the file's own time line. Raises UserError if the
    file has no sound or cannot be decoded to its end.
    """
    with ffmpeg.in_plain_words(file_kinds.LACKING):
        yield from ffmpeg.stream_audio(path)


def mono_48k(waveform: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    """Returns any sound in memory as the networks take it.

    `waveform` is [samples] or [samples, channels], integer (its type's full range) or float in
    [-1, 1]. Channels are averaged, other rates than 48000 resampled with resampy. Returns float32
    [samples]; UserError if the sound is empty, not finite or of a wrong shape, or the rate invalid.
    """
    if not (np.isfinite(sample_rate_hz) and sample_rate_hz > 0):
        raise UserError(f"sample rate of {sample_rate_hz} Hz: need a positive number")
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise UserError(
            f"sound of shape {waveform.shape}: need [samples] or [samples, channels], not empty"
        )
    if np.issubdtype(waveform.dtype, np.signedinteger):
        waveform = waveform / -float(np.iinfo(waveform.dtype).min)
    elif not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(
            f"sound of type {waveform.dtype}: need floats in [-1, 1] or signed integers"
        )
    mono = waveform if waveform.ndim == 1 else waveform.mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError("sound holds NaN or infinite samples")
    if sample_rate_hz != constants.SAMPLE_RATE_HZ:
        mono = _resample(mono, sample_rate_hz)
    return mono.astype(np.float32)


def _resample(mono: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    # Imported here: numba takes a second, and files come at 48 kHz from ffmpeg.
    import resampy

    try:
        return resampy.resample(mono.astype(np.float64), sample_rate_hz, constants.SAMPLE_RATE_HZ)
    except ValueError as error:  # too short for one sample at 48 kHz
        raise UserError(f"cannot resample {len(mono)} samples from {sample_rate_hz} Hz") from error


def _to_float(block: np.ndarray) -> np.ndarray:
    """Returns int16 or float samples as float32 in [-1, 1]."""
    if block.dtype == np.int16:
        return block.astype(np.float32) / -float(np.iinfo(np.int16).min)
    return block.astype(np.float32, copy=False)


# --- Windows at regular times --------------------------------------------------------------------
def hop_samples(hop_seconds: float) -> int:
    """Returns seconds between two windows in samples at 48 kHz; UserError if less than one."""
    samples = round(hop_seconds * constants.SAMPLE_RATE_HZ) if np.isfinite(hop_seconds) else 0
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
