"""OTS Fig. 5 to 7: where AVOL-Net sees what it hears.

Fig. 5: frames with their own sound. Fig. 6: one frame with several sounds ("what would make this
sound?"). Fig. 7: one video, frames a second apart. Every picture is of a frame and a second of
sound alone; no motion, no smoothing.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import matplotlib.axes
import matplotlib.cm
import matplotlib.figure
import matplotlib.patches
import numpy as np

from eval.figures import drawings
from eval.figures.clip_source import ClipSource
from eval.metrics import localization
from eval.sets import clips, sounding_frames
from eval.sets.sounding_frames import FrameSet, SoundingFrame
from l3net import constants
from l3net.data import schema
from l3net.data.shards import read_clips
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.media import heat_map

LOCALIZATION = drawings.Subject("localization", "What is making the sound?", "OTS Fig. 5")
SOUNDS = drawings.Subject("sounds", "What would make this sound?", "OTS Fig. 6")
VIDEO = drawings.Subject("video", "What is making the sound? Along a video", "OTS Fig. 7")
NUM_HITS, NUM_MISSES = 9, 3
NUM_FRAMES, NUM_SOUNDS = 4, 4  # Fig. 6: rows, sounds each
NUM_VIDEOS, NUM_SECONDS = 4, 5  # Fig. 7: columns, rows
_INCHES = 1.5  # a picture's side
_RING = 4.0  # points across, the mark at the map's maximum


class Localizer:
    """AVOL-Net on annotated frames and on seconds of sound."""

    def __init__(self, model: saved_model.SavedModel):
        """Looks up the signature `localize`; UserError if there is none."""
        self._localize, self._frame_px = model.localization(), model.frame_px
        self._painter = heat_map.Painter()

    def see(self, jpeg: bytes) -> tuple[np.ndarray, sounding_frames.View]:
        """Decodes what the network sees of a frame; see `sounding_frames.decode`."""
        return sounding_frames.decode(jpeg, self._frame_px)

    def maps(self, images: Sequence[np.ndarray], waveforms: Sequence[np.ndarray]) -> np.ndarray:
        """Runs the network: images as `see` returns them, waveforms int16 [48000] each.

        Returns:
            float32 [N, rows, columns] in [0, 1].
        """
        sounds = np.stack(waveforms).astype(np.float32) / schema.INT16_SCALE
        return self._localize({saved_model.IMAGE: np.stack(images), saved_model.WAVEFORM: sounds})

    def paint(self, image: np.ndarray, heat: np.ndarray) -> np.ndarray:
        """Paints a map over the image it belongs to, 0 clear, 1 the last colour."""
        return self._painter.paint(image, heat, image.shape[:2])


def first_frames(frames: FrameSet, max_frames: int = 512) -> list[SoundingFrame]:
    """Returns the first annotated frames of a data set; UserError if there is none."""
    annotated = (frame for frame in frames.read() if isinstance(frame, SoundingFrame))
    first = list(itertools.islice(annotated, max_frames))
    if not first:
        raise UserError(f"{frames.data}: none of the annotated clips is there; do the ids agree?")
    return first


# --- OTS Fig. 5 ----------------------------------------------------------------------------------
def draw_localization(
    localizer: Localizer, frames: Sequence[SoundingFrame], data: str, *, seed: int
) -> drawings.Drawing:
    """Draws annotated frames and AVOL-Net's maps, hits and misses, with the sounds.

    The seed draws which are shown, not the nicest (our choice); `data` names them in the title.
    """
    judged = [_judged(localizer, frame) for frame in frames]
    hits = [one for one in judged if one[-1]]
    misses = [one for one in judged if not one[-1]]
    rng = np.random.default_rng(seed)
    shown = [*_drawn(hits, NUM_HITS, rng), *_drawn(misses, NUM_MISSES, rng)]
    per_row = 3
    num_rows = -(-len(shown) // per_row)
    figure, grid = drawings.new_grid(
        num_rows, 2 * per_row, 2 * _INCHES * per_row + 1.1, (_INCHES + 0.3) * num_rows + 0.5
    )
    for number, (frame, image, view, heat, hit) in enumerate(shown):
        left, right = grid[number // per_row, 2 * (number % per_row) :][:2]
        name = frame.annotation.label.split(",")[0]
        drawings.show_image(left, image, name)
        drawings.show_image(right, localizer.paint(image, heat), "hit" if hit else "MISS")
        _mark(right, heat, image, view.of_boxes(frame.annotation.boxes))
    drawings.colour_bar(figure, grid, "probability of correspondence")
    figure.suptitle(f"Where AVOL-Net sees what it hears: {data}")
    return drawings.Drawing(
        LOCALIZATION,
        f"Pairs: what the network sees, and over it the map for that frame and the second of sound "
        f"around it. Box: what sounds, annotated. Ring: the map's maximum, a hit if it is in the "
        f"box: {len(hits)} of {len(judged)} frames. {min(NUM_HITS, len(hits))} hits and "
        f"{min(NUM_MISSES, len(misses))} misses are shown, drawn at random (our choice).",
        figure,
        [_sound(frame.annotation.label or frame.example_id, frame.waveform) for frame, *_ in shown],
    )


def _judged(localizer: Localizer, frame: SoundingFrame):
    """Returns frame, image, view, map and whether its maximum is in the annotated region."""
    image, view = localizer.see(frame.jpeg)
    heat = localizer.maps([image], [frame.waveform])[0]
    point = view.to_frame(heat_map.peak(heat, image.shape[:2]))
    return frame, image, view, heat, localization.is_hit(point, frame.annotation.boxes)


def _drawn(items: Sequence, count: int, rng: np.random.Generator) -> list:
    """Draws some, in their own order."""
    num = min(count, len(items))
    drawn = rng.choice(len(items), num, replace=False).tolist() if items else []
    return [items[index] for index in sorted(drawn)]


def _mark(
    axes: matplotlib.axes.Axes, heat: np.ndarray, image: np.ndarray, boxes: np.ndarray
) -> None:
    """Draws the annotated boxes, and a ring at the map's maximum."""
    height, width = image.shape[:2]
    for ymin, xmin, ymax, xmax in boxes:
        corner = (xmin * width - 0.5, ymin * height - 0.5)
        size = ((xmax - xmin) * width, (ymax - ymin) * height)
        axes.add_patch(
            matplotlib.patches.Rectangle(corner, *size, fill=False, edgecolor="white", lw=1.2)
        )
    y, x = heat_map.peak(heat, image.shape[:2])
    axes.plot(x * width, y * height, "o", mfc="none", mec="white", mew=1.4, ms=2 * _RING)


