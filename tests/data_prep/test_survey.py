import math
import tracemalloc

import numpy as np
import pytest

from data_prep.shards import clip_records
from data_prep.survey.counts import EXAMPLES_PER_REASON, survey_folder
from data_prep.survey.loudness import Histogram, Sound, peak_dbfs, rms_dbfs
from data_prep.survey.sample import Sampling, sample_clip
from l3net.data import schema
from l3net.data.clip import AUDIO_ENCODINGS
from l3net.data.markers import OUTCOMES_FILE, PREP_FILE, marker_path
from l3net.errors import UserError
from l3net.media.sound import MAX_SILENCE
from tests.tiny_folders import change_marker, flip_byte, write_folder
from tests.tiny_shards import make_clip

SHARD = "synthetic-train-00000-of-00002"
FAILURES = [
    dict(zip(("example_id", "split", "outcome", "reason", "detail"), row, strict=True))
    for row in (
        ("a.mp4", "train", "failed", "decode", "why"),
        ("b.mp4", "train", "skipped", "no_audio", "why"),
        ("c.mp4", "test", "skipped", "no_audio", "why"),
    )
]


@pytest.fixture
def folder(tmp_path):
    clips = {
        "test": [make_clip(1, labels=("Dog",), label_indices=(1,))],
        "train": [
            make_clip(2, seconds=1.0, labels=("Cat", "Dog"), label_indices=(0, 1)),
            make_clip(3, seconds=4.0, size_px=(72, 64)),
            make_clip(4, seconds=4.0, labels=("Dog",), label_indices=(1,)),
        ],
    }
    return write_folder(tmp_path / "shards", clips, others=FAILURES, num_shards=2)


def sampled(folder, **settings) -> list[str]:
    return [clip.example_id for clip in survey_folder(folder, Sampling(**settings)).sample]


# --- Counts --------------------------------------------------------------------------------------
def test_counts_of_a_finished_folder(folder):
    survey = survey_folder(folder, Sampling(num_clips=0))
    assert survey.is_finished
    assert (survey.num_rows, survey.num_clips, survey.num_clips_read) == (7, 4, 4)
    train, test = survey.splits["train"], survey.splits["test"]
    assert train.reasons == {("ok", ""): 3, ("failed", "decode"): 1, ("skipped", "no_audio"): 1}
    assert test.reasons == {("ok", ""): 1, ("skipped", "no_audio"): 1}
    assert [test.num(outcome) for outcome in clip_records.OUTCOMES] == [1, 1, 0]
    assert (train.seconds, test.seconds) == (9.0, 2.0)
    shards = [path for path in folder.glob("synthetic-train-*") if path.suffix != ".json"]
    assert train.num_bytes == sum(path.stat().st_size for path in shards)
    assert survey.duration_range_seconds == (1.0, 4.0)
    durations = survey.durations_seconds
    counts = dict(zip(durations.edges, durations.counts, strict=False))
    assert {edge: n for edge, n in counts.items() if n} == {1.0: 1, 2.0: 1, 4.0: 2}
    # Rows that gave no clip.
    examples = survey.examples
    assert [row["path"] for row in examples["skipped", "no_audio"]] == ["c.mp4", "b.mp4"]
    assert [row["detail"] for row in examples["failed", "decode"]] == ["why"]


def test_what_is_read_from_the_records(folder):
    survey = survey_folder(folder, Sampling(num_clips=0))
    assert survey.labels == {"Dog": {"train": 2, "test": 1}, "Cat": {"train": 1}}
    assert survey.label_rows == {"Dog": 3, "Cat": 1}
    assert survey.num_unlabelled == 1
    assert survey.frame_sizes_px == {(72, 64): 3, (64, 72): 1}
    jpeg = len(make_clip(3, size_px=(72, 64)).frames[0])
    assert survey.num_frame_bytes == pytest.approx(275 * jpeg, rel=0.1)
    assert survey.num_flow_bytes == 0
    assert survey.num_bytes_read == sum(split.num_bytes for split in survey.splits.values())


