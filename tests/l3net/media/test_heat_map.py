import matplotlib
import numpy as np
import pytest
import scipy.ndimage

from l3net.errors import UserError
from l3net.media import heat_map


@pytest.mark.parametrize(
    ("image_px", "num_cells", "expected"),
    [(224, 14, 16), (225, 14, 16), (239, 15, 16), (240, 15, 16), (112, 7, 16), (120, 7, 16),
     (64, 4, 16), (256, 16, 16), (341, 21, 16), (100, 6, 16), (224, 28, 8), (64, 8, 8)],
)  # fmt: skip
def test_cells_are_powers_of_two(image_px, num_cells, expected):
    assert heat_map.cell_px(image_px, num_cells) == expected


def test_a_map_is_linear_between_centres_and_flat_beyond():
    large = heat_map.enlarge(np.array([[0.0, 1.0]]), (16, 32), (1, 4))
    np.testing.assert_allclose(large, [[0, 0.25, 0.75, 1]])


@pytest.mark.parametrize("seen_px", [(64, 64), (64, 120), (71, 79)])
def test_cells_are_on_their_pixels_whatever_rest_has_no_cell(seen_px):
    heat = np.random.default_rng(0).uniform(size=(seen_px[0] // 16, seen_px[1] // 16))
    # Where the centre of each of 200 rows and columns is between the centres of the cells.
    positions = [(np.arange(200) + 0.5) / 200 * side / 16 - 0.5 for side in seen_px]
    grid = np.meshgrid(*positions, indexing="ij")
    expected = scipy.ndimage.map_coordinates(heat, grid, order=1, mode="nearest")
    np.testing.assert_allclose(heat_map.enlarge(heat, seen_px, (200, 200)), expected, atol=1e-4)


def test_the_peak_is_the_centre_of_the_highest_cell():
    assert heat_map.peak(np.array([[0, 1], [0, 0]]), (32, 32)) == (0.25, 0.75)
    assert heat_map.peak(np.array([[0, 1], [1, 0]]), (32, 40)) == (0.25, 24 / 40)
    # 120 pixels: seven cells cover the first 112, pooling drops the rest.
    heat = np.zeros((7, 7))
    heat[6, 0] = 1
    assert heat_map.peak(heat, (120, 120)) == (104 / 120, 8 / 120)
    assert max(heat_map.peak(np.zeros((1, 1)), (7, 7))) <= 1  # inside the image
    # Of equal maxima the first counts.
    assert heat_map.peak(np.ones((2, 2)), (32, 32)) == (0.25, 0.25)


def test_zero_leaves_the_picture_and_one_covers_it():
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    heat = np.repeat([[0.0, 0.0, 1.0, 1.0]], 2, axis=0)
    painted = heat_map.Painter(opacity=1.0, colour_map="jet").paint(picture, heat, (32, 64))
    np.testing.assert_array_equal(painted[:, :24], picture[:, :24])
    red = matplotlib.colormaps["jet"](1.0, bytes=True)[:3]
    np.testing.assert_array_equal(painted[:, 40:], np.broadcast_to(red, (32, 24, 3)))


def test_opacity_and_scale():
    black = np.zeros((16, 16, 3), np.uint8)
    painter = heat_map.Painter(opacity=0.5, colour_map="gray")
    assert heat_map.Painter(opacity=0.0).paint(black, np.ones((1, 1)), (16, 16)).max() == 0
    assert abs(int(painter.paint(black, np.ones((1, 1)), (16, 16))[0, 0, 0]) - 128) <= 1
    half = painter.paint(black, np.full((1, 1), 0.5), (16, 16))[0, 0, 0]
    assert abs(int(half) - 128 * 0.25 * 2 * 0.5) <= 1  # half the grey, half the opacity
    # The scale stretches, and values outside are its ends.
    painter = heat_map.Painter(low=0.2, high=0.4, opacity=1.0, colour_map="gray")
    values = [painter.paint(black, np.full((1, 1), v), (16, 16))[0, 0, 0] for v in (0.1, 0.4, 0.9)]
    assert values == [0, 255, 255]
    flat = heat_map.Painter(low=0.3, high=0.3).paint(black, np.full((1, 1), 0.3), (16, 16))
    assert flat.max() == 0


def test_invalid_values_are_refused():
    for settings, message in (
        ({"opacity": 1.5}, "opacity of 1.5"),
        ({"opacity": float("nan")}, "opacity of nan"),
        ({"colour_map": "rainbows"}, "unknown colour map 'rainbows'"),
    ):
        with pytest.raises(UserError, match=message):
            heat_map.Painter(**settings)
