"""L3-Net, AVE-Net and AVOL-Net in TensorFlow 2: learning from sound and picture of video.

    import l3net
    model = l3net.SavedModel("runs/x/saved_model")
    embedding, timestamps = l3net.get_audio_embedding(waveform, sample_rate_hz, model=model)

`import l3net` alone does not import TensorFlow: the names below come when they are first used.
"""

import importlib
import os
import sys

# TensorFlow's C++ start-up notes (duplicate CUDA factories, CPU features) say nothing a user can
# act on. Respect the user's own setting.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The networks are TensorFlow's. Set, it counts more than the file ~/.keras/keras.json.
if (_backend := os.environ.setdefault("KERAS_BACKEND", "tensorflow")) != "tensorflow":
    _message = f"got KERAS_BACKEND={_backend!r}; l3net needs tensorflow: unset it, or set that"
    if sys.argv[:1] == ["-m"]:  # python -m l3net.train
        sys.exit(f"error: {_message}")
    raise ImportError(_message)

__version__ = "0.1.0"

_DEFINED_IN = {
    "SavedModel": "l3net.inference.saved_model",
    "get_audio_embedding": "l3net.inference.embeddings",
    "get_image_embedding": "l3net.inference.embeddings",
    "get_video_embedding": "l3net.inference.embeddings",
}


def __getattr__(name: str) -> object:
    """Imports what is listed above when it is asked for (PEP 562)."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_DEFINED_IN[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_DEFINED_IN])
