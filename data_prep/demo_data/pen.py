"""A pen that draws in unit coordinates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.demo_data.colours import Colour, shade

REACH = 0.72  # the canvas covers [-0.72, 0.72] unit lengths
# Grey, because bilinear interpolation mixes it in at the edges.
_TRANSPARENT = (60, 56, 52, 0)
Points = Sequence[tuple[Any, Any]]  # x, y


class Pen:
    """Draws on a transparent square canvas; `unit_px` is the length of 1, x right and y down."""

    def __init__(self, unit_px: float) -> None:
        self._unit_px = unit_px
        side = int(2 * REACH * unit_px)
        self.image = Image.new("RGBA", (side, side), _TRANSPARENT)
        self._draw = ImageDraw.Draw(self.image)

    def _px(self, points: Points) -> list[tuple[float, float]]:
        return [((x + REACH) * self._unit_px, (y + REACH) * self._unit_px) for x, y in points]

    def polygon(self, points: Points, colour: Colour, outline: bool = True) -> None:
        """Fills a polygon, by default with a darker edge."""
        corners = self._px(points)
        self._draw.polygon(corners, fill=colour)
        if outline:
            self.line([*points, points[0], points[1]], 0.012, shade(colour, 0.5))

    def shape(self, half: Points, colour: Colour) -> None:
        """Fills a smooth shape, given by its right half from top to bottom."""
        self.polygon(smooth([*half, *[(-x, y) for x, y in reversed(half)]]), colour)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fills an ellipse with a darker edge."""
        turn = np.linspace(0, 2 * np.pi, 40)[:-1]
        xs, ys = x + radius_x * np.cos(turn), y + radius_y * np.sin(turn)
        self.polygon(list(zip(xs, ys, strict=True)), colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fills a rectangle with a darker edge."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, points: Points, width: float, colour: Colour) -> None:
        """Draws a line through points."""
        pixels = max(1, round(width * self._unit_px))
        self._draw.line(self._px(points), fill=colour, width=pixels, joint="curve")

    def hole(self, points: Points) -> None:
        """Makes a polygon transparent again."""
        self._draw.polygon(self._px(points), fill=_TRANSPARENT)


def smooth(points: Points, steps: int = 6) -> Points:
    """Returns a closed Catmull-Rom curve through points."""
    p = np.asarray(points, float)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = (
        2 * p[:, None]
        + (after - before)[:, None] * t
        + (2 * before - 5 * p + 4 * after - beyond)[:, None] * t**2
        + (3 * p - before - 3 * after + beyond)[:, None] * t**3
    )
    return [tuple(point) for point in curve.reshape(-1, 2) / 2]
