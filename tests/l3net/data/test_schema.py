import dataclasses
import hashlib
import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from l3net.data import partial_records, schema
from l3net.data.clip import AUDIO_ENCODINGS
from l3net.data.shards import read_clips
from l3net.errors import UserError
from tests import tiny_shards

FLOW = {
    "flows": tuple(b"flow %d" % k for k in range(29)),
    "flow_scale_px": 0.125,
    "flow_height_px": 32,
    "flow_width_px": 36,
}


FORWARD_FLOW = FLOW | {"forward_flows": tuple(b"forward flow %d" % k for k in range(29))}


def _clip(**changes) -> schema.Clip:
    clip = tiny_shards.make_clip(3, seconds=1.2, start_us=5_000_000)
    details = {"labels": ("Drum", "Violin, fiddle"), "label_indices": (0, 4)}
    return dataclasses.replace(clip, **{**details, **changes})


@pytest.mark.parametrize("flow", [{}, FLOW, FORWARD_FLOW], ids=["no flow", "flow", "forward flow"])
@pytest.mark.parametrize("encoding", AUDIO_ENCODINGS)
def test_python_reader_gives_back_what_was_written(encoding, flow):
    clip = _clip(audio_encoding=encoding, num_padding_frames=2, config_hash="abc", **flow)
    back = schema.clip_from_bytes(schema.encode_clip(clip))
    np.testing.assert_array_equal(back.waveform, clip.waveform)
    for field in dataclasses.fields(schema.Clip):
        if field.name != "waveform":
            assert getattr(back, field.name) == getattr(clip, field.name), field.name


@pytest.mark.parametrize("flow", [{}, FLOW, FORWARD_FLOW], ids=["no flow", "flow", "forward flow"])
@pytest.mark.parametrize("encoding", AUDIO_ENCODINGS)
def test_bytes_are_those_that_protobuf_writes(encoding, flow):
    sizes = (0, 1, 100, 113, 120, 127, 128, 16_376, 16_384, 2_097_152)  # of one to four byte sizes
    clip = _clip(audio_encoding=encoding, **flow)
    jpegs = tuple(b"j" * size for size in (*sizes, *range(len(clip.frames) - len(sizes))))
    record = schema.encode_clip(dataclasses.replace(clip, frames=jpegs))
    example = tf.train.SequenceExample.FromString(record)
    assert [
        f.bytes_list.value[0] for f in example.feature_lists.feature_list["image/encoded"].feature
    ] == list(jpegs)
    assert example.SerializeToString(deterministic=True) == record


def _decoded(clip: schema.Clip, **asked) -> dict:
    records = tf.data.Dataset.from_tensors(schema.encode_clip(clip))
    return next(iter(records.map(lambda record: schema.decode_clip(record, **asked))))


@pytest.mark.parametrize("encoding", AUDIO_ENCODINGS)
def test_graph_reader_agrees(encoding):
    clip = _clip(audio_encoding=encoding, num_padding_frames=1)
    decoded = _decoded(clip, audio_encoding=encoding)
    np.testing.assert_array_equal(decoded["waveform"], clip.waveform)
    assert decoded["frames"].numpy().tolist() == list(clip.frames)
    assert decoded["frame_times_us"].numpy().tolist() == [
        time - 5_000_000 for time in clip.timestamps_us
    ]
    assert decoded["media_id"] == b"video0003"
    assert decoded["num_padding_frames"] == 1


def test_graph_reader_gives_flow_and_labels_only_if_asked():
    plain = _decoded(_clip(**FLOW))
    assert plain.keys() & {"flows", "label_indices"} == set()
    asked = _decoded(_clip(**FLOW), with_flow=True, with_labels=True)
    assert asked.keys() - plain.keys() == {"flows", "label_indices"}
    assert asked["flows"].numpy().tolist() == list(FLOW["flows"])
    assert asked["label_indices"].dtype == tf.int64
    assert asked["label_indices"].numpy().tolist() == [0, 4]
    decoded = _decoded(_clip(labels=(), label_indices=()), with_labels=True)
    assert decoded["label_indices"].shape == [0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="flow/encoded"):
        _decoded(_clip(), with_flow=True)


def test_flac_gives_every_sample_in_a_parallel_pipeline():
    levels = np.random.default_rng(0).integers(-(2**15), 2**15, (20, 4800)).astype(np.int16)
    levels[0, :2] = -(2**15), 2**15 - 1
    clips = [_clip(audio_encoding=schema.FLAC, waveform=waveform) for waveform in levels]
    records = tf.data.Dataset.from_tensor_slices([schema.encode_clip(clip) for clip in clips])

    def waveform(record):
        return schema.decode_clip(record, audio_encoding=schema.FLAC)["waveform"]

    read = list(records.map(waveform, num_parallel_calls=4).as_numpy_iterator())
    np.testing.assert_array_equal(read, levels)


