"""The objects of the demo data set: each function draws one, or the tool that plays it."""

import numpy as np
from numpy.random import Generator

from data_prep.demo_data import colours
from data_prep.demo_data.colours import DARK, IVORY, hsv, shade
from data_prep.demo_data.pen import Pen, smooth


def guitar(pen: Pen, rng: Generator) -> None:
    """A figure-of-eight body with a round hole, a long neck and a head."""
    wood, dark = colours.wood(rng), shade(colours.wood(rng), 0.5)
    half = [(0, -0.03), (0.12, -0.02), (0.15, 0.07), (0.11, 0.16), (0.2, 0.28), (0.2, 0.41)]
    pen.shape([*half, (0.1, 0.5)], wood)
    pen.box(-0.028, -0.38, 0.028, 0.1, dark)
    pen.polygon([(-0.03, -0.38), (-0.05, -0.54), (0.05, -0.54), (0.03, -0.38)], shade(wood, 0.8))
    for y in (-0.42, -0.46, -0.5):
        pen.line([(-0.08, y), (0.08, y)], 0.018, IVORY)
    pen.ellipse(0, 0.15, 0.062, 0.062, DARK)
    pen.box(-0.09, 0.34, 0.09, 0.375, dark)
    for x in (-0.015, 0, 0.015):
        pen.line([(x, -0.38), (x, 0.35)], 0.005, IVORY)


def violin(pen: Pen, rng: Generator) -> None:
    """A waisted body with two f-holes, a black fingerboard and a scroll."""
    wood = colours.wood(rng)
    waist = [(0, -0.1), (0.11, -0.09), (0.16, -0.01), (0.15, 0.07), (0.085, 0.1), (0.085, 0.18)]
    pen.shape([*waist, (0.17, 0.22), (0.2, 0.33), (0.15, 0.46), (0.02, 0.49)], wood)
    for side in (-1, 1):
        curve = [(0.1, 0.08), (0.07, 0.11), (0.085, 0.18), (0.11, 0.25), (0.08, 0.28)]
        pen.line([(side * x, y) for x, y in curve], 0.018, DARK)
    pen.polygon([(-0.022, -0.42), (0.022, -0.42), (0.035, 0.1), (-0.035, 0.1)], DARK)
    pen.polygon([(-0.045, 0.28), (0.045, 0.28), (0.02, 0.46), (-0.02, 0.46)], DARK)
    pen.ellipse(0, -0.46, 0.04, 0.055, wood)
    for y in (-0.4, -0.36):
        pen.line([(-0.07, y), (0.07, y)], 0.02, DARK)
    pen.box(-0.05, 0.175, 0.05, 0.195, IVORY)
    pen.ellipse(-0.11, 0.43, 0.075, 0.05, DARK)


def bow(pen: Pen, rng: Generator) -> None:
    """A violin's bow."""
    pen.line([(-0.46, -0.02), (0, 0), (0.46, -0.03)], 0.025, shade(colours.wood(rng), 0.8))
    pen.line([(-0.46, 0.012), (0.46, 0.012)], 0.016, IVORY)
    pen.box(-0.46, -0.03, -0.38, 0.025, DARK)


def harp(pen: Pen, rng: Generator) -> None:
    """A tall triangle of pillar, curved neck and soundboard around its strings."""
    frame = colours.wood(rng) if rng.random() < 0.5 else colours.metal(rng)
    neck = [(0.3, -0.47), (0.2, -0.4), (0.08, -0.34), (-0.08, -0.36), (-0.24, -0.3), (-0.3, -0.18)]
    for x in np.linspace(-0.22, 0.24, 13):
        top = np.interp(x, [p[0] for p in neck[::-1]], [p[1] for p in neck[::-1]])
        bottom = np.interp(x, [-0.3, 0.26], [-0.18, 0.42])
        pen.line([(x, top), (x, bottom)], 0.008, IVORY)
    pen.line([(0.3, -0.47), (0.27, 0.45)], 0.06, shade(frame, 0.9))
    pen.line(neck, 0.075, frame)
    pen.polygon([(-0.34, -0.2), (-0.26, -0.22), (0.3, 0.38), (0.22, 0.5)], shade(frame, 0.8))
    pen.box(0.12, 0.43, 0.36, 0.52, shade(frame, 0.65))
    pen.ellipse(0.3, -0.48, 0.05, 0.04, frame)


