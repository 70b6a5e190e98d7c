"""Checkpoints as files: which there are, whether they can be read, which may go.

A checkpoint of step N is `ckpt-N.index` and `ckpt-N.data-…`, in TensorFlow's format, which has a
checksum (CRC-32C) for every tensor and every block of the index. What counts is the files
themselves: TensorFlow's list of them, the file `checkpoint`, is neither read nor written.
"""

import logging
import math
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Iterator

import tensorflow as tf

from l3net.errors import UserError, first_line
from l3net.files import CannotWriteError, check_for_weights, regular

_log = logging.getLogger(__name__)

_PREFIX = "ckpt-"
_FILE = re.compile(r"ckpt-(\d+)(\..+|_temp.*)")


def path_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Returns what TensorFlow calls the path of a step's checkpoint; its files begin with it."""
    return folder / f"{_PREFIX}{step}"


def steps(folder: pathlib.Path) -> list[int]:
    """Returns the steps of which any file is there, in ascending order."""
    return sorted({step for _, step in _files(folder)})


def newest(folder: pathlib.Path, *, up_to: float = math.inf) -> int | None:
    """Returns the step of the newest checkpoint that can be read; None where there is none at all.

    Damaged ones are named in the log, and stay.

    Args:
        folder: of checkpoints.
        up_to: the last step that counts.

    Raises:
        UserError: if there are checkpoints, and none can be read, or TensorFlow would find none.
    """
    check_for_weights(folder)
    found = [step for step in steps(folder) if step <= up_to]
    for step in reversed(found):
        problem = damage(path_of(folder, step))
        if problem is None:
            return step
        _log.warning("checkpoint %s is damaged (%s)", path_of(folder, step), problem)
    if found:
        names = ", ".join(path_of(folder, step).name for step in found)
        raise UserError(
            f"no checkpoint in {folder} can be read ({names}); nothing was changed: put copies of "
            "them there, or take a new --run_dir"
        )
    return None


def damage(path: pathlib.Path) -> str | None:
    """Reads a whole checkpoint; returns what is wrong with it, or None."""
    try:
        for file in path.parent.glob(f"{path.name}.*"):
            regular(file)  # TensorFlow would wait for a pipe
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    # TensorFlow raises plain RuntimeError, ValueError and IndexError for damaged files, too.
    except (OSError, ValueError, RuntimeError, IndexError, tf.errors.OpError) as error:
        return first_line(error)[:150]
    return None


def write(checkpoint: tf.train.Checkpoint, folder: pathlib.Path, step: int) -> None:
    """Writes a checkpoint, brings it to the disk and reads it back.

    Raises:
        CannotWriteError: if that fails, of a full disk, for example; nothing of it is left.
    """
    path = path_of(folder, step)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, of_step in _files(folder):
            if of_step == step and not (file.is_file() or file.is_dir()):
                file.unlink()  # TensorFlow would write into a pipe and wait for a reader
        checkpoint.write(str(path))
        for file, of_step in _files(folder):
            if of_step == step:
                _to_disk(file)
        _to_disk(folder)
        problem = damage(path)
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        problem = first_line(error)
    if problem is not None:
        remove(folder, [step])
        raise CannotWriteError(
            f"cannot write checkpoint {path}: {problem}; the ones before are kept, and the same "
            "command goes on from them when there is room"
        )


def remove(folder: pathlib.Path, which: Collection[int]) -> None:
    """Deletes the files of some steps."""
    for file, step in _files(folder):
        if step not in which:
            continue
        if file.is_dir():
            shutil.rmtree(file, ignore_errors=True)
        else:
            file.unlink(missing_ok=True)


def _files(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, int]]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _FILE.fullmatch(path.name)
        if match:
            yield path, int(match[1])


def _to_disk(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