def _record_of_floats(value: float) -> bytes:
    """Returns a record whose sound is floats, the third of them this one."""
    example = tf.train.SequenceExample.FromString(
        schema.encode_clip(_clip(audio_encoding=schema.FLOATS))
    )
    sound = example.feature_lists.feature_list[schema.AUDIO_FLOATS].feature[0].float_list
    sound.value[2] = value
    return example.SerializeToString()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_are_no_numbers_are_refused_by_every_reader(tmp_path, value):
    record = _record_of_floats(value)
    with pytest.raises(ValueError, match="NaN or infinite"):
        schema.clip_from_bytes(record)
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN or infinite"):
        schema.decode_clip(tf.constant(record), audio_encoding=schema.FLOATS)
    (shard,) = tiny_shards.write_shards(tmp_path, [_clip(audio_encoding=schema.FLOATS)])
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        writer.write(record)
    with pytest.raises(UserError, match=f"record 0 of {shard.path} is damaged.*NaN or infinite"):
        list(read_clips([shard]))
    with pytest.raises(UserError, match=f"record 0 of {shard.path} is damaged.*NaN or infinite"):
        partial_records.PartialRecords([shard], schema.FLOATS).seconds(0, np.array([0]))


@pytest.mark.parametrize(("value", "level"), [(1.0, 32767), (1.5, 32767), (-2.0, -32768)])
def test_floats_beyond_full_scale_are_cut_not_wrapped(value, level):
    record = _record_of_floats(value)
    assert schema.clip_from_bytes(record).waveform[2] == level
    decoded = schema.decode_clip(tf.constant(record), audio_encoding=schema.FLOATS)
    assert decoded["waveform"][2] == level


def test_damaged_flac_is_an_error_in_the_graph():
    record = schema.encode_clip(_clip(audio_encoding=schema.FLAC)).replace(b"fLaC", b"gone")
    records = tf.data.Dataset.from_tensors(record)
    decoded = records.map(lambda each: schema.decode_clip(each, audio_encoding=schema.FLAC))
    with pytest.raises(tf.errors.OpError, match="Format not recognised"):
        next(iter(decoded))


def _ops_of_a_decoder(encoding: str, **asked) -> tuple[set[str], tf.types.experimental.Callable]:
    decode = tf.function(
        lambda record: schema.decode_clip(record, audio_encoding=encoding, **asked)["waveform"],
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    graph = decode.get_concrete_function().graph
    return {operation.type for operation in graph.get_operations()}, decode


def test_a_serializable_graph_decodes_the_same_flac_without_python():
    pytest.importorskip("tensorflow_io")
    clip = _clip(audio_encoding=schema.FLAC)
    ops, _ = _ops_of_a_decoder(schema.FLAC)
    assert any("PyFunc" in op for op in ops)
    ops, decode = _ops_of_a_decoder(schema.FLAC, serializable=True)
    assert not any("PyFunc" in op for op in ops)
    np.testing.assert_array_equal(decode(schema.encode_clip(clip)), clip.waveform)


def test_a_serializable_graph_without_tensorflow_io_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(UserError, match=r"FLAC sound.*pip install 'l3net\[io\]'"):
        _ops_of_a_decoder(schema.FLAC, serializable=True)
    ops, _ = _ops_of_a_decoder(schema.PCM16, serializable=True)
    assert not any("PyFunc" in op for op in ops)


def test_records_without_flow_stay_as_they_were_and_same_clips_give_same_bytes():
    clip = schema.Clip(
        example_id="a",
        dataset_name="d",
        media_id="m",
        data_path="m.mp4",
        start_us=0,
        end_us=80_000,
        labels=("x",),
        label_indices=(3,),
        frames=(b"one", b"two"),
        timestamps_us=(0, 40_000),
        height_px=48,
        width_px=64,
        waveform=np.arange(3840, dtype=np.int16),
        config_hash="0123",
        ffmpeg_version="7",
    )
    example = tf.train.SequenceExample.FromString(schema.encode_clip(clip))
    del example.context.feature["WAVEFORM/feature/bytes/format"]  # came later, with the next one
    del example.feature_lists.feature_list["WAVEFORM/feature/timestamp"]
    digest = hashlib.sha256(example.SerializeToString(deterministic=True)).hexdigest()
    # Written down before there was flow.
    assert digest == "22bd1feff7b8beb9cbd19730a7f9df79d49bcbd1adb93f0935c4d373b745eb3d"
    assert schema.encode_clip(_clip()) == schema.encode_clip(_clip())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": ()}, "0 frames and 30 timestamps"),
        ({"timestamps_us": tuple(range(30, 0, -1))}, "must increase"),
        ({"waveform": np.zeros(10, np.float32)}, "need int16"),
        ({"audio_encoding": "mp3"}, "need one of"),
        (FLOW | {"flows": (b"flow",) * 30}, "30 flows between 30 frames; need one less"),
        (FLOW | {"flow_scale_px": 0.0}, "flow of 36x32 px at 0 px per level; need all above 0"),
        (FLOW | {"flow_width_px": 0}, "flow of 0x32 px"),
        (FLOW | {"forward_flows": (b"flow",)}, "got 1 forward flows of 29 flows"),
    ],
)
def test_writer_refuses_what_breaks_the_contract(changes, message):
    with pytest.raises(ValueError, match=message):
        schema.encode_clip(_clip(**changes))


