"""AVOL-Net's maps along a video, and its frames with the maps over them (OTS §4, Fig. 7)."""

import contextlib
import dataclasses
import io
import itertools
import math
import pathlib
from collections.abc import Generator, Iterable, Iterator

import numpy as np
from PIL import Image

from l3net import constants
from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.media import ffmpeg, heat_map, images, sound, tracks
from l3net.progress import progress

PROBABILITY, STRETCHED = SCALES = ("probability", "stretched")
BLEND, HOLD = BETWEEN = ("blend", "hold")
_MAX_RATE_HZ = 120.0
_BATCH_SIZE = 8


@dataclasses.dataclass(frozen=True)
class Settings(tracks.Tracks):
    """How the video is made."""

    frame_rate_hz: float = setting(
        float(constants.FRAME_RATE_HZ), "Frames per second of the new video, up to 120."
    )
    maps_per_second: float = setting(
        10.0, "How many times a second the network looks and listens, up to 120 (our choice)."
    )
    between: str = setting(
        BLEND,
        "Maps between two such times: blended from both, or the last one held.",
        choices=BETWEEN,
    )
    scale: str = setting(
        PROBABILITY,
        "What the colours span: probabilities from 0 to 1, the same in every video, or this "
        "video's lowest to highest value.",
        choices=SCALES,
    )
    opacity: float = setting(
        heat_map.DEFAULT_OPACITY,
        "Share of the colour at the upper end of the scale, 0 to 1; none at the lower end.",
    )
    colour_map: str = setting(
        heat_map.DEFAULT_COLOUR_MAP, "Name of one of matplotlib's colour maps."
    )
    smallest_side_px: int | None = setting(
        None,
        "Smallest side of the new video in pixels; without it pictures keep their size.",
        at_least=16,
        at_most=4320,
    )
    start_seconds: float = setting(0.0, "Second of the file at which to begin.")
    seconds: float | None = setting(None, "Seconds to take; without it to the end of the file.")

    def check(self) -> None:
        """Raises UserError if a value is invalid."""
        for name in ("frame_rate_hz", "maps_per_second"):
            rate_hz = getattr(self, name)
            if not 0 < rate_hz <= _MAX_RATE_HZ:
                raise UserError(
                    f"--{name}={rate_hz}: need more than 0 and at most {_MAX_RATE_HZ:g}"
                )
        if not 0 <= self.start_seconds < math.inf:
            raise UserError(f"--start_seconds={self.start_seconds}: need 0 or more")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UserError(f"--seconds={self.seconds}: need more than 0")
        self.painter(0.0, 1.0)

    def painter(self, low: float, high: float) -> heat_map.Painter:
        """Returns what paints values from `low` to `high`."""
        return heat_map.Painter(
            low=low, high=high, colour_map=self.colour_map, opacity=self.opacity
        )


@dataclasses.dataclass(frozen=True)
class Maps:
    """The maps of a video.

    Attributes:
        values: float32 [T, rows, columns], probabilities; may be on disk.
        times_seconds: float64 [T], on the file's own time line.
        seen_px: height and width of the picture that the network saw.
    """

    values: np.ndarray
    times_seconds: np.ndarray
    seen_px: tuple[int, int]

    def at(self, time_seconds: float, between: str = BLEND) -> np.ndarray:
        """Returns the map at a time, float32 [rows, columns]; beyond the ends the nearest one.

        `BLEND` is linear between the two maps around the time, `HOLD` takes the earlier.
        """
        # Rounded: 0.3 is a little less than the time of map 3 at ten a second.
        after = int(np.searchsorted(self.times_seconds, time_seconds + 1e-6, side="right"))
        first = min(max(after - 1, 0), len(self.values) - 1)
        second = min(after, len(self.values) - 1)
        if between == HOLD or second <= first:
            return self.values[first]
        step = self.times_seconds[second] - self.times_seconds[first]
        share = np.float32(np.clip((time_seconds - self.times_seconds[first]) / step, 0.0, 1.0))
        return (1 - share) * self.values[first] + share * self.values[second]


