import io
import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from l3net.media import ffmpeg, ffmpeg_process, tracks
from tests.conftest import make_video, run_ffmpeg

COLOURS, PITCHES_HZ = ("red", "lime", "blue"), (500, 1000, 2000)
NONE, DEFAULT = "0", "default"


def several(path, *, flags=(), first=(), options=()):
    """Makes a file of a track for each colour, then one for each pitch, flagged as given."""
    pictures = [f"color={colour}:s=64x48:r=25:d=1.5" for colour in COLOURS]
    sounds = [f"sine={pitch}:r=48000:d=1.5" for pitch in PITCHES_HZ]
    inputs = [word for each in (*pictures, *sounds) for word in ("-f", "lavfi", "-i", each)]
    num = len(first) // 2  # inputs in front
    maps = [word for k in range(6 + num) for word in ("-map", str(k))]
    dispositions = [
        word
        for k, each in enumerate(flags)
        for kind in ("v", "a")
        for word in (f"-disposition:{kind}:{k}", each)
    ]
    run_ffmpeg(
        *first, *inputs, *maps, "-c:v", "mpeg4", "-c:a", "aac", *dispositions, *options, str(path)
    )
    return path


def colour_of(pixels) -> str:
    return COLOURS[int(np.asarray(pixels).reshape(-1, 3).mean(axis=0).argmax())]


def pitch_of(waveform) -> int:
    spectrum = np.abs(np.fft.rfft(waveform[12_000:60_000]))
    return int(spectrum.argmax() * 48_000 / 48_000)


def decoded(path, audio=None, video=None):
    """Returns colour and pitch, which must be the same from the clip and from the streams."""
    clip = ffmpeg.decode_clip(path, reading=ffmpeg.Reading(audio_track=audio, video_track=video))
    colour = colour_of(Image.open(io.BytesIO(clip.frames[5])))
    assert colour == colour_of(next(ffmpeg.stream_frames(path, track=video)))
    pitch = pitch_of(clip.waveform)
    assert pitch == pitch_of(np.concatenate(list(ffmpeg.stream_audio(path, track=audio))))
    return colour, pitch, clip.origin


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("second.mkv", (NONE, DEFAULT, NONE), 1),
        ("third.mp4", (NONE, NONE, DEFAULT), 2),
        pytest.param("second.mov", (NONE, DEFAULT, NONE), 1, marks=pytest.mark.slow),
        ("none.mkv", (NONE, NONE, NONE), 0),
        ("two.mkv", (NONE, DEFAULT, DEFAULT), 1),
        pytest.param("all.mkv", (DEFAULT, DEFAULT, DEFAULT), 0, marks=pytest.mark.slow),
        pytest.param("other.mkv", (NONE, "dub", "default+forced"), 2, marks=pytest.mark.slow),
        ("without_flags.ts", (), 0),
        pytest.param("without_flags.avi", (), 0, marks=pytest.mark.slow),
    ],
)
def test_the_track_flagged_default_is_taken(tmp_path, name, flags, expected):
    path = several(tmp_path / name, flags=flags)
    colour, pitch, origin = decoded(path)
    assert (colour, pitch) == (COLOURS[expected], PITCHES_HZ[expected])
    assert origin == ffmpeg.Origin(expected, 3, expected, 3)


def test_tracks_may_be_chosen(tmp_path):
    path = several(tmp_path / "a.mkv", flags=(NONE, DEFAULT, NONE))
    assert decoded(path, audio=2)[:2] == ("lime", 2000)
    colour, pitch, origin = decoded(path, audio=0, video=2)
    assert (colour, pitch, origin) == ("blue", 500, ffmpeg.Origin(2, 3, 0, 3))


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_track_that_is_not_there_is_one_line(tmp_path, kind):
    path = make_video(tmp_path / "a.mp4")
    with pytest.raises(ffmpeg.MediaError) as caught:
        ffmpeg.decode_clip(path, reading=ffmpeg.Reading(**{f"{kind}_track": 1}))
    assert (caught.value.outcome, caught.value.reason) == ("skipped", "no_track")
    name = {"audio": "sound", "video": "picture"}[kind]
    assert caught.value.detail == f"no track 1 of {name}: it has 1, counted from 0"
    mute = make_video(tmp_path / "mute.mp4", sound=None)
    with pytest.raises(ffmpeg.MediaError, match="no_audio"):
        list(ffmpeg.stream_audio(mute, track=1))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_picture_is_no_track(tmp_path, suffix):
    Image.new("RGB", (64, 48), "white").save(tmp_path / "cover.png")
    if suffix == ".mp4":
        given = {
            "first": ("-i", str(tmp_path / "cover.png")),
            "options": ("-c:v:0", "copy", "-disposition:v:0", "attached_pic"),
        }
    else:
        cover = ("-attach", str(tmp_path / "cover.png"), "-metadata:s:t", "mimetype=image/png")
        given = {"options": cover}
    path = several(tmp_path / f"a{suffix}", **given)
    assert decoded(path)[2].num_video_tracks == 3
    assert [decoded(path, video=k)[0] for k in range(3)] == list(COLOURS)


