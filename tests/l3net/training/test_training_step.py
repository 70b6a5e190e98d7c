import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from l3net.errors import UserError
from l3net.training import optimization
from l3net.training.step import TrainingConfig
from tests.tiny_training import CLASSIFIER, MODEL, make_trainer


def test_overfits_eight_pairs(shards):
    """One batch of eight pairs again and again: the loss must go to nearly nothing."""
    trainer = make_trainer(shards, config={"learning_rate": 3e-3, "learning_rate_decay": 1.0})
    batch = next(trainer.batches(0))
    losses = [float(trainer.step(iter([batch]))[0]) for _ in range(60)]
    assert losses[0] > 0.5 and losses[-1] < 0.05, losses[::10]


def _freeze_batch_norm(trainer):
    """Freezes it, and makes optimizer and sums again over what is still trainable."""
    for layer in trainer.model._flatten_layers():
        if type(layer).__name__ == "BatchNorm":
            layer.trainable = False
    precision = trainer.model_config.precision
    trainer.optimizer = optimization.adam(trainer.learning_rate, precision=precision)
    trainer.optimizer.build(trainer.model.trainable_variables)
    if trainer._sums is not None:
        trainer._sums = trainer._make_sums()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_accumulated_gradients_are_those_of_the_large_batch(shards, precision):
    """Batch norm frozen, its gammas and betas too: all else must agree, the L2 penalty once.

    Compared are loss, number right and Adam's first moments after two updates (the weights would
    show rounding: Adam makes steps of equal size from gradients next to zero).
    """
    model = dataclasses.replace(CLASSIFIER, precision=precision)
    results = []
    for steps in (1, 4):
        config = {"accumulation_steps": steps, "weight_decay": 0.1, "learning_rate": 1e-3}
        trainer = make_trainer(shards, model=model, config=config)
        _freeze_batch_norm(trainer)
        batches = trainer.batches(0)
        metrics = [[float(x) for x in trainer.step(batches)] for _ in range(2)]
        adam = getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer)
        results.append((metrics, [moment.numpy() for moment in adam._momentums]))
    tolerance = {"float32": 1e-3, "float16": 6e-2}[precision]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=tolerance)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(a).max())


def test_gradients_add_up_in_the_strategy_of_one_machine_too(shards):
    losses = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        config = {"accumulation_steps": 2}
        trainer = make_trainer(shards, model=CLASSIFIER, strategy=strategy, config=config)
        batches = trainer.batches(0)
        losses.append([float(trainer.step(batches)[0]) for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_frozen_subnetworks_are_not_trained(shards):
    model = dataclasses.replace(MODEL, model="supervised_pretraining", conv1_1_stride=2)
    trainer = make_trainer(shards, model=model, config={"weight_decay": 0.1})
    before = trainer.model.get_weights()
    trainer.step(trainer.batches(0))
    variables = zip(trainer.model.variables, before, strict=True)
    changed = [v for v, old in variables if not np.array_equal(v, old)]
    assert [v.path for v in changed] == ["fc1/kernel", "fc1/bias", "fc2/kernel", "fc2/bias"]
    assert trainer.num_parameters == sum(v.numpy().size for v in changed)


def _learn(shards, *, precision="float32", num_steps=6, **config):
    """Takes steps on one batch again and again; returns the trainer and its losses."""
    model = dataclasses.replace(CLASSIFIER, precision=precision)
    trainer = make_trainer(shards, model=model, config=config)
    batch = next(trainer.batches(0))
    return trainer, [float(trainer.step(iter([batch]))[0]) for _ in range(num_steps)]


@pytest.fixture(scope="module")
def learned(shards):
    """Gives trainer and losses of a precision; each learns once."""
    return functools.cache(lambda precision: _learn(shards, precision=precision))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_as_float32_does(learned, precision):
    losses, expected = learned(precision)[1], learned("float32")[1]
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(losses, expected, rtol=0.1)
    assert losses[-1] < losses[0]


def test_float16_leaves_out_an_update_whose_gradients_are_not_finite(learned):
    trainer, _ = learned("float16")
    trainer.optimizer.dynamic_scale.assign(1e38)
    kernel = trainer.model.get_layer("vision").get_layer("fc1").kernel
    before = kernel.numpy()
    trainer.step(trainer.batches(0))
    np.testing.assert_array_equal(before, kernel)
    np.testing.assert_allclose(trainer.optimizer.dynamic_scale, 0.5e38)


def test_xla_computes_the_same(shards, learned):
    _, losses = _learn(shards, num_steps=3, xla=True)
    np.testing.assert_allclose(learned("float32")[1][:3], losses, rtol=1e-3)


def test_batches_that_cannot_be_cut_say_what_would(shards):
    with pytest.raises(UserError, match=r"=8: cannot.*accumulation_steps=3; .* such as 6 or 12"):
        make_trainer(shards, config={"accumulation_steps": 3})


@pytest.mark.parametrize(
    ("pairs_per_epoch", "steps_per_epoch"),
    [(0, 2), (32, 8)],  # batches of 4: as many pairs as clips, or as many as asked for
)
def test_an_epoch_is_as_many_pairs_as_clips_or_as_asked_for(
    shards, pairs_per_epoch, steps_per_epoch
):
    config = {"learning_rate": 1.0, "pairs_per_epoch": pairs_per_epoch}
    rate = make_trainer(shards, config=config, batch_size=4).learning_rate
    first = 16 * steps_per_epoch  # the papers' 16 epochs, then 6 % less
    rates = [float(rate(step)) for step in (0, first - 1, first, 2 * first - 1, 2 * first)]
    np.testing.assert_allclose(rates, [1, 1, 0.94, 0.94, 0.94**2], rtol=1e-6)


def test_defaults_are_the_papers():
    config = TrainingConfig("shards")
    assert (config.learning_rate, config.weight_decay) == (1e-4, 1e-5)
    assert (config.learning_rate_decay, config.epochs_per_decay) == (0.94, 16)
    assert (config.pairs_per_epoch, config.warmup_steps, config.accumulation_steps) == (0, 0, 1)
