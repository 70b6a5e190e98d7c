import dataclasses
import hashlib
import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import l3net
from l3net import constants
from l3net.data import avc_pairs, input_pipeline, schema
from l3net.data.shards import Shard
from l3net.errors import UserError
from tests import tiny_shards


def _shards(folder, num_clips=10, num_shards=3, **changes) -> list[Shard]:
    clips = [tiny_shards.make_clip(k, **changes) for k in range(1, num_clips + 1)]
    return tiny_shards.write_shards(folder, clips, num_shards=num_shards)


def _config(**changes) -> input_pipeline.PipelineConfig:
    settings = {"batch_size": 8, "pairs_per_clip": 4, "shuffle_pairs": 12, "frame_px": 32}
    return input_pipeline.PipelineConfig(**{**settings, **changes})


def _batches(shards, config, count, start_step=0):
    dataset = input_pipeline.training_batches(shards, config, start_step=start_step)
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def _frame_clip(batch):
    """The clip each frame was cut from: its grey level / 10."""
    return np.round(batch["image"].mean(axis=(1, 2, 3)) / 10).astype(int)


def _sound_clip(batch):
    return batch["waveform"][:, 0] // 100


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
@pytest.mark.parametrize(
    ("sampling", "start_us"), [("l3", 0), ("ots", 0), ("naive", 0), ("ots", 7_123_456)]
)
def test_labels_are_true_and_balanced(tmp_path, sampling, start_us, pairs_per_clip):
    shards = _shards(tmp_path, start_us=start_us)
    config = _config(sampling=sampling, pairs_per_clip=pairs_per_clip)
    for batch in _batches(shards, config, 12):
        same = _frame_clip(batch) == _sound_clip(batch)
        np.testing.assert_array_equal(batch["corresponds"], same.astype(int))
        np.testing.assert_array_equal(batch["corresponds"], [1, 0] * 4)


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
@pytest.mark.parametrize("sampling", ["l3", "ots", "naive"])
def test_paired_negatives_give_each_clip_once(tmp_path, sampling, pairs_per_clip):
    config = _config(
        sampling=sampling, pairs_per_clip=pairs_per_clip, paired_negatives=3, batch_size=16
    )
    for batch in _batches(_shards(tmp_path), config, 6):
        assert len(batch["image"]) == len(batch["draws"]) == 8
        sounds = np.split(_sound_clip(batch), 2 if sampling == "naive" else 1)
        for of_clips in sounds:  # the clips of the matches, in "naive" then of the mismatches
            np.testing.assert_array_equal(of_clips, _frame_clip(batch))
        if sampling == "naive":
            matching, others = np.split(batch["waveform"], 2)
            assert not (matching[:, 0] == others[:, 0]).all()
        frame = avc_pairs.frames_of_pairs(tf.constant(sounds[0]), 3).numpy()
        sound = avc_pairs.sounds_of_pairs(tf.constant(sounds[0]), 3).numpy()
        np.testing.assert_array_equal(batch["corresponds"], (frame == sound).astype(int))
        prepared = input_pipeline.prepare_batch(
            {name: tf.constant(value) for name, value in batch.items()}, spectrogram_settings={}
        )
        assert len(prepared["log_spectrogram"]) == len(batch["waveform"])


def test_paired_negatives_are_for_pairs(tmp_path):
    with pytest.raises(UserError, match="learns labels: give --paired_negatives=0"):
        _batches(_shards(tmp_path), _config(paired_negatives=3, labels=True), 1)


def test_a_step_with_paired_negatives_takes_half_as_many_clips(tmp_path):
    shards = _shards(tmp_path)
    config = _config(pairs_per_clip=1, paired_negatives=1, batch_size=10)
    assert config.clips_per_batch == 5
    frames = np.concatenate([_frame_clip(batch) for batch in _batches(shards, config, 2)])
    assert np.bincount(frames)[1:].tolist() == [1] * 10
    resumed = input_pipeline.training_batches(shards, config, start_step=1).take(1)
    np.testing.assert_array_equal(
        next(resumed.as_numpy_iterator())["image"], _batches(shards, config, 2)[1]["image"]
    )


