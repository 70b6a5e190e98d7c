import numpy as np
import pytest

from l3net.data import fixed_pairs
from l3net.errors import UserError
from tests import tiny_shards


def _folder(tmp_path, num_clips=5):
    clips = [tiny_shards.make_clip(k) for k in range(1, num_clips + 1)]
    tiny_shards.write_shards(tmp_path, clips, split="val", num_shards=2)
    return tmp_path


def _read(path, batch_size=4, **settings):
    dataset = fixed_pairs.read_pairs(path, batch_size=batch_size, frame_px=32, **settings)
    batches = dataset.as_numpy_iterator()
    joined = {}
    for batch in batches:
        for name, value in batch.items():
            joined.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in joined.items()}


def test_labels_are_true_every_clip_counts_and_nothing_is_dropped(tmp_path):
    path = fixed_pairs.fixed_pairs(_folder(tmp_path), "val", num_pairs=30, sampling="l3")
    pairs = _read(path)
    frame_clip = np.round(pairs["image"].mean(axis=(1, 2, 3)) / 10).astype(int)
    sound_clip = pairs["waveform"][:, 0] // 100
    assert len(frame_clip) == 30  # not a multiple of the batch size
    np.testing.assert_array_equal(pairs["corresponds"], (frame_clip == sound_clip).astype(int))
    assert pairs["corresponds"].sum() == 15
    assert np.bincount(frame_clip)[1:].tolist() == [6] * 5
    assert set(pairs["frame_label"]) == {-1}  # the clips have none


def test_every_clip_gives_the_same_number_of_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(fixed_pairs, "MIN_PAIRS", 21)
    folder = _folder(tmp_path)
    num_pairs = fixed_pairs.balanced_num_pairs(folder, "val")
    assert num_pairs == 30  # 5 clips, each a positive and a negative in each of three turns
    path = fixed_pairs.fixed_pairs(folder, "val", num_pairs=num_pairs, sampling="ots")
    pairs = _read(path, with_clips=True)
    for label in (0, 1):
        names = pairs["frame_clip"][pairs["corresponds"] == label]
        assert np.unique(names, return_counts=True)[1].tolist() == [3] * 5
    same = pairs["frame_clip"] == pairs["audio_clip"]
    np.testing.assert_array_equal(same, pairs["corresponds"] == 1)
    assert pairs["audio_clip"][0] == b"clip%04d" % (pairs["waveform"][0, 0] // 100)


def test_pairs_do_not_wait_in_memory_until_all_clips_are_read(tmp_path, monkeypatch):
    """Positives are written as their clip is read; of negatives only one half may wait."""
    encode, read, written = fixed_pairs._encode, fixed_pairs.read_clips, []

    def counting(shards):
        for number, clip in enumerate(read(shards)):
            yield clip
            if number < 4:
                written.append(len(encoded))

    encoded = []

    def noting(*arguments):
        encoded.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(fixed_pairs, "_encode", noting)
    monkeypatch.setattr(fixed_pairs, "read_clips", counting)
    fixed_pairs.fixed_pairs(_folder(tmp_path), "val", num_pairs=30, sampling="l3")
    assert written[:4] == [0] * 4  # the first pass writes nothing
    assert all(now >= 3 * k for k, now in enumerate(written[4:], 1)) and len(encoded) == 30


def test_made_once_and_the_same_for_the_same_seed(tmp_path):
    folder = _folder(tmp_path)
    path = fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="ots")
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="ots") == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    path.unlink()
    fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="ots")
    assert path.read_bytes() == before[0]
    other = fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="ots", seed=1)
    assert other.read_bytes() != before[0]
    clips = _folder(tmp_path / "other", 6)
    assert fixed_pairs.fixed_pairs(clips, "val", num_pairs=10, sampling="ots").name != path.name


def test_two_processes_may_make_it_at_once(tmp_path, monkeypatch):
    """The second one starts and ends while the first one writes."""
    folder, encode, paths = _folder(tmp_path), fixed_pairs._encode, []

    def encode_in_the_first(*arguments):
        monkeypatch.setattr(fixed_pairs, "_encode", encode)
        paths.append(fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="l3"))
        return encode(*arguments)

    monkeypatch.setattr(fixed_pairs, "_encode", encode_in_the_first)
    paths.append(fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="l3"))
    assert list(paths[0].parent.iterdir()) == [paths[0]] and paths[0] == paths[1]
    assert len(_read(paths[0])["corresponds"]) == 10


