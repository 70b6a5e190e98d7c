"""The whole vision ConvNet trained on labelled images from random weights (L3 §3.4).

"Our architecture when trained from scratch in its entirety" reaches 59.2 % on ImageNet. Read as the
classifier of the row "Ours" with no weight frozen: conv4_2 after the ReLU, max-pooled to 4x4, and a
linear layer (ours: the paper does not say whether pool4 took the grid's place). Crops, loss and
schedule are those of `linear_layer`. Ours: no weight decay, and batch norm's statistics are
measured anew at the end.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator

import keras
import numpy as np

from eval.methods import epochs, image_crops, linear_layer
from eval.reporting import cache
from eval.sets.image_sets import Split
from l3net import constants
from l3net.data import augment
from l3net.errors import UserError
from l3net.models import ModelConfig, convnets, heads
from l3net.models.precise_batch_norm import PreciseBatchNorm

# Ours: of §3.4 the paper names no rate; of its own training it says that this one usually works.
LEARNING_RATE = constants.LEARNING_RATE
# Part of every cache key: raise it when the steps from an image to a network change.
PROTOCOL = "from scratch v1"
_BATCH_NORM_BATCHES = 16


def config_like(network: linear_layer.VisionNetwork | None) -> ModelConfig:
    """Returns which ConvNet to train.

    Args:
        network: the one to compare with, or None.

    Returns:
        Its configuration; without one that of the paper's L3-Net.
    """
    known = {} if network is None else network.metadata.get("model_config", {})
    return ModelConfig(**known)


def build(config: ModelConfig, image_px: int, *, num_classes: int, seed: int) -> keras.Model:
    """Builds the network.

    Args:
        config: of which stride, width and batch norm of the vision ConvNet count.
        image_px: side of the images, 256 in the paper.
        num_classes: 1000 in the paper.
        seed: of the weights.

    Returns:
        A model: float32 [batch, image_px, image_px, 3] in [-1, 1] to logits float32 [batch,
        num_classes].

    Raises:
        UserError: if the images are too small for the 4x4 grid.
    """
    smallest = constants.IMAGE_GRID[0] * 8 * config.stride  # three pools halve each side
    if image_px < smallest:
        raise UserError(f"--image_px={image_px}: {config.model} needs at least {smallest}")
    settings = convnets.ConvNetSettings(
        stride=config.stride,
        width=config.width,
        batch_norm_momentum=config.batch_norm_momentum,
        seed=seed,
    )
    vision = convnets.subnetwork(
        "vision", (image_px, image_px, 3), settings, head=_linear(num_classes, seed)
    )
    return keras.Model(vision.input, vision.output["logits"], name="from_scratch")


def _linear(num_classes: int, seed: int) -> convnets.Head:
    """Returns the classifier's head: "grid", 8192 features in the paper, and "logits"."""

    def head(outputs: dict[str, keras.KerasTensor]) -> dict[str, keras.KerasTensor]:
        conv4_2 = outputs["conv4_2"]
        grid = keras.layers.Lambda(
            lambda x: convnets.pool_to_grid(x, *constants.IMAGE_GRID),
            output_shape=(math.prod(constants.IMAGE_GRID) * conv4_2.shape[-1],),
            name="grid",
        )(conv4_2)
        layer = heads.dense(num_classes, "linear", seed=seed, owner="vision", starts_small=True)
        return {"grid": grid, "logits": layer(grid)}

    return head


def train(
    config: ModelConfig,
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

    Args:
        config: see `build`.
        split: the training images.
        training: see `linear_layer.Training`.
        rate: the initial learning rate.
        num_classes: number of classes.
        seed: of the weights, the crops and their order.
        cache_dir: folder of the cache.

    Returns:
        The network.

    Raises:
        UserError: if an image cannot be read or is too small, or the training diverges.
    """
    model = build(config, training.image_px, num_classes=num_classes, seed=seed)
    linear_layer.compile_model(model, rate, training, len(split))
    described = [dataclasses.asdict(config), dataclasses.asdict(training), rate, num_classes, seed]
    key = cache.key_of(PROTOCOL, linear_layer.PROTOCOL, split.content_hash, described)
    epochs.train(
        [model],
        lambda epoch: _batches(split, training, (seed, epoch)),
        training.num_epochs,
        num_examples=len(split),
        path=pathlib.Path(cache_dir) / "training" / f"{key}.npz",
        what="network from scratch",
    )
    _measure_batch_norm(model, split, training, (seed, training.num_epochs))
    return model


def _batches(
    split: Split, training: linear_layer.Training, seed: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields inputs and labels of one epoch."""
    for images, rows in linear_layer.shuffled_crops(split, training, seed):
        yield augment.frame_to_float(images).numpy(), split.labels[rows]


def _measure_batch_norm(
    model: keras.Model, split: Split, training: linear_layer.Training, seed: tuple[int, int]
) -> None:
    """Replaces moving averages, which lag after few steps, by means over some full batches."""
    full = max(1, len(split) // training.batch_size)  # the batches must be of one size
    batches = itertools.islice(_batches(split, training, seed), min(full, _BATCH_NORM_BATCHES))
    PreciseBatchNorm(model).recompute(inputs for inputs, _ in batches)


def accuracy(model: keras.Model, split: Split, training: linear_layer.Training) -> float:
    """Measures a network on the central crop of every image, each image once.

    Args:
        model: the network.
        split: the images.
        training: of which image size and batch count.

    Returns:
        Top-1 accuracy in [0, 1].

    Raises:
        UserError: if an image cannot be read.
    """
    crops = image_crops.batches(
        split, np.arange(len(split)), side_px=training.image_px, batch_size=training.batch_size
    )
    right = 0
    for images, rows in crops:
        logits = model.predict_on_batch(augment.frame_to_float(images).numpy())
        right += int(np.sum(logits.argmax(axis=1) == split.labels[rows]))
    return right / len(split)