def test_batch_shapes_and_types(tmp_path):
    batches = _batches(_shards(tmp_path), _config(), 4)
    described = {name: (value.dtype.name, value.shape) for name, value in batches[0].items()}
    assert described == {
        "image": ("uint8", (8, 32, 32, 3)),
        "waveform": ("int16", (8, 48_000)),
        "corresponds": ("int32", (8,)),
        "draws": ("float32", (8, 7)),
    }
    for batch in batches:  # each second of sound is one piece
        steps = np.diff(batch["waveform"].astype(int) % 100, axis=1)
        assert set(np.unique(steps)) <= {1, -99}


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_an_epoch_draws_every_clip_equally_often(tmp_path, pairs_per_clip):
    shards = _shards(tmp_path)
    config = _config(pairs_per_clip=pairs_per_clip, batch_size=10)
    batches = _batches(shards, config, pairs_per_clip)
    frames = np.concatenate([_frame_clip(batch) for batch in batches])
    assert np.bincount(frames)[1:].tolist() == [pairs_per_clip] * 10


def test_a_batch_holds_as_many_videos_as_independent_draws_would(tmp_path):
    """The papers' way. Eight pairs per clip read, for comparison, give fewer."""
    clips = [
        tiny_shards.make_clip(1, seconds=1.0, media_id=f"v{k}", labels=("l",), label_indices=(k,))
        for k in range(160)
    ]
    shards = tiny_shards.write_shards(tmp_path, clips, num_shards=8)
    paper = {"pairs_per_clip": 1, "sampling": "ots"}
    small = {"pairs_per_clip": 8, "shuffle_pairs": 64}
    counts = {}
    for name, changes in (("papers", paper), ("small", small)):
        config = _config(batch_size=64, labels=True, inputs=("frame",), **changes)
        batches = _batches(shards, config, 5)
        counts[name] = [len(set(batch["frame_label"])) for batch in batches]
    independent = 160 * (1 - (1 - 1 / 160) ** 64)  # 52.9
    assert min(counts["papers"]) >= independent > max(counts["small"])


def test_flagfiles_draw_single_pairs():
    folder = pathlib.Path(l3net.__file__).parent / "configs"

    def settings(name):
        lines = (folder / name).read_text().splitlines()
        for flag in (line for line in lines if line.startswith("--")):
            key, _, value = flag.partition("=")
            yield from settings(pathlib.Path(value).name) if key == "--flagfile" else [(key, value)]

    for path in folder.glob("*.flags"):
        assert dict(settings(path.name))["--pairs_per_clip"] == "1", path.name


def test_the_order_of_single_pairs_is_no_order_of_the_shards(tmp_path):
    clips = [
        tiny_shards.make_clip(1, seconds=1.0, media_id=f"v{k}", labels=("l",), label_indices=(k,))
        for k in range(64)
    ]
    shards = tiny_shards.write_shards(tmp_path, clips, num_shards=4)
    config = _config(batch_size=64, pairs_per_clip=1, labels=True, inputs=("frame",))
    first, second = (batch["frame_label"] for batch in _batches(shards, config, 2))
    assert sorted(first) == sorted(second) == list(range(64))
    for order in (first, second):
        assert np.mean(np.diff(order) == 1) < 0.1 and np.mean(np.diff(order) == 4) < 0.1
    assert np.mean(first == second) < 0.1


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_epochs_differ_and_seeds_differ(tmp_path, pairs_per_clip):
    shards = _shards(tmp_path)
    config = _config(pairs_per_clip=pairs_per_clip)
    batches = _batches(shards, config, 10)
    assert not np.array_equal(batches[0]["draws"], batches[5]["draws"])
    other = _batches(shards, dataclasses.replace(config, seed=1), 1)[0]
    assert not np.array_equal(batches[0]["draws"], other["draws"])
    again = _batches(shards, config, 1)[0]
    np.testing.assert_array_equal(batches[0]["image"], again["image"])


@pytest.mark.parametrize(("pairs_per_clip", "shuffle_pairs"), [(4, 2), (4, 12), (4, 1000), (1, 2)])
def test_a_resumed_stream_is_the_unbroken_one(tmp_path, pairs_per_clip, shuffle_pairs):
    """Rounds of one, two or all shards; starts within rounds and epochs and at their borders."""
    shards = _shards(tmp_path, num_clips=11, num_shards=4)
    settings = {"shuffle_pairs": shuffle_pairs, "pairs_per_clip": pairs_per_clip}
    config = _config(batch_size=6, **settings)
    unbroken = _batches(shards, config, 24)
    for start in (1, 8, 22):
        for expected, got in zip(
            unbroken[start:], _batches(shards, config, 2, start), strict=False
        ):
            for name, value in expected.items():
                np.testing.assert_array_equal(value, got[name])


