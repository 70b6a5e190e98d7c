"""The ConvNets conv1_1 ... conv4_2 of both papers, from ONE layer table (L3 Fig. 2, OTS Fig. 2).

*ConvNet* = conv1_1 ... conv4_2, *subnetwork* = ConvNet + pool4 + head. Vision and audio have the
same layers; only the input differs. So do the two variants of OTS §3.2: the same table with 3-D
convolutions for 25 frames (AVE+MF), and twice the table up to pool3 for a frame and its optical
flow (AVE+OF).
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from l3net import constants
from l3net.models.batch_norm import BatchNorm

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
_NUM_STREAM_LAYERS = [layer for layer, _ in CONVNET_LAYERS].index("pool3") + 1
# Our choice for AVE+MF: kernels are 3 deep and conv1_1's stride holds for time too; pool1 leaves
# time alone (25 frames -> 13 -> 13 -> 6 -> 3), as 3-D networks of the time did (Tran et al. 2015).
_POOLS_WITHOUT_TIME = ("pool1",)


@dataclasses.dataclass(frozen=True)
class ConvNetSettings:
    """What the ConvNets of one network share; see `l3net.models.ModelConfig`."""

    stride: int = 1
    width: float = 1.0
    batch_norm_momentum: float = 0.99
    synchronized_batch_norm: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.stride not in (1, 2) or self.width <= 0:
            raise ValueError(
                f"got stride {self.stride}, width {self.width}; need stride 1 or 2, width > 0"
            )


Head = Callable[[dict[str, keras.KerasTensor]], dict[str, keras.KerasTensor]]


def subnetwork(
    name: str,
    input_shape: tuple[int | None, ...],
    settings: ConvNetSettings,
    *,
    head: Head | None = None,
) -> keras.Model:
    """Builds one ConvNet with its global max-pool and, if asked for, a head.

    Args:
        name: "vision" or "audio".
        input_shape: (height, width, channels) or, for 3-D convolutions, (frames, height, width,
            channels), without batch.
        settings: as all ConvNets of the network.
        head: takes the outputs below and returns more of them.

    Returns:
        A functional model: float32 [batch, *input_shape] to {"conv4_2_before_relu", "conv4_2":
        [batch, (time,) height, width, 512 * width], "pool4": [batch, 512 * width]} and the head's
        outputs. "Before the ReLU" (L3 §3.3) is after the batch norm: the ReLU's input.
    """
    inputs = keras.Input(input_shape, name=f"{name}_input")
    before_relu, conv4_2 = _walk(inputs, CONVNET_LAYERS, settings, seed_name=name)
    return _finish(name, inputs, before_relu, conv4_2, head)


def two_stream_subnetwork(
    name: str,
    frame_shape: tuple[int | None, int | None, int],
    flow_shape: tuple[int | None, int | None, int],
    settings: ConvNetSettings,
    *,
    head: Head | None = None,
) -> keras.Model:
    """Builds AVE+OF's vision subnetwork: two streams up to pool3, then one (OTS §3.2).

    In the paper the shapes are (224, 224, 3) and (224, 224, 20): x and y of 10 flow frames.

    Returns:
        A functional model: {"frame", "flow": float32 [batch, *shape]} to the outputs of
        `subnetwork`. The flow's layers are called flow_conv1_1 and so on.
    """
    frame = keras.Input(frame_shape, name=constants.FRAME)
    flow = keras.Input(flow_shape, name=constants.FLOW)
    stream, rest = CONVNET_LAYERS[:_NUM_STREAM_LAYERS], CONVNET_LAYERS[_NUM_STREAM_LAYERS:]
    _, from_frame = _walk(frame, stream, settings, seed_name=name)
    _, from_flow = _walk(flow, stream, settings, seed_name=f"{name}_flow", prefix="flow_")
    merged = keras.layers.Concatenate(name="concat")([from_frame, from_flow])
    before_relu, conv4_2 = _walk(merged, rest, settings, seed_name=name)
    inputs = {constants.FRAME: frame, constants.FLOW: flow}
    return _finish(name, inputs, before_relu, conv4_2, head)


def _walk(x, layers: Sequence[tuple[str, int | None]], settings, *, seed_name, prefix=""):
    """Applies layers of the table; returns the last ReLU's input and the last output."""
    before_relu = x
    for layer, channels in layers:
        if channels is None:
            x = _pool(x, layer, prefix)
            continue
        before_relu = _conv_and_batch_norm(
            x,
            prefix + layer,
            scaled_channels(channels, settings.width),
            stride=settings.stride if layer == "conv1_1" else 1,
            settings=settings,
            initializer=he_normal(f"{seed_name}/{layer}", settings.seed),
        )
        x = keras.layers.ReLU(name=f"{prefix}{layer}_relu")(before_relu)
    return before_relu, x


