"""Piczak's ConvNet on segmented log-mel spectrograms: the baseline "Piczak ConvNet" of L3 Table 2.

Source: Piczak, "Environmental Sound Classification with Convolutional Neural Networks", MLSP 2015.
Every number here was read in the notebooks that its author published with it
(github.com/karolpiczak/paper-2015-esc-convnet). There, short segments with probability voting give
62.2, 60.7, 63.7, 71.5 and 64.5 % on the folds of ESC-50: the 64.5 % that L3 quotes; on ESC-10 77.5,
80.0, 77.5, 86.2 and 71.2 %. A fold is tested by a network trained on three others; the fifth fold
only watched the training, and so does nothing here.

Ours: the resampler (pydub's there); what a recording shorter than a segment does (zeros are
appended); what a wholly silent one does (its first segment is kept); and the size SMALL.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Iterator, Sequence

import keras
import librosa
import numpy as np
import scipy.signal
import tensorflow as tf
import tqdm

from eval.methods import epochs
from eval.reporting import cache
from eval.sets.recordings import RESAMPLING, Recording, RecordingSet
from l3net.errors import UserError

_log = logging.getLogger(__name__)

METHOD = "Piczak ConvNet"
SAMPLE_RATE_HZ = 22_050
FFT_SAMPLES = 1024
HOP_SAMPLES = 512
NUM_BANDS = 60
SILENCE_DB = -70.0  # a segment of a lower mean level is dropped
RANGE_DB = 80.0  # of a segment: what is fainter is raised to that
LEAST_ENERGY = 1e-10
DELAY_SAMPLES = 22_050  # an augmented recording starts up to 1 s late
NUM_FILTERS, NUM_UNITS = 80, 5000
WEIGHT_DECAY = 0.001
DROPOUT = 0.5
MOMENTUM = 0.9
# Part of every cache key: raise it when the steps from a recording to segments change.
PROTOCOL = f"piczak v2, {RESAMPLING}"

SHORT, LONG = SEGMENTS = ("short", "long")
PROBABILITY, MAJORITY = VOTES = ("probability", "majority")
PAPER, SMALL = SIZES = ("paper", "small")
_FRAMES = {SHORT: 41, LONG: 101}
_LEARNING_RATES = {SHORT: 0.002, LONG: 0.01}
_EPOCHS = {SHORT: 300, LONG: 150}
# Ours: some minutes on two CPU cores for the demo data. Small batches make up for few epochs.
_SMALL = {"learning_rate": 0.002, "epochs": 30, "width": 0.25, "batch_size": 100}

# Augmented copies of a training recording, and what happens to them besides the delay: half-steps
# of pitch and the range of time stretching. The author's table gives ranges of half-steps, but his
# code always takes their upper end, and so do we. Class names of both layouts of ESC-10.
_NUM_COPIES = {"ESC-10": 10}
_OTHER_NUM_COPIES = 4  # ESC-50: delayed, no more
_UNCHANGED = (0, 1.0, 1.0)
_CHANGES = {
    "Dog bark": (4, 0.95, 1.1),
    "dog": (4, 0.95, 1.1),
    "Sea waves": (0, 0.9, 1.2),
    "sea_waves": (0, 0.9, 1.2),
    "Baby cry": (6, 0.8, 1.3),
    "crying_baby": (6, 0.8, 1.3),
    "Person sneeze": (4, 0.9, 1.2),
    "sneezing": (4, 0.9, 1.2),
    "Helicopter": (0, 0.9, 1.2),
    "helicopter": (0, 0.9, 1.2),
    "Chainsaw": (2, 0.9, 1.2),
    "chainsaw": (2, 0.9, 1.2),
    "Rooster": (2, 0.95, 1.1),
    "rooster": (2, 0.95, 1.1),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, and how.

    Attributes:
        segments: SHORT (41 frames, 0.95 s) or LONG (101 frames, 2.3 s).
        vote: how segments decide: PROBABILITY (mean of the softmax outputs) or MAJORITY.
        learning_rate: of SGD.
        epochs: over all segments.
        width: multiplies filters and dense units.
        batch_size: of SGD.
    """

    segments: str = SHORT
    vote: str = PROBABILITY
    learning_rate: float = _LEARNING_RATES[SHORT]
    epochs: int = _EPOCHS[SHORT]
    width: float = 1.0
    batch_size: int = 1000

    def __post_init__(self):
        if self.segments not in SEGMENTS or self.vote not in VOTES:
            raise UserError(
                f"got {self.segments!r} segments and {self.vote!r} voting; need one of "
                f"{', '.join(SEGMENTS)} and one of {', '.join(VOTES)}"
            )
        if self.epochs < 1 or self.width <= 0 or self.batch_size < 1:
            raise UserError(
                f"got {self.epochs} epochs, batches of {self.batch_size}, width {self.width:g}; "
                "need at least 1 epoch, batches of at least 1, a width above 0"
            )

    @property
    def num_frames(self) -> int:
        """Frames of a segment."""
        return _FRAMES[self.segments]

    @property
    def is_published(self) -> bool:
        """Whether this is the network and training of the paper."""
        return self == make_recipe(PAPER, segments=self.segments, vote=self.vote)

    def note(self) -> str:
        """Returns in a few words what a row of this recipe must say."""
        text = f"{self.segments} segments, {self.vote} vote, {self.epochs} epochs"
        if self.is_published:
            return text
        changed = f"width {self.width:g}, batches of {self.batch_size}, rate {self.learning_rate:g}"
        return f"{text}, {changed}: not the paper's recipe"


