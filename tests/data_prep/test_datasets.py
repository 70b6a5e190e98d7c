"""Official lists and folders as downloaders leave them -> manifests: every layout, by hand."""

import collections
import csv
import itertools
import json
import math
import pathlib

import pytest

from data_prep import datasets
from data_prep.lists import box_lists, dataset_lists, dataset_rows, manifest
from data_prep.lists.make_manifest import Config, make_manifest
from l3net import constants
from l3net.errors import UserError
from tests import commands
from tests.tiny_folders import prepare, rows_in

ROOT = pathlib.Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
ID, OTHER = "a_b-c_d-e_1", "Yabcdefghi9"
KINETICS = "label,youtube_id,time_start,time_end,split,is_cc\n"
AUDIOSET = "# Segments csv created …\n# num_ytids=2\n# YTID, start_seconds, end_seconds, labels\n"
# Guitar is below two parents, as six of the real 110 are.
ONTOLOGY = [
    {"id": label, "name": name, "child_ids": children}
    for label, name, children in (
        *(("/m/0", "Musical instrument", ["/m/1", "/m/2"]), ("/m/3", "Guitar", [])),
        *(("/m/1", "Strings, plucked", ["/m/3"]), ("/m/2", "Wood", ["/m/3"])),
        *(("/m/4", "Singing", []), ("/m/5", "Tools", []), ("/m/6", "Speech", [])),
    )
]


