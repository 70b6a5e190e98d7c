"""Levels, silence and clipping of clips' sound, and histograms of such numbers."""

import dataclasses
import math

import numpy as np

from l3net import constants
from l3net.data import schema
from l3net.media.sound import is_silent

CLIPPED_RUN_SAMPLES = 3  # so many samples in a row at the same end of the scale are clipping
_LEVEL_EDGES_DBFS = np.arange(-150, 1, 2)  # one sample in ten seconds, one step high, is at -147


class Histogram:
    """Counts per bin; a bin holds its lower edge, the last one its upper edge too."""

    def __init__(self, edges: np.ndarray, counts: np.ndarray | None = None) -> None:
        self.edges = edges  # [num_bins + 1], increasing
        self.counts = np.zeros(len(edges) - 1, np.int64) if counts is None else counts

    def add(self, value: float) -> None:
        """Counts a value; one outside of the edges goes to the nearest bin."""
        index = np.searchsorted(self.edges, value, side="right") - 1
        self.counts[np.clip(index, 0, len(self.counts) - 1)] += 1


def _levels() -> Histogram:
    return Histogram(_LEVEL_EDGES_DBFS)


@dataclasses.dataclass
class Sound:
    """Levels of the clips that were read; 0 dBFS is a full-scale square wave."""

    # Silent clips (`l3net.media.sound.is_silent`) are in neither.
    rms_dbfs: Histogram = dataclasses.field(default_factory=_levels)
    peak_dbfs: Histogram = dataclasses.field(default_factory=_levels)
    num_silent: int = 0  # clips
    num_full_scale: int = 0  # clips with a sample at an end of the int16 scale
    num_clipped: int = 0  # clips with `CLIPPED_RUN_SAMPLES` of them in a row
    num_seconds: int = 0  # cut one after the other from each clip
    num_silent_seconds: int = 0

    def add(self, waveform: np.ndarray) -> None:
        """Counts a clip's int16 [num_samples] sound."""
        seconds = waveform[: len(waveform) // constants.SAMPLE_RATE_HZ * constants.SAMPLE_RATE_HZ]
        seconds = seconds.reshape(-1, constants.SAMPLE_RATE_HZ)
        self.num_seconds += len(seconds)
        self.num_silent_seconds += sum(map(is_silent, seconds))
        if is_silent(waveform):
            self.num_silent += 1
            return
        self.rms_dbfs.add(rms_dbfs(waveform))
        self.peak_dbfs.add(peak_dbfs(waveform))
        longest = max(_longest_run(waveform == end) for end in schema.INT16_RANGE)
        self.num_full_scale += longest > 0
        self.num_clipped += longest >= CLIPPED_RUN_SAMPLES


def rms_dbfs(waveform: np.ndarray) -> float:
    """Returns the level of int16 [num_samples] sound; -3.01 for a full-scale sine."""
    mean_square = np.mean(np.square(waveform, dtype=np.float64)) if len(waveform) else 0.0
    return _decibels(math.sqrt(mean_square))


def peak_dbfs(waveform: np.ndarray) -> float:
    """Returns the level of the sample furthest from zero, -inf for digital silence."""
    return _decibels(max(-int(waveform.min()), int(waveform.max())) if len(waveform) else 0)


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude / schema.INT16_SCALE) if amplitude else -math.inf


def _longest_run(flags: np.ndarray) -> int:
    """Returns the length of the longest run of true: bool [num] -> int."""
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((changes[1::2] - changes[::2]).max(initial=0))
