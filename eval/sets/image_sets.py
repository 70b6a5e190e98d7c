"""Labelled images, read from their folders, for a linear classifier of frozen features (L3 §3.4).

- ImageNet: `train/n01440764/*.JPEG` and `val/`, with class folders too, or flat with a list of the
  images' classes; and any other photographs in this layout.
- frames of a prepared shard folder (l3net.data.schema), its splits train and test.

Nothing is decoded until `l3net.media.images.read_rgb` is called.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable

import numpy as np

from eval.reporting import cache, synthetic
from eval.sets import clip_labels
from l3net.errors import UserError
from l3net.files import read_text
from l3net.media.file_kinds import IMAGE, SUFFIXES

IMAGENET_CLASSES, IMAGENET_TRAIN, IMAGENET_VAL = 1000, 1_281_167, 50_000
_TRAIN, _VAL, _TEST = "train", "val", "test"
_SYNSET = re.compile(r"n\d+")


@dataclasses.dataclass(frozen=True)
class Split:
    """Some labelled images.

    Attributes:
        sources: path of each image, or the encoded image itself.
        identities: a text for each image that changes when it does: name and size of a file
            (hashing the 150 GB of ImageNet would take longer than reading it), or a hash.
        labels: int64 [num_images], indices into the classes.
    """

    sources: tuple[str | bytes, ...]
    identities: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: Iterable[int]) -> "Split":
        """Returns some of the images, in the order given."""
        rows = np.asarray(rows, np.int64)
        return Split(
            tuple(self.sources[row] for row in rows),
            tuple(self.identities[row] for row in rows),
            self.labels[rows],
        )

    @functools.cached_property
    def content_hash(self) -> str:
        """A hash of every image's identity and label."""
        return cache.key_of(self.identities, self.labels.tolist())


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A data set of images.

    Attributes:
        data: name and size for a table's row, such as what part of ImageNet it is.
        classes: names, by class index.
        train: the training images.
        val: the images to test on.
        is_imagenet: whether this is all of ImageNet, so that the paper's numbers compare.
        is_synthetic: whether it is the demo data.
    """

    data: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    is_imagenet: bool = False
    is_synthetic: bool = False


# --- ImageNet ------------------------------------------------------------------------------------
def read_imagenet(
    folder: str | pathlib.Path,
    *,
    val_labels: str | pathlib.Path | None = None,
    num_classes: int | None = None,
    images_per_class: int | None = None,
    seed: int = 0,
) -> ImageSet:
    """Reads ImageNet, a part of it, or another set in its layout, which is called by its folder.

    Args:
        folder: holds train/ and val/.
        val_labels: for a flat val/: a file with "name class" on each line, or the class alone, line
            by line in the order of the images' names.
        num_classes: takes the first of the sorted classes; None takes all.
        images_per_class: training images drawn of each class; None takes all. All val images of
            the classes are tested.
        seed: seed of that draw.

    Raises:
        UserError: if a folder is missing or empty, or the classes do not agree.
    """
    folder = pathlib.Path(folder)
    train = _class_folders(folder / _TRAIN)
    if not train:
        raise UserError(f"{folder / _TRAIN} holds no class folders of images")
    classes = sorted(train)[:num_classes]
    if len(classes) < 2:
        raise UserError(f"{folder / _TRAIN} has {len(classes)} class(es); need two or more")
    val = _class_folders(folder / _VAL) or _listed(folder / _VAL, val_labels)
    missing = [name for name in classes if not val.get(name)]
    if missing:
        raise UserError(f"{folder / _VAL} has no image of {len(missing)} classes, as {missing[0]}")
    rng = np.random.default_rng(seed)
    if images_per_class is not None:
        train = {name: _drawn(train[name], images_per_class, rng) for name in classes}
    parts = [_from_files(folder, [paths[name] for name in classes]) for paths in (train, val)]
    sizes = (len(classes), *map(len, parts))
    is_all = sizes == (IMAGENET_CLASSES, IMAGENET_TRAIN, IMAGENET_VAL)
    data = "ImageNet" if is_all else _named(folder, classes, sizes)
    return ImageSet(data, tuple(classes), parts[0], parts[1], is_all)


def _named(folder: pathlib.Path, classes: list[str], sizes: tuple[int, ...]) -> str:
    """Returns what a table's row says: part of ImageNet if its synsets are the classes' names."""
    amount = "{} classes, {} training and {} val images".format(*sizes)
    if all(map(_SYNSET.fullmatch, classes)):
        return f"part of ImageNet ({amount.replace(' ', f' of {IMAGENET_CLASSES} ', 1)})"
    return f"{folder.resolve().name} ({amount})"


def _class_folders(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Returns the images of each class folder; empty if there are no class folders."""
    if not folder.is_dir():
        raise UserError(f"the image folder {folder} does not exist; need train/ and val/")
    by_class = {path.name: _images(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    return {name: images for name, images in by_class.items() if images}


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES[IMAGE])


def _listed(
    folder: pathlib.Path, val_labels: str | pathlib.Path | None
) -> dict[str, list[pathlib.Path]]:
    """Returns the images of a flat folder by class, which a list gives."""
    images = _images(folder)
    if not images:
        raise UserError(f"{folder} holds no images, nor class folders of images")
    if val_labels is None:
        raise UserError(f"{folder} has no class folders; give --imagenet_val_labels, a list")
    text = read_text(val_labels, "--imagenet_val_labels needs a list")
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    if all(len(line) == 1 for line in lines) and len(lines) == len(images):
        lines = [[path.name, *line] for path, line in zip(images, lines, strict=True)]
    class_of = {pathlib.Path(line[0]).stem: line[1] for line in lines if len(line) > 1}
    by_class: dict[str, list[pathlib.Path]] = {}
    for path in images:
        if path.stem not in class_of:
            raise UserError(
                f"{val_labels} does not give the class of {path.name}; need a line 'name class' "
                f"for each image, or {len(images)} classes alone in the order of the names"
            )
        by_class.setdefault(class_of[path.stem], []).append(path)
    return by_class


def _drawn(paths: list[pathlib.Path], count: int, rng: np.random.Generator) -> list[pathlib.Path]:
    rows = rng.permutation(len(paths))[:count]
    return [paths[row] for row in sorted(rows)]


def _from_files(root: pathlib.Path, by_class: list[list[pathlib.Path]]) -> Split:
    paths = [path for images in by_class for path in images]
    identities = [f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in paths]
    labels = np.repeat(np.arange(len(by_class)), [len(images) for images in by_class])
    return Split(tuple(map(str, paths)), tuple(identities), labels)


# --- Prepared shards -----------------------------------------------------------------------------
def read_shards(
    folder: str | pathlib.Path,
    seen_csv: str | pathlib.Path | None = None,
    *,
    frames_per_clip: int = 1,
) -> ImageSet:
    """Reads frames of the labelled clips of a prepared folder; they stand in for ImageNet.

    Our choice: training frames are equally spaced in their clip, the middle frame is tested; of
    several labels the first counts; clips without a label are left out. The JPEGs are held in
    memory, some 15 kB each.

    Args:
        folder: as data_prep.write_shards leaves it, with splits train and test.
        seen_csv: columns example_id and label, which then count instead of the clips' labels:
            clips.csv of the demo data, whose labels are loose.
        frames_per_clip: training frames of each clip.

    Raises:
        UserError: if a split or the CSV cannot be read, or there are too few classes.
    """
    seen = clip_labels.read_labels(seen_csv, "label") if seen_csv else None
    frames: dict[str, list[tuple[bytes, str]]] = {_TRAIN: [], _TEST: []}
    name = ""
    for part, count in ((_TRAIN, frames_per_clip), (_TEST, 1)):
        for clip, label in clip_labels.labelled_clips(folder, part, seen):
            name = clip.dataset_name
            if label and clip.frames:
                frames[part] += [(frame, label) for frame in _spaced(clip.frames, count)]
    classes = sorted({label for _, label in frames[_TRAIN]})
    unknown = {label for _, label in frames[_TEST]} - set(classes)
    if len(classes) < 2 or unknown or not frames[_TEST]:
        raise UserError(
            f"{folder} has {len(classes)} classes in split train, {len(frames[_TEST])} labelled "
            f"clips in test, and {len(unknown)} test classes without a training clip; need two "
            "classes or more, and every test class in train"
        )
    train, test = (_from_frames(frames[part], classes) for part in (_TRAIN, _TEST))
    sizes = f"frames, {len(classes)} classes, {len(train)} to train, {len(test)} to test"
    data, is_synthetic = f"{synthetic.display_name(name)}: {sizes}", synthetic.is_synthetic(name)
    return ImageSet(data, tuple(classes), train, test, is_synthetic=is_synthetic)


def _spaced(frames: tuple[bytes, ...], count: int) -> list[bytes]:
    """Returns equally spaced frames; one is the middle one."""
    return [frames[(2 * number + 1) * len(frames) // (2 * count)] for number in range(count)]


def _from_frames(frames: list[tuple[bytes, str]], classes: list[str]) -> Split:
    identities = tuple(cache.hash_array(np.frombuffer(jpeg, np.uint8)) for jpeg, _ in frames)
    labels = np.array([classes.index(label) for _, label in frames], np.int64)
    return Split(tuple(jpeg for jpeg, _ in frames), identities, labels)
