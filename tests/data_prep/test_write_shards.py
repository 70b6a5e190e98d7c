import csv
import errno
import io
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from unittest import mock

import absl.flags
import numpy as np
import PIL.Image
import pytest

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from data_prep.shards import clip_records, flow
from data_prep.shards.config import Config
from data_prep.shards.verification import verify_folder
from data_prep.shards.writer import shard_of
from l3net import flags
from l3net.data import input_pipeline, schema
from l3net.data.markers import LABELS_FILE, OUTCOMES_FILE, PREP_FILE, marker_path, read_marker
from l3net.data.shards import find_shards, read_clips, read_labels
from l3net.errors import UserError
from l3net.media import ffmpeg
from tests import commands, tiny_folders
from tests.conftest import make_video
from tests.tiny_ffmpeg import fake_ffmpeg
from tests.tiny_folders import contents, rows_in

SETTINGS = {"dataset_name": "tiny", "num_shards": 2}
REPOSITORY = pathlib.Path(__file__).parents[2]


def times(folder: pathlib.Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("tiny-*")}


def outcomes(folder: pathlib.Path) -> dict[str, dict[str, str]]:
    with open(folder / OUTCOMES_FILE, newline="") as file:
        return {row["example_id"]: row for row in csv.DictReader(file)}


def clips(folder: pathlib.Path, split: str) -> list[schema.Clip]:
    return list(read_clips(find_shards(folder, split)))


def prepare(tiny_videos: pathlib.Path, out_dir: pathlib.Path, **settings) -> dict[str, int]:
    given = {"manifest": tiny_videos / "manifest.csv", "num_workers": 1}
    return tiny_folders.prepare(out_dir=out_dir, **(given | SETTINGS | settings))


def command(tiny_videos: pathlib.Path, out_dir: pathlib.Path) -> list[str]:
    flags = [f"--manifest={tiny_videos / 'manifest.csv'}", f"--out_dir={out_dir}"]
    return ["-m", "data_prep.write_shards", *flags, "--num_shards=2", "--num_workers=2"]


# --- Contents ------------------------------------------------------------------------------------
def test_a_clip_says_where_it_comes_from(tiny_shards, tiny_videos):
    for split, num in (("train", 4), ("val", 2), ("test", 2)):
        for clip in clips(tiny_shards, split):
            num -= 1
            decoded = ffmpeg.decode_clip(tiny_videos / clip.data_path)
            assert clip.frames == decoded.frames
            assert clip.timestamps_us == decoded.timestamps_us
            assert np.array_equal(clip.waveform, decoded.waveform)
            assert (clip.height_px, clip.width_px) == (256, 341)
            assert clip.labels == (clip.example_id.split("_")[1],)
            assert clip.label_indices == (["high", "low"].index(clip.labels[0]),)
            assert clip.dataset_name == "tiny"
            assert clip.ffmpeg_version == ffmpeg.ffmpeg_version()
        assert num == 0
    assert read_labels(tiny_shards) == ["high", "low"]


def test_shard_and_order_follow_from_the_id(tiny_shards):
    for shard in find_shards(tiny_shards, "train"):
        ids = [clip.example_id for clip in read_clips([shard])]
        assert ids == sorted(ids)
        assert {shard_of(example_id, 2) for example_id in ids} == {int(shard.path.name[11:16])}


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_order_and_workers_change_no_byte(tiny_shards, tiny_videos, tmp_path, num_workers):
    rows = rows_in(tiny_videos / "manifest.csv")
    random.Random(num_workers).shuffle(rows)
    manifest.write_manifest(tmp_path / "shuffled.csv", rows)
    settings = {"manifest": tmp_path / "shuffled.csv", "num_workers": num_workers}
    prepare(tiny_videos, tmp_path / "out", videos_dir=tiny_videos, **settings)
    assert contents(tmp_path / "out") == contents(tiny_shards)


