import io

import pytest
from PIL import Image

from eval.sets import image_sets
from l3net.data.shards import find_shards, read_clips
from l3net.errors import UserError
from l3net.media.images import read_rgb
from tests.tiny_sets import COLOURS, IMAGE_CLASSES, save_image, write_image_shards, write_imagenet


@pytest.fixture
def imagenet(tmp_path):
    write_imagenet(tmp_path)
    return tmp_path


def test_class_folders(imagenet):
    images = image_sets.read_imagenet(imagenet)
    assert images.classes == IMAGE_CLASSES
    assert images.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert images.val.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.data == "part of ImageNet (3 of 1000 classes, 15 training and 6 val images)"
    assert not images.is_imagenet
    rgb = read_rgb(images.val.sources[5])
    assert rgb.shape == (30, 40, 3) and rgb.mean(axis=(0, 1)).argmax() == 2
    some = images.train.take([14, 0])
    assert some.labels.tolist() == [2, 0] and len(some) == 2
    assert some.sources == (images.train.sources[14], images.train.sources[0])


def test_other_photographs_are_named_after_their_folder(imagenet):
    for part in ("train", "val"):
        (imagenet / part / "n01").rename(imagenet / part / "bonsai")
    folder = imagenet.rename(imagenet.with_name("caltech3"))
    images = image_sets.read_imagenet(folder)
    assert images.data == "caltech3 (3 classes, 15 training and 6 val images)"
    assert images.classes == ("bonsai", "n02", "n03")


def test_whole_imagenet_is_called_so(imagenet, monkeypatch):
    for name, value in (("CLASSES", 3), ("TRAIN", 15), ("VAL", 6)):
        monkeypatch.setattr(image_sets, f"IMAGENET_{name}", value)
    images = image_sets.read_imagenet(imagenet)
    assert (images.data, images.is_imagenet) == ("ImageNet", True)
    assert not image_sets.read_imagenet(imagenet, images_per_class=4).is_imagenet


@pytest.mark.parametrize(("line", "step"), [("{} {}", -1), ("{},{}", 1), ("{1}", 1)])
def test_flat_val_with_a_list(tmp_path, line, step):
    names = write_imagenet(tmp_path, flat_val=True)
    lines = [line.format(*pair) for pair in names[::step]]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    images = image_sets.read_imagenet(tmp_path, val_labels=tmp_path / "list.txt")
    assert images.val.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_parts_of_it(imagenet):
    images, again, other = (
        image_sets.read_imagenet(imagenet, num_classes=2, images_per_class=3, seed=seed)
        for seed in (1, 1, 2)
    )
    assert (len(images.train), len(images.val), images.classes) == (6, 4, ("n01", "n02"))
    assert images.train.sources == again.train.sources != other.train.sources


def test_hash_tells_another_file_and_another_label(imagenet):
    before = image_sets.read_imagenet(imagenet).train
    assert before.content_hash == image_sets.read_imagenet(imagenet).train.content_hash
    save_image(imagenet / "train" / "n01" / "n01_0.JPEG", (0, 0, 0), size=(50, 50))
    assert before.content_hash != image_sets.read_imagenet(imagenet).train.content_hash
    relabelled = image_sets.Split(before.sources, before.identities, 2 - before.labels)
    assert before.content_hash != relabelled.content_hash


def test_formats_that_imagenet_holds():
    grey = Image.new("L", (8, 6), 200)
    cmyk = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    for image, kind in ((grey, "JPEG"), (cmyk, "JPEG"), (Image.new("RGBA", (8, 6)), "PNG")):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        assert read_rgb(buffer.getvalue()).shape == (6, 8, 3)


def test_mistakes_are_one_line(tmp_path):
    def fails(match, **settings):
        with pytest.raises(UserError, match=match) as error:
            image_sets.read_imagenet(tmp_path / "data", **settings)
        assert "\n" not in str(error.value)

    fails("train does not exist")
    save_image(tmp_path / "data" / "train" / "n01" / "a.JPEG", COLOURS[0])
    fails("has 1 class")
    save_image(tmp_path / "data" / "train" / "n02" / "a.JPEG", COLOURS[1])
    fails("val does not exist")
    (tmp_path / "data" / "val").mkdir()
    fails("holds no images")
    save_image(tmp_path / "data" / "val" / "a.JPEG", COLOURS[0])
    fails("give --imagenet_val_labels")
    fails("--imagenet_val_labels needs a list", val_labels=tmp_path / "none.txt")
    (tmp_path / "list.txt").write_text("b.JPEG n01\n")
    fails("does not give the class of a.JPEG", val_labels=tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("a.JPEG n01\n")
    fails("has no image of 1 classes, as n02", val_labels=tmp_path / "list.txt")
    with pytest.raises(UserError, match="the image: not an image of the formats") as error:
        read_rgb(b"text")
    assert "\n" not in str(error.value)


def test_frames_of_shards(tmp_path):
    folder = write_image_shards(tmp_path / "demo")
    images = image_sets.read_shards(folder)
    assert images.classes == ("green", "red") and not images.is_imagenet
    assert images.data == "demo data (synthetic): frames, 2 classes, 6 to train, 4 to test"
    assert images.train.labels.tolist() == [1, 0] * 3
    clip = next(read_clips(find_shards(folder, "train")))
    assert images.train.sources[0] == clip.frames[4]  # the middle one
    three = image_sets.read_shards(folder, frames_per_clip=3)
    assert three.train.sources[:3] == (clip.frames[1], clip.frames[4], clip.frames[7])
    assert (len(three.train), len(three.val)) == (18, 4)
    other = image_sets.read_shards(write_image_shards(tmp_path / "x", name="kinetics"))
    assert other.data.startswith("kinetics: frames") and not other.is_imagenet
    with pytest.raises(UserError, match="need two classes or more"):
        image_sets.read_shards(write_image_shards(tmp_path / "few", train=1, test=1))


def test_truth_instead_of_loose_labels(tmp_path):
    folder = write_image_shards(tmp_path / "demo")
    truth = tmp_path / "clips.csv"
    rows = [f"{split}{n},{'ab'[n % 2]}" for split in ("train", "test") for n in range(4)]
    truth.write_text("example_id,label\n" + "\n".join(rows) + "\n")
    images = image_sets.read_shards(folder, truth)
    assert images.classes == ("a", "b")
    assert len(images.train) == 4  # two training clips are not in the list
    truth.write_text("example_id,other\nx,y\n")
    with pytest.raises(UserError, match="columns example_id, label"):
        image_sets.read_shards(folder, truth)