# --- OTS Fig. 6 ----------------------------------------------------------------------------------
def draw_sounds(
    localizer: Localizer, frames: Sequence[SoundingFrame], data: str, *, seed: int
) -> drawings.Drawing:
    """Draws one frame with its own sound and with sounds of other classes, row by row.

    The seed draws frames and sounds (our choice); `data` names them in the title.

    Raises:
        UserError: if the frames are of fewer than two classes.
    """
    by_class: dict[str, list[SoundingFrame]] = {}
    for frame in frames:
        by_class.setdefault(frame.annotation.label, []).append(frame)
    if len(by_class) < 2:
        raise UserError(f"{data} is of one class; need sounds of other classes")
    rng = np.random.default_rng(seed)
    rows = _drawn(frames, NUM_FRAMES, rng)
    num_sounds = min(NUM_SOUNDS, len(by_class))
    size = (_INCHES * (1 + num_sounds) + 1.1, (_INCHES + 0.45) * len(rows) + 0.5)
    figure, grid = drawings.new_grid(len(rows), 1 + num_sounds, *size)
    sounds = []
    for frame, line in zip(rows, grid, strict=True):
        image, _ = localizer.see(frame.jpeg)
        others = _drawn([n for n in by_class if n != frame.annotation.label], num_sounds - 1, rng)
        played = [frame, *(by_class[name][rng.integers(len(by_class[name]))] for name in others)]
        maps = localizer.maps([image] * len(played), [one.waveform for one in played])
        drawings.show_image(line[0], image, f"frame: {_short(frame)}")
        for one, heat, axes in zip(played, maps, line[1:], strict=True):
            drawings.show_image(axes, localizer.paint(image, heat))
            axes.set_title(f"\N{EIGHTH NOTE} {_short(one)}\nmaximum {heat.max():.2f}")
            sounds.append(_sound(f"{_short(one)}, on the frame of {_short(frame)}", one.waveform))
    drawings.colour_bar(figure, grid, "probability of correspondence")
    figure.suptitle(f"One frame, several sounds: {data}")
    return drawings.Drawing(
        SOUNDS,
        "Rows: a frame, and over it AVOL-Net's map for its own sound (first) and for sounds of "
        "other classes. Above each map: the class that is heard, and the map's largest value, the "
        "probability that frame and sound correspond. Where it is small, the network sees nothing "
        "that makes this sound. Frames and sounds were drawn at random (our choice).",
        figure,
        sounds,
    )


