"""The ESC data set's own baselines: clip statistics of MFCCs with an SVM or a random forest.

Source: Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015, §3.2:
"Discarding the 0th coefficient, first 12 MFCCs and zero-crossing rate were summarized for each clip
with their mean and standard deviation across frames", librosa's defaults, frames of 11.6 ms at
44.1 kHz; "random forest ensemble", "SVM with linear kernel"; five folds. The author's notebook uses
500 trees. Published accuracy: ESC-10 72.7 (forest), 67.5 (SVM); ESC-50 44.3, 39.6.
"""

import logging
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eval.reporting import cache
from eval.sets.recordings import RESAMPLING, Recording
from l3net.errors import needs_extra
from l3net.progress import track

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

_log = logging.getLogger(__name__)

SAMPLE_RATE_HZ = 44_100  # the ESC recordings have it; others are resampled to it
HOP_SAMPLES = 512
FFT_SAMPLES = 2048
NUM_MFCCS = 13  # the 0th, the loudness, is then discarded
NUM_TREES = 500
# The paper gives no C. With this one and the classes in the folders' order, ESC-10 repeats four of
# the published accuracies per fold and the fifth within one recording. The order matters by ties
# between pairs of classes; ours is alphabetical.
SVM_C = 0.1
# Part of every cache key: raise it when `mfcc_statistics` changes.
PROTOCOL = f"mfcc v1, {RESAMPLING}"
SVM, FOREST = "SVM-MFCC", "Random Forest"


def mfcc_statistics(waveform: np.ndarray) -> np.ndarray:
    """Summarises float32 [num_samples] at 44.1 kHz by its MFCCs and its zero-crossing rate.

    Returns:
        float64 [26]: 12 means and 12 standard deviations of the MFCCs 1 to 12 over frames, then
        mean and standard deviation of the zero-crossing rate.
    """
    with needs_extra("eval", "Table 2's baselines"):
        import librosa
    padded = np.pad(waveform, (0, max(0, FFT_SAMPLES - len(waveform))))
    mel = librosa.feature.melspectrogram(
        y=padded, sr=SAMPLE_RATE_HZ, n_fft=FFT_SAMPLES, hop_length=HOP_SAMPLES
    )
    mfccs = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=NUM_MFCCS)[1:]
    crossings = zero_crossing_rates(padded)
    statistics = [mfccs.mean(1), mfccs.std(1), [crossings.mean(), crossings.std()]]
    return np.concatenate(statistics).astype(np.float64)


def zero_crossing_rates(waveform: np.ndarray) -> np.ndarray:
    """Returns the share of neighbouring samples of opposite sign, float64 [num_frames].

    Frames are HOP_SAMPLES long, side by side. The frame [1, -1, 1, 1] has 2/3; a step to or from
    exact zero counts half.
    """
    starts = range(0, len(waveform) - 1, HOP_SAMPLES)
    return np.array([_crossing_share(waveform[i : i + HOP_SAMPLES]) for i in starts])


def _crossing_share(frame: np.ndarray) -> float:
    return float(np.mean(np.abs(np.diff(np.sign(frame)))) / 2)


def extract(recordings: Sequence[Recording], *, cache_dir: pathlib.Path) -> np.ndarray:
    """Returns `mfcc_statistics` [num_recordings, 26], computing only those not yet on disk."""
    folder = pathlib.Path(cache_dir) / "features"
    rows = []
    for recording in track(recordings, "MFCC", unit="recording"):
        key = feature_key(recording)
        row = cache.read_array(folder, key)
        if row is None:
            row = mfcc_statistics(recording.load(SAMPLE_RATE_HZ))
            cache.write_array(folder, key, row)
        rows.append(row)
    return np.array(rows)


def feature_key(recording: Recording) -> str:
    """Returns the cache key of a recording's statistics."""
    return cache.key_of(PROTOCOL, recording.content_hash())


def classifier(name: str, seed: int) -> "ClassifierMixin":
    """Returns the untrained SVM, which draws nothing, or FOREST."""
    with needs_extra("eval", "Table 2's baselines"):
        from sklearn import ensemble, svm
    if name == FOREST:
        return ensemble.RandomForestClassifier(NUM_TREES, random_state=seed, n_jobs=-1)
    return svm.SVC(kernel="linear", C=SVM_C)


def evaluate(
    name: str,
    features: np.ndarray,
    labels: np.ndarray,
    parts: np.ndarray,
    *,
    tested: Sequence[str],
    seed: int,
) -> np.ndarray:
    """Tests each of the `tested` parts (folds, or a split) with a classifier trained on all others.

    Returns:
        int64 [num_recordings], predictions; -1 where a recording is never tested.
    """
    predictions = np.full(len(labels), -1)
    for part in track(tested, name, unit="part"):
        held = parts == part
        model = classifier(name, seed).fit(features[~held], labels[~held])
        predictions[held] = model.predict(features[held])
        accuracy = np.mean(predictions[held] == labels[held])
        _log.info("%s, part %s: accuracy %.1f %%", name, part, 100 * accuracy)
    return predictions
