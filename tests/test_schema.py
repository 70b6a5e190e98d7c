import dataclasses
import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf

from l3net.data import schema
from l3net.errors import UserError
from tests import synthetic_shards

FLOW = {
    "flows": tuple(b"flow %d" % k for k in range(29)),
    "flow_scale_px": 0.125,
    "flow_height_px": 32,
    "flow_width_px": 36,
}


def _clip(**changes) -> schema.Clip:
    clip = synthetic_shards.make_clip(3, seconds=1.2, start_us=5_000_000)
    details = {"labels": ("Drum", "Violin, fiddle"), "label_indices": (0, 4)}
    return dataclasses.replace(clip, **{**details, **changes})


@pytest.mark.parametrize("flow", [{}, FLOW], ids=["no flow", "flow"])
@pytest.mark.parametrize("encoding", schema.AUDIO_ENCODINGS)
def test_python_reader_gives_back_what_was_written(encoding, flow):
    clip = _clip(audio_encoding=encoding, num_padding_frames=2, config_hash="abc", **flow)
    back = schema.clip_from_bytes(schema.encode_clip(clip))
    np.testing.assert_array_equal(back.waveform, clip.waveform)
    for field in dataclasses.fields(schema.Clip):
        if field.name != "waveform":
            assert getattr(back, field.name) == getattr(clip, field.name), field.name


def _encodings_of_the_graph():
    try:
        import tensorflow_io  # noqa: F401
    except ImportError:
        return [schema.PCM16, schema.FLOATS]
    return list(schema.AUDIO_ENCODINGS)


@pytest.mark.parametrize("encoding", _encodings_of_the_graph())
def test_graph_reader_agrees(encoding):
    clip = _clip(audio_encoding=encoding, num_padding_frames=1)
    records = tf.data.Dataset.from_tensors(schema.encode_clip(clip))
    decoded = next(iter(records.map(lambda r: schema.decode_clip(r, audio_encoding=encoding))))
    np.testing.assert_array_equal(decoded["waveform"], clip.waveform)
    assert decoded["frames"].numpy().tolist() == list(clip.frames)
    assert decoded["frame_times_us"].numpy().tolist() == [
        time - 5_000_000 for time in clip.timestamps_us
    ]
    assert decoded["media_id"] == b"video0003"
    assert decoded["num_padding_frames"] == 1


def _decoded(clip: schema.Clip, **asked) -> dict:
    records = tf.data.Dataset.from_tensors(schema.encode_clip(clip))
    return next(iter(records.map(lambda record: schema.decode_clip(record, **asked))))


def test_graph_reader_gives_flow_and_labels_only_if_asked():
    plain = _decoded(_clip(**FLOW))
    assert plain.keys() & {"flows", "label_indices"} == set()
    asked = _decoded(_clip(**FLOW), with_flow=True, with_labels=True)
    assert asked.keys() - plain.keys() == {"flows", "label_indices"}
    assert asked["flows"].numpy().tolist() == list(FLOW["flows"])
    assert asked["label_indices"].dtype == tf.int64
    assert asked["label_indices"].numpy().tolist() == [0, 4]


def test_graph_reader_of_a_clip_without_labels():
    decoded = _decoded(_clip(labels=(), label_indices=()), with_labels=True)
    assert decoded["label_indices"].shape == [0]


def test_graph_reader_refuses_to_make_up_flow():
    with pytest.raises(tf.errors.InvalidArgumentError, match="flow/encoded"):
        _decoded(_clip(), with_flow=True)


def test_flac_without_tensorflow_io_is_refused_clearly(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_io", None)
    record = schema.encode_clip(_clip(audio_encoding=schema.FLAC))
    with pytest.raises(UserError, match="FLAC sound.*--audio_encoding=pcm16"):
        schema.decode_clip(tf.constant(record), audio_encoding=schema.FLAC)


def test_records_without_flow_stay_as_they_were():
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
    digest = hashlib.sha256(schema.encode_clip(clip)).hexdigest()
    # Written down before there was flow.
    assert digest == "22bd1feff7b8beb9cbd19730a7f9df79d49bcbd1adb93f0935c4d373b745eb3d"


def test_same_clip_same_bytes():
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
    shards = synthetic_shards.write_shards(tmp_path, [_clip()])
    example = tf.train.SequenceExample.FromString(schema.encode_clip(_clip()))
    example.context.feature[schema.SAMPLE_RATE].float_list.value[0] = 16_000
    with tf.io.TFRecordWriter(str(shards[0].path)) as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(UserError, match="sound at 16000 Hz; need 48000 Hz"):
        schema.peek_audio_encoding(shards[0].path)
    with pytest.raises(UserError, match="sound at 16000 Hz; need 48000 Hz"):
        list(schema.read_clips(shards))


def test_peek_audio_encoding(tmp_path):
    shards = synthetic_shards.write_shards(tmp_path, [_clip(audio_encoding=schema.FLOATS)])
    assert schema.peek_audio_encoding(shards[0].path) == schema.FLOATS


@pytest.mark.parametrize("flow", [{}, FLOW], ids=["no flow", "flow"])
def test_has_flow(tmp_path, flow):
    shards = synthetic_shards.write_shards(tmp_path, [_clip(**flow)])
    assert schema.has_flow(shards[0].path) is bool(flow)


@pytest.mark.parametrize("peek", [schema.has_flow, schema.peek_audio_encoding])
def test_an_empty_shard_tells_nothing(tmp_path, peek):
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="has no readable record"):
        peek(tmp_path / "empty")


def test_find_shards_reads_counts_and_leaves_out_empty_ones(tmp_path):
    clips = [synthetic_shards.make_clip(k) for k in range(3)]
    shards = synthetic_shards.write_shards(tmp_path, clips, num_shards=4)
    assert [shard.num_clips for shard in shards] == [1, 1, 1]
    assert shards[1].media_ids == ("video0001",)


def test_find_shards_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        schema.find_shards(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match="it has no shards"):
        schema.find_shards(tmp_path, "train")
    clips = [synthetic_shards.make_clip(k) for k in range(2)]
    shards = synthetic_shards.write_shards(tmp_path, clips, num_shards=2)
    with pytest.raises(UserError, match="no shards of split 'test'.*it has the splits train"):
        schema.find_shards(tmp_path, "test")
    schema.marker_path(shards[0].path).unlink()
    with pytest.raises(UserError, match="no commit marker"):
        schema.find_shards(tmp_path, "train")
    shards[0].path.unlink()
    with pytest.raises(UserError, match="has 1 of 2 train shards"):
        schema.find_shards(tmp_path, "train")


def test_damaged_shard_is_one_clear_line(tmp_path):
    shards = synthetic_shards.write_shards(tmp_path, [_clip()])
    data = bytearray(shards[0].path.read_bytes())
    data[len(data) // 2] ^= 1
    shards[0].path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged.*verify_shards"):
        list(schema.read_clips(shards))


def test_marker_may_hold_more(tmp_path):
    shards = synthetic_shards.write_shards(tmp_path, [_clip()])
    marker = schema.marker_path(shards[0].path)
    content = json.loads(marker.read_text()) | {"sha256": "ab", "outcomes": []}
    marker.write_text(json.dumps(content))
    assert schema.find_shards(tmp_path, "train")[0].sha256 == "ab"
