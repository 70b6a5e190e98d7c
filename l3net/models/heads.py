"""Heads on top of the ConvNets: fully connected layers, shared by the networks.

All compute in float32, also when the ConvNets run in half precision: it costs nothing.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from l3net import constants
from l3net.models import convnets


def dense(
    units: int,
    name: str,
    *,
    seed: int,
    owner: str = "",
    relu: bool = False,
    starts_small: bool = False,
) -> keras.layers.Layer:
    """Returns a fully connected layer, initialised by its full name (with `owner`) and the seed.

    `starts_small` is for the last layer before a softmax (our choice): weights of 0.01, so that the
    loss starts at that of a guess. With He initialisation it starts higher, and the first hundreds
    of steps go into unlearning confident guesses.
    """
    full_name = f"{owner}/{name}" if owner else name
    he, small = convnets.he_normal(full_name, seed), convnets.small_normal(full_name, seed)
    return keras.layers.Dense(
        units,
        activation="relu" if relu else None,
        kernel_initializer=small if starts_small else he,
        dtype="float32",
        name=name,
    )


def embedding(name: str, *, seed: int, normalize: bool = True) -> convnets.Head:
    """Returns AVE-Net's head: pool4 -> fc1 128, ReLU -> fc2 128 -> L2 norm (OTS §3, Fig. 2c).

    It gives {"embedding": float32 [batch, 128]}, of length 1 unless `normalize` is False, as in
    AVOL-Net (OTS §4).
    """

    def head(outputs):
        x = dense(constants.FC1_UNITS, "fc1", seed=seed, owner=name, relu=True)(outputs["pool4"])
        x = dense(constants.EMBEDDING_UNITS, "fc2", seed=seed, owner=name)(x)
        if normalize:
            x = keras.layers.UnitNormalization(axis=-1, dtype="float32", name="l2_norm")(x)
        return {"embedding": x}

    return head


def embedding_map(name: str, *, seed: int) -> convnets.Head:
    """Returns AVOL-Net's vision head: conv5 1x1 128, ReLU -> conv6 1x1 128 (OTS §4, Fig. 4).

    It gives {"embedding_map": float32 [batch, 14, 14, 128]}, one row of AVE-Net's fc2 per position,
    not normalized.
    """

    def head(outputs):
        # A Dense layer acts on the last axis: that is a 1x1 convolution.
        x = dense(constants.FC1_UNITS, "conv5", seed=seed, owner=name, relu=True)(
            outputs["conv4_2"]
        )
        x = dense(constants.EMBEDDING_UNITS, "conv6", seed=seed, owner=name)(x)
        return {"embedding_map": x}

    return head


def classification(name: str, *, num_classes: int, seed: int) -> convnets.Head:
    """Returns the supervised baselines' head: fc1 512x128, ReLU -> fc2 128x34 (L3 §3.2).

    It gives {"logits", "softmax": float32 [batch, num_classes]}.
    """

    def head(outputs):
        x = dense(constants.FC1_UNITS, "fc1", seed=seed, owner=name, relu=True)(outputs["pool4"])
        logits = dense(num_classes, "fc2", seed=seed, owner=name, starts_small=True)(x)
        return {"logits": logits, "softmax": softmax(logits)}

    return head


def softmax(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the softmax over the last axis, float32."""
    return keras.layers.Softmax(dtype="float32", name="softmax")(logits)


def probability_of_match(logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Names the outputs of a 2-way softmax (L3 §2.1; OTS §3), index 1 means "corresponds".

    Returns:
        {"logits", "softmax": float32 [batch, 2], "corresponds": float32 [batch]}.
    """
    probabilities = softmax(logits)
    match = keras.layers.Lambda(
        lambda x: x[:, constants.CORRESPONDS],
        output_shape=(),
        dtype="float32",
        name="corresponds",
    )(probabilities)
    return {"logits": logits, "softmax": probabilities, "corresponds": match}


def euclidean_distance(name: str = "distance") -> Callable:
    """Returns the layer of OTS Fig. 2c: two embeddings [batch, n] to their distance [batch, 1].

    The gradient of a square root at 0 is infinite: below a distance of 1e-6 it is 0 here.
    """

    def distance(pair):
        squared = tf.reduce_sum(tf.square(pair[0] - pair[1]), axis=-1, keepdims=True)
        return tf.sqrt(tf.maximum(squared, 1e-12))

    return keras.layers.Lambda(distance, output_shape=(1,), dtype="float32", name=name)
