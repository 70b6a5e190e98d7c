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

import functools
import io
import json
import logging
import pathlib
import sys
from collections.abc import Mapping, Sequence

import joblib
import numpy as np
import tqdm
from absl import flags
from sklearn import linear_model, metrics, pipeline, preprocessing

import l3net
from eval.sets import recordings
from l3net import constants, errors, files
from l3net.errors import UserError

READERS = {
    "esc10": recordings.read_esc10,
    "esc50": recordings.read_esc50,
    "dcase2013": recordings.read_dcase2013,
}

_log = logging.getLogger("__main__")


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
        output: of the network: "pool4", "conv4_2" or "embedding"; None chooses.
        hop_seconds: between two embeddings.
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
        **describe(data.classes, data.labels[tested], predicted),
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
    interval = 0.1 if sys.stderr.isatty() else 30.0
    progress = tqdm.tqdm(data.recordings, unit="recording", mininterval=interval)
    return [
        l3net.get_audio_embedding(
            recording.load(constants.SAMPLE_RATE_HZ),
            constants.SAMPLE_RATE_HZ,
            model=model,
            output=output,
            center=False,
            hop_size=hop_seconds,
        )[0]
        for recording in progress
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


def describe(classes: Sequence[str], labels: Sequence[int], predicted: Sequence[int]) -> dict:
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
    """Writes both files, each whole or not at all."""
    buffer = io.BytesIO()
    joblib.dump(classifier, buffer)
    files.write_whole(out_dir / "classifier.joblib", buffer.getvalue())
    files.write_whole(out_dir / "report.json", json.dumps(report, indent=1) + "\n")


def define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are keywords of `classify`, and `dataset` and `recordings`."""
    string = flags.DEFINE_string
    return {
        "saved_model_dir": string(
            "saved_model", None, "Folder that l3net.export wrote.", required=True
        ),
        "dataset": flags.DEFINE_enum("dataset", "esc10", list(READERS), "Layout of --recordings."),
        "recordings": string("recordings", None, "Folder of the data set.", required=True),
        "out_dir": string("out_dir", None, "Folder for classifier and report.", required=True),
        "test_part": string("test_part", "", "Fold to test on. Default: the first."),
        "output": flags.DEFINE_enum(
            "output",
            None,
            ("pool4", "conv4_2", "embedding"),
            "Of the network. Default: embedding where it has one, else pool4.",
        ),
        "hop_seconds": flags.DEFINE_float("hop_seconds", 0.5, "Between two embeddings."),
        "regularization": flags.DEFINE_float(
            "regularization", 1.0, "C of logistic regression; smaller is stronger.", lower_bound=0
        ),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, trains and tests."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; settings are flags, see --help")
    values = {keyword: holder.value for keyword, holder in holders.items()}
    data = READERS[values.pop("dataset")](values.pop("recordings"))
    report = classify(data, **values)
    _log.info("accuracy %.1f %% on %d recordings", 100 * report["accuracy"], report["num_test"])


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=define_flags()))
