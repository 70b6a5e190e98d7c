import io
import math
import os
import pathlib
import struct
import time
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import soundfile
from PIL import Image

from l3net.errors import UserError
from l3net.media import ffmpeg, ffmpeg_process, jpeg_stream
from tests.conftest import make_video, run_ffmpeg
from tests.tiny_ffmpeg import failure_of, fake_ffmpeg, outcome_of

EVENT_SECONDS = 1.6
TOLERANCE_SECONDS = 0.0005
RATES = ["24000/1001", "24", "25", "30000/1001", "30", "50", "10"]


def flash(rate: str) -> str:
    """Black, with a white flash of 0.2 s at EVENT_SECONDS."""
    box = f"drawbox=c=white:t=fill:enable='between(t,{EVENT_SECONDS},{EVENT_SECONDS + 0.2})'"
    return f"color=black:s=64x48:r={rate},{box}"


def beep(rate: int = 48_000) -> str:
    """Silence, with 0.2 s of 1 kHz at EVENT_SECONDS."""
    tone = f"0.8*sin(2*PI*1000*t)*between(t,{EVENT_SECONDS},{EVENT_SECONDS + 0.2})"
    return f"aevalsrc='{tone}':s={rate}"


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def flash_seconds(clip: ffmpeg.DecodedClip) -> float:
    bright = [pixels(jpeg).mean() > 128 for jpeg in clip.frames]
    return clip.timestamps_us[bright.index(True)] / 1e6


def beep_seconds(clip: ffmpeg.DecodedClip) -> float:
    return clip.start_us / 1e6 + np.flatnonzero(np.abs(clip.waveform) > 8000)[0] / 48_000


def first_slot_seconds(seconds: float, start_seconds: float) -> float:
    """When a picture that comes at `seconds` is first shown."""
    return start_seconds + math.ceil((seconds - start_seconds - TOLERANCE_SECONDS) * 25) / 25


@pytest.fixture(scope="module")
def tone(tmp_path_factory) -> pathlib.Path:
    return make_video(tmp_path_factory.mktemp("tone") / "tone.mp4")


def event_video(path: pathlib.Path, rate: str = "25", **settings) -> pathlib.Path:
    defaults = {"picture": flash(rate), "sound": beep(), "seconds": 3.0}
    return make_video(path, **{**defaults, **settings})


# --- One time line -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def flashes(tmp_path_factory) -> dict[str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("flashes")
    return {
        rate: event_video(folder / f"{index}.mp4", rate, sound=beep(44_100), options=("-g", "12"))
        for index, rate in enumerate(RATES)
    }


@pytest.mark.parametrize("start_seconds", [0.0, 0.5, 0.73])
@pytest.mark.parametrize("rate", RATES)
def test_flash_and_beep_come_together(flashes, rate, start_seconds):
    clip = ffmpeg.decode_clip(flashes[rate], start_seconds=start_seconds, seconds=2.0)
    assert clip.start_us == round(start_seconds * 1e6)
    # The source shows the flash in the first frame at or after the event.
    shown = math.ceil(EVENT_SECONDS * Fraction(rate)) / Fraction(rate)
    expected = first_slot_seconds(float(shown), start_seconds)
    assert flash_seconds(clip) == pytest.approx(expected, abs=1e-4)
    assert beep_seconds(clip) == pytest.approx(EVENT_SECONDS, abs=0.005)
    assert abs(flash_seconds(clip) - beep_seconds(clip)) <= 1 / float(Fraction(rate)) + 0.041


# Gray levels that name the pictures; twenty in turn, so that neighbours never look alike.
LEVELS = "geq=lum='20+10*mod(N,20)':cb=128:cr=128"


def level(frame: np.ndarray) -> int:
    return round((frame.mean() * 219 / 255 + 16 - 20) / 10)


