r"""L3 Table 3: ImageNet classification with a linear layer on frozen vision features.

    python -m eval.table3_imagenet --saved_model=runs/l3/saved_model \
        --random_saved_model=runs/l3_random/saved_model --imagenet=data/imagenet --out_dir=runs/l3

Without --imagenet, frames of --shards take its part and every row says so; other photographs in
ImageNet's layout are named after their folder. Runs the rows "Ours" and "Ours random", one for each
of --further_saved_models, with --from_scratch also the complete network trained on the images;
quotes the others. Features of images of any size come from the signature `vision`: 256 px for
networks trained on 224 px crops.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.methods import from_scratch, linear_layer, networks
from eval.metrics.accuracy import binomial_error
from eval.reporting import cache, paper_values, synthetic, tables
from eval.reporting.table_config import FrozenNetworksConfig, positive_or_word
from eval.sets import image_sets
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import image_classifier, saved_model

OURS, OURS_RANDOM, FROM_SCRATCH = "Ours", "Ours random", "Ours, trained from scratch"
# The paper's rows, in its order.
ROWS = paper_values.methods("table3", paper_values.IMAGENET)
_NOT_RUN_NOTES = {
    OURS: "give --saved_model",
    OURS_RANDOM: "give --random_saved_model",
    FROM_SCRATCH: "give --imagenet --from_scratch: 10^19 operations in 100 epochs",
}
# Part of every result's cache key: raise it when the protocol changes.
PROTOCOL = "table3 v4"
CHOOSE = "choose"  # --learning_rate=choose


_SCRATCH_RATE = from_scratch.LEARNING_RATE
_RATES = ", ".join(f"{rate:g}" for rate in linear_layer.RATE_GRID)


@dataclasses.dataclass(frozen=True)
class Images:
    """Images."""

    shards: str | None = None
    clips: str | None = None
    seed: int = 0
    imagenet: str | None = setting(
        None,
        "Folder of ImageNet ILSVRC 2012, or of other photographs in its layout: train/ with class "
        "folders, and val/.",
    )
    imagenet_val_labels: str | None = setting(
        None,
        "File with the classes of a val/ without class folders: 'name class' on each line, or the "
        "class (such as n01440764) alone, in the order of the images' names.",
    )
    num_classes: int | None = setting(
        None, "Number of ImageNet's sorted classes to use; all 1000 without this flag.", at_least=2
    )
    images_per_class: int | None = setting(
        None, "Training images drawn of each ImageNet class; all without this flag.", at_least=1
    )
    frames_per_clip: int = setting(1, "Training frames of each clip of --shards.", at_least=1)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Training of the linear layers, and of the network from scratch."""

    seed: int = 0
    augmentation: str = setting(
        linear_layer.INCEPTION,
        "Training crops. inception: random crops, flips and colours, as in the paper; the network "
        "runs on every crop. none: central crops, whose features are computed once.",
        choices=linear_layer.AUGMENTATIONS,
    )
    image_px: int | None = setting(
        None,
        "Side of the square crops in pixels. Without this flag 256/224 of what the network was "
        "trained on: 256 for the paper's.",
        at_least=1,
    )
    epochs: int = setting(100, "Epochs over the training images; 100 in Szegedy et al.", at_least=1)
    batch_size: int = setting(
        256, "Images of one step of Adam; our choice, L3 gives none.", at_least=1
    )
    learning_rate: str = setting(
        CHOOSE,
        f'Initial learning rate of the layers, or "{CHOOSE}": from {_RATES}, by the accuracy on '
        "held-out tenths of the training images. L3 gives none.",
    )
    seeds: int = setting(
        1,
        "Layers to train, with --seed and the numbers after it; the accuracy is their mean.",
        at_least=1,
    )
    from_scratch: bool = setting(
        False,
        "Also train the complete vision network on the images, of --saved_model's size or else the "
        "paper's (L3 §3.4). Wants a GPU.",
    )
    scratch_epochs: int | None = setting(
        None,
        "Epochs of --from_scratch; those of --epochs without this flag. A few hundred photographs "
        "want more than a linear layer does.",
        at_least=1,
    )
    scratch_learning_rate: float = setting(
        _SCRATCH_RATE,
        "Initial learning rate of --from_scratch; L3 §2.2: 1e-4 usually works.",
        at_least=1e-9,
    )

    @property
    def rate(self) -> float | None:
        """The layers' initial learning rate, None to choose it."""
        return positive_or_word("learning_rate", self.learning_rate, CHOOSE)

    @property
    def all_seeds(self) -> range:
        """The seed of each layer."""
        return range(self.seed, self.seed + self.seeds)

    def training(self, default_image_px: int) -> linear_layer.Training:
        """Returns the training on crops of `image_px`, or else of a network's default."""
        image_px = default_image_px if self.image_px is None else self.image_px
        return linear_layer.Training(self.augmentation, image_px, self.epochs, self.batch_size)


