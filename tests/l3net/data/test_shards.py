import dataclasses
import json

import pytest

from l3net.data import shards as shard_files
from l3net.data.shards import Marker, find_shards, marker_path, read_clips
from l3net.errors import UserError
from tests import tiny_shards

MARKER = Marker(1, ("video0001",), 7, "ab", "config", [{"outcome": "ok"}])


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
    path = tmp_path / "demo-train-00000-of-00001"
    path.write_bytes(b"7 bytes")
    shard_files.write_marker(path, MARKER)
    return path


def change_marker(path, **changes):
    content = json.loads(marker_path(path).read_text()) | changes
    content.pop("checksum", None)
    marker_path(path).write_text(json.dumps(content))


def test_a_marker_may_hold_more_or_nothing_but_the_clips(shard):
    assert shard_files.read_marker(shard) == MARKER
    content = json.loads(marker_path(shard).read_text())
    assert list(content) == [*dataclasses.asdict(MARKER), "checksum"]
    assert find_shards(shard.parent, "train")[0].sha256 == "ab"
    change_marker(shard, later=1)
    assert shard_files.read_marker(shard) == MARKER
    marker_path(shard).write_text('{"num_clips": 1, "media_ids": ["a"]}')
    assert shard_files.read_marker(shard) == Marker(1, ("a",))
    assert find_shards(shard.parent, "train")[0].sha256 == ""


@pytest.mark.parametrize("text", ['{"num_clips": 1', "{}", "[]", "3", '{"num_clips": 1}'])
def test_a_damaged_marker_is_one_clear_line(shard, text):
    marker_path(shard).write_text(text)
    with pytest.raises(UserError, match=r"00001.json is damaged \(.+\); delete it and run"):
        shard_files.read_marker(shard)
    assert shard_files.fitting_marker(shard, "config") is None


def test_a_marker_fits_a_finished_shard_alone(shard):
    assert shard_files.fitting_marker(shard, "config") == MARKER
    assert shard_files.fitting_marker(shard, "other") is None
    shard.write_bytes(b"6 byte")
    assert shard_files.fitting_marker(shard, "config") is None
    shard.unlink()
    assert shard_files.fitting_marker(shard, "config") is None
