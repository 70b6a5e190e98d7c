"""Annotated frames: the right picture, the right second, and every clip accounted for."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from eval.sets import sounding_frames
from eval.sets.sounding_frames import NO_BOX, NO_FRAME, Annotation
from l3net.data import schema
from l3net.errors import UserError
from tests import tiny_shards
from tests.tiny_boxes import write_boxes

BOX = np.array([[0.1, 0.2, 0.5, 0.6]])


def _clip(number, **changes):
    """Frame k is grey of level 5 k; sample k of the sound is k % 30000."""
    frames = [tiny_shards.encode_jpeg(np.full((64, 80, 3), 5 * k, np.uint8)) for k in range(50)]
    sound = (np.arange(96_000) % 30_000).astype(np.int16)
    made = {"size_px": (64, 80), "frames": tuple(frames), "waveform": sound}
    return tiny_shards.make_clip(number, **{**made, **changes})


def _read(tmp_path, clips, boxes):
    tiny_shards.write_shards(tmp_path / "shards", clips, split="test")
    frames = sounding_frames.from_shards(tmp_path / "shards", "test", boxes)
    return frames, list(frames.read())


def test_read_boxes(tmp_path):
    path = write_boxes(
        tmp_path / "boxes.csv",
        "b,25,1.00,0.1,0.2,0.5,0.6,Drum",
        "a,0,0.00,0,0,1,1,",
        "b,25,1.00,0.3,0.3,0.4,0.4,Drum",
        "b,5,0.20,0.5,0.5,0.6,0.6,Drum",
    )
    boxes = sounding_frames.read_boxes(path)
    assert list(boxes) == ["a", "b"]
    early, late = boxes["b"]
    assert (early.time_seconds, late.time_seconds, late.label) == (0.2, 1.0, "Drum")
    assert late.boxes.tolist() == [[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.4, 0.4]]
    assert boxes["a"][0].label == ""


@pytest.mark.parametrize(
    "box", ["0.0,0,0,1,1.2", "0.0,0.5,0,0.4,1", "zero,0,0,1,1", "0.0,nan,0,1,1"]
)
def test_bad_boxes_are_one_line(tmp_path, box):
    with pytest.raises(UserError, match="need a CSV with the columns") as error:
        sounding_frames.read_boxes(write_boxes(tmp_path / "boxes.csv", f"a,0,{box},x"))
    assert "\n" not in str(error.value)


def test_missing_columns_or_file_or_boxes(tmp_path):
    path = write_boxes(tmp_path / "boxes.csv", "a,1", header="example_id,ymin")
    for wrong in (path, tmp_path / "none.csv"):
        with pytest.raises(UserError, match="cannot read"):
            sounding_frames.read_boxes(wrong)
    with pytest.raises(UserError, match="holds no box"):
        sounding_frames.read_boxes(write_boxes(path))
    with pytest.raises(UserError, match="does not exist"):
        sounding_frames.from_folder(tmp_path / "none", {})


def test_the_annotated_frame_nearest_to_the_middle_and_its_second(tmp_path):
    notes = [Annotation(time, BOX, "Drum") for time in (0.0, 0.8, 1.6)]
    # A clip cut out at 7 s: times are from its own start.
    frames, (frame,) = _read(tmp_path, [_clip(1, start_us=7_000_000)], {"clip0001": notes})
    assert frame.annotation.time_seconds == 0.8
    image, view = sounding_frames.decode(frame.jpeg, 56)
    assert image.shape == (56, 56, 3) and abs(int(image[20, 20, 0]) - 5 * 20) <= 2
    assert view.height == 56 / 64 and view.width == 56 / 80
    assert frame.waveform.tolist() == [k % 30_000 for k in range(38_400 - 24_000, 38_400 + 24_000)]
    assert frames.num_clips == 1 and frames.data == "synthetic, test"


def test_the_second_stays_inside_the_sound():
    sound = np.arange(96_000)
    for time, first in ((0.0, 0), (0.5, 0), (1.0, 24_000), (1.5, 48_000), (2.0, 48_000)):
        cut = sounding_frames.second_around(sound, time)
        assert len(cut) == 48_000 and cut[0] == first


def test_clips_without_box_or_picture_are_counted(tmp_path):
    note = [Annotation(1.0, BOX, "Drum")]
    clips = [_clip(1), _clip(2), _clip(3), _clip(4, num_padding_frames=30)]
    clips.append(_clip(5, waveform=np.zeros(40_000, np.int16)))
    boxes = dict.fromkeys(["clip0002", "clip0004", "clip0005"], note)
    boxes["clip0003"] = [Annotation(2.3, BOX, "")]
    _, outcomes = _read(tmp_path, clips, boxes)
    kinds = [item if isinstance(item, str) else item.example_id for item in outcomes]
    assert kinds == [NO_BOX, "clip0002", NO_FRAME, NO_FRAME, NO_FRAME]
    demo = tmp_path / "demo"
    tiny_shards.write_shards(demo, [_clip(1)], split="val", name="demo")
    assert sounding_frames.from_shards(demo, "val", {}).data == "demo data (synthetic), val"


def test_pictures_and_sounds_in_a_folder(tmp_path):
    for folder in ("frames", "audio"):
        (tmp_path / "flickr" / folder).mkdir(parents=True)
    for name in ("1", "2"):
        picture = Image.new("RGB", (256, 256), (40 * int(name), 0, 0))
        picture.save(tmp_path / "flickr" / "frames" / f"{name}.jpg", quality=95)
    steps = np.arange(144_000) / 144_000
    soundfile.write(tmp_path / "flickr" / "audio" / "1.wav", steps, 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "flickr" / "audio" / "3.wav", steps, 48_000)
    boxes = {name: [Annotation(0.0, BOX, "")] for name in ("1", "2", "3")}
    frames = sounding_frames.from_folder(tmp_path / "flickr", boxes)
    first, *others = frames.read()
    assert others == [NO_FRAME, NO_FRAME]  # no sound; no picture
    assert first.example_id == "1" and frames.data == "flickr" and frames.num_clips == 3
    expected = steps[48_000:96_000]
    assert np.allclose(first.waveform / schema.INT16_SCALE, expected, atol=1e-4)
    # Beside each other, and the sound is too short.
    short = tmp_path / "short"
    short.mkdir()
    Image.new("RGB", (64, 64)).save(short / "1.jpg")
    soundfile.write(short / "1.wav", np.full(100, 0.5), 48_000)
    (frame,) = sounding_frames.from_folder(short, {"1": boxes["1"]}).read()
    assert frame.waveform.shape == (48_000,) and np.count_nonzero(frame.waveform) == 100


def test_the_whole_frame_squashed_and_a_broken_one():
    y, x = np.mgrid[:64, :128]
    picture = np.stack([4 * y, 2 * x, 0 * x], axis=-1).astype(np.uint8)
    jpeg = tiny_shards.encode_jpeg(picture, quality=100)
    image, view = sounding_frames.decode(jpeg, 32, whole=True)
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8
    assert view == sounding_frames.View()
    places = (np.arange(32) + 0.5) / 32 * 256
    assert np.allclose([image[:, 16, 0], image[16, :, 1]], places, atol=6)
    for whole in (False, True):
        with pytest.raises(UserError, match="no readable JPEG"):
            sounding_frames.decode(b"not a picture", 32, whole=whole)
