"""Which files a folder holds, by the names that downloaders give, and which clip each one is.

A folder is walked once. Names of YouTube clips that are understood (START and END in seconds or
milliseconds, zero-padded or not; an extra "Y" in front of the id is fine):

    ID.mp4   ID_START.mp4   ID_START_END.mp4   TITLE [ID].mp4
"""

import logging
import os
import pathlib
import re
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from data_prep.archives.members import is_archive
from l3net import constants
from l3net.errors import UserError
from l3net.files import is_utf8
from l3net.media import folders
from l3net.media.file_kinds import kind_in_folder

AUTO, YES, NO = TRIMMED = ("auto", "yes", "no")
IMAGE_SECONDS = 1 / constants.FRAME_RATE_HZ  # an image is a clip of one frame
_NUMBERS = r"(?:_(\d+(?:\.\d+)?))?(?:_(\d+(?:\.\d+)?))?"
_ID = r"([A-Za-z0-9_-]{11})"
_CLIP_NAMES = [
    re.compile(pattern) for pattern in (f"{_ID}{_NUMBERS}", f"Y{_ID}{_NUMBERS}", rf".* \[{_ID}\]")
]
_MILLISECONDS = 1000
_log = logging.getLogger(__name__)


class MediaFile(NamedTuple):
    """A file, and what its name says about its extent."""

    path: str  # relative to the folder, posix style
    numbers: tuple[float, ...] = ()  # none, the start, or start and end, in seconds or milliseconds


Names = Callable[[str], Iterable[tuple[str, tuple[float, ...]]]]


def youtube_names(stem: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yields every (YouTube id, numbers) that the name of a file, without suffix, may mean."""
    for pattern in _CLIP_NAMES:
        if match := pattern.fullmatch(stem):
            video_id, *numbers = match.groups()
            yield video_id, tuple(float(number) for number in numbers if number)


def flickr_names(stem: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yields the Flickr number that a name begins with: "9419455509", "9419455509_8461e78d0d"."""
    if match := re.fullmatch(r"(\d+)(?:_.*)?", stem):
        yield match[1], ()


def plain_names(stem: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yields the name itself."""
    yield stem, ()


def media_paths(folder: str | pathlib.Path, kind: str) -> Iterator[str]:
    """Yields the files below a folder that are sound, images or video; see `files_below`.

    `kind` is one of `l3net.media.file_kinds`, by suffix or else by content.
    """
    num_others = 0
    for path in files_below(folder):
        if is_archive(path) or kind_in_folder(pathlib.Path(folder, path)) != kind:
            num_others += 1
        elif is_utf8(path):
            yield path
        else:
            warn_of_name(path, folder)
    if num_others:
        _log.info("%s: left out %d files that are no %s", folder, num_others, kind)


def files_below(
    folder: str | pathlib.Path, note: Callable[[str], None] | None = None
) -> Iterator[str]:
    """Yields the files in a folder and its subfolders, folder by folder.

    Paths are relative to the folder, posix style. Hidden files are left out. Links to folders are
    named in the log and not followed: what they lead to inside is there already, and the way out
    is closed, as it is for manifests (`l3net.media.ffmpeg.inside`). `note` may take the lines
    instead of the log.
    """

    def failed(error: OSError) -> None:
        raise UserError(f"cannot read the folder {folder}: {error}") from error

    yield from folders.files_below(folder, may_leave=False, note=note or _note, failed=failed)


def _note(line: str) -> None:
    _log.warning("%s; name what is behind it in --videos_dir, too, if it is wanted", line)


def index_folder(
    paths: Iterable[str], names: Names, wanted: Container[str]
) -> dict[str, list[MediaFile]]:
    """Returns video id -> its files, sorted by path, for the wanted ids only.

    `names` yields every (id, numbers) that the name of a file, without suffix, may mean.
    """
    index: dict[str, list[MediaFile]] = {}
    for path in paths:
        stem = os.path.splitext(path[path.rfind("/") + 1 :])[0]
        for video_id, numbers in names(stem):
            if video_id in wanted:
                index.setdefault(video_id, []).append(MediaFile(path, numbers))
    for files in index.values():
        files.sort()
    return index


def best_file(files: Iterable[MediaFile], start: float, end: float) -> MediaFile | None:
    """Chooses the file that holds a clip: one named by its start and end, by its start, by its id.

    Both are on the complete video's time line, seconds. None if all files hold other parts of it.
    """
    ranked = ((_rank(file.numbers, start, end), file) for file in files)
    fitting = [(rank, file) for rank, file in ranked if rank is not None]
    return min(fitting)[1] if fitting else None


def extent(file: MediaFile, start: float, end: float, trimmed: str) -> tuple[float, float]:
    """Returns the start and end of a clip on its file's own time line, seconds.

    `trimmed` says whether files begin where their clips begin; "auto": if their names have numbers.
    """
    if trimmed == YES or (trimmed == AUTO and file.numbers):
        return 0.0, round(end - start, 6)
    return start, end


def _rank(numbers: tuple[float, ...], start: float, end: float) -> int | None:
    """0 is best; None: another part of the video."""
    if not numbers:
        return 2
    for unit in (1, _MILLISECONDS):
        pairs = zip(numbers, (start * unit, end * unit), strict=False)
        if all(_is_same(number, wanted) for number, wanted in pairs):
            return 2 - len(numbers)
    return None


def _is_same(number: float, wanted: float) -> bool:
    # Names often hold whole numbers only.
    return abs(number - wanted) < 1e-3 or number in (int(wanted), round(wanted))


def warn_of_name(path: str, folder: str | pathlib.Path) -> None:
    """Says that a file is left out whose name is not UTF-8."""
    _log.warning("left out %r in %s: its name is not UTF-8; rename it", path, folder)
