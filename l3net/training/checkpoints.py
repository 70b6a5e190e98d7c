"""What a run directory holds of a network: its configuration and its checkpoints.

runs/<name>/model.json       the ModelConfig
runs/<name>/checkpoints/     all of the training's state, the last two; numbered by step
runs/<name>/best/            the network of the best validation accuracy, with step and accuracy
"""

import dataclasses
import json
import logging
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from l3net import models
from l3net.errors import UserError, first_line
from l3net.files import write_whole
from l3net.models.batch_norm import statistics

_log = logging.getLogger(__name__)

MODEL_FILE = "model.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
WHICH = ("last", "best")
_STATE_FILE = "checkpoint"  # TensorFlow's name of it


def save_model_config(run_dir: pathlib.Path, config: models.ModelConfig) -> None:
    """Writes a network's configuration into its run directory."""
    write_whole(run_dir / MODEL_FILE, json.dumps(dataclasses.asdict(config), indent=1) + "\n")


def load_model_config(run_dir: str | pathlib.Path) -> models.ModelConfig:
    """Reads a run's network configuration; a UserError if the folder is no run."""
    path = pathlib.Path(run_dir) / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{run_dir} holds no {MODEL_FILE}; give the --run_dir of l3net.train")
    return models.ModelConfig(**json.loads(path.read_text()))


def load_model(
    run_dir: str | pathlib.Path, which: str = "last"
) -> tuple[keras.Model, models.ModelConfig, int]:
    """Builds a run's network and restores its weights.

    Args:
        run_dir: folder of a run of l3net.train.
        which: "best" for the checkpoint of the best validation accuracy, or the last one if
            nothing was ever evaluated; "last" for the last one. With --batch_norm_batches it has
            the statistics that were evaluated, if training ended there.

    Returns:
        The model, its configuration and the number of steps it was trained for.

    Raises:
        UserError: if there is no run or no checkpoint.
    """
    if which not in WHICH:
        raise UserError(f"got checkpoint {which!r}; need one of {', '.join(WHICH)}")
    config = load_model_config(run_dir)
    best = tf.train.latest_checkpoint(str(pathlib.Path(run_dir) / BEST))
    folder = pathlib.Path(run_dir) / CHECKPOINTS
    path = (which == "best" and best) or tf.train.latest_checkpoint(str(folder))
    if path is None:
        raise UserError(f"{folder} holds no checkpoint; was the run stopped before its first one?")
    model = models.build_model(config)
    precise = [tf.Variable(value) for value in statistics(model)]
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    precise_at = tf.Variable(-1, dtype=tf.int64, trainable=False)
    tf.train.Checkpoint(
        model=model, step=step, statistics=precise, statistics_step=precise_at
    ).read(path).expect_partial()
    if path != best and int(precise_at) == int(step):
        for variable, value in zip(statistics(model), precise, strict=True):
            variable.assign(value)
    return model, config, int(step)


# --- Weights of other runs -----------------------------------------------------------------------
def initialize_from(model: keras.Model, run_dirs: Sequence[str]) -> None:
    """Copies the weights of other runs' best checkpoints into a new network, where they fit.

    A weight fits where subnetwork ("vision", "audio" or none), layer and variable have the same
    name. The first run that has it gives it.

    Raises:
        UserError: if there is no checkpoint, nothing fits, or a layer of the same name has
            another shape.
    """
    mine, taken = _by_name(model), set()
    for run_dir in run_dirs:
        source, _, step = load_model(run_dir, "best")
        given = _by_name(source)
        common = [name for name in given if name in mine and name not in taken]
        for name in common:
            if tuple(given[name].shape) != tuple(mine[name].shape):
                raise UserError(
                    f"--init_from={run_dir}: {'/'.join(filter(None, name))} is "
                    f"{tuple(given[name].shape)} there and {tuple(mine[name].shape)} here; need "
                    "networks of the same --width, --model family and --num_classes"
                )
            mine[name].assign(tf.convert_to_tensor(given[name]))
        if not common:
            raise UserError(
                f"--init_from={run_dir}: no layer there has the name of one here; need runs of "
                f"networks that share a subnetwork with this one ({_parts(mine)})"
            )
        taken.update(common)
        _log.info("%d variables from %s, step %d: %s", len(common), run_dir, step, _parts(common))
    left = [name for name in mine if name not in taken]
    _log.info("%d variables stay random: %s", len(left), _parts(left) or "none")


def _by_name(model: keras.Model, owner: str = "") -> dict[tuple[str, str, str], keras.Variable]:
    """Returns the variables by (subnetwork, layer, variable)."""
    variables: dict[tuple[str, str, str], keras.Variable] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            variables |= _by_name(layer, layer.name)
        else:
            variables |= {(owner, layer.name, v.name): v for v in layer.variables}
    return variables


def _parts(names: Iterable[tuple[str, str, str]]) -> str:
    """Names the parts of a network: a subnetwork, or a layer that is in none."""
    return ", ".join(dict.fromkeys(owner or layer for owner, layer, _ in names))