def test_flow_is_weighed(tmp_path):
    flow = {"flows": (b"12345",) * 24, "flow_scale_px": 1.0}
    flow |= {"flow_height_px": 4, "flow_width_px": 4}
    clips = [make_clip(1, seconds=1.0, **settings) for settings in (flow, {})]
    folder = write_folder(tmp_path, {"train": clips})
    assert survey_folder(folder, Sampling(num_clips=0)).num_flow_bytes == 24 * 5


def test_only_the_first_rows_of_a_reason_are_kept(tmp_path):
    others = [{**FAILURES[0], "example_id": f"{index}.mp4"} for index in range(50)]
    folder = write_folder(tmp_path, {"train": [make_clip(1)]}, others=others)
    survey = survey_folder(folder, Sampling(num_clips=0))
    assert survey.splits["train"].num("failed") == 50
    assert len(survey.examples["failed", "decode"]) == EXAMPLES_PER_REASON


def test_histogram_bins():
    histogram = Histogram(np.array([0.0, 1.0, 2.0]))
    for value in (-5, 0, 0.99, 1, 2, 3):
        histogram.add(value)
    assert histogram.counts.tolist() == [3, 3]


# --- Sound ---------------------------------------------------------------------------------------
def sine(amplitude: float) -> np.ndarray:
    return np.round(amplitude * np.sin(2 * np.pi * 440 / 48_000 * np.arange(48_000)))


@pytest.mark.parametrize(
    ("waveform", "rms", "peak"),
    [
        (np.tile([-32768, -32768], 100), 0.0, 0.0),
        (np.tile([16384, -16384], 100), -6.02, -6.02),
        (sine(32767), -3.01, 0.0),
        (sine(3276.8), -23.01, -20.0),
        (np.array([0, 0, 0, -1]), -96.33, -90.31),
        (np.zeros(100), -math.inf, -math.inf),
        (np.zeros(0), -math.inf, -math.inf),
    ],
)
def test_levels(waveform, rms, peak):
    waveform = waveform.astype(np.int16)
    assert rms_dbfs(waveform) == pytest.approx(rms, abs=0.01)
    assert peak_dbfs(waveform) == pytest.approx(peak, abs=0.01)


def sound_of(tmp_path, *waveforms) -> Sound:
    clips = [
        make_clip(index, seconds=len(waveform) / 48_000, waveform=waveform.astype(np.int16))
        for index, waveform in enumerate(waveforms)
    ]
    return survey_folder(write_folder(tmp_path, {"train": clips}), Sampling(num_clips=0)).sound


def test_silence_is_counted_by_clip_and_by_second(tmp_path):
    one_second = np.full(48_000, MAX_SILENCE + 1)
    silent, half = np.full(96_000, -MAX_SILENCE), np.concatenate([one_second, np.zeros(72_000)])
    sound = sound_of(tmp_path, silent, half, one_second)
    assert (sound.num_silent, sound.num_silent_seconds, sound.num_seconds) == (1, 3, 5)
    assert sound.rms_dbfs.counts.sum() == sound.peak_dbfs.counts.sum() == 2


def test_the_first_silent_clips_are_named(tmp_path):
    clips = [
        make_clip(k, seconds=1.0, waveform=np.full(48_000, 9 * (k == 3), np.int16))
        for k in range(EXAMPLES_PER_REASON + 5)
    ]
    survey = survey_folder(write_folder(tmp_path, {"train": clips}), Sampling(num_clips=0))
    assert survey.sound.num_silent == EXAMPLES_PER_REASON + 4
    assert len(survey.silent_clips) == EXAMPLES_PER_REASON
    assert clips[3].example_id not in survey.silent_clips


def test_clips_fall_into_the_bin_of_their_level(tmp_path):
    sound = sound_of(tmp_path, sine(32767), sine(3276.8))
    edges = sound.rms_dbfs.edges
    assert edges[:-1][sound.rms_dbfs.counts > 0].tolist() == [-24, -4]
    assert edges[:-1][sound.peak_dbfs.counts > 0].tolist() == [-20, -2]


def with_run(*levels: int) -> np.ndarray:
    waveform = sine(1000)
    waveform[100 : 100 + len(levels)] = levels
    return waveform


