"""The shard contract: what a clip is, how it is written and how it is read.

A shard is a TFRecord file of `tf.train.SequenceExample`s, one per clip, with MediaSequence's
feature names, so DMVR and MediaSequence readers understand it. Everything that knows a feature
name or a file name of a prepared folder lives here: `encode_clip` (writer), `clip_from_bytes`
(reader in Python) and `decode_clip` (reader inside a tf.data graph).

A prepared folder holds, for a data set called `demo`:

    prep.json                          the configuration it was made with
    labels.txt                         sorted label strings; the line number is the label index
    demo-train-00000-of-00004          a shard
    demo-train-00000-of-00004.json     its commit marker, written last: counts and outcomes
    outcomes.csv                       one row per input video
"""

import dataclasses
import io
import pathlib

import numpy as np
import soundfile
import tensorflow as tf

from l3net import constants
from l3net.data.sequence_example import bytes_list, feature_list, feature_lists
from l3net.errors import UserError

# Context features.
EXAMPLE_ID = "example/id"
DATASET_NAME = "example/dataset_name"
MEDIA_ID = "clip/media_id"
DATA_PATH = "clip/data_path"
START = "clip/start/timestamp"
END = "clip/end/timestamp"
LABEL_INDEX = "clip/label/index"
LABEL_STRING = "clip/label/string"  # MediaSequence's name
LABEL_TEXT = "clip/label/text"  # DMVR's name
IMAGE_FORMAT = "image/format"
IMAGE_HEIGHT = "image/height"
IMAGE_WIDTH = "image/width"
IMAGE_CHANNELS = "image/channels"
IMAGE_FRAME_RATE = "image/frame_rate"
SAMPLE_RATE = "WAVEFORM/feature/sample_rate"
NUM_CHANNELS = "WAVEFORM/feature/num_channels"
NUM_SAMPLES = "WAVEFORM/feature/num_samples"
# Ours.
AUDIO_ENCODING = "l3net/audio_encoding"
NUM_PADDING_FRAMES = "l3net/num_padding_frames"
PREP_VERSION = "l3net/prep_version"
CONFIG_HASH = "l3net/config_hash"
FFMPEG_VERSION = "l3net/ffmpeg_version"
# Only where there is flow.
FLOW_SCALE = "flow/scale"
FLOW_HEIGHT = "flow/height"
FLOW_WIDTH = "flow/width"
# Feature lists.
IMAGE_ENCODED = "image/encoded"
IMAGE_TIMESTAMP = "image/timestamp"
AUDIO_BYTES = "WAVEFORM/feature/bytes"
AUDIO_FLOATS = "WAVEFORM/feature/floats"
FLOW_ENCODED = "flow/encoded"  # see data_prep.shards.optical_flow

