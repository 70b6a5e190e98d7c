import keras
import numpy as np
import pytest

from eval.methods import epochs
from l3net.errors import UserError


def _model(seed=0):
    start = keras.initializers.GlorotUniform(seed=seed)
    layers = [keras.layers.Dropout(0.5, seed=seed), keras.layers.Dense(2, kernel_initializer=start)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True)
    model.compile(keras.optimizers.Adam(schedule), "mse")
    return model


def _train(path, models, killed_in=None):
    """Trains for up to five epochs; returns them."""
    seen = []
    for epoch in epochs.remaining(path, models, 5):
        if epoch == killed_in:
            break
        seen.append(epoch)
        for model in models:
            rng = np.random.default_rng(epoch)
            model.train_on_batch(rng.normal(size=(8, 4)), rng.normal(size=(8, 2)))
    return seen


def test_every_epoch_once_but_not_every_one_is_written_and_no_state_left(tmp_path):
    seen = []
    for epoch in epochs.remaining(tmp_path / "state", [_model()], 3):
        assert not (tmp_path / "state").exists()
        seen.append(epoch)
    assert seen == [0, 1, 2] and not list(tmp_path.iterdir())


def test_killed_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    whole = [_model(0), _model(1)]
    _train(tmp_path / "whole", whole)
    _train(tmp_path / "killed", [_model(0), _model(1)], killed_in=3)
    resumed = [_model(7), _model(8)]
    assert _train(tmp_path / "killed", resumed) == [3, 4]
    for one, other in zip(whole, resumed, strict=True):
        for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6)
        assert int(one.optimizer.iterations) == int(other.optimizer.iterations) == 5


def test_state_of_other_models_is_no_silent_mixture(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    run = epochs.remaining(tmp_path / "state", [_model()], 5)
    next(run), next(run)
    assert next(epochs.remaining(tmp_path / "state", [_model(), _model()], 5)) == 0


def test_a_damaged_state_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    path = tmp_path / "state"
    run = epochs.remaining(path, [_model()], 5)
    next(run), next(run)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        fresh = _model()
        before = [array.copy() for array in fresh.get_weights()]
        if next(epochs.remaining(path, [fresh], 5)) == 0:  # else a byte that says nothing
            assert all(map(np.array_equal, before, fresh.get_weights()))
    for damaged in (b"", whole[: len(whole) // 2], b"PK" * 99, whole[:60] + whole[:60]):
        path.write_bytes(damaged)
        assert next(epochs.remaining(path, [_model()], 5)) == 0


def _line(weight, rate):
    """Learns y = weight * x by steps of `rate`; the loss is half the mean squared error."""
    start = keras.initializers.Constant(weight)
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=start)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(
        keras.optimizers.SGD(rate),
        lambda y, found: keras.ops.mean((found[:, 0] - keras.ops.cast(y, "float32")) ** 2) / 2,
    )
    return model


def _weight(model):
    return float(model.get_weights()[0][0, 0])


def test_training_by_hand(tmp_path):
    # Loss (w x - y)^2 / 2, slope (w x - y) x. First batch x = 1, y = 2; second x = 2, y = 4, and
    # twice as long: it counts twice in the epoch's loss.
    batches = [([[1.0]], [2]), ([[2.0], [2.0]], [4, 4])]
    batches = [(np.float32(x), np.int64(y)) for x, y in batches]
    models = [_line(0.0, 0.25), _line(2.0, 0.25)]
    given = {"num_examples": 3, "path": tmp_path / "state", "what": "line"}
    losses = epochs.train(models, lambda epoch: batches, 2, **given)
    # From 0: loss 2, slope -2, so 0.5; loss (1 - 4)^2 / 2 = 4.5, slope -6, so 2. Then w = 2.
    np.testing.assert_allclose(losses, [[(2 + 2 * 4.5) / 3, 0], [0, 0]], atol=1e-6)
    assert [_weight(model) for model in models] == [2.0, 2.0]


def test_training_that_diverges_alone_goes_on_beside_others(tmp_path):
    batches = [(np.float32([[1e19]]), np.int64([0]))]
    given = {"num_examples": 1, "path": tmp_path / "state", "what": "line"}
    with pytest.raises(UserError, match="the line diverged in epoch 2; try a smaller"):
        epochs.train([_line(1.0, 1.0)], lambda epoch: batches, 3, **given)
    losses = epochs.train([_line(1.0, 1.0), _line(0.0, 1.0)], lambda epoch: batches, 3, **given)
    assert not np.isfinite(losses[-1][0]) and losses[-1][1] == 0
