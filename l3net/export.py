"""Checkpoint to SavedModel with named signatures, reloaded and compared before it is kept.

    python -m l3net.export --run_dir=runs/x                   # -> runs/x/saved_model
    python -m l3net.export --run_dir=runs/x --checkpoint=last # not the best on validation
    python -m l3net.export --run_dir=runs/x --random_weights --shards=data/x/shards
                                                              # -> runs/x/saved_model_random
    python -m l3net.export --run_dir=runs/x --license=cc-by-4.0 --push_to_hub=owner/name

The SavedModel needs TensorFlow and nothing else: `tf.saved_model.load(folder).signatures["audio"]`.
See `l3net.inference.saved_model` for the signatures; assets.extra/l3net.json inside the folder says
where the weights come from, README.md is a model card. --push_to_hub uploads all to the Hugging
Face Hub (after `hf auth login`); `l3net.SavedModel.from_pretrained("owner/name")` loads it.
"""

# Batch norm is not folded into the convolutions: measured on two CPU cores (AMD EPYC, TensorFlow
# 2.16, float32, full-width stride-2 audio tower, batch 8) that gave 1.04 times the speed, for
# TensorFlow fuses the two itself. The tower runs 42 windows a second there.

import dataclasses
import itertools
import logging
import pathlib

import keras
import numpy as np

from l3net import flags, models
from l3net.data import input_pipeline
from l3net.data.shards import find_shards
from l3net.errors import UserError
from l3net.files import read_text, write_whole
from l3net.flags import REQUIRED, setting
from l3net.inference import hub, model_card, saved_model, saved_model_writer
from l3net.inference.signatures import signatures
from l3net.json_files import read_json
from l3net.log_spectrogram import log_spectrogram_shape
from l3net.models.batch_norm import PreciseBatchNorm
from l3net.training import checkpoints
from l3net.training import run_dir as run_files
from l3net.training.validation import batches_of_statistics

_log = logging.getLogger(__name__)

# What batch norm of a random network normalizes by: see `_calibrate`.
CALIBRATED, IDENTITY = "calibrated", "identity"
_PAIRS_AT_ONCE = 32  # at the papers' size they fit into the memory of small machines
_BATCHES = 12  # 384 pairs (our choice)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    run_dir: str = setting(
        REQUIRED, "Folder of a run of l3net.train; --random_weights reads only its model.json."
    )
    out: str | None = setting(
        None,
        "Folder to write, replaced if it is a SavedModel of ours; if not given, saved_model in "
        "--run_dir, saved_model_random with --random_weights.",
    )
    checkpoint: str = setting(
        checkpoints.BEST,
        "Network to export: that of the best validation accuracy, or the last one.",
        choices=checkpoints.WHICH,
    )
    random_weights: bool = setting(
        False, 'Export the same network with fresh weights: "Ours random" of L3 Tables 2 to 4.'
    )
    seed: int = setting(
        0,
        "Seed of the weights of --random_weights, and of the pairs for their batch norm.",
        at_least=0,
    )
    shards: str | None = setting(
        None,
        "With --random_weights: prepared folder of data_prep.write_shards, or its address on "
        "object storage, whose training clips, without their labels, give batch norm "
        "its mean and variance.",
    )
    batch_norm_batches: int = setting(
        _BATCHES,
        "Batches of 32 pairs from --shards over which batch norm's mean and variance are averaged; "
        "0: identity, mean 0 and variance 1, as where no shards are given.",
        at_least=0,
    )
    license: str = setting(
        model_card.UNKNOWN_LICENSE,
        "Licence of the weights for the model card, an identifier of the Hugging Face Hub such as "
        "cc-by-4.0; it depends on the data, so only you can know.",
    )
    push_to_hub: str | None = setting(
        None,
        "Model on the Hugging Face Hub, owner/name, to upload the SavedModel to; made if need be, "
        "as public or private as the owner's settings say.",
    )


def export(
    run_dir: str | pathlib.Path,
    out: str | pathlib.Path | None = None,
    *,
    checkpoint: str = checkpoints.BEST,
    random_weights: bool = False,
    seed: int = 0,
    shards: str | pathlib.Path | None = None,
    batch_norm_batches: int = _BATCHES,
    license: str = model_card.UNKNOWN_LICENSE,
) -> pathlib.Path:
    """Writes a run's network as a SavedModel, which takes its name when it has been checked.

    The arguments are those of `Config` but for the push. "best" is the last checkpoint if nothing
    was evaluated.
    A random network's batch norm has the statistics of real input, as the trained one's has, where
    shards are given (our choice; the papers do not say).

    Returns:
        The folder.

    Raises:
        UserError: if there is no run or checkpoint, `out` is something else than a SavedModel of
            ours, shards are given that do not exist, cannot be used or are not for a random
            network, or the written SavedModel does not give the Keras model's numbers.
    """
    if shards is not None and not random_weights:
        raise UserError(
            f"--shards={shards} is for --random_weights; a trained network has its batch norm"
        )
    run_dir = pathlib.Path(run_dir)
    default_name = "saved_model_random" if random_weights else "saved_model"
    out = run_dir / default_name if out is None else pathlib.Path(out)
    saved_model_writer.check_replaceable(out)
    if random_weights:
        config, trained_steps = checkpoints.load_model_config(run_dir), 0
        model = models.build_model(config, seed=seed)
    else:
        model, config, trained_steps = checkpoints.load_model(run_dir, checkpoint)
    model, config = _in_float32(model, config)
    batch_norm = None
    if random_weights:
        batch_norm = _calibrate(model, config, shards, num_batches=batch_norm_batches, seed=seed)
    metadata = {
        **_describe(config),
        "trained_steps": trained_steps,
        "random_weights": random_weights,
        "seed": seed if random_weights else None,
        "random_batch_norm": batch_norm,
        "num_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "weights_sha256": saved_model_writer.weights_digest(model),
        "trained_on": None if random_weights else _training_data(run_dir),
        "training": None if random_weights else run_files.read_summary(run_dir),
        "run_flags": _run_flags(run_dir),
        "license": model_card.check_license(license),
    }
    network = _of_any_frame_size(model, config)
    feature_sizes = saved_model_writer.write(
        out,
        signatures(network, config),
        network,
        metadata,
        expected=signatures(model, config),
    )
    _log.info("wrote %s: %d steps, features %s", out, trained_steps, feature_sizes)
    return out


