"""Piczak's ConvNet on segmented log-mel spectrograms: the baseline "Piczak ConvNet" of L3 Table 2.

Source: Piczak, "Environmental Sound Classification with Convolutional Neural Networks", MLSP 2015.
Every number here was read in the notebooks that its author published with it
(github.com/karolpiczak/paper-2015-esc-convnet). There, short segments with probability voting give
62.2, 60.7, 63.7, 71.5 and 64.5 % on the folds of ESC-50: the 64.5 % that L3 quotes; on ESC-10 77.5,
80.0, 77.5, 86.2 and 71.2 %. A fold is tested by a network trained on three others; the fifth fold
only watched the training, and so does nothing here.

Only that recipe is here: segments of 41 frames (0.95 s), which vote by the mean of their softmax
outputs. Our choice: the resampler (pydub's there); zeros are appended to a recording shorter than a
segment; of a completely silent one the first segment is kept; and the small recipe.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import scipy.signal
import tensorflow as tf

from eval.methods import epochs
from eval.reporting import cache
from eval.sets.recordings import RESAMPLING, Recording, RecordingSet
from l3net.errors import needs_extra
from l3net.progress import track

_log = logging.getLogger(__name__)

METHOD = "Piczak ConvNet"
SAMPLE_RATE_HZ = 22_050
FFT_SAMPLES = 1024
HOP_SAMPLES = 512
NUM_BANDS = 60
NUM_FRAMES = 41
SILENCE_DB = -70.0  # a segment of a lower mean level is dropped
RANGE_DB = 80.0  # what is fainter, compared with the loudest of a segment, is raised to that
LEAST_ENERGY = 1e-10
DELAY_SAMPLES = 22_050  # an augmented recording starts up to 1 s late
NUM_FILTERS, NUM_UNITS = 80, 5000
WEIGHT_DECAY = 0.001
DROPOUT = 0.5
MOMENTUM = 0.9
# Part of every cache key: raise it when the steps from a recording to segments change.
PROTOCOL = f"piczak v3, {RESAMPLING}"

# Augmented copies of a training recording, and what happens to them besides the delay: half-steps
# of pitch and the range of time stretching. The author's table gives ranges of half-steps, but his
# code always takes their upper end, and so do we. Class names of both layouts of ESC-10.
NUM_COPIES = {"ESC-10": 10}
OTHER_NUM_COPIES = 4  # ESC-50: delayed, no more
_UNCHANGED = (0, 1.0, 1.0)
_CHANGES = {
    ("Dog bark", "dog"): (4, 0.95, 1.1),
    ("Sea waves", "sea_waves"): (0, 0.9, 1.2),
    ("Baby cry", "crying_baby"): (6, 0.8, 1.3),
    ("Person sneeze", "sneezing"): (4, 0.9, 1.2),
    ("Helicopter", "helicopter"): (0, 0.9, 1.2),
    ("Chainsaw", "chainsaw"): (2, 0.9, 1.2),
    ("Rooster", "rooster"): (2, 0.95, 1.1),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the network is trained; the defaults are the paper's.

    Attributes:
        learning_rate: rate of SGD.
        epochs: how often all segments are seen.
        width: multiplier of filters and dense units.
        batch_size: segments of one step of SGD.
    """

    learning_rate: float = 0.002
    epochs: int = 300
    width: float = 1.0
    batch_size: int = 1000

    @property
    def is_published(self) -> bool:
        """Whether this is the network and training of the paper."""
        return self == Recipe()

    def note(self) -> str:
        """Returns in a few words what a row of this recipe must say."""
        text = f"short segments, probability vote, {self.epochs} epochs"
        if self.is_published:
            return text
        changed = f"width {self.width:g}, batches of {self.batch_size}, rate {self.learning_rate:g}"
        return f"{text}, {changed}: not the paper's recipe"


# Small, our choice: some minutes on two CPU cores for the demo data. Small batches make up for few
# epochs.
RECIPES = {"paper": Recipe(), "small": Recipe(epochs=30, width=0.25, batch_size=100)}


