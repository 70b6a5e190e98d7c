"""AVE-Net: two embeddings whose distance says whether they correspond (OTS §3, Fig. 2c)."""

from collections.abc import Mapping

import keras
import numpy as np

from l3net import constants
from l3net.models import convnets, heads

# Our choice: "small distance = corresponds" is given, the magnitudes are not. logits = (+w d - b,
# -w d + b): the threshold starts at distance b / w.
FC3_WEIGHT = 6.0
FC3_BIAS = 6.0


def ave_net(
    shapes: Mapping[str, tuple[int | None, ...]], settings: convnets.ConvNetSettings
) -> keras.Model:
    """Builds AVE-Net, or its variants AVE+MF and AVE+OF (OTS §3.2), by the inputs it is given.

    Per subnetwork pool4 -> fc1 512x128, ReLU -> fc2 128x128 -> L2 norm; the Euclidean distance of
    the two embeddings -> fc3 1x2 -> softmax.

    Args:
        shapes: input name -> shape without batch: "log_spectrogram" (257, 200, 1) and one of
            "frame" (224, 224, 3): AVE-Net;
            "frames" (25, 224, 224, 3): AVE+MF, 3-D convolutions;
            "frame" and "flow" (224, 224, 20): AVE+OF, two streams.
        settings: the same for all ConvNets.

    Returns:
        A functional model: float32 [batch, *shape] of each input to {"vision_embedding",
        "audio_embedding": [batch, 128] of length 1, "distance": [batch], "logits", "softmax":
        [batch, 2], "corresponds": [batch]}, all float32.
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    audio = convnets.subnetwork(
        "audio",
        shapes[constants.LOG_SPECTROGRAM],
        settings,
        head=heads.embedding("audio", seed=settings.seed),
    )
    audio_embedding = audio(inputs[constants.LOG_SPECTROGRAM])["embedding"]
    vision_embedding = _vision_embedding(inputs, settings)
    distance = heads.euclidean_distance()([vision_embedding, audio_embedding])
    logits = _fc3()(distance)
    outputs = {
        "vision_embedding": vision_embedding,
        "audio_embedding": audio_embedding,
        "distance": keras.layers.Reshape((), dtype="float32", name="distance_scalar")(distance),
        **heads.probability_of_match(logits),
    }
    return keras.Model(inputs, outputs, name="ave_net")


def _vision_embedding(inputs, settings):
    head = heads.embedding("vision", seed=settings.seed)
    if constants.FLOW in inputs:
        frame, flow = inputs[constants.FRAME], inputs[constants.FLOW]
        vision = convnets.two_stream_subnetwork(
            "vision", frame.shape[1:], flow.shape[1:], settings, head=head
        )
        return vision({constants.FRAME: frame, constants.FLOW: flow})["embedding"]
    seen = inputs[constants.FRAMES if constants.FRAMES in inputs else constants.FRAME]
    return convnets.subnetwork("vision", seen.shape[1:], settings, head=head)(seen)["embedding"]


def _fc3() -> keras.layers.Layer:
    return keras.layers.Dense(
        2,
        kernel_initializer=_constant([[FC3_WEIGHT, -FC3_WEIGHT]]),
        bias_initializer=_constant([-FC3_BIAS, FC3_BIAS]),
        dtype="float32",
        name="fc3",
    )


def _constant(values: list) -> keras.initializers.Initializer:
    """Returns an initializer of the values, those for index 1, "corresponds", last."""
    return keras.initializers.Constant(np.array(values, np.float32))