def touch(folder, *names, content=b"x"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make(tmp_path, dataset, overwrite=False, **settings):
    media_dir = tmp_path / "media"
    media_dir.mkdir(exist_ok=True)
    path = tmp_path / "out" / "manifest.csv"
    request = dataset_rows.Request(**({"media_dir": media_dir} | settings))
    result = make_manifest(Config(dataset, path, overwrite), request)
    assert rows_in(path) == result.rows
    return result


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def reasons(result):
    return dict(collections.Counter(item.reason for item in result.missing))


def refused(words, *arguments, **settings):
    """Makes a manifest in vain; returns the one line that says why."""
    with pytest.raises(UserError) as caught:
        make(*arguments, **settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


# --- Kinetics-Sounds -----------------------------------------------------------------------------
def test_the_34_classes_are_those_of_the_paper():
    names = dataset_lists.kinetics_sounds_labels(nearest=True)
    assert len(dataset_lists.KINETICS_SOUNDS) == constants.NUM_KINETICS_SOUNDS_CLASSES
    assert names["mowing lawn"] == "mowing the lawn by pushing lawnmower"
    assert names["stomping grapes"] == "stomping"
    assert names["strumming guitar"] == "fingerpicking"
    assert "strumming guitar" not in dataset_lists.kinetics_sounds_labels(nearest=False)
    assert set(dataset_lists.NEAREST_CLASSES) <= set(dataset_lists.KINETICS_SOUNDS)


@pytest.mark.parametrize(
    ("name", "extent"),
    [
        *((f"{name}.mp4", (0, 10)) for name in ("{}_7_17", "{}_7000_17000", "{}_7.000", "Y{}_7")),
        *((name, (0, 10)) for name in ("a/{}_000007_000017.mp4", "{}_000007.mkv")),
        *((name, (7, 17)) for name in ("{}.mp4", "Y{}.webm", "deep/er/A title [{}].mp4")),
    ],
)
@pytest.mark.parametrize("video_id", [ID, OTHER])
def test_layouts_of_clip_files(tmp_path, name, extent, video_id):
    touch(tmp_path / "media", name.format(video_id))
    text = f"{KINETICS}blowing out candles,{video_id},7,17,train,0\n"
    (row,) = make(tmp_path, "kinetics_sounds", lists=[write(tmp_path / "train.csv", text)]).rows
    assert row == manifest.ManifestRow(
        f"{video_id}_000007", video_id, name.format(video_id), *extent, "train", ("blowing out",)
    )


@pytest.mark.parametrize(("trimmed", "extent"), [("yes", (0, 10)), ("no", (7, 17))])
@pytest.mark.parametrize("name", [f"{ID}.mp4", f"{ID}_000007_000017.mp4"])
def test_trimmed_can_be_told(tmp_path, trimmed, extent, name):
    touch(tmp_path / "media", name)
    lists = [write(tmp_path / "train.csv", f"{KINETICS}bowling,{ID},7,17,train,0\n")]
    (row,) = make(tmp_path, "kinetics_sounds", lists=lists, trimmed=trimmed).rows
    assert (row.start_seconds, row.end_seconds) == extent


def test_a_file_named_by_its_times_is_preferred_and_another_part_is_none(tmp_path):
    touch(tmp_path / "media", f"{ID}.mp4", f"{ID}_000007.mp4", f"{ID}_000007_000017.mp4")
    touch(tmp_path / "media", f"{OTHER}_000030_000040.mp4", f"{OTHER}.f137.mp4", f"{OTHER}.part")
    text = f"{KINETICS}bowling,{ID},7,17,train,0\nbowling,{OTHER},7,17,train,0\n"
    result = make(tmp_path, "kinetics_sounds", lists=[write(tmp_path / "train.csv", text)])
    assert [row.path for row in result.rows] == [f"{ID}_000007_000017.mp4"]
    assert reasons(result) == {"only other times in folder": 1}


def test_csv_and_json_lists_say_the_same_and_splits_can_be_official(tmp_path):
    clips = [("train", "train"), ("val", "validate"), ("test", "test")]
    ids = {split: f"{split:-<11}" for split, _ in clips}
    touch(tmp_path / "media", *(f"{name}.mp4" for name in ids.values()))
    rows = "".join(f"singing,{ids[split]},1,11,{theirs},0\n" for split, theirs in clips)
    entry = {"annotations": {"label": "singing", "segment": [1.0, 11.0]}, "duration": 10.0}
    content = {ids[split]: {**entry, "subset": theirs, "url": "x"} for split, theirs in clips}
    csv_list = write(tmp_path / "a.csv", KINETICS + rows)
    json_list = write(tmp_path / "a.json", json.dumps(content))
    for official in (False, True):
        settings = {"official_splits": official, "overwrite": True}
        from_csv = make(tmp_path, "kinetics_sounds", lists=[csv_list], **settings)
        from_json = make(tmp_path, "kinetics_sounds", lists=[json_list], **settings)
        assert from_csv.rows == from_json.rows
    assert {row.split: row.media_id for row in from_csv.rows} == ids
    assert "--official_splits" not in datasets.summary(from_csv)


def test_kinetics_sounds_is_split_8_to_1_to_1_by_video_whatever_the_lists_say(tmp_path):
    """1000 videos of two clips each, listed as train, val and test of other proportions."""
    ids = [f"{index:011d}" for index in range(1000)]
    touch(tmp_path / "media", *(f"{name}.mp4" for name in ids))
    official = ["train"] * 700 + ["val"] * 100 + ["test"] * 200
    rows = [
        f"bowling,{name},{start},{start + 10},{split},0\n"
        for name, split in zip(ids, official, strict=True)
        for start in (7, 30)
    ]

    def splits(rows, **settings):
        lists = [write(tmp_path / "k.csv", KINETICS + "".join(rows))]
        result = make(tmp_path, "kinetics_sounds", lists=lists, overwrite=True, **settings)
        assert len(result.rows) == len(rows)
        by_video = {(row.media_id, row.split) for row in result.rows}
        assert len(by_video) == len({name for name, _ in by_video})  # no video in two splits
        return dict(by_video)

    drawn = splits(rows)
    counts = collections.Counter(drawn.values())
    assert counts["train"] == pytest.approx(800, abs=51)  # four standard deviations
    assert counts["val"] == pytest.approx(100, abs=38)
    assert counts["test"] == pytest.approx(100, abs=38)
    assert splits(rows[::-1]) == drawn
    assert splits(rows[:100]) == {name: drawn[name] for name in ids[:50]}  # others move none
    assert splits(rows, seed=1) != drawn
    halves = splits(rows, split_fractions="train=0.5,test=0.5")
    assert set(halves.values()) == {"train", "test"}
    kept = splits(rows, official_splits=True)
    assert kept == dict(zip(ids, official, strict=True))
    shared = splits(rows, official_splits=True, split_fractions="train=0.5,dev=0.5")
    assert collections.Counter(shared.values())["test"] == 200
    assert {shared[name] for name in ids[:700]} == {"train", "dev"}


def test_what_is_missing_is_counted_by_reason_and_written_down(tmp_path):
    touch(tmp_path / "media", f"{ID}.mp4")
    touch(tmp_path / "media", f"{OTHER}.mp4", content=b"")
    text = KINETICS + (
        f"bowling,{ID},7,17,train,0\n"
        "abseiling,00000000000,7,17,train,0\n"  # another class
        f"bowling,{ID},7,17,val,0\n"  # again
        f"bowling,{OTHER},7,17,val,0\n"  # empty file
        "bowling,11111111111,7,17,test,0\n"  # dead link
        "bowling,-damagedNNN,7,seven,test,0\n"  # no number
        "bowling,short,7,17,test,0\n"
    )
    unlabelled = "youtube_id,time_start,time_end,split\n22222222222,7,17,test\n"
    lists = [write(tmp_path / "k.csv", text), write(tmp_path / "test.csv", unlabelled)]
    result = make(tmp_path, "kinetics_sounds", lists=lists, official_splits=True)
    assert len(result.rows) == result.num_other == 1
    one_each = dict.fromkeys(("listed twice", "empty file", "not in folder", "no label"), 1)
    assert reasons(result) == {"unusable row": 2, **one_each}
    rows = {(row["source"], row["line"]): row for row in read(tmp_path / "out" / "missing.csv")}
    assert rows["k.csv", "6"]["example_id"] == "11111111111_000007"
    assert rows["k.csv", "6"]["reason"] == "not in folder"
    assert rows["k.csv", "7"]["reason"] == "unusable row"
    assert rows["test.csv", "2"]["split"] == "test"
    printed = datasets.summary(result)
    assert "train      1        1   0.00        0" in printed
    assert "missing: 2 unusable row" in printed and "left out: 1 listed" in printed
    assert "33 of the paper's 34 classes" in printed
    drawn = make(tmp_path, "kinetics_sounds", lists=lists, overwrite=True)
    assert [item.split for item in drawn.missing if item.reason == "no label"] == [""]
    assert "--official_splits keeps the lists' own splits" in datasets.summary(drawn)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "youtube,start\nx,1\n", "a.csv, line 1: got the columns youtube, start"),
        ("a.csv", KINETICS.replace("is_cc", "mood"), "line 1: got the columns"),
        ("a.csv", "", "line 1: got the columns none"),
        ("a.csv", KINETICS, "lists nothing"),
        ("a.csv", KINETICS + "bowling,x,7,17,train,0\n", "a.csv, line 2: got"),
        ("a.csv", KINETICS + f"bowling,{ID},17,7,train,0\n", "line 2: got"),
        ("a.csv", KINETICS + f"bowling,{ID},7,nan,train,0\n", "line 2: got"),
        ("a.csv", KINETICS + f"bowling,{ID},7,17,dev,0\n", "line 2: got"),
        ("a.json", "{", "cannot read"),
        ("a.json", "[]", "xpected `object`, got `array`"),
        ("a.json", '{"x": {"start": 1}}', "line 1: got"),
    ],
)
def test_another_format_is_refused_with_file_and_line(tmp_path, name, text, words):
    path = write(tmp_path / name, text)
    assert str(path) in refused(words, tmp_path, "kinetics_sounds", lists=[path])
    assert not (tmp_path / "out").exists()


