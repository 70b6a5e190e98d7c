"""Videos to frames and sound on one time line, by one ffmpeg process each.

Picture and sound are decoded once, together, onto ONE time line whose zero is the wanted start. At
any time the picture is the one that a player shows then: the last whose timestamp is not later. A
stream that starts late is padded, never shifted: its first timestamp comes back through a pipe of
its own (`metadata=print`), and the padding is done here, because ffmpeg rebuilds its filters when
a stream changes its format half-way and would pad a second time.

What a file from a stranger may do is in ffmpeg_process.py; its public names are here, too.
"""

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from l3net import constants
from l3net.errors import UserError
from l3net.media import ffmpeg_process, picture_filters, tracks
from l3net.media.ffmpeg_process import ENVIRONMENT_VARIABLE as ENVIRONMENT_VARIABLE
from l3net.media.ffmpeg_process import PICTURE, SOUND, MediaError
from l3net.media.ffmpeg_process import ffmpeg_version as ffmpeg_version
from l3net.media.ffmpeg_process import find_ffmpeg as find_ffmpeg
from l3net.media.ffmpeg_process import inside as inside
from l3net.media.jpeg_stream import jpeg_size, split_jpegs

MIN_COMMON_SECONDS = constants.AUDIO_SECONDS  # a pair needs one second of sound
DEFAULT_JPEG_QUALITY = 3  # ffmpeg's -q:v, 2 (best) to 31; 3 is visually clean at ~20 KB a frame
DEFAULT_TIMEOUT_SECONDS = 300.0
# The longest side is cut off here: 8 times the smallest is a banner or a false header.
MAX_ASPECT = 8

# The fps filter has done it; without this ffmpeg repeats the first frame of a late picture itself.
_AS_FILTERED = ("-fps_mode", "passthrough")
# Input is read from before the wanted start, where the picture shown then may have begun, to beyond
# the wanted end, so that the last frames of a slow video are still shown.
_MARGIN_SECONDS = 1.0
# Containers round timestamps to milliseconds: a picture may come half of one after its time.
_TOLERANCE_SECONDS = 0.0005
_FINEST_RATE_HZ = 1000
# A stream lasts no longer than this, and a second for each so many bytes of its file (our choice:
# half the rate of the barest codec): a gap of hours in a file of kilobytes is filled no further.
_LEAST_LIMIT_SECONDS, _BYTES_PER_SECOND = 60.0, 20
_SILENCE_BYTES = 1 << 16  # at a time
_Piece = TypeVar("_Piece", bytes, np.ndarray)
# Per number of channels. Both channels made from a mono file are copies at full level (ffmpeg's own
# way makes them 3 dB quieter); of surround sound, centre and back are mixed in.
_MIX = {
    1: "aformat=channel_layouts=mono",
    2: "pan=stereo|FL<FL+0.707FC+0.707BL+0.707SL|FR<FR+0.707FC+0.707BR+0.707SR,"
    "aformat=channel_layouts=stereo",
}


@dataclasses.dataclass(frozen=True)
class DecodedClip:
    """Frames (JPEG) and sound of one clip, see `decode_clip`; times on the video's own time line.

    `waveform` is int16 [num_samples], mono, 48 kHz, exactly from start_us to end_us;
    `num_padding_frames` counts leading copies of the first frame, where the picture starts late.
    """

    start_us: int
    end_us: int
    frames: tuple[bytes, ...]
    timestamps_us: tuple[int, ...]
    height_px: int
    width_px: int
    waveform: np.ndarray
    num_padding_frames: int
    origin: "Origin"


@dataclasses.dataclass(frozen=True)
class Reading(tracks.Tracks):
    """How a file is read: which tracks, and whether the least decoding error fails it."""

    strict: bool = False


@dataclasses.dataclass(frozen=True)
class Origin:
    """Which tracks a clip is of, counted from 0, of how many; what was done to its pictures.

    `picture` is empty where nothing was, else "deinterlaced", "HDR PQ tone-mapped", "HDR HLG
    tone-mapped", or two of them.
    """

    video_track: int | None = None
    num_video_tracks: int = 0
    audio_track: int | None = None
    num_audio_tracks: int = 0
    picture: str = ""


