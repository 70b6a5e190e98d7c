"""A map of values over a picture: where its cells are, and how they are painted.

AVOL-Net's map has a cell per 16 x 16 pixels of what the network saw (OTS Fig. 4: 14 x 14 for
224 x 224), and a cell's value belongs to the cell's centre. Between the centres a painted map is
linear, beyond the outermost ones constant. How much the colour covers the picture grows with the
value (our choice), so that a value of 0 shows the picture alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from l3net.errors import UserError, needs_extra

DEFAULT_COLOUR_MAP = "turbo"
DEFAULT_OPACITY = 0.6
_NUM_LEVELS = 256


# --- Where things are ----------------------------------------------------------------------------
def cell_px(image_px: int, num_cells: int) -> int:
    """Returns the side of a map's cell in pixels: a power of two, for every layer halves.

    Pooling drops a rest at the right and bottom, so 120 pixels give 7 cells of 16 pixels, as 112
    do; 225 and 239 pixels give 14 and 15 of them.
    """
    return max(1, 2 ** round(math.log2(image_px / num_cells)))


def enlarge(heat: np.ndarray, seen_px: Sequence[int], size_px: Sequence[int]) -> np.ndarray:
    """Enlarges a map, float [rows, columns], to a picture, linear between the centres of its cells.

    `seen_px` is height and width of the image that the network saw, `size_px` that of the picture.
    The row [0, 1] of a map on an image of 32 pixels becomes, 4 pixels wide, [0, 0.25, 0.75, 1].
    """
    # A border of copies: beyond the outermost centres, and where a rest of pixels has no cell.
    padded = np.pad(np.asarray(heat, np.float32), 1, mode="edge")
    bottom, right = (
        1 + min(side / cell_px(side, count), count + 1)
        for side, count in zip(seen_px, heat.shape, strict=True)
    )
    height, width = size_px
    filtering = Image.Resampling.BILINEAR
    large = Image.fromarray(padded).resize((width, height), filtering, box=(1, 1, right, bottom))
    return np.asarray(large)


def peak(heat: np.ndarray, seen_px: Sequence[int]) -> tuple[float, float]:
    """Returns where a map is highest (OTS §4.1: "the mode of the heatmap").

    That is (y, x) of the centre of the highest cell (of several the first, row by row), in shares
    of the image. The highest cell (0, 1) of 2 x 2 on an image of 32 x 32 is at (0.25, 0.75).
    """
    cells = np.unravel_index(int(np.argmax(heat)), heat.shape)
    y, x = (
        min((int(cell) + 0.5) * cell_px(side, count) / side, 1.0)
        for cell, side, count in zip(cells, seen_px, heat.shape, strict=True)
    )
    return y, x


# --- Painting ------------------------------------------------------------------------------------
class Painter:
    """Paints maps over pictures, all with the same colours for the same values."""

    def __init__(
        self,
        *,
        low: float = 0.0,
        high: float = 1.0,
        colour_map: str = DEFAULT_COLOUR_MAP,
        opacity: float = DEFAULT_OPACITY,
    ):
        """Chooses the colours; UserError if matplotlib has no such map or the opacity is invalid.

        Values up to `low` leave the picture as it is; those from `high` get the last colour and its
        full opacity, in [0, 1]. If `high` is not above `low`, nothing is painted.
        """
        if not 0 <= opacity <= 1:
            raise UserError(f"an opacity of {opacity}: need a number from 0 to 1")
        with needs_extra("localize", "painting maps over pictures"):
            import matplotlib
        try:
            colours = matplotlib.colormaps[colour_map].resampled(_NUM_LEVELS)
        except KeyError:
            raise UserError(
                f"unknown colour map {colour_map!r}; need one of matplotlib's, such as turbo, "
                "inferno, magma, viridis, jet"
            ) from None
        self._low, self._high = low, high
        levels = np.arange(_NUM_LEVELS)
        self._palette = colours(levels, bytes=True)[:, :3].tobytes()
        self._weights = np.round(255 * opacity * levels / (_NUM_LEVELS - 1)).astype(int).tolist()

    def paint(self, image: np.ndarray, heat: np.ndarray, seen_px: Sequence[int]) -> np.ndarray:
        """Paints a map, float [rows, columns], over a picture, uint8 [height, width, 3] RGB.

        `seen_px` is height and width of the image that the network saw, which showed the same.
        """
        levels = Image.fromarray(self._levels(enlarge(heat, seen_px, image.shape[:2])))
        weights = levels.point(self._weights)
        coloured = Image.frombytes("P", levels.size, levels.tobytes())
        coloured.putpalette(self._palette)
        painted = Image.composite(coloured.convert("RGB"), Image.fromarray(image), weights)
        return np.asarray(painted)

    def _levels(self, values: np.ndarray) -> np.ndarray:
        if not self._high > self._low:
            return np.zeros(values.shape, np.uint8)
        shares = (values - self._low) / (self._high - self._low)
        return np.round(np.clip(shares, 0.0, 1.0) * (_NUM_LEVELS - 1)).astype(np.uint8)