def shown_levels(pts_seconds: list[float], times: np.ndarray) -> list[int]:
    """The rule: the last picture whose timestamp is not later; before the first, the first."""
    numbers = np.searchsorted(pts_seconds, times + TOLERANCE_SECONDS, side="right") - 1
    return list(np.maximum(numbers, 0) % 20)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> dict[str, tuple[pathlib.Path, list[float]]]:
    """Videos of 4 s and the timestamps of their pictures, at constant and at variable rate."""
    folder = tmp_path_factory.mktemp("numbered")
    # From 0.01 to 0.13 s apart.
    variable = "color=gray:s=64x48:r=100,settb=1/100,setpts=7*N+mod(3*N*N\\,7)"
    times = [(7 * n + 3 * n * n % 7) / 100 for n in range(57)]
    sources = {f"variable.{suffix}": (variable, times) for suffix in ("mp4", "mkv")}
    for rate in ("10", "24", "60"):
        times = [number / int(rate) for number in range(4 * int(rate))]
        sources[f"{rate}.avi"] = (f"color=gray:s=64x48:r={rate}", times)
    sound = ("-c:a", "pcm_s16le", "-g", "12")
    return {
        name: (
            make_video(
                folder / name,
                picture=f"{source},{LEVELS}",
                seconds=4.0,
                options=() if name.endswith("mp4") else sound,
            ),
            times,
        )
        for name, (source, times) in sources.items()
    }


@pytest.mark.parametrize("start_seconds", [0.0, 0.73, 2.04])
@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv", "10.avi", "24.avi", "60.avi"])
def test_shown_is_the_last_picture_up_to_then(numbered, name, start_seconds):
    path, pts_seconds = numbered[name]
    clip = ffmpeg.decode_clip(path, start_seconds=start_seconds, seconds=1.6)
    assert len(clip.frames) == 40
    assert clip.num_padding_frames == 0
    expected = shown_levels(pts_seconds, np.array(clip.timestamps_us) / 1e6)
    assert [level(pixels(jpeg)) for jpeg in clip.frames] == expected


@pytest.mark.parametrize("start_seconds", [0.0, 1.3])
@pytest.mark.parametrize("rate", [1, 5, 10, 30])
def test_streamed_is_the_last_picture_up_to_then(numbered, rate, start_seconds):
    for path, pts_seconds in (numbered["variable.mkv"], numbered["24.avi"]):
        frames = list(
            ffmpeg.stream_frames(
                path, frame_rate_hz=rate, smallest_side_px=None, start_seconds=start_seconds
            )
        )
        last, end = ((t - start_seconds) * rate for t in (pts_seconds[-1], 4.04))
        assert last < len(frames) <= end + 1
        times = start_seconds + np.arange(len(frames)) / rate
        assert [level(frame) for frame in frames] == shown_levels(pts_seconds, times)
        part = ffmpeg.stream_frames(
            path, frame_rate_hz=rate, start_seconds=start_seconds, seconds=2.0
        )
        assert len(list(part)) == 2 * rate


