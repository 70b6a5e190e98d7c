"""The model card beside a SavedModel's weights: README.md, as the Hugging Face Hub shows it."""

import re
from collections.abc import Mapping
from typing import Any

from l3net import constants
from l3net.errors import UserError
from l3net.inference import saved_model

FILE = "README.md"
UNKNOWN_LICENSE = "unknown"

_LOOK = "*Look, Listen and Learn* (https://arxiv.org/abs/1705.08168)"
_OBJECTS = "*Objects that Sound* (https://arxiv.org/abs/1712.06651)"
_NETWORKS = {
    "l3_net": ("L3-Net", _LOOK),
    "l3_net_ots": ("L3-Net", f"{_LOOK}, as built in {_OBJECTS}"),
    "ave_net": ("AVE-Net", _OBJECTS),
    "ave_net_mf": ("AVE-Net for 25 frames", _OBJECTS),
    "ave_net_of": ("AVE-Net for frame and optical flow", _OBJECTS),
    "avol_net": ("AVOL-Net", _OBJECTS),
    "supervised_vision": ("Supervised vision network", f"the baselines of {_LOOK}"),
    "supervised_audio": ("Supervised audio network", f"the baselines of {_LOOK}"),
    "supervised_pretraining": ("L3-Net on supervised ConvNets", f"the baselines of {_LOOK}"),
}


def check_license(identifier: str) -> str:
    """Returns a licence's identifier on the Hub, such as "cc-by-4.0"; UserError if it is none."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", identifier):
        raise UserError(
            f"licence {identifier!r}: need an identifier of the Hugging Face Hub, such as "
            "apache-2.0, cc-by-4.0, other or unknown"
        )
    return identifier


def model_card(metadata: Mapping[str, Any], name: str = "owner/name") -> str:
    """Returns the text of the model card.

    Args:
        metadata: that of assets.extra/l3net.json. "license", an identifier of the Hub, is unknown
            if it is not there.
        name: that of the model on the Hub.
    """
    model = (metadata.get("model_config") or {}).get("model", "")
    imported = (metadata.get(saved_model.IMPORTED) or {}).get("from")
    title, source = _NETWORKS.get(model, (model or "A network", imported))
    signatures = list(metadata.get("feature_sizes", {}))
    license_id = check_license(metadata.get("license") or UNKNOWN_LICENSE)
    tags = ["audio-visual", "self-supervised", *(s for s in ("audio", "vision") if s in signatures)]
    parts = [
        "---\n"
        f"license: {license_id}\n"
        "library_name: l3net\n"
        "pipeline_tag: feature-extraction\n"
        f"tags: [{', '.join(tags)}]\n"
        "---",
        f"# {title}",
        f"{f'From {source}, as' if source else 'As'} a SavedModel that needs TensorFlow alone. "
        f"Signatures: {', '.join(f'`{signature}`' for signature in signatures)}.",
        _table(metadata, license_id),
        f"## Use\n\n```python\n{_use(signatures, name)}\n```",
        "A SavedModel is a program: load only those whose owner you trust. Where these weights "
        "come from is in `assets.extra/l3net.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(metadata: Mapping[str, Any], license_id: str) -> str:
    config = metadata.get("model_config") or {}
    rows = [("Licence of the weights", license_id), ("Trained on", _data(metadata))]
    if "num_parameters" in metadata:
        rows.append(("Parameters", f"{metadata['num_parameters']:,}"))
    rows += [(key, str(config[key])) for key in ("width", "spectrogram_average") if key in config]
    rows.append(("Image", f"{metadata['frame_px']} px"))
    rows.append(("Sound", f"one second, mono, {constants.SAMPLE_RATE_HZ} Hz"))
    for signature, sizes in metadata.get("feature_sizes", {}).items():
        features = ", ".join(f"{output} {size}" for output, size in sizes.items())
        rows += [(f"Features of `{signature}`", features)] if features else []
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows + _metrics(metadata))]
    )


def _data(metadata: Mapping[str, Any]) -> str:
    if metadata.get("random_weights"):
        return "nothing: random weights"
    data = metadata.get("trained_on") or "not recorded"
    steps = metadata.get("trained_steps")
    return f"{data}, {steps:,} steps" if steps else str(data)


def _metrics(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what the run's summary says: the best validation, and the last value of each."""
    training = metadata.get("training") or {}
    best, rows = training.get("best"), []
    if best:
        rows.append(
            (f"Best validation accuracy (step {best['step']:,})", f"{best['accuracy']:.3f}")
        )
    for name, value in (training.get("last") or {}).items():
        if name.endswith(("_loss", "_accuracy")):
            rows.append((f"Last {name}", f"{value:.3f}"))
    return rows


def _use(signatures: list[str], name: str) -> str:
    """Returns six lines of Python."""
    load = f'model = l3net.SavedModel.from_pretrained("{name}")'
    if "audio" in signatures:
        return "\n".join(
            [
                'import soundfile  # pip install "l3net[hub]"',
                "import l3net",
                "",
                load,
                'waveform, sample_rate_hz = soundfile.read("a.wav")',
                "embedding, seconds = l3net.get_audio_embedding("
                "waveform, sample_rate_hz, model=model)",
            ]
        )
    return "\n".join(
        [
            'import numpy as np, PIL.Image  # pip install "l3net[hub]"',
            "import l3net",
            "",
            load,
            'image = np.asarray(PIL.Image.open("a.jpg").convert("RGB"))',
            "embedding = l3net.get_image_embedding(image, model=model)",
        ]
    )
