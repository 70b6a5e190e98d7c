import io

import numpy as np
import pytest
from PIL import Image

from l3net.media import ffmpeg, ffmpeg_process, picture_filters, tracks
from tests.conftest import make_video, run_ffmpeg

TONE = ("-f", "lavfi", "-i", "sine=d=1.2:r=48000", "-c:a", "pcm_s16le")


def frames_of(path, **settings) -> tuple[list[np.ndarray], str]:
    clip = ffmpeg.decode_clip(path, **settings)
    pictures = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in clip.frames]
    return pictures, clip.origin.picture


# --- Interlaced ----------------------------------------------------------------------------------
# A white bar that jumps 16 pixels from field to field: an interlaced frame shows a comb.
BAR = "color=black:s=96x64:r={rate}:d=1.2,geq=lum='if(between(mod(X-16*N,96),0,23),235,16)'"
BAR += ":cb=128:cr=128"
MPEG = ("-flags", "+ildct+ilme", "-q:v", "2", "-pix_fmt", "yuv420p")
DV = "format=yuv420p,scale=720:576:flags=neighbor,"


def interlaced(path, *codec, order="top", before=""):
    fields = f"tinterlace=interleave_{order},setfield={order[0]}ff"
    source = f"{BAR.format(rate=50)},{before}{fields}"
    run_ffmpeg("-f", "lavfi", "-i", source, *TONE, "-c:v", *codec, str(path))
    return path


def comb(frame: np.ndarray) -> float:
    """Returns how much more a row differs from its neighbours than from the rows beyond them."""
    grey = frame.mean(axis=2)
    near, far = np.abs(grey[1:] - grey[:-1]).mean(), np.abs(grey[2:] - grey[:-2]).mean()
    return near - far


@pytest.mark.parametrize(
    ("name", "codec", "settings"),
    [
        ("h264.mov", ("libx264", "-flags", "+ildct+ilme", "-crf", "10"), {}),
        ("bottom.mkv", ("libx264", "-flags", "+ildct+ilme", "-crf", "10"), {"order": "bottom"}),
        pytest.param("mpeg2.mkv", ("mpeg2video", *MPEG), {}, marks=pytest.mark.slow),
        pytest.param("ffv1.mkv", ("ffv1",), {}, marks=pytest.mark.slow),
        # The headers do not say it, only the frames do.
        ("mpeg4.avi", ("mpeg4", *MPEG), {}),
        ("dv.avi", ("dvvideo",), {"order": "bottom", "before": DV}),
    ],
)
def test_interlaced_frames_are_deinterlaced(tmp_path, monkeypatch, name, codec, settings):
    path = interlaced(tmp_path / name, *codec, **settings)
    height = 576 if name == "dv.avi" else 64
    frames, words = frames_of(path, smallest_side_px=height)
    assert words == "deinterlaced"
    streamed = list(ffmpeg.stream_frames(path, smallest_side_px=None))
    with monkeypatch.context() as patch:
        patch.setattr(picture_filters, "deinterlaced", lambda *_: "")
        before, _ = frames_of(path, smallest_side_px=height)
        streamed_before = list(ffmpeg.stream_frames(path, smallest_side_px=None))
    assert len(frames) == len(before) >= 28 and len(streamed) == len(streamed_before)
    for number in (8, 20):
        assert comb(before[number]) > 20 and comb(frames[number]) < 2
        assert comb(streamed[number]) < 2
        # The picture is that of the first field, at the frame's time.
        first_field = 0 if settings.get("order", "top") == "top" else 1
        kept = np.abs(frames[number][first_field::2].astype(int) - before[number][first_field::2])
        assert kept.mean() < 6


PROGRESSIVE = [
    ("h264.mov", ("libx264",)),
    ("mpeg4.mov", ("mpeg4", "-q:v", "3")),  # its header does not say
    ("mjpeg.avi", ("mjpeg", "-q:v", "3", "-pix_fmt", "yuvj422p")),
    ("vp8.webm", ("libvpx", "-deadline", "realtime", "-c:a", "libvorbis")),
    ("rgb.mkv", ("ffv1", "-pix_fmt", "bgr0")),
    ("slow.mkv", ("mpeg4", "-r", "2", "-q:v", "3")),
]


@pytest.mark.parametrize(("name", "codec"), PROGRESSIVE)
def test_progressive_frames_stay_byte_for_byte(tmp_path, monkeypatch, name, codec):
    source = "testsrc2=s=96x64:r=25:d=1.2"
    run_ffmpeg("-f", "lavfi", "-i", source, *TONE, "-c:v", *codec, str(tmp_path / name))
    clip = ffmpeg.decode_clip(tmp_path / name)
    assert clip.origin.picture == ""
    monkeypatch.setattr(picture_filters, "deinterlaced", lambda *_: "")
    assert ffmpeg.decode_clip(tmp_path / name).frames == clip.frames


# --- High dynamic range --------------------------------------------------------------------------
PQ, HLG = "smpte2084", "arib-std-b67"
# Nits of R, G and B on the primaries of BT.2020, a patch each.
NITS = np.array(
    [[g] * 3 for g in (0, 1, 5, 20, 50, 100, 203, 400, 600, 1000)]
    + [[100, 0, 0], [0, 100, 0], [0, 0, 100], [150, 100, 80], [203, 203, 0], [600, 300, 100]],
    float,
)
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    y = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    """ARIB STD-B67 on a display of 1000 nits."""
    luminance = np.maximum(nits @ LUMA_2020 / 1000, 1e-12)
    scene = nits / 1000 * luminance[:, np.newaxis] ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def expected_sdr(nits: np.ndarray) -> np.ndarray:
    """What should be seen, computed without ffmpeg: mobius on the brightest of R, G and B."""
    linear = nits / 203 @ TO_709.T
    peak, knee = 1000 / 203, 0.3
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    most = np.maximum(linear.max(axis=1), 1e-6)
    mapped = (b**2 + 2 * b * knee + knee**2) / (b - a) * (most + a) / (most + b)
    scale = np.where(most <= knee, 1, mapped / most)
    return 255 * np.clip(linear * scale[:, np.newaxis], 0, 1) ** (1 / 2.4)


