import pytest

from l3net.media import ffmpeg, file_kinds
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