# --- AudioSet ------------------------------------------------------------------------------------
def test_audioset_rule_labels_and_splits(tmp_path):
    ids = [f"{index:011d}" for index in range(400)]
    touch(tmp_path / "media", *(f"{name}_30.mp4" for name in ids))
    train = "".join(f'{name}, 30.000, 40.000, "/m/6,/m/3"\n' for name in ids[:-2])
    test = f'{ids[-2]}, 30.000, 40.000, "/m/4"\n{ids[-1]}, 30.000, 40.000, "/m/6"\n'
    train_list = write(tmp_path / "unbalanced_train_segments.csv", AUDIOSET + train)
    lists = [train_list, write(tmp_path / "eval_segments.csv", AUDIOSET + test)]
    ontology = write(tmp_path / "ontology.json", json.dumps(ONTOLOGY))
    settings = {"lists": lists, "ontology": ontology}
    result = make(tmp_path, "audioset_instruments", **settings)
    counts = collections.Counter(row.split for row in result.rows)
    assert (counts["test"], counts["train"] + counts["val"]) == (1, 398)
    assert counts["val"] == pytest.approx(40, abs=20)
    assert result.rows[0].labels == ("Guitar", "Speech")  # instruments first
    assert result.num_other == 1
    assert make(tmp_path, "audioset_instruments", **settings).rows == result.rows
    other = make(tmp_path, "audioset_instruments", **settings, seed=1, overwrite=True)
    assert [row.split for row in other.rows] != [row.split for row in result.rows]