def make_recipe(
    size: str,
    *,
    segments: str = SHORT,
    vote: str = PROBABILITY,
    epochs: int | None = None,
    width: float | None = None,
) -> Recipe:
    """Returns a recipe, some of it changed.

    Args:
        size: PAPER or SMALL.
        segments: see `Recipe`.
        vote: see `Recipe`.
        epochs: None for the size's number.
        width: None for the size's.

    Returns:
        The recipe.

    Raises:
        UserError: if a value is out of range.
    """
    if size not in SIZES:
        raise UserError(f"got Piczak size {size!r}; need one of {', '.join(SIZES)}")
    given = {"epochs": epochs, "width": width}
    changes = {name: value for name, value in given.items() if value is not None}
    base = {"learning_rate": _LEARNING_RATES.get(segments), "epochs": _EPOCHS.get(segments)}
    base |= _SMALL if size == SMALL else {}
    return Recipe(segments=segments, vote=vote, **(base | changes))


# --- From a recording to segments ----------------------------------------------------------------
def log_mel_segments(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """Cuts a recording into overlapping segments of log-mel energies; drops the silent ones.

    A segment of 41 frames is 40 hops of 512 samples; the next begins half a segment later. (The
    paper states another overlap for each length; the author's code notes that this was used.)

    Args:
        waveform: float [num_samples], 22,050 Hz.
        num_frames: 41 or 101.

    Returns:
        float32 [num_segments, 60, num_frames] in dB, at least one segment.
    """
    length = HOP_SAMPLES * (num_frames - 1)
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
    return librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=FFT_SAMPLES, n_mels=NUM_BANDS)


