"""The supervised baselines' classifiers of frames and of sounds (L3 §3.2)."""

from collections.abc import Mapping

import keras

from l3net.models import convnets, heads


def classifier(
    shapes: Mapping[str, tuple[int | None, ...]],
    settings: convnets.ConvNetSettings,
    *,
    modality: str,
    num_classes: int,
) -> keras.Model:
    """Builds a classifier: L3-Net's subnetwork with fc1 512x128, ReLU, fc2 128x34 on top.

    Args:
        shapes: of its one input without batch: "frame" (224, 224, 3) or "log_spectrogram" (257,
            199, 1).
        settings: of the ConvNet.
        modality: "vision" or "audio", the subnetwork's name.
        num_classes: 34 in Kinetics-Sounds.

    Returns:
        A functional model: {name: float32 [batch, *shape]} to {"logits", "softmax": float32
        [batch, num_classes]}.
    """
    ((name, shape),) = shapes.items()
    head = heads.classification(modality, num_classes=num_classes, seed=settings.seed)
    network = convnets.subnetwork(modality, shape, settings, head=head)
    inputs = {name: keras.Input(shape, name=name)}
    outputs = network(inputs[name])
    chosen = {key: outputs[key] for key in ("logits", "softmax")}
    return keras.Model(inputs, chosen, name=f"supervised_{modality}")