def test_audioset_needs_its_ontology_and_its_file_names(tmp_path):
    lists = [write(tmp_path / "segments.csv", f'{AUDIOSET}{ID}, 0.000, 10.000, "/m/3"\n')]
    made = (tmp_path, "audioset_instruments")
    refused("needs --ontology", *made, lists=lists)
    ontology = write(tmp_path / "ontology.json", json.dumps(ONTOLOGY))
    refused("cannot tell its split", *made, lists=lists, ontology=ontology)
    lists = [write(tmp_path / "eval_segments.csv", "ytid,labels\nx,y\n")]
    refused("eval_segments.csv, line 1: got", *made, lists=lists, ontology=ontology)
    ontology.write_text('[{"id": "/m/0"}]')
    refused("[0]: object missing required field `name`", *made, lists=lists, ontology=ontology)
    ontology.write_text(json.dumps([{**ONTOLOGY[0], "name": "a\nb"}, *ONTOLOGY[1:]]))
    refused("is no AudioSet ontology", *made, lists=lists, ontology=ontology)


HUGE = "1" + "0" * 400
UNUSABLE_ENTRIES = {
    "a label that is a list": {"label": ["bowling"], "segment": [0, 10]},
    "a label that would break lines": {"label": "bow\nling", "segment": [0, 10]},
    "segments beyond any number": {"label": "bowling", "segment": [0, int(HUGE)]},
    "a segment without end": {"label": "bowling", "segment": [0, math.inf]},
    "no number": {"label": "bowling", "segment": [math.nan, 10]},
    "segments of other types": {"label": "bowling", "segment": "0 10"},
    "half a character": {"label": "bowling\ud800", "segment": [0, 10]},
}


