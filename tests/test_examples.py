"""The examples of docs/examples: run small as their users run them, and part by part."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import joblib
import numpy as np
import pytest
import tensorflow as tf

import l3net
from eval.sets import recordings
from l3net.errors import UserError
from tests.tiny_networks import save_tiny_network
from tests.tiny_sets import write_esc50, write_tone

EXAMPLES = pathlib.Path(__file__).parents[1] / "docs" / "examples"
# The others need a folder of data; each of these has its tests below.
NAMES = ("classify_embeddings", "fine_tune")


def load(name: str):
    """Imports an example, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


classify_embeddings, fine_tune = map(load, NAMES)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_tiny_network(tmp_path_factory.mktemp("net") / "saved_model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tones of 305 to 325 Hz and of 605 to 625 Hz, five folds; seconds of one class are alike."""
    folder = write_esc50(tmp_path_factory.mktemp("esc"), seconds=0.1)
    for path in (folder / "audio").iterdir():
        fold, target = map(int, path.stem.split("-")[:2])
        # At 48 kHz: nothing to resample.
        write_tone(path, hz=300 * (target + 1) + 5 * fold, seconds=1.5, rate_hz=48_000)
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return recordings.read_esc50(folder)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NAMES)


# --- classify_embeddings -------------------------------------------------------------------------
def test_a_classifier_on_embeddings(data, network, tmp_path):
    report = classify_embeddings.classify(data, network, out_dir=tmp_path, test_part="2")
    assert report["accuracy"] == 1.0 and report["confusion"] == [[1, 0], [0, 1]]
    assert report["num_train"] == 8 and report["num_test"] == 2 and report["test_part"] == "2"
    assert json.loads((tmp_path / "report.json").read_text()) == report
    classifier = joblib.load(tmp_path / "classifier.joblib")
    sound = data.recordings[1].load(48_000)  # in fold 2: the second of the first class
    rows, _ = l3net.get_audio_embedding(sound, 48_000, model=network, center=False)
    assert report["classes"][classifier.predict(rows)[0]] == data.recordings[1].label


def test_test_recordings_are_not_trained_on(data, network, tmp_path, monkeypatch):
    seen = []
    fit = classify_embeddings.fit

    def spy(embedded, labels, **settings):
        seen.append((len(embedded), labels.tolist()))
        return fit(embedded, labels, **settings)

    monkeypatch.setattr(classify_embeddings, "fit", spy)
    classify_embeddings.classify(data, network, out_dir=tmp_path)
    assert seen == [(8, [0] * 4 + [1] * 4)]  # fold 1 of both classes is held out


