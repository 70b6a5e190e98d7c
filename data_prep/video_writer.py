"""New pictures for a video that keeps its sound: frames stream in, an .mp4 of any length comes out.

The sound is decoded by one ffmpeg process under the rules for files from strangers
(data_prep/ffmpeg_process.py), laid on the time line of data_prep/ffmpeg.py and kept on disk until
the frames come; the encoder gets nothing but samples and pixels.
"""

import contextlib
import itertools
import math
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from data_prep import ffmpeg_process
from data_prep.ffmpeg_process import MediaError, find_ffmpeg
from l3net import constants
from l3net.errors import UserError

NUM_CHANNELS = 2
DEFAULT_QUALITY = 20
_BYTES_PER_SAMPLE = 2 * NUM_CHANNELS
_MARGIN_SECONDS = 1.0
_MAX_LATE_SECONDS = 3600.0
_SILENCE_SAMPLES = 1 << 14  # at a time
_PIPE_BYTES = 1 << 20  # of raw frames; Linux's limit for everyone
# Of one channel both become copies at full level (ffmpeg's own way makes them 3 dB quieter); of
# surround sound, centre and back are mixed in.
_STEREO = "pan=stereo|FL<FL+0.707FC+0.707BL+0.707SL|FR<FR+0.707FC+0.707BR+0.707SR"
# Untagged HD is taken for BT.709 by players, and rgb24 turned into BT.601 by ffmpeg: say which.
_COLOURS = (
    "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
    "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
)


def write_video(
    path: str | pathlib.Path,
    frames: Iterable[np.ndarray],
    *,
    sound_of: str | pathlib.Path,
    frame_rate_hz: float,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    quality: int = DEFAULT_QUALITY,
) -> int:
    """Writes an .mp4 (H.264, AAC) of new pictures and a file's own sound, whole or not at all.

    Frame k is shown at k / frame_rate_hz, when the sound of `start_seconds + k / frame_rate_hz`
    is heard. The sound is encoded anew, 48 kHz stereo; where it starts late, silence goes before
    it. Frames of odd height or width get their last row or column twice, as H.264 wants.

    Args:
        path: of the .mp4; its folder exists. About 0.7 GB an hour is needed beside it meanwhile.
        frames: uint8 [height, width, 3] each, RGB, all of one size; at least one.
        sound_of: a video or sound file; not `path`.
        frame_rate_hz: of the frames.
        start_seconds: where the sound begins, on its file's own time line.
        seconds: length of the sound; None goes to the end.
        quality: x264's constant rate factor, 0 (lossless) to 51.

    Returns:
        The number of frames.

    Raises:
        MediaError: if the sound cannot be decoded to its end.
        UserError: if ffmpeg is missing or fails (it may lack x264), or the disk is full.
    """
    path = pathlib.Path(path)
    # Always the same names: what a killed run left is written over.
    partial, pcm = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.pcm.tmp")
    try:
        with open(pcm, "wb") as file:
            file.writelines(_sound(sound_of, start_seconds, seconds))
        num_frames = _encode(partial, path.name, frames, pcm, frame_rate_hz, quality)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for leftover in (partial, pcm):
            leftover.unlink(missing_ok=True)
    return num_frames


# --- Sound ---------------------------------------------------------------------------------------
def _sound(
    path: str | pathlib.Path, start_seconds: float, seconds: float | None
) -> Iterator[bytes]:
    """Yields 16-bit stereo at 48 kHz; sample 0 sounds at `start_seconds`."""
    # Whole seconds, and more than needed: containers round the place that is sought.
    seek_seconds = max(0, math.floor(start_seconds - _MARGIN_SECONDS))
    lead_seconds = start_seconds - seek_seconds
    rules = ffmpeg_process.input_arguments(
        path,
        seek_seconds=seek_seconds,
        seconds=None if seconds is None else lead_seconds + seconds,
    )
    rate = constants.SAMPLE_RATE_HZ

    def arguments(first: int, sound: int) -> list[str]:
        # The first timestamp tells how late the sound starts. async=1 fills gaps.
        filters = (
            "ametadata=mode=add:key=l3net:value=1:enable='lt(n,1)',"
            f"ametadata=mode=print:key=l3net:direct=1:file='pipe\\:{first}',"
            f"aresample={rate}:async=1,{_STEREO},"
            f"aformat=sample_fmts=s16:sample_rates={rate}:channel_layouts=stereo"
        )
        output = ("-map", ffmpeg_process.SOUND, "-af", filters, "-f", "s16le", f"pipe:{sound}")
        return [*rules, *output]

    stream = ffmpeg_process.stream(path, arguments)
    with contextlib.closing(stream):
        printed = re.search(rb"pts_time:(-?[\d.]+)", next(stream, b""))
        late_seconds = (float(printed[1]) if printed else 0.0) - lead_seconds
        if late_seconds > _MAX_LATE_SECONDS:
            told = f"its sound starts {late_seconds:.0f} s late; at most {_MAX_LATE_SECONDS:.0f} s"
            raise MediaError(path, "failed", "refused", told)
        yield from _shifted(stream, round(late_seconds * rate))


def _shifted(chunks: Iterator[bytes], num_samples: int) -> Iterator[bytes]:
    """Puts silence in front of the sound, or cuts there where `num_samples` is negative."""
    for position in range(0, num_samples, _SILENCE_SAMPLES):
        yield bytes(min(num_samples - position, _SILENCE_SAMPLES) * _BYTES_PER_SAMPLE)
    num_cut = max(0, -num_samples) * _BYTES_PER_SAMPLE
    for chunk in chunks:
        yield chunk[num_cut:]
        num_cut = max(0, num_cut - len(chunk))


# --- Pictures ------------------------------------------------------------------------------------
def _encode(
    partial: pathlib.Path,
    name: str,
    frames: Iterable[np.ndarray],
    pcm: pathlib.Path,
    frame_rate_hz: float,
    quality: int,
) -> int:
    """Encodes frames and a file of samples; returns the number of frames."""
    frames = iter(frames)
    first = _even(next(frames))
    size = f"{first.shape[1]}x{first.shape[0]}"
    arguments = [
        *(find_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(frame_rate_hz)),
        *("-i", "pipe:0"),
        *("-f", "s16le", "-ar", str(constants.SAMPLE_RATE_HZ), "-ac", str(NUM_CHANNELS)),
        *("-i", f"file:{pcm}", "-map", "0:v", "-map", "1:a", "-vf", _COLOURS),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", str(quality)),
        *("-c:a", "aac", "-b:a", "160k", "-movflags", "+faststart"),
        *("-f", "mp4", f"file:{partial}"),
    ]
    num_frames = 0
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            pipesize=_PIPE_BYTES,
        )
        # Broken: the encoder has died and says why.
        with process, contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            for frame in itertools.chain([first], frames):
                pipe.write(np.ascontiguousarray(_even(frame)))
                num_frames += 1
        if process.returncode:
            complaints.seek(0)
            told = ffmpeg_process.one_line(complaints.read(), partial)
            raise UserError(f"ffmpeg cannot encode {name}: {told}")
    return num_frames


def _even(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
