import collections
import os
import pathlib
import shutil

import pytest

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from data_prep.lists.media_files import find
from data_prep.shards import row_table
from l3net.errors import UserError
from tests.conftest import make_video

HEADER = "example_id,media_id,path,start_seconds,end_seconds,split,labels\n"
ROWS = [
    ManifestRow("a", "film", "sub/film, part 1.mp4", 0.0, 10.0, "train", ("Dog", "Bark, loud")),
    ManifestRow("b", "film", "sub/film, part 1.mp4", 0.1 + 0.2, 12.5, "train"),
    ManifestRow("ü", "other", 'quote".mp4', 0.0, 1.0, "test_2", ("Violin",)),
]


def read(path: pathlib.Path) -> list[ManifestRow]:
    """Returns the rows as write_shards takes them, sorted by example_id."""
    with row_table.opened(path.parent) as rows:
        rows.add_manifest(path)
        return list(rows.rows())


def test_rows_come_back_as_written(tmp_path):
    path = tmp_path / "new folder" / "manifest.csv"
    manifest.write_manifest(path, ROWS)
    assert read(path) == ROWS
    assert [entry.name for entry in path.parent.iterdir()] == ["manifest.csv"]


def test_columns_in_any_order_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(
        "\ufefflabels,split,end_seconds,start_seconds,path,media_id,example_id\n"
        "Dog|Cat,val,2,1,x.mp4,x,1\n"
    )
    expected = ManifestRow("1", "x", "x.mp4", 1.0, 2.0, "val", ("Dog", "Cat"))
    assert read(path) == [expected]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: got the columns none"),
        ("example_id,path\n1,x\n", "line 1: got the columns example_id, path; need exactly"),
        (HEADER, "no rows"),
        (HEADER + "1,x,x.mp4,0,1,train,\n1,y,y.mp4,0,1,train,\n", "line 3: example_id '1' was"),
        (HEADER + "1,x,x.mp4,zero,1,train,\n", "line 2: start_seconds is 'zero'"),
        (HEADER + "1,x,x.mp4,0,inf,train,\n", "line 2: end_seconds is 'inf'"),
        (HEADER + "1,x,x.mp4,nan,1,train,\n", "line 2: start_seconds is 'nan'"),
        (HEADER + "1,x,x.mp4,2,2,train,\n", "line 2: got start_seconds 2.0 and end_seconds 2.0"),
        (HEADER + "1,x,x.mp4,-1,2,train,\n", "need 0 <= start < end"),
        (HEADER + "1,x,x.mp4,0,1,,\n", "line 2: split is ''"),
        (HEADER + "1,x,x.mp4,0,1,a-b,\n", "line 2: split is 'a-b'"),
        (HEADER + "1,x,,0,1,train,\n", "line 2: path is ''"),
        (HEADER + "1,x,x.mp4,0,1\n", "line 2: too many or too few fields"),
        (HEADER + "1,x,x.mp4,0,1,train,,\n", "line 2: too many or too few fields"),
        (HEADER + "1,x,x.mp4,0,1,train,a||b\n", "line 2: labels is 'a||b'"),
        (HEADER + '1,x,x.mp4,0,1,train,"a\nb"\n', "labels is"),
    ],
)
def test_an_unusable_file_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot read the manifest"):
        read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(UserError, match="cannot read the manifest"):
        read(tmp_path / "binary.csv")


def test_a_row_that_would_not_come_back_is_not_written(tmp_path):
    path = tmp_path / "m.csv"
    with pytest.raises(UserError, match="row 0"):
        manifest.write_manifest(path, [ManifestRow("1", "x", "x", 0, 1, "train", ("a|b",))])
    with pytest.raises(UserError, match="row 0"):
        manifest.write_manifest(path, [ManifestRow("1", "x", "x", 3, 1, "train")])
    assert not path.exists()


def test_one_video_in_two_splits_is_warned_of(tmp_path, caplog):
    path = tmp_path / "m.csv"
    path.write_text(HEADER + "1,x,x.mp4,0,1,train,\n2,x,x.mp4,1,2,test,\n")
    read(path)
    assert "1 videos have clips in several splits" in caplog.text


def test_folder_gives_one_row_per_video(tmp_path):
    for name in ("b.mp4", "a b/-c.WEBM", "notes.txt", ".hidden.mp4", ".git/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = list(manifest.rows_from_files(find(tmp_path, "videos"), max_seconds=5.0))
    assert [row.path for row in rows] == ["a b/-c.WEBM", "b.mp4"]
    assert {(row.start_seconds, row.end_seconds, row.split) for row in rows} == {(0, 5, "train")}


def test_content_decides_without_a_known_suffix_and_links_are_named(tmp_path, caplog):
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    make_video(tmp_path / "a.mp4", seconds=0.5)
    for path in (folder / "dQw4w9WgXcQ.unknown_video", folder / "sub/b", folder / "c.mp4.part"):
        shutil.copy(tmp_path / "a.mp4", path)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "elsewhere")
    make_video(folder / "sound_alone.bin", picture=None, seconds=0.5, options=("-f", "mp4"))
    (folder / "README").write_text("no video")
    (folder / "again").symlink_to("sub")
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level("INFO"):
        rows = list(manifest.rows_from_files(find(folder, "videos")))
    assert [row.path for row in rows] == ["dQw4w9WgXcQ.unknown_video", "sub/b"]
    assert caplog.text.count(f"left out the link {folder}/again: the same folder as") == 1
    assert caplog.text.count(f"left out the link {folder}/out: it leads out of the folder") == 1
    assert "left out 3 files that are no video" in caplog.text


def test_names_that_are_not_utf8_are_left_out_and_warned_of(tmp_path, caplog):
    for name in (b"a.mp4", b"\xff.mp4", b"\xfe/b.mp4"):
        path = pathlib.Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [row.path for row in manifest.rows_from_files(find(tmp_path, "videos"))] == ["a.mp4"]
    assert caplog.text.count("its name is not UTF-8") == 2


def test_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(UserError, match="no video file"):
        list(manifest.rows_from_files(find(tmp_path, "videos")))
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / "none", "videos")


def test_split_depends_on_name_and_seed_only_and_has_about_its_share():
    fractions = manifest.parse_fractions("train=0.7, val=0.2,test=0.1")
    names = [f"video{index}" for index in range(2000)]
    splits = [manifest.split_of(name, fractions) for name in names]
    counts = collections.Counter(splits)
    assert counts["train"] == pytest.approx(1400, abs=80)
    assert counts["test"] == pytest.approx(200, abs=50)
    assert splits == [manifest.split_of(name, fractions) for name in names]
    assert splits != [manifest.split_of(name, fractions, seed=1) for name in names]


@pytest.mark.parametrize(
    "text", ["train", "train=x", "train=0.5", "train=1.5,val=-0.5", "a-b=1", "", "train=nan"]
)
def test_unusable_fractions_are_refused(text):
    with pytest.raises(UserError, match="split"):
        manifest.parse_fractions(text)
    with pytest.raises(UserError, match="need shares above 0 that sum to 1"):
        manifest.checked_fractions({})
