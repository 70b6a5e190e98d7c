"""Walls and rooms without objects: colours, texture, pattern and clutter."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from data_prep.demo_data.colours import muted


def draw_background(width: int, height: int, rng: Generator) -> Image.Image:
    """Draws a wall or room without objects."""
    image = Image.fromarray(_texture(width, height, rng))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.3:
        _pattern(draw, width, height, rng)
    for _ in range(rng.integers(0, 5)):
        _clutter(draw, width, height, rng)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.75, 3)))


def _texture(width: int, height: int, rng: Generator) -> np.ndarray:
    """Returns a gradient between two colours with blotches, uint8 [height, width, 3]."""
    corners = np.array([muted(rng) for _ in range(2)], np.float32)
    slope = np.linspace(0, 1, height if rng.random() < 0.5 else width, dtype=np.float32)
    slope = slope[:, None, None] if len(slope) == height else slope[None, :, None]
    cells = int(rng.integers(3, 60))
    coarse = rng.uniform(0, 255, (cells, cells)).astype(np.uint8)
    fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    blotches = (np.asarray(fine, np.float32)[..., None] - 128) * rng.uniform(0, 0.2)
    gradient = corners[0] * slope + corners[1] * (1 - slope)
    return np.clip(gradient + blotches, 0, 255).astype(np.uint8)


def _pattern(draw: ImageDraw.ImageDraw, width: int, height: int, rng: Generator) -> None:
    """Draws planks, tiles or stripes."""
    colour, step = muted(rng), int(rng.integers(9, 45))
    thickness = int(rng.integers(1, max(2, step // 2)))
    kind = rng.integers(3)
    slant = rng.integers(-60, 60) if kind == 2 else 0
    if kind != 1:
        for x in range(-60, width + 60, step):
            draw.line([(x, 0), (x + slant, height)], fill=colour, width=thickness)
    if kind != 0 and not slant:
        for y in range(0, height, step):
            draw.line([(0, y), (width, y)], fill=colour, width=thickness)


def _clutter(draw: ImageDraw.ImageDraw, width: int, height: int, rng: Generator) -> None:
    """Draws one meaningless shape."""
    centre = rng.uniform((0, 0), (width, height))
    reach = rng.uniform(6, 45, 2)
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse([*(centre - reach / 2), *(centre + reach / 2)], fill=muted(rng))
    elif kind == 1:
        draw.rectangle([*(centre - reach / 2), *(centre + reach / 2)], fill=muted(rng))
    elif kind == 2:
        turn = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        corners = centre + reach * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        draw.polygon([tuple(corner) for corner in corners], fill=muted(rng))
    else:
        end = centre + rng.uniform(-90, 90, 2)
        draw.line([*centre, *end], fill=muted(rng), width=int(rng.integers(1, 7)))
