"""What a run directory holds of a network: its configuration and its checkpoints.

runs/<name>/model.json       the ModelConfig
runs/<name>/checkpoints/     all of the training's state, the last two; numbered by step
runs/<name>/best/            the network of the best validation accuracy, with step and accuracy
"""

import dataclasses
import logging
import math
import pathlib
import tempfile
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from l3net import models
from l3net.errors import UserError, first_line
from l3net.json_files import read_json, write_json
from l3net.models.batch_norm import statistics
from l3net.training import checkpoint_files

_log = logging.getLogger(__name__)

MODEL_FILE = "model.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
WHICH = ("last", "best")
_NOT_KEPT = -1  # by versions that evaluated before they saved


def save_model_config(run_dir: pathlib.Path, config: models.ModelConfig) -> None:
    """Writes a network's configuration into its run directory."""
    write_json(run_dir / MODEL_FILE, dataclasses.asdict(config))


def load_model_config(run_dir: str | pathlib.Path) -> models.ModelConfig:
    """Reads a run's network configuration; a UserError if the folder is no run."""
    path = pathlib.Path(run_dir) / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{run_dir} holds no {MODEL_FILE}; give the --run_dir of l3net.train")
    return read_json(path, models.ModelConfig, "l3net.train writes it again from its flags.txt")


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
        UserError: if there is no run, no checkpoint, or one of another network.
    """
    if which not in WHICH:
        raise UserError(f"got checkpoint {which!r}; need one of {', '.join(WHICH)}")
    config = load_model_config(run_dir)
    folder, step = _find(pathlib.Path(run_dir), which)
    path = str(checkpoint_files.path_of(folder, step))
    model = models.build_model(config)
    precise = [tf.Variable(value) for value in statistics(model)]
    precise_at = tf.Variable(-1, dtype=tf.int64, trainable=False)
    _read_all(tf.train.Checkpoint(model=model), path)
    rest = tf.train.Checkpoint(statistics=precise, statistics_step=precise_at)  # not in best/
    rest.read(path).expect_partial()
    if folder.name != BEST and int(precise_at) == step:
        for variable, value in zip(statistics(model), precise, strict=True):
            variable.assign(value)
    return model, config, step


def _read_all(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Reads a checkpoint into all that `checkpoint` tracks; UserError unless it has all of it."""
    try:
        checkpoint.read(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        # At the program's end TensorFlow would list all that was not read.
        tf.get_logger().setLevel(logging.ERROR)
        raise UserError(
            f"{path} does not fit this network ({first_line(error)[:150]}); it is of another "
            "network or another version of this code: take that, or a new --run_dir"
        ) from error


def _find(run_dir: pathlib.Path, which: str) -> tuple[pathlib.Path, int]:
    """Returns folder and step of the checkpoint to load; the last one knows which was the best."""
    folder, best_folder = run_dir / CHECKPOINTS, run_dir / BEST
    last = checkpoint_files.newest(folder)
    if which == "best":
        best_step = None if last is None else _best_step_of(folder, last)
        best = checkpoint_files.newest(
            best_folder, up_to=math.inf if best_step is None else best_step
        )
        if best is not None:
            return best_folder, best
    if last is None:
        raise UserError(f"{folder} holds no checkpoint; give the --run_dir of l3net.train")
    return folder, last


def _best_step_of(folder: pathlib.Path, step: int) -> int | None:
    reader = tf.train.load_checkpoint(str(checkpoint_files.path_of(folder, step)))
    name = "best_step/.ATTRIBUTES/VARIABLE_VALUE"
    return int(reader.get_tensor(name)) if reader.has_tensor(name) else None


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
        evaluated_step: when the network was last evaluated; 0 if never.
        steps_summed: steps since the last line of metrics, of a training that a signal stopped.
        loss_sum: their losses' sum.
        correct_sum: the sum of their numbers of correct pairs.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_accuracy: float = -1.0
    statistics_step: int = -1
    evaluated_step: int = 0
    steps_summed: int = 0
    loss_sum: float = 0.0
    correct_sum: float = 0.0


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
        self._variables = _variables_of(Standing(evaluated_step=_NOT_KEPT))
        self._rest = {"statistics": statistics(copy), **self._variables}
        self._everything = tf.train.Checkpoint(model=model, optimizer=optimizer, **self._rest)
        self._written_to = self._folder
        if not is_chief:
            self._scratch = tempfile.TemporaryDirectory(prefix="l3net-worker-")
            self._written_to = pathlib.Path(self._scratch.name)
        self._kept: list[int] = []  # steps of checkpoints that were read as a whole, oldest first
        self._best_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._best_accuracy = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._best = tf.train.Checkpoint(
            model=copy, step=self._best_step, accuracy=self._best_accuracy
        )

    def restore(self) -> Standing | None:
        """Goes back to the newest checkpoint that can be read; returns how far that is.

        Nothing is deleted. None: there is no checkpoint.

        Raises:
            UserError: if the checkpoint is of another network or version, or there are some and
                none can be read.
        """
        step = checkpoint_files.newest(self._folder)
        if step is None:
            return None
        latest = str(checkpoint_files.path_of(self._folder, step))
        _read_all(self._trained, latest)
        tf.train.Checkpoint(**self._rest).read(latest).expect_partial()
        _log.info("resuming at step %d from %s", step, latest)
        self._kept = [step]
        standing = Standing(**{name: v.numpy().item() for name, v in self._variables.items()})
        if standing.evaluated_step == _NOT_KEPT:
            standing.evaluated_step = step
        return standing

    def save(self, standing: Standing) -> None:
        """Saves the training's state; all workers must call it.

        What it supersedes goes after it was read back: all checkpoints up to this step but for it
        and the one before, and in best/ all but the best network and the one before.

        Raises:
            UserError: if it cannot be written; the ones before stay.
        """
        for name, value in dataclasses.asdict(standing).items():
            self._variables[name].assign(value)
        checkpoint_files.write(self._everything, self._written_to, standing.step)
        self._kept = [*(step for step in self._kept if step != standing.step), standing.step][-2:]
        _supersede(self._written_to, standing.step, self._kept)
        if self._is_chief:
            before = [
                s for s in checkpoint_files.steps(self._best_folder) if s < standing.best_step
            ]
            _supersede(self._best_folder, standing.step, [*before[-1:], standing.best_step])

    def save_best(self, standing: Standing) -> None:
        """Keeps the copy as the best network.

        If the training is killed before `save`, it resumes from before this evaluation.

        Raises:
            UserError: if it cannot be written.
        """
        self._best_step.assign(standing.best_step)
        self._best_accuracy.assign(standing.best_accuracy)
        checkpoint_files.write(self._best, self._best_folder, standing.best_step)


def _variables_of(standing: Standing) -> dict[str, tf.Variable]:
    return {
        name: tf.Variable(
            value, dtype=tf.int64 if isinstance(value, int) else tf.float64, trainable=False
        )
        for name, value in dataclasses.asdict(standing).items()
    }


def _supersede(folder: pathlib.Path, step: int, kept: Sequence[int]) -> None:
    """Deletes the checkpoints up to a step but for those kept; later ones stay."""
    old = {each for each in checkpoint_files.steps(folder) if each <= step}
    checkpoint_files.remove(folder, old - set(kept))
