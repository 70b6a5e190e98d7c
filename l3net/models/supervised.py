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

    Its one input is "frame" or "log_spectrogram", its modality "vision" or "audio".

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