def _short(frame: SoundingFrame) -> str:
    return frame.annotation.label.split(",")[0]


# --- OTS Fig. 7 ----------------------------------------------------------------------------------
def draw_video(localizer: Localizer, source: ClipSource) -> drawings.Drawing:
    """Draws frames of single videos, a second apart, with their maps; the seed draws the videos.

    Raises:
        UserError: if the folder has no such split.
    """
    shards = clips.nonempty_shards(source.shards, source.split)
    num_clips = sum(shard.num_clips for shard in shards)
    rng = np.random.default_rng(source.seed)
    title_of = titles_by(source.truth[saved_model.AUDIO] if source.truth else None)
    wanted = set(rng.choice(num_clips, min(NUM_VIDEOS, num_clips), replace=False).tolist())
    chosen = [clip for n, clip in enumerate(read_clips(shards)) if n in wanted]
    columns = [_seconds_of(localizer, clip) for clip in chosen]
    num_rows = max(len(column) for column in columns)
    num_columns = 2 * len(columns)
    figure, grid = drawings.new_grid(
        num_rows, num_columns, _INCHES * num_columns + 1.1, (_INCHES + 0.05) * num_rows + 0.9
    )
    sounds = []
    for number, (clip, column) in enumerate(zip(chosen, columns, strict=True)):
        for row, (time, image, heat) in enumerate(column):
            title = title_of(clip) if row == 0 else ""
            drawings.show_image(grid[row, 2 * number], image, title)
            drawings.show_image(
                grid[row, 2 * number + 1], localizer.paint(image, heat), f"{time:.1f} s"
            )
        sounds.append(_sound(title_of(clip), clip.waveform))
    drawings.colour_bar(figure, grid, "probability of correspondence")
    figure.suptitle(f"AVOL-Net along videos: {source.title}")
    return drawings.Drawing(
        VIDEO,
        "Each pair of columns: frames of one video, one second apart, and AVOL-Net's maps for each "
        "with the second of sound around it. Every frame goes through the network by itself. "
        "Videos were drawn at random (our choice). `python -m l3net.localize` draws a complete "
        "video.",
        figure,
        sounds,
    )


def _seconds_of(
    localizer: Localizer, clip: schema.Clip
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Returns time, image and map of frames of a clip, a second apart."""
    times = (np.array(clip.timestamps_us) - clip.start_us) / constants.MICROSECONDS
    seconds = (clip.end_us - clip.start_us) / constants.MICROSECONDS
    wanted = np.arange(0.5, seconds - 0.5 + 1e-6)[:NUM_SECONDS]
    indices = [int(np.abs(times - time).argmin()) for time in wanted]
    images = [localizer.see(clip.frames[index])[0] for index in indices]
    waveforms = [sounding_frames.second_around(clip.waveform, times[index]) for index in indices]
    maps = localizer.maps(images, waveforms)
    return [(float(times[k]), *pair) for k, *pair in zip(indices, images, maps, strict=True)]


# --- Both ----------------------------------------------------------------------------------------
def _sound(title: str, waveform: np.ndarray) -> drawings.Sound:
    return drawings.Sound(title, waveform.astype(np.float32) / schema.INT16_SCALE)


def titles_by(truth: Mapping[str, str] | None) -> Callable[[schema.Clip], str]:
    """Returns a function that names a clip: by `truth`, example id -> name, else by its label."""

    def title_of(clip: schema.Clip) -> str:
        name = truth.get(clip.example_id) if truth else next(iter(clip.labels), None)
        return (name or clip.example_id).split(",")[0]

    return title_of
