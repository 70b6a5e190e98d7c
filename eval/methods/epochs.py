"""Training in epochs that goes on where a killed run stopped."""

import io
import logging
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from l3net.errors import UserError, first_line
from l3net.files import write_whole
from l3net.npz_files import open_npz
from l3net.progress import progress

SAVE_EVERY_SECONDS = 60.0
_log = logging.getLogger(__name__)

Batches = Iterable[tuple[np.ndarray, np.ndarray]]


def train(
    models: Sequence[keras.Model],
    batches_of: Callable[[int], Batches],
    num_epochs: int,
    *,
    num_examples: int,
    path: str | pathlib.Path,
    what: str,
) -> list[np.ndarray]:
    """Trains models beside each other on the same batches; a killed run goes on from `path`.

    The models are compiled and of one input shape; their loss takes (labels, outputs). Those whose
    optimizer averages the weights (Keras's `use_ema`) end with the average. `batches_of` gives an
    epoch's batches by its number: inputs float32 [N, ...] and labels int64 [N], each of
    the `num_examples` once. What it draws must depend on that number alone.

    Returns:
        For each epoch that this call ran: the mean loss of each model, float64 [num_models].

    Raises:
        UserError: if no model's loss is finite any more.
    """
    step, losses = make_step(models), []
    with progress(what, unit="example", total=num_epochs * num_examples) as shown:
        for epoch in remaining(path, models, num_epochs):
            shown.advance(epoch * num_examples - shown.done)
            loss = np.zeros(len(models))
            for inputs, labels in batches_of(epoch):
                loss += len(labels) / num_examples * step(inputs, labels).numpy()
                shown.advance(len(labels))
            losses.append(loss)
            if not np.isfinite(loss).any():
                raise UserError(
                    f"the {what} diverged in epoch {epoch + 1}; try a smaller learning rate, or "
                    "another --seed"
                )
            shown.note(f"epoch {epoch + 1}, loss {np.nanmin(loss):.3f}")
    for model in models:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    return losses


def make_step(models: Sequence[keras.Model]) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    """Returns one training step of all models: a graph that is traced once, for any batch size.

    It updates the models and gives the loss of each before that, float32 [num_models]; penalties of
    the weights are part of it.
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *models[0].input_shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]
    )
    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = []
        for model in models:
            with tf.GradientTape() as tape:
                loss = model.loss(labels, model(inputs, training=True)) + sum(model.losses)
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)
            losses.append(loss)
        return tf.stack(losses)

    return step


def remaining(
    path: str | pathlib.Path, models: Sequence[keras.Model], num_epochs: int
) -> Iterator[int]:
    """Yields the epochs still to do; between two of them the state of the models is kept on disk.

    The state is that of weights, optimizers and dropout, so that a run that was killed ends like
    one that was not, if what it draws depends on the epoch's number alone. It is written when an
    epoch is done and a minute has passed since the last time, and deleted after the last epoch. Its
    file must be named after everything that the training depends on.

    Yields:
        Numbers from 0, or from the first epoch that the state lacks, to num_epochs - 1.

    Raises:
        ValueError: if the state is that of other models.
    """
    path = pathlib.Path(path)
    for model in models:
        model.optimizer.build(model.trainable_variables)
    done = _restore(path, models)
    written = time.monotonic()
    for epoch in range(done, num_epochs):
        yield epoch
        if epoch + 1 < num_epochs and time.monotonic() - written >= SAVE_EVERY_SECONDS:
            _save(path, models, epoch + 1)
            written = time.monotonic()
    path.unlink(missing_ok=True)


def _variables(models: Sequence[keras.Model]) -> list[keras.Variable]:
    # A model's variables do not hold its optimizer's.
    return [v for model in models for v in (*model.variables, *model.optimizer.variables)]


def _save(path: pathlib.Path, models: Sequence[keras.Model], done: int) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, done, *(np.asarray(variable) for variable in _variables(models)))
    write_whole(path, buffer.getvalue())


def _restore(path: pathlib.Path, models: Sequence[keras.Model]) -> int:
    """Returns how many epochs are done; 0 if there is no state, or none that is whole."""
    variables = _variables(models)
    try:
        with open_npz(path) as state:
            done, *values = (state[f"arr_{number}"] for number in range(len(state.files)))
            shapes = [value.shape for value in values]
            if done.shape or shapes != [tuple(variable.shape) for variable in variables]:
                raise ValueError("it is of another network")
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        _log.warning("%s is damaged (%s): begun again", path, first_line(error))
        return 0
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return int(done)
