"""One linear layer on frozen image features, trained as the Inception networks were (L3 §3.4).

Softmax cross-entropy with label smoothing 0.1, learning rate x0.94 every two epochs, gradients
clipped at 2.0, evaluation with the running average of the weights (Szegedy et al. 2016, §7 and §8);
Adam in place of RMSProp (L3). The network runs on every crop of every epoch; without augmentation
its features are computed once. Our choice: no weight decay; learning rate, batch and length, which
L3 lacks; the clipped norm is that of all gradients together; the average's decay.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from eval.methods import epochs, image_crops, networks
from eval.reporting import cache
from eval.sets.image_sets import Split
from l3net import constants
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.progress import progress

_log = logging.getLogger(__name__)

LABEL_SMOOTHING = 0.1
DECAY, EPOCHS_PER_DECAY = 0.94, 2
CLIP_NORM = 2.0
AVERAGE_DECAY = 0.9999  # that of TensorFlow's published Inception code; the paper gives none
INCEPTION, NONE = AUGMENTATIONS = ("inception", "none")
# Our choice, L3 names no learning rate; see `choose_rate`.
RATE_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT_SHARE = 0.1
# Our choice: with so many images held out, in at most so many draws, an accuracy of 50 % is known
# to 3.5 %. ImageNet needs one draw, 800 photographs need three.
MIN_HELD_OUT, MAX_DRAWS = 200, 5
OUTPUT = "conv4_2"  # after the ReLU, max-pooled to 4x4x512 (L3 §3.4)
# Part of every cache key: raise it when the steps from an image to features or a layer change.
PROTOCOL = "linear layer v2"
_CHUNK_IMAGES = 512
_OPEN_CHUNKS = 256  # each holds a file open, and 1024 is a usual limit


@dataclasses.dataclass(frozen=True)
class Training:
    """How a layer, or with `from_scratch` the complete network, is trained.

    Attributes:
        augmentation: INCEPTION, or NONE: the central crop of every image.
        image_px: side of the crops.
        num_epochs: how often all training images are seen.
        batch_size: images of one step of Adam.
    """

    augmentation: str
    image_px: int
    num_epochs: int
    batch_size: int


def default_image_px(frame_px: int) -> int:
    """Returns 256 for a network trained on 224 px crops (L3 §3.4), for others in proportion."""
    return round(frame_px * constants.SMALLEST_SIDE_PX / constants.FRAME_PX)


class VisionNetwork(networks.ExportedNetwork):
    """The picture half of an exported network; UserError if it sees more than one image."""

    def __init__(self, path: str | pathlib.Path):
        """Reads the metadata; see `networks.ExportedNetwork`."""
        super().__init__(path)
        inputs = set(self.metadata.get("inputs", ())) - {constants.LOG_SPECTROGRAM}
        if inputs and inputs != {constants.FRAME}:
            raise UserError(
                f"{path} takes {', '.join(sorted(inputs))}, not single images; give a network that "
                "sees one frame"
            )

    @property
    def default_image_px(self) -> int:
        """See the function of the same name."""
        return default_image_px(self.metadata["frame_px"])

    def __call__(self, images: np.ndarray, output: str = OUTPUT) -> np.ndarray:
        """Returns an output of `vision`, float32 [num, num_features], of uint8 [num, h, w, 3].

        Raises:
            UserError: if the SavedModel is damaged, has no such signature or output, or the images
                are too small for it.
        """
        try:
            return self.loaded.features(saved_model.VISION, output)(images)
        except tf.errors.InvalidArgumentError as error:
            size = "x".join(map(str, images.shape[1:3]))
            raise UserError(
                f"{self.path} cannot take {size} images (its {output} must be at least 4x4); give "
                f"a larger --image_px, {self.default_image_px} or more"
            ) from error


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all layers on one network have in common; features and states are kept in the cache."""

    network: VisionNetwork
    training: Training
    num_classes: int
    cache_dir: pathlib.Path


