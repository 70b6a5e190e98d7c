"""The files below a folder, each folder once, however links lead to it."""

import os
import pathlib
from collections.abc import Callable, Iterator


def files_below(
    folder: str | pathlib.Path,
    *,
    may_leave: bool,
    note: Callable[[str], None],
    failed: Callable[[OSError], None],
) -> Iterator[str]:
    """Yields the files in a folder and its subfolders, sorted folder by folder.

    Hidden ones are left out. A link to a folder comes after all that is no link; it is followed
    unless it leads to a folder that was there already, as a loop does, or out of the folder where
    that is not allowed.

    Args:
        folder: it may be a link itself.
        may_leave: whether links out of the folder are followed.
        note: called with a line for each link that is not followed.
        failed: called with what went wrong with a folder.

    Yields:
        Paths relative to the folder, posix style.
    """
    root = pathlib.Path(folder).resolve()
    seen: dict[tuple[int, int], str] = {}
    links = [""]
    while links:
        link = links.pop(0)
        if link and not may_leave and not _resolved(root, link).is_relative_to(root):
            note(f"left out the link {folder}/{link}: it leads out of the folder")
            continue
        waiting = [link]
        while waiting:
            name = waiting.pop()
            try:
                status = os.stat(os.path.join(folder, name))
                first = seen.setdefault((status.st_dev, status.st_ino), name)
                if first != name:
                    note(f"left out the link {folder}/{name}: the same folder as {folder}/{first}")
                    continue
                files, folders, more = _listed(os.path.join(folder, name))
            except OSError as error:
                failed(error)
                continue
            prefix = f"{name}/" if name else ""
            yield from (prefix + each for each in files)
            waiting += [prefix + each for each in reversed(folders)]
            links += [prefix + each for each in more]


def _listed(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Returns the names of files, of folders and of links to folders, sorted."""
    files, folders, links = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif _leads_to_folder(entry):
                links.append(entry.name)
            else:
                files.append(entry.name)
    return sorted(files), sorted(folders), sorted(links)


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a loop of links
        return False


def _resolved(root: pathlib.Path, name: str) -> pathlib.Path:
    return pathlib.Path(os.path.realpath(root / name))
