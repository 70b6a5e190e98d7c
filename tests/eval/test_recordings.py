import pathlib

import numpy as np
import pytest
import soundfile

from eval.methods import features
from eval.sets import recordings
from l3net.errors import UserError
from tests.tiny_sets import write_esc50, write_sound_shards, write_spoken_digits, write_tone

REAL_ESC10 = pathlib.Path(__file__).parents[3] / "shared" / "data" / "esc10"


def _refused(match, read, *arguments):
    """The message of an error is one line."""
    with pytest.raises(UserError, match=match) as error:
        read(*arguments)
    assert "\n" not in str(error.value)


def test_esc50_reads_folds_and_classes(tmp_path):
    read = recordings.read_esc50(write_esc50(tmp_path))
    assert read.data == "ESC-50 (10 of 2000 real recordings)"
    assert read.classes == ["dog", "rain"]
    assert read.test_parts == list("12345")
    first = read.recordings[0]
    assert (first.name, first.label, first.part) == ("1-0-A-0.wav", "dog", "1")
    assert len({recording.content_hash() for recording in read.recordings}) == 10


def test_a_copy_at_another_rate_says_so(tmp_path):
    folder = write_esc50(tmp_path)
    for path in (folder / "audio").iterdir():
        write_tone(path, rate_hz=16_000)
    read = recordings.read_esc50(folder)
    assert (read.name, read.data) == ("ESC-50", "ESC-50, 16 kHz copy (10 of 2000 real recordings)")
    write_tone(next((folder / "audio").iterdir()))  # one of the published files
    assert "copy" not in recordings.read_esc50(folder).data


def test_esc10_in_the_new_layout_takes_the_marked_rows(tmp_path):
    read = recordings.read_esc10(write_esc50(tmp_path, categories=("dog", "rain", "cat")))
    names = [recording.name for recording in read.recordings]
    assert "1-1-A-1.wav" not in names  # its esc10 column is False
    assert len(names) == 13


@pytest.mark.skipif(not REAL_ESC10.is_dir(), reason="needs the real ESC-10")
def test_real_esc10():
    read = recordings.read_esc10(REAL_ESC10)
    assert read.data == "ESC-10 (400 real recordings)"
    assert np.bincount(read.labels).tolist() == [40] * 10
    assert all(np.sum(read.parts == fold) == 80 for fold in "12345")
    waveform = read.recordings[0].load(48_000)
    assert len(waveform) == 240_000
    assert 0.01 < np.abs(waveform).max() <= 1


def test_spoken_digits_test_the_speaker_whom_av_digits_never_hears(tmp_path):
    read = recordings.read_spoken_digits(write_spoken_digits(tmp_path / "recordings"))
    assert read.data == "spoken digits (18 of 3000 real recordings), speaker zoe held out"
    assert read.classes == ["one", "two", "zero"] and read.test_parts == ["test"]
    parts = {one.name: one.part for one in read.recordings}
    assert parts["0_zoe_0.wav"] == "test" and parts["2_bob_1.wav"] == "bob"
    assert set(parts.values()) == {"ann", "bob", "test"}
    # Their length is kept; what is shorter than a second is padded when it is cut into seconds.
    assert [len(one.load(48_000)) for one in read.recordings[:2]] == [14_400, 57_600]
    assert [len(features.subclips(one.load(48_000))) for one in read.recordings[:2]] == [1, 2]
    _refused("does not exist", recordings.read_spoken_digits, tmp_path / "none")
    _refused("no file named digit_speaker_index.wav", recordings.read_spoken_digits, tmp_path)
    alone = write_spoken_digits(tmp_path / "alone", speakers=["ann"])
    _refused("all recordings are in one fold", recordings.read_spoken_digits, alone)


