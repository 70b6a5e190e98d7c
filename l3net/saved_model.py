"""SavedModels and windows of sound, under the names of earlier versions."""

from l3net.inference.saved_model import AUDIO, VISION, WAVEFORM, SavedModel, batches, read_metadata
from l3net.media.sound import hop_samples, window_times, windows

__all__ = [
    "AUDIO",
    "VISION",
    "WAVEFORM",
    "SavedModel",
    "batches",
    "hop_samples",
    "read_metadata",
    "window_times",
    "windows",
]
