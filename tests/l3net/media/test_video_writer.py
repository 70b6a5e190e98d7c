import numpy as np
import pytest

from l3net.errors import UserError
from l3net.media import ffmpeg, video_writer
from tests import conftest

NO_FILTER = "no_such_filter"


def noise(height: int, width: int, count: int = 25) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.mark.parametrize(
    "late", [{"sound_late_seconds": 0.6}, {"picture_late_seconds": 0.6}], ids=["sound", "picture"]
)
def test_streams_that_start_late_stay_in_step(late, tmp_path):
    path = conftest.make_step_video(tmp_path / "late.mkv", "64x48", sample_rate_hz=44_100, **late)
    frames = ffmpeg.stream_frames(path, smallest_side_px=None)
    out = tmp_path / "out.mp4"
    video_writer.write_video(out, frames, sound_of=path, frame_rate_hz=25)
    assert conftest.steps_of(out) == pytest.approx(conftest.steps_of(path), abs=0.03)
    frames = ffmpeg.stream_frames(path, smallest_side_px=None, start_seconds=0.5)
    video_writer.write_video(out, frames, sound_of=path, frame_rate_hz=25, start_seconds=0.5)
    shifted = tuple(step - 0.5 for step in conftest.steps_of(path))
    assert conftest.steps_of(out) == pytest.approx(shifted, abs=0.03)


@pytest.mark.parametrize("num_channels", [1, 2])
def test_the_same_input_gives_the_same_bytes(num_channels, tmp_path):
    wave = np.round(8000 * np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000)).astype(np.int16)
    waveform = np.repeat(wave[:, np.newaxis], num_channels, axis=1)
    for name in ("a.mp4", "b.mp4"):
        video_writer.write_same_video(tmp_path / name, noise(64, 96), waveform)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert len(list(ffmpeg.stream_frames(tmp_path / "a.mp4", smallest_side_px=None))) == 25
    heard = np.concatenate(list(ffmpeg.stream_audio(tmp_path / "a.mp4")))
    assert np.abs(heard[4800:-4800]).max() == pytest.approx(8000, rel=0.1)


def test_odd_sizes_get_one_row_or_column_more(tmp_path):
    path = tmp_path / "odd.mp4"
    video_writer.write_same_video(path, noise(33, 47), np.zeros((48_000, 1), np.int16))
    assert next(ffmpeg.stream_frames(path, smallest_side_px=None)).shape == (34, 48, 3)


def test_what_cannot_be_encoded_or_written_is_one_line(tmp_path, monkeypatch):
    video = conftest.make_step_video(tmp_path / "step.mp4", "96x64")
    monkeypatch.setattr(video_writer, "_COLOURS", NO_FILTER)
    with pytest.raises(UserError, match=f"ffmpeg cannot encode out.mp4.*{NO_FILTER}"):
        video_writer.write_video(
            tmp_path / "out.mp4", noise(64, 64), sound_of=video, frame_rate_hz=25
        )
    assert list(tmp_path.iterdir()) == [video]
    with pytest.raises(UserError, match="cannot write .*out.mp4: (Not a directory|File ex)"):
        video_writer.write_same_video(
            video / "out.mp4", noise(64, 64), np.zeros((48_000, 1), np.int16)
        )
