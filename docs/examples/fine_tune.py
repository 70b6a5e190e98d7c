"""Fine-tunes the audio subnetwork of a trained network to classify recordings.

    python docs/examples/fine_tune.py --saved_model=runs/x/saved_model \
        --dataset=esc10 --recordings=data/ESC-10 --test_part=1 --out_dir=runs/x/esc10_fine_tuned

The network is taken from its SavedModel, not from l3net.models and a checkpoint: its variables are
trainable there, gradients pass through its signature `audio`, and one file format serves whoever
has the weights, without this package's code. (keras.layers.TFSMLayer would not do: it is for
inference only.) Batch norm keeps the statistics of the first training, as is usual where the new
data is little: the signature was traced so.

First a linear layer on `pool4` learns alone, then all of it at a smaller learning rate. Training
examples are random seconds of sound, their volume changed by up to 10 %, as in L3 §2.2; a
test recording's class is the one of the largest mean log-probability over seconds that follow each
other by half a second.

Writes into --out_dir: `saved_model` with the signature `classify`, waveform float32 [N, 48000] in
[-1, 1] -> probability float32 [N, classes], and `report.json` with the accuracy after each part.
"""

import dataclasses
import functools
import json
import logging
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

# The package eval, which reads the data sets, is in the clone only.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from eval.sets import recordings
from l3net import constants, files, flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.inference import saved_model
from l3net.media.sound import windows
from l3net.progress import progress, track

READERS = {
    "esc10": recordings.read_esc10,
    "esc50": recordings.read_esc50,
    "dcase2013": recordings.read_dcase2013,
}
HOP_SAMPLES = 24_000

_log = logging.getLogger("__main__")