@pytest.mark.parametrize(
    ("waveform", "full_scale", "clipped"),
    [
        (sine(32766), 0, 0),
        (with_run(32767, 32767), 1, 0),
        (with_run(32767, 32767, 32767), 1, 1),
        (with_run(-32768, -32768, -32768), 1, 1),
        (with_run(32767, -32768, 32767, -32768), 1, 0),
        (with_run(32767, 0, 32767, 32767), 1, 0),
        (np.full(48_000, 32767), 1, 1),
    ],
)
def test_full_scale_and_clipping(tmp_path, waveform, full_scale, clipped):
    sound = sound_of(tmp_path, waveform)
    assert (sound.num_full_scale, sound.num_clipped) == (full_scale, clipped)


@pytest.mark.parametrize("encoding", AUDIO_ENCODINGS)
def test_every_encoding_of_sound_is_read(tmp_path, encoding):
    clips = [make_clip(1, waveform=with_run(32767), seconds=1.0, audio_encoding=encoding)]
    clips[0] = schema.Clip(**{**vars(clips[0]), "waveform": with_run(32767).astype(np.int16)})
    survey = survey_folder(write_folder(tmp_path, {"train": clips}), Sampling(num_clips=1))
    assert survey.sound.num_full_scale == 1
    np.testing.assert_array_equal(survey.sample[0].waveform, clips[0].waveform)


# --- The sample ----------------------------------------------------------------------------------
@pytest.mark.parametrize("draw", [0.0, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("start_us", [0, 7_340_000])
def test_a_sample_is_a_frame_and_the_second_around_it(draw, start_us):
    frames = tuple(b"%d" % index for index in range(75))
    waveform = np.arange(-72_000, 72_000).astype(np.int16)
    settings = {"start_us": start_us, "num_padding_frames": 10}
    clip = make_clip(1, seconds=3.0, frames=frames, waveform=waveform, **settings)
    shown = sample_clip(clip, "train", draw)
    index = int(shown.frame)
    assert index == 10 + int(draw * 65)
    assert shown.frame_seconds == pytest.approx(index / 25)
    assert shown.sound_start_seconds == pytest.approx(np.clip(index / 25 - 0.5, 0, 2))
    first = round(shown.sound_start_seconds * 48_000)
    np.testing.assert_array_equal(shown.waveform, clip.waveform[first : first + 48_000])


def test_a_clip_without_a_second_of_sound_is_refused():
    with pytest.raises(UserError, match="clip clip0001 has 24000 samples of sound; need a second"):
        sample_clip(make_clip(1, seconds=0.5), "train", 0.5)


def test_the_sample_is_drawn_by_seed_over_all_shards(tmp_path):
    members = {
        "test": [make_clip(index, seconds=1.0) for index in range(8)],
        "train": [make_clip(index, seconds=1.0) for index in range(8, 24)],
    }
    folder = write_folder(tmp_path, members, num_shards=2)
    everything = sampled(folder, num_clips=1000)
    assert sorted(everything) == [f"clip{index:04d}" for index in range(24)]
    first = sampled(folder, num_clips=3, seed=0)
    assert len(set(first)) == 3
    assert first == sampled(folder, num_clips=3, seed=0)
    draws = [sampled(folder, num_clips=3, seed=seed) for seed in range(6)]
    assert len({tuple(draw) for draw in draws}) > 3
    splits = {clip.split for clip in survey_folder(folder, Sampling(num_clips=12)).sample}
    assert splits == {"test", "train"}
    assert sampled(folder, num_clips=0) == []


def test_max_clips_reads_some_shards_and_counts_all(tmp_path):
    clips = [make_clip(index, seconds=1.0) for index in range(9)]
    folder = write_folder(tmp_path, {"train": clips}, num_shards=4)
    survey = survey_folder(folder, Sampling(num_clips=9, max_clips=4, seed=1))
    assert (survey.num_shards_read, survey.num_shards_with_clips) == (2, 4)
    assert survey.num_clips == 9
    assert len(survey.sample) == survey.num_clips_read == survey.sound.rms_dbfs.counts.sum() < 9
    others = {tuple(sampled(folder, num_clips=9, max_clips=4, seed=seed)) for seed in range(5)}
    assert len(others) > 1
    assert survey_folder(folder, Sampling(num_clips=0, max_clips=9)).num_clips_read == 9


def test_one_clip_is_in_memory_at_a_time(tmp_path):
    clips = [make_clip(index, seconds=5.0) for index in range(24)]
    folder = write_folder(tmp_path, {"train": clips}, num_shards=2)
    everything = sum(clip.waveform.nbytes for clip in clips)
    del clips
    survey_folder(folder, Sampling(num_clips=1))  # imports and caches
    tracemalloc.start()
    survey_folder(folder, Sampling(num_clips=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < everything / 2


# --- Unfinished folders --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: marker_path(folder / SHARD).unlink(),
        lambda folder: change_marker(folder, SHARD, config_hash="other"),
        lambda folder: (folder / SHARD).unlink(),
    ],
    ids=["no marker", "other configuration", "no shard"],
)
def test_an_unfinished_shard_is_left_out(folder, harm):
    harm(folder)
    survey = survey_folder(folder, Sampling(num_clips=9))
    assert not survey.is_finished
    assert (survey.splits["train"].num_finished_shards, survey.splits["train"].num_shards) == (1, 2)
    assert survey.splits["train"].reasons == {("ok", ""): 1}
    assert [clip.example_id for clip in survey.sample] == ["clip0001", "clip0003"]
    assert survey.num_rows == 7


def test_a_folder_without_outcomes_is_unfinished(folder):
    (folder / OUTCOMES_FILE).unlink()
    survey = survey_folder(folder, Sampling(num_clips=0))
    assert not survey.is_finished
    assert survey.num_clips == 4


# --- Errors --------------------------------------------------------------------------------------
def refusal(folder, words) -> str:
    with pytest.raises(UserError, match=words) as caught:
        survey_folder(folder, Sampling(num_clips=1))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((PREP_FILE, text) for text in (None, "{", '{"config_hash": "x", "config": []}')),
        *(("manifest.csv", text) for text in (None, "a,b\n1,2\n")),
    ],
)
def test_no_prepared_folder(folder, name, content):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    assert "\n" not in refusal(
        folder, "(is no folder of shards|prep.json is damaged) .*write_shards"
    )