def church_bell(pen: Pen, rng: Generator) -> None:
    """A flared bell with a crown, bands and a clapper."""
    bronze = colours.metal(rng) if rng.random() < 0.7 else hsv(0.45, 0.35, rng.uniform(0.4, 0.7))
    pen.box(-0.06, -0.5, 0.06, -0.36, shade(bronze, 0.7))
    pen.ellipse(0, 0.37, 0.075, 0.085, shade(bronze, 0.5))
    right = [(0.13, -0.38), (0.2, -0.28), (0.22, 0), (0.27, 0.18), (0.38, 0.32), (0.39, 0.36)]
    pen.polygon([*right, *[(-x, y) for x, y in reversed(right)]], bronze)
    for y, half in ((0.22, 0.3), (-0.2, 0.205)):
        pen.line([(-half, y), (half, y)], 0.022, shade(bronze, 0.6))
    light = [(-0.12, -0.3), (-0.06, -0.3), (-0.1, 0.15), (-0.17, 0.15)]
    pen.polygon(light, shade(bronze, 1.3), False)


def organ(pen: Pen, rng: Generator) -> None:
    """A row of pipes over a wooden case with a keyboard."""
    pipes, wood = colours.metal(rng), colours.wood(rng)
    order = [3, 2, 1, 0, 1, 2, 3] if rng.random() < 0.5 else [0, 1, 2, 3, 4, 5, 6]
    for index, rank in enumerate(order):
        x, top = -0.36 + 0.12 * index, -0.5 + 0.05 * rank * (2 if max(order) == 3 else 1)
        pen.box(x - 0.045, top, x + 0.045, 0.15, pipes)
        pen.line([(x - 0.015, top + 0.02), (x - 0.015, 0.1)], 0.018, shade(pipes, 1.3))
        pen.polygon([(x - 0.03, 0.06), (x + 0.03, 0.06), (x, 0.0)], DARK, False)
    pen.box(-0.46, 0.12, 0.46, 0.5, wood)
    pen.box(-0.38, 0.24, 0.38, 0.36, IVORY)
    for x in np.arange(-0.34, 0.36, 0.055):
        pen.box(x - 0.01, 0.24, x + 0.01, 0.31, DARK)
    pen.box(-0.46, 0.42, 0.46, 0.5, shade(wood, 0.7))


def flute(pen: Pen, rng: Generator) -> None:
    """A long thin tube with round keys."""
    tube = colours.steel(rng) if rng.random() < 0.6 else colours.wood(rng)
    pen.box(-0.62, -0.04, 0.64, 0.04, tube)
    pen.line([(-0.6, -0.018), (0.62, -0.018)], 0.014, shade(tube, 1.35))
    pen.ellipse(-0.44, -0.02, 0.06, 0.05, shade(tube, 0.8))
    pen.ellipse(-0.44, -0.025, 0.028, 0.02, DARK)
    for x in (-0.3, 0.42):
        pen.box(x - 0.02, -0.05, x + 0.02, 0.05, shade(tube, 0.7))
    for x in (-0.2, -0.12, -0.04, 0.06, 0.14, 0.22, 0.31, 0.52):
        pen.ellipse(x, -0.02, 0.034, 0.042, shade(tube, 0.85))
    pen.line([(-0.2, 0.045), (0.3, 0.045)], 0.012, shade(tube, 0.5))


def trumpet(pen: Pen, rng: Generator) -> None:
    """A tube wound once, three valves and a wide bell."""
    brass = colours.metal(rng)
    dark = shade(brass, 0.6)
    for width, colour in ((0.06, dark), (0.042, brass)):
        pen.line([(-0.5, -0.08), (0.2, -0.08)], width, colour)
        loop = [(0.1, -0.08), (-0.26, -0.08), (-0.33, -0.02), (-0.33, 0.08), (-0.26, 0.14)]
        pen.line([*loop, (0.16, 0.14), (0.22, 0.08), (0.22, 0), (0.16, -0.05)], width, colour)
    flare = [(0.1, -0.055), (0.3, -0.03), (0.42, 0.03), (0.5, 0.13)]
    pen.polygon([*[(x, -0.16 - y) for x, y in flare], *flare[::-1]], brass)
    pen.ellipse(0.5, -0.08, 0.03, 0.215, shade(brass, 0.75))
    for x in (-0.12, -0.02, 0.08):
        pen.box(x - 0.036, -0.18, x + 0.036, 0.22, brass)
        pen.line([(x, -0.18), (x, -0.26)], 0.022, dark)
        pen.ellipse(x, -0.27, 0.035, 0.02, IVORY)
    pen.polygon([(-0.56, -0.12), (-0.56, -0.04), (-0.48, -0.065), (-0.48, -0.095)], dark)