def test_a_clip_in_the_middle_sounds_as_the_whole(tmp_path):
    path = make_video(tmp_path / "x.mp4", sound="anoisesrc=r=48000:seed=1", seconds=4.0)
    whole = ffmpeg.decode_clip(path).waveform
    part = ffmpeg.decode_clip(path, start_seconds=2.52, seconds=1.0).waveform
    assert (part == whole[round(2.52 * 48_000) :][:48_000]).all()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_late_picture_is_padded_not_shifted(tmp_path, suffix):
    path = event_video(tmp_path / f"late.{suffix}", picture_late_seconds=0.48)
    clip = ffmpeg.decode_clip(path, seconds=2.6)
    assert clip.num_padding_frames == 12
    assert len(set(clip.frames[:13])) == 1
    assert flash_seconds(clip) == pytest.approx(EVENT_SECONDS + 0.48)
    assert beep_seconds(clip) == pytest.approx(EVENT_SECONDS, abs=0.005)
    # A clip that begins after the picture did needs no padding.
    later = ffmpeg.decode_clip(path, start_seconds=1.0, seconds=1.5)
    assert later.num_padding_frames == 0
    assert flash_seconds(later) == pytest.approx(EVENT_SECONDS + 0.48)
    bright = [frame.mean() > 128 for frame in ffmpeg.stream_frames(path, smallest_side_px=32)]
    assert bright.index(True) == 12 + EVENT_SECONDS * 25


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_late_sound_is_silence_first(tmp_path, suffix):
    tone = "sine=440:r=48000"
    path = event_video(tmp_path / f"late.{suffix}", sound=tone, sound_late_seconds=0.48)
    clip = ffmpeg.decode_clip(path, seconds=2.0)
    assert clip.num_padding_frames == 0
    assert not clip.waveform[: int(0.44 * 48_000)].any()
    assert np.abs(clip.waveform[int(0.5 * 48_000) :][:480]).max() > 3000
    assert flash_seconds(clip) == pytest.approx(EVENT_SECONDS)
    sound = np.concatenate(list(ffmpeg.stream_audio(path, sample_rate_hz=16_000)))
    assert not sound[: int(0.44 * 16_000)].any()
    assert np.abs(sound[8000:8160]).max() > 3000
    assert len(sound) == pytest.approx(3.48 * 16_000, abs=600)


def test_lengths_are_exact(tone):
    clip = ffmpeg.decode_clip(tone)
    assert len(clip.frames) == 50
    assert clip.waveform.shape == (96_000,)
    assert clip.timestamps_us == tuple(range(0, 2_000_000, 40_000))
    assert (clip.start_us, clip.end_us) == (0, 2_000_000)
    part = ffmpeg.decode_clip(tone, start_seconds=0.3, seconds=1.3)
    assert len(part.frames) == 32
    assert part.waveform.shape == (32 * 1920,)
    assert part.timestamps_us[:2] == (300_000, 340_000)
    again = ffmpeg.decode_clip(tone)
    assert again.frames == clip.frames and (again.waveform == clip.waveform).all()


@pytest.mark.parametrize(("picture_seconds", "sound_seconds"), [(1.6, 3.0), (3.0, 1.6)])
def test_clip_ends_where_either_stream_does(tmp_path, picture_seconds, sound_seconds):
    path = make_video(
        tmp_path / "short.mp4",
        picture=f"color=gray:s=64x48:r=25:d={picture_seconds}",
        sound=f"sine=440:r=48000:d={sound_seconds}",
        seconds=3.0,
    )
    clip = ffmpeg.decode_clip(path)
    assert len(clip.frames) == pytest.approx(40, abs=1)
    assert len(clip.waveform) == 1920 * len(clip.frames)


# --- Picture and sound ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        *((), ("-ac", "2"), ("-ac", "6"), ("-ar", "8000")),
        ("-af", "pan=stereo|c1=c0"),  # only the right channel sounds
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_440_hz_stays_440_hz_and_as_loud(tmp_path, options, suffix):
    path = make_video(tmp_path / f"tone.{suffix}", options=options)
    spectrum = np.abs(np.fft.rfft(ffmpeg.decode_clip(path).waveform[24_000:72_000]))
    assert spectrum.argmax() == 440
    # sine's amplitude is 1/8; mixed down from 5.1 it may come from the centre only.
    assert 600 < 2 * spectrum.max() / 48_000 < 4400


def test_192_khz_is_resampled(tmp_path):
    path = make_video(
        tmp_path / "high.mkv", sound="sine=440:r=192000", options=("-c:a", "pcm_s16le")
    )
    clip = ffmpeg.decode_clip(path)
    assert np.abs(np.fft.rfft(clip.waveform[:48_000])).argmax() == 440


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("64x48", (256, 341)),
        ("48x64", (341, 256)),
        ("640x480", (256, 341)),
        ("66x50", (256, 338)),
        ("161x121", (256, 341)),
    ],
)
def test_smallest_side_is_256_up_or_down(tmp_path, size, expected):
    path = make_video(tmp_path / "x.mp4", picture=f"color=gray:s={size}:r=25")
    clip = ffmpeg.decode_clip(path)
    assert (clip.height_px, clip.width_px) == expected
    assert pixels(clip.frames[-1]).shape == (*expected, 3)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