# --- The training's state ------------------------------------------------------------------------
@dataclasses.dataclass
class Standing:
    """How far a training is; kept in the checkpoint, so that it always agrees with the weights.

    Attributes:
        step: number of updates.
        seconds: time spent in them, over all resumes; not in evaluations, start-up or lost work.
        best_step: step of the network in best/; -1 if there is none.
        best_accuracy: that network's.
        statistics_step: when precise batch norm statistics were last computed; -1 if never.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_accuracy: float = -1.0
    statistics_step: int = -1


class RunCheckpoints:
    """The two checkpoint folders of a run in training."""

    def __init__(
        self,
        run_dir: pathlib.Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        copy: keras.Model,
        *,
        is_chief: bool,
    ):
        """Takes what to keep.

        Args:
            run_dir: folder of the run.
            model: in training; saving its batch norm is work for all workers.
            optimizer: with its moments.
            copy: the network as evaluated; goes to best/.
            is_chief: whether this worker writes there; the others save into a temporary folder.
        """
        self._folder, self._best_folder = run_dir / CHECKPOINTS, run_dir / BEST
        self._is_chief = is_chief
        self._trained = tf.train.Checkpoint(model=model, optimizer=optimizer)
        self._variables = _variables_of(Standing())
        self._rest = {"statistics": statistics(copy), **self._variables}
        everything = tf.train.Checkpoint(model=model, optimizer=optimizer, **self._rest)
        folder = str(self._folder)
        if not is_chief:
            self._scratch = tempfile.TemporaryDirectory(prefix="l3net-worker-")
            folder = self._scratch.name
        self._manager = tf.train.CheckpointManager(everything, folder, max_to_keep=2)
        self._best_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._best_accuracy = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._best = tf.train.Checkpoint(
            model=copy, step=self._best_step, accuracy=self._best_accuracy
        )

    @property
    def exists(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return tf.train.latest_checkpoint(str(self._folder)) is not None

    def restore(self) -> Standing:
        """Goes back to the last complete checkpoint, if there is one; returns how far that is.

        Raises:
            UserError: if the checkpoint is of another network or version.
        """
        latest = tf.train.latest_checkpoint(str(self._folder))
        if latest is not None:
            try:
                status = self._trained.read(latest)
                status.assert_existing_objects_matched().expect_partial()
            except (AssertionError, ValueError, tf.errors.OpError) as error:
                raise UserError(
                    f"{latest} does not fit this network ({first_line(error)[:150]}); it "
                    "is of another version of this code: take that, or a new --run_dir"
                ) from error
            tf.train.Checkpoint(**self._rest).read(latest).expect_partial()
            _log.info("resuming at step %d from %s", int(self._variables["step"]), latest)
        standing = Standing(**{name: v.numpy().item() for name, v in self._variables.items()})
        if self._is_chief:
            _forget_after(self._folder, standing.step)
            _forget_after(self._best_folder, standing.best_step)
        return standing

    def save(self, standing: Standing) -> None:
        """Saves the training's state; all workers must call it."""
        for name, value in dataclasses.asdict(standing).items():
            self._variables[name].assign(value)
        self._manager.save(checkpoint_number=standing.step)

    def save_best(self, standing: Standing) -> None:
        """Keeps the copy as the best network, and the best one before it.

        If the training is killed before `save`, it resumes from before this evaluation.
        """
        self._best_step.assign(standing.best_step)
        self._best_accuracy.assign(standing.best_accuracy)
        manager = tf.train.CheckpointManager(self._best, str(self._best_folder), max_to_keep=2)
        manager.save(checkpoint_number=standing.best_step)


def _variables_of(standing: Standing) -> dict[str, tf.Variable]:
    return {
        name: tf.Variable(
            value, dtype=tf.int64 if isinstance(value, int) else tf.float64, trainable=False
        )
        for name, value in dataclasses.asdict(standing).items()
    }


def _forget_after(folder: pathlib.Path, step: int) -> None:
    """Deletes checkpoints of a later step and what a killed writer left half-written."""
    state = tf.train.get_checkpoint_state(str(folder))
    kept = {}
    if state is not None:
        names = [pathlib.Path(path).name for path in state.all_model_checkpoint_paths]
        times = state.all_model_checkpoint_timestamps
        kept = {name: t for name, t in zip(names, times, strict=True) if _step_of(name) <= step}
        if len(kept) < len(names):
            _write_state(folder, state, kept)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name != _STATE_FILE and path.name.split(".")[0] not in kept:
            _remove(path)


def _step_of(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _write_state(folder: pathlib.Path, state, kept: dict[str, float]) -> None:
    """Rewrites TensorFlow's list of complete checkpoints."""
    if not kept:
        _remove(folder / _STATE_FILE)
        return
    state.model_checkpoint_path = list(kept)[-1]
    state.all_model_checkpoint_paths[:] = list(kept)
    state.all_model_checkpoint_timestamps[:] = list(kept.values())
    write_whole(folder / _STATE_FILE, str(state))


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