def test_who_is_stopped_leaves_nothing_half_written(tmp_path, monkeypatch):
    folder, encode, written = _folder(tmp_path), fixed_pairs._encode, []

    def stop_at_the_third(*arguments):
        written.append(encode(*arguments))
        if len(written) == 3:
            raise KeyboardInterrupt
        return written[-1]

    monkeypatch.setattr(fixed_pairs, "_encode", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="l3")
    assert list((folder / fixed_pairs.FOLDER).iterdir()) == []


@pytest.mark.parametrize(("num_pairs", "num_clips"), [(5, 3), (0, 3), (4, 1)])
def test_unusable_numbers_are_one_clear_line(tmp_path, num_pairs, num_clips):
    folder = _folder(tmp_path, num_clips)
    with pytest.raises(UserError, match="need an even number of pairs and at least 2 videos"):
        fixed_pairs.fixed_pairs(folder, "val", num_pairs=num_pairs, sampling="l3")


def test_all_networks_see_the_same_pairs(tmp_path):
    folder = _folder(tmp_path)
    settings = {"num_pairs": 12, "sampling": "ots"}
    plain = fixed_pairs.fixed_pairs(folder, "val", **settings)
    inputs = ("frames", "log_spectrogram")
    several = fixed_pairs.fixed_pairs(folder, "val", **settings, inputs=inputs)
    assert plain != several
    one, many = _read(plain), _read(several, inputs=inputs)
    assert many["images"].shape == (12, 25, 32, 32, 3) and "image" not in many
    np.testing.assert_array_equal(one["waveform"], many["waveform"])
    np.testing.assert_array_equal(one["corresponds"], many["corresponds"])
    np.testing.assert_array_equal(one["image"], many["images"][:, 12])


def test_labels_are_those_of_frame_and_sound(tmp_path):
    clips = [tiny_shards.make_clip(k, labels=(f"c{k}",), label_indices=(k,)) for k in range(1, 6)]
    tiny_shards.write_shards(tmp_path, clips, split="val")
    pairs = _read(fixed_pairs.fixed_pairs(tmp_path, "val", num_pairs=20, sampling="l3"))
    np.testing.assert_array_equal(
        pairs["frame_label"], np.round(pairs["image"].mean(axis=(1, 2, 3)) / 10)
    )
    np.testing.assert_array_equal(pairs["audio_label"], pairs["waveform"][:, 0] // 100)


def test_of_several_labels_the_first_counts(tmp_path):
    several = {"labels": ("b", "c", "a"), "label_indices": (1, 2, 0)}
    clips = [tiny_shards.make_clip(number, **several) for number in (1, 2)]
    tiny_shards.write_shards(tmp_path, clips, split="val")
    pairs = _read(fixed_pairs.fixed_pairs(tmp_path, "val", num_pairs=4, sampling="l3"))
    assert pairs["frame_label"].tolist() == pairs["audio_label"].tolist() == [1] * 4


def test_flow_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="holds no optical flow"):
        fixed_pairs.fixed_pairs(
            _folder(tmp_path), "val", num_pairs=4, sampling="l3", inputs=("frame", "flow")
        )
    assert not list(tmp_path.rglob("*.tfrecord"))


def test_evaluation_pairs_are_not_misaligned(tmp_path):
    """The frame is in the middle of its second, on the 25 Hz grid, unless asked otherwise."""
    clip = {
        "media_id": "a",
        "frame_times_us": list(range(0, 10_000_000, 40_000)),
        "num_samples": 480_000,
        "num_padding_frames": 0,
    }
    clips = [clip, {**clip, "media_id": "b"}]
    how = {"sampling": "ots", "misalignment_seconds": 0.0}
    for pair in fixed_pairs.draw_pairs(clips, 40, how, 0):
        middle = pair["start_sample"] + 24_000
        assert middle % 1920 == 0
        assert not pair["corresponds"] or middle == 1920 * pair["frame_index"]
    folder = _folder(tmp_path)
    plain = fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="ots")
    shift = {"misalignment_seconds": 0.5}
    shifted = fixed_pairs.fixed_pairs(folder, "val", num_pairs=10, sampling="ots", **shift)
    assert plain != shifted
