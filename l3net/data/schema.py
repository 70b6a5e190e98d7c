"""The shard contract: what a clip is, how it is written and how it is read.

A shard is a TFRecord file of `tf.train.SequenceExample`s, one per clip, with MediaSequence's
feature names, so DMVR and MediaSequence readers understand it. `FEATURES` says what a record
holds; `encode_clip` (writer), `clip_from_bytes` (reader in Python) and `decode_clip` (reader inside
a tf.data graph) follow it.
"""

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf
from google.protobuf.message import DecodeError

from l3net import constants
from l3net.data import damage
from l3net.data.clip import FLAC, FLOATS, PCM16, Clip, check_clip, encode_flac
from l3net.data.sequence_example import BYTES, INTS, REALS, feature_list, feature_lists, pack
from l3net.data.storage import Location
from l3net.errors import UserError, needs_extra

INT16_SCALE = 32768.0  # int16 sample / 32768 = float sample in [-1, 1)
INT16_RANGE = (-32768, 32767)


# --- What a record holds -------------------------------------------------------------------------
ONE, MANY, SERIES = "one", "many", "series"
SAMPLE_RATE = "WAVEFORM/feature/sample_rate"
MEDIA_ID = "clip/media_id"
# The feature list with the sound: by its encoding one or the other.
AUDIO_BYTES, AUDIO_FLOATS = "WAVEFORM/feature/bytes", "WAVEFORM/feature/floats"
# What those bytes are; MediaSequence prescribes no names (our choice: ffmpeg's, in capitals).
BYTES_FORMATS = {PCM16: "PCM_S16LE", FLAC: "FLAC"}
# Features that begin so are there only if the clip has values of that field.
_NEEDS = {"flow": "flows", "FORWARD_FLOW": "forward_flows"}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record.

    Attributes:
        name: key in the record.
        kind: BYTES, INTS or REALS.
        field: what it holds, a field of `Clip`.
        count: ONE or MANY values for the clip (context), or a SERIES in time (feature list).
        value: what is written where it holds no field; the feature is left out if that is None.
        required: whether a record without it is refused.
        in_graph: whether `decode_clip` reads it.
    """

    name: str
    kind: str
    field: str = ""
    count: str = ONE
    value: Callable[[Clip], Any] | None = None
    required: bool = False
    in_graph: bool = False

    def of(self, clip: Clip) -> Any:
        """Returns its value or values, None if the clip has none."""
        needed = _NEEDS.get(self.name.partition("/")[0])
        if needed and not getattr(clip, needed):
            return None
        return self.value(clip) if self.value else getattr(clip, self.field)


FEATURES = (
    Feature("example/id", BYTES, "example_id", required=True, in_graph=True),
    Feature("example/dataset_name", BYTES, "dataset_name"),
    Feature(MEDIA_ID, BYTES, "media_id", required=True, in_graph=True),
    Feature("clip/data_path", BYTES, "data_path"),
    Feature("clip/start/timestamp", INTS, "start_us", required=True, in_graph=True),
    Feature("clip/end/timestamp", INTS, "end_us", required=True),
    Feature("clip/label/index", INTS, "label_indices", MANY, in_graph=True),
    Feature("clip/label/text", BYTES, "labels", MANY),  # DMVR's name; the next one is read
    Feature("clip/label/string", BYTES, "labels", MANY),  # MediaSequence's name
    Feature("image/format", BYTES, value=lambda clip: "JPEG"),
    Feature("image/height", INTS, "height_px"),
    Feature("image/width", INTS, "width_px"),
    Feature("image/channels", INTS, value=lambda clip: 3),
    Feature("image/frame_rate", REALS, "frame_rate_hz"),
    Feature(SAMPLE_RATE, REALS, value=lambda clip: constants.SAMPLE_RATE_HZ),
    Feature("WAVEFORM/feature/num_channels", INTS, value=lambda clip: 1),
    Feature("WAVEFORM/feature/num_samples", INTS, value=lambda clip: len(clip.waveform)),
    Feature(
        "WAVEFORM/feature/bytes/format",
        BYTES,
        value=lambda clip: BYTES_FORMATS.get(clip.audio_encoding),
    ),
    Feature("l3net/audio_encoding", BYTES, "audio_encoding"),
    Feature("l3net/num_padding_frames", INTS, "num_padding_frames", in_graph=True),
    Feature("l3net/prep_version", BYTES, "prep_version"),
    Feature("l3net/config_hash", BYTES, "config_hash"),
    Feature("l3net/ffmpeg_version", BYTES, "ffmpeg_version"),
    Feature("flow/scale", REALS, "flow_scale_px"),
    Feature("flow/height", INTS, "flow_height_px"),
    Feature("flow/width", INTS, "flow_width_px"),
    Feature("image/encoded", BYTES, "frames", SERIES, in_graph=True),
    Feature("image/timestamp", INTS, "timestamps_us", SERIES, in_graph=True),
    Feature("flow/encoded", BYTES, "flows", SERIES, in_graph=True),
    # All of the sound is one packet, which begins with the clip.
    Feature("WAVEFORM/feature/timestamp", INTS, "", SERIES, lambda clip: [clip.start_us]),
    # MediaSequence's names for flow; one at a frame's time leads to the next frame.
    Feature("FORWARD_FLOW/image/format", BYTES, value=lambda clip: "JPEG"),
    Feature("FORWARD_FLOW/image/channels", INTS, value=lambda clip: 3),
    Feature("FORWARD_FLOW/image/height", INTS, value=lambda clip: clip.flow_height_px),
    Feature("FORWARD_FLOW/image/width", INTS, value=lambda clip: clip.flow_width_px),
    Feature("FORWARD_FLOW/image/frame_rate", REALS, value=lambda clip: clip.frame_rate_hz),
    Feature(
        "FORWARD_FLOW/image/saturation",
        REALS,
        value=lambda clip: constants.FLOW_LEVELS * clip.flow_scale_px,
    ),
    Feature("FORWARD_FLOW/image/encoded", BYTES, "forward_flows", SERIES),
    Feature("FORWARD_FLOW/image/timestamp", INTS, "", SERIES, lambda clip: clip.timestamps_us[:-1]),
)


# --- Writer --------------------------------------------------------------------------------------
def encode_clip(clip: Clip) -> bytes:
    """Serializes a clip as a `tf.train.SequenceExample`, the same bytes for the same clip.

    Raises:
        ValueError: if frames and timestamps differ in number or order, the waveform is not int16
            [num_samples], or there is flow between some frames only or without its scale.
    """
    check_clip(clip)
    audio_name, audio_list = _serialized_audio(clip.waveform, clip.audio_encoding)
    context, lists = {}, {audio_name: audio_list}
    for feature in FEATURES:
        value = feature.of(clip)
        if value is None:
            continue
        if feature.count != SERIES:
            context[feature.name] = pack(feature.kind, value if feature.count == MANY else [value])
        else:
            lists[feature.name] = feature_list(feature.kind, ([each] for each in value))
    features = tf.train.Features(feature=context)
    packed = tf.train.SequenceExample(context=features).SerializeToString(deterministic=True)
    return b"".join([packed, *feature_lists(lists)])


def _serialized_audio(waveform: np.ndarray, encoding: str) -> tuple[str, list[bytes]]:
    """Returns the name of the sound's feature list, and its parts."""
    if encoding == FLOATS:
        return AUDIO_FLOATS, feature_list(REALS, [waveform.astype(np.float32) / INT16_SCALE])
    if encoding == FLAC:
        return AUDIO_BYTES, feature_list(BYTES, [[encode_flac(waveform)]])
    return AUDIO_BYTES, feature_list(BYTES, [[waveform.astype("<i2", copy=False).tobytes()]])