def hdr_video(path, transfer, *codec, tags=True, size_px=256):
    rgb = (pq if transfer == PQ else hlg)(NITS)
    luma = rgb @ LUMA_2020
    blue, red = ((rgb[:, k] - luma) / (2 * (1 - LUMA_2020[k])) for k in (2, 0))
    planes = np.stack([64 + 876 * luma, 512 + 896 * blue, 512 + 896 * red]).round()
    patches = planes.reshape(3, 4, 4).repeat(size_px // 4, axis=1).repeat(size_px // 4, axis=2)
    raw = path.with_suffix(".raw")
    raw.write_bytes(patches.astype("<u2").tobytes())
    colours = f"color_trc={transfer}"
    colours += ":range=tv:color_primaries=bt2020:colorspace=bt2020nc" if tags else ":range=tv"
    run_ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", f"{size_px}x{size_px}"),
        *("-i", str(raw), *TONE),
        *("-vf", f"loop=29:1,setpts=N/25/TB,setparams={colours}", "-r", "25", "-c:v", *codec),
        *("-color_trc", transfer, str(path)),
    )
    return path


def patches_of(frame: np.ndarray) -> np.ndarray:
    side = frame.shape[0] // 4
    cells = frame.reshape(4, side, 4, side, 3)[:, side // 4 : -side // 4, :, side // 4 : -side // 4]
    return cells.mean(axis=(1, 3)).reshape(16, 3)


X264 = ("libx264", "-qp", "4", "-preset", "ultrafast")
X265 = ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:qp=4:repeat-headers=1")
X265_TAGGED = "colorprim=bt2020:colormatrix=bt2020nc:transfer="


@pytest.mark.parametrize(
    ("transfer", "name", "codec"),
    [
        (PQ, "b.mov", (*X264, "-pix_fmt", "yuv444p10le")),
        (HLG, "b.mov", (*X264, "-pix_fmt", "yuv444p10le")),
        (PQ, "a.mkv", (*X265[:-1], f"{X265[-1]}:{X265_TAGGED}{PQ}", "-pix_fmt", "yuv420p10le")),
        pytest.param(
            *(HLG, "a.mkv"),
            (*X265[:-1], f"{X265[-1]}:{X265_TAGGED}{HLG}", "-pix_fmt", "yuv420p10le"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(PQ, "a.mov"),
            ("prores_ks", "-profile:v", "4", "-q:v", "2", "-pix_fmt", "yuv444p10le"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_high_dynamic_range_is_tone_mapped(tmp_path, transfer, name, codec):
    path = hdr_video(tmp_path / name, transfer, *codec)
    frames, words = frames_of(path, jpeg_quality=2)
    assert words == f"HDR {'PQ' if transfer == PQ else 'HLG'} tone-mapped"
    streamed = list(ffmpeg.stream_frames(path, smallest_side_px=None))
    assert len(frames) == len(streamed) == 30
    for frame in (frames[10], streamed[10]):
        error = np.abs(patches_of(frame) - expected_sdr(NITS))
        assert error[:10].max() < 4  # grey
        # zimg's HLG raises R, G and B each to the system's gamma, which shifts strong colours.
        assert error[10:].mean() < (4 if transfer == PQ else 8)


def test_untagged_primaries_and_odd_sizes(tmp_path):
    path = hdr_video(
        tmp_path / "a.mkv", PQ, *X264, "-pix_fmt", "yuv444p10le", tags=False, size_px=252
    )
    assert "unknown/unknown/smpte2084" in tracks.choose(path, tracks.PICTURE).words
    frames, words = frames_of(path, jpeg_quality=2, smallest_side_px=252)
    assert words == "HDR PQ tone-mapped"
    np.testing.assert_allclose(patches_of(frames[3])[:10], expected_sdr(NITS)[:10], atol=4)
    run_ffmpeg(
        "-i", str(path), "-vf", "crop=201:125", "-c:v", *X264, "-c:a", "copy", f"{path}.odd.mkv"
    )
    frames, words = frames_of(f"{path}.odd.mkv", smallest_side_px=125)
    assert words == "HDR PQ tone-mapped" and frames[0].shape == (125, 201, 3)


def test_an_ffmpeg_that_cannot_map_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg_process, "has_filters", lambda *_: False)
    path = hdr_video(tmp_path / "a.mkv", HLG, *X264, "-pix_fmt", "yuv444p10le", size_px=64)
    for decode in (ffmpeg.decode_clip, lambda path: next(ffmpeg.stream_frames(path))):
        with pytest.raises(ffmpeg.MediaError, match=r"refused\): its pictures.*HLG.*L3NET_FFMPEG"):
            decode(path)
    assert len(list(ffmpeg.stream_audio(path)))  # its sound needs no filter
    ffmpeg.decode_clip(make_video(tmp_path / "b.mp4"))


def test_filters_are_looked_up():
    assert ffmpeg_process.has_filters("scale", "fps")
    assert not ffmpeg_process.has_filters("scale", "no_such_filter")
