"""L3-Net: vision and audio subnetworks, concatenated and classified (L3 §2.1, Fig. 2)."""

from collections.abc import Mapping

import keras

from l3net import constants
from l3net.models import convnets, heads


def l3_net(
    shapes: Mapping[str, tuple[int | None, ...]],
    settings: convnets.ConvNetSettings,
    *,
    frozen: bool = False,
) -> keras.Model:
    """Builds L3-Net.

    concat 1024 -> fc1 1024x128, ReLU -> fc2 128x2 -> softmax (L3 §2.1, "Fusion network").

    Args:
        shapes: input name -> shape without batch: "frame" (224, 224, 3) in the papers,
            "log_spectrogram" (257, 199, 1) in L3, (257, 200, 1) in OTS.
        settings: stride 1 in L3, 2 in OTS.
        frozen: whether the subnetworks are not trained: the baseline "supervised pretraining" (L3
            §3.2), whose trunks come from two classifiers. Their batch norm then uses the moving
            averages, in training too.

    Returns:
        A functional model: {"frame": float32 [batch, height, width, 3] in [-1, 1],
        "log_spectrogram": float32 [batch, bands, windows, 1]} to {"logits", "softmax": float32
        [batch, 2], "corresponds": float32 [batch]}; index 1 means "corresponds".
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    vision = convnets.subnetwork("vision", shapes[constants.FRAME], settings)
    audio = convnets.subnetwork("audio", shapes[constants.LOG_SPECTROGRAM], settings)
    vision.trainable = audio.trainable = not frozen
    concat = keras.layers.Concatenate(dtype="float32", name="concat")(
        [
            vision(inputs[constants.FRAME])["pool4"],
            audio(inputs[constants.LOG_SPECTROGRAM])["pool4"],
        ]
    )
    fc1 = heads.dense(constants.FC1_UNITS, "fc1", seed=settings.seed, relu=True)(concat)
    logits = heads.dense(2, "fc2", seed=settings.seed, starts_small=True)(fc1)
    return keras.Model(inputs, heads.probability_of_match(logits), name="l3_net")
