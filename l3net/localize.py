r"""Where is what sounds? AVOL-Net's map drawn over your own video, its sound kept (OTS §4, Fig. 7).

    python -m l3net.localize --saved_model=runs/demo/avol_net/saved_model \
        --video=in.mp4 --out=out.mp4

Ten times a second (our choice) the network sees the full picture, scaled as in training but not
cropped, and hears the second of sound around it, moved inwards at the ends of the sound as in
eval.localization. The map between two such times is blended from both, or held with
--between=hold.

The colours stand for probabilities from 0 to 1, the same in every video: no colour says "nothing
here makes this sound". --scale=stretched takes the lowest and the highest value of this video
instead; then some colour is always there, and colours of two videos cannot be compared.

The file is read twice, so its length does not matter for memory, but the .mp4 appears only when it
is complete.
"""

import contextlib
import dataclasses
import io
import logging
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

from l3net import files, flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.inference import saved_model, video_maps
from l3net.media import ffmpeg, video_writer

_LACKING = "the map shows where what is heard can be seen, so it needs both"
_ADVICE = {"no_audio": f"no sound; {_LACKING}", "no_video": f"no picture; {_LACKING}"}

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is read and written."""

    saved_model: str = setting(REQUIRED, "Folder of an AVOL-Net that l3net.export wrote.")
    video: str = setting(
        REQUIRED, "File with picture and sound, of any length and size.", any_name=True
    )
    out: str = setting(REQUIRED, "The .mp4 to write, replaced if it exists.")
    npz: str | None = setting(
        None,
        "The .npz for all maps: map float32 [T, rows, columns], corresponds [T] (their maxima), "
        "times_seconds [T], seen_px.",
    )
    csv: str | None = setting(
        None,
        "The .csv for a line per map: time_seconds, corresponds (its maximum), y and x of the "
        "maximum in shares of the picture.",
    )


def localize(config: Config, settings: video_maps.Settings) -> video_maps.Maps:
    """Draws where the network sees what it hears over a video; returns the maps.

    Raises UserError if the video lacks picture or sound or cannot be decoded to its end, the
    network cannot localize, a setting is invalid or a file cannot be written.
    """
    video, out = pathlib.Path(config.video), pathlib.Path(config.out)
    settings.check()
    _check_paths(video, out, config)
    model = saved_model.SavedModel(config.saved_model)
    with ffmpeg.in_plain_words(_ADVICE), tempfile.TemporaryFile() as spool:
        maps = video_maps.make_maps(model, video, settings, spool)
        out.parent.mkdir(parents=True, exist_ok=True)
        video_writer.write_video(
            out,
            video_maps.painted_frames(video, maps, settings),
            sound_of=video,
            frame_rate_hz=settings.frame_rate_hz,
            start_seconds=settings.start_seconds,
            seconds=settings.seconds,
            audio_track=settings.audio_track,
        )
        maps = dataclasses.replace(maps, values=np.array(maps.values))
    if config.npz is not None:
        data = io.BytesIO()
        np.savez_compressed(data, **video_maps.as_arrays(maps))
        with _one_line(config.npz):
            files.write_whole(config.npz, data.getvalue())
    if config.csv is not None:
        with _one_line(config.csv):
            columns = ("time_seconds", "corresponds", "y", "x")
            files.write_csv(config.csv, columns, video_maps.as_rows(maps))
    highest = float(maps.values.max())
    _log.info("%s: %d maps, highest probability %.3f", out, len(maps.values), highest)
    return maps


def _check_paths(video: pathlib.Path, out: pathlib.Path, config: Config) -> None:
    """Refuses what cannot be read, and what must not be written."""
    if not video.is_file():
        raise UserError(f"--video={video} is {'a folder' if video.is_dir() else 'not there'}")
    if out.suffix.lower() != ".mp4":
        raise UserError(f"--out={out}: need a name that ends in .mp4")
    for path in (out, *(pathlib.Path(path) for path in (config.npz, config.csv) if path)):
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file to write")
        if path.exists() and path.samefile(video):
            raise UserError(f"{path} is the video itself; it would be written over")


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


if __name__ == "__main__":
    flags.run(localize, Config, video_maps.Settings)
