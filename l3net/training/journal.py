"""What a run reports while it trains: metrics.jsonl, TensorBoard and the progress."""

import contextlib
import datetime
import json
import logging
import pathlib

import tensorflow as tf

from l3net import constants
from l3net.data import schema
from l3net.progress import progress, write_line
from l3net.training import run_dir

_log = logging.getLogger(__name__)

_NUM_PAIRS_SHOWN = 4
_NOT_METRICS = ("step", "split")


class Journal:
    """Writes and shows; on all workers but the chief, nothing."""

    def __init__(self, folder: pathlib.Path, *, num_steps: int, is_chief: bool):
        """Opens TensorBoard's file in the folder of the run."""
        self._folder, self._num_steps, self._is_chief = folder, num_steps, is_chief
        self._shown = contextlib.ExitStack()
        if is_chief:
            self._board = tf.summary.create_file_writer(str(folder / run_dir.TENSORBOARD))

    def start(self, step: int) -> None:
        """Shows the progress, from a step on; drops metrics of later steps."""
        if not self._is_chief:
            return
        run_dir.forget_metrics_after(self._folder, step)
        self._progress = self._shown.enter_context(
            progress("training", unit="step", total=self._num_steps, done=step, shows_times=False)
        )

    def advance(self) -> None:
        """Counts one step."""
        if self._is_chief:
            self._progress.advance()

    def close(self) -> None:
        """Ends the progress."""
        self._shown.close()

    def record(self, metrics: dict) -> None:
        """Keeps a line of metrics: "step", "split" and numbers."""
        if not self._is_chief:
            return
        with open(self._folder / run_dir.METRICS_FILE, "a") as file:
            file.write(json.dumps(metrics) + "\n")
        with self._board.as_default(step=metrics["step"]):
            for name, value in metrics.items():
                if name not in _NOT_METRICS:
                    tf.summary.scalar(f"{metrics['split']}/{name}", value)
        self._board.flush()

    def show(self, metrics: dict, seconds_left: float) -> None:
        """Shows the last training metrics and the time left beside the progress.

        A log file gets them with the next line of progress, and with the last step.
        """
        if not self._is_chief:
            return
        left = datetime.timedelta(seconds=round(seconds_left))
        self._progress.note(
            f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}, "
            f"{metrics['pairs_per_second']:.0f} pairs/s, {left} left"
        )
        if metrics["step"] == self._num_steps:
            _log.info("%s", self._progress.line())

    def say(self, text: str) -> None:
        """Writes a line to standard output, past the progress."""
        if self._is_chief:
            write_line(text)

    def show_pairs(self, step: int, batch: dict[str, tf.Tensor], target: str) -> None:
        """Puts a few input pairs into TensorBoard: picture, spectrogram and sound.

        `batch` holds what `prepare_batch` made of it, too; its `target` goes into the names.
        """
        if not self._is_chief:
            return
        with self._board.as_default(step=step):
            for row in range(min(_NUM_PAIRS_SHOWN, len(batch[target]))):
                name = f"pair_{row}_{_answer(target, int(batch[target][row]))}"
                for kind, picture in _pictures(batch, row).items():
                    tf.summary.image(f"{name}/{kind}", picture[tf.newaxis])
                if "waveform" in batch:
                    sound = tf.cast(batch["waveform"][row], tf.float32) / schema.INT16_SCALE
                    tf.summary.audio(
                        f"{name}/waveform",
                        sound[tf.newaxis, :, tf.newaxis],
                        constants.SAMPLE_RATE_HZ,
                    )
        self._board.flush()


def _answer(target: str, value: int) -> str:
    if target != constants.CORRESPONDS_KEY:
        return f"{target}_{value}"
    return "corresponds" if value == constants.CORRESPONDS else "does_not_correspond"


def _pictures(inputs: dict[str, tf.Tensor], row: int) -> dict[str, tf.Tensor]:
    """Returns one row's inputs as pictures: float32 [height, width, 1 or 3] in [0, 1]."""
    pictures = {}
    if constants.FRAME in inputs:
        pictures[constants.FRAME] = (inputs[constants.FRAME][row] + 1.0) / 2.0
    if constants.FRAMES in inputs:  # side by side
        frames = tf.unstack((inputs[constants.FRAMES][row] + 1.0) / 2.0)
        pictures[constants.FRAMES] = tf.concat(frames, axis=1)
    if constants.LOG_SPECTROGRAM in inputs:
        low_below = tf.reverse(inputs[constants.LOG_SPECTROGRAM][row], axis=[0])
        low, high = tf.reduce_min(low_below), tf.reduce_max(low_below)
        pictures[constants.LOG_SPECTROGRAM] = (low_below - low) / tf.maximum(high - low, 1e-6)
    return pictures
