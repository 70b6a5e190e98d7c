import os

import pytest
from PIL import Image

from l3net.errors import UserError
from l3net.media import ffmpeg, file_kinds, tracks
from tests.conftest import run_ffmpeg

# Without an encoder, or a name of which ffmpeg does not know what to write.
FORMATS = {".snd": "au", ".weba": "webm", ".qt": "mov", ".mk3d": "matroska", ".mpe": "mpeg"}
UNWRITABLE = {".amr", ".ape", ".dts", ".spx", ".3g2", ".3gp", ".divx", ".dv", ".mxf", ".ogm"}
UNWRITABLE |= {".rm", ".rmvb"}
TONE, PICTURE = (
    ("-f", "lavfi", "-i", "sine=d=1.5"),
    ("-f", "lavfi", "-i", "testsrc=s=176x144:d=1.5"),
)


def _suffixes(kind: str) -> list[str]:
    return [suffix for suffix in file_kinds.SUFFIXES[kind] if suffix not in UNWRITABLE]


def _made(path, *inputs):
    given = FORMATS.get(path.suffix)
    run_ffmpeg(*inputs, *(("-f", given) if given else ()), str(path))
    return path


@pytest.mark.parametrize("suffix", _suffixes(file_kinds.SOUND))
def test_every_suffix_of_sound_is_decoded(tmp_path, suffix):
    path = _made(tmp_path / f"a{suffix}", *TONE)
    assert file_kinds.kind_of(path) == file_kinds.SOUND
    num_samples = sum(len(block) for block in ffmpeg.stream_audio(path))
    assert num_samples == pytest.approx(72_000, abs=6_000)


@pytest.mark.parametrize("suffix", _suffixes(file_kinds.VIDEO))
def test_every_suffix_of_video_is_decoded(tmp_path, suffix):
    path = _made(tmp_path / f"v{suffix}", *PICTURE, *TONE)
    assert file_kinds.kind_of(path) == file_kinds.VIDEO
    frames = list(ffmpeg.stream_frames(path, frame_rate_hz=10, smallest_side_px=64))
    assert 12 <= len(frames) <= 17


@pytest.mark.parametrize("num_channels", [1, 2, 6, 16, 33, 64])
def test_more_channels_than_ffmpeg_can_mix_are_one_clear_line(tmp_path, num_channels):
    path = tmp_path / "a.wav"
    sources = [f"sine=d=1:f={100 + k}" for k in range(num_channels)]
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    names = "".join(f"[{k}:a]" for k in range(num_channels))
    run_ffmpeg(*inputs, "-filter_complex", f"{names}amerge=inputs={num_channels}", str(path))
    if num_channels <= 16:
        assert sum(len(block) for block in ffmpeg.stream_audio(path)) == 48_000
        return
    with pytest.raises(ffmpeg.MediaError, match=f"refused.*{num_channels} channels .* at most 16"):
        list(ffmpeg.stream_audio(path))


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".w64", ".au", ".flac", ".caf"])
def test_sound_without_samples_says_so(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-t", "0", str(path))
    with pytest.raises(
        ffmpeg.MediaError, match="its sound has no content|no sound from 0 s on|not_media"
    ):
        list(ffmpeg.stream_audio(path))


# --- By content ----------------------------------------------------------------------------------
RENAMED = {
    file_kinds.SOUND: (
        *(".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".wma", ".w64", ".caf", ".aiff", ".au"),
        *(".mka", ".ac3", ".wv", ".tta", ".voc", ".opus"),
    ),
    file_kinds.VIDEO: (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".ts", ".m2ts", ".mpg"),
    file_kinds.IMAGE: (".jpg", ".png", ".gif", ".bmp", ".webp", ".jp2", ".ppm"),
}


RARER = {".w64", ".aiff", ".au", ".wv", ".tta", ".voc", ".opus", ".aac", ".m2ts", ".webm", ".mov"}
RARER |= {".mka", ".caf"}


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        pytest.param(kind, each, marks=[pytest.mark.slow] if each in RARER else [])
        for kind, suffixes in RENAMED.items()
        for each in suffixes
    ],
)
def test_content_decides_where_the_suffix_is_unknown(tmp_path, kind, suffix):
    path = tmp_path / f"a{suffix}"
    if kind == file_kinds.IMAGE:
        Image.new("RGB", (64, 48), "red").save(path)
    else:
        _made(path, *PICTURE * (kind == file_kinds.VIDEO), *TONE)
    for name in ("a", "a.mp4.1"):
        other = path.rename(tmp_path / name)
        assert file_kinds.kind_of(other) == file_kinds.kind_in_folder(other) == kind
        path = other
    partial = path.rename(tmp_path / "a.mp4.part")  # of a download: only if it is named
    assert file_kinds.kind_of(partial) == kind and file_kinds.kind_in_folder(partial) is None


@pytest.mark.parametrize(
    "content",
    [
        *(b"# A text\n", b"BMW and others", "text".encode("utf-16"), bytes(600), b"%PDF-1.7\n"),
        *(
            b"PK\x03\x04",
            b"II*\0\x08\0\0\0",
            b"\x7fELF",
            b"#EXTM3U\n",
            b"G" * 600,
            b"RIFF\0\0\0\0ACON",
        ),
        *(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x80\x02}q"),
        *(b"ffconcat version 1.0\nfile a.mp4\n", b"SQLite format 3\0", b"ID3", b"\xff\xfb\x90"),
    ],
)
def test_other_content_is_of_no_kind(tmp_path, content):
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    assert file_kinds.kind_in_folder(path) is None
    with pytest.raises(UserError, match=r"unknown suffix '.dat', and by its content neither"):
        file_kinds.kind_of(path)


def test_of_a_text_ffmpeg_is_not_asked_in_a_folder_and_a_pipe_is_not_waited_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tracks, "choose", None)
    (tmp_path / "README").write_text("no media")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("nothing")
    for name in ("README", "pipe", "nowhere", "."):
        assert file_kinds.kind_in_folder(tmp_path / name) is None