# --- Clips ---------------------------------------------------------------------------------------
def decode_clip(
    path: str | pathlib.Path,
    *,
    start_seconds: float = 0.0,
    seconds: float = constants.CLIP_SECONDS,
    frame_rate_hz: float = constants.FRAME_RATE_HZ,
    smallest_side_px: int = constants.SMALLEST_SIDE_PX,
    jpeg_quality: int = DEFAULT_JPEG_QUALITY,
    reading: Reading = Reading(),  # noqa: B008  frozen
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> DecodedClip:
    """Cuts one clip: JPEG frames and mono sound on one time line, by one ffmpeg process.

    The extent is `[start, start + n / frame_rate)`, n complete frames: as many as are wanted and as
    both picture and sound still cover (our choice; so every frame has its sound). Frame k has the
    timestamp `start + k / frame_rate` and shows the last picture whose own timestamp is not later
    (by more than half a millisecond: containers round). A picture that began over a second before
    the start may be missed; the first one known is then repeated in front. Sound missing at the
    front is silence; less than a frame's worth missing at the end, too.

    Frames are scaled so that the smallest side is exactly `smallest_side_px`, up or down
    (L3 §2.2), after rotation and with square pixels.

    `start_seconds` is on the video's own time line, whose zero is its earliest stream's start.
    `reading` chooses the tracks; strictly read, the least decoding error fails the clip, and slight
    damage is common on the web. After `timeout_seconds` of wall-clock time ffmpeg is killed.
    Interlaced pictures are deinterlaced, those of high dynamic range tone-mapped (see
    picture_filters.py).

    Raises:
        MediaError: if the file gives no clip with a second of both picture and sound.
    """
    num_frames = max(1, math.floor(seconds * frame_rate_hz + 1e-6))
    cut = _Cut(
        path,
        start_seconds=start_seconds,
        seconds=seconds,
        num_frames=num_frames,
        frame_rate_hz=frame_rate_hz,
        smallest_side_px=smallest_side_px,
        jpeg_quality=jpeg_quality,
        strict=reading.strict,
        timeout_seconds=timeout_seconds,
    )
    return _assemble(path, cut.decoded(reading), start_seconds, num_frames, frame_rate_hz)


class _OtherTracks(Exception):  # noqa: N818  no error
    """The listing of a file says that another track is wanted, or other filters: these."""


_Result = TypeVar("_Result")


def _by_first_tracks(
    kinds: Sequence[str], begin: Callable[..., _Result]
) -> tuple[_Result, Sequence[tracks.Track]]:
    """Begins with the first tracks, which are mostly the default ones; returns with which.

    The process that decodes them lists the streams before: if others are wanted, it is ended and
    another begins. A process that only lists would take as long as decoding half a second.

    Args:
        kinds: `PICTURE`, `SOUND`.
        begin: takes a track of each kind and `on_listing`, and decodes at least until that was
            called (see `ffmpeg_process.run_to_end`).
    """
    told: list[tracks.Track] = []

    def on_listing(lines: list[str]) -> None:
        told[:] = (tracks.default(kind, lines) for kind in kinds)
        if not _are_plain(told):
            raise _OtherTracks

    try:
        return begin(*map(tracks.first, kinds), on_listing=on_listing), told
    except _OtherTracks:
        return begin(*told), told


def _are_plain(chosen: Iterable[tracks.Track]) -> bool:
    """Returns whether tracks are the first of their kind and pictures need no filter."""
    for track in chosen:
        if track.specifier == tracks.first(SOUND).specifier:
            continue
        if track.specifier != tracks.first(PICTURE).specifier:
            return False
        if picture_filters.deinterlaced(track, 0) or picture_filters.hdr_of(track):
            return False
    return True


class _Decoded(NamedTuple):
    """What one ffmpeg process gave, counted from the wanted start; sound may begin before it."""

    num_late_frames: int
    first_sample_seconds: float
    jpegs: list[bytes]
    pcm: bytearray
    origin: Origin


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Cut:
    """What of a file `decode_clip` decodes, and how."""

    path: str | pathlib.Path = dataclasses.field(kw_only=False)
    start_seconds: float
    seconds: float
    num_frames: int
    frame_rate_hz: float
    smallest_side_px: int
    jpeg_quality: int
    strict: bool
    timeout_seconds: float

    def decoded(self, reading: Reading) -> _Decoded:
        """Decodes the wanted tracks, with one process where they are the first ones."""
        limit = self.timeout_seconds
        if reading.video_track is None and reading.audio_track is None:
            decoded, (seen, heard) = _by_first_tracks((PICTURE, SOUND), self._from)
        else:
            seen = tracks.choose(self.path, PICTURE, reading.video_track, limit)
            heard = tracks.choose(self.path, SOUND, reading.audio_track, limit)
            decoded = self._from(seen, heard)
        counts = seen.number, seen.num_tracks, heard.number, heard.num_tracks
        return decoded._replace(origin=Origin(*counts, decoded.origin.picture))

    def _from(
        self,
        seen: tracks.Track,
        heard: tracks.Track,
        on_listing: ffmpeg_process.OnListing | None = None,
    ) -> _Decoded:
        lead_seconds = _lead_seconds(self.start_seconds)
        tone_mapping = picture_filters.tone_mapped(self.path, seen)

        def arguments(picture_start: int, sound_start: int, picture: int, sound: int) -> list[str]:
            filters = picture_filters.deinterlaced(seen, picture_start)
            filters += _at_rate(self.frame_rate_hz, lead_seconds, self.num_frames, picture_start)
            filters += f",{_scale(self.smallest_side_px, tone_mapping)},format=yuvj420p"
            return [
                *self._input(listing=on_listing is not None),
                *("-map", seen.specifier, "-vf", filters, *_AS_FILTERED),
                *("-c:v", "mjpeg", "-q:v", str(self.jpeg_quality), "-flags:v", "+bitexact"),
                *("-threads", "1", "-f", "image2pipe", f"pipe:{picture}"),
                *_sound_output(heard, sound_start, constants.SAMPLE_RATE_HZ),
                *("-t", f"{lead_seconds + self.seconds:.6f}", f"pipe:{sound}"),
            ]

        picture_start, sound_start, jpegs, pcm = ffmpeg_process.run_to_end(
            self.path, arguments, (2, 2), self.timeout_seconds, self.strict, on_listing
        )
        done = ["deinterlaced"] * picture_filters.was_interlaced(picture_start)
        done += [f"HDR {picture_filters.hdr_of(seen)} tone-mapped"] * bool(tone_mapping)
        counts = seen.number, seen.num_tracks, heard.number, heard.num_tracks
        return _Decoded(
            num_late_frames=_first_number(picture_start),
            first_sample_seconds=_first_seconds(sound_start) - lead_seconds,
            jpegs=split_jpegs(jpegs),
            pcm=pcm,
            origin=Origin(*counts, ", ".join(done)),
        )

    def _input(self, listing: bool) -> list[str]:
        seconds = self.seconds + _MARGIN_SECONDS
        return _input(self.path, self.start_seconds, seconds, strict=self.strict, listing=listing)


def _assemble(
    path: str | pathlib.Path,
    decoded: _Decoded,
    start_seconds: float,
    num_frames: int,
    frame_rate_hz: float,
) -> DecodedClip:
    """Puts picture and sound on one time line: pads the fronts, cuts the ends alike."""
    jpegs, num_padding = decoded.jpegs, decoded.num_late_frames
    if not jpegs or not decoded.pcm:
        detail = f"no {'sound' if jpegs else 'picture'} after {start_seconds:g} s"
        raise MediaError(path, "skipped", "too_short", detail)
    late_seconds = min(decoded.first_sample_seconds, num_frames / frame_rate_hz)
    waveform = _padded(decoded.pcm, round(late_seconds * constants.SAMPLE_RATE_HZ))
    sound_frames = math.ceil(len(waveform) / constants.SAMPLE_RATE_HZ * frame_rate_hz - 1e-6)
    num_frames = min(num_frames, num_padding + len(jpegs), sound_frames)
    late_seconds = max(num_padding / frame_rate_hz, decoded.first_sample_seconds)
    common_seconds = num_frames / frame_rate_hz - late_seconds
    if common_seconds < MIN_COMMON_SECONDS - 1e-6:
        detail = f"{max(common_seconds, 0):.2f} s of picture and sound together"
        detail += f"; need {MIN_COMMON_SECONDS:g} s"
        raise MediaError(path, "skipped", "too_short", detail)
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
        origin=decoded.origin,
    )