def accordion(pen: Pen, rng: Generator) -> None:
    """Two blocks, one with keys and one with buttons, and a pleated bellows between."""
    paint, folds = colours.paint(rng), colours.paint(rng)
    edges = np.linspace(-0.24, 0.24, 11)
    for index, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        bulge = 0.03 * (index % 2)
        fold = [(left, -0.3 - bulge), (right, -0.33 + bulge), (right, 0.33 - bulge)]
        pen.polygon([*fold, (left, 0.3 + bulge)], shade(folds, 1.15 if index % 2 else 0.6))
    pen.box(-0.5, -0.36, -0.22, 0.36, paint)
    pen.box(0.22, -0.36, 0.46, 0.36, paint)
    pen.box(-0.5, -0.32, -0.36, 0.32, IVORY)
    for y in np.arange(-0.27, 0.3, 0.09):
        pen.box(-0.5, y, -0.42, y + 0.03, DARK)
    for x in (0.28, 0.34, 0.4):
        for y in np.arange(-0.28, 0.3, 0.08):
            pen.ellipse(x, y, 0.018, 0.018, IVORY)
    pen.line([(-0.29, -0.28), (-0.29, 0.28)], 0.03, shade(paint, 1.5))


def snare_drum(pen: Pen, rng: Generator) -> None:
    """A shallow cylinder with a white skin, hoops and tension rods."""
    shell = colours.paint(rng) if rng.random() < 0.7 else colours.wood(rng)
    metal = colours.steel(rng)
    pen.ellipse(0, 0.24, 0.43, 0.15, shade(metal, 0.8))
    pen.box(-0.41, -0.08, 0.41, 0.22, shell)
    pen.ellipse(0, 0.21, 0.41, 0.14, shell)
    pen.polygon([(-0.405, -0.06), (0.405, -0.06), (0.405, 0.2), (-0.405, 0.2)], shell, False)
    for x in (-0.34, -0.2, 0, 0.2, 0.34):
        depth = 0.15 * np.sqrt(1 - (x / 0.43) ** 2)
        pen.line([(x, -0.06 + depth), (x, 0.22 + depth)], 0.02, metal)
        pen.box(x - 0.022, 0.05 + depth, x + 0.022, 0.12 + depth, shade(metal, 0.8))
    pen.ellipse(0, -0.08, 0.43, 0.16, metal)
    pen.ellipse(0, -0.09, 0.39, 0.135, IVORY)


def sticks(pen: Pen, rng: Generator) -> None:
    """Two drumsticks that meet at the middle."""
    wood = shade(colours.wood(rng), 1.15)
    for x in (-0.3, 0.22):
        pen.line([(x * 0.2, 0.02), (x + 0.1, -0.4)], 0.034, wood)
        pen.ellipse(x * 0.2, 0.02, 0.024, 0.03, wood)


def hi_hat(pen: Pen, rng: Generator) -> None:
    """A stand with the lower one of two cymbals."""
    steel, brass = shade(colours.steel(rng), 0.7), colours.metal(rng)
    for x in (-0.26, 0.02, 0.26):
        pen.line([(0, 0.22), (x, 0.52)], 0.03, steel)
    pen.line([(0, -0.52), (0, 0.32)], 0.03, steel)
    pen.box(-0.04, 0.12, 0.04, 0.22, DARK)
    pen.ellipse(0, -0.17, 0.44, 0.05, shade(brass, 0.75))


def top_cymbal(pen: Pen, rng: Generator) -> None:
    """The upper cymbal of a hi-hat."""
    brass = colours.metal(rng)
    pen.ellipse(0, -0.22, 0.45, 0.05, brass)
    pen.line([(-0.33, -0.225), (0.1, -0.24)], 0.014, shade(brass, 1.3))
    pen.ellipse(0, -0.26, 0.1, 0.05, shade(brass, 0.85))
    pen.box(-0.03, -0.36, 0.03, -0.3, DARK)


