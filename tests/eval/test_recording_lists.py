"""The layouts of the sound benchmarks, by hand; no file holds sound."""

import pytest

from eval.sets import recording_lists
from eval.sets.recording_lists import ListedRecording
from l3net.errors import UserError

HEADER = "filename,fold,target,category,esc10,src_file,take\n"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_esc50(folder, rows, header=HEADER):
    path = folder / "meta" / "esc50.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(header + rows)


def test_esc50_is_what_the_list_names(tmp_path):
    write_esc50(tmp_path, "b.wav,1,0,dog,True,1,A\na.wav, 5 ,1,clock tick,False,2,A\n")
    dog, clock = recording_lists.list_esc50(tmp_path)
    assert dog == ListedRecording("audio/b.wav", "fold1", "dog")
    assert clock == ListedRecording("audio/a.wav", "fold5", "clock tick")
    assert recording_lists.list_esc10(str(tmp_path)) == [dog]


def test_esc10_in_class_folders(tmp_path):
    touch(tmp_path, "002 - Rain/1-2-A.OGG", "001 - Dog bark/5-1-A.ogg", "001 - Dog bark/x.txt")
    touch(tmp_path, "001 - Dog bark/12-1-A.ogg", "other/1-1-A.ogg", "003 - a file")
    many, dog, rain = recording_lists.list_esc10(tmp_path)
    assert dog == ("001 - Dog bark/5-1-A.ogg", "fold5", "Dog bark", "")
    assert rain == ("002 - Rain/1-2-A.OGG", "fold1", "Rain", "")
    assert many.split == ""
    assert many.problem == "001 - Dog bark/12-1-A.ogg: got fold '12'; need one of 1 to 5"


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ("", "", "line 1: got the columns none"),
        ("", "filename,fold,category\n", "line 1: got .* no rows with the column.s. esc10;"),
        ("", HEADER, "has no rows under"),
        ("a.wav,6,0,dog,True,1,A\n", HEADER, "line 2: got fold '6'; need one of 1 to 5"),
        ("a.wav,12,0,dog,True,1,A\n", HEADER, "line 2: got fold '12'"),
        ("a.wav,,0,dog,True,1,A\n", HEADER, "line 2: got fold ''"),
        ("a.wav,1,0,,True,1,A\n", HEADER, "line 2: got filename 'a.wav' and category ''"),
        ("a.wav,1,0,dog,True\n", HEADER, "line 2: got 5 fields; need 7"),
        ("a.wav,1,0,dog,False,1,A\n", HEADER, "has no rows of ESC-10"),
    ],
)
def test_esc_lists_of_another_format_are_refused(tmp_path, rows, header, words):
    write_esc50(tmp_path, rows, header)
    with pytest.raises(UserError, match=f"esc50.csv.* {words}") as caught:
        recording_lists.list_esc10(tmp_path)
    assert "\n" not in str(caught.value)


def test_scenes_by_name_in_either_depth(tmp_path):
    touch(tmp_path, "scenes_stereo/scenes_stereo/tube10.wav", "scenes_stereo/readme.txt")
    touch(tmp_path, "evaluation/test_busystreet_02.flac", "evaluation/beach01.wav")
    train, beach, test = recording_lists.list_dcase2013(tmp_path)
    assert train == ("scenes_stereo/scenes_stereo/tube10.wav", "train", "tube", "")
    assert test == ("evaluation/test_busystreet_02.flac", "test", "busystreet", "")
    assert beach.label == ""
    assert beach.problem.startswith("cannot tell the scene of evaluation/beach01.wav; need one of")


@pytest.mark.parametrize(
    ("name", "text", "scene"),
    [
        ("groundtruth.txt", "1.wav office", "office"),
        ("meta.csv", "audio/1.wav\tOffice\tlondon", "office"),
        ("labels.csv", 'scene,note,file\n"park","quiet, green","1.wav"', "park"),
        ("Ground_Truth.TXT", "# file, scene\n1.wav;tube", "tube"),
        ("dcase2013_task1_filenamekey.csv", "1.wav,park", "park"),
        # As published: the class is in the file's other name.
        (
            "dcase2013_task1_filenamekey.csv",
            "fold,wavname,md5sum,decodedname\nfold1_testgt_bus.txt,1.wav,0123,tubestation07.wav\n",
            "tubestation",
        ),
        ("labels.csv", "1.wav,bus01.wav,office", "office"),  # a class of its own counts
        ("labels.csv", "1.wav,office\n1.wav,beach", "office"),
        ("labels.csv", "1.wav,office,park", ""),
        ("labels.csv", "1.wav,bus01.wav,park01.wav", ""),
        ("labels.csv", "11.wav,office", ""),
        ("notes.csv", "1.wav,office", ""),
    ],
)
@pytest.mark.parametrize("part", [".", "scenes_stereo_testset"])
def test_scenes_by_list(tmp_path, name, text, scene, part):
    touch(tmp_path, "scenes_stereo/bus01.wav", "scenes_stereo_testset/1.wav")
    (tmp_path / part / name).write_text(text)
    _, test = recording_lists.list_dcase2013(tmp_path)
    assert (test.path, test.label) == ("scenes_stereo_testset/1.wav", scene)
    assert bool(test.problem) == (not scene)


def test_scenes_need_both_folders(tmp_path):
    touch(tmp_path, "scenes_stereo/bus01.wav", "test/readme.txt")
    with pytest.raises(UserError, match="no folder of recordings named scenes_stereo_testset or"):
        recording_lists.list_dcase2013(tmp_path)