def test_a_report_by_hand():
    report = classify_embeddings.scores(["a", "b", "c"], [0, 0, 1, 1], [0, 1, 1, 1])
    assert report["accuracy"] == 0.75
    assert report["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert report["per_class"]["b"]["precision"] == pytest.approx(2 / 3)
    assert report["per_class"]["c"]["support"] == 0


def test_classify_embeddings_runs(folder, network, tmp_path):
    settings = [f"--saved_model={network}", f"--recordings={folder}", "--dataset=esc50"]
    done = run("classify_embeddings", *settings, f"--out_dir={tmp_path}", "--output=conv4_2")
    assert done.returncode == 0, done.stderr
    assert "accuracy 100.0 % on 2 recordings" in done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["accuracy"] == 1.0


# --- fine_tune -----------------------------------------------------------------------------------
QUICK = fine_tune.Recipe(num_head_steps=30, num_steps=5, batch_size=8, learning_rate=1e-3)


@pytest.fixture(scope="module")
def tuned(data, network, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("tuned")
    return out_dir, fine_tune.fine_tune(data, network, out_dir=out_dir, recipe=QUICK)


def test_fine_tuning_learns_and_moves_the_network(data, network, tuned):
    out_dir, report = tuned
    assert report["accuracy_head_only"] == report["accuracy_fine_tuned"] == 1.0
    assert json.loads((out_dir / "report.json").read_text()) == report
    loaded = tf.saved_model.load(str(out_dir / "saved_model"))
    (gain,) = [v.numpy() for v in loaded.signatures["classify"].variables if v.shape == []]
    assert 0 < np.abs(gain - 1.0) < 0.1  # the tiny network's only variable


def test_the_written_classifier_takes_waveforms(data, tuned):
    out_dir, _ = tuned
    loaded = tf.saved_model.load(str(out_dir / "saved_model"))
    classes = json.loads((out_dir / "saved_model/assets.extra/classes.json").read_text())
    sounds = np.stack([recording.load(48_000)[:48_000] for recording in data.recordings])
    probability = loaded.signatures["classify"](waveform=tf.constant(sounds))["probability"].numpy()
    assert probability.shape == (10, 2) and probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-5)
    found = [classes[index] for index in probability.argmax(axis=1)]
    assert found == [recording.label for recording in data.recordings]


def test_only_the_head_learns_at_first(data, network):
    classifier = fine_tune.Classifier(network, 2)
    sounds = fine_tune.load_sounds(data)
    rng = np.random.default_rng(0)
    before = [variable.numpy() for variable in classifier.trunk]
    fine_tune.train(
        classifier,
        lambda: fine_tune.draw_batch(sounds, data.labels, 4, rng),
        [(classifier.head, 1e-2)],
        num_steps=2,
    )
    assert np.abs(classifier.head[0].numpy()).max() > 0
    np.testing.assert_array_equal(before, [variable.numpy() for variable in classifier.trunk])


def test_drawn_seconds_are_of_the_sound_and_near_its_volume():
    ramp = np.linspace(0.1, 0.5, 60_000).astype(np.float32)
    waveform, labels = fine_tune.draw_batch(
        [ramp, -ramp], np.array([3, 5]), 50, np.random.default_rng(0)
    )
    assert waveform.shape == (50, 48_000) and waveform.dtype == np.float32
    np.testing.assert_array_equal(labels, np.where(waveform[:, 0] > 0, 3, 5))
    slope = np.abs(waveform[:, -1] - waveform[:, 0]) / (0.4 * 47_999 / 59_999)
    assert slope.min() > 0.899 and slope.max() < 1.101 and np.ptp(slope) > 0.1
    assert len(set(np.abs(waveform[:, 0]) / slope)) > 40  # many starts


def test_a_diverged_training_is_not_kept(data, network, tmp_path):
    recipe = fine_tune.Recipe(num_head_steps=0, num_steps=2, batch_size=2, learning_rate=np.inf)
    with pytest.raises(UserError, match="diverged"):
        fine_tune.fine_tune(data, network, out_dir=tmp_path / "out", recipe=recipe)
    assert not (tmp_path / "out").exists()


def test_fine_tune_runs_twice_into_one_folder(folder, network, tmp_path):
    settings = [f"--saved_model={network}", f"--recordings={folder}", "--dataset=esc50"]
    settings += [f"--out_dir={tmp_path}", "--num_head_steps=2", "--num_steps=1", "--batch_size=2"]
    (tmp_path / "saved_model").mkdir()
    done = run("fine_tune", *settings, "--test_part=3")
    assert done.returncode == 0, done.stderr
    assert "accuracy on 2 recordings" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "saved_model"]
    assert json.loads((tmp_path / "report.json").read_text())["test_part"] == "3"


# --- Both ----------------------------------------------------------------------------------------
def test_invalid_arguments_are_refused(data, network, tmp_path):
    for run_it in (classify_embeddings.classify, fine_tune.fine_tune):
        with pytest.raises(UserError, match="--test_part=6: ESC-50 has the parts 1, 2, 3, 4, 5"):
            run_it(data, network, out_dir=tmp_path, test_part="6")
    deaf = save_tiny_network(tmp_path / "deaf", signature="vision")
    with pytest.raises(UserError, match="no signature 'audio'"):
        fine_tune.fine_tune(data, deaf, out_dir=tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        fine_tune.fine_tune(data, tmp_path / "none", out_dir=tmp_path)