@pytest.mark.parametrize(
    ("digest", "changes"),
    [
        ("36036d4de2e53af9", {"shuffle_pairs": 2048}),
        ("fb8983599341d3cc", {"shuffle_pairs": 8, "sampling": "ots", "seed": 3}),
    ],
)
def test_the_stream_of_several_pairs_per_clip_is_the_one_it_was(tmp_path, digest, changes):
    """Runs with the small flagfiles, begun earlier, go on with the pairs that they would have."""
    tf.random.set_seed(None)  # other tests set one, which enters the shuffling
    shards = _shards(tmp_path, num_clips=20, num_shards=5)
    config = _config(batch_size=16, pairs_per_clip=8, **changes)
    got = hashlib.sha256()
    for batch in _batches(shards, config, 12, 1):
        for name in ("corresponds", "draws", "waveform"):
            got.update(np.ascontiguousarray(batch[name]).tobytes())
        got.update(_frame_clip(batch).astype("<i4").tobytes())
    assert got.hexdigest()[:16] == digest


def test_a_global_seed_of_zero_is_refused_clearly(tmp_path):
    """TensorFlow itself cannot shuffle by a tensor's seed then."""
    shards = _shards(tmp_path)
    try:
        tf.random.set_seed(0)
        with pytest.raises(UserError, match="tf.random.set_seed"):
            input_pipeline.training_batches(shards, _config())
    finally:
        tf.random.set_seed(1)


def test_padding_frames_are_never_drawn(tmp_path):
    black = tiny_shards.encode_jpeg(np.zeros((64, 72, 3), np.uint8))
    frames = (black,) * 30 + tiny_shards.make_clip(20).frames[30:]
    clips = [
        tiny_shards.make_clip(number, frames=frames, num_padding_frames=30) for number in (1, 2)
    ]
    shards = tiny_shards.write_shards(tmp_path, clips)
    for sampling, pairs_per_clip in itertools.product(("l3", "ots"), (1, 4)):
        config = _config(sampling=sampling, pairs_per_clip=pairs_per_clip)
        for batch in _batches(shards, config, 3):
            assert batch["image"].min() > 100


@pytest.mark.parametrize(
    ("config", "num_clips", "message"),
    [
        ({"batch_size": 7}, 4, "--global_batch_size=7: need an even number"),
        ({"sampling": "x"}, 4, "--sampling=x: need one of l3, ots, naive"),
        ({}, 1, r"hold 1 video\(s\); negative pairs need at least 2"),
    ],
)
def test_unusable_settings_are_one_clear_line(tmp_path, config, num_clips, message):
    shards = _shards(tmp_path, num_clips=num_clips, num_shards=1)
    with pytest.raises(UserError, match=message):
        input_pipeline.training_batches(shards, _config(**config))


def test_prepare_batch_with_and_without_jitter(tmp_path):
    batch = _batches(_shards(tmp_path), _config(), 1)[0]
    settings = {"pad_end": True, "average": 2}
    plain = {key: value for key, value in batch.items() if key != "draws"}
    jittered = input_pipeline.prepare_batch(batch, spectrogram_settings=settings)
    unjittered = input_pipeline.prepare_batch(plain, spectrogram_settings=settings)
    for inputs in (jittered, unjittered):
        assert inputs["frame"].shape == (8, 32, 32, 3)
        assert inputs["log_spectrogram"].shape == (8, 129, 100, 1)
    np.testing.assert_allclose(unjittered["frame"], batch["image"] / 127.5 - 1, atol=1e-5)
    assert np.abs(jittered["frame"] - unjittered["frame"]).max() > 0.01


def _flow_clip(number, **changes):
    """Flow k of a clip has level 70 + k in x and 200 - k in y."""
    levels = (np.repeat([70 + k, 200 - k], 64)[:, None] * np.ones((1, 72)) for k in range(49))
    flows = tuple(tiny_shards.encode_grey_jpeg(level) for level in levels)
    flow = {"flows": flows, "flow_scale_px": 0.1, "flow_height_px": 64, "flow_width_px": 72}
    return tiny_shards.make_clip(number, **flow, **changes)


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_batches_hold_what_the_network_takes_and_no_more(tmp_path, pairs_per_clip):
    clips = [_flow_clip(number, labels=("a",), label_indices=(3,)) for number in (1, 2)]
    shards = tiny_shards.write_shards(tmp_path, clips)
    always = {"corresponds", "draws"}
    shapes = {
        "frame": {"image": (8, 32, 32, 3)},
        "frames": {"images": (8, 25, 32, 32, 3)},
        "flow": {"flow": (8, 32, 32, 20)},
        "log_spectrogram": {"waveform": (8, 48_000)},
    }
    for name, expected in shapes.items():
        config = _config(inputs=(name,), pairs_per_clip=pairs_per_clip)
        batch = _batches(shards, config, 1)[0]
        assert set(batch) == always | set(expected), name
        for key, shape in expected.items():
            assert batch[key].shape == shape
        prepared = input_pipeline.prepare_batch(batch, spectrogram_settings={})
        assert set(prepared) == {name}