def augment(
    waveform: np.ndarray, change: tuple[int, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Changes pitch and tempo and delays a recording.

    Args:
        waveform: float [num_samples], 22,050 Hz.
        change: half-steps up, and the slowest and fastest rate.
        rng: draws rate and delay.

    Returns:
        float32 [up to 1 s longer, if the rate is 1].
    """
    half_steps, slowest, fastest = change
    rate = rng.uniform(slowest, fastest)
    delay = rng.integers(DELAY_SAMPLES)
    changed = waveform.astype(np.float32)
    if half_steps:
        changed = librosa.effects.pitch_shift(changed, sr=SAMPLE_RATE_HZ, n_steps=half_steps)
    if rate != 1:
        changed = librosa.effects.time_stretch(changed, rate=rate)
    return np.pad(changed, (delay, 0))


def deltas(log_mels: np.ndarray) -> np.ndarray:
    """Returns the slope of each band over nine frames, as librosa 0.3.1 did.

    Not divided by the window's energy (60), and four frames late: the slope around frame t stands
    at t + 4. A ramp that rises by 1 a frame has 60 where the window lies inside it.

    Args:
        log_mels: float32 [..., num_frames].

    Returns:
        float32 of the same shape.
    """
    window = np.arange(4, -5, -1)
    edges = [(0, 0)] * (log_mels.ndim - 1) + [(5, 5)]
    filtered = scipy.signal.lfilter(window, 1, np.pad(log_mels, edges, mode="edge"), axis=-1)
    return filtered[..., 5:-5].astype(np.float32)


def num_copies(data_name: str) -> int:
    """Returns how many augmented copies of each training recording a data set has."""
    return _NUM_COPIES.get(data_name, _OTHER_NUM_COPIES)


def extract(
    data: RecordingSet, num_frames: int, *, cache_dir: pathlib.Path, seed: int
) -> list[list[str]]:
    """Computes the segments of each recording and of its augmented copies, once.

    They lie on disk, 10 KB a short segment, 24 KB a long one (0.9 GB for ESC-50 with its copies).

    Args:
        data: the recordings.
        num_frames: of a segment.
        cache_dir: folder of the cache.
        seed: of the copies.

    Returns:
        For each recording the cache's keys of its segments, float32 [num_segments, 60,
        num_frames], and of those of each copy; `load` reads them.

    Raises:
        UserError: if a recording cannot be read.
    """
    folder = pathlib.Path(cache_dir) / "features"
    changes = _CHANGES if data.name == "ESC-10" else {}
    found = []
    for recording in tqdm.tqdm(data.recordings, desc=METHOD, unit="recording", disable=None):
        change = changes.get(recording.label, _UNCHANGED)
        keys = [
            cache.key_of(PROTOCOL, recording.content_hash(), num_frames, *variant)
            for variant in [(), *((change, seed, copy) for copy in range(num_copies(data.name)))]
        ]
        if any(cache.read_array(folder, key) is None for key in keys):
            variants = _variants(recording, len(keys) - 1, change, num_frames, seed)
            for key, array in zip(keys, variants, strict=True):
                cache.write_array(folder, key, array)
        found.append(keys)
    return found


def load(keys: Sequence[str], cache_dir: pathlib.Path) -> list[np.ndarray]:
    """Reads segments that `extract` computed into memory: ESC-50 has too many files to map.

    Args:
        keys: of the cache.
        cache_dir: folder of the cache.

    Returns:
        Of each key float32 [num_segments, 60, num_frames].
    """
    folder = pathlib.Path(cache_dir) / "features"
    return [np.array(cache.read_array(folder, key)) for key in keys]


def _variants(
    recording: Recording, copies: int, change: tuple, num_frames: int, seed: int
) -> Iterator[np.ndarray]:
    """Yields the segments of a recording, then of its copies."""
    waveform = recording.load(SAMPLE_RATE_HZ)
    yield log_mel_segments(waveform, num_frames)
    own = int(recording.content_hash()[:16], 16)
    for copy in range(copies):
        rng = np.random.default_rng([seed, own, copy])
        yield log_mel_segments(augment(waveform, change, rng), num_frames)


# --- The network ---------------------------------------------------------------------------------
def build(recipe: Recipe, num_classes: int, seed: int) -> keras.Model:
    """Builds the network, untrained.

    Args:
        recipe: its segments and width.
        num_classes: number of classes.
        seed: of weights and dropout.

    Returns:
        A compiled model: float32 [batch, 60, num_frames, 2] (log-mel, deltas) to float32 [batch,
        num_classes], a softmax.
    """
    filters = max(1, round(NUM_FILTERS * recipe.width))
    units = max(1, round(NUM_UNITS * recipe.width))
    # Ours, of other widths: keeps the gain of the layers that see fewer inputs.
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

    x = inputs = keras.Input((NUM_BANDS, recipe.num_frames, 2))
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
        """Returns what the network takes: float32 [num, 60, num_frames, 2]."""
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
    """Trains a network on segments.

    Args:
        recipe: see `Recipe`.
        segments: float32 [num, 60, num_frames]; deltas are computed batch by batch.
        labels: int [num].
        num_classes: number of classes.
        seed: of weights, dropout and order.
        state_path: where a killed training goes on, see `epochs.remaining`.

    Returns:
        The model, the standardization of its inputs, and the mean loss of each epoch run.

    Raises:
        UserError: if the loss is no longer finite.
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
    """Returns the parts to train on when one is tested.

    Of folds, not the one before it (the last, before the first): the author kept it for validation.
    With fewer than three folds there is none to spare.

    Args:
        parts: all of them.
        tested: those tested in turn.
        part: the one tested now.

    Returns:
        Sorted names. Folds 1 to 5 give 2, 3, 4 when 1 is tested.
    """
    left_out = {part}
    if len(tested) > 2:
        left_out.add(sorted(tested)[sorted(tested).index(part) - 1])
    return sorted(set(parts) - left_out)


def decide(probabilities: np.ndarray, vote: str) -> int:
    """Returns the class of a recording from those of its segments.

    Args:
        probabilities: float [num_segments, num_classes].
        vote: PROBABILITY or MAJORITY (of several equals the first class; ours).

    Returns:
        The class. [[.9, .1], [.4, .6], [.4, .6]] is 0 by probability, 1 by majority.
    """
    if vote == PROBABILITY:
        return int(probabilities.mean(axis=0).argmax())
    return int(np.bincount(probabilities.argmax(axis=1)).argmax())


def evaluate(
    data: RecordingSet, recipe: Recipe, *, cache_dir: pathlib.Path, seed: int
) -> np.ndarray:
    """Tests each part with a network trained on others; a part done is not done again.

    All training segments of a part are in memory, twice for a moment: 1 GB for ESC-50.

    Args:
        data: the recordings.
        recipe: see `Recipe`.
        cache_dir: folder of the cache.
        seed: of everything that is drawn.

    Returns:
        int64 [num_recordings], predictions; -1 where a recording is never tested.

    Raises:
        UserError: if a recording cannot be read, or a training diverges.
    """
    folder = pathlib.Path(cache_dir) / "results"
    described = dataclasses.asdict(recipe)
    predictions = np.full(len(data.recordings), -1)
    extracted = None
    for part in data.test_parts:
        key = cache.key_of(PROTOCOL, data.content_hash(), described, part, seed)
        held = np.flatnonzero(data.parts == part)
        found = cache.read_json(folder, key)
        if found is None:
            if extracted is None:
                extracted = extract(data, recipe.num_frames, cache_dir=cache_dir, seed=seed)
            state_path = pathlib.Path(cache_dir) / "training" / f"{key}.npz"
            found = _test_part(data, recipe, extracted, part, seed, cache_dir, state_path)
            cache.write_json(folder, key, found)
        predictions[held] = found
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
    used = training_parts(data.parts, data.test_parts, part)
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
    found = (model(standard.inputs(each), training=False).numpy() for each in held)
    return [decide(probabilities, recipe.vote) for probabilities in found]
