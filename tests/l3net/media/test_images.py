import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from l3net.errors import UserError
from l3net.media import file_kinds, images
from tests import conftest
from tests.tiny_sounds import pictures


def test_center_crop_is_224_of_256():
    image = np.zeros((256, 340, 3), np.uint8)
    image[16:240, 58:282] = 255  # the centre 224 x 224
    assert (images.center_crop(image, 224) == 255).all()
    assert images.center_crop(image[:100, :73], 64).shape == (64, 64, 3)


def test_images_are_upright_rgb_of_8_bits(tmp_path):
    half = np.zeros((128, 128, 3), np.uint8)
    half[:, 64:] = 255  # white on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: to be turned clockwise, the right goes to the bottom
    Image.fromarray(half).save(tmp_path / "turned.png", exif=exif)
    upright = images.read_image(tmp_path / "turned.png", 64)
    assert upright[0].max() == 0 and upright[-1].min() == 255
    Image.fromarray(np.full((64, 64), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    assert (images.read_image(tmp_path / "deep.png", 32) == 100).all()
    for mode in ("L", "P", "RGBA", "CMYK"):
        path = tmp_path / ("image.jpg" if mode == "CMYK" else f"{mode}.png")
        Image.fromarray(half).convert(mode).save(path)
        assert images.read_image(path, 32).shape == (32, 32, 3)


def test_a_truncated_image_is_refused(tmp_path):
    Image.fromarray(pictures(90, 120)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot decode"):
        images.read_image(tmp_path / "cut.png", 64)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="not an image"):
        images.read_image(tmp_path / "text.png", 64)


def test_what_would_start_another_program_is_no_image(tmp_path, monkeypatch):
    for name in ("a.jpg", "a.eps", "a.png"):
        (tmp_path / name).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
        )
        monkeypatch.setattr(subprocess, "Popen", None)  # Ghostscript
        monkeypatch.setattr(subprocess, "check_call", None)
        with pytest.raises(UserError, match="not an image of the formats .*JPEG.*PNG"):
            images.read_image(tmp_path / name, 64)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(tmp_path, mode):
    size = (8200, 8200)
    Image.new(mode, size).save(tmp_path / "large.png", compress_level=1)
    tracemalloc.start()
    with pytest.raises(UserError, match="8200 x 8200 pixels; need at most 64 megapixels"):
        images.read_rgb(tmp_path / "large.png")
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_a_large_jpeg_is_decoded_smaller_and_says_nothing(tmp_path, recwarn):
    left_white = Image.new("L", (12_000, 8_000))
    left_white.paste(255, (0, 0, 6_000, 8_000))
    left_white.save(tmp_path / "large.jpg", quality=30)
    rgb = images.read_rgb(tmp_path / "large.jpg")
    assert rgb.shape == (4_000, 6_000, 3)
    assert rgb[:, :2_990].min() > 250 and rgb[:, 3_010:].max() < 5
    assert not recwarn.list


def test_the_content_decides_and_of_an_animation_the_first_picture(tmp_path):
    red, blue = Image.new("RGB", (64, 64), (255, 0, 0)), Image.new("RGB", (64, 64), (0, 0, 255))
    for suffix in (".gif", ".tif", ".avif", ".webp", ".bmp", ".ppm", ".jp2"):
        more = {".gif", ".tif", ".webp"} & {suffix}
        settings = {"save_all": True, "append_images": [blue]} if more else {}
        red.save(tmp_path / f"a{suffix}", **settings)
        shutil.copy(tmp_path / f"a{suffix}", tmp_path / "named.jpg")
        rgb = images.read_rgb(tmp_path / "named.jpg").astype(int)
        assert rgb.shape == (64, 64, 3) and abs(rgb - [255, 0, 0]).max() < 8, suffix
        assert file_kinds.kind_of(tmp_path / f"a{suffix}") == file_kinds.IMAGE


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"seconds": 4.0, "sound": None}, [0.0, 1.0, 2.0, 3.0]),
        # A late picture is seen from its start.
        ({"seconds": 2.5, "picture_late_seconds": 0.2}, [0.0, 0.8, 1.8]),
    ],
)
def test_pictures_are_those_of_their_time(tmp_path, settings, expected):
    # Brightness tells the time: 16 + 50 a second, in ffmpeg's 16..235.
    video = conftest.make_video(
        tmp_path / "ramp.mkv",
        picture="color=black:s=64x64:r=25,geq=lum='16+T*50':cb=128:cr=128",
        **settings,
    )
    frames = images.video_frames(video, frame_rate_hz=1.0, frame_px=32)
    times = [frame.mean() * 219 / 255 / 50 for frame in frames]
    np.testing.assert_allclose(times, expected, atol=0.08)