# --- Features of central crops -------------------------------------------------------------------
class CentralFeatures:
    """Features of the central crops of some images, on disk in chunks."""

    def __init__(self, folder: pathlib.Path, keys: Sequence[str]):
        """Takes the cache's keys of float32 [512, num_features] each, the last perhaps shorter."""
        self._chunk = functools.lru_cache(_OPEN_CHUNKS)(
            lambda number: cast(np.ndarray, cache.read_array(folder, keys[number]))
        )

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Returns float32 [len(rows), num_features]."""
        # Copied: a view would keep its chunk open.
        positions = (divmod(int(row), _CHUNK_IMAGES) for row in rows)
        return np.stack([np.array(self._chunk(number)[index]) for number, index in positions])


def central_features(setup: Setup, split: Split) -> CentralFeatures:
    """Returns the features of central crops, computing only those that are not yet on disk.

    An image takes 32 KB (8192 features): 1.6 GB for ImageNet's val, 42 GB for its train. UserError
    if an image cannot be read.
    """
    network, side_px, batch_size = setup.network, setup.training.image_px, setup.training.batch_size
    folder = setup.cache_dir / "features"
    keys = []
    with progress(f"features {OUTPUT}", unit="image", total=len(split)) as shown:
        for start in range(0, len(split), _CHUNK_IMAGES):
            rows = np.arange(start, min(start + _CHUNK_IMAGES, len(split)))
            identities = [split.identities[row] for row in rows]
            key = cache.key_of(PROTOCOL, network.content_hash, side_px, identities)
            keys.append(key)
            if cache.read_array(folder, key) is None:
                crops = image_crops.batches(split, rows, side_px=side_px, batch_size=batch_size)
                values = np.concatenate([network(images) for images, _ in crops])
                cache.write_array(folder, key, values)
            shown.advance(len(rows))
    return CentralFeatures(folder, keys)


# --- Training ------------------------------------------------------------------------------------
def smoothed_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean softmax cross-entropy with label smoothing (Szegedy et al. 2016, §7)."""
    targets = tf.one_hot(labels, logits.shape[-1])
    each = keras.losses.categorical_crossentropy(
        targets, logits, from_logits=True, label_smoothing=LABEL_SMOOTHING
    )
    return tf.reduce_mean(each)


class AveragingAdam(keras.optimizers.Adam):
    """Adam that keeps the running average of the weights, which `epochs.train` ends with.

    After n steps the average's decay is min(AVERAGE_DECAY, (1 + n) / (10 + n)), as
    `tf.train.ExponentialMovingAverage` has it: short trainings are averaged over their later steps,
    not with where they began.
    """

    @property
    def ema_momentum(self) -> tf.Tensor:  # a constant in Keras
        """The decay of this step."""
        num_steps = keras.ops.cast(self.iterations, "float32")
        return keras.ops.minimum(self._decay, (1 + num_steps) / (10 + num_steps))

    @ema_momentum.setter
    def ema_momentum(self, decay: float) -> None:
        self._decay = decay


