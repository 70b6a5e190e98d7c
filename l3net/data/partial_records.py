"""Reads of a clip only what a pair shows: one JPEG of 250 and two of ten seconds of sound.

A clip's record is 5 MB, what a pair needs of it 0.2 MB. Where a record's parts are is found out on
the first visit, by hopping from one field's length to the next; that is kept in memory, 3 kB per
clip of ten seconds, for at most `_MAX_KEPT` clips (3 GB), so later visits read only what is asked
for. Nothing is written to disk. Checksums are those of complete records, so they are not compared
here: `data_prep.verify_shards` does that.

The wire format: https://protobuf.dev/programming-guides/encoding; of the shards: `TFRecordWriter`.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator

import numpy as np
import soundfile
import tensorflow as tf
from google.protobuf.message import DecodeError

from l3net import constants
from l3net.data import damage, schema
from l3net.data.shards import Shard
from l3net.data.storage import Location, RemotePath
from l3net.errors import UserError, first_line

_MAX_KEPT = 1_000_000
_LENGTH_BYTES, _CRC_BYTES = 8, 4  # a TFRecord: length, its CRC, the record, its CRC
_HEADS_BYTES = 32  # holds the tags and lengths of three nested fields
_LENGTH_DELIMITED = 2
_MAP_KEY, _MAP_VALUE = 1, 2
_JPEG_START = b"\xff\xd8"
_JPEGS = {"image/encoded": "frames", "flow/encoded": "flows"}
_SOUNDS = (schema.AUDIO_BYTES, schema.AUDIO_FLOATS)

_Read = Callable[[int, int], bytes]  # of a file: position, number of bytes


@dataclasses.dataclass(frozen=True)
class ClipFacts:
    """What is kept of a clip.

    Attributes:
        media_id: see `schema.Clip`.
        label: index of the first label; -1 if it has none.
        frame_times_us: int32 [num_frames], from the clip's start.
        num_padding_frames: see `schema.Clip`.
        num_samples: number of samples of the sound.
        jpegs: "frames" and, if the record has flow, "flows" -> position in the file of the first
            one, uint32 [count + 1] borders of the fields that hold them, from there.
        sound: position in the file and number of bytes of the stored sound.
    """

    media_id: str
    label: int
    frame_times_us: np.ndarray
    num_padding_frames: int
    num_samples: int
    jpegs: dict[str, tuple[int, np.ndarray]]
    sound: tuple[int, int]


class PartialRecords:
    """The clips of some shards, numbered from 0 in the shards' order; used by many threads.

    Every method raises UserError, naming shard and record, if one is damaged or cannot be read.
    """

    def __init__(self, shards: list[Shard], audio_encoding: str):
        """`audio_encoding` as in `schema.Clip`, that of all clips."""
        self._paths = [shard.path for shard in shards]
        self._first_clips = np.cumsum([0, *(shard.num_clips for shard in shards)])
        self._audio_encoding = audio_encoding
        self._records: dict[int, np.ndarray] = {}
        self._facts: dict[int, ClipFacts] = {}

    @property
    def num_clips(self) -> int:
        """How many clips there are."""
        return int(self._first_clips[-1])

    def facts(self, clip: int) -> ClipFacts:
        """Returns what is known of a clip without its frames and sound."""
        if (kept := self._facts.get(clip)) is not None:
            return kept
        shard = self._shard_of(clip)
        with self._opened(clip) as file:
            if shard not in self._records:
                num_clips = int(self._first_clips[shard + 1] - self._first_clips[shard])
                self._records[shard] = _record_borders(file, num_clips)
            start, end = self._records[shard][clip - self._first_clips[shard]]
            facts = _read_facts(file.read_at, int(start), int(end), self._audio_encoding)
        if len(self._facts) < _MAX_KEPT:
            self._facts[clip] = facts
        return facts

    def jpegs(self, clip: int, field: str, index: np.ndarray) -> np.ndarray:
        """Reads JPEGs of a clip, "frames" or "flows".

        Args:
            clip: number of the clip.
            field: "frames" or "flows".
            index: int32 of any shape; what lies between the least and the greatest is read, too.

        Returns:
            bytes objects, of index's shape.
        """
        origin, borders = self.facts(clip).jpegs[field]
        first, last = int(index.min()), int(index.max())
        begin = int(borders[first])
        with self._opened(clip) as file:
            span = file.read_at(origin + begin, int(borders[last + 1]) - begin)
        jpegs = np.empty(index.shape, object)
        for place, k in np.ndenumerate(index):
            jpegs[place] = _content(span[int(borders[k]) - begin : int(borders[k + 1]) - begin])
            if not jpegs[place].startswith(_JPEG_START):
                raise self._damaged(clip, f"picture {k} is no JPEG")
        return jpegs

    def seconds(self, clip: int, starts: np.ndarray) -> np.ndarray:
        """Reads seconds of sound: int16 [len(starts), 48000], from these samples on."""
        position, size = self.facts(clip).sound
        length = constants.AUDIO_SAMPLES
        with self._opened(clip) as file:
            if self._audio_encoding == schema.FLAC:
                sound = io.BytesIO(file.read_at(position, size))
                cuts = [_cut_flac(sound, int(start)) for start in starts]
            elif self._audio_encoding == schema.FLOATS:
                parts = [file.read_at(position + 4 * int(s), 4 * length) for s in starts]
                cuts = [schema.int16_of(np.frombuffer(part, "<f4")) for part in parts]
            else:
                parts = [file.read_at(position + 2 * int(s), 2 * length) for s in starts]
                cuts = [np.frombuffer(part, "<i2") for part in parts]
        return np.stack(cuts).astype(np.int16)

    @contextlib.contextmanager
    def _opened(self, clip: int) -> Iterator["_File"]:
        try:
            with _File(self._paths[self._shard_of(clip)]) as file:
                yield file
        except (OSError, tf.errors.OpError) as error:
            path = self._paths[self._shard_of(clip)]
            raise UserError(damage.say_unreadable(path, first_line(error))) from error
        except (ValueError, LookupError, DecodeError, soundfile.SoundFileError) as error:
            raise self._damaged(clip, first_line(error)) from error

    def _damaged(self, clip: int, problem: str) -> UserError:
        shard = self._shard_of(clip)
        path = self._paths[shard]
        where = f"record {clip - int(self._first_clips[shard])} of {path}"
        return UserError(damage.say_damaged(where, problem, path.parent))

    def _shard_of(self, clip: int) -> int:
        return int(np.searchsorted(self._first_clips, clip, side="right")) - 1


class _File:
    """A file that is read at positions here and there; on a disk nothing is read ahead."""

    def __init__(self, path: Location):
        self._path = path

    def __enter__(self) -> "_File":
        if isinstance(self._path, RemotePath):
            self._file = self._path.open()
            self._num_bytes = self._file.size()
            return self
        self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115
        self._num_bytes = os.fstat(self._file.fileno()).st_size
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        return self

    def __exit__(self, *_):
        self._file.close()

    def read_at(self, position: int, count: int) -> bytes:
        """Reads so many bytes; ValueError if there are fewer."""
        parts: list[bytes] = []
        left = count
        if position + count > self._num_bytes:  # a damaged length may be of any size
            raise ValueError("it is cut off")
        self._file.seek(position)
        while left:
            if not (part := self._file.read(left)):
                raise ValueError("it is cut off")
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _record_borders(file: _File, num_clips: int) -> np.ndarray:
    """Finds the records of a shard: int64 [num_clips, 2], start and end in the file."""
    borders, position = np.zeros([num_clips, 2], np.int64), 0
    for number, row in enumerate(borders):
        try:
            size = int.from_bytes(file.read_at(position, _LENGTH_BYTES), "little")
        except ValueError:
            raise ValueError(f"it ends before its record {number}") from None
        row[0] = position + _LENGTH_BYTES + _CRC_BYTES
        row[1] = row[0] + size
        position = int(row[1]) + _CRC_BYTES
    return borders


def _read_facts(read: _Read, start: int, end: int, audio_encoding: str) -> ClipFacts:
    """Walks through a record, reading little more than the lengths of its parts."""
    example = tf.train.SequenceExample()
    jpegs: dict[str, tuple[int, np.ndarray]] = {}
    sound = (0, 0)
    for number, first, last in _fields(read, start, end):
        if number == tf.train.SequenceExample.CONTEXT_FIELD_NUMBER:
            example.context.MergeFromString(read(first, last - first))
            continue
        for name, place, stop in _lists(read, first, last):
            if name in _JPEGS:
                ends = [end for _, _, end in _fields(read, place, stop)]
                borders = np.array([place, *ends], np.int64) - place
                jpegs[_JPEGS[name]] = (place, borders.astype(np.uint32))
            elif name in _SOUNDS:
                sound = _content_span(read, place)
            elif name == "image/timestamp":
                times = example.feature_lists.feature_list[name]
                times.MergeFromString(read(place, stop - place))
    fields = schema.read_fields(example)
    if not fields["media_id"]:
        raise ValueError(f"it has no {schema.MEDIA_ID}")
    times_us = np.array(fields["timestamps_us"], np.int64) - fields["start_us"]
    return ClipFacts(
        media_id=fields["media_id"],
        label=next(iter(fields["label_indices"]), -1),
        frame_times_us=times_us.astype(np.int32),
        num_padding_frames=fields["num_padding_frames"],
        num_samples=_num_samples(read, sound, audio_encoding),
        jpegs=jpegs,
        sound=sound,
    )


def _num_samples(read: _Read, sound: tuple[int, int], audio_encoding: str) -> int:
    if audio_encoding == schema.FLAC:
        return soundfile.info(io.BytesIO(read(*sound))).frames
    return sound[1] // (4 if audio_encoding == schema.FLOATS else 2)


def _cut_flac(sound: io.BytesIO, start: int) -> np.ndarray:
    sound.seek(0)
    return soundfile.read(sound, constants.AUDIO_SAMPLES, start, dtype="int16")[0]


# --- Wire format ---------------------------------------------------------------------------------
def _fields(read: _Read, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the fields of a message: number, start and end of the content."""
    while position < end:
        number, start, size = _head(read(position, min(_HEADS_BYTES, end - position)), 0)
        position += start + size
        yield number, position - size, position


