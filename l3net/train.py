"""Trains a network: flags -> data, model, loop.

    python -m l3net.train --flagfile=l3net/configs/demo_l3_net.flags --run_dir=runs/demo

The same command resumes a stopped run. The run directory's flags.txt is itself a flagfile:
`--flagfile=runs/demo/flags.txt --run_dir=runs/again` repeats the run.

    python -m l3net.train --flagfile=... --run_dir=runs/grid --learning_rate_grid=1e-3,3e-4,1e-4

trains one run for each learning rate, in runs/grid/learning_rate_0.001 and so on, and compares
them in runs/grid/grid_search.md. On several machines, the same command on each, with TF_CONFIG in
the environment (see `l3net.training.distribution`).
"""

import dataclasses
import gc
import pathlib
import sys

import tensorflow as tf
from absl import flags

from l3net import constants, errors, models
from l3net.data import avc_pairs, input_pipeline
from l3net.errors import UserError
from l3net.training import distribution, grid_search, loop
from l3net.training.step import TrainingConfig

FLAGS_FILE = "flags.txt"
_NOT_KEPT = ("run_dir", "learning_rate_grid")  # flags that are not of one run


def define_flags() -> None:
    """Defines the flags; in a function, for tests import several ENTRY modules at once."""
    string, integer, number = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    boolean = flags.DEFINE_bool
    string("run_dir", None, "Where checkpoints and metrics go.", required=True)
    string("shards", None, "Prepared folder of data_prep.write_shards.", required=True)
    # The network.
    flags.DEFINE_enum("model", "l3_net", list(models.MODELS), "Network to train.")
    number("width", 1.0, "Channel multiplier; 1.0 is the papers' network.")
    integer("frame_px", constants.FRAME_PX, "Height and width of the frame; 224 in the papers.")
    integer("spectrogram_average", 1, "Average squares of so many bands x windows; papers 1.")
    integer("conv1_1_stride", 0, "1 or 2; 0: the network's own, L3 1, OTS 2.")
    number("batch_norm_momentum", 0.99, "Of the moving averages; not given in the papers.")
    boolean("synchronized_batch_norm", False, "Statistics of the whole batch, not of each replica.")
    integer("num_classes", constants.NUM_KINETICS_SOUNDS_CLASSES, "Of the supervised baselines.")
    flags.DEFINE_enum("precision", "float32", list(models.PRECISIONS), "Of the ConvNets' numbers.")
    flags.DEFINE_list("init_from", [], "Run directories whose weights a new run starts from.")
    # The pairs.
    integer("global_batch_size", 256, "Pairs per step over all replicas; L3 256, OTS 2048.")
    flags.DEFINE_enum("sampling", "l3", avc_pairs.SAMPLINGS, "Which second goes with a frame.")
    integer("pairs_per_clip", 8, "Pairs drawn per clip read.", lower_bound=1)
    integer("shuffle_pairs", 2048, "Size of the shuffle buffer, 0.2 MB each.", lower_bound=1)
    # The optimization.
    integer("num_steps", None, "In all; L3: 60M pairs / 256 = 234,375.", required=True)
    number("learning_rate", constants.LEARNING_RATE, "Of Adam; L3: 1e-4 usually works well.")
    flags.DEFINE_list("learning_rate_grid", [], "Rates to try, one run each; the papers' search.")
    number(
        "learning_rate_decay",
        constants.LEARNING_RATE_DECAY,
        "Factor every --epochs_per_decay epochs; OTS 0.94; L3 names none: 1.",
    )
    integer("epochs_per_decay", constants.EPOCHS_PER_DECAY, "OTS: 16.", lower_bound=1)
    integer("pairs_per_epoch", 0, "What an epoch is; 0: as many as there are training clips.")
    integer("warmup_steps", 0, "Of the learning rate; none in the papers.", lower_bound=0)
    number("weight_decay", constants.WEIGHT_DECAY, "L2 penalty in the loss; the papers' 1e-5.")
    integer("seed", 0, "Of weights, pairs and augmentation.", lower_bound=0)
    integer("accumulation_steps", 1, "Parts of a batch, one after the other.", lower_bound=1)
    integer("batch_norm_batches", 0, "For batch norm's statistics; 0: moving averages.")
    boolean("xla", False, "Compile forward and backward pass.")
    flags.DEFINE_enum(
        "strategy",
        "auto",
        distribution.STRATEGIES,
        "mirrored: this machine's GPUs; multi_worker: those of TF_CONFIG; auto: as there is one.",
    )
    # How far and how often.
    integer("log_every_steps", 50, "One line of metrics each.", lower_bound=1)
    integer("eval_every_steps", 0, "AVC accuracy on fixed pairs; 0: only at the end.")
    string("eval_split", "val", "Split of the fixed pairs; not test.")
    integer("num_eval_pairs", 2048, "Fixed pairs; 0: no evaluation.", lower_bound=0)
    number("checkpoint_every_seconds", 300.0, "Most work lost when a run is killed.")


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; settings are flags, see --help")
    # First of all: several workers must find each other before TensorFlow does anything else.
    strategy = distribution.make_strategy(flags.FLAGS.strategy)
    with distribution.lost_worker_is_one_line():
        if flags.FLAGS.learning_rate_grid:
            _search(strategy)
        else:
            metrics = _train(flags.FLAGS.run_dir, strategy)
            _print(strategy, _summary(metrics))