@pytest.mark.parametrize("kind", UNUSABLE_ENTRIES)
def test_an_unusable_entry_of_kinetics_json_is_counted_or_refused(tmp_path, kind):
    def text(*annotations):
        ids = ID, OTHER
        entries = {
            name: {"annotations": each, "subset": "train"}
            for name, each in zip(ids, annotations, strict=False)
        }
        return json.dumps(entries)

    good, bad = {"label": "bowling", "segment": [0, 10]}, UNUSABLE_ENTRIES[kind]
    path = write(tmp_path / "k.json", text(good, bad))
    if kind == "half a character":  # in no place of the file can it be
        refused("k.json", tmp_path, "kinetics_sounds", lists=[path])
        return
    assert [type(e).__name__ for e in dataset_lists.read_kinetics(path)] == [
        *("ListedClip", "Unusable")
    ]
    line = refused("line 1: got", tmp_path, "kinetics_sounds", lists=[write(path, text(bad))])
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label," + KINETICS + f"bowling,bowling,{ID},7,17,train,0\n", "line 1: got the columns"),
        (KINETICS + f"bowling,{ID},7,{HUGE},train,0\n", "line 2: got"),
        (KINETICS + f"bowling,{ID},nan,17,train,0\n", "line 2: got"),
        (KINETICS + f'bowling,{ID},7,17,train,"0', "unexpected end"),
        (KINETICS + "x" * 200_000, "field larger than field limit"),
        (KINETICS.encode() + b"\xe9\n", "utf-8"),
        (KINETICS.encode("utf-16"), "utf-8"),
    ],
)
def test_a_damaged_csv_is_one_line(tmp_path, text, words):
    path = tmp_path / "k.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words) as caught:
        list(dataset_lists.read_kinetics(path))
    assert "k.csv" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "<a", "<annotations><bbox/></annotations>", "<a>" * 10_000),
        *(f'<?xml version="1.0" encoding="{name}"?><a/>' for name in ("klingon", "utf-16", "idna")),
        *(
            f"<a><bbox><n>x</n><xmin>{side}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bbox>"
            "</a>"
            for side in ("nan", "inf", HUGE, "one", "")
        ),
        '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
        + "".join(f'<!ENTITY {c} "{f"&{b};" * 20}">' for b, c in itertools.pairwise("bcdefgh"))
        + "]><a>&h;</a>",
    ],
)
def test_damaged_xml_is_one_line(tmp_path, text):
    (tmp_path / "1.xml").write_text(text)
    with pytest.raises(UserError, match=r"1\.xml: .*need XML") as caught:
        list(box_lists.read_flickr_boxes(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not (REAL / "audioset").is_dir(), reason="needs AudioSet's lists")
def test_real_audioset_lists_give_the_110_classes_and_4361_clips(tmp_path):
    audioset = REAL / "audioset"
    names, instruments = dataset_lists.read_ontology(audioset / "ontology.json")
    official = {row["mid"]: row["display_name"] for row in read(audioset / "instruments_110.csv")}
    assert {label: names[label] for label in instruments} == official
    clips = list(dataset_lists.read_audioset(audioset / "eval_segments.csv"))
    assert len(clips) == 20_371
    kept = [clip for clip in clips if not instruments.isdisjoint(clip.labels)]
    assert len(kept) == 4361
    touch(tmp_path / "media", f"{kept[0].video_id}.mp4")
    lists, ontology = [audioset / "eval_segments.csv"], audioset / "ontology.json"
    result = make(tmp_path, "audioset_instruments", lists=lists, ontology=ontology)
    assert reasons(result) == {"not in folder": 4360}  # damaged ids among them
    assert result.num_other == 20_371 - 4361


# --- Flickr-SoundNet -----------------------------------------------------------------------------
def test_flickr_is_split_8_to_1_to_1_with_a_message(tmp_path):
    touch(tmp_path / "media", *(f"{index}.mp4" for index in range(1000, 1040)))
    result = make(tmp_path, "flickr_soundnet")
    counts = collections.Counter(row.split for row in result.rows)
    assert counts == {"train": 32, "val": 4, "test": 4}
    assert {(row.start_seconds, row.end_seconds) for row in result.rows} == {(0, 10)}
    assert "scaled down to train 32, val 4, test 4" in datasets.summary(result)
    other = make(tmp_path, "flickr_soundnet", seed=1, overwrite=True)
    assert [row.split for row in other.rows] != [row.split for row in result.rows]


def test_flickr_draws_exactly_what_the_paper_does_and_a_new_video_moves_few():
    names = [f"{index}" for index in range(2000)]
    fractions = dataset_rows.FLICKR_FRACTIONS
    splits = dataset_rows.ranked_splits(names, fractions, seed=0, limit=500)
    assert collections.Counter(splits.values()) == {"train": 400, "val": 50, "test": 50}
    assert splits == dataset_rows.ranked_splits(names[::-1], fractions, seed=0, limit=500)
    more = dataset_rows.ranked_splits([*names, "new"], fractions, seed=0, limit=500)
    assert sum(more.get(name) != split for name, split in splits.items()) <= 3
    assert splits != dataset_rows.ranked_splits(names, fractions, seed=1, limit=500)


def test_flickr_list_of_addresses(tmp_path):
    text = (
        "http://www.flickr.com/videos/47762553@N00/9419455509/play/orig/8461e78d0d\n"
        "http://www.flickr.com/videos/1@N00/111/play/orig/0\n"
        "222\nhttp://elsewhere.com/333\n111\n"
    )
    lists = [write(tmp_path / "urls_public.txt", text)]
    touch(tmp_path / "media", "video/9419455509_8461e78d0d.mp4", "video/222.mp4", "444.mp4")
    result = make(tmp_path, "flickr_soundnet", lists=lists)
    paths = {"9419455509": "video/9419455509_8461e78d0d.mp4", "222": "video/222.mp4"}
    assert {row.media_id: row.path for row in result.rows} == paths
    assert reasons(result) == {"not in folder": 1, "unusable row": 1, "listed twice": 1}


def test_flickr_boxes_fit_the_demo_columns(tmp_path):
    by_name = "<r><a><bbox><t>1</t><xmin>64</xmin><ymin>0</ymin><xmax>128</xmax><ymax>256</ymax>"
    by_place = "<bbox><n>2</n><a>0</a><b>0</b><c>300</c><d>128</d></bbox>"
    text = f"{by_name}</bbox></a><a>{by_place}</a></r>"
    annotations = write(tmp_path / "Annotations" / "12.xml", text).parent
    write(annotations / "13.xml", "<r></r>")
    write(annotations / "14.xml", "<r><")
    touch(tmp_path / "media", "frames/12.jpg", "frames/13.jpg")
    result = make(tmp_path, "flickr_soundnet_test", lists=[annotations])
    assert [(row.example_id, row.path) for row in result.rows] == [("12", "frames/12.jpg")]
    rows = read(tmp_path / "out" / "boxes.csv")
    assert tuple(rows[0]) == box_lists.COLUMNS
    assert [tuple(row.values())[3:7] for row in rows] == [
        ("0.0000", "0.2500", "1.0000", "0.5000"),
        ("0.0000", "0.0000", "0.5000", "1.0000"),
    ]
    assert reasons(result) == {"no box": 1, "unusable row": 1}
    write(annotations / "11.xml", "<r><bbox><x>1</x></bbox></r>")
    words = "11.xml: bbox has the elements x; need"
    refused(words, tmp_path, "flickr_soundnet_test", lists=[annotations])


# --- VGGSound ------------------------------------------------------------------------------------
def test_vggsound(tmp_path):
    text = f'{ID},30,"heart sounds, heartbeat",train\n{OTHER},4,tap dancing,test\n'
    touch(tmp_path / "media", f"{ID}_000030.mp4", f"{OTHER}_4000_14000.mp4")
    result = make(tmp_path, "vggsound", lists=[write(tmp_path / "vggsound.csv", text)])
    assert [(row.example_id, row.split, row.labels) for row in result.rows] == [
        (f"{ID}_000030", "train", ("heart sounds, heartbeat",)),
        (f"{OTHER}_000004", "test", ("tap dancing",)),
    ]
    lists = [write(tmp_path / "bad.csv", "id,start,label,split\n")]
    refused("bad.csv, line 1: got", tmp_path, "vggsound", lists=lists)


def test_vggss_boxes_are_of_the_middle_frame(tmp_path):
    boxes = [[0.5, -0.1, 0.75, 0.5], [0.00625, 0.015625, 0.00625, 0.015625]]
    content = [
        {"file": f"{ID}_000030", "class": "tap dancing", "bbox": boxes},
        {"file": f"{OTHER}_000004", "class": "hail", "bbox": [[0.1, 0.1, 0.2, 0.2]]},
        {"file": "odd", "class": "hail", "bbox": []},
        {"file": f"{ID}_000030", "class": "hail", "bbox": [[0.1, 0.1, 0.2, 0.2]]},
        {"file": f"{OTHER}_000099", "class": "hail", "bbox": []},
    ]
    touch(tmp_path / "media", f"{ID}_000030.mp4")
    path = write(tmp_path / "vggss.json", json.dumps(content))
    result = make(tmp_path, "vggss", lists=[path])
    assert [(item.example_id, item.reason) for item in result.missing] == [
        *((f"{OTHER}_000099", "no box"), ("", "unusable row"), (f"{ID}_000030", "listed twice")),
        (f"{OTHER}_000004", "not in folder"),
    ]
    (box,) = read(tmp_path / "out" / "boxes.csv")
    sides = ("0.0000", "0.5000", "0.5000", "0.7500")
    assert tuple(box.values()) == (f"{ID}_000030", "125", "5.00", *sides, "tap dancing")
    assert tuple(box) == box_lists.COLUMNS
    path.write_text('{"file": 1}')
    refused("vggss.json (Expected `array`, got `object`)", tmp_path, "vggss", lists=[path])


# --- Any folder; files; flags --------------------------------------------------------------------
def test_folder_is_labelled_by_directory_and_becomes_shards(tmp_path, tiny_videos):
    for name in ("0_high.mp4", "1_low.mp4", "2_high.mp4"):
        content = (tiny_videos / name).read_bytes()
        touch(tmp_path / "media" / name[2:-4], name, content=content)
    result = make(tmp_path, "folder", labels_from="directory")
    assert [(row.path, row.labels) for row in result.rows] == [
        *(("high/0_high.mp4", ("high",)), ("high/2_high.mp4", ("high",))),
        ("low/1_low.mp4", ("low",)),
    ]
    folders = {"videos_dir": tmp_path / "media", "out_dir": tmp_path / "shards"}
    counts = prepare(manifest=tmp_path / "out" / "manifest.csv", num_workers=1, **folders)
    assert counts["ok"] == 3
    assert (tmp_path / "shards" / "labels.txt").read_text() == "high\nlow\n"


def test_a_directory_that_cannot_be_a_label(tmp_path):
    touch(tmp_path / "media", "a|b/x.mp4", "y.mp4")
    assert len(make(tmp_path, "folder").rows) == 2
    refused("cannot be a label", tmp_path, "folder", labels_from="directory")


def test_another_manifest_is_not_overwritten_unless_asked(tmp_path):
    touch(tmp_path / "media", "a.mp4")
    make(tmp_path, "folder")
    make(tmp_path, "folder")  # the same again
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"manifest.csv", "missing.csv"}
    touch(tmp_path / "media", "b.mp4")
    refused("is another manifest; give --overwrite", tmp_path, "folder")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert len(make(tmp_path, "folder", overwrite=True).rows) == 2


