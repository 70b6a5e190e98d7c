import numpy as np
import pytest
from PIL import Image

from l3net.errors import UserError
from l3net.media import images
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