@pytest.mark.parametrize("audio_encoding", [schema.FLAC, schema.FLOATS])
def test_every_encoding_keeps_every_sample(tiny_shards, tiny_videos, tmp_path, audio_encoding):
    prepare(tiny_videos, tmp_path, audio_encoding=audio_encoding)
    for ours, theirs in zip(clips(tmp_path, "val"), clips(tiny_shards, "val"), strict=True):
        assert ours.audio_encoding == audio_encoding
        assert np.array_equal(ours.waveform, theirs.waveform)


def test_a_plain_folder_needs_no_manifest(tiny_videos, tmp_path):
    settings = {"max_seconds": 1.0, "split_fractions": "train=0.5,test=0.5"}
    settings |= {"smallest_side_px": 64, "num_workers": 1}
    counts = tiny_folders.prepare(out_dir=tmp_path, videos_dir=tiny_videos, **settings)
    assert counts == {"ok": 8, "skipped": 0, "failed": 0}
    made = clips(tmp_path, "train") + clips(tmp_path, "test")
    assert {clip.media_id for clip in made} == {p.name for p in tiny_videos.glob("*.mp4")}
    assert {(clip.height_px, len(clip.frames)) for clip in made} == {(64, 25)}
    again = rows_in(tmp_path / "manifest.csv")
    assert sorted(row.path for row in again if row.split == "train") == sorted(
        clip.data_path for clip in clips(tmp_path, "train")
    )


