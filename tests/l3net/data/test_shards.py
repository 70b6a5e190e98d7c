import dataclasses
import json

import pytest
import tensorflow as tf

from l3net.data import markers
from l3net.data.markers import Marker, marker_path
from l3net.data.shards import find_shards, read_clips
from l3net.errors import UserError
from tests import tiny_shards


def _marker_of(shard) -> Marker:
    outcomes = [{"outcome": "ok"}]
    return Marker(1, ("video0001",), shard.stat().st_size, "ab", "config", outcomes)


def test_find_shards_reads_counts_and_leaves_out_empty_ones(tmp_path):
    clips = [tiny_shards.make_clip(k) for k in range(3)]
    shards = tiny_shards.write_shards(tmp_path, clips, num_shards=4)
    assert [shard.num_clips for shard in shards] == [1, 1, 1]
    assert shards[1].media_ids == ("video0001",)


def test_find_shards_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find_shards(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match="it has no shards"):
        find_shards(tmp_path, "train")
    clips = [tiny_shards.make_clip(k) for k in range(2)]
    shards = tiny_shards.write_shards(tmp_path, clips, num_shards=2)
    with pytest.raises(UserError, match="no shards of split 'test'.*it has the splits train"):
        find_shards(tmp_path, "test")
    marker_path(shards[0].path).unlink()
    with pytest.raises(UserError, match="no commit marker"):
        find_shards(tmp_path, "train")
    shards[0].path.unlink()
    with pytest.raises(UserError, match="has 1 of 2 train shards"):
        find_shards(tmp_path, "train")


def test_damaged_shard_is_one_clear_line(tmp_path):
    shards = tiny_shards.write_shards(tmp_path, [tiny_shards.make_clip(1)])
    data = bytearray(shards[0].path.read_bytes())
    data[len(data) // 2] ^= 1
    shards[0].path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged.*verify_shards"):
        list(read_clips(shards))


@pytest.fixture
def shard(tmp_path):
    (made,) = tiny_shards.write_shards(tmp_path, [tiny_shards.make_clip(1)], name="demo")
    markers.write_marker(made.path, _marker_of(made.path))
    return made.path


def _swap(a, b):
    content = a.path.read_bytes()
    a.path.write_bytes(b.path.read_bytes())
    b.path.write_bytes(content)


MIX_UPS = {
    "another shard": lambda a, b: _swap(a, b),
    "cut": lambda a, b: a.path.write_bytes(a.path.read_bytes()[:-1]),
    "grown": lambda a, b: a.path.write_bytes(a.path.read_bytes() + b"x"),
    "empty": lambda a, b: a.path.write_bytes(b""),
    "no record": lambda a, b: a.path.write_bytes(b"text " * 99),
    "another record": lambda a, b: tf.io.TFRecordWriter(str(a.path)).write(b"\x08\x01"),
    "gone": lambda a, b: a.path.unlink(),
}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("mix_up", MIX_UPS)
def test_a_shard_that_is_not_its_markers_is_refused(tmp_path, mix_up, sized):
    clips = [tiny_shards.make_clip(k) for k in (1, 2)]
    shards = tiny_shards.write_shards(tmp_path, clips, num_shards=2)
    if sized:
        for shard in shards:
            marker = Marker(1, shard.media_ids, shard.path.stat().st_size)
            markers.write_marker(shard.path, marker)
    assert len(find_shards(tmp_path, "train")) == 2
    MIX_UPS[mix_up](*shards)
    if mix_up in ("cut", "grown") and not sized:  # reading finds the former
        return
    with pytest.raises(UserError, match="not the one that|has 1 of 2 train") as error:
        find_shards(tmp_path, "train")
    assert "\n" not in str(error.value)


def change_marker(path, **changes):
    content = json.loads(marker_path(path).read_text()) | changes
    content.pop("checksum", None)
    marker_path(path).write_text(json.dumps(content))


def test_a_marker_may_hold_more_or_nothing_but_the_clips(shard):
    assert markers.read_marker(shard) == _marker_of(shard)
    content = json.loads(marker_path(shard).read_text())
    assert list(content) == [*dataclasses.asdict(_marker_of(shard)), "checksum"]
    assert find_shards(shard.parent, "train")[0].sha256 == "ab"
    change_marker(shard, later=1)
    assert markers.read_marker(shard) == _marker_of(shard)
    marker_path(shard).write_text('{"num_clips": 1, "media_ids": ["video0001"]}')
    assert markers.read_marker(shard) == Marker(1, ("video0001",))
    assert find_shards(shard.parent, "train")[0].sha256 == ""


@pytest.mark.parametrize("text", ['{"num_clips": 1', "{}", "[]", "3", '{"num_clips": 1}'])
def test_a_damaged_marker_is_one_clear_line(shard, text):
    marker_path(shard).write_text(text)
    with pytest.raises(UserError, match=r"00001.json is damaged \(.+\); delete it and run"):
        markers.read_marker(shard)
    assert markers.fitting_marker(shard, "config") is None


def test_a_marker_fits_a_finished_shard_alone(shard):
    assert markers.fitting_marker(shard, "config") == _marker_of(shard)
    assert markers.fitting_marker(shard, "other") is None
    shard.write_bytes(b"6 byte")
    assert markers.fitting_marker(shard, "config") is None
    shard.unlink()
    assert markers.fitting_marker(shard, "config") is None
