import pathlib

import numpy as np
import pytest

from eval.methods import baselines
from eval.sets import recordings

REAL_ESC10 = pathlib.Path(__file__).parents[3] / "shared" / "data" / "esc10"


def test_zero_crossings_by_hand_and_of_a_tone():
    assert baselines.zero_crossing_rates(np.array([1.0, -1, 1, 1]))[0] == pytest.approx(2 / 3)
    assert baselines.zero_crossing_rates(np.array([1.0, 0, 0, 0]))[0] == pytest.approx(1 / 6)
    tone = np.sin(2 * np.pi * 441 * np.arange(44_100) / 44_100 + 0.1)
    rates = baselines.zero_crossing_rates(tone)
    assert len(rates) == int(np.ceil(44_100 / 512))
    assert rates.mean() * 44_100 / 2 == pytest.approx(441, rel=0.05)


def test_statistics_have_the_papers_size_and_tell_noise_from_a_tone():
    generator = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 441 * np.arange(44_100) / 44_100).astype(np.float32)
    noise = generator.uniform(-1, 1, 44_100).astype(np.float32)
    statistics = [baselines.mfcc_statistics(sound) for sound in (tone, noise)]
    assert [len(row) for row in statistics] == [26, 26]
    assert statistics[0][24] < 0.05 < 0.4 < statistics[1][24]
    louder = baselines.mfcc_statistics(0.5 * noise)  # the 0th coefficient alone is the loudness
    np.testing.assert_allclose(louder[:12], statistics[1][:12], atol=0.1)


@pytest.mark.parametrize("waveform", [np.zeros(44_100, np.float32), np.ones(10, np.float32)])
def test_silence_and_very_short_sounds_are_finite(waveform):
    assert np.isfinite(baselines.mfcc_statistics(waveform)).all()


@pytest.mark.parametrize("name", [baselines.SVM, baselines.FOREST])
def test_folds_are_predicted_from_the_others(name, monkeypatch):
    monkeypatch.setattr(baselines, "NUM_TREES", 20)
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 4
    parts = (np.arange(40) // 4 % 2 + 1).astype(str)
    features = 3 * np.eye(4)[labels] + 0.3 * generator.normal(size=(40, 4))
    predictions = baselines.evaluate(name, features, labels, parts, tested=["1", "2"], seed=0)
    assert np.mean(predictions == labels) > 0.9
    only = baselines.evaluate(name, features, labels, parts, tested=["2"], seed=0)
    assert set(only[parts == "1"]) == {-1}


def test_classifiers_are_piczaks():
    svm = baselines.classifier(baselines.SVM, seed=0)
    assert (svm.C, svm.kernel) == (0.1, "linear")
    assert baselines.classifier(baselines.FOREST, seed=0).n_estimators == 500


@pytest.mark.skipif(not REAL_ESC10.is_dir(), reason="needs the real ESC-10")
def test_real_recordings_are_told_apart_and_cached(tmp_path, monkeypatch):
    found = recordings.read_esc10(REAL_ESC10)
    few = [r for r in found.recordings if r.label in ("Rain", "Rooster") and r.part in "12"][::2]
    features = baselines.extract(few, cache_dir=tmp_path)
    labels = np.array([int(r.label == "Rain") for r in few])
    parts = np.array([r.part for r in few])
    given = {"tested": ["1", "2"], "seed": 0}
    predictions = baselines.evaluate(baselines.SVM, features, labels, parts, **given)
    assert np.mean(predictions == labels) > 0.8
    monkeypatch.setattr(baselines, "mfcc_statistics", None)  # would fail if called again
    np.testing.assert_array_equal(baselines.extract(few, cache_dir=tmp_path), features)
