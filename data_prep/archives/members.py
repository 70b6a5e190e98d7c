"""What a member of an archive is, and which are refused: names and kinds come from strangers."""

import pathlib
from typing import NamedTuple

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
# Above it a member is refused (our choice): each is copied to a temporary file before it is read.
MAX_MEMBER_BYTES = 4 << 30
_MAX_NAME_BYTES = 4096  # of a path, as Linux has it


class Damage(Exception):  # noqa: N818  it is none of ours: the archive's
    """An archive cannot be read from here on; what came before is good."""


class Member(NamedTuple):
    """One member of an archive.

    Attributes:
        name: its path as unpacked, relative to the archive's folder, posix style; "" if no file
            can have that.
        offset: where its bytes begin, in a .tar.gz in what comes out of it; in a .zip where its
            local header does.
        num_bytes: size of its content.
        num_stored: bytes that it takes in the archive.
        is_deflated: whether those are compressed (.zip).
        crc: CRC-32 of its content (.zip), -1 if the archive keeps none.
        refusal: what it is, if it is no file for us; "" if it is one.
    """

    name: str
    offset: int = 0
    num_bytes: int = 0
    num_stored: int = 0
    is_deflated: bool = False
    crc: int = -1
    refusal: str = ""


def is_archive(path: str | pathlib.Path) -> bool:
    """Returns whether a file's name is one of an archive."""
    return str(path).lower().endswith(SUFFIXES)


def checked_name(name: str) -> tuple[str, str]:
    """Returns (name, refusal) of a `Member` with this name: "./a//b.mp4" is "a/b.mp4"."""
    plain = "/".join(part for part in name.split("/") if part not in ("", "."))
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "", f"{name!r:.100}: not UTF-8"
    if name.startswith("/") or ".." in name.split("/"):
        return "", f"{name!r:.100}: leads out of its folder"
    if not plain or "\0" in name or len(encoded) > _MAX_NAME_BYTES:
        return "", f"{name!r:.100}: no name of a file"
    return plain, ""
