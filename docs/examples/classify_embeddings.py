"""Trains a classifier on frozen embeddings of sound, and tests it on recordings it has not heard.

    python docs/examples/classify_embeddings.py --saved_model=runs/x/saved_model \
        --dataset=esc10 --recordings=data/ESC-10 --test_part=1 --out_dir=runs/x/esc10_classifier

Each recording becomes one embedding per half second, each of them a training example of logistic
regression (scikit-learn); a test recording's class is the one of the largest mean log-probability.
Training and test follow the data set's own folds, for recordings of one source share a fold.

Writes into --out_dir: `classifier.joblib` (a scikit-learn pipeline; `joblib.load`, then `predict`
on embeddings) and `report.json` (accuracy, precision and recall per class, confusion matrix). This
shows how to use embeddings; the paper's protocol is eval.table2_sound.
"""

import dataclasses
import io
import json
import logging
import pathlib
import sys
from collections.abc import Sequence

import joblib
import numpy as np
from sklearn import linear_model, metrics, pipeline, preprocessing

# The package eval, which reads the data sets, is in the clone only.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import l3net
from eval.sets import recordings
from l3net import constants, files, flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.progress import track

READERS = {
    "esc10": recordings.read_esc10,
    "esc50": recordings.read_esc50,
    "dcase2013": recordings.read_dcase2013,
}

_log = logging.getLogger("__main__")


@dataclasses.dataclass(frozen=True)
class Config:
    """The data and the classifier."""

    saved_model: str = setting(REQUIRED, "Folder that l3net.export wrote.")
    recordings: str = setting(REQUIRED, "Folder of the data set.")
    out_dir: str = setting(REQUIRED, "Folder for classifier and report.")
    dataset: str = setting("esc10", "Layout of --recordings.", choices=tuple(READERS))
    test_part: str = setting("", "Fold to test on; if not given, the first, or the test split.")
    output: str | None = setting(
        None,
        "Features of the network; if not given, embedding where it has one, else pool4.",
        choices=("pool4", "conv4_2", "embedding"),
    )
    hop_seconds: float = setting(0.5, "Seconds between two embeddings.")
    regularization: float = setting(
        1.0, "C of logistic regression; smaller is stronger.", at_least=0
    )


def classify(
    data: recordings.RecordingSet,
    saved_model_dir: str,
    *,
    out_dir: str | pathlib.Path,
    test_part: str = "",
    output: str | None = None,
    hop_seconds: float = 0.5,
    regularization: float = 1.0,
) -> dict:
    """Trains, tests, writes the classifier and its report.

    Args:
        data: labelled recordings.
        saved_model_dir: folder that l3net.export wrote.
        out_dir: folder for the two files.
        test_part: fold to test on; "" takes the first, or the test split.
        output: "pool4", "conv4_2" or "embedding" of the network; None chooses.
        hop_seconds: seconds between two embeddings.
        regularization: C of logistic regression; smaller is stronger.

    Returns:
        The report.

    Raises:
        UserError: if there is no such part, a recording or the network cannot be read.
    """
    test_part = test_part or data.test_parts[0]
    if test_part not in data.parts:
        have = ", ".join(sorted(set(data.parts)))
        raise UserError(f"--test_part={test_part}: {data.name} has the parts {have}")
    model = l3net.SavedModel(saved_model_dir)
    embedded = embed(data, model, output=output, hop_seconds=hop_seconds)
    classifier = fit(
        [rows for rows, part in zip(embedded, data.parts, strict=True) if part != test_part],
        data.labels[data.parts != test_part],
        regularization=regularization,
    )
    tested = np.flatnonzero(data.parts == test_part)
    predicted = [predict(classifier, embedded[index]) for index in tested]
    report = {
        **scores(data.classes, data.labels[tested], predicted),
        "data": data.data,
        "test_part": test_part,
        "num_train": int(np.sum(data.parts != test_part)),
        "weights_sha256": model.metadata.get("weights_sha256"),
    }
    save(pathlib.Path(out_dir), classifier, report)
    return report


def embed(
    data: recordings.RecordingSet,
    model: l3net.SavedModel,
    *,
    output: str | None,
    hop_seconds: float,
) -> list[np.ndarray]:
    """Returns the embeddings of each recording, float32 [T, D] each."""
    return [
        l3net.get_audio_embedding(
            recording.load(constants.SAMPLE_RATE_HZ),
            constants.SAMPLE_RATE_HZ,
            model=model,
            output=output,
            center=False,
            hop_size=hop_seconds,
        )[0]
        for recording in track(data.recordings, "features", unit="recording")
    ]


def fit(
    embedded: Sequence[np.ndarray], labels: np.ndarray, *, regularization: float
) -> pipeline.Pipeline:
    """Fits z-score and logistic regression to windows that bear their recording's label."""
    window_labels = np.repeat(labels, [len(rows) for rows in embedded])
    classifier = pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(C=regularization, max_iter=1000),
    )
    return classifier.fit(np.concatenate(embedded), window_labels)


def predict(classifier: pipeline.Pipeline, rows: np.ndarray) -> int:
    """Returns the class index of a recording with embeddings float32 [T, D]."""
    mean = classifier.predict_log_proba(rows).mean(axis=0)
    return int(classifier.classes_[np.argmax(mean)])


def scores(classes: Sequence[str], labels: Sequence[int], predicted: Sequence[int]) -> dict:
    """Returns accuracy, scores per class and confusion matrix (rows: the true class)."""
    indices = range(len(classes))
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "num_test": len(labels),
        "classes": list(classes),
        "per_class": metrics.classification_report(
            labels,
            predicted,
            labels=indices,
            target_names=classes,
            output_dict=True,
            zero_division=0,
        ),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=indices).tolist(),
    }


def save(out_dir: pathlib.Path, classifier: pipeline.Pipeline, report: dict) -> None:
    """Writes both files, each complete or not at all."""
    buffer = io.BytesIO()
    joblib.dump(classifier, buffer)
    files.write_whole(out_dir / "classifier.joblib", buffer.getvalue())
    files.write_whole(out_dir / "report.json", json.dumps(report, indent=1) + "\n")


def main(config: Config) -> None:
    """Trains and tests."""
    data = READERS[config.dataset](config.recordings)
    report = classify(
        data,
        config.saved_model,
        out_dir=config.out_dir,
        test_part=config.test_part,
        output=config.output,
        hop_seconds=config.hop_seconds,
        regularization=config.regularization,
    )
    _log.info("accuracy %.1f %% on %d recordings", 100 * report["accuracy"], report["num_test"])


if __name__ == "__main__":
    flags.run(main, Config)
