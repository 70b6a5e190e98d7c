"""Epochs of training that go on where a killed run stopped."""

import io
import pathlib
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from l3net.files import write_whole

SAVE_EVERY_SECONDS = 60.0


def remaining(
    path: str | pathlib.Path, models: Sequence[keras.Model], num_epochs: int
) -> Iterator[int]:
    """Yields the epochs still to do; between two of them the state of the models is kept on disk.

    The state is that of weights, optimizers and dropout, so that a run that was killed ends like
    one that was not, if what it draws depends on the epoch's number alone. It is written when an
    epoch is done and a minute has passed since the last time, and deleted after the last epoch.

    Args:
        path: of the state, named after everything that the training depends on.
        models: compiled.
        num_epochs: in all.

    Yields:
        Numbers from 0, or from where the state says, to num_epochs - 1.
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
    """Returns how many epochs are done; 0 without a readable state."""
    if not path.exists():
        return 0
    with np.load(path, allow_pickle=False) as state:
        done, *values = (state[f"arr_{number}"] for number in range(len(state.files)))
    for variable, value in zip(_variables(models), values, strict=True):
        variable.assign(value)
    return int(done)
