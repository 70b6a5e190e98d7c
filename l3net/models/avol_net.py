"""AVOL-Net: where in the image is what sounds? (OTS §4, Fig. 4)."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from l3net import constants
from l3net.models import convnets, heads

# Our choice: conv7's scale and shift at the start. 128-D embeddings that are not normalized have
# scalar products of hundreds; the scale brings them to where the sigmoid has a slope.
CONV7_SCALE = 0.01
CONV7_SHIFT = 0.0


def avol_net(
    shapes: Mapping[str, tuple[int | None, ...]], settings: convnets.ConvNetSettings
) -> keras.Model:
    """Builds AVOL-Net.

    Audio as in AVE-Net up to fc2, without L2 norm. Vision keeps conv4_2's 14x14 positions: conv5
    1x1 128, ReLU -> conv6 1x1 128; the scalar product with the audio embedding at each position ->
    conv7 1x1 (scale and shift) -> sigmoid: the localization map. Its maximum is the
    correspondence score.

    The inputs are "frame" (224, 224, 3) and "log_spectrogram" (257, 200, 1) in the paper.

    Returns:
        A functional model: float32 [batch, *shape] of each input to {"map": [batch, 14, 14],
        "logit": [batch], the map's maximum before the sigmoid, "corresponds": [batch], its
        maximum}, all float32.
    """
    seed = settings.seed
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    vision = convnets.subnetwork(
        "vision",
        shapes[constants.FRAME],
        settings,
        head=heads.embedding_map("vision", seed=seed),
    )
    audio = convnets.subnetwork(
        "audio",
        shapes[constants.LOG_SPECTROGRAM],
        settings,
        head=heads.embedding("audio", seed=seed, normalize=False),
    )
    similarity = keras.layers.Lambda(
        lambda pair: tf.einsum("bhwc,bc->bhw", *pair)[..., tf.newaxis],
        output_shape=lambda shape: (*shape[0][:3], 1),
        dtype="float32",
        name="similarity",
    )(
        [
            vision(inputs[constants.FRAME])["embedding_map"],
            audio(inputs[constants.LOG_SPECTROGRAM])["embedding"],
        ]
    )
    logits = keras.layers.Conv2D(
        1,
        1,
        kernel_initializer=keras.initializers.Constant(CONV7_SCALE),
        bias_initializer=keras.initializers.Constant(CONV7_SHIFT),
        dtype="float32",
        name="conv7",
    )(similarity)
    return keras.Model(inputs, _outputs(logits), name="avol_net")


def _outputs(logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    def sigmoid(name):
        return keras.layers.Activation("sigmoid", dtype="float32", name=name)

    pooled = convnets.GlobalMax(dtype="float32", name="max")(logits)
    logit = keras.layers.Reshape((), dtype="float32", name="logit")(pooled)
    positions = keras.layers.Lambda(
        lambda x: x[..., 0], output_shape=lambda shape: shape[:3], dtype="float32", name="positions"
    )(logits)
    return {
        "map": sigmoid("map")(positions),
        "logit": logit,
        "corresponds": sigmoid("corresponds")(logit),
    }
