"""L3 Table 3: ImageNet classification with a linear layer on frozen vision features.

    python -m eval.table3_imagenet --saved_model=runs/l3/saved_model \
        --random_saved_model=runs/l3_random/saved_model --imagenet=data/imagenet --out_dir=runs/l3

Without --imagenet, frames of --demo_shards stand in and every row says so. Runs the rows "Ours" and
"Ours random", with --from_scratch also the network trained as a whole; quotes the others. Features
of images of any size come from the signature `vision`: 256 px for networks trained on 224 px crops.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from eval.methods import from_scratch, linear_layer, networks
from eval.reporting import cache, tables
from eval.reporting import flags as shared
from eval.sets import image_sets
from l3net import errors
from l3net.errors import UserError

OURS, OURS_RANDOM, FROM_SCRATCH = "Ours", "Ours random", "Ours, trained from scratch"
# Top-1 accuracy in per cent on ImageNet's val: L3 Table 3, and §3.4 for the last row.
PAPER = {
    "Random": 18.3,
    "Pathak et al.": 22.3,
    "Krähenbühl et al.": 24.5,
    "Donahue et al.": 31.0,
    "Doersch et al.": 31.7,
    "Zhang et al.": 32.6,
    "Noroozi and Favaro": 34.7,
    OURS_RANDOM: 12.9,
    OURS: 32.3,
    FROM_SCRATCH: 59.2,
}
_NOT_RUN_NOTES = {
    OURS: "give --saved_model",
    OURS_RANDOM: "give --random_saved_model",
    FROM_SCRATCH: "give --imagenet --from_scratch: 10^19 operations in 100 epochs",
}
# Part of every result's cache key: raise it when the protocol changes.
PROTOCOL = "table3 v2"
CHOOSE = "choose"  # --learning_rate=choose


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the layers, and the network from scratch, are trained.

    Attributes:
        augmentation: see `linear_layer.Training`.
        image_px: side of the crops; None is the network's `default_image_px`.
        num_epochs: over the training images.
        batch_size: of Adam's steps.
        learning_rate: the layers' initial one; None to choose it.
        scratch_learning_rate: that of the network from scratch.
        seeds: a layer, or network, is trained with each; the accuracy is their mean.
    """

    augmentation: str
    image_px: int | None
    num_epochs: int
    batch_size: int
    learning_rate: float | None
    scratch_learning_rate: float
    seeds: tuple[int, ...]

    def training(self, default_image_px: int) -> linear_layer.Training:
        """Returns the training on crops of `image_px`, or else of a network's default."""
        image_px = default_image_px if self.image_px is None else self.image_px
        return linear_layer.Training(self.augmentation, image_px, self.num_epochs, self.batch_size)


def read_images(
    *,
    imagenet: str | None,
    imagenet_val_labels: str | None,
    num_classes: int | None,
    images_per_class: int | None,
    demo_shards: str | None,
    demo_clips: str | None,
    frames_per_clip: int,
    seed: int,
) -> image_sets.ImageSet:
    """Reads ImageNet if it is given, else the demo data.

    Args:
        imagenet: folder, or None; this and the next three, see `image_sets.read_imagenet`.
        imagenet_val_labels: a list, or None.
        num_classes: of a part, or None.
        images_per_class: of a part, or None.
        demo_shards: folder, or None; this and the next two, see `image_sets.read_shards`.
        demo_clips: CSV with the truth about its frames, or None.
        frames_per_clip: to train on.
        seed: of the images drawn.

    Returns:
        The images.

    Raises:
        UserError: if neither is given, or it cannot be read.
    """
    if imagenet:
        return image_sets.read_imagenet(
            imagenet,
            val_labels=imagenet_val_labels,
            num_classes=num_classes,
            images_per_class=images_per_class,
            seed=seed,
        )
    if demo_shards:
        return image_sets.read_shards(demo_shards, demo_clips, frames_per_clip=frames_per_clip)
    raise UserError(
        "nothing to classify: give --imagenet (a folder with train/ and val/) or --demo_shards (a "
        "folder that data_prep.write_shards made)"
    )


