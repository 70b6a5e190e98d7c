"""Clips in WebDataset's form: a .tar per shard, a few files with a common key per clip.

    KEY.json            what `Clip` holds besides: ids, labels, times in microseconds, sizes
    KEY.flac            the sound: mono, 48 kHz, 16 bits
    KEY.0000.jpg        the frames
    KEY.0000.flow.jpg   optical flow from each frame to the next, if there is any

WebDataset's key of a file ends at the first "." of its name, so KEY has none: it is the example_id
if that has only letters, digits, "_" and "-", else as much of it as that leaves, "-" and 16 digits
of its hash. The same clip gives the same bytes: nobody's name and no time are in them.
"""

import dataclasses
import hashlib
import io
import itertools
import json
import pathlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import soundfile

from l3net import constants
from l3net.data.clip import FLAC, Clip, check_clip, encode_flac

SUFFIX = ".tar"
_JSON, _FLAC, _JPEG, _FLOW = "json", "flac", "jpg", "flow.jpg"
_IN_FILES = {"frames", "flows", "forward_flows", "waveform"}  # the other fields are in the JSON
_MAX_KEY = 60
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_END_BYTES = 2 * tarfile.BLOCKSIZE


def key_of(example_id: str) -> str:
    """Returns the key of a clip, which no other clip's example_id gives."""
    if len(example_id) <= _MAX_KEY and not _ODD.search(example_id):
        return example_id
    digest = hashlib.sha256(example_id.encode()).hexdigest()[:16]
    return f"{_ODD.sub('_', example_id)[:_MAX_KEY]}-{digest}"


def encode_clip(clip: Clip) -> bytes:
    """Returns a clip's members of the tar.

    Raises:
        ValueError: as `schema.encode_clip`.
    """
    check_clip(clip)
    fields = {
        field.name: getattr(clip, field.name)
        for field in dataclasses.fields(clip)
        if field.name not in _IN_FILES
    }
    fields |= {"audio_encoding": FLAC, "sample_rate_hz": constants.SAMPLE_RATE_HZ}
    files = {_JSON: json.dumps(fields, sort_keys=True, indent=1).encode()}
    files[_FLAC] = encode_flac(clip.waveform)
    for suffix, jpegs in ((_JPEG, clip.frames), (_FLOW, clip.flows)):
        files |= {f"{number:04d}.{suffix}": jpeg for number, jpeg in enumerate(jpegs)}
    key = key_of(clip.example_id)
    return b"".join(_member(f"{key}.{name}", data) for name, data in files.items())


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)  # of user 0, in 1970
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


class Writer:
    """Writes encoded clips to a new tar; a context manager."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  closed in __exit__

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        with self._file as file:
            file.write(bytes(_END_BYTES))

    def write(self, record: bytes) -> None:
        """Writes one clip."""
        self._file.write(record)


def read_records(path: pathlib.Path) -> Iterator[bytes]:
    """Yields what `encode_clip` returned, clip by clip.

    Raises:
        OSError or tarfile.TarError: if the tar is cut off or damaged.
    """
    with tarfile.open(path, "r:") as tar, open(path, "rb") as file:
        starts = ((info.name.partition(".")[0], info.offset) for info in tar)
        firsts = (next(group)[1] for _, group in itertools.groupby(starts, lambda each: each[0]))
        for start, end in itertools.pairwise([*firsts, tar.offset]):
            file.seek(start)
            yield file.read(end - start)


def clip_from_bytes(record: bytes) -> Clip:
    """Reads back what `encode_clip` wrote.

    Raises:
        ValueError: if the record is no clip of this form.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(record), mode="r:") as tar:
            files = {info.name.partition(".")[2]: _content(tar, info) for info in tar}
        fields: dict[str, Any] = json.loads(files.pop(_JSON))
        waveform, _ = soundfile.read(io.BytesIO(files.pop(_FLAC)), dtype="int16")
        del fields["sample_rate_hz"]
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        frames, flows = (_series(files, suffix) for suffix in (_JPEG, _FLOW))
        return Clip(**fields | lists, frames=frames, flows=flows, waveform=waveform)
    except (tarfile.TarError, KeyError, TypeError, soundfile.SoundFileError) as error:
        raise ValueError(f"record is no clip: {error!r}") from error


def _series(files: Mapping[str, bytes], suffix: str) -> tuple[bytes, ...]:
    names = (name.partition(".") for name in files)
    numbers = sorted(
        (int(number), f"{number}.{rest}") for number, _, rest in names if rest == suffix
    )
    return tuple(files[name] for _, name in numbers)


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    if file is None:
        raise ValueError(f"{info.name} is no file")
    return file.read()
