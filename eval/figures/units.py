"""L3 Fig. 3 to 9: which frames and sounds excite single units of pool4 most, and where in them.

A unit is a component of pool4, the maximum over all positions of one channel of conv4_2. The five
items that excite it most are shown, and as heat map that channel (§3.5.1). With labels, the
columns are the classes that have a unit of their own (§3.5.3); without, the units whose top items
are the most outstanding (our choice), and the reader names them, as the authors did for
Flickr-SoundNet.
"""

import dataclasses
from collections.abc import Sequence

import matplotlib
import matplotlib.axes
import matplotlib.cm
import matplotlib.figure
import numpy as np

from eval.figures import drawings
from eval.figures.clip_source import ClipSource, Shown
from eval.metrics import clusters
from l3net import constants
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.log_spectrogram import VALUE_RANGE, log_spectrogram
from l3net.media import heat_map

VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
TOP = clusters.TOP
NUM_UNITS = 9  # columns of L3 Fig. 3, 4 and 7
NUM_SPECTROGRAM_UNITS = 4  # pairs of columns of L3 Fig. 9
TOP_FRAMES = drawings.Subject("units_vision", "Learnt visual concepts", "L3 Fig. 3")
FRAME_MAPS = drawings.Subject("units_vision_heat_maps", "Visual semantic heat maps", "L3 Fig. 4")
TOP_SOUNDS = drawings.Subject("units_audio", "Learnt audio concepts", "L3 Fig. 7")
SOUND_MAPS = drawings.Subject("units_audio_heat_maps", "Audio semantic heat maps", "L3 Fig. 9")
SUBJECTS = (TOP_FRAMES, FRAME_MAPS, TOP_SOUNDS, SOUND_MAPS)
_MAP = "conv4_2_map"
_HZ_PER_BAND = constants.SAMPLE_RATE_HZ / constants.FFT_LENGTH
_COLUMN_INCHES, _ROW_INCHES = 1.15, 1.15


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit and the items that excite it most."""

    index: int  # component of pool4
    title: str  # the dominant class, "" if the items have none
    num_of_class: int  # how many of the items are of it
    items: tuple[int, ...]  # indices of the five items, the most exciting first


def choose_units(activations: np.ndarray, classes: np.ndarray | None, num_units: int) -> list[Unit]:
    """Picks the units to show.

    Our choice: with classes, for each class the unit with most of its top five items of that class
    (of several the one whose top items are the most outstanding), classes with more of five first;
    a class for which no unit has at least two is left out, and items that excite a unit as little
    as any do not count (as in `clusters.preferred_classes`). Without, the units whose top items are
    the most outstanding: mean activation of the five, in standard deviations above the mean.

    Args:
        activations: float [num_items, pool4], every item of another clip.
        classes: str [num_items], "" where unknown; None if there are none.
        num_units: the most units.

    Returns:
        The units, in the order of the columns. A unit's activations 5 1 4 3 2 0 of items of
        classes a b a a b b give the title "a", 3 of 5, and items 0, 2, 3, 4, 1.
    """
    order = np.argsort(-activations, axis=0, kind="stable")[:TOP]
    highest = np.take_along_axis(activations, order, axis=0)
    excited = highest > activations.min(axis=0)
    spread = activations.std(axis=0)
    outstanding = (highest.mean(axis=0) - activations.mean(axis=0)) / np.maximum(spread, 1e-12)
    units = []
    for index in np.flatnonzero(spread > 0):
        items = order[:, index]
        title, count = "", 0
        if classes is not None:
            title, count = _dominant(classes[items[excited[:, index]]])
        units.append(Unit(int(index), title, count, tuple(int(item) for item in items)))
    units.sort(key=lambda one: (-one.num_of_class, -outstanding[one.index]))
    if classes is None:
        return units[:num_units]
    of_class: dict[str, Unit] = {}
    for unit in units:
        if unit.num_of_class >= 2:
            of_class.setdefault(unit.title, unit)
    return list(of_class.values())[:num_units]


def _dominant(classes: np.ndarray) -> tuple[str, int]:
    """Returns the most frequent class and how often it is there; "" is no class."""
    names, counts = np.unique(classes[classes != ""], return_counts=True)
    if not len(names):
        return "", 0
    most = int(np.argmax(counts))
    return str(names[most]), int(counts[most])


def draw(model: saved_model.SavedModel, source: ClipSource) -> list[drawings.Drawing]:
    """Draws the four figures of units.

    Returns:
        Visual concepts (L3 Fig. 3), their heat maps (Fig. 4), audio concepts (Fig. 7), audio heat
        maps (Fig. 9); of a data set without labels those of Fig. 5, 6 and 8.

    Raises:
        UserError: if the network has no such output, the clips cannot be read, or no unit
            represents a class.
    """
    extracted = source.extract(model, {VISION: "pool4", AUDIO: "pool4"})
    ids, features = extracted.example_ids, extracted.features
    classes = source.classes_of(extracted)
    units = {
        modality: choose_units(
            features[modality], None if classes is None else classes[modality], NUM_UNITS
        )
        for modality in (VISION, AUDIO)
    }
    for modality, chosen in units.items():
        if not chosen:
            raise UserError(
                f"no unit of {modality} has two of its top {TOP} items of one class; "
                f"{len(ids)} clips are too few, or the network has learnt nothing"
            )
    seen, heard = units[VISION], units[AUDIO]
    wanted = {ids[item] for unit in (*seen, *heard) for item in unit.items}
    shown = source.read(wanted, frame_px=model.frame_px)
    picked = _Picked(model, ids, shown, source.title, classes is not None)
    return [
        picked.visual_concepts(seen),
        picked.visual_heat_maps(seen),
        picked.audio_concepts(heard),
        picked.audio_heat_maps(heard[:NUM_SPECTROGRAM_UNITS]),
    ]


@dataclasses.dataclass(frozen=True)
class _Picked:
    """The chosen items and where they come from: one method per figure."""

    model: saved_model.SavedModel
    ids: Sequence[str]
    shown: Shown
    data: str
    has_labels: bool

    def visual_concepts(self, units: Sequence[Unit]) -> drawings.Drawing:
        figure = self._frames_of(units)
        figure.suptitle(f"Frames that excite single units of pool4 most: {self.data}")
        return drawings.Drawing(
            TOP_FRAMES if self.has_labels else TOP_FRAMES._replace(source="L3 Fig. 5 and 6"),
            f"Each column: the five of {len(self.ids)} frames that excite one unit of the vision "
            f"subnetwork's pool4 most, the strongest on top. {self._how_chosen('frames')}",
            figure,
        )

    def visual_heat_maps(self, units: Sequence[Unit]) -> drawings.Drawing:
        run = self.model.features(VISION, _MAP)
        figure, grid = _grid(len(units))
        for unit, column in zip(units, grid.T, strict=True):
            images = [self.shown.images[self.ids[item]] for item in unit.items]
            heat = run(np.stack(images))[..., unit.index]
            painter = heat_map.Painter(high=float(heat.max()))
            for image, one, axes in zip(images, heat, column, strict=False):
                drawings.show_image(axes, painter.paint(image, one, image.shape[:2]))
            column[0].set_title(_heading(unit))
        drawings.colour_bar(figure, grid, "activation, share of the column's largest")
        figure.suptitle(f"Where single units of conv4_2 respond: {self.data}")
        return drawings.Drawing(
            FRAME_MAPS if self.has_labels else FRAME_MAPS._replace(source="L3 Fig. 5 and 6"),
            "The frames of the figure before; over each the channel of conv4_2 (after the ReLU) "
            "whose maximum is the unit of pool4, enlarged linearly.",
            figure,
        )

    def audio_concepts(self, units: Sequence[Unit]) -> drawings.Drawing:
        figure = self._frames_of(units)
        sounds = []
        for unit in units:
            waveforms = [self.shown.waveforms[self.ids[item]] for item in unit.items]
            title = _heading(unit).replace("\n", ", ")
            sounds.append(drawings.Sound(title, np.concatenate(waveforms)))
        figure.suptitle(f"Sounds that excite single units of pool4 most: {self.data}")
        return drawings.Drawing(
            TOP_SOUNDS if self.has_labels else TOP_SOUNDS._replace(source="L3 Fig. 8"),
            f"Each column: the five of {len(self.ids)} seconds of sound that excite one unit of "
            "the audio subnetwork's pool4 most. For want of a picture of sound the frame at its "
            "middle is shown; no picture was used. The sounds themselves: the five seconds of each "
            f"column, one after the other. {self._how_chosen('sounds')}",
            figure,
            sounds,
        )

    def audio_heat_maps(self, units: Sequence[Unit]) -> drawings.Drawing:
        run = self.model.features(AUDIO, _MAP)
        average = int(self.model.metadata.get("model_config", {}).get("spectrogram_average", 1))
        num_rows = max(len(unit.items) for unit in units)
        figure = drawings.new_figure(2.3 * len(units) + 0.8, 1.5 * num_rows)
        grid = figure.subplots(num_rows, 2 * len(units), sharex=True, sharey=True, squeeze=False)
        for number, unit in enumerate(units):
            waveforms = np.stack([self.shown.waveforms[self.ids[item]] for item in unit.items])
            spectrograms = log_spectrogram(waveforms, average=average).numpy()[..., 0]
            heat = run(waveforms)[..., unit.index]
            for row, (spectrogram, one) in enumerate(zip(spectrograms, heat, strict=True)):
                left, right = grid[row, 2 * number], grid[row, 2 * number + 1]
                _show_spectrogram(left, spectrogram, average)
                _show_heat(right, one / heat.max(), spectrogram.shape, average)
            grid[0, 2 * number].set_title(_heading(unit), loc="left")
        for axes in grid[-1]:
            axes.set_xlabel("time, s")
        for axes in grid[:, 0]:
            axes.set_ylabel("frequency, Hz")
        drawings.colour_bar(figure, grid, "activation, share of the class's largest")
        figure.suptitle(f"Log-spectrograms and where conv4_2 responds: {self.data}")
        return drawings.Drawing(
            SOUND_MAPS,
            "Each pair of columns: log-spectrograms (left) of the five sounds that excite a unit "
            "most, black silent, white loud, and the channel of conv4_2 (after the ReLU) whose "
            f"maximum is that unit (right). {self._how_chosen('sounds')}",
            figure,
        )

    def _frames_of(self, units: Sequence[Unit]) -> matplotlib.figure.Figure:
        """Draws each unit's frames, a column a unit."""
        figure, grid = _grid(len(units))
        for unit, column in zip(units, grid.T, strict=True):
            for item, axes in zip(unit.items, column, strict=False):
                drawings.show_image(axes, self.shown.images[self.ids[item]])
            column[0].set_title(_heading(unit))
        return figure

    def _how_chosen(self, what: str) -> str:
        if not self.has_labels:
            return "Chosen: the units whose five are the most outstanding; no label was used."
        return (
            "Titles: the class that most of the five belong to, and how many do. Chosen (our "
            f"choice): of each class the unit with most {what} of it; labels serve to choose "
            "columns alone."
        )