def make_table(
    images: image_sets.ImageSet,
    *,
    frozen: Mapping[str, linear_layer.VisionNetwork],
    settings: Settings,
    cache_dir: pathlib.Path,
    scratch: from_scratch.ModelConfig | None = None,
) -> tables.Table:
    """Runs every row that can be run.

    Args:
        images: the data set.
        frozen: the networks OURS and OURS_RANDOM, as far as given.
        settings: see `Settings`.
        cache_dir: folder of the cache.
        scratch: the network to train from scratch, None for not at all.

    Returns:
        The table: the paper's rows; where not all of ImageNet is given, ours stand before them.
    """
    ran = {
        method: _frozen_row(images, method, network, settings, cache_dir)
        for method, network in frozen.items()
    }
    if scratch is not None:
        ran[FROM_SCRATCH] = _scratch_row(images, scratch, settings, cache_dir)
    rows = []
    if not images.is_imagenet:
        rows = [ran.pop(method) for method in (OURS_RANDOM, OURS, FROM_SCRATCH) if method in ran]
    rows += [_paper_row(method, ran.get(method), images) for method in PAPER]
    return tables.Table(
        "table3",
        "L3 Table 3: ImageNet classification, a linear layer on frozen features",
        [tables.Metric("accuracy", "top-1 accuracy %")],
        rows,
        _notes(images, settings),
    )


def _paper_row(method: str, made: tables.Row | None, images: image_sets.ImageSet) -> tables.Row:
    """Returns a row of the paper, with our number if there is one."""
    paper = {"accuracy": PAPER[method]}
    if made is not None:
        return dataclasses.replace(made, paper=paper)
    if method not in _NOT_RUN_NOTES:
        return tables.Row("ImageNet", method, tables.QUOTED, paper)
    note = _NOT_RUN_NOTES[method]
    if not images.is_imagenet and method != FROM_SCRATCH:
        note = "needs all of ImageNet"
    return tables.Row("ImageNet", method, tables.NOT_RUN, paper, note=note)


def _notes(images: image_sets.ImageSet, settings: Settings) -> list[str]:
    rate = f"{settings.learning_rate}"
    if settings.learning_rate is None:
        grid = ", ".join(f"{value:g}" for value in linear_layer.RATE_GRID)
        rate = f"chosen from {grid} on a held-out tenth of the training images"
    crops = {
        linear_layer.INCEPTION: "random crops, flips and colours of the Inception recipe",
        linear_layer.NONE: "central crops only, unlike the paper",
    }[settings.augmentation]
    notes = [
        "Every val (or test) image counts once; mean over the seeds "
        f"{', '.join(map(str, settings.seeds))}. Quoted numbers: L3 Table 3.",
        f"Training: {crops}; {settings.num_epochs} epochs, batches of {settings.batch_size}, "
        f"learning rate {rate} (ours; L3 gives none).",
    ]
    if "synthetic" in images.data:
        notes.append("The demo data is synthetic: its numbers show that everything runs, no more.")
    return notes


def _frozen_row(
    images: image_sets.ImageSet,
    method: str,
    network: linear_layer.VisionNetwork,
    settings: Settings,
    cache_dir: pathlib.Path,
) -> tables.Row:
    training = settings.training(network.default_image_px)
    protocol = [linear_layer.PROTOCOL, network.content_hash, dataclasses.asdict(training)]
    rate, choice = _rate(images, network, training, protocol, settings, cache_dir)
    details = {
        "learning_rate": rate,
        "learning_rate_choice": choice,
        "training": dataclasses.asdict(training),
        "saved_model": {"hash": network.content_hash, "metadata": network.metadata},
    }

    def accuracy(seed: int) -> float:
        # Before the training, of which a run that is killed later would keep nothing.
        linear_layer.central_features(network, images.val, training, cache_dir=cache_dir)
        layers = linear_layer.train(
            network,
            images.train,
            training,
            rates=[rate],
            num_classes=len(images.classes),
            seed=seed,
            cache_dir=cache_dir,
        )
        (found,) = linear_layer.accuracies(
            network, images.val, training, layers, cache_dir=cache_dir
        )
        return found

    width = network.metadata.get("model_config", {}).get("width")
    note = [networks.in_words(network)] + ([] if width is None else [f"width {width:g}"])
    note += [f"{training.image_px} px images", f"learning rate {rate:g}"]
    asked = [*protocol, rate]
    return _row(images, method, accuracy, asked, settings.seeds, cache_dir, note, details)