# --- Reader in Python ----------------------------------------------------------------------------
_ABSENT = {BYTES: "", INTS: 0, REALS: 0.0}


def clip_from_bytes(serialized: bytes) -> Clip:
    """Reads back what `encode_clip` wrote.

    Raises:
        ValueError: if the record is no clip of this contract.
    """
    example = tf.train.SequenceExample()
    try:
        example.ParseFromString(serialized)
    except Exception as error:
        raise ValueError(f"record is no SequenceExample: {error}") from error
    required = [feature.name for feature in FEATURES if feature.required]
    missing = [name for name in required if name not in example.context.feature]
    if missing:
        raise ValueError(f"record lacks {', '.join(missing)}; was it written by this contract?")
    fields = read_fields(example)
    lists = example.feature_lists.feature_list
    return Clip(**fields, waveform=_decode_audio(lists, fields["audio_encoding"]))


def read_fields(example: tf.train.SequenceExample) -> dict[str, Any]:
    """Returns the fields of a `Clip` but for the waveform, absent ones empty.

    Raises:
        ValueError: if the sound is not at 48 kHz.
    """
    _check_sample_rate(example)
    context, lists = example.context.feature, example.feature_lists.feature_list
    encoding = FLOATS if AUDIO_FLOATS in lists else PCM16
    fields: dict[str, Any] = {}
    for feature in FEATURES:
        if not feature.field:
            continue
        if feature.count == SERIES:
            values = [getattr(each, feature.kind).value[0] for each in lists[feature.name].feature]
        else:
            values = getattr(context[feature.name], feature.kind).value
            if feature.kind == BYTES:
                values = [value.decode() for value in values]
        if feature.count == ONE:
            fields[feature.field] = next(iter(values), _ABSENT[feature.kind])
        else:
            fields[feature.field] = tuple(values)
    return fields | {"audio_encoding": fields["audio_encoding"] or encoding}