@pytest.mark.parametrize("scale", ["tv", "pc"])
def test_colours_survive(tmp_path, matrix, scale):
    path = make_video(
        tmp_path / "x.mkv",
        picture="color=0xC03020:s=64x48:r=25,format=rgb24,"
        f"scale=out_color_matrix={matrix}:out_range={scale},format=yuv420p",
        options=("-colorspace", matrix, "-color_range", scale),
    )
    middle = pixels(ffmpeg.decode_clip(path).frames[10])[100:150, 100:150].mean((0, 1))
    assert middle == pytest.approx([0xC0, 0x30, 0x20], abs=6)
    streamed = next(ffmpeg.stream_frames(path))[100:150, 100:150].mean((0, 1))
    assert streamed == pytest.approx([0xC0, 0x30, 0x20], abs=6)


def test_pixels_are_made_square(tmp_path):
    path = make_video(tmp_path / "x.mp4", options=("-aspect", "2:1"))
    clip = ffmpeg.decode_clip(path)
    assert (clip.height_px, clip.width_px) == (256, 512)


ONE, ZERO, MINUS = 1 << 16, 0, 0xFFFF0000


@pytest.mark.parametrize(
    ("turned", "size", "red"),
    [
        ((ZERO, ONE, MINUS, ZERO), (512, 256), np.s_[400:, :]),  # clockwise: right is now bottom
        ((MINUS, ZERO, ZERO, MINUS), (256, 512), np.s_[:, :112]),
        ((ZERO, MINUS, ONE, ZERO), (512, 256), np.s_[:112, :]),
    ],
    ids=["90", "180", "270"],
)
def test_rotation_is_applied(tmp_path, turned, size, red):
    path = make_video(tmp_path / "x.mp4", picture=f"{flash('25')},pad=96:48:0:0:red")

    def matrix(a: int, b: int, c: int, d: int) -> bytes:
        return b"".join(v.to_bytes(4, "big") for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))

    # In the track header, as a phone writes it.
    data = path.read_bytes()
    track = data.index(b"tkhd")
    upright = matrix(ONE, ZERO, ZERO, ONE)
    path.write_bytes(data[:track] + data[track:].replace(upright, matrix(*turned), 1))
    clip = ffmpeg.decode_clip(path)
    assert (clip.height_px, clip.width_px) == size
    frame = pixels(clip.frames[0])
    assert frame[red].mean((0, 1))[0] > 150
    assert frame.mean() < 60


def patched(path: pathlib.Path, name: bytes, offset: int, value: bytes, nth: int = 0) -> None:
    """Overwrites bytes at an offset behind the nth occurrence of a name."""
    data = path.read_bytes()
    at = -1
    for _ in range(nth + 1):
        at = data.index(name, at + 1)
    at += len(name) + offset
    path.write_bytes(data[:at] + value + data[at + len(value) :])


@pytest.mark.parametrize("factor", [0.3, 20.0])
def test_a_duration_that_lies_changes_nothing(tmp_path, factor):
    honest = make_video(tmp_path / "honest.mp4", picture="testsrc=s=64x48:r=25", seconds=3.0)
    expected = ffmpeg.decode_clip(honest)
    lying = tmp_path / "lying.mp4"
    lying.write_bytes(honest.read_bytes())
    # Movie, tracks and media: version, two dates, time scale or track (and a gap), duration.
    for name, offset, nth in ((b"mvhd", 16, 0), (b"tkhd", 20, 0), (b"mdhd", 16, 0)):
        at = honest.read_bytes().index(name) + 4 + offset
        truth = int.from_bytes(honest.read_bytes()[at : at + 4], "big")
        patched(lying, name, offset, int(truth * factor).to_bytes(4, "big"), nth)
    clip = ffmpeg.decode_clip(lying)
    assert clip.frames == expected.frames
    assert (clip.waveform == expected.waveform).all()
    # Matroska: a float of 8 bytes, in milliseconds.
    path = make_video(tmp_path / "lying.mkv", seconds=3.0)
    patched(path, b"\x44\x89\x88", 0, struct.pack(">d", 3000 * factor))
    assert len(ffmpeg.decode_clip(path).frames) == 75