def _rate(
    images: image_sets.ImageSet,
    network: linear_layer.VisionNetwork,
    training: linear_layer.Training,
    protocol: list[Any],
    settings: Settings,
    cache_dir: pathlib.Path,
) -> tuple[float, dict[str, float] | None]:
    """Returns the learning rate and, if it was chosen, the held-out accuracy of each."""
    if settings.learning_rate is not None:
        return settings.learning_rate, None
    seed = settings.seeds[0]

    def choose() -> dict[str, Any]:
        rate, found = linear_layer.choose_rate(
            network,
            images.train,
            training,
            num_classes=len(images.classes),
            seed=seed,
            cache_dir=cache_dir,
        )
        grid = [f"{value:g}" for value in linear_layer.RATE_GRID]
        return {"rate": rate, "held_out": dict(zip(grid, found, strict=True))}

    asked = [*protocol, images.train.content_hash, list(linear_layer.RATE_GRID), seed]
    chosen = _remembered(asked, cache_dir, choose)
    return chosen["rate"], chosen["held_out"]


def _scratch_row(
    images: image_sets.ImageSet,
    config: from_scratch.ModelConfig,
    settings: Settings,
    cache_dir: pathlib.Path,
) -> tables.Row:
    training = settings.training(linear_layer.default_image_px(config.frame_px))
    rate = settings.scratch_learning_rate
    described = {
        "model_config": dataclasses.asdict(config),
        "training": dataclasses.asdict(training),
        "learning_rate": rate,
    }

    def accuracy(seed: int) -> float:
        model = from_scratch.train(
            config,
            images.train,
            training,
            rate=rate,
            num_classes=len(images.classes),
            seed=seed,
            cache_dir=cache_dir,
        )
        return from_scratch.accuracy(model, images.val, training)

    note = [config.model, f"width {config.width:g}", f"{training.num_epochs} epochs"]
    note += [f"{training.image_px} px images", f"learning rate {rate:g}"]
    asked = [from_scratch.PROTOCOL, linear_layer.PROTOCOL, described]
    return _row(images, FROM_SCRATCH, accuracy, asked, settings.seeds, cache_dir, note, described)


def _row(
    images: image_sets.ImageSet,
    method: str,
    accuracy: Callable[[int], float],
    asked: list[Any],
    seeds: Sequence[int],
    cache_dir: pathlib.Path,
    note: Sequence[str],
    details: dict[str, Any],
) -> tables.Row:
    """Makes a row from the accuracy with each seed, that depends on `asked`, images and seed."""
    data_hash = [images.train.content_hash, images.val.content_hash]

    def run(seed: int) -> dict[str, Any]:
        return {"accuracy": 100 * accuracy(seed)}

    per_seed = {
        str(seed): _remembered([*asked, data_hash, seed], cache_dir, functools.partial(run, seed))
        for seed in seeds
    }
    found = [result["accuracy"] for result in per_seed.values()]
    details = details | {
        "accuracy_std": float(np.std(found)),
        "per_seed": per_seed,
        "num_classes": len(images.classes),
        "data_hash": data_hash,
    }
    ours = {"accuracy": float(np.mean(found))}
    return tables.Row(images.data, method, tables.RUN, {}, ours, ", ".join(note), details)


