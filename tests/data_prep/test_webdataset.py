"""Shards in WebDataset's form, read back by ours and by the package itself."""

import io
import json
import tarfile

import numpy as np
import PIL.Image
import pytest
import soundfile

from data_prep import report
from data_prep.shards import webdataset
from data_prep.shards.verification import verify_folder
from data_prep.survey.sample import Sampling
from l3net.data.markers import OUTCOMES_FILE, PREP_FILE
from l3net.data.shards import find_shards, read_clips
from l3net.errors import UserError
from tests import tiny_folders
from tests.tiny_folders import contents, flip_byte

SETTINGS = {"dataset_name": "tiny", "num_shards": 2, "num_workers": 1, "format": "webdataset"}
SHARD = "tiny-train-00000-of-00002.tar"


@pytest.fixture(scope="module")
def made(tiny_videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("webdataset")
    tiny_folders.prepare(manifest=tiny_videos / "manifest.csv", out_dir=folder, **SETTINGS)
    return folder


def clips(folder, split):
    for path in sorted(folder.glob(f"tiny-{split}-*.tar")):
        yield from map(webdataset.clip_from_bytes, webdataset.read_records(path))


def test_the_clips_are_those_of_tfrecord(made, tiny_shards):
    for split in ("train", "val", "test"):
        ours = list(clips(made, split))
        theirs = list(read_clips(find_shards(tiny_shards, split)))
        assert len(ours) == len(theirs)
        for clip, other in zip(ours, theirs, strict=True):
            assert np.array_equal(clip.waveform, other.waveform)
            changed = {"waveform", "audio_encoding", "config_hash"}
            assert {k: v for k, v in vars(clip).items() if k not in changed} == {
                k: v for k, v in vars(other).items() if k not in changed
            }
    assert (made / OUTCOMES_FILE).read_bytes() == (tiny_shards / OUTCOMES_FILE).read_bytes()
    config = json.loads((made / PREP_FILE).read_text())["config"]
    assert (config["format"], config["audio_encoding"]) == ("webdataset", "flac")


def test_the_package_reads_them(made, tiny_shards):
    wds = pytest.importorskip("webdataset")
    urls = sorted(map(str, made.glob("tiny-train-*.tar")))
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    theirs = list(read_clips(find_shards(tiny_shards, "train")))
    assert [sample["__key__"] for sample in samples] == [clip.example_id for clip in theirs]
    for sample, clip in zip(samples, theirs, strict=True):
        assert sample["json"]["labels"] == list(clip.labels)
        assert sample["json"]["timestamps_us"] == list(clip.timestamps_us)
        waveform, rate = soundfile.read(io.BytesIO(sample["flac"]), dtype="int16")
        assert rate == 48_000 and np.array_equal(waveform, clip.waveform)
        frames = [sample[f"{number:04d}.jpg"] for number in range(len(clip.frames))]
        expected = [np.array(PIL.Image.open(io.BytesIO(jpeg))) for jpeg in clip.frames]
        assert np.array_equal(frames, expected)


def test_nothing_but_the_clip_is_in_a_tar(made):
    with tarfile.open(made / SHARD) as tar:
        members = tar.getmembers()
    for info in members:
        assert info.isreg() and (info.uid, info.gid, info.mtime, info.mode) == (0, 0, 0, 0o644)
        assert info.uname == info.gname == "" and "/" not in info.name


def test_a_run_is_resumed_and_what_failed_is_tried_again(made, tiny_videos, tmp_path):
    for path in tiny_videos.glob("*"):
        if path.name != "0_high.mp4":
            (tmp_path / path.name).hardlink_to(path)
    out_dir, settings = tmp_path / "out", {"manifest": tmp_path / "manifest.csv", **SETTINGS}
    assert tiny_folders.prepare(out_dir=out_dir, **settings)["failed"] == 1
    (tmp_path / "0_high.mp4").hardlink_to(tiny_videos / "0_high.mp4")
    (out_dir / f"{SHARD}.json").unlink()  # killed before the marker
    (out_dir / ".tiny-test-00001-of-00002.tar.123.tmp").write_bytes(b"left over")
    tiny_folders.prepare(out_dir=out_dir, retry_failed=True, **settings)
    assert contents(out_dir) == contents(made)


def test_they_are_verified(made, tmp_path):
    found = verify_folder(made)
    assert not found.faults
    assert found.splits["train"].num_clips == 4
    for name, content in contents(made).items():
        (tmp_path / name).write_bytes(content)
    flip_byte(tmp_path / SHARD)
    assert any("sha256" in fault for fault in verify_folder(tmp_path).faults)
    (tmp_path / SHARD).write_bytes((made / SHARD).read_bytes()[:50_000])
    faults = verify_folder(tmp_path).faults
    assert any("unreadable" in fault or "is no clip" in fault for fault in faults)


def test_what_reads_tfrecord_says_so(made):
    with pytest.raises(UserError, match="made for other programs, by write_shards --format=webd"):
        find_shards(made, "train")
    with pytest.raises(UserError, match="has webdataset shards; this command reads tfrecord"):
        report.main(report.Config(str(made)), Sampling())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"audio_encoding": "floats"}, "the sound of --format=webdataset is FLAC"),
        (
            {"mediasequence_flow": True, "flow_smallest_side_px": 64},
            "mediasequence_flow is for --format=tfrecord",
        ),
    ],
)
def test_unusable_settings_are_refused(tiny_videos, tmp_path, settings, words):
    given = {"manifest": tiny_videos / "manifest.csv", "out_dir": tmp_path / "out"}
    with pytest.raises(UserError, match=words):
        tiny_folders.prepare(**given | SETTINGS | settings)


def test_a_key_has_no_dot_and_is_nobody_elses():
    assert webdataset.key_of("aB-9_x") == "aB-9_x"
    names = ["a.mp4", "a_mp4", "a/mp4", "ü.mp4", "x" * 200, "x" * 201, ".", "a b"]
    keys = {webdataset.key_of(name) for name in names}
    assert len(keys) == len(names)
    assert all("." not in key and "/" not in key and len(key) < 80 for key in keys)