def test_record_of_something_else_is_refused():
    foreign = tf.train.SequenceExample().SerializeToString()
    with pytest.raises(ValueError, match="record lacks example/id"):
        schema.clip_from_bytes(foreign)


def test_sound_at_another_sample_rate_is_refused(tmp_path):
    shards = tiny_shards.write_shards(tmp_path, [_clip()])
    example = tf.train.SequenceExample.FromString(schema.encode_clip(_clip()))
    example.context.feature[schema.SAMPLE_RATE].float_list.value[0] = 16_000
    with tf.io.TFRecordWriter(str(shards[0].path)) as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(UserError, match="sound at 16000 Hz; need 48000 Hz"):
        schema.read_format(shards[0].path)
    with pytest.raises(UserError, match="sound at 16000 Hz; need 48000 Hz"):
        list(read_clips(shards))


@pytest.mark.parametrize("flow", [{}, FLOW], ids=["no flow", "flow"])
@pytest.mark.parametrize("encoding", AUDIO_ENCODINGS)
def test_read_format(tmp_path, encoding, flow):
    clip = tiny_shards.make_clip(3, frame_rate_hz=12.5, size_px=(64, 48))
    clip = dataclasses.replace(clip, audio_encoding=encoding, frame_rate_hz=12.5)
    if flow:
        clip = dataclasses.replace(clip, **flow | {"flows": (b"flow",) * (len(clip.frames) - 1)})
    shards = tiny_shards.write_shards(tmp_path, [clip])
    assert schema.read_format(shards[0].path) == schema.Format(encoding, 12.5, 48, bool(flow))


def test_an_empty_shard_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="has no readable record"):
        schema.read_format(tmp_path / "empty")


# What DMVR parses by default: github.com/google-deepmind/dmvr, dmvr/modalities.py, add_image,
# add_label and add_audio (commit 5393071).
DMVR_CONTEXT = {
    "clip/label/index": tf.io.VarLenFeature(tf.int64),
    "clip/label/text": tf.io.VarLenFeature(tf.string),
}
DMVR_LISTS = {"image/encoded": tf.io.FixedLenSequenceFeature((), tf.string)}
DMVR_AUDIO = {"WAVEFORM/feature/floats": tf.io.VarLenFeature(tf.float32)}
# MediaSequence's default parsers: github.com/google-ai-edge/mediapipe,
# mediapipe/util/sequence/media_sequence.py (commit 137867d); "WAVEFORM" is the prefix of a sound.
MEDIA_SEQUENCE_CONTEXT = {
    "example/id": tf.io.FixedLenFeature((), tf.string),
    "example/dataset_name": tf.io.FixedLenFeature((), tf.string),
    "clip/data_path": tf.io.FixedLenFeature((), tf.string),
    "clip/media_id": tf.io.FixedLenFeature((), tf.string),
    "clip/start/timestamp": tf.io.FixedLenFeature((), tf.int64),
    "clip/end/timestamp": tf.io.FixedLenFeature((), tf.int64),
    "clip/label/index": tf.io.VarLenFeature(tf.int64),
    "clip/label/string": tf.io.VarLenFeature(tf.string),
    "image/format": tf.io.FixedLenFeature((), tf.string),
    "image/channels": tf.io.FixedLenFeature((), tf.int64),
    "image/height": tf.io.FixedLenFeature((), tf.int64),
    "image/width": tf.io.FixedLenFeature((), tf.int64),
    "image/frame_rate": tf.io.FixedLenFeature((), tf.float32),
    "WAVEFORM/feature/sample_rate": tf.io.FixedLenFeature((), tf.float32),
    "WAVEFORM/feature/num_channels": tf.io.FixedLenFeature((), tf.int64),
    "WAVEFORM/feature/num_samples": tf.io.FixedLenFeature((), tf.int64),
}
MEDIA_SEQUENCE_LISTS = {
    "image/encoded": tf.io.FixedLenSequenceFeature((), tf.string),
    "image/timestamp": tf.io.FixedLenSequenceFeature((), tf.int64),
    "WAVEFORM/feature/timestamp": tf.io.FixedLenSequenceFeature((), tf.int64),
}
MEDIA_SEQUENCE_AUDIO = {
    schema.PCM16: {"WAVEFORM/feature/bytes": tf.io.VarLenFeature(tf.string)},
    schema.FLOATS: {"WAVEFORM/feature/floats": tf.io.VarLenFeature(tf.float32)},
}


