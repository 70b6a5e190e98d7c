import csv
import functools
import os

import numpy as np
import pytest

from l3net import export, flags, localize, models
from l3net.errors import UserError
from l3net.inference import saved_model, video_maps
from l3net.media import ffmpeg, heat_map
from tests import conftest
from tests.tiny_networks import save_tiny_network, save_tiny_run
from tests.tiny_sounds import RATE

FRAME_PX = 64
SMALLEST = {"width": 0.03125, "frame_px": FRAME_PX, "spectrogram_average": 4}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    config = models.ModelConfig("avol_net", **SMALLEST)
    return export.export(save_tiny_run(tmp_path_factory.mktemp("avol"), config=config))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return conftest.make_step_video(tmp_path_factory.mktemp("video") / "step.mp4", "96x65")


@pytest.fixture(scope="module")
def made(video, network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    config = localize.Config(
        saved_model=network,
        video=video,
        out=folder / "out.mp4",
        npz=folder / "maps.npz",
        csv=folder / "maps.csv",
    )
    return folder, localize.localize(config, video_maps.Settings(opacity=0.0))


LOAD = functools.cache(saved_model.SavedModel)


@pytest.fixture(autouse=True)
def _load_once(monkeypatch):
    monkeypatch.setattr(saved_model, "SavedModel", LOAD)


def test_maps_are_those_of_the_network_at_their_times(made, video, network):
    _, maps = made
    assert maps.times_seconds == pytest.approx(np.arange(len(maps.values)) / 10)
    assert 20 <= len(maps.values) <= 21
    side = round(FRAME_PX * 256 / 224)
    assert maps.seen_px == (side, round(side * 96 / 65))  # the whole picture, in training's scale
    waveform = np.concatenate(list(ffmpeg.stream_audio(video))) / np.float32(32_768)
    frames = list(ffmpeg.stream_frames(video, frame_rate_hz=10, smallest_side_px=side))
    run = LOAD(network).localization()
    for number, start in ((0, 0), (8, round(0.3 * RATE)), (12, round(0.7 * RATE))):
        pair = {"image": frames[number][None], "waveform": waveform[None, start : start + RATE]}
        np.testing.assert_allclose(maps.values[number], run(pair)[0], atol=1e-4)


def test_between_two_maps():
    values = np.array([0.0, 1.0, 3.0], np.float32)[:, np.newaxis, np.newaxis]
    maps = video_maps.Maps(values, 5.0 + np.arange(3) / 10, (16, 16))
    times = (4.0, 5.0, 5.05, 5.1, 5.15, 5.2, 9.0)
    assert [maps.at(t).item() for t in times] == pytest.approx([0, 0, 0.5, 1, 2, 3, 3], abs=1e-5)
    assert [maps.at(t, video_maps.HOLD).item() for t in times] == [0, 0, 0, 1, 1, 3, 3]
    assert maps.at(5.0 + 0.1 * 1.0000001, video_maps.HOLD).item() == 1


def test_tables(made):
    folder, maps = made
    with np.load(folder / "maps.npz") as npz:
        np.testing.assert_array_equal(npz["map"], maps.values)
        np.testing.assert_array_equal(npz["corresponds"], maps.values.max(axis=(1, 2)))
        assert tuple(npz["seen_px"]) == maps.seen_px
    with open(folder / "maps.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(maps.values) and float(rows[3]["time_seconds"]) == 0.3
    assert float(rows[3]["corresponds"]) == pytest.approx(maps.values[3].max(), abs=1e-6)
    assert all(0 <= float(row[axis]) <= 1 for row in rows for axis in "yx")


def test_without_colour_it_is_the_same_video(made, video):
    path = made[0] / "out.mp4"
    old, new = (list(ffmpeg.stream_frames(p, smallest_side_px=None)) for p in (video, path))
    assert abs(len(new) - len(old)) <= 1
    assert new[0].shape == (66, 96, 3)  # an odd height gets one row more
    for number in (10, 40):
        assert np.abs(new[number][:65].astype(int) - old[number]).mean() < 3
    assert conftest.steps_of(path) == pytest.approx((1.0, 1.0), abs=0.03)
    loudness = [np.abs(np.concatenate(list(ffmpeg.stream_audio(p)))).max() for p in (video, path)]
    assert loudness[1] == pytest.approx(loudness[0], rel=0.1)
    assert sorted(p.name for p in made[0].iterdir()) == ["maps.csv", "maps.npz", "out.mp4"]


def test_colour_covers_where_the_map_is_high(video, network, tmp_path):
    settings = video_maps.Settings(
        scale=video_maps.STRETCHED, opacity=1.0, seconds=0.5, start_seconds=0.2, frame_rate_hz=10,
        smallest_side_px=64, colour_map="autumn", between=video_maps.HOLD,
    )  # fmt: skip
    config = localize.Config(saved_model=network, video=video, out=tmp_path / "o.mp4")
    maps = localize.localize(config, settings)
    frames = list(ffmpeg.stream_frames(tmp_path / "o.mp4", frame_rate_hz=10, smallest_side_px=None))
    assert len(frames) == len(maps.values) == 5 and maps.times_seconds[0] == pytest.approx(0.2)
    number = int(maps.values.max(axis=(1, 2)).argmax())
    y, x = heat_map.peak(maps.values[number], maps.seen_px)
    height, width, _ = frames[0].shape
    at_peak = frames[number][min(int(y * height), height - 1), min(int(x * width), width - 1)]
    assert at_peak[0] > 200 and at_peak[2] < 60  # autumn ends in yellow, the picture is black


def refused(network, tmp_path, message, *, video, out="out.mp4", **settings):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        config = localize.Config(saved_model=network, video=video, out=tmp_path / out)
        localize.localize(config, video_maps.Settings(**settings))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_videos_settings_and_names_that_cannot_be_used(network, video, tmp_path):
    mute = conftest.make_video(tmp_path / "mute.mp4", sound=None)
    dark = conftest.make_video(tmp_path / "dark.mp4", picture=None)
    (tmp_path / "broken.mp4").write_text("no video at all")
    refused(network, tmp_path, "mute.mp4: no sound", video=mute)
    refused(network, tmp_path, "dark.mp4: no picture", video=dark)
    refused(network, tmp_path, "not_media", video=tmp_path / "broken.mp4")
    refused(network, tmp_path, "is a folder", video=tmp_path)
    refused(network, tmp_path, "not there", video=tmp_path / "none.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(video)
    refused(network, tmp_path, "ends in .mp4", video=video, out="out.avi")
    refused(network, tmp_path, "is a folder", video=video, out="folder.mp4")
    refused(network, tmp_path, "is the video itself", video=video, out="link.mp4")
    refused(network, tmp_path, "opacity of 2", video=video, opacity=2.0)
    refused(network, tmp_path, "unknown colour map", video=video, colour_map="?")
    refused(network, tmp_path, "frame_rate_hz=0", video=video, frame_rate_hz=0.0)
    refused(network, tmp_path, "maps_per_second=nan", video=video, maps_per_second=float("nan"))
    refused(network, tmp_path, "start_seconds=-1", video=video, start_seconds=-1.0)
    refused(network, tmp_path, "seconds=0", video=video, seconds=0.0)
    assert os.path.samefile(tmp_path / "link.mp4", video)


def test_what_fails_while_painting_leaves_the_old_video(video, network, tmp_path, monkeypatch):
    out = tmp_path / "out.mp4"
    out.write_text("of an earlier run")

    def stop(*_):
        raise UserError("stopped")

    monkeypatch.setattr(heat_map.Painter, "paint", stop)
    refused(network, tmp_path, "stopped", video=video)
    assert out.read_text() == "of an earlier run"


def test_another_network_is_refused(network, video, tmp_path):
    metadata = saved_model.read_metadata(network)
    deaf = save_tiny_network(tmp_path / "deaf", metadata=metadata)
    refused(deaf, tmp_path, "no signature 'localize'", video=video)
    refused(tmp_path / "none", tmp_path, "does not exist", video=video)


def test_every_flag_is_handed_on(video, network, tmp_path):
    given = [f"--saved_model={network}", f"--video={video}", f"--out={tmp_path / 'o.mp4'}"]
    _, configs = flags.parse([*given, "--seconds=0.2"], localize.Config, video_maps.Settings)
    localize.localize(*configs)
    assert (tmp_path / "o.mp4").is_file()


def test_tracks_are_taken_for_map_picture_and_sound_alike(network, tmp_path):
    red, blue = (
        conftest.make_video(
            tmp_path / f"{colour}.mp4",
            picture=f"color={colour}:s=64x48:r=25",
            sound=f"sine={pitch}:r=48000",
        )
        for colour, pitch in (("red", 500), ("blue", 2000))
    )
    both = tmp_path / "both.mkv"
    inputs = ("-i", str(red), "-i", str(blue), "-map", "0", "-map", "1", "-c", "copy")
    conftest.run_ffmpeg(*inputs, "-disposition", "0", str(both))
    for tracks, expected in (({}, (0, 500)), ({"audio_track": 1, "video_track": 1}, (2, 2000))):
        settings = video_maps.Settings(opacity=0.0, seconds=1.0, **tracks)
        out = tmp_path / "out.mp4"
        localize.localize(localize.Config(saved_model=network, video=both, out=out), settings)
        frame = next(ffmpeg.stream_frames(out))
        spectrum = np.abs(np.fft.rfft(next(ffmpeg.stream_audio(out))))
        assert (frame.mean(axis=(0, 1)).argmax(), spectrum.argmax()) == expected
    refused(network, tmp_path, "no track 2 of sound: it has 2", video=both, audio_track=2)