def test_stereo_is_averaged_and_resampled_at_the_right_pitch(tmp_path):
    write_tone(tmp_path / "a.wav", hz=440, seconds=2, channels=2)
    waveform = recordings.load_file(tmp_path / "a.wav")
    assert waveform.shape == (96_000,)
    assert np.abs(np.fft.rfft(waveform)).argmax() == 880  # bins of 0.5 Hz
    assert np.abs(waveform[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)
    assert len(recordings.load_file(tmp_path / "a.wav", sample_rate_hz=44_100)) == 88_200


def test_esc_recordings_are_padded_or_cut_to_five_seconds(tmp_path):
    (tmp_path / "001 - Dog bark").mkdir()
    _refused("hold no recordings", recordings.read_esc10, tmp_path)
    for fold, seconds in ((1, 3.5), (2, 7.0)):
        write_tone(tmp_path / "001 - Dog bark" / f"{fold}-3-A.ogg", seconds=seconds)
        write_tone(tmp_path / "002 - Rain" / f"{fold}-4-A.ogg", seconds=seconds)
    read = recordings.read_esc10(tmp_path)
    assert read.classes == ["Dog bark", "Rain"]
    assert read.parts.tolist() == ["1", "2", "1", "2"]
    assert read.labels.tolist() == [0, 0, 1, 1]
    short, long = (recording.load(48_000) for recording in read.recordings[:2])
    assert len(short) == len(long) == 240_000 and short.dtype == np.float32
    assert not short[int(3.6 * 48_000) :].any()
    assert np.abs(long[-48_000:]).max() > 0.4
    write_tone(tmp_path / "001 - Dog bark" / "9-3-A.ogg")
    _refused("got fold '9'", recordings.read_esc10, tmp_path)


def test_dcase_takes_the_class_from_the_name(tmp_path):
    deep = tmp_path / "scenes_stereo_testset" / "scenes_stereo_testset"
    for name in ("bus01", "busystreet02", "tube10"):
        write_tone(tmp_path / "scenes_stereo" / f"{name}.wav")
        write_tone(deep / f"{name}.wav")
    read = recordings.read_dcase2013(tmp_path)
    assert read.classes == ["bus", "busystreet", "tube"]
    assert read.test_parts == ["test"]
    assert read.parts.tolist() == ["train"] * 3 + ["test"] * 3
    write_tone(deep / "0001.wav")
    _refused("cannot tell the scene of .*0001", recordings.read_dcase2013, tmp_path)
    (deep / "groundtruth.txt").write_text("0001.wav, office\nbus01.wav\tbus\n")
    read = recordings.read_dcase2013(tmp_path)
    assert {r.name: r.label for r in read.recordings}["test/0001.wav"] == "office"


def test_demo_shards(tmp_path):
    read = recordings.read_shards(write_sound_shards(tmp_path))
    assert (read.name, read.data) == ("demo data", "demo data (synthetic)")
    assert read.test_parts == ["test"]
    assert len(read.recordings) == 9  # one clip has no label
    waveform = read.recordings[0].load(48_000)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() == pytest.approx(0.5, abs=1e-3)
    assert len(read.recordings[0].load(44_100)) == 88_200
    other = recordings.read_shards(write_sound_shards(tmp_path / "other", name="kinetics"))
    assert other.data == "kinetics (9 clips)"


def test_what_is_heard_counts_instead_of_loose_labels(tmp_path):
    folder, heard = write_sound_shards(tmp_path / "shards"), tmp_path / "clips.csv"
    rows = [(f"{split}{i}", "xyz"[i % 2]) for split in ("train", "test") for i in range(4)]
    heard.write_text("example_id,heard_label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    read = recordings.read_shards(folder, heard)
    assert [(r.name, r.label) for r in read.recordings] == rows  # others are not listed
    heard.write_text("example_id,label\ntrain0,x\n")
    _refused("clips.csv.*heard_label", recordings.read_shards, folder, heard)


def test_bad_esc50_is_one_line(tmp_path):
    sound = write_esc50(tmp_path, folds=(2,)) / "audio" / "2-0-A-0.wav"
    _refused("one fold", recordings.read_esc50, tmp_path)
    sound.write_bytes(b"")
    _refused("zero bytes", recordings.read_esc50, tmp_path)
    sound.unlink()
    _refused("listed but does not exist", recordings.read_esc50, tmp_path)
    (tmp_path / "meta" / "esc50.csv").unlink()
    _refused("esc50.csv is missing", recordings.read_esc50, tmp_path)


@pytest.mark.parametrize(
    "read", [recordings.read_esc50, recordings.read_esc10, recordings.read_dcase2013]
)
def test_missing_and_empty_folders_are_one_line(tmp_path, read):
    _refused("does not exist", read, tmp_path / "nowhere")
    _refused("missing|no ESC-10|no folder of recordings", read, tmp_path)


def test_a_wav_without_sound_is_one_line_but_silence_is_fine(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("not sound")
    _refused("cannot read the recording", recordings.load_file, path)
    soundfile.write(path, np.zeros(0), 48_000)
    _refused("holds no sound", recordings.load_file, path)
    for value, message in ((np.nan, "NaN or infinite"), (-np.inf, "NaN"), (3e4, "up to 30000")):
        soundfile.write(path, np.array([0.1, value]), 44_100, subtype="FLOAT")
        _refused(f"a.wav holds .*{message}", recordings.load_file, path)
    soundfile.write(path, np.zeros(48_000), 48_000)
    assert not recordings.load_file(path).any()