@dataclasses.dataclass(frozen=True)
class Config:
    """The data."""

    saved_model: str = setting(REQUIRED, "Folder that l3net.export wrote.")
    recordings: str = setting(REQUIRED, "Folder of the data set.")
    out_dir: str = setting(REQUIRED, "Folder for SavedModel and report.")
    dataset: str = setting("esc10", "Layout of --recordings.", choices=tuple(READERS))
    test_part: str = setting("", "Fold to test on; if not given, the first, or the test split.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train."""

    num_head_steps: int = setting(200, "Batches for the linear layer alone.", at_least=0)
    num_steps: int = setting(500, "Batches for the complete network.", at_least=0)
    batch_size: int = setting(32, "Seconds of sound per batch.", at_least=1)
    head_learning_rate: float = setting(1e-2, "Learning rate of the linear layer alone.")
    learning_rate: float = setting(
        1e-4, "Learning rate of the complete network; L3 trains with 1e-4."
    )
    seed: int = setting(0, "Seed of the seconds and volumes that are drawn.", at_least=0)


# --- The classifier ------------------------------------------------------------------------------
class Classifier(tf.Module):
    """The audio subnetwork and a linear layer on its z-scored pool4.

    Attributes:
        trunk: the subnetwork's trainable variables.
        head: the linear layer's: kernel [D, classes] and bias [classes].
    """

    def __init__(self, saved_model_dir: str | pathlib.Path, num_classes: int):
        super().__init__(name="classifier")
        network = saved_model.SavedModel(saved_model_dir)
        self._audio = network.signature(saved_model.AUDIO)
        # Held here, for signatures hold them weakly; the other subnetwork is left behind.
        self._variables = list(self._audio.variables)
        self.trunk = list(self._audio.trainable_variables)
        size = self._audio.structured_outputs["pool4"].shape[-1]
        self.mean = tf.Variable(tf.zeros([size]), trainable=False, name="mean")
        self.scale = tf.Variable(tf.ones([size]), trainable=False, name="scale")
        self.head = [
            tf.Variable(tf.zeros([size, num_classes]), name="kernel"),
            tf.Variable(tf.zeros([num_classes]), name="bias"),
        ]

    def pool4(self, waveform: tf.Tensor) -> tf.Tensor:
        """Float32 [N, 48000] to [N, D]."""
        return self._audio(**{saved_model.WAVEFORM: waveform})["pool4"]

    def logits(self, waveform: tf.Tensor) -> tf.Tensor:
        """Float32 [N, 48000] to [N, classes]."""
        kernel, bias = self.head
        return (self.pool4(waveform) - self.mean) / self.scale @ kernel + bias


# --- Sound ---------------------------------------------------------------------------------------
def load_sounds(data: recordings.RecordingSet) -> list[np.ndarray]:
    """Decodes all recordings: float32 [num_samples] each, 48 kHz, one second or longer."""
    recordings_shown = track(data.recordings, "decoding", unit="recording")
    sounds = [recording.load(constants.SAMPLE_RATE_HZ) for recording in recordings_shown]
    length = constants.AUDIO_SAMPLES
    return [np.pad(one, (0, max(0, length - len(one)))) for one in sounds]


def draw_batch(
    sounds: Sequence[np.ndarray], labels: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws random seconds: waveform float32 [size, 48000] in [-1, 1], labels int64 [size]."""
    drawn = rng.integers(len(sounds), size=size)
    length = constants.AUDIO_SAMPLES
    starts = [rng.integers(len(sounds[index]) - length + 1) for index in drawn]
    seconds = [
        sounds[index][start : start + length] for index, start in zip(drawn, starts, strict=True)
    ]
    jitter = constants.VOLUME_JITTER
    volume = rng.uniform(1 - jitter, 1 + jitter, [size, 1])
    return np.clip(np.stack(seconds) * volume, -1, 1).astype(np.float32), labels[drawn]


# --- Training ------------------------------------------------------------------------------------
def fit_z_score(classifier: Classifier, batches: Sequence[np.ndarray]) -> None:
    """Sets mean and scale from float32 [N, 48000] training windows, before anything is trained."""
    features = np.concatenate([classifier.pool4(tf.constant(batch)).numpy() for batch in batches])
    scale = features.std(axis=0)
    classifier.mean.assign(features.mean(axis=0))
    classifier.scale.assign(np.where(scale > 0, scale, 1.0))


def train(
    classifier: Classifier,
    draw: Callable[[], tuple[np.ndarray, np.ndarray]],
    rates: Sequence[tuple[Sequence[tf.Variable], float]],
    num_steps: int,
) -> None:
    """Minimises the cross-entropy with Adam.

    Args:
        classifier: whose variables change.
        draw: returns waveform and labels of a batch.
        rates: variables, and their learning rate.
        num_steps: batches.
    """
    optimizers = [(keras.optimizers.Adam(rate), list(variables)) for variables, rate in rates]
    for optimizer, variables in optimizers:
        optimizer.build(variables)  # tf.function may not make variables in a later step

    @tf.function(reduce_retracing=True)
    def step(waveform, labels):
        with tf.GradientTape() as tape:
            logits = classifier.logits(waveform)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        trained = [variables for _, variables in optimizers]
        gradients = tape.gradient(loss, trained)
        for (optimizer, variables), values in zip(optimizers, gradients, strict=True):
            optimizer.apply_gradients(zip(values, variables, strict=True))
        return loss

    with progress("training", unit="step", total=num_steps) as shown:
        for _ in range(num_steps):
            waveform, labels = draw()
            loss = step(tf.constant(waveform), tf.constant(labels))
            shown.note(f"loss {float(loss):.3f}")
            shown.advance()


def accuracy(classifier: Classifier, sounds: Sequence[np.ndarray], labels: np.ndarray) -> float:
    """Returns the share of recordings that are classified correctly, in [0, 1]."""
    logits = tf.function(classifier.logits, reduce_retracing=True)
    num_correct = 0
    for waveform, label in zip(sounds, labels, strict=True):
        seconds = np.stack(list(windows([waveform], hop=HOP_SAMPLES)))
        scores = tf.nn.log_softmax(logits(tf.constant(seconds))).numpy().mean(axis=0)
        num_correct += int(np.argmax(scores) == label)
    return num_correct / len(sounds)


def fine_tune(
    data: recordings.RecordingSet,
    saved_model_dir: str,
    *,
    out_dir: str | pathlib.Path,
    test_part: str = "",
    recipe: Recipe | None = None,
) -> dict:
    """Trains, tests, writes the classifier and its report.

    Args:
        data: labelled recordings, held in memory (1 MB per 5 s).
        saved_model_dir: folder that l3net.export wrote.
        out_dir: folder for `saved_model` and `report.json`.
        test_part: fold to test on; "" takes the first, or the test split.
        recipe: None takes the defaults.

    Returns:
        The report.

    Raises:
        UserError: if there is no such part, a recording or the network cannot be read, or the
            training diverges.
    """
    recipe = Recipe() if recipe is None else recipe
    test_part = test_part or data.test_parts[0]
    if test_part not in data.parts:
        have = ", ".join(sorted(set(data.parts)))
        raise UserError(f"--test_part={test_part}: {data.name} has the parts {have}")
    classifier = Classifier(saved_model_dir, len(data.classes))
    sounds = load_sounds(data)
    is_test = data.parts == test_part
    train_sounds = [one for one, held in zip(sounds, is_test, strict=True) if not held]
    test_sounds = [one for one, held in zip(sounds, is_test, strict=True) if held]
    rng = np.random.default_rng(recipe.seed)
    draw = functools.partial(
        draw_batch, train_sounds, data.labels[~is_test], recipe.batch_size, rng
    )
    report = {"data": data.data, "test_part": test_part, "classes": data.classes}
    fit_z_score(classifier, [draw()[0] for _ in range(8)])
    head, trunk = classifier.head, classifier.trunk
    train(classifier, draw, [(head, recipe.head_learning_rate)], recipe.num_head_steps)
    report["accuracy_head_only"] = accuracy(classifier, test_sounds, data.labels[is_test])
    rates = [(head, recipe.learning_rate), (trunk, recipe.learning_rate)]
    train(classifier, draw, rates, recipe.num_steps)
    report["accuracy_fine_tuned"] = accuracy(classifier, test_sounds, data.labels[is_test])
    if not all(np.isfinite(variable.numpy()).all() for variable in (*head, *trunk)):
        raise UserError(f"training diverged; try a --learning_rate below {recipe.learning_rate}")
    report |= {"num_train": len(train_sounds), "num_test": len(test_sounds)}
    report["recipe"] = dataclasses.asdict(recipe)
    save(classifier, pathlib.Path(out_dir), report)
    return report


def save(classifier: Classifier, out_dir: pathlib.Path, report: dict) -> None:
    """Writes the SavedModel, which takes its place when it is complete, and the report."""
    spec = tf.TensorSpec([None, constants.AUDIO_SAMPLES], tf.float32, name=saved_model.WAVEFORM)

    @tf.function(input_signature=[spec])
    def classify(waveform):
        return {"probability": tf.nn.softmax(classifier.logits(waveform))}

    classifier.classify = classify
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saved_model.", dir=out_dir) as temporary:
        new = pathlib.Path(temporary) / "new"
        tf.saved_model.save(classifier, str(new), signatures={"classify": classify})
        extra = new / "assets.extra" / "classes.json"
        extra.parent.mkdir(exist_ok=True)
        extra.write_text(json.dumps(report["classes"]) + "\n")
        shutil.rmtree(out_dir / "saved_model", ignore_errors=True)
        new.rename(out_dir / "saved_model")
    files.write_whole(out_dir / "report.json", json.dumps(report, indent=1) + "\n")


def main(config: Config, recipe: Recipe) -> None:
    """Trains and tests."""
    data = READERS[config.dataset](config.recordings)
    report = fine_tune(
        data, config.saved_model, out_dir=config.out_dir, test_part=config.test_part, recipe=recipe
    )
    _log.info(
        "accuracy on %d recordings: %.1f %% with the linear layer alone, %.1f %% fine-tuned",
        report["num_test"],
        100 * report["accuracy_head_only"],
        100 * report["accuracy_fine_tuned"],
    )


if __name__ == "__main__":
    flags.run(main, Config, Recipe)
