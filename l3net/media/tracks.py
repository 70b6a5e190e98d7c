"""Which of a file's tracks are decoded: the one flagged as default, as players do, or a chosen one.

ffmpeg's own listing of the streams says what there is; it is read once per file.
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from l3net.flags import setting
from l3net.media import ffmpeg_process
from l3net.media.ffmpeg_process import PICTURE, SOUND, MediaError

_KINDS = {PICTURE: "Video", SOUND: "Audio"}
_LINE = re.compile(
    r"\s*Stream #0:(?P<index>\d+)(\[0x[0-9a-f]+\])?(\([^()]*\))?: (?P<kind>Video|Audio): "
    r"(?P<words>.*)"
)
_FLAGS = re.compile(r"( \([^()]*\))*$")
_DEFAULT, _COVER = "(default)", "(attached pic)"


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Which tracks of files are decoded."""

    audio_track: int | None = setting(
        None,
        "Track of sound to take, counted from 0 among a file's tracks of sound; without the flag "
        "the one flagged as default, as players do, else the first.",
        at_least=0,
    )
    video_track: int | None = setting(
        None,
        "Track of pictures to take, counted from 0 among a file's tracks of pictures, cover "
        "pictures left out; without the flag the one flagged as default, else the first.",
        at_least=0,
    )


@dataclasses.dataclass(frozen=True)
class Track:
    """A track to decode.

    Attributes:
        specifier: what ffmpeg calls it, such as "0:a:1".
        number: counted from 0 among those of its kind; None if there is none, or no telling.
        num_tracks: how many of its kind the file holds.
        words: what ffmpeg's listing says of it.
    """

    specifier: str
    number: int | None = None
    num_tracks: int = 0
    words: str = ""


def choose(
    path: str | pathlib.Path,
    kind: str,
    number: int | None = None,
    timeout_seconds: float | None = None,
) -> Track:
    """Chooses the track of pictures or of sound of a file.

    Without a number it is the first that is flagged as default, else the first; a cover picture is
    none (our choice where several or none are flagged). What cannot be listed is left to the
    decoding to explain.

    Args:
        path: the file.
        kind: `ffmpeg_process.PICTURE` or `SOUND`.
        number: the wanted one, counted from 0.
        timeout_seconds: limit for the listing; see `ffmpeg_process.list_streams`.

    Raises:
        MediaError: "no_track" if the file has tracks of the kind, but not so many; "timeout".
    """
    words = _words(path, timeout_seconds)[kind]
    if number is not None and len(words) <= number and words:
        name = ffmpeg_process.NAMES[kind]
        detail = f"no track {number} of {name}: it has {len(words)}, counted from 0"
        raise MediaError(path, "skipped", "no_track", detail)
    return _chosen(kind, words, number)


def first(kind: str) -> Track:
    """Returns the first track of a kind, of which nothing is known."""
    return Track(f"{kind}:0")


def default(kind: str, lines: Iterable[str]) -> Track:
    """Returns what `choose` chooses without a number, from a listing that is there already."""
    return _chosen(kind, _parsed(lines)[kind], None)


def _chosen(kind: str, words: Sequence[str], number: int | None) -> Track:
    if not words:
        return first(kind)
    if number is None:
        flagged = (k for k, each in enumerate(words) if _DEFAULT in _flags(each))
        number = next(flagged, 0)
    return Track(f"{kind}:{number}", number, len(words), words[number])


def _flags(words: str) -> str:
    match = _FLAGS.search(words)
    return match[0] if match else ""


def _words(path: str | pathlib.Path, timeout_seconds: float | None) -> dict[str, tuple[str, ...]]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _parsed(())  # ffmpeg_process says why
    identity = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    program = ffmpeg_process.find_ffmpeg()
    return _listed(os.fspath(path), identity, program, timeout_seconds)


@functools.lru_cache(maxsize=64)  # sound and picture of a file are often decoded one by one
def _listed(path: str, identity: tuple, program: str, timeout_seconds: float | None):
    return _parsed(ffmpeg_process.list_streams(path, timeout_seconds))


def _parsed(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns ffmpeg's words of the tracks of each kind, in their order."""
    streams: dict[int, tuple[str, str]] = {}  # MPEG-TS lists a stream per programme, in any order
    for line in lines:
        if match := _LINE.match(line):
            streams[int(match["index"])] = match["kind"], match["words"]
    return {
        kind: tuple(
            words
            for _, (name, words) in sorted(streams.items())
            if name == listed and _COVER not in _flags(words)
        )
        for kind, listed in _KINDS.items()
    }