def test_a_missing_folder_and_one_without_clips(tmp_path):
    refusal(tmp_path / "nowhere", "nowhere is no folder of shards")
    folder = write_folder(tmp_path, {"train": []}, others=FAILURES[:2])
    refusal(folder, "has no clip: 1 failed decode, 1 skipped no_audio; ")


def test_no_shard_is_finished(folder):
    for path in folder.glob("synthetic-*.json"):
        path.unlink()
    refusal(folder, "has no clip, for no shard is finished")


@pytest.mark.parametrize("changes", [{"num_clips": 1}, {"outcomes": [{"outcome": "ok"}]}])
def test_a_damaged_marker_is_named(folder, changes):
    change_marker(folder, SHARD, **changes)
    refusal(folder, f"{SHARD}.json is damaged")


def test_a_cut_marker_and_a_cut_shard_are_named(folder):
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[:-100])
    refusal(folder, f"{SHARD} has {len(data) - 100} bytes, its marker says {len(data)}; delete")
    (folder / SHARD).write_bytes(data)
    marker_path(folder / SHARD).write_text('{"num_clips": 1')
    refusal(folder, f"{SHARD}.json is damaged.*delete it")


def test_a_flipped_byte_is_named(folder):
    flip_byte(folder / SHARD)
    refusal(folder, f"{SHARD} is damaged")


def test_a_shard_of_fewer_clips_than_told_is_named(folder, tmp_path):
    one = write_folder(tmp_path / "one", {"train": [make_clip(1)]})
    data = (one / "synthetic-train-00000-of-00001").read_bytes()
    (folder / SHARD).write_bytes(data)
    change_marker(folder, SHARD, num_bytes=len(data))
    refusal(folder, f"{SHARD} has 1 clips, its marker says 2")
