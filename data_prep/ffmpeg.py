"""The only place that runs ffmpeg: one process per clip, written for videos from strangers.

Picture and sound are decoded once, together, onto ONE time line whose zero is the asked start. At
any time the picture is the one that a player shows then: the last whose timestamp is not later. A
stream that starts late is padded, never shifted: its first timestamp comes back through a pipe of
its own (`metadata=print`), and the padding is done here, because ffmpeg rebuilds its filters when
a stream changes its format half-way and would pad a second time.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import re
import selectors
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, NoReturn

import numpy as np

from l3net import constants
from l3net.errors import UserError

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None

_OLDEST = (5, 1)  # knows -fps_mode
ENVIRONMENT_VARIABLE = "L3NET_FFMPEG"
MIN_COMMON_SECONDS = constants.AUDIO_SECONDS  # a pair needs one second of sound
DEFAULT_JPEG_QUALITY = 3  # ffmpeg's -q:v, 2 (best) to 31; 3 is visually clean at ~20 KB a frame
DEFAULT_TIMEOUT_SECONDS = 300.0
# The longest side is cut off here: 8 times the smallest is a banner or a lying header.
MAX_ASPECT = 8

# Containers that hold their streams themselves; playlists, concat lists and image patterns would
# let a file name other files.
_FORMATS = "mov,mp4,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg,mp3,wav,w64,flac,aac,aiff,caf,amr,ac3"
# Capital V: attached cover art is no video.
_PICTURE, _SOUND = "0:V:0", "0:a:0"
# The fps filter has done it; without this ffmpeg repeats the first frame of a late picture itself.
_AS_FILTERED = ("-fps_mode", "passthrough")
_MISSING = {_PICTURE: "no_video", _SOUND: "no_audio"}
_MAX_PIXELS = 35_389_440  # 8192 x 4320
_MAX_ADDRESS_SPACE_BYTES = 4 << 30
_MAX_OUTPUT_BYTES = 1 << 30
_MAX_STREAMS = 64  # films carry a stream per subtitle language
_ERROR_TAIL_BYTES = 4096
_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20  # of raw frames; Linux's limit for everyone
# Input is read from before the asked start, where the picture shown then may have begun, to beyond
# the asked end, so that the last frames of a slow video are still shown.
_MARGIN_SECONDS = 1.0
# Containers round timestamps to milliseconds: a picture may come half of one after its time.
_TOLERANCE_SECONDS = 0.0005
_FINEST_RATE_HZ = 1000
_MAX_LATE_SECONDS = 3600.0  # of a streamed file's picture after its sound, or the reverse
_STALL_SECONDS = 120.0
# ffmpeg's word, at exit status 0, for a gap in the sound too long to be filled.
_LOST_TIME = "Failed to compensate for timestamp delta"
_LAST_BREATH_SECONDS = 5.0  # from the end of all output to the end of the process


class MediaError(UserError):
    """A file that gives no clip.

    Attributes:
        outcome: "skipped" (a sound file that is no use to us) or "failed".
        reason: skipped: "no_audio", "no_video", "too_short"; failed: "missing", "refused",
            "not_media", "decode", "timeout", "killed".
        detail: more words, such as the end of what ffmpeg said.
    """

    def __init__(
        self, path: str | os.PathLike, outcome: str, reason: str, detail: str = ""
    ) -> None:
        super().__init__(f"{path}: {outcome} ({reason}){': ' if detail else ''}{detail}")
        self.path, self.outcome, self.reason, self.detail = path, outcome, reason, detail

    def __reduce__(self):  # travels between processes
        return type(self), (self.path, self.outcome, self.reason, self.detail)


@dataclasses.dataclass(frozen=True)
class DecodedClip:
    """Frames and sound of one clip; see `decode_clip`.

    Attributes:
        start_us, end_us: extent on the video's own time line, microseconds.
        frames: JPEG each.
        timestamps_us: of the frames, on the video's own time line; the first is start_us.
        height_px, width_px: of every frame.
        waveform: int16 [num_samples], mono, 48 kHz, exactly from start_us to end_us.
        num_padding_frames: leading copies of the first frame, where the picture starts late.
    """

    start_us: int
    end_us: int
    frames: tuple[bytes, ...]
    timestamps_us: tuple[int, ...]
    height_px: int
    width_px: int
    waveform: np.ndarray
    num_padding_frames: int


# --- Which ffmpeg --------------------------------------------------------------------------------
def find_ffmpeg() -> str:
    """Returns the ffmpeg to run: $L3NET_FFMPEG, else ffmpeg on PATH, else imageio-ffmpeg's.

    One on PATH that is older than `_OLDEST` is passed over.

    Raises:
        UserError: if there is none, or the variable names none that is new enough.
    """
    wanted = os.environ.get(ENVIRONMENT_VARIABLE)
    if wanted:
        found = shutil.which(wanted)
        if not found:
            raise UserError(f"{ENVIRONMENT_VARIABLE} is {wanted!r}, which is no program; unset it?")
        if not _is_new_enough(found):
            raise UserError(
                f"{ENVIRONMENT_VARIABLE} is {wanted!r}, version {_version_of(found)}; need "
                f"{'.'.join(map(str, _OLDEST))} or newer"
            )
        return found
    found = shutil.which("ffmpeg")
    if found and _is_new_enough(found):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"found no ffmpeg of version {'.'.join(map(str, _OLDEST))} or newer; install one (apt "
            "install ffmpeg) or run pip install imageio-ffmpeg, or name one in "
            f"{ENVIRONMENT_VARIABLE}"
        ) from error


def ffmpeg_version() -> str:
    """Returns the version of the ffmpeg in use, such as "5.1.9-0+deb12u1".

    Raises:
        UserError: if there is none or it does not run.
    """
    return _version_of(find_ffmpeg())


@functools.cache
def _version_of(program: str) -> str:
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{program} does not run ({error}); name another ffmpeg") from error
    match = re.match(r"ffmpeg version (\S+)", answer)
    if not match:
        raise UserError(f"{program} is no ffmpeg: its -version says {answer[:60]!r}")
    return match[1]


def _is_new_enough(program: str) -> bool:
    # "n9.0.2-17-g2a571b6068" and "5.1.9-0+deb12u1" are releases; a snapshot such as "N-12345-g..."
    # or "git-2024-01-01" tells no number and passes.
    match = re.match(r"n?(\d+)\.(\d+)", _version_of(program))
    return match is None or (int(match[1]), int(match[2])) >= _OLDEST


# --- Clips ---------------------------------------------------------------------------------------
def decode_clip(
    path: str | pathlib.Path,
    *,
    start_seconds: float = 0.0,
    seconds: float = constants.CLIP_SECONDS,
    frame_rate_hz: float = constants.FRAME_RATE_HZ,
    smallest_side_px: int = constants.SMALLEST_SIDE_PX,
    jpeg_quality: int = DEFAULT_JPEG_QUALITY,
    strict: bool = False,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> DecodedClip:
    """Cuts one clip: JPEG frames and mono sound on one time line, by one ffmpeg process.

    The extent is `[start, start + n / frame_rate)`, n whole frames: as many as were asked and as
    both picture and sound still cover (ours; so every frame has its sound). Frame k has the
    timestamp `start + k / frame_rate` and shows the last picture whose own timestamp is not later
    (by more than half a millisecond: containers round). A picture that began over a second before
    the start may be missed; the first one known is then repeated in front. Sound missing at the
    front is silence; less than a frame's worth missing at the end, too.

    Frames are scaled so that the smallest side is exactly `smallest_side_px`, up or down
    (L3 §2.2), after rotation and with square pixels.

    Args:
        path: of the video.
        start_seconds: on the video's own time line, whose zero is its earliest stream's start.
        seconds: wanted length; L3 §3.1 takes 10.
        frame_rate_hz: of the frames; 25 in OTS §3.3.
        smallest_side_px: 256 in the papers.
        jpeg_quality: ffmpeg's -q:v, 2 (best) to 31.
        strict: whether the least decoding error fails the clip; slight damage is common on the web.
        timeout_seconds: wall-clock limit, after which ffmpeg is killed.

    Returns:
        The clip.

    Raises:
        MediaError: if the file gives no clip with a second of both picture and sound.
        UserError: if ffmpeg is missing.
    """
    num_frames = max(1, math.floor(seconds * frame_rate_hz + 1e-6))
    lead_seconds = _lead_seconds(start_seconds)
    input_arguments = _input(path, start_seconds, seconds + _MARGIN_SECONDS, strict)

    def arguments(picture_start: int, sound_start: int, picture: int, sound: int) -> list[str]:
        filters = _at_rate(frame_rate_hz, lead_seconds, num_frames, picture_start)
        filters += f",{_scale(smallest_side_px)},format=yuvj420p"
        return [
            *input_arguments,
            *("-map", _PICTURE, "-vf", filters, *_AS_FILTERED),
            *("-c:v", "mjpeg", "-q:v", str(jpeg_quality), "-flags:v", "+bitexact"),
            *("-threads", "1", "-f", "image2pipe", f"pipe:{picture}"),
            *_sound_output(sound_start, constants.SAMPLE_RATE_HZ),
            *("-t", f"{lead_seconds + seconds:.6f}", f"pipe:{sound}"),
        ]

    picture_start, sound_start, jpegs, pcm = _run_to_end(
        path, arguments, 4, timeout_seconds, strict
    )
    decoded = _Decoded(
        num_late_frames=_first_number(picture_start),
        first_sample_seconds=_first_seconds(sound_start) - lead_seconds,
        jpegs=split_jpegs(jpegs),
        pcm=pcm,
    )
    try:
        return _assemble(decoded, start_seconds, num_frames, frame_rate_hz)
    except _TooShortError as error:
        raise MediaError(path, "skipped", "too_short", str(error)) from None


class _Decoded(NamedTuple):
    """What one ffmpeg process gave, counted from the asked start; sound may begin before it."""

    num_late_frames: int
    first_sample_seconds: float
    jpegs: list[bytes]
    pcm: bytes


class _TooShortError(Exception):
    """Less than a second of picture and sound together."""


def _assemble(
    decoded: _Decoded, start_seconds: float, num_frames: int, frame_rate_hz: float
) -> DecodedClip:
    """Puts picture and sound on one time line: pads the fronts, cuts the ends alike."""
    jpegs = decoded.jpegs
    if not jpegs or not decoded.pcm:
        raise _TooShortError(f"no {'sound' if jpegs else 'picture'} after {start_seconds:g} s")
    num_padding = decoded.num_late_frames
    late_seconds = min(decoded.first_sample_seconds, num_frames / frame_rate_hz)
    waveform = _padded(decoded.pcm, round(late_seconds * constants.SAMPLE_RATE_HZ))
    sound_frames = math.ceil(len(waveform) / constants.SAMPLE_RATE_HZ * frame_rate_hz - 1e-6)
    num_frames = min(num_frames, num_padding + len(jpegs), sound_frames)
    late_seconds = max(num_padding / frame_rate_hz, decoded.first_sample_seconds)
    common_seconds = num_frames / frame_rate_hz - late_seconds
    if common_seconds < MIN_COMMON_SECONDS - 1e-6:
        raise _TooShortError(
            f"{max(common_seconds, 0):.2f} s of picture and sound together; "
            f"need {MIN_COMMON_SECONDS:g} s"
        )
    start_us = round(start_seconds * constants.MICROSECONDS)
    step_us = constants.MICROSECONDS / frame_rate_hz
    *times_us, end_us = (start_us + round(k * step_us) for k in range(num_frames + 1))
    height_px, width_px = jpeg_size(jpegs[0])
    return DecodedClip(
        start_us=start_us,
        end_us=end_us,
        frames=tuple(([jpegs[0]] * num_padding + jpegs)[:num_frames]),
        timestamps_us=tuple(times_us),
        height_px=height_px,
        width_px=width_px,
        waveform=_fitted(waveform, round(num_frames * constants.SAMPLE_RATE_HZ / frame_rate_hz)),
        num_padding_frames=num_padding,
    )


def _padded(pcm: bytes, num_silent: int) -> np.ndarray:
    """Returns int16 sound with silence in front, or cut there where `num_silent` is negative."""
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.int16)
    silence = np.zeros(max(num_silent, 0), np.int16)
    return np.concatenate([silence, samples[max(-num_silent, 0) :]])


def _fitted(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    missing = max(0, num_samples - len(waveform))
    return np.pad(waveform[:num_samples], (0, missing))


def split_jpegs(stream: bytes) -> list[bytes]:
    """Splits JPEGs that stand one after the other.

    Args:
        stream: whole JPEGs; a cut last one is left out.

    Returns:
        One bytes object per JPEG.

    Raises:
        ValueError: if something else stands between them.
    """
    jpegs, start = [], 0
    while start < len(stream):
        if stream[start : start + 2] != b"\xff\xd8":
            raise ValueError(f"no JPEG starts at byte {start} of the stream")
        end = _jpeg_end(stream, start + 2)
        if end is None:
            break
        jpegs.append(stream[start:end])
        start = end
    return jpegs


# In the coded part 0xff stands before 0 (a stuffed byte) or a restart mark, or begins a marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


def _jpeg_end(stream: bytes, start: int) -> int | None:
    for marker, position, _ in _segments(stream, start):
        if marker == _END_OF_IMAGE:
            return position
    return None


def _segments(stream: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, position of its content, size of its content)."""
    match = _MARKER.search(stream, position)
    while match:
        marker, position = match[0][1], match.end()
        size = 0
        if marker != _END_OF_IMAGE:
            size = int.from_bytes(stream[position : position + 2], "big")
        yield marker, position, size
        match = _MARKER.search(stream, position + size)