def media_id_of(head: bytes) -> str:
    """Returns the media id of a record from its first kilobytes, its context is in front.

    Raises:
        ValueError: if there is no such record.
    """
    kind, size, start = head[:1], 0, 1
    for start, byte in enumerate(head[1:11], 2):
        size |= (byte & 0x7F) << 7 * (start - 2)
        if byte < 0x80:
            break
    try:
        context = tf.train.Features.FromString(head[start : start + size])
    except DecodeError as error:
        raise ValueError("its first record is no SequenceExample") from error
    values = context.feature[MEDIA_ID].bytes_list.value
    if kind != b"\n" or not values:
        raise ValueError(f"its first record has no {MEDIA_ID}")
    return values[0].decode()


def _check_sample_rate(example: tf.train.SequenceExample) -> None:
    rate = example.context.feature[SAMPLE_RATE].float_list.value
    if list(rate) not in ([], [constants.SAMPLE_RATE_HZ]):
        raise ValueError(f"sound at {rate[0]:g} Hz; need 48000 Hz, as data_prep.write_shards makes")


def _decode_audio(lists, encoding: str) -> np.ndarray:
    if encoding == FLOATS:
        return int16_of(np.array(lists[AUDIO_FLOATS].feature[0].float_list.value, np.float32))
    data = lists[AUDIO_BYTES].feature[0].bytes_list.value[0]
    if encoding == FLAC:
        return _decode_flac(data)
    return np.frombuffer(data, "<i2").astype(np.int16)


def int16_of(floats: np.ndarray) -> np.ndarray:
    """Returns samples in [-1, 1] as int16, 1 as the greatest; ValueError if one is no number."""
    if not np.isfinite(floats).all():
        raise ValueError("its sound has samples that are NaN or infinite")
    return np.clip(np.round(floats * INT16_SCALE), *INT16_RANGE).astype(np.int16)


