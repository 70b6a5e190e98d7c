"""Sound features of recordings from a SavedModel, each computed once (L3 §3.3).

"Multiple overlapping subclips are extracted from each recording": 10 equally spaced seconds of a
5 s recording, 60 of a 30 s one, that is two per second of sound.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from eval.methods import networks
from eval.reporting import cache
from eval.sets.recordings import RESAMPLING, Recording
from l3net import constants
from l3net.inference import saved_model
from l3net.progress import progress

SUBCLIPS_PER_SECOND = 2
# Part of every cache key: raise it when the steps from a file to a waveform's seconds change.
PROTOCOL = f"subclips v1, {RESAMPLING}"


# --- Subclips ------------------------------------------------------------------------------------
def subclip_starts(num_samples: int) -> np.ndarray:
    """Returns the equally spaced starts of subclips in samples, int64 [num_subclips].

    The first starts at 0 and the last ends with the recording: 10 of 5 s, 60 of 30 s (L3 §3.3).
    Our choice: other recordings have two per second, rounded; one of up to 1 s has one.
    """
    last = num_samples - constants.AUDIO_SAMPLES
    if last <= 0:
        return np.zeros(1, np.int64)
    count = max(2, round(SUBCLIPS_PER_SECOND * num_samples / constants.SAMPLE_RATE_HZ))
    return np.round(np.linspace(0, last, count)).astype(np.int64)


def subclips(waveform: np.ndarray) -> np.ndarray:
    """Cuts float32 [num_samples] at 48 kHz into seconds, float32 [num_subclips, 48000].

    A recording shorter than 1 s is padded with zeros (our choice).
    """
    missing = max(0, constants.AUDIO_SAMPLES - len(waveform))
    padded = np.pad(waveform, (0, missing))
    starts = subclip_starts(len(padded))
    return padded[starts[:, None] + np.arange(constants.AUDIO_SAMPLES)]


# --- SavedModels ---------------------------------------------------------------------------------
class AudioNetwork(networks.ExportedNetwork):
    """The sound half of an exported network."""

    def __call__(self, waveforms: np.ndarray, output: str) -> np.ndarray:
        """Returns an output of `audio`, float32 [num, num_features], for float32 [num, 48000].

        Raises:
            UserError: if the SavedModel is damaged or has no such signature or output.
        """
        return self.loaded.features(saved_model.AUDIO, output)(waveforms)


# --- Features of a set ---------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class SubclipFeatures:
    """Features of every subclip of some recordings."""

    matrix: np.ndarray  # float32 [num_subclips, num_features], recording by recording
    recording_of: np.ndarray  # int64 [num_subclips], the position of each subclip's recording


def extract(
    network: AudioNetwork,
    recordings: Sequence[Recording],
    *,
    output: str,
    cache_dir: pathlib.Path,
    batch_size: int = 32,
) -> SubclipFeatures:
    """Returns the features of recordings, computing only those that are not yet on disk.

    They are kept as float32, one file per recording, 24 KB per subclip of 6144 features (0.5 GB
    for ESC-50): exactly what the network gave, so a cached run equals a fresh one.

    Raises:
        UserError: if a recording cannot be read, or the network lacks the output.
    """
    folder = pathlib.Path(cache_dir) / "features"
    keys = [feature_key(network, recording, output) for recording in recordings]
    missing = [
        (key, recording)
        for key, recording in zip(keys, recordings, strict=True)
        if cache.read_array(folder, key) is None
    ]
    with progress(f"features {output}", unit="recording", total=len(missing)) as shown:
        for key, values in _computed(network, missing, output, batch_size):
            cache.write_array(folder, key, values)
            shown.advance()
    return _gather(folder, keys)


def feature_key(network: AudioNetwork, recording: Recording, output: str) -> str:
    """Returns the cache key of a recording's features."""
    return cache.key_of(PROTOCOL, network.content_hash, recording.content_hash(), output)


def _computed(
    network: AudioNetwork, missing: Iterable[tuple[str, Recording]], output: str, batch_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (key, features) in order; batches run across recordings so that none is small."""
    waiting: list[tuple[str, int]] = []

    def seconds() -> Iterator[np.ndarray]:
        for key, recording in missing:
            pieces = subclips(recording.load(constants.SAMPLE_RATE_HZ))
            waiting.append((key, len(pieces)))
            yield from pieces

    rows: list[np.ndarray] = []
    for batch in saved_model.batches(seconds(), batch_size):
        rows += list(network(batch, output))
        while waiting and len(rows) >= waiting[0][1]:
            key, count = waiting.pop(0)
            yield key, np.stack(rows[:count])
            del rows[:count]


def _gather(folder: pathlib.Path, keys: Sequence[str]) -> SubclipFeatures:
    """Copies the arrays of the keys, once each, into one matrix."""
    # Twice through the files: a mapped array keeps its file open, and 1024 is a usual limit.
    paths = [cache.array_path(folder, key) for key in keys]
    shapes = [np.load(path, mmap_mode="r").shape for path in paths]
    counts = [shape[0] for shape in shapes]
    matrix = np.empty((sum(counts), shapes[0][1]), np.float32)
    for path, end, count in zip(paths, np.cumsum(counts), counts, strict=True):
        matrix[end - count : end] = np.load(path, mmap_mode="r")
    return SubclipFeatures(matrix, np.repeat(np.arange(len(keys)), counts))