def test_an_edit_list_is_obeyed(tmp_path):
    path = event_video(tmp_path / "x.mp4")
    # The picture's list: version, count, length, first media time; 12 frames of 512 ticks.
    patched(path, b"elst", 12, (12 * 512).to_bytes(4, "big"))
    clip = ffmpeg.decode_clip(path, seconds=2.0)
    assert flash_seconds(clip) == pytest.approx(EVENT_SECONDS - 0.48)
    assert beep_seconds(clip) == pytest.approx(EVENT_SECONDS, abs=0.005)


@pytest.mark.parametrize(
    ("name", "offset_seconds"), [("x.mkv", -0.52), ("x.ts", 3723.0), ("x.mp4", 5.0)]
)
def test_time_starts_with_the_earliest_stream(tmp_path, name, offset_seconds):
    options = ["-avoid_negative_ts", "disabled", "-output_ts_offset", str(offset_seconds)]
    if name.endswith("ts"):
        options += ["-c:v", "mpeg2video", "-c:a", "mp2"]
    path = event_video(tmp_path / name, options=options)
    for start_seconds in (0.0, 0.4):
        clip = ffmpeg.decode_clip(path, start_seconds=start_seconds, seconds=2.2)
        assert abs(flash_seconds(clip) - beep_seconds(clip)) < 0.041
        assert flash_seconds(clip) == pytest.approx(EVENT_SECONDS, abs=0.081)


def test_a_change_of_size_half_way_does_not_shift_what_follows(tmp_path):
    first = make_video(tmp_path / "1.ts", seconds=1.0, options=("-c:v", "mpeg2video"))
    second = make_video(
        tmp_path / "2.ts",
        picture="color=white:s=128x96:r=25",
        seconds=1.0,
        options=("-c:v", "mpeg2video", "-output_ts_offset", "1"),
    )
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    clip = ffmpeg.decode_clip(path)
    assert clip.num_padding_frames <= 2
    assert flash_seconds(clip) == pytest.approx(1.0, abs=0.1)


# --- What gives no clip --------------------------------------------------------------------------
def test_skipped(tmp_path, tone):
    no_sound = make_video(tmp_path / "no_sound.mp4", sound=None)
    no_picture = make_video(tmp_path / "no_picture.mp4", picture=None)
    brief = make_video(tmp_path / "brief.mp4", seconds=0.6)
    one_frame = make_video(tmp_path / "one.mp4", picture="color=gray:s=64x48:r=25:d=0.04")
    apart = make_video(tmp_path / "apart.mkv", seconds=2.0, picture_late_seconds=1.5)
    assert outcome_of(no_sound) == ("skipped", "no_audio")
    assert outcome_of(no_picture) == ("skipped", "no_video")
    for path in (brief, one_frame, apart):
        assert outcome_of(path) == ("skipped", "too_short")
    assert outcome_of(tone, start_seconds=5.0) == ("skipped", "too_short")
    path = tmp_path / "song.mp4"  # with cover art
    sources = ("-f", "lavfi", "-i", "color=red:s=64x48:r=1:d=1", "-f", "lavfi", "-i", "sine=d=2")
    cover = ("-frames:v", "1", "-c:v", "mjpeg", "-disposition:v:0", "attached_pic")
    run_ffmpeg(*sources, "-map", "1", "-map", "0", *cover, "-c:a", "aac", str(path))
    assert outcome_of(path) == ("skipped", "no_video")