def compile_model(model: keras.Model, rate: float, training: Training, num_images: int) -> None:
    """Gives a model of logits the loss, Adam, clipping, average and learning-rate schedule."""
    num_batches = -(-num_images // training.batch_size)
    schedule = keras.optimizers.schedules.ExponentialDecay(
        rate, EPOCHS_PER_DECAY * num_batches, DECAY, staircase=True
    )
    adam = AveragingAdam(
        schedule, global_clipnorm=CLIP_NORM, use_ema=True, ema_momentum=AVERAGE_DECAY
    )
    model.compile(adam, smoothed_cross_entropy)


def build(num_features: int, num_classes: int, seed: int) -> keras.Model:
    """Builds a linear layer, in the paper from 8192 features to the logits of 1000 classes."""
    start = keras.initializers.GlorotUniform(seed=seed)
    layer = keras.layers.Dense(num_classes, kernel_initializer=start)
    return keras.Sequential([keras.Input((num_features,)), layer])


def train(setup: Setup, split: Split, rates: Sequence[float], seed: int) -> list[keras.Model]:
    """Trains a layer for each learning rate, all beside each other on the same crops.

    The network costs more than the layers, so a grid of rates costs little more than one. A run
    that was killed goes on after its last epoch on disk, see `epochs.remaining`.

    Returns:
        The layers, in the order of the rates; UserError if every layer diverges.
    """
    network, training = setup.network, setup.training
    central = central_features(setup, split) if training.augmentation == NONE else None
    blank = np.zeros((1, training.image_px, training.image_px, 3), np.uint8)
    num_features = network(blank).shape[1]
    models = [build(num_features, setup.num_classes, seed) for _ in rates]
    for model, rate in zip(models, rates, strict=True):
        compile_model(model, rate, training, len(split))
    settings = [dataclasses.asdict(training), list(rates), setup.num_classes, seed]
    key = cache.key_of(PROTOCOL, network.content_hash, split.content_hash, settings)
    epochs.train(
        models,
        lambda epoch: _batches(setup, split, central, (seed, epoch)),
        training.num_epochs,
        num_examples=len(split),
        path=setup.cache_dir / "training" / f"{key}.npz",
        what="linear layer",
    )
    return models


def _batches(
    setup: Setup, split: Split, central: CentralFeatures | None, seed: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields features and labels of one epoch."""
    if central is None:
        for images, rows in shuffled_crops(split, setup.training, seed):
            yield setup.network(images), split.labels[rows]
        return
    order, batch_size = _shuffled(split, seed), setup.training.batch_size
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield central.take(rows), split.labels[rows]


def _shuffled(split: Split, seed: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(split))


def shuffled_crops(
    split: Split, training: Training, seed: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads the training crops of one epoch, in an order of its own; see `image_crops.batches`."""
    yield from image_crops.batches(
        split,
        _shuffled(split, seed),
        side_px=training.image_px,
        batch_size=training.batch_size,
        seed=seed if training.augmentation == INCEPTION else None,
    )


def accuracies(setup: Setup, split: Split, models: Sequence[keras.Model]) -> list[float]:
    """Returns the top-1 accuracy in [0, 1] of each layer on the central crop of every image."""
    central, batch_size = central_features(setup, split), setup.training.batch_size
    num_correct = np.zeros(len(models), np.int64)
    for start in range(0, len(split), batch_size):
        rows = np.arange(start, min(start + batch_size, len(split)))
        inputs = central.take(rows)
        for position, model in enumerate(models):
            predicted = model(inputs, training=False).numpy().argmax(axis=1)
            num_correct[position] += np.sum(predicted == split.labels[rows])
    return [float(count / len(split)) for count in num_correct]


def held_out(labels: np.ndarray, seed: int, draw: int = 0) -> np.ndarray:
    """Draws a tenth of the training images, evenly over the classes, to choose a learning rate on.

    Returns:
        bool [num_images]; of labels [num_images] at least one image of a class with several, none
        of a class with one. No two draws of a seed have an image in common; later ones may be
        smaller, or empty.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) > 1:
            size = max(1, round(HELD_OUT_SHARE * len(members)))
            held[members[draw * size : (draw + 1) * size]] = True
    return held


def _draws(labels: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yields tenths of the images until they hold MIN_HELD_OUT images, or there are MAX_DRAWS."""
    total = 0
    for draw in range(MAX_DRAWS):
        held = held_out(labels, seed, draw)
        if total >= MIN_HELD_OUT or not held.any():
            return
        total += int(held.sum())
        yield held


def choose_rate(
    setup: Setup, split: Split, seed: int, grid: Sequence[float] = RATE_GRID
) -> tuple[float, list[float]]:
    """Chooses the learning rate that does best on held-out tenths of the training images.

    Of a small set one tenth is too few to tell rates apart, so several tenths are held out, one
    after the other, until they hold MIN_HELD_OUT images together (our choice).

    Returns:
        The rate, the smallest of equals, and the accuracy of each rate of the grid over all images
        held out. UserError if every class has but one image.
    """
    num_correct, total = np.zeros(len(grid)), 0
    for held in _draws(split.labels, seed):
        rest, probe = split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))
        # Before the training, of which a run that is killed later would keep nothing.
        central_features(setup, probe)
        found = accuracies(setup, probe, train(setup, rest, grid, seed))
        num_correct += np.round(np.array(found) * len(probe))
        total += len(probe)
        _log.info("%d held out, right with rates %s: %s", total, list(grid), num_correct.tolist())
    if not total:
        raise UserError("every class has one training image: none is left to choose a rate on")
    return grid[int(num_correct.argmax())], (num_correct / total).tolist()