def _remembered(
    asked: list[Any], cache_dir: pathlib.Path, run: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Returns the result of `run`, from the cache if everything is as it was."""
    key = cache.key_of(PROTOCOL, asked)
    found = cache.read_json(cache_dir / "results", key)
    if found is None:
        started = time.monotonic()
        found = {**run(), "seconds": round(time.monotonic() - started, 1)}
        cache.write_json(cache_dir / "results", key, found)
    return found


def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    return {**shared.define(), **_define_data_flags(), **_define_training_flags()}


def _define_data_flags() -> dict[str, flags.FlagHolder]:
    return {
        "imagenet": flags.DEFINE_string(
            "imagenet", None, "Folder of ImageNet ILSVRC 2012: train/ with class folders, val/."
        ),
        "imagenet_val_labels": flags.DEFINE_string(
            "imagenet_val_labels",
            None,
            "For a val/ without class folders: 'name class' on each line, or the class (such as "
            "n01440764) alone, in the order of the images' names.",
        ),
        "num_classes": flags.DEFINE_integer(
            "num_classes", None, "Use the first of the sorted classes only.", lower_bound=2
        ),
        "images_per_class": flags.DEFINE_integer(
            "images_per_class", None, "Train on that many images of each class.", lower_bound=1
        ),
        "demo_clips": flags.DEFINE_string(
            "demo_clips",
            None,
            "clips.csv of the demo data: what is really seen, in place of its loose labels.",
        ),
        "frames_per_clip": flags.DEFINE_integer(
            "frames_per_clip", 1, "Training frames of each clip of --demo_shards.", lower_bound=1
        ),
    }


def _define_training_flags() -> dict[str, flags.FlagHolder]:
    grid = ", ".join(f"{rate:g}" for rate in linear_layer.RATE_GRID)
    return {
        "augmentation": flags.DEFINE_enum(
            "augmentation",
            linear_layer.INCEPTION,
            linear_layer.AUGMENTATIONS,
            "inception: random crops, flips, colours, as in the paper; the network runs on every "
            "crop. none: central crops, whose features are computed once.",
        ),
        "image_px": flags.DEFINE_integer(
            "image_px",
            None,
            "Side of the square crops. Default: 256/224 of what the network was trained on, 256 "
            "for the paper's.",
            lower_bound=1,
        ),
        "epochs": flags.DEFINE_integer(
            "epochs", 100, "Over the training images; 100 in Szegedy et al.", lower_bound=1
        ),
        "batch_size": flags.DEFINE_integer(
            "batch_size", 256, "Of Adam's steps (ours).", lower_bound=1
        ),
        "learning_rate": flags.DEFINE_string(
            "learning_rate",
            CHOOSE,
            f'Initial one, or "{CHOOSE}": from {grid}, on a held-out tenth of the training images. '
            "L3 gives none.",
        ),
        "seeds": flags.DEFINE_integer(
            "seeds", 1, "Layers to train, with --seed and the numbers after it.", lower_bound=1
        ),
        "from_scratch": flags.DEFINE_bool(
            "from_scratch",
            False,
            "Also train the whole vision network on the images, of --saved_model's size or else "
            "the paper's (L3 §3.4). Wants a GPU.",
        ),
        "scratch_learning_rate": flags.DEFINE_float(
            "scratch_learning_rate",
            from_scratch.LEARNING_RATE,
            "Initial one of --from_scratch; L3 §2.2: 1e-4 usually works.",
            lower_bound=1e-9,
        ),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, makes the table, writes it."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
    values = {name: holder.value for name, holder in holders.items()}
    settings = Settings(
        augmentation=values["augmentation"],
        image_px=values["image_px"],
        num_epochs=values["epochs"],
        batch_size=values["batch_size"],
        learning_rate=shared.positive_or_word("learning_rate", values["learning_rate"], CHOOSE),
        scratch_learning_rate=values["scratch_learning_rate"],
        seeds=tuple(range(values["seed"], values["seed"] + values["seeds"])),
    )
    given = {OURS_RANDOM: values["random_saved_model"], OURS: values["saved_model"]}
    asked = ("imagenet", "imagenet_val_labels", "num_classes", "images_per_class", "demo_shards")
    asked += ("demo_clips", "frames_per_clip", "seed")

    def make() -> tables.Table:
        frozen = {name: linear_layer.VisionNetwork(path) for name, path in given.items() if path}
        like_ours = from_scratch.config_like(frozen.get(OURS))
        return make_table(
            read_images(**{name: values[name] for name in asked}),
            frozen=frozen,
            settings=settings,
            cache_dir=pathlib.Path(values["cache_dir"]),
            scratch=like_ours if values["from_scratch"] else None,
        )

    tables.make_and_write(make, values)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
