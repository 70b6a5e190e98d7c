"""Drawings and the files they become: PNG, PDF, sounds as FLAC, and figures.json, their list."""

import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.axes
import matplotlib.cm
import matplotlib.figure
import numpy as np
import soundfile

from l3net import constants
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.json_files import check, read_json, write_json
from l3net.media import heat_map

DRAWN, NOT_RUN = "drawn", "not run"
_DPI = 150
_SETTINGS = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "pdf.fonttype": 42,  # letters stay letters: they can be searched and edited
    "savefig.facecolor": "white",
}


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound that belongs to a figure: what is heard, float32 [samples] in [-1, 1] at 48 kHz."""

    title: str
    waveform: np.ndarray


class Subject(NamedTuple):
    """What a figure shows, drawn or not."""

    name: str  # name of its files
    title: str  # one line
    source: str  # the paper's figure, such as "L3 Fig. 3"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure and what must be said with it."""

    subject: Subject
    caption: str  # what is shown, how it was chosen, and from which data
    figure: matplotlib.figure.Figure
    sounds: Sequence[Sound] = ()


def new_figure(width_inches: float, height_inches: float) -> matplotlib.figure.Figure:
    """Makes an empty figure, laid out so that no text is cut off."""
    return matplotlib.figure.Figure(figsize=(width_inches, height_inches), layout="constrained")


def new_grid(
    num_rows: int, num_columns: int, width_inches: float, height_inches: float
) -> tuple[matplotlib.figure.Figure, np.ndarray]:
    """Makes a figure of rows and columns without axes."""
    figure = new_figure(width_inches, height_inches)
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure, grid


def settings() -> Any:
    """Returns a context in which figures are drawn: sizes of letters, kinds of fonts."""
    return matplotlib.rc_context(_SETTINGS)


def show_image(axes: matplotlib.axes.Axes, image: np.ndarray, title: str = "") -> None:
    """Draws an image, uint8 [height, width, 3], without axes."""
    axes.imshow(image, interpolation="lanczos")
    axes.set_axis_off()
    if title:
        axes.set_title(title)


def colour_bar(figure: matplotlib.figure.Figure, grid: np.ndarray, label: str) -> None:
    """Draws the scale of heat maps, 0 to 1, beside all axes of a grid."""
    colours = matplotlib.cm.ScalarMappable(cmap=heat_map.DEFAULT_COLOUR_MAP)
    colours.set_clim(0, 1)
    figure.colorbar(colours, ax=list(grid.flat), label=label, shrink=0.5, pad=0.01)


def write(drawing: Drawing, out_dir: str | pathlib.Path) -> dict[str, Any]:
    """Writes a figure as PNG and PDF, and its sounds as FLAC.

    Returns:
        Its entry in the list of figures, see `write_list`; paths are relative to the folder.
    """
    out_dir, name = pathlib.Path(out_dir), drawing.subject.name
    with settings():
        for suffix in (".png", ".pdf"):
            buffer = io.BytesIO()
            drawing.figure.savefig(buffer, format=suffix[1:], dpi=_DPI)
            write_whole(out_dir / f"{name}{suffix}", buffer.getvalue())
    sounds = []
    for number, sound in enumerate(drawing.sounds, start=1):
        path = f"{name}_sounds/{number:02d}.flac"
        buffer = io.BytesIO()
        soundfile.write(buffer, sound.waveform, constants.SAMPLE_RATE_HZ, format="FLAC")
        write_whole(out_dir / path, buffer.getvalue())
        sounds.append({"title": sound.title, "path": path})
    return {
        **drawing.subject._asdict(),
        "status": DRAWN,
        "caption": drawing.caption,
        "png": f"{name}.png",
        "pdf": f"{name}.pdf",
        "sounds": sounds,
    }


def not_run(subject: Subject, reason: str) -> dict[str, Any]:
    """Returns the entry of a figure that could not be drawn, with the reason."""
    return {**subject._asdict(), "status": NOT_RUN, "caption": reason, "sounds": []}


LIST_FILE = "figures.json"


@dataclasses.dataclass(frozen=True)
class _Sound:
    title: str
    path: str


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A figure as `write` and `not_run` describe it."""

    name: str
    title: str
    source: str
    status: str
    caption: str
    sounds: list[_Sound]
    png: str = ""
    pdf: str = ""


@dataclasses.dataclass(frozen=True)
class _List:
    figures: list[_Entry]


def write_list(
    entries: Sequence[Mapping[str, Any]], out_dir: str | pathlib.Path, **facts: Any
) -> pathlib.Path:
    """Writes figures.json: entries from `write` and `not_run`, and facts such as the commit."""
    path = pathlib.Path(out_dir) / LIST_FILE
    write_json(path, {"figures": list(entries), **facts})
    return path


def read_list(folder: str | pathlib.Path) -> dict[str, Any]:
    """Reads a list of figures back: "figures", the entries; and the facts.

    Raises:
        UserError: if there is none.
    """
    path, advice = pathlib.Path(folder) / LIST_FILE, "`make figures` draws the figures again"
    try:
        record = read_json(path, dict[str, Any], advice)
    except FileNotFoundError as error:
        raise UserError(f"no list of figures in {path}; {advice}") from error
    check(path, record, _List, advice)
    return record
