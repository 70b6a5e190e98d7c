import pathlib

import numpy as np
import pytest
import soundfile

from eval.sets import recordings
from l3net.data import schema
from l3net.data.shards import marker_path, shard_name
from l3net.errors import UserError

REAL_ESC10 = pathlib.Path(__file__).parents[3] / "shared" / "data" / "esc10"


def write_tone(path, hz=440.0, seconds=1.0, rate_hz=44_100, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate_hz)


def write_esc50(folder, categories=("dog", "rain"), folds=range(1, 6), seconds=1.0):
    """Writes one recording per class and fold; the pitch tells the class."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target, category in enumerate(categories):
        for fold in folds:
            name = f"{fold}-{target}-A-{target}.wav"
            write_tone(folder / "audio" / name, hz=300 * (target + 1) + 5 * fold, seconds=seconds)
            lines.append(f"{name},{fold},{target},{category},{target == 0 or fold > 1},x,A")
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_demo_shards(folder, *, dataset_name="demo"):
    """Writes a prepared folder: two classes, told apart by pitch, in the splits train and test."""
    import json

    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 6), ("test", 4)):
        name = shard_name(dataset_name, split, 0, 1)
        clips = [_clip(f"{split}{i}", i % 2, dataset_name) for i in range(count)]
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for clip in clips:
                writer.write(schema.encode_clip(clip))
        marker = {"num_clips": count, "media_ids": [clip.media_id for clip in clips]}
        marker_path(folder / name).write_text(json.dumps(marker))
    return folder


def _clip(name, label, dataset_name):
    hz = 300 * (label + 1) + len(name)
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(96_000) / 48_000)
    labels = () if name == "train0" else (("bell", "drum")[label], "Sound")  # the first counts
    return schema.Clip(
        example_id=name,
        dataset_name=dataset_name,
        media_id=name,
        data_path=f"{name}.mp4",
        start_us=0,
        end_us=2_000_000,
        labels=labels,
        label_indices=(label, 2) if labels else (),
        frames=(b"jpeg",),
        timestamps_us=(0,),
        height_px=1,
        width_px=1,
        waveform=np.round(wave * 32767).astype(np.int16),
    )


def _messages(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_esc50_reads_folds_and_classes(tmp_path):
    found = recordings.read_esc50(write_esc50(tmp_path))
    assert found.data == "ESC-50 (10 of 2000 real recordings)"
    assert found.classes == ["dog", "rain"]
    assert found.test_parts == list("12345")
    first = found.recordings[0]
    assert (first.name, first.label, first.part) == ("1-0-A-0.wav", "dog", "1")
    assert len({recording.content_hash() for recording in found.recordings}) == 10


def test_esc10_in_the_new_layout_takes_the_marked_rows(tmp_path):
    found = recordings.read_esc10(write_esc50(tmp_path, categories=("dog", "rain", "cat")))
    names = [recording.name for recording in found.recordings]
    assert "1-1-A-1.wav" not in names  # its esc10 column is False
    assert len(names) == 13


def test_esc10_in_class_folders(tmp_path):
    for fold in (1, 2):
        write_tone(tmp_path / "001 - Dog bark" / f"{fold}-3-A.ogg")
        write_tone(tmp_path / "002 - Rain" / f"{fold}-4-A.ogg")
    found = recordings.read_esc10(tmp_path)
    assert found.classes == ["Dog bark", "Rain"]
    assert found.parts.tolist() == ["1", "2", "1", "2"]
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.recordings[0].load(48_000).dtype == np.float32


@pytest.mark.skipif(not REAL_ESC10.is_dir(), reason="needs the real ESC-10")
def test_real_esc10():
    found = recordings.read_esc10(REAL_ESC10)
    assert found.data == "ESC-10 (400 real recordings)"
    assert np.bincount(found.labels).tolist() == [40] * 10
    assert all(np.sum(found.parts == fold) == 80 for fold in "12345")
    waveform = found.recordings[0].load(48_000)
    assert len(waveform) == 240_000
    assert 0.01 < np.abs(waveform).max() <= 1


def test_stereo_is_averaged_and_resampled_at_the_right_pitch(tmp_path):
    write_tone(tmp_path / "a.wav", hz=440, seconds=2, channels=2)
    waveform = recordings.load_file(tmp_path / "a.wav")
    assert waveform.shape == (96_000,)
    assert np.abs(np.fft.rfft(waveform)).argmax() == 880  # bins of 0.5 Hz
    assert np.abs(waveform[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)
    assert len(recordings.load_file(tmp_path / "a.wav", sample_rate_hz=44_100)) == 88_200


def test_esc_recordings_are_padded_or_cut_to_five_seconds(tmp_path):
    for fold, seconds in ((1, 3.5), (2, 7.0)):
        write_tone(tmp_path / "001 - Dog bark" / f"{fold}-3-A.ogg", seconds=seconds)
        write_tone(tmp_path / "002 - Rain" / f"{fold}-4-A.ogg", seconds=seconds)
    short, long = (r.load(48_000) for r in recordings.read_esc10(tmp_path).recordings[:2])
    assert len(short) == len(long) == 240_000
    assert not short[int(3.6 * 48_000) :].any()
    assert np.abs(long[-48_000:]).max() > 0.4


def test_silence_is_fine(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(48_000), 48_000)
    assert not recordings.load_file(tmp_path / "a.wav").any()


def _write_dcase(folder, names=("bus01", "busystreet02", "tube10"), test="scenes_stereo_testset"):
    for name in names:
        write_tone(folder / "scenes_stereo" / f"{name}.wav")
        write_tone(folder / test / f"{name}.wav")
    return folder


def test_dcase_takes_the_class_from_the_name(tmp_path):
    found = recordings.read_dcase2013(_write_dcase(tmp_path))
    assert found.classes == ["bus", "busystreet", "tube"]
    assert found.test_parts == ["test"]
    assert found.parts.tolist() == ["train"] * 3 + ["test"] * 3


def test_dcase_unpacked_twice_deep_with_a_list(tmp_path):
    _write_dcase(tmp_path, test="scenes_stereo_testset/scenes_stereo_testset")
    deep = tmp_path / "scenes_stereo_testset" / "scenes_stereo_testset"
    write_tone(deep / "0001.wav")
    (deep / "groundtruth.txt").write_text("0001.wav, office\nbus01.wav\tbus\n")
    found = recordings.read_dcase2013(tmp_path)
    assert {r.name: r.label for r in found.recordings}["test/0001.wav"] == "office"


def test_dcase_with_the_published_key_of_the_test_set(tmp_path):
    _write_dcase(tmp_path)
    write_tone(tmp_path / "scenes_stereo_testset" / "1_qwerty.wav")
    key = "fold,wavname,md5sum,decodedname\nfold1_testgt_x.txt,1_qwerty.wav,0123,park01.wav\n"
    (tmp_path / "dcase2013_task1_filenamekey.csv").write_text(key)
    found = recordings.read_dcase2013(tmp_path)
    assert {r.name: r.label for r in found.recordings}["test/1_qwerty.wav"] == "park"


def test_dcase_unknown_scene(tmp_path):
    _write_dcase(tmp_path, names=("bus01", "beach02"))
    with pytest.raises(UserError, match="cannot tell the scene of .*beach02") as error:
        recordings.read_dcase2013(tmp_path)
    _messages(error)


def test_demo_shards(tmp_path):
    found = recordings.read_shards(write_demo_shards(tmp_path))
    assert (found.name, found.data) == ("demo data", "demo data (synthetic)")
    assert found.test_parts == ["test"]
    assert len(found.recordings) == 9  # one clip has no label
    waveform = found.recordings[0].load(48_000)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() == pytest.approx(0.5, abs=1e-3)
    assert len(found.recordings[0].load(44_100)) == 88_200


def test_what_is_heard_counts_instead_of_loose_labels(tmp_path):
    folder, heard = write_demo_shards(tmp_path / "shards"), tmp_path / "clips.csv"
    rows = [(f"{split}{i}", "xyz"[i % 2]) for split in ("train", "test") for i in range(4)]
    heard.write_text("example_id,heard_label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    found = recordings.read_shards(folder, heard)
    assert [(r.name, r.label) for r in found.recordings] == rows  # others are not listed
    heard.write_text("example_id,label\ntrain0,x\n")
    with pytest.raises(UserError, match="clips.csv.*heard_label"):
        recordings.read_shards(folder, heard)


def test_shards_that_are_not_the_demo_are_named(tmp_path):
    found = recordings.read_shards(write_demo_shards(tmp_path, dataset_name="kinetics"))
    assert found.data == "kinetics (9 clips)"


def _break_missing_csv(folder):
    (folder / "meta" / "esc50.csv").unlink()


def _break_column(folder):
    path = folder / "meta" / "esc50.csv"
    path.write_text(path.read_text().replace("fold", "part"))


def _break_fold(folder):
    path = folder / "meta" / "esc50.csv"
    path.write_text(path.read_text().replace("1-0-A-0.wav,1", "1-0-A-0.wav,7"))


def _break_rows(folder):
    path = folder / "meta" / "esc50.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def _break_file(folder):
    (folder / "audio" / "1-0-A-0.wav").unlink()


def _break_bytes(folder):
    (folder / "audio" / "1-0-A-0.wav").write_bytes(b"")


def _break_folds(folder):
    path = folder / "meta" / "esc50.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line for line in lines if ",2," in line)]))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_break_missing_csv, "esc50.csv is missing"),
        (_break_column, "no rows with the column.s. fold"),
        (_break_fold, "got fold '7'; need one of 1 to 5"),
        (_break_rows, "no rows"),
        (_break_file, "listed but does not exist"),
        (_break_bytes, "zero bytes"),
        (_break_folds, "one fold"),
    ],
)
def test_bad_esc50_is_one_line(tmp_path, break_it, message):
    break_it(write_esc50(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        recordings.read_esc50(tmp_path)
    _messages(error)


@pytest.mark.parametrize(
    "read", [recordings.read_esc50, recordings.read_esc10, recordings.read_dcase2013]
)
def test_missing_and_empty_folders_are_one_line(tmp_path, read):
    with pytest.raises(UserError, match="does not exist") as error:
        read(tmp_path / "nowhere")
    _messages(error)
    with pytest.raises(UserError, match="missing|no ESC-10|no folder of recordings") as error:
        read(tmp_path)
    _messages(error)


def test_esc10_folders_with_a_bad_fold_or_nothing_inside(tmp_path):
    (tmp_path / "001 - Dog bark").mkdir()
    with pytest.raises(UserError, match="hold no recordings"):
        recordings.read_esc10(tmp_path)
    write_tone(tmp_path / "001 - Dog bark" / "9-3-A.ogg")
    with pytest.raises(UserError, match="got fold '9'"):
        recordings.read_esc10(tmp_path)


def test_text_named_wav_is_one_line(tmp_path):
    (tmp_path / "a.wav").write_text("not sound")
    with pytest.raises(UserError, match="cannot read the recording") as error:
        recordings.load_file(tmp_path / "a.wav")
    _messages(error)


def test_wav_without_samples_is_one_line(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 48_000)
    with pytest.raises(UserError, match="holds no sound"):
        recordings.load_file(tmp_path / "a.wav")