def jpeg_size(jpeg: bytes) -> tuple[int, int]:
    """Returns (height, width) in pixels from a JPEG's header.

    Raises:
        ValueError: if there is none.
    """
    for marker, position, _ in _segments(jpeg, 2):
        if 0xC0 <= marker <= 0xC3:  # start of frame: length, precision, height, width
            height = int.from_bytes(jpeg[position + 3 : position + 5], "big")
            return height, int.from_bytes(jpeg[position + 5 : position + 7], "big")
        if marker == _START_OF_SCAN:
            break
    raise ValueError("JPEG without a frame header")


# --- Streams -------------------------------------------------------------------------------------
def stream_audio(
    path: str | pathlib.Path,
    *,
    sample_rate_hz: int = constants.SAMPLE_RATE_HZ,
    block_samples: int = constants.AUDIO_SAMPLES,
    start_seconds: float = 0.0,
    seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """Decodes the sound of a file of any length, block by block, in bounded memory.

    Sample 0 sounds at `start_seconds`; sound that starts later is preceded by silence.

    Args:
        path: of a video or sound file.
        sample_rate_hz: of the result.
        block_samples: length of a block; the last one may be shorter.
        start_seconds: on the file's own time line.
        seconds: length; None goes to the end.

    Yields:
        int16 [block_samples], mono.

    Raises:
        MediaError: if the file has no sound or cannot be decoded to its end; blocks decoded before
            that were yielded.
        UserError: if ffmpeg is missing.
    """

    def arguments(first: int, sound: int) -> list[str]:
        output = _sound_output(first, sample_rate_hz)
        return [*_input(path, start_seconds, seconds), *output, f"pipe:{sound}"]

    num_bytes = 0
    stream = _stream(path, arguments)
    with contextlib.closing(stream):
        late_seconds = _first_seconds(next(stream, b"")) - _lead_seconds(start_seconds)
        _check_late(path, "sound", late_seconds)
        num_silent = round(late_seconds * sample_rate_hz)
        for block in _blocks(_shifted(stream, 2 * num_silent), 2 * block_samples):
            num_bytes += len(block)
            yield np.frombuffer(block[: len(block) // 2 * 2], "<i2").astype(np.int16)
    if not num_bytes:
        raise MediaError(path, "skipped", "no_audio", "no sound was decoded")


def stream_frames(
    path: str | pathlib.Path,
    *,
    frame_rate_hz: float = constants.FRAME_RATE_HZ,
    smallest_side_px: int | None = constants.SMALLEST_SIDE_PX,
    start_seconds: float = 0.0,
    seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """Decodes the picture of a file of any length, frame by frame, in bounded memory.

    Frame k is the picture shown at `start_seconds + k / frame_rate_hz`, chosen as in
    `decode_clip`; where the picture starts later, its first frame is repeated in front.

    Args:
        path: of a video.
        frame_rate_hz: of the result; frames are repeated or dropped, never blended.
        smallest_side_px: scaled to it; None keeps the size.
        start_seconds: on the file's own time line.
        seconds: length; None goes to the end.

    Yields:
        uint8 [height, width, 3], RGB.

    Raises:
        MediaError: if the file has no picture or cannot be decoded to its end; frames decoded
            before that were yielded.
        UserError: if ffmpeg is missing.
    """
    num_frames = None if seconds is None else math.ceil(seconds * frame_rate_hz - 1e-6)
    read_seconds = None if seconds is None else seconds + _MARGIN_SECONDS

    def arguments(first: int, picture: int) -> list[str]:
        filters = _at_rate(frame_rate_hz, _lead_seconds(start_seconds), num_frames, first)
        filters += f",{_scale(smallest_side_px)}"
        # PPM: raw rgb24 behind a header that names the size, which nobody knows beforehand.
        return [
            *_input(path, start_seconds, read_seconds),
            *("-map", _PICTURE, "-vf", filters, *_AS_FILTERED),
            *("-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", f"pipe:{picture}"),
        ]

    frame = None
    stream = _stream(path, arguments)
    with contextlib.closing(stream):
        late = _first_number(next(stream, b""))
        _check_late(path, "picture", late / frame_rate_hz)
        for frame in _split_ppms(stream):
            yield from itertools.repeat(frame, late)
            late = 0
            yield frame
    if frame is None:
        if frame_rate_hz >= _FINEST_RATE_HZ:
            raise MediaError(path, "skipped", "no_video", "no frame was decoded")
        # A picture that comes and goes between two of the times.
        finest = stream_frames(
            path,
            frame_rate_hz=_FINEST_RATE_HZ,
            smallest_side_px=smallest_side_px,
            start_seconds=start_seconds,
            seconds=seconds,
        )
        with contextlib.closing(finest):
            yield next(finest)


def _check_late(path: str | pathlib.Path, stream: str, seconds: float) -> None:
    """Raises MediaError if a stream would have to be padded without end."""
    if seconds > _MAX_LATE_SECONDS:
        told = f"its {stream} starts {seconds:.0f} s late; at most {_MAX_LATE_SECONDS:.0f} s"
        raise MediaError(path, "failed", "refused", told)


def _shifted(chunks: Iterator[bytes], num_bytes: int) -> Iterator[bytes]:
    """Puts silence in front of the chunks, or cuts there where `num_bytes` is negative."""
    for position in range(0, num_bytes, _READ_BYTES):
        yield bytes(min(num_bytes - position, _READ_BYTES))
    num_cut = max(0, -num_bytes)
    for chunk in chunks:
        yield chunk[num_cut:]
        num_cut = max(0, num_cut - len(chunk))


def _blocks(chunks: Iterator[bytes], num_bytes: int) -> Iterator[bytes]:
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        while len(pending) >= num_bytes:
            yield bytes(pending[:num_bytes])
            del pending[:num_bytes]
    if pending:
        yield bytes(pending)


_PPM_HEADER = re.compile(rb"P6\s(\d+)\s(\d+)\s255\s")


def _split_ppms(chunks: Iterator[bytes]) -> Iterator[np.ndarray]:
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        while match := _PPM_HEADER.match(pending):
            width, height = int(match[1]), int(match[2])
            end = match.end() + height * width * 3
            if len(pending) < end:
                break
            pixels = np.frombuffer(bytes(pending[match.end() : end]), np.uint8)
            del match, pending[:end]
            yield pixels.reshape(height, width, 3)


# --- Command line --------------------------------------------------------------------------------
def _input(
    path: str | pathlib.Path, start_seconds: float, seconds: float | None, strict: bool = False
) -> list[str]:
    """Returns the arguments before the outputs: what a file from a stranger may make ffmpeg do.

    Reading begins `_lead_seconds` before the start.
    """
    lead_seconds = _lead_seconds(start_seconds)
    seek_seconds = start_seconds - lead_seconds
    return [
        *("-nostdin", "-hide_banner", "-loglevel", "error", "-filter_threads", "1"),
        *(["-xerror", "-err_detect", "explode"] if strict else []),
        *("-threads", "1", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS),
        *("-max_pixels", str(_MAX_PIXELS), "-max_alloc", "268435456"),
        *("-max_streams", str(_MAX_STREAMS), "-probesize", "10000000"),
        *("-analyzeduration", "10000000"),
        *(["-ss", f"{seek_seconds:.6f}"] if seek_seconds else []),
        *(["-t", f"{lead_seconds + seconds:.6f}"] if seconds is not None else []),
        *("-i", f"file:{path}", "-sn", "-dn"),
    ]


def _lead_seconds(start_seconds: float) -> float:
    """Returns how much is read before the asked start: at least the margin, where there is so much.

    ffmpeg rounds the place it seeks to to the stream's time base, in an AVI file a whole frame;
    whole seconds need no rounding.
    """
    return start_seconds - max(0, math.floor(start_seconds - _MARGIN_SECONDS))


def _at_rate(frame_rate_hz: float, lead_seconds: float, num_frames: int | None, first: int) -> str:
    """Returns filters that show, at each time from the start on, the last picture up to then.

    They end after `num_frames` themselves: left to the output, a gap of hours would be filled with
    pictures in memory first. The number of the first one is printed into the pipe `first`.
    """
    shift_us = round((lead_seconds + _TOLERANCE_SECONDS) * constants.MICROSECONDS)
    end = "" if num_frames is None else f":end_pts={num_frames}"
    return (
        f"settb=1/{constants.MICROSECONDS},setpts=PTS-{shift_us},fps={frame_rate_hz}:round=up,"
        f"trim=start_pts=0{end},{_print_first('', first)}"
    )


def _sound_output(first: int, sample_rate_hz: int) -> list[str]:
    # async=1 fills gaps of more than 0.1 s, so that sound after one keeps its time.
    filters = f"{_print_first('a', first)},aresample={sample_rate_hz}:async=1,aformat="
    filters += f"sample_fmts=s16:sample_rates={sample_rate_hz}:channel_layouts=mono"
    return ["-map", _SOUND, "-af", filters, "-f", "s16le"]


def _print_first(kind: str, pipe: int) -> str:
    """Returns filters that write the first frame's timestamp into a pipe; kind "a" for sound."""
    add = f"{kind}metadata=mode=add:key=l3net:value=1:enable='lt(n,1)'"
    return f"{add},{kind}metadata=mode=print:key=l3net:direct=1:file='pipe\\:{pipe}'"


def _first_number(printed: bytes) -> int:
    match = re.search(rb"pts:(\d+)", printed)
    return int(match[1]) if match else 0


def _first_seconds(printed: bytes) -> float:
    match = re.search(rb"pts_time:(-?[\d.]+)", printed)
    return float(match[1]) if match else 0.0


def _scale(smallest_side_px: int | None) -> str:
    """Returns filters to square pixels and a smallest side; colours as JPEG has them."""
    if smallest_side_px is None:
        size = "w='max(1,round(iw*sar))':h=ih"
    else:
        side, limit = smallest_side_px, smallest_side_px * MAX_ASPECT
        size = (
            f"w='if(lt(iw*sar,ih),{side},min({limit},round({side}*iw*sar/ih)))'"
            f":h='if(lt(iw*sar,ih),min({limit},round({side}*ih/(iw*sar))),{side})'"
        )
    # In two steps: most HD video has another matrix than JPEG, and a change of both size and matrix
    # at once takes twice the time.
    colours = "scale=flags=bicubic:out_color_matrix=bt601:out_range=full"
    return f"scale={size}:flags=bicubic,{colours},setsar=1"


# --- Child process -------------------------------------------------------------------------------
def _run_to_end(
    path: str | pathlib.Path,
    arguments: Callable[..., list[str]],
    num_pipes: int,
    timeout_seconds: float,
    strict: bool,
) -> list[bytes]:
    """Runs ffmpeg and returns what came out of each pipe; raises MediaError if it failed."""
    outputs = [bytearray() for _ in range(num_pipes)]
    with _Child(path, arguments, num_pipes, timeout_seconds=timeout_seconds) as child:
        for index, chunk in child.chunks():
            outputs[index] += chunk
            if sum(map(len, outputs)) > _MAX_OUTPUT_BYTES:
                raise MediaError(path, "failed", "refused", "too much output for one clip")
        child.check(strict)
    return [bytes(output) for output in outputs]


def _stream(path: str | pathlib.Path, arguments: Callable[..., list[str]]) -> Iterator[bytes]:
    """Yields what was printed about the first frame (pipe 0), then the data (pipe 1)."""
    with _Child(path, arguments, 2) as child:
        printed, started = b"", False
        for index, chunk in child.chunks():
            if index == 0:
                printed += chunk
                continue
            if not started:
                started = True
                yield printed
            yield chunk
        child.check()


class _Child:
    """One ffmpeg process with several pipes out of it; a context manager.

    Args:
        path: of the input, for messages.
        arguments: takes one file descriptor per pipe, returns ffmpeg's arguments.
        num_pipes: how many.
        timeout_seconds: of wall-clock time in all; None limits each wait for output instead, so
            that a slow reader of a long stream is no reason to kill. Complaints are no output.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        arguments: Callable[..., list[str]],
        num_pipes: int,
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        _check_regular(path)
        self._path, self._timeout_seconds = path, timeout_seconds
        self._deadline = self._new_deadline()
        self._error_tail = b""
        program, pipes = find_ffmpeg(), [os.pipe() for _ in range(num_pipes)]
        self._readers = [reader for reader, _ in pipes]
        writers = [writer for _, writer in pipes]
        self._arguments = arguments(*writers)
        try:
            self._process = subprocess.Popen(
                [program, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=writers,
                start_new_session=True,  # a process group of its own, to be killed as one
            )
        except OSError as error:
            self._close_readers()
            raise UserError(f"cannot start {program}: {error}") from error
        finally:
            for writer in writers:
                os.close(writer)
        _limit(self._process.pid, timeout_seconds)

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_) -> None:
        self._close_readers()
        if self._process.poll() is None:
            self._kill()
        self._process.stderr.close()
        self._process.wait()

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yields (pipe index, bytes) as they come, lower pipes first, until all are closed."""
        error_pipe = self._process.stderr.fileno()
        indices = {reader: index for index, reader in enumerate(self._readers)}
        with selectors.DefaultSelector() as selector:
            for reader in (*self._readers, error_pipe):
                selector.register(reader, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, self._deadline - time.monotonic()))
                if not ready or time.monotonic() > self._deadline:
                    self._give_up()
                for reader in sorted(key.fd for key, _ in ready):
                    chunk = os.read(reader, _READ_BYTES)
                    if not chunk:
                        selector.unregister(reader)
                    elif reader == error_pipe:
                        self._error_tail = (self._error_tail + chunk)[-_ERROR_TAIL_BYTES:]
                    else:
                        yield indices[reader], chunk
                        if self._timeout_seconds is None:
                            self._deadline = self._new_deadline()

    def check(self, strict: bool = False) -> None:
        """Waits for the end; raises MediaError, with the class of failure, unless all went well.

        Args:
            strict: whether any complaint is a failure, whatever the exit status.
        """
        code = self._wait()
        said = _tidy(self._error_tail, self._path)
        if not code:
            if (strict and said) or _LOST_TIME in said:
                raise MediaError(self._path, "failed", "decode", said)
            return
        if code > 0:
            wanted = [stream for stream in _MISSING if stream in self._arguments]
            raise _diagnosis(self._path, wanted, said)
        name = signal.Signals(-code).name
        reason = "timeout" if name == "SIGXCPU" else "killed"
        raise MediaError(self._path, "failed", reason, f"{name} {said}".strip())

    def succeeds(self) -> bool:
        """Waits for the end, whatever comes out; returns whether ffmpeg was content."""
        for _ in self.chunks():
            pass
        return self._wait() == 0

    def _new_deadline(self) -> float:
        patience = _STALL_SECONDS if self._timeout_seconds is None else self._timeout_seconds
        return time.monotonic() + patience

    def _wait(self) -> int:
        try:
            return self._process.wait(_LAST_BREATH_SECONDS)
        except subprocess.TimeoutExpired:
            self._give_up()

    def _give_up(self) -> NoReturn:
        self._kill()
        if self._timeout_seconds is None:
            words = f"no output for {_STALL_SECONDS:g} s"
        else:
            words = f"not done after {self._timeout_seconds:g} s"
        raise MediaError(self._path, "failed", "timeout", words)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _close_readers(self) -> None:
        for reader in self._readers:
            os.close(reader)


def _limit(pid: int, cpu_seconds: float | None) -> None:
    """Limits a child's memory, processor time and files; on Linux, from outside.

    From outside because code between fork and exec is slow and unsafe in a process with threads.
    """
    if not hasattr(resource, "prlimit"):
        return
    limits = {
        resource.RLIMIT_AS: _MAX_ADDRESS_SPACE_BYTES,
        resource.RLIMIT_FSIZE: 0,  # pipes do not count; it has no file to write
        resource.RLIMIT_CORE: 0,
    }
    if cpu_seconds is not None:
        limits[resource.RLIMIT_CPU] = math.ceil(cpu_seconds)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for limit, value in limits.items():
            hard = resource.prlimit(pid, limit)[1]
            if hard != resource.RLIM_INFINITY:
                value = min(value, hard)
            resource.prlimit(pid, limit, (value, hard))


def _tidy(said: bytes, path: str | pathlib.Path) -> str:
    """Returns the end of what ffmpeg said on one line, without what differs between two runs."""
    text = said.decode(errors="replace").replace(f"file:{path}", "file").replace(str(path), "file")
    text = re.sub(r"\[([^\]@]+) @ 0x[0-9a-f]+\]", r"[\1]", text)
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    words = "".join(c if c.isprintable() else "?" for c in "; ".join(lines))
    return words[-300:]


def _diagnosis(path: str | pathlib.Path, wanted: list[str], said: str) -> MediaError:
    """Returns why ffmpeg failed, asking it again what the file holds."""
    if not _succeeds(path, "-f", "ffmetadata"):
        refused = "whitelist" in said.lower()
        return MediaError(path, "failed", "refused" if refused else "not_media", said)
    for stream in wanted:
        copied = ("-c", "copy", "-frames", "1")
        if _succeeds(path, "-map", stream, *copied, "-f", "null"):
            continue
        # A stream that is there but cannot even be copied has no size, for one.
        if _succeeds(path, "-map", f"{stream}?", *copied, "-f", "ffmetadata"):
            return MediaError(path, "skipped", _MISSING[stream])
    return MediaError(path, "failed", "decode", said)


def _succeeds(path: str | pathlib.Path, *output: str) -> bool:
    def arguments(pipe: int) -> list[str]:
        return [*_input(path, 0.0, None), *output, f"pipe:{pipe}"]

    try:
        with _Child(path, arguments, 1, timeout_seconds=60.0) as child:
            return child.succeeds()
    except MediaError:
        return False


def inside(root: str | pathlib.Path, relative: str | pathlib.Path) -> pathlib.Path:
    """Returns the file that a list of files names, after all links.

    The root itself may be a link. The result holds no link any more, so what was checked is what
    is read, unless somebody who may write to the root changes it meanwhile.

    Args:
        root: the folder that the file has to lie in.
        relative: the file's path from there.

    Returns:
        The absolute path of a regular file.

    Raises:
        MediaError: "refused" if it leads out of the root or to anything but a regular file,
            "missing" if there is none.
    """
    try:
        root = pathlib.Path(root).resolve()
        path = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise MediaError(relative, "failed", "refused", str(error)) from error
    if not path.is_relative_to(root):
        raise MediaError(relative, "failed", "refused", "leads out of the folder of the videos")
    _check_regular(path)
    return path


def _check_regular(path: str | pathlib.Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise MediaError(
            path, "failed", "missing", getattr(error, "strerror", str(error))
        ) from error
    if not stat.S_ISREG(mode):
        raise MediaError(path, "failed", "refused", "not a regular file")


# --- Encoding ------------------------------------------------------------------------------------
def encode_video(
    path: str | pathlib.Path,
    frames: Iterable[np.ndarray],
    waveform: np.ndarray,
    *,
    frame_rate_hz: float = constants.FRAME_RATE_HZ,
    sample_rate_hz: int = constants.SAMPLE_RATE_HZ,
    quality: int = 23,
) -> None:
    """Writes an .mp4 (H.264, AAC), whole or not at all; the same bytes for the same input.

    Args:
        path: of the file; its folder exists.
        frames: uint8 [height, width, 3] each, RGB, all of one even size; at least one.
        waveform: int16 [num_samples, num_channels].
        frame_rate_hz: of the frames.
        sample_rate_hz: of the waveform.
        quality: x264's constant rate factor, 0 (lossless) to 51.

    Raises:
        UserError: if ffmpeg is missing or fails (it may lack x264).
    """
    path = pathlib.Path(path)
    partial, sound = path.with_name(path.name + ".tmp"), path.with_name(path.name + ".pcm.tmp")
    frames = iter(frames)
    first = next(frames)
    size = f"{first.shape[1]}x{first.shape[0]}"
    arguments = [
        *(find_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(frame_rate_hz)),
        *("-threads", "1", "-i", "pipe:0"),
        *("-f", "s16le", "-ar", str(sample_rate_hz), "-ac", str(waveform.shape[1])),
        *("-i", f"file:{sound}", "-map", "0:v", "-map", "1:a"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", str(quality), "-threads", "1"),
        *("-pix_fmt", "yuv420p", "-c:a", "aac", "-aac_coder", "fast", "-b:a", "96k"),
        *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"),
        *("-f", "mp4", f"file:{partial}"),
    ]
    try:
        sound.write_bytes(waveform.astype("<i2").tobytes())
        with subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pipesize=_PIPE_BYTES,
        ) as process:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                for frame in itertools.chain([first], frames):
                    pipe.write(np.ascontiguousarray(frame))
            said = process.stderr.read()
        if process.returncode:
            raise UserError(f"ffmpeg cannot encode {path}: {_tidy(said, partial)}")
        os.replace(partial, path)
    finally:
        for leftover in (partial, sound):
            leftover.unlink(missing_ok=True)