def read_images(given: Images) -> image_sets.ImageSet:
    """Reads ImageNet if it is given, else the prepared folder.

    Raises:
        UserError: if neither is given, or it cannot be read.
    """
    if given.imagenet:
        return image_sets.read_imagenet(
            given.imagenet,
            val_labels=given.imagenet_val_labels,
            num_classes=given.num_classes,
            images_per_class=given.images_per_class,
            seed=given.seed,
        )
    if given.shards:
        return image_sets.read_shards(
            given.shards, given.clips, frames_per_clip=given.frames_per_clip
        )
    raise UserError(
        "nothing to classify: give --imagenet (a folder with train/ and val/) or --shards (a "
        "folder that data_prep.write_shards made)"
    )


def make_table(
    images: image_sets.ImageSet,
    *,
    frozen: Mapping[str, linear_layer.VisionNetwork],
    settings: Settings,
    cache_dir: pathlib.Path,
    scratch: image_classifier.ModelConfig | None = None,
) -> tables.Table:
    """Runs every row that can be run: the `frozen` networks by method, and `scratch` if given.

    Returns:
        The table: the paper's rows, behind those of ours that it has not; where not all of ImageNet
        is given, those are all of ours.
    """
    ran = {
        method: _frozen_row(images, method, network, settings, cache_dir)
        for method, network in frozen.items()
    }
    if scratch is not None:
        ran[FROM_SCRATCH] = _scratch_row(images, scratch, settings, cache_dir)
    own = [method for method in ran if not (images.is_imagenet and method in ROWS)]
    rows = [ran.pop(method) for method in own]
    rows += [_paper_row(method, ran.get(method), images) for method in ROWS]
    return tables.Table(
        "table3",
        "L3 Table 3: image classification, a linear layer on frozen features",
        [tables.Metric("accuracy", "top-1 accuracy %")],
        rows,
        _notes(images, settings),
    )


def _paper_row(method: str, made: tables.Row | None, images: image_sets.ImageSet) -> tables.Row:
    """Returns a row of the paper, with our number if there is one."""
    paper = paper_values.values("table3", paper_values.IMAGENET, method)
    if made is not None:
        return dataclasses.replace(made, paper=paper)
    if method not in _NOT_RUN_NOTES:
        return tables.Row("ImageNet", method, tables.QUOTED, paper)
    note = _NOT_RUN_NOTES[method]
    if not images.is_imagenet and method != FROM_SCRATCH:
        note = "needs all of ImageNet"
    return tables.Row("ImageNet", method, tables.NOT_RUN, paper, note=note)


def _notes(images: image_sets.ImageSet, settings: Settings) -> list[str]:
    rate = f"{settings.rate}"
    if settings.rate is None:
        rate = f"chosen from {_RATES} on held-out tenths of the training images"
    crops = {
        linear_layer.INCEPTION: "random crops, flips and colours of the Inception recipe",
        linear_layer.NONE: "central crops only, unlike the paper",
    }[settings.augmentation]
    notes = [
        "Every val (or test) image counts once; mean over the seeds "
        f"{', '.join(map(str, settings.all_seeds))}. Quoted numbers: L3 Table 3.",
        f"Training: {crops}; {settings.epochs} epochs, batches of {settings.batch_size}, "
        f"learning rate {rate} (our choice; L3 gives none). Gradients clipped at "
        f"{linear_layer.CLIP_NORM:g}, tested with the running average of the weights. Errors: "
        "binomial, of the test images.",
    ]
    if images.is_synthetic:
        notes.append(synthetic.NOTE)
    return notes


def _frozen_row(
    images: image_sets.ImageSet,
    method: str,
    network: linear_layer.VisionNetwork,
    settings: Settings,
    cache_dir: pathlib.Path,
) -> tables.Row:
    training = settings.training(network.default_image_px)
    setup = linear_layer.Setup(network, training, len(images.classes), cache_dir)
    protocol = [linear_layer.PROTOCOL, network.content_hash, dataclasses.asdict(training)]
    rate, choice = _rate(images, setup, protocol, settings)
    details = {
        "learning_rate": rate,
        "learning_rate_choice": choice,
        "training": dataclasses.asdict(training),
        "saved_model": {"hash": network.content_hash, "metadata": network.metadata},
    }

    def accuracy(seed: int) -> float:
        # Before the training, of which a run that is killed later would keep nothing.
        linear_layer.central_features(setup, images.val)
        layers = linear_layer.train(setup, images.train, [rate], seed)
        return linear_layer.accuracies(setup, images.val, layers)[0]

    width = network.metadata.get("model_config", {}).get("width")
    note = [networks.in_words(network)] + ([] if width is None else [f"width {width:g}"])
    note += [f"{training.image_px} px images", f"learning rate {rate:g}"]
    row = tables.Row(images.data, method, tables.RUN, note=", ".join(note), details=details)
    return _measured(row, images, accuracy, [*protocol, rate], settings.all_seeds, cache_dir)


