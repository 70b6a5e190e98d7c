"""Colours of the demo data set: (red, green, blue), each 0 to 255."""

import colorsys

from numpy.random import Generator

Colour = tuple[int, int, int]
DARK: Colour = (38, 34, 32)
IVORY: Colour = (238, 232, 215)


def shade(colour: Colour, factor: float) -> Colour:
    """Returns a colour made darker (factor below 1) or lighter."""
    red, green, blue = (int(min(255, channel * factor)) for channel in colour)
    return red, green, blue


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Returns a colour by hue (any, 1 is a turn), saturation and value (0 to 1)."""
    red, green, blue = (int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def wood(rng: Generator) -> Colour:
    """Draws a brown."""
    return hsv(rng.uniform(0.02, 0.11), rng.uniform(0.45, 0.85), rng.uniform(0.4, 0.85))


def metal(rng: Generator) -> Colour:
    """Draws a colour of brass or silver."""
    if rng.random() < 0.55:
        return hsv(rng.uniform(0.1, 0.15), rng.uniform(0.4, 0.75), rng.uniform(0.65, 0.95))
    return hsv(rng.uniform(0.5, 0.65), rng.uniform(0.02, 0.12), rng.uniform(0.6, 0.92))


def steel(rng: Generator) -> Colour:
    """Draws a bluish grey."""
    return hsv(rng.uniform(0.5, 0.65), rng.uniform(0.02, 0.15), rng.uniform(0.55, 0.9))


def paint(rng: Generator) -> Colour:
    """Draws any strong colour."""
    return hsv(rng.uniform(0, 1), rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.95))


def muted(rng: Generator) -> Colour:
    """Draws any weak colour."""
    return hsv(rng.uniform(0, 1), rng.uniform(0, 0.35), rng.uniform(0.3, 0.95))
