"""The demo data set: what is promised about its files, sounds and boxes."""

import collections
import csv
import json
import pathlib
import shutil

import numpy as np
import pytest

from data_prep.demo_data import clips, motions, scenes, sounds
from data_prep.demo_data.data_set import Config, make_demo
from l3net import constants
from l3net.errors import UserError
from l3net.media import ffmpeg
from tests.tiny_folders import rows_in

LABELS = ("Hammer", "Violin, fiddle")
COUNTS = (2, 1, 1)
SECONDS = 1.2
# Of the 110 names below "Musical instrument", "Singing" and "Tools" in AudioSet's ontology.
AUDIOSET_NAMES = {
    *("Accordion", "Acoustic guitar", "Church bell", "Drill", "Flute", "Hammer", "Harp", "Hi-hat"),
    *("Marimba, xylophone", "Organ", "Sawing", "Snare drum", "Trumpet", "Violin, fiddle"),
}
ONTOLOGY_FILE = pathlib.Path(__file__).parents[3] / "shared" / "data" / "audioset" / "ontology.json"


def make(folder, **changes):
    arguments = {"clips_per_class": COUNTS, "clip_seconds": SECONDS, "labels": LABELS}
    make_demo(Config(folder, **{**arguments, "num_workers": 1, **changes}))


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make(folder)
    return folder


@pytest.fixture(params=clips.LABELS)
def kind(request):
    return clips.KINDS[request.param]


def test_manifest_has_the_asked_counts_and_separate_media(made):
    rows = rows_in(made / "manifest.csv")
    seen = {row["example_id"]: row["label"] for row in read(made / "clips.csv")}
    counts = collections.Counter((row.split, seen[row.example_id]) for row in rows)
    expected = zip(clips.SPLITS, COUNTS, strict=True)
    assert counts == {(split, label): count for split, count in expected for label in LABELS}
    assert len({row.media_id for row in rows}) == len(rows)
    assert all((made / row.path).is_file() for row in rows)


def test_videos_decode_whole_with_picture_and_sound_of_one_length(made):
    for row in rows_in(made / "manifest.csv"):
        clip = ffmpeg.decode_clip(
            made / row.path, seconds=10.0, reading=ffmpeg.Reading(strict=True)
        )
        assert len(clip.frames) == 30 and len(clip.waveform) == 57600
        assert min(clip.height_px, clip.width_px) == constants.SMALLEST_SIDE_PX


def test_pictures_in_the_video_are_those_drawn(made):
    plan = clips.plan_clips(LABELS, COUNTS, SECONDS, 0)[0]
    drawn = list(scenes.render(clips.compose(plan)[1]))
    decoded = list(ffmpeg.stream_frames(made / plan.path, smallest_side_px=None))
    picture = decoded[20].astype(float)
    differences = [np.abs(picture - frame.astype(float)).mean() for frame in drawn]
    assert int(np.argmin(differences)) == 20 and differences[20] < 12


def test_boxes_are_listed_for_every_frame_of_related_clips_only(made):
    unrelated = {row["example_id"]: row["unrelated"] == "1" for row in read(made / "clips.csv")}
    boxes = read(made / "boxes.csv")
    for example_id, is_unrelated in unrelated.items():
        own = [row for row in boxes if row["example_id"] == example_id]
        assert [int(row["frame"]) for row in own] == ([] if is_unrelated else list(range(30)))
    for row in boxes:
        ymin, xmin, ymax, xmax = (float(row[side]) for side in ("ymin", "xmin", "ymax", "xmax"))
        assert 0 <= ymin < ymax <= 1 and 0 <= xmin < xmax <= 1
        assert float(row["time_seconds"]) == pytest.approx(int(row["frame"]) / 25)
    # The tables have the promised columns.
    headers = {path.stem: path.read_bytes().split(b"\n")[0] for path in made.glob("*.csv")}
    assert headers["boxes"] == b"example_id,frame,time_seconds,ymin,xmin,ymax,xmax,label"
    assert headers["clips"] == (b"example_id,split,label,heard_label,unrelated,silent_label,family")