@pytest.mark.parametrize(
    ("dataset", "settings", "words"),
    [
        ("imagenette", {}, "need one of flickr_soundnet"),
        ("imagenet", {}, "eval.table3_imagenet reads the folder itself: --imagenet=FOLDER"),
        ("esc50", {}, "eval.table2_sound reads the folder itself: --esc50=FOLDER"),
        ("esc10", {}, "esc10 needs no manifest: eval.table2_sound reads the folder itself"),
        ("dcase2013", {}, "eval.table2_sound reads the folder itself: --dcase2013=FOLDER"),
        ("kinetics_sounds", {}, "needs --lists: Kinetics"),
        ("folder", {"lists": ["x"]}, "reads no --lists"),
        ("vggsound", {"lists": ["none.csv"]}, "cannot read the list none.csv"),
        ("folder", {"media_dir": "nowhere"}, "media folder nowhere does not exist"),
        ("folder", {"labels_from": "name"}, "need one of none, directory"),
        ("folder", {"trimmed": "maybe"}, "need one of auto, yes, no"),
        ("flickr_soundnet", {"labels_from": "directory"}, "--labels_from is for --dataset=folder"),
        ("folder", {"ontology": "x.json"}, "--ontology is for --dataset=audioset_instruments"),
        ("vggss", {"lists": ["x"], "split_fractions": "train=1"}, "vggss has fixed splits"),
        *(
            (name, {"lists": lists, "official_splits": True}, "is for --dataset=kinetics_sounds")
            for name, lists in (
                ("vggsound", ["x"]),
                ("audioset_instruments", ["x"]),
                ("folder", []),
            )
        ),
        ("vggsound", {"lists": ["x"], "split_fractions": "train=0.5"}, "need shares above 0"),
        ("flickr_soundnet", {"split_fractions": "a=2,b=-1"}, "need shares above 0 that sum to 1"),
        ("folder", {"split_fractions": ""}, "need name=share,name=share"),
        ("folder", {"split_fractions": "in/out=1"}, "need a name of letters"),
    ],
)
def test_unusable_arguments_are_one_line(tmp_path, dataset, settings, words):
    refused(words, tmp_path, dataset, **settings)


def test_nothing_found_says_what_was_looked_for(tmp_path):
    lists = [write(tmp_path / "vggsound.csv", f"{ID},30,hail,train\n")]
    with pytest.raises(UserError, match=rf"\(1 not in folder\); .* named like {ID}_000030"):
        make(tmp_path, "vggsound", lists=lists)
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_command_line(tmp_path):
    touch(tmp_path / "media", f"{ID}.mp4")
    path = write(tmp_path / "vggsound.csv", f"{ID},30,hail,train\n")
    command = ["-m", "data_prep.datasets", "--dataset=vggsound"]
    command += [f"--media_dir={tmp_path / 'media'}", f"--manifest={tmp_path / 'manifest.csv'}"]
    done = commands.run(*command, f"--lists={path}", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "train      1        1   0.00        0" in done.stdout
    assert "give --trimmed=yes" in done.stdout
    done = commands.run(*command, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == "error: vggsound needs --lists: vggsound.csv\n"
