"""Handwritten digits and voices: what splits share, how clips look and sound, what is refused."""

import csv
import gzip
import json
import pathlib
import struct

import numpy as np
import pytest
import soundfile

from data_prep import datasets
from data_prep.av_digits import clips, data_set, sources
from data_prep.lists.dataset_rows import Request
from data_prep.lists.make_manifest import Config
from eval.sets import ontology
from l3net.data import spoken_digits
from l3net.errors import UserError
from l3net.media import ffmpeg
from tests.tiny_folders import rows_in

SHARED = pathlib.Path(__file__).parents[3] / "shared/data/digits"
SPEAKERS = ("anna", "bo", "zoe")  # the last is heard in split test alone
ONE_EACH = dict.fromkeys(clips.CLIPS_PER_DIGIT, 1)


def _write_idx(path, values):
    header = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


def write_sources(folder, *, per_digit=6):
    """Writes images with a bright square whose size is the digit's, and half-second tones."""
    (folder / "recordings").mkdir(parents=True)
    digits = np.repeat(np.arange(10, dtype=np.uint8), per_digit)
    images = np.zeros((len(digits), 28, 28), np.uint8)
    for image, digit in zip(images, digits, strict=True):
        image[14 - 3 - digit // 2 : 14 + 3 + digit // 2, 10:18] = 255
    _write_idx(folder / "t10k-images-idx3-ubyte.gz", images)
    _write_idx(folder / "t10k-labels-idx1-ubyte.gz", digits)
    for digit in range(10):
        for speaker in SPEAKERS:
            for index in (0, 7, 11, 12):
                tone = 0.2 * np.sin(2 * np.pi * (300 + 100 * digit) * np.arange(4000) / 8000)
                soundfile.write(folder / f"recordings/{digit}_{speaker}_{index}.wav", tone, 8000)
    return data_set.Config(str(folder), str(folder / "recordings"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    given = write_sources(folder / "sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "CLIPS_PER_DIGIT", {"train": 1, "test": 1})
        # One process: the patch does not reach others.
        patch.setattr(data_set, "in_processes", lambda make, plans, what: [*map(make, plans)])
        videos = folder / "made/videos"
        config = Config("av_digits", str(videos / "manifest.csv"))
        datasets.main(config, Request(str(videos)), given)
    return given, videos


def _plans(folder, **changes):
    given = write_sources(folder, **changes)
    _, digits = sources.read_images(given.mnist)
    return clips.plan_clips(digits, spoken_digits.list_recordings(given.spoken_digits), seed=3)


def _used(plans, split):
    mine = [plan for plan in plans if plan.split == split]
    return {plan.image for plan in mine}, {name for plan in mine for name in plan.recordings}


def _assert_nothing_shared(plans):
    for number, split in enumerate(clips.CLIPS_PER_DIGIT):
        for other in list(clips.CLIPS_PER_DIGIT)[:number]:
            for mine, theirs in zip(_used(plans, split), _used(plans, other), strict=True):
                assert mine and theirs and not mine & theirs
    images = [plan.image for plan in plans]
    assert len(set(images)) == len(images)


def test_splits_share_no_image_and_no_recording_and_one_speaker_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "CLIPS_PER_DIGIT", ONE_EACH)
    plans = _plans(tmp_path)
    _assert_nothing_shared(plans)
    heard = {split: {n.split("_")[1] for n in _used(plans, split)[1]} for split in ONE_EACH}
    assert heard["test"] == {"zoe"} and heard["train"] | heard["val"] <= {"anna", "bo"}
    assert heard["test_heard"] <= {"anna", "bo"}
    for plan in plans:
        assert {name[0] for name in plan.recordings} == {str(plan.digit)}
        assert sum(plan.pauses_seconds) + 0.5 * len(plan.recordings) <= clips.CLIP_SECONDS


@pytest.mark.skipif(not SHARED.exists(), reason="the real digits are not here")
def test_the_real_sources():
    _, digits = sources.read_images(SHARED)
    recordings = spoken_digits.list_recordings(SHARED / "recordings")
    plans = clips.plan_clips(digits, recordings, seed=0)
    assert len(digits) == 10_000 and len(recordings) == 3000 and len(plans) == 2700
    _assert_nothing_shared(plans)
    assert {name.split("_")[1] for name in _used(plans, "test")[1]} == {"yweweler"}


def test_videos_manifest_boxes_and_ontology(made):
    _, videos = made
    rows = rows_in(videos / "manifest.csv")
    assert len(rows) == 20 and {row.split for row in rows} == {"train", "test"}
    assert {row.labels[0] for row in rows} == set(clips.LABELS)
    with open(videos / "boxes.csv", newline="") as file:
        boxes = [row for row in csv.DictReader(file) if row["example_id"] == "train_nine_000"]
    assert len(boxes) == 50 and {row["label"] for row in boxes} == {"nine"}
    assert len({(row["ymin"], row["xmin"]) for row in boxes}) > 10  # it moves
    clip = ffmpeg.decode_clip(
        videos / "train/train_nine_000.mp4", seconds=10.0, reading=ffmpeg.Reading(strict=True)
    )
    assert len(clip.frames) == 50 and len(clip.waveform) == 96_000
    tree = ontology.read_ontology(videos.parent / "ontology.json")
    alike = ontology.Relevance(tree, [("one",), ("one",), ("two",)])
    assert alike.num_sets == 2


def test_the_box_holds_the_ink_and_the_sound_its_tone():
    ink = np.zeros((28, 28), np.uint8)
    ink[4:24, 12:16] = 255
    plan = clips.ClipPlan("a", "train", 1, 0, ("x", "y"), (0.1, 0.2), (0, 5))
    for frame, (ymin, xmin, ymax, xmax) in clips.draw_frames(plan, ink):
        height, width, _ = frame.shape
        assert 0 <= ymin < ymax <= 1 and 0 <= xmin < xmax <= 1
        # Taller than wide, whatever the turn of up to 20 degrees.
        assert (ymax - ymin) * height > 1.5 * (xmax - xmin) * width
    tone = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 48_000).astype(np.float32)
    sound = clips.compose_sound(plan, [tone, tone])[:, 0]
    assert sound.shape == (96_000,) and sound.dtype == np.int16
    spoken, silent = sound[4800:28_800], sound[:4800]
    assert np.abs(spoken).max() >= 0.3 * 32767 > 4 * np.abs(silent).max()
    assert np.abs(np.fft.rfft(spoken)).argmax() == 500  # 1000 Hz in half a second


def test_a_second_run_makes_nothing_and_another_seed_is_refused(made, monkeypatch):
    given, videos = made
    monkeypatch.setattr(clips, "CLIPS_PER_DIGIT", {"train": 1, "test": 1})
    asked = []
    monkeypatch.setattr(data_set, "in_processes", lambda make, plans, what: asked.extend(plans))
    result = data_set.make_digits(given, videos, seed=0)
    assert not asked and len(result.rows) == 20
    with pytest.raises(UserError, match="another version or --seed"):
        data_set.make_digits(given, videos, seed=1)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("t10k-images-idx3-ubyte.gz", None, "has no t10k-images"),
        ("t10k-images-idx3-ubyte.gz", b"no gzip", "is no IDX file"),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(b"\0\0\x08\x03" + bytes(4), mtime=0),
            "is no IDX file",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(b"\0\0\x08\x01" + bytes(4), mtime=0),
            "do not go",
        ),
        ("recordings/0_anna_0.wav", b"no sound", "cannot read"),
    ],
)
def test_damaged_sources_are_one_line(tmp_path, name, content, message):
    given = write_sources(tmp_path)
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        data_set.make_digits(given, tmp_path / "out", seed=0)
    assert "\n" not in str(error.value)


def test_too_little_is_refused_and_flags_of_others(tmp_path):
    with pytest.raises(UserError, match="6 images of digit 0; need 270"):
        data_set.make_digits(write_sources(tmp_path / "few"), tmp_path / "out", seed=0)
    with pytest.raises(UserError, match="needs --mnist and --spoken_digits"):
        data_set.make_digits(data_set.Config(), tmp_path / "out", seed=0)
    config = Config("folder", str(tmp_path / "manifest.csv"))
    with pytest.raises(UserError, match="leave them out for folder"):
        datasets.main(config, Request(str(tmp_path)), data_set.Config(mnist="x"))
    assert json.dumps(data_set._ontology()).count('"child_ids"') == 11
