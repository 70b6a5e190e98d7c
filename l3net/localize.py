"""Where is what sounds? AVOL-Net's map drawn over your own video, its sound kept (OTS §4, Fig. 7).

    python -m l3net.localize --saved_model=runs/demo_avol_net/saved_model \
        --video=in.mp4 --out=out.mp4

Ten times a second (ours) the network sees the whole picture, scaled as in training but not
cropped, and hears the second of sound around it, moved inwards at the ends of the sound as in
eval.localization. The map between two such times is blended from both, or held with
--between=hold.

The colours stand for probabilities from 0 to 1, the same in every video: no colour says "nothing
here makes this sound". --scale=stretched takes the lowest and the highest value of this video
instead; then some colour is always there, and colours of two videos cannot be compared.

The file is read twice, so its length does not matter for memory, but the .mp4 appears only when it
is whole.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import logging
import math
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tqdm
from absl import flags
from PIL import Image

from l3net import constants, errors, files
from l3net.data import schema
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.media import ffmpeg, heat_map, video_writer
from l3net.media import images as media

PROBABILITY, STRETCHED = SCALES = ("probability", "stretched")
BLEND, HOLD = BETWEEN = ("blend", "hold")
_MAX_RATE_HZ = 120.0
_MISSING = {
    "no_audio": "no sound; the map shows where what is heard can be seen, so it needs both",
    "no_video": "no picture; the map shows where what is heard can be seen, so it needs both",
}

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the video is made; see the flags."""

    frame_rate_hz: float = float(constants.FRAME_RATE_HZ)
    maps_per_second: float = 10.0
    between: str = BLEND
    scale: str = PROBABILITY
    opacity: float = heat_map.DEFAULT_OPACITY
    colour_map: str = heat_map.DEFAULT_COLOUR_MAP
    smallest_side_px: int | None = None
    start_seconds: float = 0.0
    seconds: float | None = None
    quality: int = video_writer.DEFAULT_QUALITY


