import dataclasses
import pathlib
import shutil

import pytest
import tensorflow as tf

from data_prep.shards.verification import verify_folder
from l3net.data import schema
from l3net.data.markers import LABELS_FILE, OUTCOMES_FILE, marker_path, read_marker
from l3net.data.shards import Shard, read_clips
from l3net.errors import UserError
from tests import commands
from tests.conftest import make_video
from tests.tiny_folders import flip_byte, prepare

SHARD = "tiny-train-00000-of-00002"
UNWANTED_FLOW = {"flow_scale_px": 0.1, "flow_height_px": 32, "flow_width_px": 43}
REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture
def folder(tiny_shards, tmp_path) -> pathlib.Path:
    return shutil.copytree(tiny_shards, tmp_path / "shards")


def faults(folder: pathlib.Path) -> list[str]:
    return list(verify_folder(folder).faults)


def rewrite(folder: pathlib.Path, **changes) -> None:
    """Writes the first clip of SHARD again, with changes."""
    path = folder / SHARD
    clips = list(read_clips([Shard(path, 2, ())]))
    clips[0] = dataclasses.replace(clips[0], **changes)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for clip in clips:
            writer.write(schema.encode_clip(clip))


def test_a_sound_folder_has_no_faults(folder):
    report = verify_folder(folder, frames_per_clip=0)
    assert report.faults == ()
    train = report.splits["train"]
    assert (train.num_shards, train.num_clips, train.num_frames) == (2, 4, 200)
    assert train.seconds == pytest.approx(8.0)
    assert train.num_bytes == sum(
        path.stat().st_size for path in folder.glob("tiny-train-*") if path.suffix != ".json"
    )


def test_a_flipped_byte_and_a_cut_shard_are_found(folder):
    path = folder / SHARD
    flip_byte(path)
    lines = faults(folder)
    assert any(SHARD in line and "sha256" in line for line in lines)
    assert any("unreadable" in line for line in lines)
    path.write_bytes(path.read_bytes()[:-100])
    assert any(SHARD in line and "bytes, its marker says" in line for line in faults(folder))


def test_several_processes_find_the_same(folder):
    flip_byte(folder / SHARD)
    (folder / "tiny-val-00000-of-00002").unlink()
    one, two = verify_folder(folder, num_workers=1), verify_folder(folder, num_workers=2)
    assert one == two and len(one.faults) > 2


def test_an_id_that_comes_in_two_splits_is_found(folder):
    train, val = (folder / f"tiny-{split}-00000-of-00002" for split in ("train", "val"))
    shutil.copy(val, train)
    shutil.copy(marker_path(val), marker_path(train))
    lines = [line for line in faults(folder) if "has the example_id of" in line]
    assert lines == [
        f"{val.name}, record {k}: has the example_id of {train.name}, record {k}"
        for k in range(read_marker(val).num_clips)
    ]


def test_missing_files_are_found(folder):
    (folder / SHARD).unlink()
    (folder / "tiny-val-00000-of-00002.json").unlink()
    (folder / OUTCOMES_FILE).unlink()
    named = [fault.split(" ")[0] for fault in faults(folder)]
    assert named == [f"{SHARD}:", "tiny-val-00000-of-00002:", "outcomes.csv:"]


def test_a_damaged_marker_is_found(folder):
    marker_path(folder / SHARD).write_text('{"num_clips": 1')
    marker_path(folder / "tiny-val-00000-of-00002").write_text("{}")
    first, second, *_ = faults(folder)
    assert first.startswith(f"{SHARD}.json: damaged (")
    assert second.startswith("tiny-val-00000-of-00002.json: damaged (Object missing required")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height_px": 100}, "frame 0 is 341x256 px, stated 341x100"),
        ({"frames": (b"not a JPEG",) * 50}, "frame 0 is no JPEG"),
        ({"end_us": 1_500_000}, "frames from 0 to 1960000 us in 0 to 1500000 us"),
        ({"end_us": 2_500_000}, "96000 samples of sound for 2.5 s; need 120000"),
        ({"labels": ("cat",)}, "label 'cat' is not number"),
        ({"label_indices": (7,)}, "is not number 7 of labels.txt"),
        ({"label_indices": ()}, "1 labels, 0 label numbers"),
        ({"frame_rate_hz": 10.0}, "10 frames a second; need 25"),
        ({"num_padding_frames": 50}, "50 padding frames of 50"),
        ({"config_hash": "other"}, "another configuration"),
        ({"media_id": "other"}, "other media_ids"),
        ({"example_id": "3_low"}, "has the example_id of"),
        ({"example_id": "zzz"}, "not sorted"),
        ({"flows": (b"flow",) * 49, **UNWANTED_FLOW}, "49 flows between 50 frames; need 0"),
    ],
)
def test_a_wrong_clip_is_found(folder, changes, words):
    rewrite(folder, **changes)
    lines = faults(folder)
    assert any(words in line for line in lines), lines


