"""Trains a network: flags -> data, model, loop.

    python -m l3net.train --flagfile=l3net/configs/demo_l3_net.flags --run_dir=runs/demo

The same command resumes a stopped run. The run directory's flags.txt is itself a flagfile:
`--flagfile=runs/demo/flags.txt --run_dir=runs/again` repeats the run.
"""

import pathlib
import sys

from absl import flags

from l3net import checkpoints, constants, errors, models, training
from l3net.data import avc_pairs, input_pipeline
from l3net.errors import UserError

FLAGS_FILE = "flags.txt"

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Where checkpoints and metrics go.", required=True)
_SHARDS = flags.DEFINE_string("shards", None, "Prepared folder of data_prep.write_shards.")

_MODEL = flags.DEFINE_enum("model", "l3_net", list(models.MODELS), "Network to train.")
_WIDTH = flags.DEFINE_float("width", 1.0, "Channel multiplier; 1.0 is the papers' network.")
_FRAME_PX = flags.DEFINE_integer(
    "frame_px", constants.FRAME_PX, "Height and width of the frame, pixels; 224 in the papers."
)
_SPECTROGRAM_AVERAGE = flags.DEFINE_integer(
    "spectrogram_average", 1, "Average squares of this many bands x windows; 1 in the papers."
)
_BATCH_NORM_MOMENTUM = flags.DEFINE_float(
    "batch_norm_momentum", 0.99, "Of the moving averages; not given in the papers."
)

_GLOBAL_BATCH_SIZE = flags.DEFINE_integer(
    "global_batch_size", 256, "Pairs per step over all replicas; L3 256, OTS 2048."
)
_SAMPLING = flags.DEFINE_enum(
    "sampling", "l3", avc_pairs.SAMPLINGS, "Which second of sound goes with a frame."
)
_PAIRS_PER_CLIP = flags.DEFINE_integer("pairs_per_clip", 8, "Pairs drawn per clip read.")
_SHUFFLE_PAIRS = flags.DEFINE_integer(
    "shuffle_pairs", 2048, "Size of the shuffle buffer; each pair takes 0.2 MB of memory."
)

_NUM_STEPS = flags.DEFINE_integer(
    "num_steps", None, "Steps in all; L3: 60M pairs / 256 = 234,375.", required=True
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", constants.LEARNING_RATE, "Of Adam; L3: 1e-4 usually works well."
)
_LEARNING_RATE_DECAY = flags.DEFINE_float(
    "learning_rate_decay",
    constants.LEARNING_RATE_DECAY,
    "Factor every --epochs_per_decay epochs; OTS 0.94; L3 names none: 1.",
)
_EPOCHS_PER_DECAY = flags.DEFINE_integer("epochs_per_decay", constants.EPOCHS_PER_DECAY, "OTS: 16.")
_PAIRS_PER_EPOCH = flags.DEFINE_integer(
    "pairs_per_epoch", 0, "What an epoch is; 0: as many pairs as there are training clips."
)
_WARMUP_STEPS = flags.DEFINE_integer("warmup_steps", 0, "Of the learning rate; none in the papers.")
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay", constants.WEIGHT_DECAY, "L2 penalty in the loss; the papers' 1e-5."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, pairs and augmentation.")

_LOG_EVERY_STEPS = flags.DEFINE_integer("log_every_steps", 50, "One line of metrics each.")
_EVAL_EVERY_STEPS = flags.DEFINE_integer(
    "eval_every_steps", 0, "AVC accuracy on fixed pairs; 0: only at the end."
)
_EVAL_SPLIT = flags.DEFINE_string("eval_split", "val", "Split of the fixed pairs; not test.")
_NUM_EVAL_PAIRS = flags.DEFINE_integer("num_eval_pairs", 2048, "Fixed pairs; 0: no evaluation.")
_CHECKPOINT_EVERY_SECONDS = flags.DEFINE_float(
    "checkpoint_every_seconds", 300.0, "At most this much work is lost when a run is killed."
)


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; settings are flags, see --help")
    if _SHARDS.value is None:
        raise UserError("--shards is missing; give a folder made by data_prep.write_shards")
    run_dir = pathlib.Path(_RUN_DIR.value)
    metrics = training.train(
        run_dir,
        _model_config(),
        _pipeline_config(),
        _training_config(),
        _schedule(),
        notes={FLAGS_FILE: _flags_text()},
    )
    sys.stdout.write(_summary(run_dir, metrics))


def _model_config() -> models.ModelConfig:
    return models.ModelConfig(
        model=_MODEL.value,
        width=_WIDTH.value,
        frame_px=_FRAME_PX.value,
        spectrogram_average=_SPECTROGRAM_AVERAGE.value,
        batch_norm_momentum=_BATCH_NORM_MOMENTUM.value,
    )


def _pipeline_config() -> input_pipeline.PipelineConfig:
    return input_pipeline.PipelineConfig(
        batch_size=_GLOBAL_BATCH_SIZE.value,
        sampling=_SAMPLING.value,
        pairs_per_clip=_PAIRS_PER_CLIP.value,
        shuffle_pairs=_SHUFFLE_PAIRS.value,
        frame_px=_FRAME_PX.value,
        seed=_SEED.value,
    )


def _training_config() -> training.TrainingConfig:
    return training.TrainingConfig(
        shards=_SHARDS.value,
        learning_rate=_LEARNING_RATE.value,
        learning_rate_decay=_LEARNING_RATE_DECAY.value,
        epochs_per_decay=_EPOCHS_PER_DECAY.value,
        pairs_per_epoch=_PAIRS_PER_EPOCH.value,
        warmup_steps=_WARMUP_STEPS.value,
        weight_decay=_WEIGHT_DECAY.value,
        seed=_SEED.value,
    )


def _schedule() -> training.Schedule:
    return training.Schedule(
        num_steps=_NUM_STEPS.value,
        log_every_steps=_LOG_EVERY_STEPS.value,
        eval_every_steps=_EVAL_EVERY_STEPS.value,
        eval_split=_EVAL_SPLIT.value,
        num_eval_pairs=_NUM_EVAL_PAIRS.value,
        checkpoint_every_seconds=_CHECKPOINT_EVERY_SECONDS.value,
    )


def _flags_text() -> str:
    """Returns this module's flags as a flagfile, without the run directory."""
    module = flags.FLAGS.flags_by_module_dict()[sys.argv[0]]
    lines = [flag.serialize() for flag in module if flag.name != "run_dir"]
    return "".join(f"{line}\n" for line in lines if line)


def _summary(run_dir: pathlib.Path, metrics: dict[str, float]) -> str:
    parts = [f"{run_dir / checkpoints.CHECKPOINTS}: {_NUM_STEPS.value} steps"]
    if "train_loss" in metrics:
        parts.append(f"training loss {metrics['train_loss']:.3f}")
    accuracy = metrics.get(f"{_EVAL_SPLIT.value}_accuracy")
    if accuracy is not None:
        pairs = metrics[f"{_EVAL_SPLIT.value}_pairs"]
        parts.append(f"AVC accuracy {accuracy:.1%} on {pairs} fixed {_EVAL_SPLIT.value} pairs")
    return ", ".join(parts) + "\n"


if __name__ == "__main__":
    errors.run(main)