def _lists(read: _Read, position: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Yields the feature lists of a record: name, start and end of the `FeatureList`."""
    for _, first, last in _fields(read, position, end):
        entry = {number: (start, stop) for number, start, stop in _fields(read, first, last)}
        start, stop = entry[_MAP_KEY]
        yield read(start, stop - start).decode(), *entry.get(_MAP_VALUE, (last, last))


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Reads tag and length of a field: its number, where its content begins, the content's size."""
    number, kind = divmod(data[at], 8)
    size = shift = 0
    while kind == _LENGTH_DELIMITED and at + 1 < len(data) and shift < 64:
        at += 1
        size |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            return number, at + 1, size
    raise ValueError("it is no SequenceExample")


def _content_span(read: _Read, position: int) -> tuple[int, int]:
    """Finds the value of the first `Feature` of a `FeatureList`: position in the file, size."""
    heads, at, size = read(position, _HEADS_BYTES), 0, 0
    for _ in range(3):  # the feature, its list of bytes or floats, the value
        _, at, size = _head(heads, at)
    return position + at, size


def _content(field: bytes) -> bytes:
    """Returns the value of a serialized field that holds a `Feature` with one bytes value."""
    at, size = 0, 0
    for _ in range(3):
        _, at, size = _head(field, at)
    return field[at : at + size]
