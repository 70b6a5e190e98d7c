import base64
import io

import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from data_prep.survey import figures
from data_prep.survey.figures import THEMES, data_uri
from data_prep.survey.loudness import Histogram
from data_prep.survey.sample import SampleClip
from l3net.log_spectrogram import VALUE_RANGE

LEVELS = Histogram(np.arange(-150, 1, 2), np.zeros(75, np.int64))


def shown_clip(waveform: np.ndarray, *, start: float = 2.0, frame: float = 2.5) -> SampleClip:
    return SampleClip(
        "clip", "clip.mp4", "train", (), b"", frame, start, waveform.astype(np.int16), 10.0, -20, 0
    )


def sine(frequency_hz: float, amplitude: float = 32767) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency_hz / 48_000 * np.arange(48_000))


def image_of(uri: str) -> PIL.Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@pytest.fixture
def axes(monkeypatch):
    """Makes a figure's function return its axes instead of a picture."""

    def drawn(draw, size_inches):
        axes = matplotlib.figure.Figure(figsize=size_inches).subplots()
        draw(axes)
        return axes

    monkeypatch.setattr(figures, "_picture", drawn)


def test_a_picture_is_drawn_in_the_colours_of_each_theme():
    values = Histogram(np.arange(5.0), np.array([1, 0, 2, 3]))
    picture = figures.histogram(values, "duration, s")
    for name in THEMES:
        image = image_of(getattr(picture, name))
        assert image.size == (2 * picture.width_px, 2 * picture.height_px)
        colours = (THEMES[name].card, THEMES[name].fill)
        card, fill = (np.array(PIL.ImageColor.getrgb(colour)) for colour in colours)
        pixels = np.asarray(image, np.int64)
        assert abs(pixels[2, 2] - card).max() <= 2
        filled = (abs(pixels - fill).max(axis=-1) <= 6).sum(axis=0)
        # Bars of 1, 0, 2 and 3: the right half of the picture has five sixths of the fill.
        assert filled[image.width // 2 + 40 :].sum() > 4 * filled[: image.width // 2 - 40].sum() > 0


def test_a_histogram_shows_every_bin(axes):
    values = Histogram(np.linspace(0, 10, 6), np.array([0, 3, 0, 1, 7]))
    drawn = figures.histogram(values, "duration, s")
    steps = drawn.patches[0].get_data()
    np.testing.assert_array_equal(steps.values, values.counts)
    np.testing.assert_array_equal(steps.edges, values.edges)
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("duration, s", "clips")
    assert drawn.get_xlim() == (0, 10)
    assert drawn.get_ylim()[0] == 0
    assert drawn.get_ylim()[1] > 7


def test_levels_are_trimmed_on_the_quiet_side_only(axes):
    levels = Histogram(LEVELS.edges, LEVELS.counts.copy())
    for dbfs in (-40, -39.5, -3):
        levels.add(dbfs)
    drawn = figures.histogram(levels, "RMS level, dBFS", trim=True)
    assert drawn.get_xlim() == (-46, 0)
    assert drawn.patches[0].get_data().values.sum() == 3
    # A histogram of nothing is empty.
    drawn = figures.histogram(LEVELS, "RMS level, dBFS", trim=True)
    assert drawn.get_xlim() == (-150, 0)
    assert drawn.get_ylim()[1] > 0


@pytest.mark.parametrize("frequency_hz", [93.75, 6000, 17_062.5, 23_906.25])
def test_a_tone_stands_at_its_frequency(axes, frequency_hz):
    drawn = figures.spectrogram(shown_clip(sine(frequency_hz)))
    (image,) = drawn.images
    values = image.get_array()
    _, _, bottom, top = image.get_extent()
    row = values.mean(axis=1).argmax()
    band_hz = (top - bottom) / values.shape[0]
    assert bottom + (row + 0.5) * band_hz == pytest.approx(frequency_hz, abs=band_hz / 2)
    # At the ends of the scale a tone and its mirror image add up.
    assert values.max() == pytest.approx(VALUE_RANGE[1], abs=0.1)
    assert image.get_clim() == VALUE_RANGE
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("time in the clip, s", "frequency, Hz")


@pytest.mark.parametrize("seconds", [0.1, 0.5, 0.93])
def test_a_click_stands_at_its_time(axes, seconds):
    waveform = np.zeros(48_000)
    waveform[round(seconds * 48_000)] = 32767
    drawn = figures.spectrogram(shown_clip(waveform, start=3.0, frame=3.25))
    (image,) = drawn.images
    values = image.get_array()
    left, right, _, _ = image.get_extent()
    column = values.mean(axis=0).argmax()
    time = left + (column + 0.5) * (right - left) / values.shape[1]
    assert time == pytest.approx(3.0 + seconds, abs=0.003)
    assert 3.0 <= left < right <= 4.0
    assert list(drawn.lines[0].get_xdata()) == [3.25, 3.25]  # the frame


def test_silence_is_the_darkest_colour(axes):
    drawn = figures.spectrogram(shown_clip(np.zeros(48_000)))
    np.testing.assert_allclose(drawn.images[0].get_array(), VALUE_RANGE[0], rtol=1e-6)


def test_a_spectrogram_as_picture():
    picture = figures.spectrogram(shown_clip(sine(12_000)))
    light, dark = np.asarray(image_of(picture.light)), np.asarray(image_of(picture.dark))
    assert light.shape == dark.shape == (2 * picture.height_px, 2 * picture.width_px, 3)
    bright = (light[..., 0] > 200) & (light[..., 2] < 210)  # the tone's yellow, not the white card
    rows = np.flatnonzero(bright.sum(axis=1) > light.shape[1] // 2)
    assert 0 < len(rows) < 20


def test_data_uri():
    assert data_uri(b"\x00\xffJPEG", "image/jpeg") == "data:image/jpeg;base64,AP9KUEVH"
