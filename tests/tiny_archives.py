"""Small archives of any bytes, well-behaved and hostile ones."""

import gzip
import io
import pathlib
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Sequence

KINDS = ("tar", "tar.gz", "zip")
Files = Iterable[tuple[str, bytes]]


def header(name: str, size: int = 0, **fields) -> tarfile.TarInfo:
    """Returns the header of a tar's member."""
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar_bytes(files: Files, further: Sequence[tarfile.TarInfo] = (), **settings) -> bytes:
    """Returns a tar of these files, then members that are headers alone."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", **settings) as tar:
        for name, data in files:
            tar.addfile(header(name, len(data)), io.BytesIO(data))
        for info in further:
            tar.addfile(info)
    return made.getvalue()


def without_end(tar: bytes) -> bytes:
    """Returns a tar without the blocks of zeros at its end, so that more can follow."""
    while not any(tar[-512:]):
        tar = tar[:-512]
    return tar


def zip_bytes(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a zip of these files; names may come twice."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return made.getvalue()


def archive_bytes(kind: str, files: Files) -> bytes:
    """Returns an archive of one of `KINDS`."""
    if kind == "zip":
        return zip_bytes(files)
    return gzip.compress(tar_bytes(files), 1) if kind == "tar.gz" else tar_bytes(files)


def hostile_members() -> list[tarfile.TarInfo]:
    """Returns members of a tar that nobody should write, follow or make; none ends the archive."""
    return [
        header("../out.mp4"),
        header("a/../../out.mp4"),
        header("/tmp/out.mp4"),
        header("link.mp4", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        header("hard.mp4", type=tarfile.LNKTYPE, linkname="../out.mp4"),
        header("tty.mp4", type=tarfile.CHRTYPE),
        header("disk.mp4", type=tarfile.BLKTYPE),
        header("pipe.mp4", type=tarfile.FIFOTYPE),
        header("odd.mp4", type=b"Z"),
        header("bad\udcff.mp4"),
        header("."),
    ]


def claim_of_a_terabyte(name: str = "huge.mp4") -> bytes:
    """Returns the header of a member that has no content."""
    return header(name, 1 << 40).tobuf(tarfile.GNU_FORMAT)


def change_field(data: bytes, signature: bytes, offset: int, format_: str, value: int) -> bytes:
    """Returns a zip with a number changed in the last record that begins so."""
    changed = bytearray(data)
    struct.pack_into(format_, changed, data.rindex(signature) + offset, value)
    return bytes(changed)


def write(path: pathlib.Path, data: bytes) -> pathlib.Path:
    """Writes a file and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