def _finish(name: str, inputs, before_relu, conv4_2, head: Head | None) -> keras.Model:
    pool4 = GlobalMax(name="pool4")(conv4_2)
    outputs = {"conv4_2_before_relu": before_relu, "conv4_2": conv4_2, "pool4": pool4}
    return keras.Model(inputs, outputs | (head(outputs) if head else {}), name=name)


@keras.saving.register_keras_serializable("l3net")
class GlobalMax(keras.layers.Layer):
    """The papers' pool4: the maximum over all positions, and times if there are any.

    As a max-pool, whose gradient goes to the position that was taken. `keras.layers.
    GlobalMaxPooling2D` is a reduction: XLA computes its input a second time for the gradient,
    rounds it differently, finds the maximum nowhere and divides 0 by 0.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pools [batch, (time,) height, width, channels] to [batch, channels] of the same dtype."""
        positions = inputs.shape[1:-1]
        if not all(positions):  # any size: only SavedModels are, and they have no gradient
            return tf.reduce_max(inputs, axis=list(range(1, len(inputs.shape) - 1)))
        count, channels = positions.num_elements(), inputs.shape[-1]
        rows = tf.reshape(inputs, [-1, count, 1, channels])
        return tf.reshape(tf.nn.max_pool2d(rows, [count, 1], 1, "VALID"), [-1, channels])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns (batch, channels)."""
        return (input_shape[0], input_shape[-1])


def _pool(x, layer: str, prefix: str):
    if len(x.shape) == 4:
        return keras.layers.MaxPooling2D(2, name=prefix + layer)(x)
    depth = 1 if layer in _POOLS_WITHOUT_TIME else 2
    return keras.layers.MaxPooling3D((depth, 2, 2), name=prefix + layer)(x)


def scaled_channels(channels: int, width: float) -> int:
    """Returns a layer's number of channels at a width multiplier, at least 1."""
    return max(1, round(channels * width))


def he_normal(name: str, seed: int) -> keras.initializers.Initializer:
    """Returns He initialisation (our choice), seeded by a layer's full name and the network's seed.

    So weights depend neither on the order of construction nor on any global random state.
    """
    return keras.initializers.HeNormal(seed=_seed_of(name, seed))


def small_normal(name: str, seed: int) -> keras.initializers.Initializer:
    """Returns a normal distribution of deviation 0.01 (our choice), seeded like `he_normal`."""
    return keras.initializers.RandomNormal(stddev=0.01, seed=_seed_of(name, seed))


def _seed_of(name: str, seed: int) -> int:
    return zlib.crc32(f"{seed}/{name}".encode())


def _conv_and_batch_norm(x, name: str, channels: int, *, stride, settings, initializer):
    convolution = keras.layers.Conv2D if len(x.shape) == 4 else keras.layers.Conv3D
    # Our choice: no bias, for batch norm's beta does its work.
    x = convolution(
        channels,
        constants.KERNEL_PX,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        name=name,
    )(x)
    return BatchNorm(
        momentum=settings.batch_norm_momentum,
        synchronized=settings.synchronized_batch_norm,
        name=f"{name}_batch_norm",
    )(x)


def pool_to_grid(features: tf.Tensor, rows: int, columns: int) -> tf.Tensor:
    """Max-pools feature maps to a fixed grid with kernel = stride, as L3 §3.3 and §3.4 do.

    The kernel is the largest that gives the grid: (8, 8) from 32x24 to 4x3, (4, 4) from 16x12.
    What is left over at the bottom and right is dropped ("valid").

    Args:
        features: float32 [batch, height, width, channels], height >= rows, width >= columns.
        rows: 4 in both uses.
        columns: 3 for sound, 4 for images.

    Returns:
        float32 [batch, rows * columns * channels].
    """
    height, width = tf.shape(features)[1] // rows, tf.shape(features)[2] // columns
    channels = features.shape[-1]
    cropped = features[:, : height * rows, : width * columns]
    cells = tf.reshape(cropped, [-1, rows, height, columns, width, channels])
    return tf.reshape(tf.reduce_max(cells, axis=[2, 4]), [-1, rows * columns * channels])