# --- Frame rate and length -----------------------------------------------------------------------
@pytest.mark.parametrize("frame_rate_hz", [1, 5, 29.97, 50])
def test_any_frame_rate_can_be_trained_on(tiny_videos, tmp_path, frame_rate_hz):
    prepare(tiny_videos, tmp_path, frame_rate_hz=frame_rate_hz, smallest_side_px=64)
    assert not verify_folder(tmp_path).faults
    (clip, *_) = clips(tmp_path, "val")
    assert clip.frame_rate_hz == pytest.approx(frame_rate_hz)
    assert len(clip.frames) == int(2 * frame_rate_hz)
    step_us = 1e6 / frame_rate_hz
    assert clip.timestamps_us == tuple(round(k * step_us) for k in range(len(clip.frames)))
    assert len(clip.waveform) == round(len(clip.frames) * 48_000 / frame_rate_hz)
    # Frame k shows what the video shows at its time: that of the 25 fps shards at the same time.
    if 25 % frame_rate_hz == 0:
        every = int(25 // frame_rate_hz)
        full = ffmpeg.decode_clip(tiny_videos / clip.data_path, smallest_side_px=64)
        assert clip.frames == full.frames[::every]
    shards = find_shards(tmp_path, "train")
    config = input_pipeline.PipelineConfig(batch_size=4, pairs_per_clip=1, frame_px=56)
    (batch,) = input_pipeline.training_batches(shards, config).take(1).as_numpy_iterator()
    assert batch["image"].shape == (4, 56, 56, 3)
    assert batch["waveform"].shape == (4, 48_000)
    assert batch["corresponds"].sum() == 2


def test_a_limit_of_frames_cuts_the_sound_alike(tiny_videos, tmp_path):
    prepare(tiny_videos, tmp_path, max_frames=15, frame_rate_hz=10, smallest_side_px=64)
    assert not verify_folder(tmp_path).faults
    for clip in clips(tmp_path, "train"):
        assert (len(clip.frames), len(clip.waveform), clip.end_us) == (15, 72_000, 1_500_000)


# --- Optical flow --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> pathlib.Path:
    """A folder of one video whose picture moves to the left by 1/32 of its height a frame."""
    folder = tmp_path_factory.mktemp("moving")
    waves = "50*sin((X+2*N)/15)*cos(Y/11)+30*sin((X+2*N)/6+Y/5)+20*cos((X+2*N)/3-Y/4)"
    picture = f"color=s=88x64:r=25,geq=lum='128+{waves}':cb=128:cr=128"
    make_video(folder / "moving.mp4", picture=picture, seconds=1.2)
    return folder


def prepare_flow(moving: pathlib.Path, out_dir: pathlib.Path, **settings) -> None:
    sides = {"smallest_side_px": 64, "flow_smallest_side_px": 32}
    given = {"videos_dir": moving, "out_dir": out_dir, "num_workers": 1}
    tiny_folders.prepare(**given | sides | settings)


def test_flow_is_beside_the_frames(moving, tmp_path):
    prepare_flow(moving, tmp_path)
    (clip,) = clips(tmp_path, "train")
    assert (clip.height_px, clip.width_px) == (64, 88)
    assert (clip.flow_height_px, clip.flow_width_px) == (32, 44)
    assert clip.flow_scale_px == pytest.approx(20 / 256 * 32 / 127)
    assert clip.flows == flow.optical_flow(clip.frames, smallest_side_px=32).flows
    assert len(clip.flows) == len(clip.frames) - 1
    # 2 of the frames' 64 pixels, so 1 of the flow's 32; the picture goes left. x is above y.
    levels = np.stack([PIL.Image.open(io.BytesIO(jpeg)) for jpeg in clip.flows])
    halves = np.split(levels, 2, axis=1)
    motion = [(np.median(half) - 128) * clip.flow_scale_px for half in halves]
    np.testing.assert_allclose(motion, (-1, 0), atol=0.15)
    prep = json.loads((tmp_path / PREP_FILE).read_text())
    assert prep["config"]["flow_smallest_side_px"] == 32
    assert prep["opencv_version"] == flow.opencv_version()


def test_flow_for_mediasequence_is_stored_if_asked(moving, tmp_path):
    prepare_flow(moving, tmp_path / "plain")
    prepare_flow(moving, tmp_path / "both", mediasequence_flow=True)
    (plain,), (both,) = (clips(tmp_path / name, "train") for name in ("plain", "both"))
    assert plain.forward_flows == () and plain.flows == both.flows
    assert both.forward_flows == tuple(
        jpeg
        for k in range(0, 29, 10)
        for jpeg in flow.optical_flow(
            both.frames[k : k + 11], smallest_side_px=32, mediasequence=True
        ).forward_flows
    )
    prep = json.loads((tmp_path / "plain" / PREP_FILE).read_text())
    # So the hashes of older folders stay.
    assert not prep["config"].keys() & {"mediasequence_flow", "flow_method"}
    assert verify_folder(tmp_path / "both").faults == ()
    with pytest.raises(UserError, match="there is none: give --flow_smallest_side_px"):
        prepare_flow(moving, tmp_path, mediasequence_flow=True, flow_smallest_side_px=0)


def test_the_method_of_the_flow_is_part_of_the_configuration(moving, tmp_path):
    prepare_flow(moving, tmp_path, flow_method=flow.DIS)
    (clip,) = clips(tmp_path, "train")
    first = clip.frames[:11]
    wanted = flow.optical_flow(first, smallest_side_px=32, method=flow.DIS).flows
    assert clip.flows[:10] == wanted != flow.optical_flow(first, smallest_side_px=32).flows
    prep = json.loads((tmp_path / PREP_FILE).read_text())
    assert prep["config"]["flow_method"] == "dis"
    assert verify_folder(tmp_path).faults == ()
    with pytest.raises(UserError, match="flow_method was 'dis', now 'tvl1'; use another"):
        prepare_flow(moving, tmp_path)


def test_an_interrupted_run_with_flow_gives_the_same_bytes(moving, tmp_path):
    shutil.copytree(moving, tmp_path / "videos")
    shutil.copy(moving / "moving.mp4", tmp_path / "videos" / "other.mp4")
    prepare_flow(tmp_path / "videos", tmp_path / "whole", num_shards=2)
    shards = find_shards(tmp_path / "whole", "train")
    assert len(shards) == 2
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    lost = tmp_path / "cut" / shards[0].path.name
    lost.write_bytes(lost.read_bytes()[:1000])
    marker_path(lost).unlink()
    prepare_flow(tmp_path / "videos", tmp_path / "cut", num_shards=2, num_workers=2)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_failure_of_flow_is_an_outcome(moving, tmp_path, monkeypatch):
    def fail(frames, **_):
        raise ValueError(f"no flow between {len(frames)} frames")

    monkeypatch.setattr(flow, "optical_flow", fail)
    with pytest.raises(UserError, match=r"no clip came out of 1 rows \(1 failed flow\)"):
        prepare_flow(moving, tmp_path)
    (row,) = outcomes(tmp_path).values()
    assert (row["outcome"], row["reason"]) == ("failed", "flow")
    assert row["detail"] == "from frame 0 on: no flow between 11 frames"


def test_the_time_limit_of_a_clip_holds_for_its_flow(moving, tmp_path, monkeypatch):
    times = iter([0.0, 1.0, 299.0, 301.0])  # start; before 10 flows each
    monkeypatch.setattr(clip_records, "time", types.SimpleNamespace(monotonic=lambda: next(times)))
    with pytest.raises(UserError, match=r"\(1 failed timeout\)"):
        prepare_flow(moving, tmp_path)
    (row,) = outcomes(tmp_path).values()
    assert row["detail"] == "optical flow not done after 300 s, at frame 20 of 30"


def test_a_folder_from_before_there_was_flow_is_the_same_configuration(tiny_shards, tiny_videos):
    names = {"dataset_name": "d", "manifest_hash": "m", "num_shards": {"train": 2}}
    config = Config(**names, max_seconds=10.0, prep_version="1")
    assert config.hash() == "b8da8cff11f22769"  # written down before there was flow
    prep = json.loads((tiny_shards / PREP_FILE).read_text())
    assert not prep["config"].keys() & {"flow_smallest_side_px", "frame_rate_hz", "max_frames"}
    before = times(tiny_shards)
    prepare(tiny_videos, tiny_shards)
    assert times(tiny_shards) == before
    with pytest.raises(UserError, match="flow_smallest_side_px was 0, now 64; use another"):
        prepare(tiny_videos, tiny_shards, flow_smallest_side_px=64)


# --- Outcomes ------------------------------------------------------------------------------------
@pytest.fixture
def mixed(tiny_videos, tmp_path) -> pathlib.Path:
    """A folder of good and bad files and its manifest."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("0_high", "1_low"):
        shutil.copy(tiny_videos / f"{name}.mp4", folder)
    make_video(folder / "silent.mp4", sound=None)
    (folder / "text.mp4").write_text("not a video")
    (folder / "outside.mp4").symlink_to(tiny_videos / "2_high.mp4")
    (folder / "inside.mp4").symlink_to("0_high.mp4")
    names = ["0_high", "1_low", "silent", "text", "outside", "inside", "missing", "../0_high"]
    rows = [ManifestRow(f"id {name}", name, f"{name}.mp4", 0, 10, "train", ()) for name in names]
    rows.append(ManifestRow("absolute", "a", str(tiny_videos / "0_high.mp4"), 0, 10, "val"))
    manifest.write_manifest(folder / "manifest.csv", rows)
    return folder


def test_bad_files_stop_nothing_and_the_counts_add_up(mixed, tmp_path):
    counts = prepare(mixed, tmp_path / "out", failure_budget=0.6)
    assert counts == {"ok": 3, "skipped": 1, "failed": 5}
    rows = outcomes(tmp_path / "out")
    assert {key: (row["outcome"], row["reason"]) for key, row in rows.items()} == {
        **dict.fromkeys(("id 0_high", "id 1_low", "id inside"), ("ok", "")),
        "id silent": ("skipped", "no_audio"),
        "id text": ("failed", "not_media"),
        "id missing": ("failed", "missing"),
        **dict.fromkeys(("id outside", "id ../0_high", "absolute"), ("failed", "refused")),
    }
    row = rows["id 0_high"]
    assert (row["num_frames"], row["num_samples"], row["seconds"]) == ("50", "96000", "2.0")


def test_outcomes_say_which_tracks_and_what_was_done_to_the_pictures(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    make_video(folder / "one.mp4")
    two_sounds = ("-filter_complex", "[1]asplit[a][b];[b]volume=0[c]", "-map", "[c]", "-map", "[a]")
    flagged = ("-disposition:a:0", "0", "-disposition:a:2", "default")
    make_video(folder / "several.mkv", options=(*two_sounds, *flagged))
    fields = "color=gray:s=64x48:r=50,tinterlace=interleave_top,setfield=tff"
    interlaced = ("-flags", "+ildct+ilme")
    make_video(folder / "fields.mp4", picture=fields, options=interlaced)
    out = tmp_path / "out"
    settings = {"videos_dir": folder, "num_workers": 1}
    assert tiny_folders.prepare(out_dir=out, **settings) == {"ok": 3, "skipped": 0, "failed": 0}
    columns = ("video_track", "num_video_tracks", "audio_track", "num_audio_tracks", "picture")
    assert {key: [row[name] for name in columns] for key, row in outcomes(out).items()} == {
        "one.mp4": ["0", "1", "0", "1", ""],
        "several.mkv": ["0", "1", "2", "3", ""],
        "fields.mp4": ["0", "1", "0", "1", "deinterlaced"],
    }
    chosen = tmp_path / "chosen"
    settings |= {"audio_track": 1, "skip_silent": True}
    with pytest.raises(UserError, match="no clip came out of 3 rows .*2 skipped no_track"):
        tiny_folders.prepare(out_dir=chosen, **settings)
    rows = outcomes(chosen)
    assert rows["one.mp4"]["detail"] == "no track 1 of sound: it has 1, counted from 0"
    assert (rows["several.mkv"]["outcome"], rows["several.mkv"]["reason"]) == ("skipped", "silent")
    with pytest.raises(UserError, match="audio_track was 1, now 2"):
        tiny_folders.prepare(out_dir=chosen, **{**settings, "audio_track": 2})


@pytest.mark.parametrize(("level", "is_kept"), [(0, False), (8, False), (9, True)])
def test_silent_clips_are_skipped_on_request(tmp_path, level, is_kept):
    sound = f"aevalsrc='{level / 32768}*sgn(sin(2*PI*440*t))':s=48000:c=mono"
    path = tmp_path / "a.mkv"
    make_video(path, sound=sound)
    settings = {"videos_dir": tmp_path, "num_workers": 1}
    assert tiny_folders.prepare(out_dir=tmp_path / "all", **settings)["ok"] == 1
    if is_kept:
        tiny_folders.prepare(out_dir=tmp_path / "loud", skip_silent=True, **settings)
        assert (
            contents(tmp_path / "loud")[OUTCOMES_FILE] == contents(tmp_path / "all")[OUTCOMES_FILE]
        )
        return
    with pytest.raises(UserError, match=r"no clip came out of 1 rows \(1 skipped silent\)"):
        tiny_folders.prepare(out_dir=tmp_path / "loud", skip_silent=True, **settings)


def test_too_many_failures_are_reported_and_what_came_out_is_usable(mixed, tmp_path):
    with pytest.raises(UserError, match="5 of 9 rows failed, more than the --failure_budget"):
        prepare(mixed, tmp_path / "out")
    assert len(clips(tmp_path / "out", "train")) == 3


def test_no_clip_at_all_is_reported(tmp_path):
    make_video(tmp_path / "silent.mp4", sound=None)
    with pytest.raises(UserError, match=r"no clip came out of 1 rows \(1 skipped no_audio\)"):
        tiny_folders.prepare(out_dir=tmp_path / "out", videos_dir=tmp_path, num_workers=1)


def test_failures_are_tried_again_on_request_only(mixed, tmp_path, monkeypatch):
    out_dir = tmp_path / "out"
    prepare(mixed, out_dir, failure_budget=1)
    shutil.copy(mixed / "1_low.mp4", mixed / "missing.mp4")
    before = contents(out_dir)
    prepare(mixed, out_dir, failure_budget=1)
    assert contents(out_dir) == before
    decode = mock.Mock(wraps=ffmpeg.decode_clip)
    monkeypatch.setattr(ffmpeg, "decode_clip", decode)
    assert prepare(mixed, out_dir, failure_budget=1, retry_failed=True)["ok"] == 4
    decoded = sorted(call.args[0].name for call in decode.call_args_list)
    assert decoded == ["missing.mp4", "text.mp4"]  # what was fine is copied
    prepare(mixed, tmp_path / "fresh", failure_budget=1)
    assert contents(out_dir) == contents(tmp_path / "fresh")


# --- Restart -------------------------------------------------------------------------------------
def test_only_unfinished_shards_are_made_again(tiny_shards, tiny_videos, tmp_path):
    out_dir = tmp_path / "out"
    shutil.copytree(tiny_shards, out_dir)
    (out_dir / "tiny-train-00000-of-00002.json").unlink()  # killed before the marker
    (out_dir / "tiny-val-00001-of-00002").unlink()
    (out_dir / "tiny-test-00000-of-00002").write_bytes(b"cut")
    (out_dir / ".tiny-test-00001-of-00002.123.tmp").write_bytes(b"left over")
    before = times(out_dir)
    prepare(tiny_videos, out_dir)
    assert contents(out_dir) == contents(tiny_shards)
    after = times(out_dir)
    kept = {name for name in after if after[name] == before.get(name)}
    names = {f"tiny-{part}-of-00002" for part in ("train-00001", "val-00000", "test-00001")}
    assert {name.removesuffix(".json") for name in kept} == names


def test_another_configuration_is_refused(tiny_shards, tiny_videos):
    before = contents(tiny_shards)
    with pytest.raises(UserError, match="jpeg_quality was 3, now 5; use another --out_dir"):
        prepare(tiny_videos, tiny_shards, jpeg_quality=5)
    with pytest.raises(UserError, match="num_shards was .*manifest_hash was|manifest_hash was"):
        tiny_folders.prepare(out_dir=tiny_shards, videos_dir=tiny_videos, num_workers=1, **SETTINGS)
    assert contents(tiny_shards) == before


def test_markers_with_fewer_outcomes_than_rows_are_refused(tiny_shards, tiny_videos, tmp_path):
    out_dir = shutil.copytree(tiny_shards, tmp_path / "out")
    (shard, *_) = find_shards(out_dir, "train")
    (_, *others) = read_marker(shard.path).outcomes
    tiny_folders.change_marker(out_dir, shard.path.name, outcomes=others)
    with pytest.raises(UserError, match="out has 7 outcomes for 8 rows; delete it"):
        prepare(tiny_videos, out_dir)


def test_a_full_disk_stops_with_one_line_and_can_go_on(tiny_shards, tiny_videos, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*make room") as caught:
            prepare(tiny_videos, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    prepare(tiny_videos, tmp_path)
    assert contents(tmp_path) == contents(tiny_shards)


LAST_SHARD = "tiny-val-00001-of-00002"


@pytest.mark.parametrize(
    "name",
    [LABELS_FILE, "manifest.csv", PREP_FILE, LAST_SHARD, f"{LAST_SHARD}.json", OUTCOMES_FILE],
)
def test_any_file_may_be_the_one_that_fills_the_disk(
    tiny_shards, tiny_videos, tmp_path, monkeypatch, name
):
    replace = os.replace

    def full(source, target):
        if pathlib.Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="cannot write .*No space left on device") as caught:
        prepare(tiny_videos, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name).exists()
    monkeypatch.undo()
    prepare(tiny_videos, tmp_path)
    assert contents(tmp_path) == contents(tiny_shards)


def test_another_version_of_ffmpeg_is_reported_every_time(
    tiny_shards, tiny_videos, tmp_path, monkeypatch, caplog
):
    out_dir = shutil.copytree(tiny_shards, tmp_path / "out")
    before = contents(out_dir)
    monkeypatch.setattr(ffmpeg, "ffmpeg_version", lambda: "7.7-test")
    for _ in range(2):
        caplog.clear()
        prepare(tiny_videos, out_dir)
        (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        begun = json.loads(before[PREP_FILE])["ffmpeg_version"]
        assert f"was begun with ffmpeg {begun} and goes on with ffmpeg 7.7-test" in line
    assert contents(out_dir) == before


def test_another_version_of_opencv_is_reported_and_a_folder_without_flow_refused(
    moving, tmp_path, monkeypatch, caplog
):
    prepare_flow(moving, tmp_path)
    assert not caplog.records
    monkeypatch.setattr(flow, "opencv_version", lambda: "9.9.9")
    prepare_flow(moving, tmp_path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "opencv 9.9.9; clips may differ slightly" in line
    with pytest.raises(UserError, match="flow_smallest_side_px was 32, now 0; use another"):
        prepare_flow(moving, tmp_path, flow_smallest_side_px=0)


def test_a_killed_run_goes_on(tiny_shards, tiny_videos, tmp_path):
    process = subprocess.Popen(
        [sys.executable, *command(tiny_videos, tmp_path), "--dataset_name=tiny"],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("tiny-*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    prepare(tiny_videos, tmp_path)
    assert contents(tmp_path) == contents(tiny_shards)


def test_a_worker_that_outlives_its_killed_run_does_not_disturb_the_next(
    tiny_shards, tiny_videos, tmp_path, monkeypatch
):
    (tmp_path / ".tiny-train-00000-of-00002.0a1b2c3d.tmp").touch()
    real = pathlib.Path.glob

    def glob(folder, pattern):
        for path in real(folder, pattern):
            if path.suffix == ".tmp":
                path.unlink()  # by that worker, between our look and our own deletion
            yield path

    monkeypatch.setattr(pathlib.Path, "glob", glob)
    prepare(tiny_videos, tmp_path)
    monkeypatch.undo()
    assert contents(tmp_path) == contents(tiny_shards)


def test_a_killed_worker_stops_the_run_with_one_line(tiny_videos, tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, monkeypatch, "kill -9 $PPID")
    done = commands.run(*command(tiny_videos, tmp_path / "out"), cwd=REPOSITORY)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: a worker process died (exit status -9")
    assert not list((tmp_path / "out").glob("videos-*.json"))


def test_two_runs_in_one_folder_are_refused(tiny_videos, tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is at work"):
            prepare(tiny_videos, tmp_path / "out")


# --- Settings ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset_name": "a/b"}, "dataset_name 'a/b'"),
        ({"num_shards": 0}, "num_shards 0"),
        ({"num_workers": 0}, "num_workers 0"),
        ({"flow_smallest_side_px": 8}, "need 0 (no flow) or 16 to 256"),
        ({"flow_smallest_side_px": 128, "smallest_side_px": 64}, "or 16 to 64, the frames' own"),
        ({"flow_method": "dis"}, "no optical flow to compute; give --flow_smallest_side_px"),
        ({"frame_rate_hz": 10, "flow_smallest_side_px": 64}, "AVE+OF needs 25 frames a second"),
        ({"max_frames": 24}, "max_frames 24: need 0 (no limit) or at least 25, 1 s at 25 frames"),
        ({"out_dir": "gs://bucket/shards"}, "mount the bucket"),
        ({"manifest": None}, "neither --manifest nor --videos_dir"),
        ({"videos_dir": "none"}, "videos folder none does not exist"),
        ({"split_fractions": "train=1"}, "this manifest names splits"),
    ],
)
def test_unusable_settings_are_refused(tiny_videos, tmp_path, settings, words):
    with pytest.raises(UserError) as caught:
        prepare(tiny_videos, **{"out_dir": tmp_path / "out"} | settings)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--audio_encoding=mp3", "<pcm16|flac|floats>"),
        ("--fps=0.5", "[1.0, 100.0]"),
        ("--runner=spark", "<local|beam>"),
    ],
)
def test_unusable_flags_are_refused(flag, words):
    with pytest.raises(absl.flags.Error) as caught:
        flags.parse(["--out_dir=x", flag], *tiny_folders.CONFIGS)
    assert words in str(caught.value)


def test_prep_file_holds_the_configuration(tiny_shards):
    prep = json.loads((tiny_shards / PREP_FILE).read_text())
    assert prep["config"]["num_shards"] == {"train": 2, "val": 2, "test": 2}
    assert prep["config_hash"] == clips(tiny_shards, "val")[0].config_hash
