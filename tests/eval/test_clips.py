"""Frames and seconds of clips: what is drawn, what it depends on, and that features are kept."""

import csv

import numpy as np
import pytest

from eval.sets import clips
from l3net import constants
from l3net.errors import UserError
from l3net.inference import saved_model
from tests import tiny_shards
from tests.tiny_clips import read_items

NUM = 5
SEEN_AND_HEARD = (constants.FRAME, constants.LOG_SPECTROGRAM)
EVERYTHING = (constants.FRAME, constants.FRAMES, constants.FLOW, constants.LOG_SPECTROGRAM)


class Network:
    """Sees the mean of a picture and hears the mean of a sound; counts what it is given."""

    frame_px = 32

    def __init__(self, inputs=SEEN_AND_HEARD, name="a", sees_nan=False):
        self.metadata, self.inputs = {"name": name}, inputs
        self.num_asked, self.sees_nan = 0, sees_nan

    def features(self, signature, output):
        def run(batch):
            if isinstance(batch, dict):
                assert set(batch) == {saved_model.IMAGE, saved_model.FLOW}
                batch = batch[saved_model.FLOW]
            self.num_asked += len(batch)
            means = batch.reshape(len(batch), -1).mean(axis=1, dtype=np.float64)
            if self.sees_nan:
                means[:] = np.nan
            return np.stack([means, means**2], axis=1).astype(np.float32)

        assert signature in (saved_model.VISION, saved_model.AUDIO) and output == "pool4"
        return run


def _clip(number: int, *, flow: bool = False, **changes):
    labels = (f"c{number}",) if number % 2 else ()
    if flow:
        changes |= tiny_shards.flows_of((32, 36), level=100 + 10 * number)
    return tiny_shards.make_clip(number, labels=labels, **changes)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    made = [_clip(number) for number in range(1, NUM + 1)]
    tiny_shards.write_shards(folder, made, split="test", num_shards=2)
    return folder


def _read(folder, **changes):
    return read_items(folder, "test", **{"frame_px": 32, "seed": 0, **changes})


def test_every_clip_once_with_the_second_around_its_frame(shards):
    items = _read(shards)
    assert len(items) == NUM and sorted(items.example_ids) == [f"clip{k:04d}" for k in range(1, 6)]
    for place, example_id in enumerate(items.example_ids):
        number = int(example_id[-4:])
        assert abs(items.images[place].mean(dtype=np.float64) - 10 * number) < 2
        assert items.labels[place] == ((f"c{number}",) if number % 2 else ())
        sound = np.round(items.waveforms[place] * 32768).astype(int)
        time = items.times_seconds[place]
        assert 0.5 <= time <= 1.5 and time == pytest.approx(items.frame_indices[place] / 25)
        start = round(48000 * time) - 24000
        np.testing.assert_array_equal(sound, number * 100 + (start + np.arange(48000)) % 100)
    assert items.images.dtype == np.uint8 and items.images.shape == (NUM, 32, 32, 3)
    assert items.waveforms.dtype == np.float32 and items.frames is None and items.flow is None


def test_what_is_drawn_depends_on_seed_and_clip_alone(shards, tmp_path):
    items = _read(shards)
    np.testing.assert_array_equal(items.times_seconds, _read(shards).times_seconds)
    assert (items.times_seconds != _read(shards, seed=1).times_seconds).any()
    some = [_clip(number) for number in (4, 2)]  # others, in another order
    tiny_shards.write_shards(tmp_path, some, split="test")
    again = _read(tmp_path, frame_px=48)
    times = dict(zip(items.example_ids, items.times_seconds, strict=True))
    assert again.times_seconds.tolist() == [times["clip0004"], times["clip0002"]]


def test_frames_are_drawn_from_all_of_the_clip_but_for_its_ends(shards):
    items = _read(shards, num_per_clip=60)
    assert len(items) == 60 * NUM and items.example_ids[:60] == (items.example_ids[0],) * 60
    drawn = set(items.frame_indices)
    assert min(drawn) == 13 and max(drawn) == 37 and len(drawn) == 25


def test_blocks_bound_memory_and_end_where_asked(shards, monkeypatch):
    everything = _read(shards, num_per_clip=3)
    monkeypatch.setattr(clips, "BLOCK_ITEMS", 4)
    given = {"frame_px": 32, "seed": 0, "num_per_clip": 3}
    blocks = list(clips.read_blocks(shards, "test", max_clips=3, **given))
    assert [len(block) for block in blocks] == [4, 4, 1]
    times = np.concatenate([block.times_seconds for block in blocks])
    np.testing.assert_array_equal(times, everything.times_seconds[:9])
    np.testing.assert_array_equal(blocks[1].images, everything.part(slice(4, 8)).images)
    joined = _read(shards, num_per_clip=3)
    assert joined.example_ids == everything.example_ids and joined.labels == everything.labels
    np.testing.assert_array_equal(joined.waveforms, everything.waveforms)