def _in_float32(
    model: keras.Model, config: models.ModelConfig
) -> tuple[keras.Model, models.ModelConfig]:
    """Returns network and configuration in float32: half precision is for training."""
    if config.precision == "float32":
        return model, config
    config = dataclasses.replace(config, precision="float32")
    rebuilt = models.build_model(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt, config


def _calibrate(
    model: keras.Model,
    config: models.ModelConfig,
    shards: str | pathlib.Path | None,
    *,
    num_batches: int,
    seed: int,
) -> dict:
    """Gives batch norm the mean statistics of some batches of training pairs, drawn by the seed.

    Every pair is of another clip, augmented as in training; no label is read. Frozen layers
    (supervised pretraining's) get their statistics, too: with random weights they have none yet.

    Returns:
        {"statistics": CALIBRATED or IDENTITY, "num_pairs": those seen, "data": name or None}.
    """
    if shards is None or not num_batches:
        say = _log.warning if num_batches else _log.info
        say(
            "the random network's batch norm is the identity (mean 0, variance 1); with --shards "
            "it has the statistics of training clips"
        )
        return {"statistics": IDENTITY, "num_pairs": 0, "data": None}
    found = find_shards(shards, "train")
    pipeline = input_pipeline.PipelineConfig(
        batch_size=_PAIRS_AT_ONCE, frame_px=config.frame_px, seed=seed, inputs=config.network.inputs
    )
    batches = batches_of_statistics(found, pipeline, config, size=_PAIRS_AT_ONCE)
    unfrozen = models.build_model(config)
    for layer in unfrozen.layers:
        layer.trainable = True
    unfrozen.set_weights(model.get_weights())
    PreciseBatchNorm(unfrozen).recompute(itertools.islice(batches, num_batches))
    model.set_weights(unfrozen.get_weights())
    num_pairs, name = num_batches * _PAIRS_AT_ONCE, found[0].dataset_name
    _log.info("the random network's batch norm has the statistics of %d pairs: %s", num_pairs, name)
    return {"statistics": CALIBRATED, "num_pairs": num_pairs, "data": name}


def _of_any_frame_size(model: keras.Model, config: models.ModelConfig) -> keras.Model:
    network = models.build_model(config, any_frame_size=True)
    network.set_weights(model.get_weights())
    return network


# --- Metadata ------------------------------------------------------------------------------------
def _describe(config: models.ModelConfig) -> dict:
    return {
        "model_config": dataclasses.asdict(config),
        "inputs": config.network.inputs,
        "frame_px": config.frame_px,
        "log_spectrogram_shape": log_spectrogram_shape(**config.spectrogram_settings),
    }


@dataclasses.dataclass(frozen=True)
class _Data:
    name: str | None = None


@dataclasses.dataclass(frozen=True)
class _Run:
    """What of training.json is read."""

    data: _Data = _Data()


def _training_data(run_dir: pathlib.Path) -> str | None:
    """Returns the name of the data set that a run was trained on; None if it does not say."""
    path = run_dir / run_files.CONFIG_FILE
    if not path.is_file():
        return None
    return read_json(path, _Run, "put a copy of it there").data.name


def _run_flags(run_dir: pathlib.Path) -> list[str]:
    """Returns the training flags; none for a run without them."""
    path = run_dir / run_files.FLAGS_FILE
    return read_text(path, "put a copy of it there").splitlines() if path.is_file() else []


def main(config: Config) -> None:
    """Exports, and pushes if asked for."""
    settings = dataclasses.asdict(config)
    name = settings.pop("push_to_hub")
    if name is not None:
        hub.check_name(name)  # before the work
    folder = export(**settings)
    if name is not None:
        card = model_card.model_card(saved_model.read_metadata(folder), name)
        write_whole(folder / model_card.FILE, card)
        _log.info("pushed: %s", hub.push(folder, name))


if __name__ == "__main__":
    flags.run(main, Config)