def _rate(
    images: image_sets.ImageSet,
    setup: linear_layer.Setup,
    protocol: list[Any],
    settings: Settings,
) -> tuple[float, dict[str, float] | None]:
    """Returns the learning rate and, if it was chosen, the held-out accuracy of each."""
    if settings.rate is not None:
        return settings.rate, None

    def choose() -> dict[str, Any]:
        rate, accuracies = linear_layer.choose_rate(setup, images.train, settings.seed)
        grid = [f"{value:g}" for value in linear_layer.RATE_GRID]
        return {"rate": rate, "held_out": dict(zip(grid, accuracies, strict=True))}

    parts = [*protocol, images.train.content_hash, list(linear_layer.RATE_GRID), settings.seed]
    parts += [linear_layer.MIN_HELD_OUT, linear_layer.MAX_DRAWS]
    chosen = cache.remembered(setup.cache_dir, cache.key_of(PROTOCOL, parts), choose)
    return chosen["rate"], chosen["held_out"]


def _scratch_row(
    images: image_sets.ImageSet,
    config: image_classifier.ModelConfig,
    settings: Settings,
    cache_dir: pathlib.Path,
) -> tables.Row:
    training = settings.training(linear_layer.default_image_px(config.frame_px))
    if settings.scratch_epochs is not None:
        training = dataclasses.replace(training, num_epochs=settings.scratch_epochs)
    rate = settings.scratch_learning_rate
    details = {
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
    protocol = [from_scratch.PROTOCOL, linear_layer.PROTOCOL, details]
    row = tables.Row(images.data, FROM_SCRATCH, tables.RUN, note=", ".join(note), details=details)
    return _measured(row, images, accuracy, protocol, settings.all_seeds, cache_dir)


def _measured(
    row: tables.Row,
    images: image_sets.ImageSet,
    accuracy: Callable[[int], float],
    protocol: list[Any],
    seeds: Sequence[int],
    cache_dir: pathlib.Path,
) -> tables.Row:
    """Adds to a row the accuracy of each seed, which depends on protocol, images and seed alone."""
    data_hash = [images.train.content_hash, images.val.content_hash]

    def run(seed: int) -> dict[str, Any]:
        return {"accuracy": 100 * accuracy(seed)}

    per_seed = {}
    for seed in seeds:
        key = cache.key_of(PROTOCOL, protocol, data_hash, seed)
        per_seed[str(seed)] = cache.remembered(cache_dir, key, functools.partial(run, seed))
    accuracies = [result["accuracy"] for result in per_seed.values()]
    details = row.details | {
        "accuracy_std": float(np.std(accuracies)),
        "per_seed": per_seed,
        "num_classes": len(images.classes),
        "data_hash": data_hash,
    }
    mean = float(np.mean(accuracies))
    errors = {"accuracy": binomial_error(mean, len(images.val))}
    return dataclasses.replace(row, ours={"accuracy": mean}, errors=errors, details=details)


def _like(network: linear_layer.VisionNetwork | None) -> image_classifier.ModelConfig:
    """Returns the configuration of a network; without one that of the paper's L3-Net."""
    if network is None or saved_model.IMPORTED in network.metadata:
        return image_classifier.ModelConfig()
    return image_classifier.ModelConfig(**network.metadata.get("model_config", {}))


def main(table: FrozenNetworksConfig, given: Images, settings: Settings) -> None:
    """Makes the table and writes it."""
    _ = settings.rate  # a value that is not allowed is refused before anything is read

    def make() -> tables.Table:
        frozen = networks.of_table(table, (OURS_RANDOM, OURS), linear_layer.VisionNetwork)
        return make_table(
            read_images(given),
            frozen=frozen,
            settings=settings,
            cache_dir=pathlib.Path(table.cache_dir),
            scratch=_like(frozen.get(OURS)) if settings.from_scratch else None,
        )

    tables.make_and_write(make, table, given, settings)


if __name__ == "__main__":
    flags.run(main, FrozenNetworksConfig, Images, Settings)