def _padded(pcm: bytearray, num_silent: int) -> np.ndarray:
    """Returns int16 sound with silence in front, or cut there where `num_silent` is negative."""
    samples = np.frombuffer(pcm, "<i2", len(pcm) // 2)
    silence = np.zeros(max(num_silent, 0), np.int16)
    return np.concatenate([silence, samples[max(-num_silent, 0) :]])


def _fitted(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    missing = max(0, num_samples - len(waveform))
    return np.pad(waveform[:num_samples], (0, missing))


# --- Streams -------------------------------------------------------------------------------------
def stream_audio(
    path: str | pathlib.Path,
    *,
    sample_rate_hz: int = constants.SAMPLE_RATE_HZ,
    block_samples: int = constants.AUDIO_SAMPLES,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    track: int | None = None,
) -> Generator[np.ndarray, None, None]:
    """Decodes the sound of a file of any length in bounded memory: int16 [block_samples], mono.

    Sample 0 sounds at `start_seconds` of the file's own time line; sound that starts later is
    preceded by silence. The last block may be shorter. The track is counted from 0; None is the
    default one, see `tracks.choose`. Raises MediaError if the file has no sound
    or cannot be decoded to its end, after the blocks before that.
    """
    num_bytes = 0
    chunks = stream_pcm(
        path,
        sample_rate_hz=sample_rate_hz,
        start_seconds=start_seconds,
        seconds=seconds,
        track=track,
    )
    with contextlib.closing(chunks):
        for block in _blocks(chunks, 2 * block_samples):
            num_bytes += len(block)
            yield np.frombuffer(block[: len(block) // 2 * 2], "<i2").astype(np.int16)
    if not num_bytes:
        raise MediaError(path, "skipped", "too_short", f"no sound from {start_seconds:g} s on")


def stream_pcm(
    path: str | pathlib.Path,
    *,
    num_channels: int = 1,
    sample_rate_hz: int = constants.SAMPLE_RATE_HZ,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    track: int | None = None,
) -> Generator[bytes, None, None]:
    """Decodes the sound of a file of any length as bytes, on the time line of `stream_audio`.

    Yields interleaved 16-bit little-endian samples of 1 or 2 channels, in pieces of any length;
    nothing if there is no sound. Raises MediaError if the file cannot be decoded to its end.
    """

    def begin(
        heard: tracks.Track, on_listing: ffmpeg_process.OnListing | None = None
    ) -> tuple[bytes, Generator[bytes, None, None]]:
        def arguments(first: int, sound: int) -> list[str]:
            output = _sound_output(heard, first, sample_rate_hz, num_channels)
            listing = on_listing is not None
            source = _input(path, start_seconds, seconds, listing=listing)
            return [*source, *output, f"pipe:{sound}"]

        chunks = ffmpeg_process.stream(path, arguments, on_listing)
        return next(chunks, b""), chunks

    if track is None:
        (words, stream), _ = _by_first_tracks([SOUND], begin)
    else:
        words, stream = begin(tracks.choose(path, SOUND, track))
    with contextlib.closing(stream):
        late_seconds = _first_seconds(words) - _lead_seconds(start_seconds)
        if late_seconds > _limit_seconds(path):
            raise _too_long(path, "sound")
        bytes_per_second = 2 * num_channels * sample_rate_hz
        chunks = _shifted(stream, 2 * num_channels * round(late_seconds * sample_rate_hz))
        yield from _within_limit(path, "sound", chunks, lambda x: len(x) / bytes_per_second)


def stream_frames(
    path: str | pathlib.Path,
    *,
    frame_rate_hz: float = constants.FRAME_RATE_HZ,
    smallest_side_px: int | None = constants.SMALLEST_SIDE_PX,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    track: int | None = None,
) -> Generator[np.ndarray, None, None]:
    """Decodes the picture of a file of any length, frame by frame, in bounded memory.

    Frame k is the picture shown at `start_seconds + k / frame_rate_hz`, chosen as in
    `decode_clip`; where the picture starts later, its first frame is repeated in front. Frames are
    repeated or dropped, never blended. A `smallest_side_px` of None keeps the size. Interlaced
    pictures and those of high dynamic range are treated, and the track is chosen, as there. Raises
    MediaError if the file has no picture or cannot be decoded to its end, after the frames before.

    Yields:
        uint8 [height, width, 3], RGB.
    """
    num_frames = None if seconds is None else math.ceil(seconds * frame_rate_hz - 1e-6)
    read_seconds = None if seconds is None else seconds + _MARGIN_SECONDS
    seen = tracks.choose(path, PICTURE, track)
    tone_mapping = picture_filters.tone_mapped(path, seen)

    def arguments(first: int, picture: int) -> list[str]:
        filters = picture_filters.deinterlaced(seen, first)
        filters += _at_rate(frame_rate_hz, _lead_seconds(start_seconds), num_frames, first)
        filters += f",{_scale(smallest_side_px, tone_mapping)}"
        # PPM: raw rgb24 behind a header that names the size, which nobody knows beforehand.
        return [
            *_input(path, start_seconds, read_seconds),
            *("-map", seen.specifier, "-vf", filters, *_AS_FILTERED),
            *("-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", f"pipe:{picture}"),
        ]

    frame = None
    stream = ffmpeg_process.stream(path, arguments)
    with contextlib.closing(stream):
        late = _first_number(next(stream, b""))
        if late / frame_rate_hz > _limit_seconds(path):
            raise _too_long(path, "picture")
        frames = _split_ppms(stream)
        for frame in _within_limit(path, "picture", frames, lambda _: 1 / frame_rate_hz):
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
            track=track,
        )
        with contextlib.closing(finest):
            yield next(finest)


def _limit_seconds(path: str | pathlib.Path) -> float:
    """Returns how long a stream of a file may be."""
    return _LEAST_LIMIT_SECONDS + os.path.getsize(path) / _BYTES_PER_SECOND


def _too_long(path: str | pathlib.Path, stream: str) -> MediaError:
    detail = f"over {_limit_seconds(path):.0f} s of {stream} from {os.path.getsize(path)} bytes"
    return MediaError(path, "failed", "refused", f"{detail}: a gap or a damaged time")


def _within_limit(
    path: str | pathlib.Path,
    stream: str,
    pieces: Iterable[_Piece],
    seconds_of: Callable[[_Piece], float],
) -> Iterator[_Piece]:
    """Yields pieces of a stream; MediaError where it becomes longer than its file can hold."""
    seconds, limit = 0.0, _limit_seconds(path)
    for piece in pieces:
        seconds += seconds_of(piece)
        if seconds > limit:
            raise _too_long(path, stream)
        yield piece


def _shifted(chunks: Iterator[bytes], num_bytes: int) -> Iterator[bytes]:
    """Puts silence in front of the chunks, or cuts there where `num_bytes` is negative."""
    for position in range(0, num_bytes, _SILENCE_BYTES):
        yield bytes(min(num_bytes - position, _SILENCE_BYTES))
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


@contextlib.contextmanager
def in_plain_words(advice: Mapping[str, str]) -> Iterator[None]:
    """Turns a MediaError for the reason "no_audio" or "no_video" into a UserError with advice."""
    try:
        yield
    except MediaError as error:
        if error.reason not in advice:
            raise
        raise UserError(f"{error.path}: {advice[error.reason]}") from error


# --- Command line --------------------------------------------------------------------------------
def _input(
    path: str | pathlib.Path, start_seconds: float, seconds: float | None, **rules: bool
) -> list[str]:
    """Returns the arguments before the outputs; reading begins `_lead_seconds` before the start."""
    lead_seconds = _lead_seconds(start_seconds)
    return ffmpeg_process.input_arguments(
        path,
        seek_seconds=start_seconds - lead_seconds,
        seconds=None if seconds is None else lead_seconds + seconds,
        **rules,
    )


def _lead_seconds(start_seconds: float) -> float:
    """Returns how much is read before the wanted start: the margin or more, where there is so much.

    ffmpeg rounds the time it seeks to to the stream's time base, in an AVI file a full frame; full
    seconds need no rounding.
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
        f"trim=start_pts=0{end},{picture_filters.print_first('', first)}"
    )


def _sound_output(
    track: tracks.Track, first: int, sample_rate_hz: int, num_channels: int = 1
) -> list[str]:
    # async=1 fills gaps of more than 0.1 s, so that sound after one keeps its time.
    filters = f"{picture_filters.print_first('a', first)},{ffmpeg_process.sound_check()}"
    filters += f"aresample={sample_rate_hz}:async=1,{_MIX[num_channels]}"
    filters += f":sample_fmts=s16:sample_rates={sample_rate_hz}"
    return ["-map", track.specifier, "-af", filters, "-f", "s16le"]


def _first_number(words: bytes | bytearray) -> int:
    return int(picture_filters.printed(words, "pts") or 0)


def _first_seconds(words: bytes | bytearray) -> float:
    return float(picture_filters.printed(words, "pts_time") or 0)


def _scale(smallest_side_px: int | None, tone_mapping: str) -> str:
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
    return f"scale={size}:flags=bicubic,{tone_mapping}{colours},setsar=1"