# --- Optical flow --------------------------------------------------------------------------------
FLOW_SHARD = "videos-train-00000-of-00001"


@pytest.fixture(scope="module")
def flow_shards(tmp_path_factory) -> pathlib.Path:
    videos, out_dir = (tmp_path_factory.mktemp(name) for name in ("videos", "flow_shards"))
    make_video(videos / "a.mp4", picture="testsrc=s=88x64:r=25", seconds=1.2)
    settings = {"smallest_side_px": 64, "flow_smallest_side_px": 32, "mediasequence_flow": True}
    prepare(out_dir=out_dir, videos_dir=videos, num_workers=1, **settings)
    return out_dir


def change_flow(folder: pathlib.Path, change, key: str = "flow/encoded") -> None:
    """Applies `change` to the only record, as encode_clip would not."""
    path = folder / FLOW_SHARD
    (record,) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    example = tf.train.SequenceExample.FromString(record)
    context, lists = example.context.feature, example.feature_lists.feature_list
    change(context, lists[key].feature)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())


def cut_flow(context, flows) -> None:
    jpeg = flows[14].bytes_list.value
    jpeg[0] = jpeg[0][: len(jpeg[0]) // 2]


def double_scale(context, flows) -> None:
    context["flow/scale"].float_list.value[0] *= 2


def wrong_width(context, flows) -> None:
    context["flow/width"].int64_list.value[0] = 32


def double_size(context, flows) -> None:
    for key in ("flow/height", "flow/width"):
        context[key].int64_list.value[0] *= 2


@pytest.mark.parametrize("frames_per_clip", [0, 3])
def test_sound_flow_has_no_faults(flow_shards, frames_per_clip):
    assert verify_folder(flow_shards, frames_per_clip=frames_per_clip).faults == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut_flow, "flow 14 is no JPEG"),
        (lambda _, flows: flows[3].bytes_list.value.__setitem__(0, b"x"), "flow 3 is no JPEG"),
        (lambda _, flows: flows.__delitem__(28), "28 flows between 30 frames; need 29"),
        (lambda _, flows: flows.__delitem__(slice(None)), "0 flows between 30 frames; need 29"),
        (double_scale, "flow of 0.0393701 px per level; need 0.019685"),
        (lambda context, _: context.__delitem__("flow/scale"), "flow of 0 px per level"),
        (wrong_width, "flow 0 is 44x64 px, stated 32x64"),
        (double_size, "flow of 88x64 px; need a smallest side of 32"),
    ],
)
def test_wrong_flow_is_found(flow_shards, tmp_path, change, words):
    folder = shutil.copytree(flow_shards, tmp_path / "shards")
    change_flow(folder, change)
    lines = verify_folder(folder, frames_per_clip=0).faults
    assert any(FLOW_SHARD in line and words in line for line in lines), lines


def test_wrong_flow_for_mediasequence_is_found(flow_shards, tmp_path):
    folder, key = shutil.copytree(flow_shards, tmp_path / "shards"), "FORWARD_FLOW/image/encoded"
    change_flow(folder, cut_flow, key)
    change_flow(folder, lambda _, flows: flows.pop(), key)
    faults = " ".join(verify_folder(folder, frames_per_clip=0).faults)
    assert "forward flow 14 is no JPEG" in faults
    assert "28 flows for MediaSequence; need 29" in faults


# --- The folder ----------------------------------------------------------------------------------
def test_a_record_that_is_no_clip_is_found(folder):
    with tf.io.TFRecordWriter(str(folder / SHARD)) as writer:
        writer.write(b"\xff\xff\xff")
        writer.write(tf.train.SequenceExample().SerializeToString())
    assert sum("is no clip" in line for line in faults(folder)) == 2


def test_unsorted_labels_are_found(folder):
    (folder / LABELS_FILE).write_text("low\nhigh\n")
    assert "labels are not sorted" in faults(folder)[0]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no folder of shards"):
        verify_folder(tmp_path)


def test_exit_status_and_last_line(folder):
    (folder / SHARD).unlink()
    done = commands.run("-m", "data_prep.verify_shards", f"--shards_dir={folder}", cwd=REPOSITORY)
    assert done.returncode == 1
    assert f"{SHARD}: missing" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: 1 fault in ")