def _dense(parsed: dict) -> dict:
    return {
        key: (tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value).numpy()
        for key, value in parsed.items()
    }


@pytest.mark.parametrize("encoding", [schema.PCM16, schema.FLOATS])
def test_dmvr_reads_our_shards(encoding):
    clip = _clip(audio_encoding=encoding)
    lists = DMVR_LISTS | (DMVR_AUDIO if encoding == schema.FLOATS else {})
    context, lists = map(
        _dense,
        tf.io.parse_single_sequence_example(schema.encode_clip(clip), DMVR_CONTEXT, lists),
    )
    assert tuple(context["clip/label/index"]) == clip.label_indices
    assert tuple(text.decode() for text in context["clip/label/text"]) == clip.labels
    assert tuple(lists["image/encoded"]) == clip.frames
    if encoding == schema.FLOATS:
        sound = lists["WAVEFORM/feature/floats"][0]  # the whole signal in one feature
        np.testing.assert_array_equal(sound, clip.waveform / np.float32(32768))


@pytest.mark.parametrize("encoding", [schema.PCM16, schema.FLOATS])
def test_media_sequence_reads_our_shards(encoding):
    clip = _clip(audio_encoding=encoding)
    parsed = tf.io.parse_single_sequence_example(
        schema.encode_clip(clip),
        MEDIA_SEQUENCE_CONTEXT,
        MEDIA_SEQUENCE_LISTS | MEDIA_SEQUENCE_AUDIO[encoding],
    )
    context, lists = map(_dense, parsed)
    assert lists["WAVEFORM/feature/timestamp"].tolist() == [5_000_000]  # one packet: all the sound
    (sound,) = (lists.pop(key) for key in MEDIA_SEQUENCE_AUDIO[encoding])
    if encoding == schema.PCM16:
        sound = np.frombuffer(sound[0, 0], "<i2")[np.newaxis] / np.float32(32768)
    np.testing.assert_array_equal(sound, [clip.waveform / np.float32(32768)])
    assert tuple(lists["image/encoded"]) == clip.frames
    assert tuple(lists["image/timestamp"]) == clip.timestamps_us
    assert tuple(text.decode() for text in context.pop("clip/label/string")) == clip.labels
    assert tuple(context.pop("clip/label/index")) == clip.label_indices
    assert context == {
        "example/id": clip.example_id.encode(),
        "example/dataset_name": b"synthetic",
        "clip/data_path": clip.data_path.encode(),
        "clip/media_id": clip.media_id.encode(),
        "clip/start/timestamp": 5_000_000,
        "clip/end/timestamp": 6_200_000,
        "image/format": b"JPEG",
        "image/channels": 3,
        "image/height": 64,
        "image/width": 72,
        "image/frame_rate": 25,
        "WAVEFORM/feature/sample_rate": 48_000,
        "WAVEFORM/feature/num_channels": 1,
        "WAVEFORM/feature/num_samples": 57_600,
    }


@pytest.mark.parametrize(
    ("encoding", "name"),
    [(schema.PCM16, b"PCM_S16LE"), (schema.FLAC, b"FLAC"), (schema.FLOATS, b"none")],
)
def test_a_record_says_how_the_bytes_of_the_sound_are_encoded(encoding, name):
    key = "WAVEFORM/feature/bytes/format"
    spec = {key: tf.io.FixedLenFeature((), tf.string, "none")}  # floats are no bytes
    record = schema.encode_clip(_clip(audio_encoding=encoding))
    assert tf.io.parse_single_sequence_example(record, spec)[0][key] == name


def test_records_without_mediasequences_names_are_read_as_before():
    clip = _clip(**FORWARD_FLOW)
    example = tf.train.SequenceExample.FromString(schema.encode_clip(clip))
    for features in (example.context.feature, example.feature_lists.feature_list):
        for key in list(features):
            if key.startswith("FORWARD_FLOW/") or key.endswith(("bytes/format", "ture/timestamp")):
                del features[key]
    older = schema.clip_from_bytes(example.SerializeToString())
    assert older.forward_flows == () and older.flows == clip.flows
    np.testing.assert_array_equal(older.waveform, clip.waveform)
