"""What a run tells while it trains: metrics.jsonl, TensorBoard and the progress line."""

import datetime
import json
import logging
import pathlib
import sys
import time

import tensorflow as tf
from tqdm import tqdm

from l3net import constants
from l3net.data import schema
from l3net.training import run_dir

_log = logging.getLogger("l3net.training.loop")

_NUM_PAIRS_SHOWN = 4
_SECONDS_BETWEEN_LINES = 30.0  # where there is no terminal
_NOT_METRICS = ("step", "split")


class Journal:
    """Writes and shows; on all workers but the chief, nothing."""

    def __init__(self, folder: pathlib.Path, *, num_steps: int, is_chief: bool):
        """Opens TensorBoard's file.

        Args:
            folder: the run directory.
            num_steps: of the whole run.
            is_chief: whether to write at all.
        """
        self._folder, self._num_steps, self._is_chief = folder, num_steps, is_chief
        self._board = None
        if is_chief:
            self._board = tf.summary.create_file_writer(str(folder / run_dir.TENSORBOARD))
        self._bar = None
        self._last_line = 0.0

    def start(self, step: int) -> None:
        """Shows the progress line, from a step on; drops metrics of later steps."""
        if not self._is_chief:
            return
        run_dir.forget_metrics_after(self._folder, step)
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._num_steps,
                initial=step,
                desc="training",
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}",
                mininterval=0.5,
            )

    def advance(self) -> None:
        """Counts one step."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Ends the progress line."""
        if self._bar is not None:
            self._bar.close()

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
        """Shows the last training metrics and the time left in the progress line.

        Where standard error is no terminal, that is a line of its own now and then.
        """
        if not self._is_chief:
            return
        left = datetime.timedelta(seconds=round(seconds_left))
        text = (
            f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}, "
            f"{metrics['pairs_per_second']:.0f} pairs/s, {left} left"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            return
        now, is_last = time.monotonic(), metrics["step"] == self._num_steps
        if is_last or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            _log.info("step %d of %d: %s", metrics["step"], self._num_steps, text)

    def say(self, text: str) -> None:
        """Writes a line to standard output, past the progress line."""
        if self._is_chief:
            tqdm.write(text)

    def show_pairs(
        self, step: int, batch: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], target: str
    ) -> None:
        """Puts a few input pairs into TensorBoard: picture, spectrogram and sound.

        Args:
            step: of the training.
            batch: of `input_pipeline.training_batches`.
            inputs: what `prepare_batch` made of it: what the network gets.
            target: the key of the batch that the network learns; it is in the names.
        """
        if not self._is_chief:
            return
        with self._board.as_default(step=step):
            for row in range(min(_NUM_PAIRS_SHOWN, len(batch[target]))):
                name = f"pair_{row}_{_answer(target, int(batch[target][row]))}"
                for kind, picture in _pictures(inputs, row).items():
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
