"""Sounds and pictures made of numbers."""

import numpy as np

RATE = 48_000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """Returns 440 Hz, float32."""
    times = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)


def pictures(*shape: int) -> np.ndarray:
    """Returns noise, uint8 [*shape, 3]."""
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