PCM16, FLAC, FLOATS = AUDIO_ENCODINGS = ("pcm16", "flac", "floats")
INT16_SCALE = 32768.0  # int16 sample / 32768 = float sample in [-1, 1)


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip: frames and sound on one time line.

    Attributes:
        example_id: unique within the data set.
        dataset_name: such as "demo".
        media_id: the video it was cut from; negatives pair different media ids.
        data_path: of the video, relative to the data folder.
        start_us, end_us: the clip's extent on the video's own time line, microseconds.
        labels: label strings, may be empty.
        label_indices: their line numbers in labels.txt.
        frames: one JPEG each.
        timestamps_us: of the frames, on the video's own time line (so the first is >= start_us).
        height_px, width_px: of every frame.
        waveform: int16 [num_samples], mono, 48 kHz; sample 0 sounds at start_us.
        num_padding_frames: leading frames that repeat the first one because the picture starts
            later than the clip; pairs are never drawn from them.
        frame_rate_hz: of the frames.
        audio_encoding: one of AUDIO_ENCODINGS.
        prep_version, config_hash, ffmpeg_version: where the clip comes from.
        flows: optical flow from each frame to the next, one less than there are frames, or none.
            One greyscale JPEG each, the displacement in x above that in y, so twice as high as the
            flow; level `constants.FLOW_ZERO_LEVEL` is no motion.
        flow_scale_px: displacement per level, in pixels of the flow per frame step.
        flow_height_px, flow_width_px: of every flow.
    """

    example_id: str
    dataset_name: str
    media_id: str
    data_path: str
    start_us: int
    end_us: int
    labels: tuple[str, ...]
    label_indices: tuple[int, ...]
    frames: tuple[bytes, ...]
    timestamps_us: tuple[int, ...]
    height_px: int
    width_px: int
    waveform: np.ndarray
    num_padding_frames: int = 0
    frame_rate_hz: float = constants.FRAME_RATE_HZ
    audio_encoding: str = PCM16
    prep_version: str = ""
    config_hash: str = ""
    ffmpeg_version: str = ""
    flows: tuple[bytes, ...] = ()
    flow_scale_px: float = 0.0
    flow_height_px: int = 0
    flow_width_px: int = 0


# --- Writer --------------------------------------------------------------------------------------
def encode_clip(clip: Clip) -> bytes:
    """Serializes a clip, the same bytes for the same clip.

    Args:
        clip: see `Clip`.

    Returns:
        A serialized `tf.train.SequenceExample`.

    Raises:
        ValueError: if frames and timestamps differ in number or order, the waveform is not int16
            [num_samples], or there is flow between some frames only or without its scale.
    """
    _check(clip)
    audio_name, audio_list = _serialized_audio(clip.waveform, clip.audio_encoding)
    lists = {
        IMAGE_ENCODED: bytes_list(clip.frames),
        IMAGE_TIMESTAMP: feature_list(_ints([time]) for time in clip.timestamps_us),
        audio_name: audio_list,
    }
    if clip.flows:
        lists[FLOW_ENCODED] = bytes_list(clip.flows)
    features = tf.train.Features(feature=_context(clip))
    context = tf.train.SequenceExample(context=features).SerializeToString(deterministic=True)
    return b"".join([context, *feature_lists(lists)])


def _context(clip: Clip) -> dict[str, tf.train.Feature]:
    context = {
        EXAMPLE_ID: _bytes([clip.example_id]),
        DATASET_NAME: _bytes([clip.dataset_name]),
        MEDIA_ID: _bytes([clip.media_id]),
        DATA_PATH: _bytes([clip.data_path]),
        START: _ints([clip.start_us]),
        END: _ints([clip.end_us]),
        LABEL_INDEX: _ints(clip.label_indices),
        LABEL_STRING: _bytes(clip.labels),
        LABEL_TEXT: _bytes(clip.labels),
        IMAGE_FORMAT: _bytes(["JPEG"]),
        IMAGE_HEIGHT: _ints([clip.height_px]),
        IMAGE_WIDTH: _ints([clip.width_px]),
        IMAGE_CHANNELS: _ints([3]),
        IMAGE_FRAME_RATE: _floats([clip.frame_rate_hz]),
        SAMPLE_RATE: _floats([constants.SAMPLE_RATE_HZ]),
        NUM_CHANNELS: _ints([1]),
        NUM_SAMPLES: _ints([len(clip.waveform)]),
        AUDIO_ENCODING: _bytes([clip.audio_encoding]),
        NUM_PADDING_FRAMES: _ints([clip.num_padding_frames]),
        PREP_VERSION: _bytes([clip.prep_version]),
        CONFIG_HASH: _bytes([clip.config_hash]),
        FFMPEG_VERSION: _bytes([clip.ffmpeg_version]),
    }
    if clip.flows:
        context[FLOW_SCALE] = _floats([clip.flow_scale_px])
        context[FLOW_HEIGHT] = _ints([clip.flow_height_px])
        context[FLOW_WIDTH] = _ints([clip.flow_width_px])
    return context


def _check(clip: Clip) -> None:
    if not clip.frames or len(clip.frames) != len(clip.timestamps_us):
        raise ValueError(
            f"clip {clip.example_id}: got {len(clip.frames)} frames and "
            f"{len(clip.timestamps_us)} timestamps; need as many of each, at least one"
        )
    if any(b <= a for a, b in zip(clip.timestamps_us, clip.timestamps_us[1:], strict=False)):
        raise ValueError(f"clip {clip.example_id}: timestamps must increase")
    if clip.waveform.dtype != np.int16 or clip.waveform.ndim != 1:
        raise ValueError(
            f"clip {clip.example_id}: waveform is {clip.waveform.dtype} {clip.waveform.shape}; "
            "need int16 [num_samples]"
        )
    if clip.audio_encoding not in AUDIO_ENCODINGS:
        raise ValueError(f"audio_encoding {clip.audio_encoding!r}: need one of {AUDIO_ENCODINGS}")
    if clip.flows:
        _check_flow(clip)


def _check_flow(clip: Clip) -> None:
    if len(clip.flows) != len(clip.frames) - 1:
        raise ValueError(
            f"clip {clip.example_id}: got {len(clip.flows)} flows between {len(clip.frames)} "
            "frames; need one less than frames, or none"
        )
    if min(clip.flow_scale_px, clip.flow_height_px, clip.flow_width_px) <= 0:
        raise ValueError(
            f"clip {clip.example_id}: flow of {clip.flow_width_px}x{clip.flow_height_px} px at "
            f"{clip.flow_scale_px:g} px per level; need all above 0"
        )


def _serialized_audio(waveform: np.ndarray, encoding: str) -> tuple[str, list[bytes]]:
    """Returns the name of the sound's feature list, and its parts."""
    if encoding == FLOATS:
        return AUDIO_FLOATS, feature_list([_floats(waveform.astype(np.float32) / INT16_SCALE)])
    if encoding == FLAC:
        buffer = io.BytesIO()
        soundfile.write(buffer, waveform, constants.SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        return AUDIO_BYTES, bytes_list([buffer.getvalue()])
    return AUDIO_BYTES, bytes_list([waveform.astype("<i2", copy=False).tobytes()])


def _bytes(values) -> tf.train.Feature:
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def _ints(values) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


# --- Reader in Python ----------------------------------------------------------------------------
def clip_from_bytes(serialized: bytes) -> Clip:
    """Reads back what `encode_clip` wrote.

    Args:
        serialized: one record of a shard.

    Returns:
        The clip.

    Raises:
        ValueError: if the record is no clip of this contract.
    """
    example = tf.train.SequenceExample()
    try:
        example.ParseFromString(serialized)
    except Exception as error:
        raise ValueError(f"record is no SequenceExample: {error}") from error
    context = example.context.feature
    missing = [key for key in (EXAMPLE_ID, MEDIA_ID, START, END) if key not in context]
    if missing:
        raise ValueError(f"record lacks {', '.join(missing)}; was it written by this contract?")
    _check_sample_rate(example)
    lists = example.feature_lists.feature_list

    def text(key: str) -> str:
        values = context[key].bytes_list.value
        return values[0].decode() if values else ""

    def integer(key: str) -> int:
        values = context[key].int64_list.value
        return values[0] if values else 0

    def jpegs(key: str) -> tuple[bytes, ...]:
        return tuple(feature.bytes_list.value[0] for feature in lists[key].feature)

    encoding = text(AUDIO_ENCODING) or PCM16
    return Clip(
        example_id=text(EXAMPLE_ID),
        dataset_name=text(DATASET_NAME),
        media_id=text(MEDIA_ID),
        data_path=text(DATA_PATH),
        start_us=integer(START),
        end_us=integer(END),
        labels=tuple(value.decode() for value in context[LABEL_STRING].bytes_list.value),
        label_indices=tuple(context[LABEL_INDEX].int64_list.value),
        frames=jpegs(IMAGE_ENCODED),
        timestamps_us=tuple(f.int64_list.value[0] for f in lists[IMAGE_TIMESTAMP].feature),
        height_px=integer(IMAGE_HEIGHT),
        width_px=integer(IMAGE_WIDTH),
        waveform=_decode_audio(lists, encoding),
        num_padding_frames=integer(NUM_PADDING_FRAMES),
        frame_rate_hz=context[IMAGE_FRAME_RATE].float_list.value[0],
        audio_encoding=encoding,
        prep_version=text(PREP_VERSION),
        config_hash=text(CONFIG_HASH),
        ffmpeg_version=text(FFMPEG_VERSION),
        flows=jpegs(FLOW_ENCODED),
        flow_scale_px=next(iter(context[FLOW_SCALE].float_list.value), 0.0),
        flow_height_px=integer(FLOW_HEIGHT),
        flow_width_px=integer(FLOW_WIDTH),
    )


def _check_sample_rate(example: tf.train.SequenceExample) -> None:
    rate = example.context.feature[SAMPLE_RATE].float_list.value
    if list(rate) not in ([], [constants.SAMPLE_RATE_HZ]):
        raise ValueError(f"sound at {rate[0]:g} Hz; need 48000 Hz, as data_prep.write_shards makes")


def _decode_audio(lists, encoding: str) -> np.ndarray:
    if encoding == FLOATS:
        floats = np.array(lists[AUDIO_FLOATS].feature[0].float_list.value, np.float32)
        return np.round(floats * INT16_SCALE).astype(np.int16)
    data = lists[AUDIO_BYTES].feature[0].bytes_list.value[0]
    if encoding == FLAC:
        return soundfile.read(io.BytesIO(data), dtype="int16")[0]
    return np.frombuffer(data, "<i2").astype(np.int16)


# --- Reader in a tf.data graph -------------------------------------------------------------------
def decode_clip(
    serialized: tf.Tensor,
    *,
    audio_encoding: str = PCM16,
    with_flow: bool = False,
    with_labels: bool = False,
) -> dict[str, tf.Tensor]:
    """Parses one record inside a graph; frames and flows stay JPEG.

    Args:
        serialized: string scalar, one record.
        audio_encoding: of the shards, see `read_format`.
        with_flow: whether to read the flows, which the record must have then, see `read_format`.
        with_labels: whether to read the labels. AVC must never see them.

    Returns:
        "example_id", "media_id" string []; "frames" string [num_frames]; "frame_times_us" int64
        [num_frames], from the clip's start; "num_padding_frames" int64 []; "waveform" int16
        [num_samples]; if asked for, "flows" string [num_frames - 1], see `Clip`, and
        "label_indices" int64 [num_labels].

    Raises:
        UserError: if the sound is FLAC and tensorflow-io is not installed.
    """
    audio_key = AUDIO_FLOATS if audio_encoding == FLOATS else AUDIO_BYTES
    context_features, sequence_features = _features(audio_key, with_flow, with_labels)
    context, lists = tf.io.parse_single_sequence_example(
        serialized, context_features=context_features, sequence_features=sequence_features
    )
    clip = {
        "example_id": context[EXAMPLE_ID],
        "media_id": context[MEDIA_ID],
        "frames": lists[IMAGE_ENCODED],
        "frame_times_us": lists[IMAGE_TIMESTAMP] - context[START],
        "num_padding_frames": context[NUM_PADDING_FRAMES],
        "waveform": _decode_audio_in_graph(lists[audio_key], audio_encoding),
    }
    if with_flow:
        clip["flows"] = lists[FLOW_ENCODED]
    if with_labels:
        clip["label_indices"] = tf.sparse.to_dense(context[LABEL_INDEX])
    return clip


def _features(
    audio_key: str, with_flow: bool, with_labels: bool
) -> tuple[dict[str, object], dict[str, object]]:
    """Returns what to parse of the context and of the lists."""
    context = {
        EXAMPLE_ID: tf.io.FixedLenFeature([], tf.string),
        MEDIA_ID: tf.io.FixedLenFeature([], tf.string),
        START: tf.io.FixedLenFeature([], tf.int64),
        NUM_PADDING_FRAMES: tf.io.FixedLenFeature([], tf.int64, default_value=0),
    }
    one_string_each = tf.io.FixedLenSequenceFeature([], tf.string)
    lists = {
        IMAGE_ENCODED: one_string_each,
        IMAGE_TIMESTAMP: tf.io.FixedLenSequenceFeature([], tf.int64),
        audio_key: (
            tf.io.VarLenFeature(tf.float32) if audio_key == AUDIO_FLOATS else one_string_each
        ),
    }
    if with_flow:
        lists[FLOW_ENCODED] = one_string_each
    if with_labels:
        context[LABEL_INDEX] = tf.io.VarLenFeature(tf.int64)
    return context, lists


def _decode_audio_in_graph(feature, encoding: str) -> tf.Tensor:
    if encoding == FLOATS:
        return tf.cast(tf.round(feature.values * INT16_SCALE), tf.int16)
    if encoding == FLAC:
        samples = _tensorflow_io().audio.decode_flac(feature[0], dtype=tf.int16)
        return tf.reshape(samples, [-1])
    return tf.io.decode_raw(feature[0], tf.int16)


def _tensorflow_io():
    try:
        import tensorflow_io
    except ImportError as error:
        raise UserError(
            "these shards hold FLAC sound, which tensorflow-io decodes; it is not installed and "
            "exists for Python 3.10 to 3.12 only: use such a Python, or prepare the shards again "
            "with --audio_encoding=pcm16"
        ) from error
    return tensorflow_io


@dataclasses.dataclass(frozen=True)
class Format:
    """What the clips of a prepared folder have in common; see `Clip`.

    Attributes:
        audio_encoding: one of AUDIO_ENCODINGS.
        frame_rate_hz: of the frames.
        smallest_side_px: of the frames.
        has_flow: whether there is optical flow between them.
    """

    audio_encoding: str
    frame_rate_hz: float
    smallest_side_px: int
    has_flow: bool


def read_format(path: pathlib.Path) -> Format:
    """Returns how the clips of a shard are stored, from its first record, read once.

    Args:
        path: of a shard.

    Returns:
        The format, the same for every shard of a prepared folder.

    Raises:
        UserError: if the shard is empty or damaged, or its sound is not at 48 kHz.
    """
    example = _first_record(path)
    try:
        _check_sample_rate(example)
    except ValueError as error:
        raise UserError(f"shard {path}: {error}") from error
    context, lists = example.context.feature, example.feature_lists.feature_list
    encoding = context[AUDIO_ENCODING].bytes_list.value
    otherwise = FLOATS if AUDIO_FLOATS in lists else PCM16
    sides = [*context[IMAGE_HEIGHT].int64_list.value, *context[IMAGE_WIDTH].int64_list.value]
    return Format(
        audio_encoding=encoding[0].decode() if encoding else otherwise,
        frame_rate_hz=next(iter(context[IMAGE_FRAME_RATE].float_list.value), 0.0),
        smallest_side_px=min(sides, default=0),
        has_flow=FLOW_ENCODED in lists,
    )


def _first_record(path: pathlib.Path) -> tf.train.SequenceExample:
    try:
        serialized = next(iter(tf.data.TFRecordDataset(str(path)).take(1).as_numpy_iterator()))
    except (StopIteration, tf.errors.OpError) as error:
        raise UserError(f"shard {path} has no readable record; make it again") from error
    return tf.train.SequenceExample.FromString(serialized)