def test_failed(tmp_path, tone, monkeypatch):
    empty, text, cut, fifo = (tmp_path / name for name in ("0.mp4", "text.mp4", "cut.mp4", "fifo"))
    empty.touch()
    text.write_text("not a video\n")
    cut.write_bytes(tone.read_bytes()[: tone.stat().st_size // 2])
    os.mkfifo(fifo)
    for path in (empty, text, cut):
        assert outcome_of(path) == ("failed", "not_media")
    assert outcome_of(fifo) == ("failed", "refused")
    assert outcome_of(tmp_path) == ("failed", "refused")
    assert outcome_of(tmp_path / "none.mp4") == ("failed", "missing")
    assert outcome_of(tmp_path / "nul\0.mp4") == ("failed", "missing")
    monkeypatch.setattr(ffmpeg_process, "_MAX_PIXELS", 1000)
    assert failure_of(tone)


def test_odd_names_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-dash.mp4", "te[s]t ' _ %03d;$(touch x)`.mp4", "concat:a|b.mp4", "ü.mp4"):
        make_video(tmp_path / name, seconds=1.2)
        assert len(ffmpeg.decode_clip(name).frames) == 30
    assert not (tmp_path / "x").exists()  # no shell reads them


def test_damage_passes_unless_strict(tmp_path):
    path = make_video(tmp_path / "x.mkv", seconds=3.0, picture="testsrc=s=160x120:r=25")
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 3000, 7):
        data[at] ^= 0x55
    path.write_bytes(data)
    assert len(ffmpeg.decode_clip(path).frames) >= 30
    assert outcome_of(path, reading=ffmpeg.Reading(strict=True))[0] == "failed"


# --- The child process ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("where", "value", "settings"),
    [
        (0, np.nan, {}),
        (47_999, np.nan, {"channels": 3, "rate": 44_100}),
        (slice(None), np.nan, {"suffix": "aiff"}),
        (700, np.inf, {"subtype": "DOUBLE"}),
        (700, -np.inf, {"rate": 8000}),
        (700, 16.1, {}),
        (slice(None, None, 2), 20_000.0, {"suffix": "caf"}),
    ],
)
def test_samples_that_16_bits_cannot_show_are_refused(tmp_path, where, value, settings):
    samples = np.full((48_000, settings.get("channels", 1)), 0.5)
    samples[where, -1] = value
    path = tmp_path / f"sound.{settings.get('suffix', 'wav')}"
    subtype = settings.get("subtype", "FLOAT")
    soundfile.write(path, samples, settings.get("rate", 48_000), subtype=subtype)
    with pytest.raises(ffmpeg.MediaError, match="NaN, infinite values or beyond 16") as raised:
        list(ffmpeg.stream_audio(path))
    assert (raised.value.outcome, raised.value.reason) == ("failed", "bad_samples")
    run_ffmpeg(
        *("-f", "lavfi", "-i", "color=gray:s=64x48:r=25:d=1.5", "-i", str(path)),
        *("-c:v", "mpeg4", "-c:a", "pcm_f64le", str(tmp_path / "film.mov")),
    )
    assert outcome_of(tmp_path / "film.mov") == ("failed", "bad_samples")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("num_samples", [1, 30, 5000])
def test_plausible_samples_are_left_as_they_are(tmp_path, subtype, num_samples):
    samples = np.random.default_rng(0).uniform(-1, 1, num_samples)
    samples[0] = 1.5 if subtype in ("FLOAT", "DOUBLE") else -1.0
    soundfile.write(tmp_path / "sound.wav", samples, 48_000, subtype=subtype)
    got = np.concatenate(list(ffmpeg.stream_audio(tmp_path / "sound.wav")))
    as_written = soundfile.read(tmp_path / "sound.wav")[0]
    expected = np.clip(as_written * 32_768, -32_768, 32_767)
    np.testing.assert_allclose(got, expected, atol=1)