def test_labels_travel_only_when_asked_for_and_belong_to_frame_and_sound(tmp_path):
    clips = [
        tiny_shards.make_clip(number, labels=(f"c{number}",), label_indices=(number + 10,))
        for number in range(1, 9)
    ]
    shards = tiny_shards.write_shards(tmp_path, clips, num_shards=2)
    assert not {"frame_label", "audio_label"} & set(_batches(shards, _config(), 1)[0])
    batches = _batches(shards, _config(labels=True), 4)
    for batch in [*batches, *_batches(shards, _config(labels=True, pairs_per_clip=1), 4)]:
        np.testing.assert_array_equal(batch["frame_label"], _frame_clip(batch) + 10)
        np.testing.assert_array_equal(batch["audio_label"], _sound_clip(batch) + 10)


def test_of_several_labels_the_first_counts(tmp_path):
    several = {"labels": ("b", "c", "a"), "label_indices": (1, 2, 0)}  # not the least, nor the last
    for batch in _batches(_shards(tmp_path, 4, 1, **several), _config(labels=True), 2):
        np.testing.assert_array_equal(batch["frame_label"], [1] * 8)
        np.testing.assert_array_equal(batch["audio_label"], [1] * 8)


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_a_clip_without_label_stops_supervised_training(tmp_path, pairs_per_clip):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a clip of the shards has no label"):
        _batches(_shards(tmp_path), _config(labels=True, pairs_per_clip=pairs_per_clip), 1)


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_the_pairs_are_the_same_whatever_is_seen_of_them(tmp_path, pairs_per_clip):
    clips = [_flow_clip(number) for number in range(1, 6)]
    shards = tiny_shards.write_shards(tmp_path, clips)
    config = _config(pairs_per_clip=pairs_per_clip)
    plain = _batches(shards, config, 2)[1]
    more = dataclasses.replace(config, inputs=("frames", "flow", "log_spectrogram"))
    more = _batches(shards, more, 2)[1]
    for name in ("waveform", "corresponds", "draws"):
        np.testing.assert_array_equal(plain[name], more[name])
    clip_of_frames = np.round(more["images"].mean(axis=(1, 2, 3, 4)) / 10)
    np.testing.assert_array_equal(clip_of_frames, _frame_clip(plain))


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_flow_is_of_ten_neighbouring_frames(tmp_path, pairs_per_clip):
    shards = tiny_shards.write_shards(tmp_path, [_flow_clip(1), _flow_clip(2)])
    config = _config(inputs=("flow",), sampling="ots", pairs_per_clip=pairs_per_clip)
    flow = _batches(shards, config, 1)[0]["flow"]
    levels = flow.astype(float).mean(axis=(1, 2))
    x, y = levels[:, 0::2], levels[:, 1::2]
    # Mirrored ones point the other way: 256 - level.
    first = np.where(x[:, 0] > 128, 256 - x[:, 0], x[:, 0])
    straight = np.where((x[:, 0] > 128)[:, None], 256 - x, x)
    np.testing.assert_allclose(np.diff(straight, axis=1), 1.0, atol=0.6)
    np.testing.assert_allclose(np.diff(y, axis=1), -1.0, atol=0.6)
    np.testing.assert_allclose(y[:, 0], 270 - first, atol=2)


def test_shards_without_flow_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match="holds no optical flow.*--flow_smallest_side_px"):
        input_pipeline.training_batches(_shards(tmp_path), _config(inputs=("frame", "flow")))


@pytest.mark.parametrize("taken", [constants.FRAMES, constants.FLOW])
def test_many_frames_need_the_papers_rate(tmp_path, taken):
    shards = _shards(tmp_path)
    stored = dataclasses.replace(schema.read_format(shards[0].path), has_flow=True)
    input_pipeline.check_pictures(shards, stored, (taken,))
    slow = dataclasses.replace(stored, frame_rate_hz=5.0)
    input_pipeline.check_pictures(shards, slow, (constants.FRAME,))
    with pytest.raises(UserError, match="5 frames a second.*need 25.*without --fps"):
        input_pipeline.check_pictures(shards, slow, (taken,))