@dataclasses.dataclass(frozen=True)
class Maps:
    """The maps of a video.

    Attributes:
        values: float32 [T, rows, columns], probabilities; may lie on disk.
        times_seconds: float64 [T], on the file's own time line.
        seen_px: height and width of the picture that the network saw.
    """

    values: np.ndarray
    times_seconds: np.ndarray
    seen_px: tuple[int, int]

    def at(self, time_seconds: float, between: str = BLEND) -> np.ndarray:
        """Returns the map at a time, float32 [rows, columns].

        Args:
            time_seconds: on the file's own time line; before the first map that one holds, after
                the last map that one.
            between: `BLEND` is linear between the two maps around it, `HOLD` takes the earlier.
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


# --- The whole way -------------------------------------------------------------------------------
def localize(
    video: str | pathlib.Path,
    *,
    saved_model_dir: str | pathlib.Path,
    out: str | pathlib.Path,
    settings: Settings | None = None,
    npz: str | pathlib.Path | None = None,
    csv_path: str | pathlib.Path | None = None,
    batch_size: int = 8,
) -> Maps:
    """Draws where the network sees what it hears over a video.

    Args:
        video: any file that ffmpeg reads, with picture and sound.
        saved_model_dir: of an AVOL-Net.
        out: .mp4 to write, replaced if it exists.
        settings: None takes the defaults.
        npz: if given, all maps go there, see `write_npz`.
        csv_path: if given, the highest place of each map goes there, see `write_csv`.
        batch_size: pictures that go through the network at once.

    Returns:
        The maps.

    Raises:
        UserError: if the video lacks picture or sound or cannot be decoded to its end, the network
            cannot localize, a setting is nonsense or a file cannot be written.
    """
    settings = Settings() if settings is None else settings
    _check_settings(settings)
    video, out = pathlib.Path(video), pathlib.Path(out)
    others = [pathlib.Path(path) for path in (npz, csv_path) if path is not None]
    _check_paths(video, out, others)
    # Nonsense is told before the network has worked.
    heat_map.Painter(colour_map=settings.colour_map, opacity=settings.opacity)
    model = saved_model.SavedModel(saved_model_dir)
    with media.in_plain_words(_MISSING), tempfile.TemporaryFile() as spool:
        maps = make_maps(model, video, settings, spool=spool, batch_size=batch_size)
        out.parent.mkdir(parents=True, exist_ok=True)
        video_writer.write_video(
            out,
            _painted(video, maps, settings),
            sound_of=video,
            frame_rate_hz=settings.frame_rate_hz,
            start_seconds=settings.start_seconds,
            seconds=settings.seconds,
            quality=settings.quality,
        )
        maps = dataclasses.replace(maps, values=np.array(maps.values))
    if npz is not None:
        write_npz(npz, maps)
    if csv_path is not None:
        write_csv(csv_path, maps)
    highest = float(maps.values.max())
    _log.info("%s: %d maps, highest probability %.3f", out, len(maps.values), highest)
    return maps


def _check_settings(settings: Settings) -> None:
    for name in ("frame_rate_hz", "maps_per_second"):
        rate_hz = getattr(settings, name)
        if not 0 < rate_hz <= _MAX_RATE_HZ:
            raise UserError(f"--{name}={rate_hz}: need more than 0 and at most {_MAX_RATE_HZ:g}")
    if not 0 <= settings.start_seconds < math.inf:
        raise UserError(f"--start_seconds={settings.start_seconds}: need 0 or more")
    if settings.seconds is not None and not 0 < settings.seconds < math.inf:
        raise UserError(f"--seconds={settings.seconds}: need more than 0")


def _check_paths(video: pathlib.Path, out: pathlib.Path, others: Sequence[pathlib.Path]) -> None:
    """Refuses what cannot be read, and what must not be written."""
    if not video.is_file():
        raise UserError(f"--video={video} is {'a folder' if video.is_dir() else 'not there'}")
    if out.suffix.lower() != ".mp4":
        raise UserError(f"--out={out}: need a name that ends in .mp4")
    for path in (out, *others):
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file to write")
        if path.exists() and path.samefile(video):
            raise UserError(f"{path} is the video itself; it would be written over")


# --- Maps ----------------------------------------------------------------------------------------
def make_maps(
    model: saved_model.SavedModel,
    video: str | pathlib.Path,
    settings: Settings,
    *,
    spool: io.IOBase,
    batch_size: int = 8,
) -> Maps:
    """Runs AVOL-Net along a video.

    Args:
        model: with a signature `localize`.
        video: with picture and sound.
        settings: of which times and rates count.
        spool: an empty file opened for writing and reading, where the maps go; they stay usable as
            long as it is open.
        batch_size: pictures that go through the network at once.

    Returns:
        The maps.

    Raises:
        UserError: if the network cannot localize or the video gives no picture or no sound.
    """
    run = model.localization()
    shape, seen_px = (0, 0), (0, 0)
    pairs = _pairs(video, model.frame_px, settings)
    num_maps = 0
    with contextlib.closing(pairs), _bar("looking and listening", "map", _total(settings)) as bar:
        while batch := list(itertools.islice(pairs, batch_size)):
            images, waveforms = (np.stack(column) for column in zip(*batch, strict=True))
            heat = run({saved_model.IMAGE: images, saved_model.WAVEFORM: waveforms})
            spool.write(np.ascontiguousarray(heat, "<f4").tobytes())
            shape, seen_px, num_maps = heat.shape[1:], images.shape[1:3], num_maps + len(heat)
            bar.update(len(heat))
    if not num_maps:
        raise UserError(f"{video}: no picture after --start_seconds={settings.start_seconds:g}")
    spool.flush()
    values = np.memmap(spool, "<f4", "r", shape=(num_maps, *shape))
    times = settings.start_seconds + np.arange(num_maps) / settings.maps_per_second
    return Maps(values, times, seen_px)


def _total(settings: Settings) -> int | None:
    return settings.seconds and math.ceil(settings.seconds * settings.maps_per_second)


def _pairs(
    video: str | pathlib.Path, frame_px: int, settings: Settings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (image uint8 [height, width, 3], waveform float32 [48000]) at each map's time."""
    sound_start = max(0.0, settings.start_seconds - constants.AUDIO_SECONDS / 2)
    lead_seconds = settings.start_seconds - sound_start
    seconds = settings.seconds
    frames = ffmpeg.stream_frames(
        video,
        frame_rate_hz=settings.maps_per_second,
        # The scale that the network was trained on, without the crop.
        smallest_side_px=round(frame_px * constants.SMALLEST_SIDE_PX / constants.FRAME_PX),
        start_seconds=settings.start_seconds,
        seconds=seconds,
    )
    blocks = ffmpeg.stream_audio(
        video,
        start_seconds=sound_start,
        seconds=None if seconds is None else seconds + 2 * constants.AUDIO_SECONDS,
    )
    times = (lead_seconds + k / settings.maps_per_second for k in itertools.count())
    with contextlib.closing(frames), contextlib.closing(blocks):
        # The sound last: `zip` stops at the end of the pictures without waiting for more sound.
        yield from zip(_of_one_size(frames), seconds_around(blocks, times), strict=False)


