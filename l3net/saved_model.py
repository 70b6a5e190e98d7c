"""SavedModels and windows of sound, under the name of earlier versions."""

from l3net.inference.saved_model import AUDIO, VISION, WAVEFORM, SavedModel, read_metadata
from l3net.media.sound import windows

__all__ = ["AUDIO", "VISION", "WAVEFORM", "SavedModel", "read_metadata", "windows"]
