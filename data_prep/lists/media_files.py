"""The files of a data set wherever they are: in folders, and in archives as if unpacked there."""

import contextlib
import dataclasses
import errno
import glob
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator

from data_prep.archives import member_copies, member_index
from data_prep.archives.member_index import Archive, Index
from data_prep.archives.members import SUFFIXES, is_archive
from data_prep.lists import media_index
from l3net.errors import UserError
from l3net.files import is_utf8
from l3net.media.ffmpeg import MediaError, inside
from l3net.media.file_kinds import KINDS

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class MediaFiles:
    """Folders and archives, from `find`; a path is that of a file in one of the folders.

    A member of an archive has the path that it would have if the archive were unpacked in the
    folder that it is in. A file comes before a member of the same path.

    Attributes:
        folders: absolute, links resolved.
        archives: in the order in which they count.
        index: where the members are, None until `indexed`; travels to workers.
    """

    folders: tuple[pathlib.Path, ...]
    archives: tuple[Archive, ...] = ()
    index: pathlib.Path | None = None

    def indexed(self, folder: pathlib.Path, others: Iterable[pathlib.Path] = ()) -> "MediaFiles":
        """Returns these files with an index of the archives' members, made if need be.

        Args:
            folder: for the index and, while a member is read, a copy of it.
            others: folders which may have an index with these archives.

        Raises:
            UserError: if an archive cannot be opened or the index cannot be written.
        """
        if not self.archives:
            return self
        path = folder.absolute() / member_index.FILE
        known = [other / member_index.FILE for other in others]
        member_index.update(path, self.archives, known)
        return dataclasses.replace(self, index=path)

    def paths(self, kind: str) -> Iterator[str]:
        """Yields the files of a kind (see `media_index.media_paths`), then the members.

        Members of archives go by their suffix alone. Hidden ones and linked folders are left out.
        A path may be that of a file and of a member.
        """
        num_twice = 0
        for number, folder in enumerate(self.folders):
            for path in media_index.media_paths(folder, kind):
                if any(os.path.lexists(earlier / path) for earlier in self.folders[:number]):
                    num_twice += 1
                else:
                    yield path
        if num_twice:
            _log.warning("%d files are in several folders; those of the first count", num_twice)
        if self.index is not None:
            with contextlib.closing(Index(self.index)) as index:
                for path in index.paths():
                    is_hidden = path.startswith(".") or "/." in path
                    if not is_hidden and KINDS.get(os.path.splitext(path)[1].lower()) == kind:
                        yield path

    def damaged_archives(self) -> list[str]:
        """Returns the archives that cannot be read to their end, as paths of files."""
        if self.index is None:
            return []
        with contextlib.closing(Index(self.index)) as index:
            return list(index.damaged())

    def has(self, path: str) -> bool:
        """Returns whether there is a file of this path; archives do not count."""
        return any(os.path.lexists(folder / path) for folder in self.folders)

    def num_bytes(self, path: str) -> int:
        """Returns the size of a file or member, 0 if there is none."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                return (folder / path).stat().st_size
        if self.index is None:
            return 0
        with contextlib.closing(Index(self.index)) as index:
            place = index.find(path)
        return 0 if place is None or place.member.refusal else place.member.num_bytes

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[pathlib.Path]:
        """Yields the absolute path of a file, of a member that of a copy which is then deleted.

        Raises:
            MediaError: "missing"; "refused", as of `ffmpeg.inside` and if a member is no file for
                us; "damaged" if an archive is.
        """
        if self.index is None:
            yield self._loose(path)
            return
        with contextlib.closing(Index(self.index)) as index:
            damage = index.damaged().get(path) if is_archive(path) else None
            if damage is not None:
                raise MediaError(path, "failed", "damaged", damage)
            place = None if self.has(path) else index.find(str(pathlib.PurePosixPath(path)))
            if place is None:
                yield self._loose(path)
                return
            with member_copies.copied(path, place, index, self.index.parent) as copy:
                yield copy

    def _loose(self, path: str) -> pathlib.Path:
        # Without a folder it is looked for where there is nothing: names are checked all the same.
        for folder in self.folders[:-1]:
            if os.path.lexists(folder / path):
                return inside(folder, path)
        if self.folders:
            return inside(self.folders[-1], path)
        if pathlib.PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise MediaError(path, "failed", "refused", "leads out of the folder of the videos")
        raise MediaError(path, "failed", "missing", os.strerror(errno.ENOENT))


# --- What there is -------------------------------------------------------------------------------
def find(text: str | pathlib.Path, what: str) -> MediaFiles:
    """Returns the folders and archives of a flag, and the archives in the folders.

    Args:
        text: paths or patterns such as "shards/*.tar" with commas between them.
        what: what is in them, for messages, such as "videos".

    Raises:
        UserError: if one does not exist or is no archive.
    """
    folders: list[pathlib.Path] = []
    archives: list[Archive] = []
    for path in _named(str(text), what):
        if path.is_dir():
            folder = path.resolve()
            folders.append(folder)
            archives += _archives_in(folder)
        elif path.is_file() and is_archive(path):
            if not is_utf8(path.name):
                raise UserError(f"{path}: its name is not UTF-8; rename it")
            archives.append(Archive(path.resolve(), path.name))
        else:
            raise UserError(f"{path}: need a folder, or an archive: {', '.join(SUFFIXES)}")
    unique = {archive.path: archive for archive in reversed(archives)}
    return MediaFiles(tuple(dict.fromkeys(folders)), tuple(reversed(unique.values())))


def _named(text: str, what: str) -> Iterator[pathlib.Path]:
    for part in [text] if os.path.exists(text) else text.split(","):
        if os.path.exists(part):
            yield pathlib.Path(part)
            continue
        found = sorted(glob.glob(part, recursive=True))
        if not found:
            raise UserError(f"{what} folder {part} does not exist")
        yield from map(pathlib.Path, found)


def _archives_in(folder: pathlib.Path) -> Iterator[Archive]:
    # Links are named when the files are listed.
    names = filter(is_archive, media_index.files_below(folder, note=lambda _: None))
    for label in sorted(names):
        if not is_utf8(label):
            media_index.warn_of_name(label, folder)
            continue
        try:
            yield Archive(inside(folder, label), label)
        except MediaError as error:
            _log.warning("left out %s/%s: %s", folder, label, error.detail)