def _of_one_size(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Resizes frames like the first one: a broadcast may change its size half-way."""
    size = None
    for frame in frames:
        size = frame.shape if size is None else size
        if frame.shape != size:
            frame = np.asarray(Image.fromarray(frame).resize(size[1::-1]))
        yield frame


def seconds_around(
    blocks: Iterator[np.ndarray], times_seconds: Iterable[float]
) -> Iterator[np.ndarray]:
    """Cuts the second of sound centred on each time out of a stream.

    At the ends of the sound the second is moved inwards, by half a second at most, as in the
    papers' evaluation; where there is no sound at all it is silence.

    Args:
        blocks: int16 [samples] each, 48 kHz mono.
        times_seconds: from the sound's first sample, rising.

    Yields:
        float32 [48000] in [-1, 1]; one second and one block are held.
    """
    length = constants.AUDIO_SAMPLES
    held, first, has_ended = np.zeros(0, np.int16), 0, False
    for time_seconds in times_seconds:
        centre = round(time_seconds * constants.SAMPLE_RATE_HZ)
        start = max(0, centre - length // 2)
        while not has_ended and first + len(held) < start + length:
            block = next(blocks, None)
            if block is None:
                has_ended = True
            else:
                drop = min(max(0, start - length - first), len(held))
                held, first = np.concatenate([held[drop:], block]), first + drop
        end = first + len(held)
        if has_ended and centre <= end:
            start = max(0, min(start, end - length))
        window = held[max(0, start - first) :][:length]
        yield np.pad(window, (0, length - len(window))).astype(np.float32) / schema.INT16_SCALE


# --- Pictures ------------------------------------------------------------------------------------
def _painted(video: str | pathlib.Path, maps: Maps, settings: Settings) -> Iterator[np.ndarray]:
    """Yields the video's frames with the maps over them."""
    low, high = 0.0, 1.0
    if settings.scale == STRETCHED:
        low, high = float(maps.values.min()), float(maps.values.max())
    painter = heat_map.Painter(
        low=low, high=high, colour_map=settings.colour_map, opacity=settings.opacity
    )
    frames = ffmpeg.stream_frames(
        video,
        frame_rate_hz=settings.frame_rate_hz,
        smallest_side_px=settings.smallest_side_px,
        start_seconds=settings.start_seconds,
        seconds=settings.seconds,
    )
    total = round(len(maps.values) * settings.frame_rate_hz / settings.maps_per_second)
    with contextlib.closing(frames), _bar("painting", "frame", total) as bar:
        for number, frame in enumerate(_of_one_size(frames)):
            time_seconds = settings.start_seconds + number / settings.frame_rate_hz
            yield painter.paint(frame, maps.at(time_seconds, settings.between), maps.seen_px)
            bar.update()


def _bar(what: str, unit: str, total: int | None) -> tqdm.tqdm:
    seconds = 0.1 if sys.stderr.isatty() else 30.0  # a log file needs no more
    return tqdm.tqdm(
        desc=what, unit=unit, total=total, mininterval=seconds, dynamic_ncols=True, delay=2
    )


# --- Tables --------------------------------------------------------------------------------------
def write_npz(path: str | pathlib.Path, maps: Maps) -> None:
    """Writes all maps.

    Args:
        path: of the .npz; its arrays are `map` float32 [T, rows, columns] in [0, 1], `corresponds`
            float32 [T], each map's maximum, `times_seconds` float64 [T] and `seen_px`, height and
            width of the picture that the network saw.
        maps: of a video.

    Raises:
        UserError: if it cannot be written.
    """
    arrays = {
        "map": maps.values,
        "corresponds": maps.values.max(axis=(1, 2)),
        "times_seconds": maps.times_seconds,
        "seen_px": np.array(maps.seen_px),
    }
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    with _told(path):
        files.write_whole(path, data.getvalue())


def write_csv(path: str | pathlib.Path, maps: Maps) -> None:
    """Writes a line per map: its time, its maximum and where that is.

    Args:
        path: of the .csv; its columns are time_seconds, corresponds (the map's maximum: the
            probability that picture and sound correspond), y and x (shares of the picture).
        maps: of a video.

    Raises:
        UserError: if it cannot be written.
    """
    rows = []
    for time_seconds, heat in zip(maps.times_seconds, maps.values, strict=True):
        y, x = heat_map.peak(heat, maps.seen_px)
        rows.append((f"{time_seconds:.3f}", f"{heat.max():.6f}", f"{y:.4f}", f"{x:.4f}"))
    with _told(path):
        files.write_csv(path, ("time_seconds", "corresponds", "y", "x"), rows)


@contextlib.contextmanager
def _told(path: str | pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


# --- Entry ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are keywords of `localize` and fields of `Settings`."""
    return {
        "saved_model_dir": flags.DEFINE_string(
            "saved_model", None, "Folder of an AVOL-Net that l3net.export wrote.", required=True
        ),
        "video": flags.DEFINE_string(
            "video", None, "File with picture and sound, of any length and size.", required=True
        ),
        "out": flags.DEFINE_string(
            "out", None, "The .mp4 to write, replaced if it exists.", required=True
        ),
        "npz": flags.DEFINE_string("npz", None, "Where to write all maps with their times."),
        "csv_path": flags.DEFINE_string(
            "csv", None, "Where to write each map's time, maximum and the maximum's place."
        ),
        "frame_rate_hz": flags.DEFINE_float(
            "frame_rate_hz", float(constants.FRAME_RATE_HZ), "Of the new video, up to 120."
        ),
        "maps_per_second": flags.DEFINE_float(
            "maps_per_second", 10.0, "How often the network looks and listens, up to 120 (ours)."
        ),
        "between": flags.DEFINE_enum(
            "between", BLEND, BETWEEN, "Maps between two such times: blended, or the last one held."
        ),
        "scale": flags.DEFINE_enum(
            "scale",
            PROBABILITY,
            SCALES,
            "What the colours span: probabilities from 0 to 1, or this video's lowest and highest "
            "value.",
        ),
        "opacity": flags.DEFINE_float(
            "opacity",
            heat_map.DEFAULT_OPACITY,
            "Share of the colour at the upper end of the scale, 0 to 1; none at the lower end.",
        ),
        "colour_map": flags.DEFINE_string(
            "colour_map", heat_map.DEFAULT_COLOUR_MAP, "One of matplotlib's."
        ),
        "smallest_side_px": flags.DEFINE_integer(
            "smallest_side_px",
            None,
            "Scale the new video's pictures to it; else they keep their size.",
            lower_bound=16,
            upper_bound=4320,
        ),
        "start_seconds": flags.DEFINE_float("start_seconds", 0.0, "Where in the file to begin."),
        "seconds": flags.DEFINE_float("seconds", None, "How much to take; else to the end."),
        "quality": flags.DEFINE_integer(
            "quality",
            video_writer.DEFAULT_QUALITY,
            "x264's constant rate factor: 0 loses nothing, 51 is the smallest file.",
            lower_bound=0,
            upper_bound=51,
        ),
        "batch_size": flags.DEFINE_integer(
            "batch_size", 8, "Pictures that go through the network at once.", lower_bound=1
        ),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and draws."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; settings are flags, see --help")
    values = {keyword: holder.value for keyword, holder in holders.items()}
    settings = {field.name: values.pop(field.name) for field in dataclasses.fields(Settings)}
    localize(values.pop("video"), settings=Settings(**settings), **values)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