def _show_cells(
    axes: matplotlib.axes.Axes, cells: np.ndarray, covered: Sequence[int], average: int, **look
) -> None:
    """Draws a spectrogram or a map over the bands and windows it covers, in Hz and seconds."""
    bands, windows = covered
    seconds = windows * average * constants.STFT_HOP_SAMPLES / constants.SAMPLE_RATE_HZ
    extent = (0, seconds, 0, bands * average * _HZ_PER_BAND)
    axes.imshow(
        cells, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **look
    )


def _show_spectrogram(axes: matplotlib.axes.Axes, spectrogram: np.ndarray, average: int) -> None:
    low, high = VALUE_RANGE
    _show_cells(axes, spectrogram, spectrogram.shape, average, cmap="gray", vmin=low, vmax=high)
    axes.set_yticks(range(0, constants.SAMPLE_RATE_HZ // 2 + 1, 12000))


def _show_heat(
    axes: matplotlib.axes.Axes, heat: np.ndarray, shape: Sequence[int], average: int
) -> None:
    """Draws a map over the part of a spectrogram of this shape that its cells come from."""
    covered = tuple(
        n * heat_map.cell_px(side, n) for side, n in zip(shape, heat.shape, strict=True)
    )
    colours = heat_map.DEFAULT_COLOUR_MAP
    axes.set_facecolor(matplotlib.colormaps[colours](0.0))
    _show_cells(axes, heat, covered, average, cmap=colours, vmin=0, vmax=1)


def _heading(unit: Unit) -> str:
    name = unit.title.split(",")[0]
    of_five = f"{unit.num_of_class} of {len(unit.items)}"
    return f"{name}\n{of_five}" if name else f"unit {unit.index}"


def _grid(num_columns: int) -> tuple[matplotlib.figure.Figure, np.ndarray]:
    """Makes rows of five, as many columns as there are units."""
    width, height = _COLUMN_INCHES * num_columns + 0.6, _ROW_INCHES * TOP + 0.9
    return drawings.new_grid(TOP, num_columns, width, height)
