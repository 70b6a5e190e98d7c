"""L3-Net: vision and audio subnetworks, concatenated and classified (L3 §2.1, Fig. 2)."""

import keras

from l3net import constants
from l3net.models import convnets


def l3_net(
    *,
    frame_shape: tuple[int, int, int],
    log_spectrogram_shape: tuple[int, int, int],
    stride: int = 1,
    width: float = 1.0,
    batch_norm_momentum: float = 0.99,
    seed: int = 0,
) -> keras.Model:
    """Builds L3-Net.

    concat 1024 -> fc1 1024x128, ReLU -> fc2 128x2 -> softmax (L3 §2.1, "Fusion network").

    Args:
        frame_shape: (224, 224, 3) in the papers.
        log_spectrogram_shape: (257, 199, 1) in L3, (257, 200, 1) in OTS.
        stride: of both conv1_1: 1 in L3, 2 in OTS.
        width: channel multiplier of the ConvNets; 1.0 is the papers' network.
        batch_norm_momentum: of the moving averages (ours).
        seed: of the weights.

    Returns:
        A functional model: {"frame": float32 [batch, *frame_shape] in [-1, 1], "log_spectrogram":
        float32 [batch, *log_spectrogram_shape]} to {"logits", "softmax": float32 [batch, 2]};
        index 1 means "corresponds" (`constants.CORRESPONDS`).
    """
    settings = {
        "stride": stride,
        "width": width,
        "batch_norm_momentum": batch_norm_momentum,
        "seed": seed,
    }
    vision = convnets.subnetwork("vision", frame_shape, **settings)
    audio = convnets.subnetwork("audio", log_spectrogram_shape, **settings)
    frame = keras.Input(frame_shape, name="frame")
    log_spectrogram = keras.Input(log_spectrogram_shape, name="log_spectrogram")
    concat = keras.layers.Concatenate(name="concat")(
        [vision(frame)["pool4"], audio(log_spectrogram)["pool4"]]
    )
    fc1 = keras.layers.Dense(
        constants.FC1_UNITS,
        activation="relu",
        kernel_initializer=convnets.he_normal("fc1", seed),
        name="fc1",
    )(concat)
    # Ours: starts near 0, so that the loss starts at ln 2. With He initialisation it starts near 1,
    # and the first hundreds of steps go into unlearning a confident guess.
    small = keras.initializers.RandomNormal(stddev=0.01, seed=seed)
    logits = keras.layers.Dense(2, kernel_initializer=small, name="fc2")(fc1)
    softmax = keras.layers.Softmax(name="softmax")(logits)
    return keras.Model(
        {"frame": frame, "log_spectrogram": log_spectrogram},
        {"logits": logits, "softmax": softmax},
        name="l3_net",
    )