def test_config_says_it_is_synthetic_and_finished(made):
    content = json.loads((made / "demo.json").read_text())
    assert "Synthetic" in content["note"] and content["finished"]
    assert content["counts"]["clips"] == 8 and content["config"]["seed"] == 0


def test_another_run_with_workers_gives_the_same_bytes(made, tmp_path):
    make(tmp_path, num_workers=2)
    assert contents(tmp_path) == contents(made)


def test_another_seed_gives_other_sounds_and_pictures():
    plans = [clips.plan_clips(LABELS, COUNTS, SECONDS, seed)[0] for seed in (0, 1)]
    (sound_a, scene_a, _), (sound_b, scene_b, _) = map(clips.compose, plans)
    assert sound_a.shape != sound_b.shape or (sound_a != sound_b).any()
    assert not np.allclose(scene_a.boxes, scene_b.boxes)


def test_more_clips_leave_the_others_as_they_are():
    few = clips.plan_clips(LABELS, COUNTS, SECONDS, 0)
    assert set(few) < set(clips.plan_clips(LABELS, (5, 2, 1), SECONDS, 0))


def test_restart_makes_only_what_is_missing(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    lost, kept = sorted(tmp_path.glob("train/*.mp4"))[:2]
    expected, before = contents(tmp_path), kept.stat().st_mtime_ns
    lost.unlink()
    make(tmp_path)
    assert contents(tmp_path) == expected and kept.stat().st_mtime_ns == before


def test_interrupted_run_leaves_no_half_written_video(tmp_path, monkeypatch):
    def stop(scene):
        yield np.zeros((256, 256, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "render", stop)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["demo.json"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"clip_seconds": 1.4}, {"labels": clips.LABELS}])
def test_another_configuration_in_the_same_folder_is_refused(made, change):
    with pytest.raises(UserError, match=f"another {next(iter(change))}"):
        make(made, **change)


@pytest.mark.parametrize(
    "change",
    [
        *({"clips_per_class": counts} for counts in ((1, 2), (0, 0, 0), (1, -1, 1), ("a", 1, 1))),
        *({"clip_seconds": 0.5}, {"clip_seconds": float("nan")}),
        *({"num_workers": 0}, {"seed": -1}, {"labels": ("Hammer", "Kazoo")}),
    ],
)
def test_unusable_arguments_are_refused(tmp_path, change):
    with pytest.raises(UserError, match=next(iter(change))):
        make(tmp_path / "new", **change)
    assert not (tmp_path / "new").exists()


def test_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        make(tmp_path / "file" / "below")


def test_labels_are_audioset_names():
    assert set(clips.LABELS) == AUDIOSET_NAMES and len(clips.LABELS) == 14


def test_shares_of_unrelated_and_silent_clips():
    plans = clips.plan_clips(clips.LABELS, (60, 0, 0), 4.0, 0)
    unrelated = np.mean([plan.unrelated for plan in plans])
    assert abs(unrelated - clips.UNRELATED_SHARE) < 0.02
    silent = np.mean([bool(plan.silent_label) for plan in plans])
    assert abs(silent - clips.SILENT_SHARE) < 0.05
    assert all(plan.silent_label not in (plan.label, plan.heard_label) for plan in plans)


def test_labels_are_families(made):
    families = {row["example_id"]: row["family"] for row in read(made / "clips.csv")}
    assert set(families.values()) == {clips.TOOL, clips.INSTRUMENT}
    assert {r.example_id: r.labels for r in rows_in(made / "manifest.csv")} == {
        example_id: (family,) for example_id, family in families.items()
    }


@pytest.mark.skipif(not ONTOLOGY_FILE.exists(), reason="needs AudioSet's ontology")
def test_families_are_above_their_classes_in_audioset():
    nodes = {node["id"]: node for node in json.loads(ONTOLOGY_FILE.read_text())}

    def below(node):
        children = [nodes[child] for child in node["child_ids"]]
        return {node["name"]}.union(*map(below, children))

    names = {node["name"]: below(node) for node in nodes.values()}
    for label, kind in clips.KINDS.items():
        assert label in names[kind.family]


