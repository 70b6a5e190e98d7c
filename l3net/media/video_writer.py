"""Frames and sound to an .mp4 of any length: it appears only when it is complete."""

import contextlib
import itertools
import pathlib
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from typing import IO, cast

import numpy as np

from l3net import constants
from l3net.errors import UserError
from l3net.files import temporary_name, written_whole
from l3net.media import ffmpeg, ffmpeg_process

_QUALITY = 20  # x264's constant rate factor: 0 loses nothing, 51 is the smallest file
_PIPE_BYTES = 1 << 20  # of raw frames; Linux's limit for everyone
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
    audio_track: int | None = None,
) -> None:
    """Writes new pictures with the sound of a file, decoded as files from strangers are.

    Frame k is shown at k / frame_rate_hz, when the sound of `start_seconds + k / frame_rate_hz`
    is heard. The sound is encoded again, 48 kHz stereo; where it starts late, silence goes before
    it.

    Args:
        path: .mp4 (H.264, AAC) in an existing folder. The decoded sound, about 0.7 GB an hour, is
            beside it meanwhile.
        frames: uint8 [height, width, 3] each, RGB, all of one size; at least one. Odd heights and
            widths get their last row or column twice, as H.264 requires.
        sound_of: a video or sound file; not `path`.
        frame_rate_hz: frames per second.
        start_seconds: where the sound begins, on its file's own time line.
        seconds: length of the sound; None goes to the end.
        audio_track: the track of sound, counted from 0; None takes the default one.

    Raises:
        UserError: if the sound cannot be decoded to its end, ffmpeg is missing or fails (it may
            lack x264), or the disk is full.
    """
    _encode(
        pathlib.Path(path),
        frames,
        ffmpeg.stream_pcm(
            sound_of,
            num_channels=2,
            start_seconds=start_seconds,
            seconds=seconds,
            track=audio_track,
        ),
        frame_rate_hz=frame_rate_hz,
        num_channels=2,
        encoding=(
            *("-vf", _COLOURS, "-preset", "veryfast", "-crf", str(_QUALITY)),
            *("-b:a", "160k", "-movflags", "+faststart"),
        ),
    )


def write_same_video(
    path: str | pathlib.Path,
    frames: Iterable[np.ndarray],
    waveform: np.ndarray,
    *,
    frame_rate_hz: float = constants.FRAME_RATE_HZ,
    quality: int = 23,
) -> None:
    """Writes frames and a waveform in one thread: the same bytes for the same input.

    Path, frames and errors are as in `write_video`; the waveform is int16 [num_samples,
    num_channels], 48 kHz; `quality` is x264's constant rate factor, 0 (lossless) to 51.
    """
    _encode(
        pathlib.Path(path),
        frames,
        [waveform.astype("<i2").tobytes()],
        frame_rate_hz=frame_rate_hz,
        num_channels=waveform.shape[1],
        decoding=("-threads", "1"),
        encoding=(
            *("-preset", "ultrafast", "-crf", str(quality), "-threads", "1"),
            *("-pix_fmt", "yuv420p", "-aac_coder", "fast", "-b:a", "96k"),
            *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"),
        ),
    )


def _encode(
    path: pathlib.Path,
    frames: Iterable[np.ndarray],
    pcm_chunks: Iterable[bytes],
    *,
    frame_rate_hz: float,
    num_channels: int,
    decoding: Sequence[str] = (),
    encoding: Sequence[str],
) -> None:
    """Writes the complete file or nothing; `decoding` are the arguments for reading the frames.

    The sound goes to disk first: ffmpeg takes turns reading its inputs, and nobody knows when.
    """
    frames, pcm = iter(frames), temporary_name(path)
    with written_whole(path) as partial, contextlib.ExitStack() as stack:
        stack.callback(pcm.unlink, missing_ok=True)
        with open(pcm, "wb") as file:
            file.writelines(pcm_chunks)
        first = _even(next(frames))
        arguments = [
            *(ffmpeg_process.find_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{first.shape[1]}x{first.shape[0]}"),
            *("-r", str(frame_rate_hz), *decoding, "-i", "pipe:0"),
            *("-f", "s16le", "-ar", str(constants.SAMPLE_RATE_HZ), "-ac", str(num_channels)),
            *("-i", f"file:{pcm}", "-map", "0:v", "-map", "1:a"),
            *("-c:v", "libx264", "-c:a", "aac", *encoding),
            *("-f", "mp4", f"file:{partial}"),
        ]
        _run(arguments, path, itertools.chain([first], map(_even, frames)))


def _run(arguments: Sequence[str], path: pathlib.Path, frames: Iterable[np.ndarray]) -> None:
    """Feeds frames to an encoder."""
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            pipesize=_PIPE_BYTES,
        )
        # Broken: the encoder has died and says why.
        pipe = cast(IO[bytes], process.stdin)
        with process, contextlib.suppress(BrokenPipeError), pipe:
            for frame in frames:
                pipe.write(np.ascontiguousarray(frame).data)
        if process.returncode:
            messages.seek(0)
            reason = ffmpeg_process.one_line(messages.read(), arguments[-1])
            raise UserError(f"ffmpeg cannot encode {path.name}: {reason}")


def _even(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
