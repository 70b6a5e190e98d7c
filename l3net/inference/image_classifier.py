"""The vision ConvNet with a linear layer, to be trained on labelled images (L3 §3.4).

"Our architecture when trained from scratch in its entirety". Read as the classifier of frozen
features with no weight frozen: conv4_2 after the ReLU, max-pooled to 4x4, and a linear layer (our
choice: the paper does not say whether pool4 replaced the grid).
"""

import math
from collections.abc import Iterable
from typing import Any

import keras

from l3net import constants
from l3net.errors import UserError
from l3net.models import ModelConfig as ModelConfig
from l3net.models import convnets, heads
from l3net.models.batch_norm import PreciseBatchNorm


def build(config: ModelConfig, image_px: int, *, num_classes: int, seed: int) -> keras.Model:
    """Builds the network.

    Args:
        config: the vision ConvNet's stride, width and batch norm; the rest does not count.
        image_px: side of the images, 256 in the paper.
        num_classes: 1000 in the paper.
        seed: seed of the weights.

    Returns:
        A model: float32 [batch, image_px, image_px, 3] in [-1, 1] to float32 [batch, num_classes].

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


def measure_batch_norm(model: keras.Model, batches: Iterable[Any]) -> None:
    """Replaces moving averages, which lag after few steps, by means over batches of one size."""
    PreciseBatchNorm(model).recompute(batches)
