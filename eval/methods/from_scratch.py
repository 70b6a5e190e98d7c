"""The complete vision ConvNet trained on labelled images from random weights (L3 §3.4).

59.2 % on ImageNet. The network is `l3net.inference.image_classifier`; crops, loss, schedule,
clipping and the average of the weights are those of `linear_layer`. Our choice: no weight decay,
and batch norm's statistics are measured again at the end, with the averaged weights.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator

import keras
import numpy as np

from eval.methods import epochs, image_crops, linear_layer
from eval.reporting import cache
from eval.sets.image_sets import Split
from l3net import constants
from l3net.data import augment
from l3net.inference import image_classifier

# Our choice: the paper names no rate in §3.4; of its own training it says that this usually works.
LEARNING_RATE = constants.LEARNING_RATE
# Part of every cache key: raise it when the steps from an image to a network change.
PROTOCOL = "from scratch v2"
_BATCH_NORM_BATCHES = 16


def train(
    config: image_classifier.ModelConfig,
    split: Split,
    training: linear_layer.Training,
    *,
    rate: float,
    num_classes: int,
    seed: int,
    cache_dir: pathlib.Path,
) -> keras.Model:
    """Trains the network; one that was killed goes on, see `epochs.remaining`.

    An image of 256 px costs 80 GFLOP an epoch at the paper's size (13.3 G multiply-adds forward,
    twice as many backward): 10^19 for 100 epochs of ImageNet.

    UserError if an image cannot be read or is too small, or the training diverges.
    """
    model = image_classifier.build(config, training.image_px, num_classes=num_classes, seed=seed)
    linear_layer.compile_model(model, rate, training, len(split))
    settings = [dataclasses.asdict(config), dataclasses.asdict(training), rate, num_classes, seed]
    key = cache.key_of(PROTOCOL, linear_layer.PROTOCOL, split.content_hash, settings)
    epochs.train(
        [model],
        lambda epoch: _batches(split, training, (seed, epoch)),
        training.num_epochs,
        num_examples=len(split),
        path=pathlib.Path(cache_dir) / "training" / f"{key}.npz",
        what="network from scratch",
    )
    full = max(1, len(split) // training.batch_size)  # the batches must be of one size
    batches = _batches(split, training, (seed, training.num_epochs))
    some = itertools.islice(batches, min(full, _BATCH_NORM_BATCHES))
    image_classifier.measure_batch_norm(model, (inputs for inputs, _ in some))
    return model


def _batches(
    split: Split, training: linear_layer.Training, seed: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields inputs and labels of one epoch."""
    for images, rows in linear_layer.shuffled_crops(split, training, seed):
        yield augment.frame_to_float(images).numpy(), split.labels[rows]


def accuracy(model: keras.Model, split: Split, training: linear_layer.Training) -> float:
    """Returns the top-1 accuracy in [0, 1] on the central crop of every image, each image once."""
    crops = image_crops.batches(
        split, np.arange(len(split)), side_px=training.image_px, batch_size=training.batch_size
    )
    num_correct = 0
    for images, rows in crops:
        logits = model.predict_on_batch(augment.frame_to_float(images).numpy())
        num_correct += int(np.sum(logits.argmax(axis=1) == split.labels[rows]))
    return num_correct / len(split)