def _decode_flac(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


# --- Reader in a tf.data graph -------------------------------------------------------------------
def decode_clip(
    serialized: tf.Tensor,
    *,
    audio_encoding: str = PCM16,
    with_flow: bool = False,
    with_labels: bool = False,
    serializable: bool = False,
) -> dict[str, tf.Tensor]:
    """Parses one record inside a graph; frames and flows stay JPEG.

    Args:
        serialized: string scalar, one record.
        audio_encoding: that of the shards, see `read_format`.
        with_flow: whether to read the flows, which the record must have then.
        with_labels: whether to read the labels. AVC must never see them.
        serializable: whether another process gets the graph, as from `tf.data` service, whose
            workers have none of this process's Python. FLAC is then decoded by tensorflow-io,
            which takes five times as long as soundfile; nothing else changes.

    Returns:
        "example_id", "media_id" string []; "frames" string [num_frames]; "frame_times_us" int64
        [num_frames], from the clip's start; "num_padding_frames" int64 []; "waveform" int16
        [num_samples]; if asked for, "flows" string [num_frames - 1] and "label_indices" int64
        [num_labels]. See `Clip`.

    Raises:
        UserError: if FLAC is to be decoded by tensorflow-io and that is not installed.
    """
    audio_key = AUDIO_FLOATS if audio_encoding == FLOATS else AUDIO_BYTES
    unread = {"flows": not with_flow, "label_indices": not with_labels}
    read = [f for f in FEATURES if f.in_graph and not unread.get(f.field)]
    audio_spec = (
        tf.io.VarLenFeature(tf.float32)
        if audio_encoding == FLOATS
        else tf.io.FixedLenSequenceFeature([], tf.string)
    )
    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        context_features={f.name: _spec(f) for f in read if f.count != SERIES},
        sequence_features={
            audio_key: audio_spec,
            **{f.name: _spec(f) for f in read if f.count == SERIES},
        },
    )
    clip = {f.field: (lists if f.count == SERIES else context)[f.name] for f in read}
    clip["frame_times_us"] = clip.pop("timestamps_us") - clip.pop("start_us")
    clip["waveform"] = _decode_audio_in_graph(
        lists[audio_key], audio_encoding, serializable=serializable
    )
    if with_labels:
        clip["label_indices"] = tf.sparse.to_dense(clip["label_indices"])
    return clip


def _spec(feature: Feature) -> Any:
    dtype = {BYTES: tf.string, INTS: tf.int64, REALS: tf.float32}[feature.kind]
    if feature.count == SERIES:
        return tf.io.FixedLenSequenceFeature([], dtype)
    if feature.count == MANY:
        return tf.io.VarLenFeature(dtype)
    return tf.io.FixedLenFeature([], dtype, None if feature.required else 0)


def _decode_audio_in_graph(feature, encoding: str, *, serializable: bool) -> tf.Tensor:
    if encoding == FLOATS:
        floats = tf.debugging.assert_all_finite(feature.values, "sound is NaN or infinite")
        return tf.cast(tf.clip_by_value(tf.round(floats * INT16_SCALE), *INT16_RANGE), tf.int16)
    if encoding == PCM16:
        return tf.io.decode_raw(feature[0], tf.int16)
    if serializable:
        with needs_extra("io", "FLAC sound in a graph for other processes"):
            import tensorflow_io
        return tf.reshape(tensorflow_io.audio.decode_flac(feature[0], dtype=tf.int16), [-1])
    samples = tf.numpy_function(_decode_flac, [feature[0]], tf.int16, stateful=False)
    return tf.ensure_shape(samples, [None])


@dataclasses.dataclass(frozen=True)
class Format:
    """What the clips of a prepared folder have in common; the first three are as in `Clip`."""

    audio_encoding: str
    frame_rate_hz: float
    smallest_side_px: int
    has_flow: bool


def read_format(path: Location) -> Format:
    """Returns how the clips of a shard are stored, the same for every shard of a prepared folder.

    Raises:
        UserError: if the shard is empty, damaged or out of reach, or its sound is not at 48 kHz.
    """
    records = tf.data.TFRecordDataset(str(path)).take(1).as_numpy_iterator()
    serialized = next(damage.checked(records, [path]), None)
    if serialized is None:
        raise UserError(f"shard {path} has no readable record; make it again")
    try:
        fields = read_fields(tf.train.SequenceExample.FromString(serialized))
    except ValueError as error:
        raise UserError(f"shard {path}: {error}") from error
    return Format(
        audio_encoding=fields["audio_encoding"],
        frame_rate_hz=fields["frame_rate_hz"],
        smallest_side_px=min(fields["height_px"], fields["width_px"]),
        has_flow=bool(fields["flows"]),
    )