# --- From a recording to segments ----------------------------------------------------------------
def log_mel_segments(waveform: np.ndarray) -> np.ndarray:
    """Cuts a recording into overlapping segments of log-mel energies; drops the silent ones.

    A segment of 41 frames is 40 hops of 512 samples; the next begins half a segment later. (The
    paper states another overlap; the author's code notes that this was used.)

    Returns:
        float32 [num_segments, 60, 41] in dB, at least one segment.
    """
    length = HOP_SAMPLES * (NUM_FRAMES - 1)
    loudest = np.abs(waveform).max(initial=0)
    scaled = waveform / loudest if loudest > 0 else waveform
    padded = np.pad(scaled, (0, max(0, length - len(scaled))))
    starts = range(0, len(padded) - length + 1, length // 2)
    segments = _log_mels(np.stack([padded[start : start + length] for start in starts]))
    heard = segments.mean(axis=(1, 2)) > SILENCE_DB
    return segments[heard] if heard.any() else segments[:1]


def _log_mels(waveforms: np.ndarray) -> np.ndarray:
    """Returns what librosa's `melspectrogram` and `power_to_db` give for each row.

    All rows at once, and without what librosa compiles when it is first used. Mirrored ends are the
    default of the author's librosa 0.3.1.
    """
    ends = [(0, 0), (FFT_SAMPLES // 2, FFT_SAMPLES // 2)]
    padded = np.pad(waveforms.astype(np.float32), ends, mode="reflect")
    spectrum = np.abs(tf.signal.stft(padded, FFT_SAMPLES, HOP_SAMPLES).numpy())
    energies = np.square(spectrum) @ _mel_bands().T
    decibels = 10 * np.log10(np.maximum(energies, LEAST_ENERGY))
    faintest = decibels.max(axis=(1, 2), keepdims=True) - RANGE_DB
    return np.ascontiguousarray(np.maximum(decibels, faintest).transpose(0, 2, 1), np.float32)


@functools.cache
def _mel_bands() -> np.ndarray:
    with needs_extra("eval", "Piczak's ConvNet"):
        import librosa
    return librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=FFT_SAMPLES, n_mels=NUM_BANDS)


def augment(
    waveform: np.ndarray, change: tuple[int, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Changes pitch and tempo of float [num_samples] at 22,050 Hz and delays it by up to 1 s."""
    half_steps, slowest, fastest = change
    rate = rng.uniform(slowest, fastest)
    delay = rng.integers(DELAY_SAMPLES)
    changed = waveform.astype(np.float32)
    with needs_extra("eval", "Piczak's ConvNet"):
        import librosa
    if half_steps:
        changed = librosa.effects.pitch_shift(changed, sr=SAMPLE_RATE_HZ, n_steps=half_steps)
    if rate != 1:
        changed = librosa.effects.time_stretch(changed, rate=rate)
    return np.pad(changed, (delay, 0))


def deltas(log_mels: np.ndarray) -> np.ndarray:
    """Returns the slope of each band, float32 [..., num_frames], over nine frames.

    As librosa 0.3.1 did: not divided by the window's energy (60), and four frames late: the slope
    around frame t is at t + 4. A ramp that rises by 1 a frame has 60 where the window is inside it.
    """
    window = np.arange(4, -5, -1)
    edges = [(0, 0)] * (log_mels.ndim - 1) + [(5, 5)]
    filtered = scipy.signal.lfilter(window, 1, np.pad(log_mels, edges, mode="edge"), axis=-1)
    return filtered[..., 5:-5].astype(np.float32)


def extract(data: RecordingSet, *, cache_dir: pathlib.Path, seed: int) -> list[list[str]]:
    """Computes the segments of each recording and of its augmented copies, once.

    They are on disk, 10 KB a segment (0.9 GB for ESC-50 with its copies).

    Returns:
        For each recording the cache's keys of its segments, float32 [num_segments, 60, 41], and of
        those of each copy; `load` reads them. UserError if a recording cannot be read.
    """
    folder = pathlib.Path(cache_dir) / "features"
    changes = {name: change for names, change in _CHANGES.items() for name in names}
    if data.name != "ESC-10":
        changes = {}
    num_copies = NUM_COPIES.get(data.name, OTHER_NUM_COPIES)
    all_keys = []
    for recording in track(data.recordings, f"{METHOD}, segments", unit="recording"):
        change = changes.get(recording.label, _UNCHANGED)
        keys = [
            cache.key_of(PROTOCOL, recording.content_hash(), *variant)
            for variant in [(), *((change, seed, copy) for copy in range(num_copies))]
        ]
        if any(cache.read_array(folder, key) is None for key in keys):
            variants = _variants(recording, num_copies, change, seed)
            for key, array in zip(keys, variants, strict=True):
                cache.write_array(folder, key, array)
        all_keys.append(keys)
    return all_keys


def load(keys: Sequence[str], cache_dir: pathlib.Path) -> list[np.ndarray]:
    """Reads what `extract` computed into memory: ESC-50 has too many files to map."""
    folder = pathlib.Path(cache_dir) / "features"
    return [np.array(cache.read_array(folder, key)) for key in keys]


def _variants(recording: Recording, copies: int, change: tuple, seed: int) -> Iterator[np.ndarray]:
    """Yields the segments of a recording, then of its copies."""
    waveform = recording.load(SAMPLE_RATE_HZ)
    yield log_mel_segments(waveform)
    own = int(recording.content_hash()[:16], 16)
    for copy in range(copies):
        rng = np.random.default_rng([seed, own, copy])
        yield log_mel_segments(augment(waveform, change, rng))


# --- The network ---------------------------------------------------------------------------------
def build(recipe: Recipe, num_classes: int, seed: int) -> keras.Model:
    """Builds the network, untrained.

    Returns:
        A compiled model: float32 [batch, 60, 41, 2] (log-mel, deltas) to float32 [batch,
        num_classes], a softmax.
    """
    filters = max(1, round(NUM_FILTERS * recipe.width))
    units = max(1, round(NUM_UNITS * recipe.width))
    # Our choice for other widths: keeps the gain of the layers that see fewer inputs.
    gain = 1 / np.sqrt(recipe.width)
    decay = keras.regularizers.L2(WEIGHT_DECAY)

    def uniform(limit: float, number: int) -> keras.Initializer:
        return keras.initializers.RandomUniform(-limit, limit, seed=seed + number)

    def dense(size: int, activation: str, number: int) -> keras.layers.Layer:
        start = keras.initializers.RandomNormal(stddev=0.01 * gain, seed=seed + number)
        return keras.layers.Dense(
            size, activation, kernel_initializer=start, kernel_regularizer=decay
        )

    def convolution(kernel: tuple[int, int], **settings) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            filters, kernel, activation="relu", kernel_regularizer=decay, **settings
        )

    x = inputs = keras.Input((NUM_BANDS, NUM_FRAMES, 2))
    first = {
        "kernel_initializer": uniform(0.001, 0),
        "bias_initializer": keras.initializers.Constant(0.1),
    }
    x = convolution((57, 6), **first)(x)
    x = _pool(x, (4, 3))
    x = keras.layers.Dropout(DROPOUT, seed=seed)(x)
    x = convolution((1, 3), kernel_initializer=uniform(0.1 * gain, 1))(x)
    x = _pool(x, (1, 3))
    x = keras.layers.Flatten()(x)
    for number in (2, 3):
        x = dense(units, "relu", number)(x)
        x = keras.layers.Dropout(DROPOUT, seed=seed + number)(x)
    model = keras.Model(inputs, dense(num_classes, "softmax", 4)(x))
    sgd = keras.optimizers.SGD(recipe.learning_rate, momentum=MOMENTUM, nesterov=True)
    model.compile(sgd, keras.losses.SparseCategoricalCrossentropy())
    return model


def _pool(x: keras.KerasTensor, window: tuple[int, int]) -> keras.KerasTensor:
    """Max-pools every frame, the last window perhaps in part, as pylearn2 did; stride (1, 3)."""
    missing = -(x.shape[2] - window[1]) % 3
    if missing:
        # After a ReLU zeros change no maximum.
        x = keras.layers.ZeroPadding2D(((0, 0), (0, missing)))(x)
    return keras.layers.MaxPooling2D(window, strides=(1, 3))(x)


@dataclasses.dataclass(frozen=True)
class Standardization:
    """One shift and one scale for all bands, from the training segments."""

    mean: float
    scale: float

    def inputs(self, segments: np.ndarray) -> np.ndarray:
        """Returns what the network takes: float32 [num, 60, 41, 2]."""
        log_mels = (segments - self.mean) / self.scale
        return np.stack([log_mels, deltas(log_mels)], axis=-1)


def train(
    recipe: Recipe,
    segments: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    seed: int,
    state_path: pathlib.Path,
) -> tuple[keras.Model, Standardization, list[float]]:
    """Trains a network on segments, float32 [num, 60, 41], with labels, int [num].

    Deltas are computed batch by batch. A training that was killed goes on from `state_path`, see
    `epochs.remaining`; one whose loss is no longer finite ends with a UserError.

    Returns:
        The model, the standardization of its inputs, and the mean loss of each epoch run.
    """
    mean = float(segments.mean(dtype=np.float64))
    scale = float(segments.std(dtype=np.float64)) or 1.0
    standard = Standardization(mean, scale)
    model = build(recipe, num_classes, seed)
    num_batches = -(-len(segments) // recipe.batch_size)

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Shuffled batches of almost equal size, as the author's "even_shuffled_sequential".
        order = np.random.default_rng([seed, epoch]).permutation(len(segments))
        for rows in np.array_split(order, num_batches):
            yield standard.inputs(segments[rows]), labels[rows]

    losses = epochs.train(
        [model], batches, recipe.epochs, num_examples=len(segments), path=state_path, what=METHOD
    )
    return model, standard, [float(loss[0]) for loss in losses]


# --- Protocol ------------------------------------------------------------------------------------
def training_parts(parts: Sequence[str], tested: Sequence[str], part: str) -> list[str]:
    """Returns the sorted parts to train on when one of the `tested` parts is tested.

    Folds 1 to 5 give 2, 3, 4 when 1 is tested: the author kept the fold before it (the last, before
    the first) for validation. With fewer than three folds there is none to spare.
    """
    left_out = {part}
    if len(tested) > 2:
        left_out.add(sorted(tested)[sorted(tested).index(part) - 1])
    return sorted(set(parts) - left_out)


def evaluate(
    data: RecordingSet, recipe: Recipe, *, cache_dir: pathlib.Path, seed: int
) -> np.ndarray:
    """Tests each part with a network trained on others; a part done is not done again.

    All training segments of a part are in memory, twice for a moment: 1 GB for ESC-50.

    Returns:
        int64 [num_recordings], predictions; -1 where a recording is never tested. UserError if a
        recording cannot be read, or a training diverges.
    """
    folder = pathlib.Path(cache_dir) / "results"
    predictions = np.full(len(data.recordings), -1)
    extracted = None
    for part in data.test_parts:
        key = cache.key_of(PROTOCOL, data.content_hash(), dataclasses.asdict(recipe), part, seed)
        held = np.flatnonzero(data.parts == part)
        predicted = cache.read_json(folder, key)
        if predicted is None:
            if extracted is None:
                extracted = extract(data, cache_dir=cache_dir, seed=seed)
            state_path = pathlib.Path(cache_dir) / "training" / f"{key}.npz"
            predicted = _test_part(data, recipe, extracted, part, seed, cache_dir, state_path)
            cache.write_json(folder, key, predicted)
        predictions[held] = predicted
        accuracy = np.mean(predictions[held] == data.labels[held])
        _log.info("%s, part %s: accuracy %.1f %%", METHOD, part, 100 * accuracy)
    return predictions


def _test_part(
    data: RecordingSet,
    recipe: Recipe,
    extracted: list[list[str]],
    part: str,
    seed: int,
    cache_dir: pathlib.Path,
    state_path: pathlib.Path,
) -> list[int]:
    """Trains on other parts; returns the predictions for the recordings of this one."""
    used = training_parts(data.parts.tolist(), data.test_parts, part)
    trained = np.flatnonzero(np.isin(data.parts, used))
    arrays = [load(extracted[i], cache_dir) for i in trained]
    counts = [sum(map(len, variants)) for variants in arrays]
    segments = np.concatenate([array for variants in arrays for array in variants])
    del arrays
    model, standard, _ = train(
        recipe,
        segments,
        np.repeat(data.labels[trained], counts),
        num_classes=len(data.classes),
        seed=seed,
        state_path=state_path,
    )
    originals = [extracted[i][0] for i in np.flatnonzero(data.parts == part)]
    held = load(originals, cache_dir)
    outputs = (model(standard.inputs(each), training=False).numpy() for each in held)
    return [int(probabilities.mean(axis=0).argmax()) for probabilities in outputs]
