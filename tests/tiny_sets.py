"""Data sets at the smallest size, in the layouts that the tables read: sounds, images, shards."""

import pathlib

import numpy as np
import soundfile
from PIL import Image

from l3net.data import schema
from tests import tiny_shards

IMAGE_CLASSES = ("n01", "n02", "n03")
COLOURS = ((220, 30, 30), (30, 220, 30), (30, 30, 220))


# --- Sound ---------------------------------------------------------------------------------------
def write_tone(path, hz=440.0, seconds=1.0, rate_hz=44_100, channels=1) -> None:
    """Writes a sound file of one pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate_hz)


def write_esc50(folder, categories=("dog", "rain"), folds=range(1, 6), seconds=1.0) -> pathlib.Path:
    """Writes one recording per class and fold; the pitch is that of the class."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target, category in enumerate(categories):
        for fold in folds:
            name = f"{fold}-{target}-A-{target}.wav"
            write_tone(folder / "audio" / name, hz=300 * (target + 1) + 5 * fold, seconds=seconds)
            lines.append(f"{name},{fold},{target},{category},{target == 0 or fold > 1},x,A")
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_spoken_digits(folder, speakers=("ann", "bob", "zoe"), digits=range(3), per=2):
    """Writes recordings named as the Free Spoken Digit Dataset's; the pitch is the digit's."""
    for digit in digits:
        for speaker in speakers:
            for index in range(per):
                path = folder / f"{digit}_{speaker}_{index}.wav"
                write_tone(path, hz=300 * (digit + 1), seconds=0.3 + 0.9 * index, rate_hz=8000)
    return folder


def write_sound_shards(folder, *, name="demo") -> pathlib.Path:
    """Writes a prepared folder: two classes that differ in pitch; one clip has no label."""
    for split, count in (("train", 6), ("test", 4)):
        clips = [_sounding_clip(split, number, name) for number in range(count)]
        tiny_shards.write_shards(folder, clips, split=split, name=name)
    return folder


def _sounding_clip(split: str, number: int, name: str) -> schema.Clip:
    example_id, label = f"{split}{number}", number % 2
    hz = 300 * (label + 1) + len(example_id)
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(96_000) / 48_000)
    has_label = example_id != "train0"
    return tiny_shards.make_clip(
        number,
        example_id=example_id,
        dataset_name=name,
        labels=(("bell", "drum")[label], "Sound") if has_label else (),  # the first counts
        label_indices=(label, 2) if has_label else (),
        waveform=np.round(wave * 32767).astype(np.int16),
    )


# --- Images --------------------------------------------------------------------------------------
def save_image(path, colour, size=(40, 30), seed=0) -> None:
    """Writes an image of one colour with some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_noisy(colour, size[::-1], seed)).save(path)


def _noisy(colour, shape: tuple[int, int], seed) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-20, 21, (*shape, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def write_imagenet(folder, *, per_class=5, flat_val=False) -> list[tuple[str, str]]:
    """Writes a tiny ImageNet: a colour per class; two val images of each. Returns their classes."""
    names = []
    for label, (name, colour) in enumerate(zip(IMAGE_CLASSES, COLOURS, strict=True)):
        for number in range(per_class):
            save_image(folder / "train" / name / f"{name}_{number}.JPEG", colour, seed=number)
        for number in range(2):
            flat = f"ILSVRC2012_val_{2 * label + number:08d}.JPEG"
            where = flat if flat_val else f"{name}/{flat}"
            save_image(folder / "val" / where, colour, seed=100 + number)
            names.append((flat, name))
    return names


def write_image_shards(folder, *, name="demo", train=6, test=4) -> pathlib.Path:
    """Writes a prepared folder of two classes that differ in their frames' colour."""
    for split, count in (("train", train), ("test", test)):
        clips = [_coloured_clip(split, number, name) for number in range(count)]
        tiny_shards.write_shards(folder, clips, split=split, name=name)
    return folder


def _coloured_clip(split: str, number: int, name: str) -> schema.Clip:
    label = number % 2
    frames = [_noisy(np.array(COLOURS[label]) + k, (32, 40), [number, k]) for k in range(9)]
    return tiny_shards.make_clip(
        number,
        seconds=9 / 25,
        size_px=(32, 40),
        example_id=f"{split}{number}",
        dataset_name=name,
        frames=tuple(map(tiny_shards.encode_jpeg, frames)),
        labels=("red", "Colour") if label == 0 else ("green",),
        label_indices=(0,),
    )
