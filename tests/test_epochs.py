import keras
import numpy as np
import pytest

from eval import epochs


def _model(seed=0):
    start = keras.initializers.GlorotUniform(seed=seed)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dropout(0.5, seed=seed),
            keras.layers.Dense(2, kernel_initializer=start),
        ]
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True)
    model.compile(keras.optimizers.Adam(schedule), "mse")
    return model


def _step(model, epoch):
    rng = np.random.default_rng(epoch)
    model.train_on_batch(rng.normal(size=(8, 4)), rng.normal(size=(8, 2)))


def test_every_epoch_once_and_no_state_left(tmp_path):
    assert list(epochs.remaining(tmp_path / "state", [_model()], 3)) == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_killed_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    whole = [_model(0), _model(1)]
    for epoch in epochs.remaining(tmp_path / "whole", whole, 5):
        for model in whole:
            _step(model, epoch)
    killed = [_model(0), _model(1)]
    for epoch in epochs.remaining(tmp_path / "killed", killed, 5):
        if epoch == 3:
            break
        for model in killed:
            _step(model, epoch)
    resumed, seen = [_model(7), _model(8)], []
    for epoch in epochs.remaining(tmp_path / "killed", resumed, 5):
        seen.append(epoch)
        for model in resumed:
            _step(model, epoch)
    assert seen == [3, 4]
    for one, other in zip(whole, resumed, strict=True):
        for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6)
        assert int(one.optimizer.iterations) == int(other.optimizer.iterations) == 5


def test_not_every_epoch_is_written(tmp_path):
    for _ in epochs.remaining(tmp_path / "state", [_model()], 3):
        assert not (tmp_path / "state").exists()


def test_state_of_other_models_is_no_silent_mixture(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    run = epochs.remaining(tmp_path / "state", [_model()], 5)
    next(run), next(run)
    with pytest.raises(ValueError):
        next(epochs.remaining(tmp_path / "state", [_model(), _model()], 5))