def test_each_track_of_each_programme_of_a_broadcast_has_its_number(tmp_path):
    programmes = ("-program", "st=2:st=5", "-program", "st=0:st=3:st=1:st=4")
    path = several(tmp_path / "a.ts", options=programmes)
    got = [decoded(path, k, k) for k in range(3)]
    assert {each[:2] for each in got} == set(zip(COLOURS, PITCHES_HZ, strict=True))
    assert {each[2].num_audio_tracks for each in got} == {3}


# --- The listing ---------------------------------------------------------------------------------
LISTING = """
Input #0, matroska,webm, from 'x (default)':
  Metadata:
    title           :   Stream #0:9: Audio: faked (default)
  Duration: 00:00:05.04, start: 0.000000, bitrate: 468 kb/s
  Stream #0:3[0x101](eng): Audio: pcm_s24le, 48000 Hz, stereo, s32 (24 bit) (default) (forced)
  Stream #0:0: Video: png, rgb24(pc), 8x8 [SAR 1:1 DAR 1:1], 90k tbr, 90k tbn (attached pic)
  Stream #0:1(und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt709), 25 tbn (default)
  Stream #0:2[0x100]: Audio: aac (LC), 48000 Hz, stereo, fltp (hearing impaired)
  Stream #0:4: Subtitle: subrip (default)
  Stream #0:3[0x101](eng): Audio: pcm_s24le, 48000 Hz, stereo, s32 (24 bit) (default) (forced)
"""


def test_the_listing_is_read_as_ffmpeg_writes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg_process, "list_streams", lambda *_: LISTING.splitlines())
    path = tmp_path / "a.mkv"
    path.touch()
    picture = tracks.choose(path, tracks.PICTURE)
    assert (picture.specifier, picture.number, picture.num_tracks) == ("0:V:0", 0, 1)
    sound = tracks.choose(path, tracks.SOUND)
    assert (sound.specifier, sound.number, sound.num_tracks) == ("0:a:1", 1, 2)


def test_a_file_is_listed_once_and_again_when_it_changed(tmp_path, monkeypatch):
    listed, list_streams = [], ffmpeg_process.list_streams
    monkeypatch.setattr(
        ffmpeg_process, "list_streams", lambda *given: listed.append(given) or list_streams(*given)
    )
    path = make_video(tmp_path / "a.mp4")
    for _ in range(3):
        next(ffmpeg.stream_frames(path))
        next(ffmpeg.stream_audio(path))
    assert len(listed) == 1
    shutil.copy(several(tmp_path / "b.mp4", flags=(NONE, DEFAULT, NONE)), path)
    os.utime(path, ns=(1, 1))
    assert tracks.choose(path, tracks.SOUND).number == 1
    assert len(listed) == 2


# --- One process for a file's sound --------------------------------------------------------------
@pytest.mark.parametrize(("flags", "expected"), [((), 1), ((NONE, DEFAULT, NONE), 2)])
def test_sound_of_the_first_track_takes_one_process(tmp_path, monkeypatch, flags, expected):
    started, popen = [], subprocess.Popen
    path = several(tmp_path / "a.mkv", flags=flags) if flags else make_video(tmp_path / "a.mp4")
    ffmpeg_process.ffmpeg_version()  # known
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **given: started.append(a) or popen(*a, **given)
    )
    assert sum(map(len, ffmpeg.stream_audio(path))) > 40_000
    assert len(started) == expected


def test_sound_that_is_read_before_the_listing_is_held_back(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    # Writes "0" or "1", the number of the track, as sound, and only then says what there is.
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -version ] && { echo ffmpeg version 9.0; exit; }\n'
        'for last; do case "$last" in 0:a:*) track=${last#0:a:};; esac; done\n'
        "printf 0$track >/dev/fd/${last#pipe:}\n"
        "sleep 0.2\n"
        'echo "[info]   Stream #0:0: Audio: aac, 48000 Hz, mono" >&2\n'
        'echo "[info]   Stream #0:1: Audio: aac, 48000 Hz, mono (default)" >&2\n'
        'echo "[info] Stream mapping:" >&2\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, str(program))
    (tmp_path / "a.mkv").touch()
    (block,) = ffmpeg.stream_audio(tmp_path / "a.mkv")
    assert block.tobytes() == b"01"
