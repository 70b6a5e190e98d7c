import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from l3net.data import partial_records, schema
from l3net.data.clip import AUDIO_ENCODINGS
from l3net.data.partial_records import PartialRecords
from l3net.data.shards import read_clips
from l3net.errors import UserError
from tests import tiny_shards


def _clip(number, seconds=2.0, **changes):
    """A clip of which no two frames are equal, with flow, in the middle of a video."""
    count = round(seconds * 25)
    grey = (np.full((64, 72, 3), k * 250 // count, np.uint8) for k in range(count))
    flow = [tiny_shards.encode_grey_jpeg(np.full((128, 72), 100 + k)) for k in range(count - 1)]
    sound = np.random.default_rng(number).integers(-32768, 32767, round(seconds * 48_000))
    return tiny_shards.make_clip(
        number,
        seconds=seconds,
        frames=tuple(tiny_shards.encode_jpeg(image) for image in grey),
        waveform=sound.astype(np.int16),
        start_us=7_123_456,
        num_padding_frames=number,
        label_indices=(number + 1, 0),
        labels=("a", "b"),
        **{**tiny_shards.flows_of((64, 72), 128), "flows": tuple(flow)},
        **changes,
    )


@pytest.mark.parametrize("encoding", AUDIO_ENCODINGS)
def test_parts_are_those_of_the_complete_clip(tmp_path, encoding):
    made = [_clip(k, 1.0 + k % 3, audio_encoding=encoding) for k in range(5)]
    shards = tiny_shards.write_shards(tmp_path, made, num_shards=2)
    records = PartialRecords(shards, encoding)
    assert records.num_clips == 5
    for number in (4, 0, 2, 1, 3, 4):
        clip, facts = list(read_clips(shards))[number], records.facts(number)
        assert facts.media_id == clip.media_id and facts.label == clip.label_indices[0]
        assert facts.num_padding_frames == clip.num_padding_frames
        np.testing.assert_array_equal(
            facts.frame_times_us, np.array(clip.timestamps_us) - clip.start_us
        )
        assert facts.num_samples == len(clip.waveform)
        last = len(clip.frames) - 1
        for index in ([0], [last], [[3, 4, 5], [5, 5, 2]]):
            index = np.array(index, np.int32)
            for field in ("frames", "flows"):
                shown = np.minimum(index, last - (field == "flows"))
                expected = np.array(getattr(clip, field), object)[shown]
                np.testing.assert_array_equal(records.jpegs(number, field, shown), expected)
        starts = np.array([0, len(clip.waveform) - 48_000], np.int32)
        expected = [clip.waveform[start : start + 48_000] for start in starts]
        sound = records.seconds(number, starts)
        assert sound.dtype == np.int16
        np.testing.assert_array_equal(sound, expected)


def test_other_writers_records_are_read_too(tmp_path):
    """Written by the protobuf library: other order of the parts, the same clip."""
    (shard,) = tiny_shards.write_shards(tmp_path, [_clip(1), _clip(2)])
    clips = list(read_clips([shard]))
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        for clip in clips:
            example = tf.train.SequenceExample.FromString(schema.encode_clip(clip))
            context = tf.train.SequenceExample(context=example.context).SerializeToString()
            example.ClearField("context")
            writer.write(example.SerializeToString() + context)
    records = PartialRecords([shard], schema.PCM16)
    assert records.facts(1).media_id == clips[1].media_id
    index = np.array([7], np.int32)
    assert records.jpegs(1, "frames", index)[0] == clips[1].frames[7]
    np.testing.assert_array_equal(records.seconds(1, index)[0], clips[1].waveform[7:48_007])


def test_little_more_is_read_than_what_is_asked_for(tmp_path, monkeypatch):
    shards = tiny_shards.write_shards(tmp_path, [tiny_shards.textured_clip(1)])
    records, counts = PartialRecords(shards, schema.PCM16), []
    read_at = partial_records._File.read_at

    def counted(self, position, count):
        counts.append(count)
        return read_at(self, position, count)

    monkeypatch.setattr(partial_records._File, "read_at", counted)
    records.facts(0)
    assert sum(counts) < 20_000  # 250 frames of 32 bytes, their times, and the context
    counts.clear()
    (jpeg,) = records.jpegs(0, "frames", np.array([125], np.int32))
    records.seconds(0, np.array([0, 96_000], np.int32))
    assert sum(counts) <= len(jpeg) + 16 + 2 * 96_000


def test_flow_for_mediasequence_is_hopped_over(tmp_path, monkeypatch):
    clip, reads = _clip(1), []
    jpegs = tuple(bytes(20_000) for _ in clip.flows)
    read_at = partial_records._File.read_at
    monkeypatch.setattr(
        partial_records._File,
        "read_at",
        lambda self, position, count: reads.append(count) or read_at(self, position, count),
    )
    num_reads, num_bytes, facts = [], [], []
    for name, forward_flows in (("plain", ()), ("both", jpegs)):
        made = dataclasses.replace(clip, forward_flows=forward_flows)
        shards = tiny_shards.write_shards(tmp_path / name, [made])
        records = PartialRecords(shards, schema.PCM16)
        reads.clear()
        facts.append(records.facts(0))
        num_reads.append(len(reads))
        num_bytes.append(sum(reads))
        index = np.array([0, 48], np.int32)
        np.testing.assert_array_equal(records.jpegs(0, "flows", index), np.array(clip.flows)[index])
        np.testing.assert_array_equal(records.seconds(0, index)[1], clip.waveform[48:48_048])
    assert facts[0].media_id == facts[1].media_id
    assert num_reads[1] - num_reads[0] <= 8  # heads and names of two lists
    assert num_bytes[1] - num_bytes[0] < 600  # and the names in the context


def test_no_more_clips_are_kept_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_records, "_MAX_KEPT", 1)
    shards = tiny_shards.write_shards(tmp_path, [_clip(k) for k in range(3)])
    records = PartialRecords(shards, schema.PCM16)
    assert [records.facts(k).media_id for k in (0, 1, 2, 1)] == [
        f"video{k:04d}" for k in (0, 1, 2, 1)
    ]
    assert len(records._facts) == 1


def test_a_damaged_shard_is_an_error(tmp_path):
    (shard,) = tiny_shards.write_shards(tmp_path, [_clip(1)])
    data = shard.path.read_bytes()
    shard.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="is cut off"):
        PartialRecords([shard], schema.PCM16).facts(0)
    shard.path.write_bytes(data[:12] + bytes(len(data) - 12))
    with pytest.raises(UserError, match="no SequenceExample"):
        PartialRecords([shard], schema.PCM16).facts(0)