def test_a_hanging_ffmpeg_and_its_children_are_killed(tmp_path, monkeypatch, tone):
    pid_file = tmp_path / "pid"
    monkeypatch.setattr(ffmpeg_process, "_limit", lambda *_: None)  # it may write no file
    fake_ffmpeg(tmp_path, monkeypatch, f"sleep 60 & echo $! > {pid_file}; wait")
    began = time.monotonic()
    assert outcome_of(tone, timeout_seconds=1.0) == ("failed", "timeout")
    assert time.monotonic() - began < 10
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _runs(int(pid_file.read_text())):
        time.sleep(0.05)
    assert not _runs(int(pid_file.read_text()))


def _runs(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_endless_output_and_endless_complaints_are_bounded(tmp_path, monkeypatch, tone):
    monkeypatch.setattr(ffmpeg_process, "_MAX_OUTPUT_BYTES", 1 << 20)
    # Every pipe that ffmpeg was given, wherever it is.
    fake_ffmpeg(
        tmp_path, monkeypatch, "for fd in /proc/self/fd/*; do cat /dev/zero > $fd & done; wait"
    )
    assert outcome_of(tone, timeout_seconds=20.0) == ("failed", "refused")
    fake_ffmpeg(tmp_path, monkeypatch, "yes complaint | head -c 5000000 >&2; exit 1")
    assert len(str(failure_of(tone))) < 1000


@pytest.mark.parametrize("may_have_large_pipes", [True, False])
def test_data_gathers_before_it_is_read(monkeypatch, tone, may_have_large_pipes):
    expected = ffmpeg.decode_clip(tone, seconds=1.0)
    looks, take = [], ffmpeg_process._Rest.take
    monkeypatch.setattr(ffmpeg_process._Rest, "take", lambda self: looks.append(take(self)))
    if not may_have_large_pipes:
        refused = mock.Mock(side_effect=PermissionError)
        monkeypatch.setattr(ffmpeg_process.fcntl, "fcntl", refused)
    clip = ffmpeg.decode_clip(tone, seconds=1.0)
    assert clip.frames == expected.frames
    np.testing.assert_array_equal(clip.waveform, expected.waveform)
    assert 0 < len(looks) < len(clip.frames)


def test_the_end_of_ffmpeg_ends_any_rest(monkeypatch, tone):
    monkeypatch.setattr(ffmpeg_process, "_SHORTEST_REST_SECONDS", 60.0)
    monkeypatch.setattr(ffmpeg_process, "_LONGEST_REST_SECONDS", 60.0)
    began = time.monotonic()
    assert len(ffmpeg.decode_clip(tone, seconds=1.0).frames) == 25
    assert time.monotonic() - began < 30


def test_which_ffmpeg(tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, monkeypatch, "exit 1")
    assert ffmpeg.find_ffmpeg() == str(tmp_path / "fake_ffmpeg")
    assert ffmpeg.ffmpeg_version() == "7.7-test"
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserError, match="L3NET_FFMPEG"):
        ffmpeg.find_ffmpeg()
    monkeypatch.delenv(ffmpeg.ENVIRONMENT_VARIABLE)
    (tmp_path / "fake_ffmpeg").rename(tmp_path / "ffmpeg")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ffmpeg.find_ffmpeg() == str(tmp_path / "ffmpeg")


def test_an_old_ffmpeg_is_passed_over_unless_asked_for(tmp_path, monkeypatch):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    fake_ffmpeg(tmp_path, monkeypatch, "exit 1", version="4.4.2-0ubuntu0.22.04.1")
    with pytest.raises(UserError, match="4.4.2.* need 5.1 or newer"):
        ffmpeg.find_ffmpeg()
    monkeypatch.delenv(ffmpeg.ENVIRONMENT_VARIABLE)
    (tmp_path / "fake_ffmpeg").rename(tmp_path / "ffmpeg")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ffmpeg.find_ffmpeg() == imageio_ffmpeg.get_ffmpeg_exe()


