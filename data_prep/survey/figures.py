"""Figures of the page that data_prep.report writes, each drawn twice: for light and dark pages."""

import base64
import dataclasses
import io
from collections.abc import Callable

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.rcsetup
import numpy as np
import PIL.Image
from matplotlib.backends import backend_agg

from data_prep.survey.loudness import Histogram
from data_prep.survey.sample import SampleClip
from l3net import constants
from l3net.data import schema
from l3net.log_spectrogram import VALUE_RANGE, log_spectrogram

_PX_PER_INCH = 100  # of the page; the picture has twice as many, for sharp screens
_HISTOGRAM_INCHES, _SPECTROGRAM_INCHES = (4.6, 2.7), (3.4, 2.4)
_MARGIN_DBFS = 6  # on the quiet side of a histogram of levels
_NUM_COLOURS = 256  # of a picture
_HZ_PER_BAND = constants.SAMPLE_RATE_HZ / constants.FFT_LENGTH


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of a page and its figures: cards, text, filled areas, thin lines."""

    card: str
    ink: str
    fill: str
    line: str


THEMES = {
    "light": Theme("#ffffff", "#24292f", "#2f6f9f", "#d8dee4"),
    "dark": Theme("#1d232a", "#dfe4ea", "#6fb3e0", "#3a424c"),
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as data URIs, for a light and for a dark page, and its size on the page."""

    light: str
    dark: str
    width_px: int
    height_px: int


def histogram(
    values: Histogram, xlabel: str, *, ylabel: str = "clips", trim: bool = False
) -> Picture:
    """Draws a histogram; `trim` leaves out the empty bins on the left, but for a margin."""
    first = 0
    if trim and values.counts.any():
        margin = round(_MARGIN_DBFS / (values.edges[1] - values.edges[0]))
        first = max(0, int(np.flatnonzero(values.counts)[0]) - margin)

    def draw(axes: matplotlib.axes.Axes) -> None:
        axes.stairs(values.counts[first:], values.edges[first:], fill=True)
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(values.edges[first], values.edges[-1]))
        axes.set_ylim(0, max(1, values.counts.max()) * 1.08)
        axes.locator_params(axis="y", integer=True)
        axes.grid(axis="y")
        axes.set_axisbelow(True)

    return _picture(draw, _HISTOGRAM_INCHES)


def spectrogram(clip: SampleClip) -> Picture:
    """Draws the log-spectrogram of a clip's second of sound, as the audio networks get it.

    A dashed line marks the time of the frame.
    """
    waveform = clip.waveform[np.newaxis].astype(np.float32) / np.float32(schema.INT16_SCALE)
    image = log_spectrogram(waveform).numpy()[0, :, :, 0]
    hop_seconds = constants.STFT_HOP_SAMPLES / constants.SAMPLE_RATE_HZ
    # A column is the window around its middle, a row the band around its frequency.
    left = clip.sound_start_seconds + hop_seconds / 2
    right = left + image.shape[1] * hop_seconds
    bottom, top = -_HZ_PER_BAND / 2, (image.shape[0] - 0.5) * _HZ_PER_BAND

    def draw(axes: matplotlib.axes.Axes) -> None:
        low, high = VALUE_RANGE
        axes.imshow(
            image,
            origin="lower",
            aspect="auto",
            extent=(left, right, bottom, top),
            cmap="magma",
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        axes.axvline(clip.frame_seconds, color="white", linestyle="--", linewidth=1)
        axes.set(xlabel="time in the clip, s", ylabel="frequency, Hz", ylim=(0, top))
        axes.set_yticks(range(0, constants.SAMPLE_RATE_HZ // 2 + 1, 6000))

    return _picture(draw, _SPECTROGRAM_INCHES)


def _picture(
    draw: Callable[[matplotlib.axes.Axes], None], size_inches: tuple[float, float]
) -> Picture:
    width_px, height_px = (round(side * _PX_PER_INCH) for side in size_inches)
    dpi = 2 * _PX_PER_INCH
    # Matplotlib cuts fractions of a pixel off, those of rounding errors, too.
    inches = (2 * width_px + 0.25) / dpi, (2 * height_px + 0.25) / dpi
    uris = {}
    for name, theme in THEMES.items():
        with matplotlib.rc_context(_settings(theme)):
            figure = matplotlib.figure.Figure(figsize=inches, dpi=dpi, layout="constrained")
            draw(figure.subplots())
            uris[name] = _data_uri(figure)
    return Picture(width_px=width_px, height_px=height_px, **uris)


def _settings(theme: Theme) -> dict[str, object]:
    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(coloured, theme.ink),
        "axes.facecolor": theme.card,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.prop_cycle": matplotlib.rcsetup.cycler(color=[theme.fill]),
        "figure.facecolor": theme.card,
        "font.size": 9.5,
        "grid.color": theme.line,
    }


def _data_uri(figure: matplotlib.figure.Figure) -> str:
    """Returns the figure as a PNG with a palette: half the bytes, and nobody sees it."""
    canvas = backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    buffer = io.BytesIO()
    palette = image.quantize(_NUM_COLOURS, method=PIL.Image.Quantize.MEDIANCUT)
    palette.save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def data_uri(data: bytes, media_type: str) -> str:
    """Returns a file as an address that needs no network; its type is such as "image/png"."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
