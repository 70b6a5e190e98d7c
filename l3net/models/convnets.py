"""The ConvNets conv1_1 ... conv4_2 of both papers, from ONE layer table (L3 Fig. 2, OTS Fig. 2).

*ConvNet* = conv1_1 ... conv4_2. Vision and audio have the same layers; only the input differs.
"""

import zlib

import keras
import tensorflow as tf

from l3net import constants

# Name and channels of each 3x3 convolution ("same", then batch norm, then ReLU), and each 2x2
# max-pool (stride = kernel, no padding), in order. pool4 is global and belongs to the subnetwork.
CONVNET_LAYERS = (
    ("conv1_1", 64),
    ("conv1_2", 64),
    ("pool1", None),
    ("conv2_1", 128),
    ("conv2_2", 128),
    ("pool2", None),
    ("conv3_1", 256),
    ("conv3_2", 256),
    ("pool3", None),
    ("conv4_1", 512),
    ("conv4_2", 512),
)


def subnetwork(
    name: str,
    input_shape: tuple[int | None, int | None, int],
    *,
    stride: int = 1,
    width: float = 1.0,
    batch_norm_momentum: float = 0.99,
    seed: int = 0,
) -> keras.Model:
    """Builds one ConvNet with its global max-pool.

    Args:
        name: "vision" or "audio".
        input_shape: (height, width, channels) of the image or log-spectrogram, without batch.
        stride: of conv1_1: 1 in L3, 2 in OTS (§3.3).
        width: channel multiplier; 1.0 is the papers' network.
        batch_norm_momentum: of the moving averages (ours; the papers do not give one).
        seed: of the weights.

    Returns:
        A functional model: float32 [batch, *input_shape] to {"conv4_2_before_relu", "conv4_2":
        [batch, height, width, 512 * width], "pool4": [batch, 512 * width]}. "Before the ReLU"
        (L3 §3.3) is after the batch norm: the ReLU's input.

    Raises:
        ValueError: if stride or width is out of range.
    """
    if stride not in (1, 2) or width <= 0:
        raise ValueError(f"got stride {stride}, width {width}; need stride 1 or 2, width > 0")
    x = inputs = keras.Input(input_shape, name=f"{name}_input")
    before_relu = x
    for layer, channels in CONVNET_LAYERS:
        if channels is None:
            x = keras.layers.MaxPooling2D(2, name=layer)(x)
            continue
        before_relu = _conv_and_batch_norm(
            x,
            layer,
            scaled_channels(channels, width),
            stride=stride if layer == "conv1_1" else 1,
            momentum=batch_norm_momentum,
            initializer=he_normal(f"{name}/{layer}", seed),
        )
        x = keras.layers.ReLU(name=f"{layer}_relu")(before_relu)
    pool4 = keras.layers.GlobalMaxPooling2D(name="pool4")(x)
    outputs = {"conv4_2_before_relu": before_relu, "conv4_2": x, "pool4": pool4}
    return keras.Model(inputs, outputs, name=name)


def scaled_channels(channels: int, width: float) -> int:
    """Returns a layer's number of channels at a width multiplier, at least 1."""
    return max(1, round(channels * width))


def he_normal(name: str, seed: int) -> keras.initializers.Initializer:
    """Returns He initialisation (ours), seeded by a layer's full name and the network's seed.

    So weights depend neither on the order of construction nor on any global random state.
    """
    return keras.initializers.HeNormal(seed=zlib.crc32(f"{seed}/{name}".encode()))


def _conv_and_batch_norm(x, name: str, channels: int, *, stride, momentum, initializer):
    # Ours: no bias, for batch norm's beta does its work.
    x = keras.layers.Conv2D(
        channels,
        constants.KERNEL_PX,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        name=name,
    )(x)
    return keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_batch_norm")(x)


def pool_to_grid(features: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Max-pools feature maps to a fixed grid with kernel = stride, as L3 §3.3 and §3.4 do.

    The kernel is the largest that gives the grid: (8, 8) from 32x24 to 4x3, (4, 4) from 16x12.
    What is left over at the bottom and right is dropped ("valid").

    Args:
        features: float32 [batch, height, width, channels], height >= rows, width >= columns.
        rows: of the grid, 4 in both uses.
        columns: of the grid, 3 for sound, 4 for images.

    Returns:
        float32 [batch, rows * columns * channels].
    """
    height, width = tf.shape(features)[1] // rows, tf.shape(features)[2] // columns
    channels = features.shape[-1]
    cropped = features[:, : height * rows, : width * columns]
    cells = tf.reshape(cropped, [-1, rows, height, columns, width, channels])
    return tf.reshape(tf.reduce_max(cells, axis=[2, 4]), [-1, rows * columns * channels])