def test_frames_and_flow_for_those_who_ask_and_sound_for_audio(tmp_path):
    made = [_clip(number, flow=True) for number in (1, 3)]
    tiny_shards.write_shards(tmp_path, made, split="test")
    items = _read(tmp_path, inputs=EVERYTHING)
    assert items.frames.shape == (2, 25, 32, 32, 3) and items.frames.dtype == np.uint8
    assert items.flow.shape == (2, 32, 32, 20) and items.flow.dtype == np.float32
    np.testing.assert_allclose(items.flow.mean(axis=(1, 2, 3)), [-18 / 127, 2 / 127], atol=0.01)
    np.testing.assert_array_equal(items.frames[:, 12], items.images)
    model = Network(inputs=(constants.FRAME, constants.FLOW, constants.LOG_SPECTROGRAM))
    seen = clips.embed(model, items, saved_model.VISION, "pool4", cache_dir=tmp_path / "cache")
    heard = clips.embed(model, items, saved_model.AUDIO, "pool4", cache_dir=tmp_path / "cache")
    np.testing.assert_allclose(seen[:, 0], items.flow.mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(heard[:, 0], items.waveforms.mean(axis=1), rtol=1e-4)


def test_errors_are_one_line(shards, tmp_path):
    with pytest.raises(UserError, match="no shards of split 'val'"):
        read_items(shards, "val", frame_px=32, seed=0)
    with pytest.raises(UserError, match="holds no optical flow"):
        _read(shards, inputs=EVERYTHING)
    tiny_shards.write_shards(tmp_path, [_clip(1, seconds=0.5)], split="test")
    with pytest.raises(UserError, match="clip0001 has 0.50 s of sound; need 1 s"):
        _read(tmp_path)


def test_a_network_that_takes_flow_gets_the_folder_with_flow():
    plain, flow = Network(), Network(inputs=(constants.FRAME, constants.FLOW))
    assert clips.folder_for(plain, "a", None) == clips.folder_for(plain, "a", "b") == "a"
    assert clips.folder_for(flow, "a", "b") == "b"
    with pytest.raises(UserError, match="^a network takes optical flow; give --flow_shards$"):
        clips.folder_for(flow, "a", None)


def test_truth_of_the_demo_data(tmp_path):
    path = tmp_path / "clips.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["example_id", "label", "heard_label"], ["x", "Harp", "Drill"]])
    truth = clips.read_truth(path)
    assert truth == {saved_model.VISION: {"x": "Harp"}, saved_model.AUDIO: {"x": "Drill"}}
    path.write_text("example_id,label\nx,Harp\n")
    with pytest.raises(UserError, match="need a CSV with the columns example_id, heard_label"):
        clips.read_truth(path)
    path.write_text("example_id,label,heard_label,label\nx,Harp,Drill,Drum\n")
    with pytest.raises(UserError, match="label but once"):
        clips.read_truth(path)
    with pytest.raises(UserError, match="cannot read"):
        clips.read_truth(tmp_path / "nothing.csv")


# --- Features ------------------------------------------------------------------------------------
def test_features_are_finite_and_computed_once_per_network(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "BLOCK_ITEMS", 2)
    items, model = _read(shards), Network()

    def embed(network, wanted=items):
        return clips.embed(network, wanted, saved_model.VISION, "pool4", cache_dir=tmp_path)

    first = embed(model)
    means = items.images.mean(axis=(1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(first[:, 0], means, rtol=1e-6)
    assert model.num_asked == NUM
    np.testing.assert_array_equal(embed(model), first)
    assert model.num_asked == NUM  # nothing computed twice
    other = Network(name="b")
    embed(other)
    assert other.num_asked == NUM  # another network shares nothing
    shifted = items.part(slice(0, 2))
    shifted.images[0] += 1
    embed(model, shifted)
    assert model.num_asked == NUM + 2
    with pytest.raises(UserError, match="not finite; did the training diverge"):
        embed(Network(name="diverged", sees_nan=True))


def test_features_come_in_the_order_of_their_ids(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "BLOCK_ITEMS", 2)
    outputs = {saved_model.VISION: "pool4", saved_model.AUDIO: "pool4"}
    extracted = clips.extract_features(
        Network(), shards, "test", outputs, seed=0, cache_dir=tmp_path, num_per_clip=2
    )
    expected = [f"clip{k:04d}" for k in range(1, NUM + 1) for _ in range(2)]
    assert list(extracted.example_ids) == expected
    grey = extracted.features[saved_model.VISION][:, 0]
    np.testing.assert_allclose(grey, np.repeat(10 * np.arange(1, NUM + 1), 2), atol=2)
    assert extracted.labels[0] == ("c1",) and len(extracted.features[saved_model.AUDIO]) == 2 * NUM