def marimba(pen: Pen, rng: Generator) -> None:
    """Bars that get shorter, across two rails."""
    wood, rainbow = colours.wood(rng), rng.random() < 0.5
    rail = shade(colours.wood(rng), 0.6)
    for sign in (-1, 1):
        pen.line([(-0.54, sign * 0.2), (0.54, sign * 0.1)], 0.04, rail)
    first_hue = rng.uniform(0, 1)
    for index, x in enumerate(np.linspace(-0.47, 0.47, 9)):
        half = 0.33 - 0.018 * index
        colour = hsv(first_hue + index / 10, 0.75, 0.85) if rainbow else wood
        pen.box(x - 0.046, -half, x + 0.046, half, shade(colour, 1 if index % 2 else 0.88))
        for sign in (-1, 1):
            pen.ellipse(x, sign * (0.2 - 0.011 * index), 0.014, 0.014, DARK)


def mallets(pen: Pen, rng: Generator) -> None:
    """Two mallets with round heads."""
    head = colours.paint(rng)
    for x, y in ((-0.26, 0.0), (0.2, 0.04)):
        pen.line([(x, y), (x + 0.16, 0.48)], 0.024, shade(colours.wood(rng), 1.2))
        pen.ellipse(x, y, 0.055, 0.055, head)


def drill(pen: Pen, rng: Generator) -> None:
    """A cordless drill: motor, pistol grip, battery, chuck and bit."""
    paint, grip = colours.paint(rng), DARK if rng.random() < 0.6 else shade(colours.paint(rng), 0.6)
    pen.line([(0.34, -0.19), (0.6, -0.19)], 0.035, colours.steel(rng))
    pen.polygon([(0.22, -0.29), (0.36, -0.24), (0.36, -0.14), (0.22, -0.09)], (88, 88, 92))
    pen.polygon([(-0.26, -0.1), (-0.04, -0.1), (-0.12, 0.3), (-0.34, 0.3)], grip)
    pen.polygon([(-0.02, -0.1), (0.05, -0.1), (0.0, 0.05), (-0.05, 0.03)], (200, 60, 40))
    body = [(-0.3, -0.3), (-0.2, -0.36), (0.16, -0.34), (0.24, -0.3), (0.24, -0.08), (-0.2, -0.05)]
    pen.polygon([*body, (-0.31, -0.1)], paint)
    pen.box(-0.42, 0.28, -0.06, 0.42, grip)
    for x in (-0.24, -0.2, -0.16):
        pen.line([(x, -0.27), (x, -0.15)], 0.018, DARK)


def hammer(pen: Pen, rng: Generator) -> None:
    """A claw hammer."""
    handle = colours.wood(rng) if rng.random() < 0.7 else colours.paint(rng)
    steel = shade(colours.steel(rng), 0.8)
    pen.polygon([(-0.035, -0.3), (0.035, -0.3), (0.055, 0.54), (-0.055, 0.54)], handle)
    pen.box(-0.058, 0.28, 0.058, 0.54, shade(handle, 0.55))
    claw = [(0.05, -0.46), (0.2, -0.44), (0.32, -0.34), (0.36, -0.24), (0.24, -0.32), (0.06, -0.32)]
    pen.polygon(claw, steel)
    pen.box(-0.2, -0.44, -0.05, -0.32, steel)
    pen.box(-0.32, -0.48, -0.19, -0.28, shade(steel, 1.15))
    pen.box(-0.075, -0.47, 0.075, -0.28, shade(steel, 0.85))


def saw(pen: Pen, rng: Generator) -> None:
    """A hand saw: a long toothed blade and a handle with a hole."""
    blade = colours.steel(rng)
    handle = colours.wood(rng) if rng.random() < 0.7 else colours.paint(rng)
    xs = np.linspace(-0.22, 0.62, 43)
    edge = [(x, 0.15 - 0.09 * (x + 0.22) / 0.84 + 0.032 * (i % 2)) for i, x in enumerate(xs)]
    pen.polygon([(-0.22, -0.13), (0.62, -0.04), *edge[::-1]], blade)
    pen.line([(-0.2, -0.09), (0.58, -0.02)], 0.016, shade(blade, 1.25))
    grip = [(-0.18, -0.2), (-0.14, 0), (-0.2, 0.2), (-0.36, 0.24), (-0.5, 0.2), (-0.52, 0.08)]
    pen.polygon(smooth([*grip, (-0.46, -0.02), (-0.5, -0.14), (-0.44, -0.2)]), handle)
    pen.hole(smooth([(-0.26, -0.1), (-0.24, 0.08), (-0.33, 0.13), (-0.41, 0.06), (-0.36, -0.1)]))