# --- JPEG streams --------------------------------------------------------------------------------
def _jpeg(width: int, height: int, **options) -> bytes:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_jpegs_are_split_by_markers_not_by_bytes():
    inner = _jpeg(8, 8)
    # A thumbnail in the header holds an end-of-image marker of its own.
    outer = _jpeg(40, 30)
    outer = outer[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + outer[2:]
    jpegs = [outer, _jpeg(100, 80, quality=100), _jpeg(16, 16, progressive=True)]
    assert jpeg_stream.split_jpegs(b"".join(jpegs)) == jpegs
    assert jpeg_stream.split_jpegs(b"".join(jpegs)[:-1]) == jpegs[:2]
    assert [jpeg_stream.jpeg_size(jpeg) for jpeg in jpegs] == [(30, 40), (80, 100), (16, 16)]
    assert jpeg_stream.split_jpegs(b"") == []
    with pytest.raises(ValueError, match="byte 0"):
        jpeg_stream.split_jpegs(b"text" + inner)
    with pytest.raises(ValueError, match="header"):
        jpeg_stream.jpeg_size(b"\xff\xd8\xff\xd9")


# --- Streams -------------------------------------------------------------------------------------
def test_streamed_sound_is_the_clips_sound(tone):
    blocks = list(ffmpeg.stream_audio(tone, block_samples=10_000))
    assert {len(block) for block in blocks[:-1]} == {10_000}
    assert all(block.dtype == np.int16 for block in blocks)
    sound = np.concatenate(blocks)
    assert 96_000 <= len(sound) <= 98_100  # a whole number of AAC frames
    assert (sound[:96_000] == ffmpeg.decode_clip(tone).waveform).all()


def test_streamed_frames_have_the_size_asked_for(flashes):
    frames = list(ffmpeg.stream_frames(flashes["30"], frame_rate_hz=25, smallest_side_px=64))
    assert {frame.shape for frame in frames} == {(64, 85, 3)}
    part = ffmpeg.stream_frames(flashes["30"], smallest_side_px=None)
    assert next(part).shape == (48, 64, 3)


@pytest.mark.parametrize("late_seconds", [0.0, 0.3])
def test_a_picture_between_two_times_is_shown_once(tmp_path, late_seconds):
    path = make_video(
        tmp_path / "one.mkv",
        picture="color=white:s=64x48:r=25:d=0.04",
        picture_late_seconds=late_seconds,
    )
    (frame,) = ffmpeg.stream_frames(path, frame_rate_hz=1, smallest_side_px=None)
    assert frame.mean() > 250


def test_a_stream_may_be_left_early(tone):
    for stream in (ffmpeg.stream_audio(tone, block_samples=100), ffmpeg.stream_frames(tone)):
        next(stream)
        stream.close()
        assert next(stream, None) is None


def test_streams_tell_what_is_missing(tmp_path, tone):
    silent = make_video(tmp_path / "silent.mp4", sound=None)
    sound = make_video(tmp_path / "sound.mp4", picture=None)
    text = tmp_path / "text.wav"
    text.write_text("not a sound")
    for stream, reason in (
        (ffmpeg.stream_audio(silent), "no_audio"),
        (ffmpeg.stream_frames(sound), "no_video"),
        (ffmpeg.stream_audio(text), "not_media"),
        (ffmpeg.stream_audio(tmp_path / "none.mp3"), "missing"),
        (ffmpeg.stream_audio(tone, start_seconds=9.0), "too_short"),
    ):
        with pytest.raises(ffmpeg.MediaError) as caught:
            list(stream)
        assert caught.value.reason == reason
    assert sum(map(len, ffmpeg.stream_audio(sound))) > 90_000