def test_sound_is_never_silent_for_long_nor_clipped(kind):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sound = kind.sound(rng, 3.0)
        assert np.diff(sound.attacks_seconds).min() > 0 and sound.attacks_seconds[0] <= 0
        dry = np.abs(sound.waveform)
        audible = np.flatnonzero(dry > 0.01 * dry.max()) / constants.SAMPLE_RATE_HZ
        assert np.diff(np.concatenate([[0], audible, [3]])).max() < 0.4
        recorded = sounds.record(rng, sound)
        assert recorded.shape[0] == 144000 and recorded.shape[1] in (1, 2)
        assert 0.05 < np.abs(recorded).max() < 0.9


def test_box_surrounds_the_object_closely(kind):
    attacks = np.arange(-0.1, 1, 0.3)
    scene = scenes.make_scene(kind.looks, attacks, 25, np.random.default_rng(3))
    scene = scene._replace(camera_px=np.zeros_like(scene.camera_px), noise=None)
    # The same scene without the object shows which pixels are the object.
    without = np.asarray(next(scenes.render(scene._replace(actors=()))), int)
    for box, frame in zip(scene.boxes, scenes.render(scene), strict=True):
        rows, columns = np.nonzero(np.abs(frame - without).max(axis=2) > 12)
        seen = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        expected = box * np.array([scene.height_px, scene.width_px] * 2)
        assert np.abs(seen - expected).max() < 4


def test_most_of_an_object_is_in_the_central_square(kind):
    """Every centred crop shows at least 0.7 of its height and of its width."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        silent = clips.KINDS["Harp"].looks if seed % 2 else None
        scene = scenes.make_scene(kind.looks, np.arange(0, 2, 0.3), 50, rng, silent)
        size, side = np.array([scene.height_px, scene.width_px]), min(scenes.SIZES_PX[0])
        for actor in scene.actors:
            own = actor.extent_px[2:] - actor.extent_px[:2]
            before = actor.extent_px[:2] - (size - side) / 2
            after = (size + side) / 2 - actor.extent_px[2:]
            assert min(*(before / own), *(after / own)) >= -0.3, (before, after, own)


def test_objects_are_rarely_in_the_middle():
    looks = clips.KINDS["Harp"].looks
    rngs = map(np.random.default_rng, range(40))
    boxes = np.array([scenes.make_scene(looks, np.zeros(1), 1, rng).boxes[0] for rng in rngs])
    in_the_middle = (boxes[:, :2] < 0.5).all(axis=1) & (boxes[:, 2:] > 0.5).all(axis=1)
    assert 0.3 < in_the_middle.mean() < 0.8


def test_camera_ticks_at_every_frame():
    ticks = sounds._camera(np.random.default_rng(0), 48_000).reshape(25, 1920)
    np.testing.assert_allclose(ticks, np.broadcast_to(ticks[0], ticks.shape), atol=1e-6)
    assert np.abs(ticks[:, sounds.TICK_SAMPLES :]).max() < 1e-6 < np.abs(ticks).max()


def test_silent_object_stands_apart():
    looks = clips.KINDS["Trumpet"].looks
    rngs = map(np.random.default_rng, range(6))
    made = [scenes.make_scene(looks, np.zeros(1), 5, rng, looks) for rng in rngs]
    with_two = [scene for scene in made if scene.has_silent_object]
    assert len(with_two) >= 3
    for scene in with_two:
        other, own = (actor.extent_px for actor in scene.actors)
        common = np.minimum(own[2:], other[2:]) - np.maximum(own[:2], other[:2])
        assert common.min() <= 0 or common.prod() < 0.06 * np.prod(own[2:] - own[:2])


def test_hammer_falls_at_its_blows():
    attacks = np.array([0.0, 0.4, 0.8])
    times = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
    (pose,) = motions.hammering(times, attacks, np.random.default_rng(0))
    assert pose.angle[[0, 2, 4]] == pytest.approx(0, abs=1e-6)
    assert pose.angle[[1, 3]].min() > 0.4