# --- Maps ----------------------------------------------------------------------------------------
def make_maps(
    model: saved_model.SavedModel,
    video: str | pathlib.Path,
    settings: Settings,
    spool: io.IOBase,
) -> Maps:
    """Runs AVOL-Net along a video; the maps are in `spool`, an empty file opened for both ways.

    Raises UserError if the network cannot localize or the video gives no picture or no sound.
    """
    run = model.localization()
    shape: tuple[int, ...] = ()
    seen_px, num_maps = (0, 0), 0
    total = math.ceil((settings.seconds or 0.0) * settings.maps_per_second) or None
    pairs = _pairs(video, images.uncropped_px(model.frame_px), settings)
    shown = progress("looking and listening", unit="map", total=total)
    with contextlib.closing(pairs), shown as bar:
        while batch := list(itertools.islice(pairs, _BATCH_SIZE)):
            frames, waveforms = (np.stack(column) for column in zip(*batch, strict=True))
            heat = run({saved_model.IMAGE: frames, saved_model.WAVEFORM: waveforms})
            spool.write(np.ascontiguousarray(heat, "<f4").tobytes())
            shape, num_maps = heat.shape[1:], num_maps + len(heat)
            seen_px = (frames.shape[1], frames.shape[2])
            bar.advance(len(heat))
    if not num_maps:
        raise UserError(f"{video}: no picture after --start_seconds={settings.start_seconds:g}")
    spool.flush()
    values = np.memmap(spool, "<f4", "r", shape=(num_maps, *shape))
    times = settings.start_seconds + np.arange(num_maps) / settings.maps_per_second
    return Maps(values, times, seen_px)


def _pairs(
    video: str | pathlib.Path, smallest_side_px: int, settings: Settings
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yields (image uint8 [height, width, 3], waveform float32 [48000]) at each map's time.

    The image is at the scale that the network was trained on, without the crop.
    """
    sound_start = max(0.0, settings.start_seconds - constants.AUDIO_SECONDS / 2)
    lead_seconds = settings.start_seconds - sound_start
    seconds = settings.seconds
    frames = _frames(video, settings.maps_per_second, smallest_side_px, settings)
    blocks = ffmpeg.stream_audio(
        video,
        start_seconds=sound_start,
        seconds=None if seconds is None else seconds + 2 * constants.AUDIO_SECONDS,
        track=settings.audio_track,
    )
    times = (lead_seconds + k / settings.maps_per_second for k in itertools.count())
    with contextlib.closing(frames), contextlib.closing(blocks):
        # The sound last: `zip` stops at the end of the pictures without waiting for more sound.
        yield from zip(frames, sound.seconds_around(blocks, times), strict=False)


def _frames(
    video: str | pathlib.Path, rate_hz: float, smallest_side_px: int | None, settings: Settings
) -> Generator[np.ndarray, None, None]:
    frames = ffmpeg.stream_frames(
        video,
        frame_rate_hz=rate_hz,
        smallest_side_px=smallest_side_px,
        start_seconds=settings.start_seconds,
        seconds=settings.seconds,
        track=settings.video_track,
    )
    with contextlib.closing(frames):
        yield from _of_one_size(frames)


def _of_one_size(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Resizes frames like the first one: a broadcast may change its size half-way."""
    shape = None
    for frame in frames:
        shape = frame.shape if shape is None else shape
        if frame.shape != shape:
            frame = np.asarray(Image.fromarray(frame).resize((shape[1], shape[0])))
        yield frame


# --- Pictures ------------------------------------------------------------------------------------
def painted_frames(
    video: str | pathlib.Path, maps: Maps, settings: Settings
) -> Iterator[np.ndarray]:
    """Yields the video's frames, uint8 [height, width, 3] RGB, with the maps over them."""
    low, high = 0.0, 1.0
    if settings.scale == STRETCHED:
        low, high = float(maps.values.min()), float(maps.values.max())
    painter = settings.painter(low, high)
    frames = _frames(video, settings.frame_rate_hz, settings.smallest_side_px, settings)
    total = round(len(maps.values) * settings.frame_rate_hz / settings.maps_per_second)
    shown = progress("painting", unit="frame", total=total)
    with contextlib.closing(frames), shown as bar:
        for number, frame in enumerate(frames):
            time_seconds = settings.start_seconds + number / settings.frame_rate_hz
            yield painter.paint(frame, maps.at(time_seconds, settings.between), maps.seen_px)
            bar.advance()


# --- Tables --------------------------------------------------------------------------------------
def as_arrays(maps: Maps) -> dict[str, np.ndarray]:
    """Returns `map` [T, rows, columns], `corresponds` [T] (maxima), `times_seconds`, `seen_px`."""
    return {
        "map": maps.values,
        "corresponds": maps.values.max(axis=(1, 2)),
        "times_seconds": maps.times_seconds,
        "seen_px": np.array(maps.seen_px),
    }


def as_rows(maps: Maps) -> Iterator[tuple[str, str, str, str]]:
    """Yields each map's time, its maximum, and y and x of the maximum in shares of the picture."""
    for time_seconds, heat in zip(maps.times_seconds, maps.values, strict=True):
        y, x = heat_map.peak(heat, maps.seen_px)
        yield f"{time_seconds:.3f}", f"{heat.max():.6f}", f"{y:.4f}", f"{x:.4f}"