def _train(run_dir: str | pathlib.Path, strategy: tf.distribute.Strategy) -> dict[str, float]:
    model_config = _from_flags(models.ModelConfig)
    network = model_config.network
    pipeline_config = _from_flags(
        input_pipeline.PipelineConfig,
        batch_size=flags.FLAGS.global_batch_size,
        inputs=network.inputs,
        labels=network.is_classifier,
    )
    return loop.train(
        run_dir,
        model_config,
        pipeline_config,
        _from_flags(TrainingConfig),
        _from_flags(loop.Schedule),
        strategy=strategy,
        notes={FLAGS_FILE: _flags_text()},
    )


def _search(strategy: tf.distribute.Strategy) -> None:
    """Trains one run for each learning rate of the grid."""

    def train_with(folder: pathlib.Path, rate: float) -> None:
        flags.FLAGS.learning_rate = rate
        _train(folder, strategy)
        gc.collect()  # the graphs of the run before

    table = grid_search.search(
        flags.FLAGS.run_dir,
        grid_search.parse_rates(flags.FLAGS.learning_rate_grid),
        train_with,
        split=flags.FLAGS.eval_split,
        is_chief=distribution.place_of(strategy).is_chief,
    )
    _print(strategy, table)


def _print(strategy: tf.distribute.Strategy, text: str) -> None:
    if distribution.place_of(strategy).is_chief:
        sys.stdout.write(text)


def _from_flags(kind: type, **given):
    """Makes a configuration from the flags that are named as its fields."""
    names = [field.name for field in dataclasses.fields(kind) if field.name not in given]
    values = {name: flags.FLAGS[name].value for name in names}
    lists_to_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**given, **lists_to_tuples)


def _flags_text() -> str:
    """Returns this module's flags as a flagfile that repeats one run."""
    module = flags.FLAGS.flags_by_module_dict()[sys.argv[0]]
    lines = [flag.serialize() for flag in module if flag.name not in _NOT_KEPT]
    return "".join(f"{line}\n" for line in lines if line)


def _summary(metrics: dict[str, float]) -> str:
    run_dir, split = flags.FLAGS.run_dir, flags.FLAGS.eval_split
    parts = [f"{run_dir}: {flags.FLAGS.num_steps} steps"]
    if "train_loss" in metrics:
        parts.append(f"training loss {metrics['train_loss']:.3f}")
    if f"{split}_accuracy" in metrics:
        accuracy, num_pairs = metrics[f"{split}_accuracy"], metrics[f"{split}_pairs"]
        what = "accuracy" if models.MODELS[flags.FLAGS.model].is_classifier else "AVC accuracy"
        parts.append(f"{what} {accuracy:.1%} on {num_pairs} fixed {split} pairs")
    return ", ".join(parts) + "\n"


if __name__ == "__main__":
    define_flags()
    errors.run(main)
