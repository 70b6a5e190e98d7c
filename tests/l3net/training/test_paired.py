import numpy as np
import pytest
import tensorflow as tf

from l3net import models
from l3net.data import avc_pairs
from l3net.errors import UserError
from l3net.training import paired
from tests.tiny_training import make_trainer


def _inputs(model, num_clips=4):
    rng = np.random.default_rng(0)
    shapes = {name: tensor.shape[1:] for name, tensor in model.input.items()}
    return {
        name: tf.constant(rng.uniform(-1, 1, (num_clips, *shape)), tf.float32)
        for name, shape in shapes.items()
    }


def _rows(name, value):
    sound = name == "log_spectrogram"
    return (avc_pairs.sounds_of_pairs if sound else avc_pairs.frames_of_pairs)(value, 2)


def _loss_and_gradients(network, called, inputs, variables):
    target = tf.constant([1, 0, 0] * 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network.loss(called(inputs, training=True), target))
    return loss, tape.gradient(loss, variables)


PAIR_NETWORKS = sorted(name for name, network in models.MODELS.items() if not network.is_classifier)


@pytest.mark.parametrize("name", PAIR_NETWORKS)
def test_a_network_on_clips_computes_what_it_does_on_pairs(name):
    config = models.ModelConfig(
        model=name, width=0.0625, frame_px=64, spectrogram_average=2, conv1_1_stride=2
    )
    model = models.build_model(config)
    on_clips = paired.on_clips(model, 2, sampling="ots")
    assert {id(v) for v in on_clips.variables} == {id(v) for v in model.variables}
    clips = _inputs(model)
    pairs = {key: _rows(key, value) for key, value in clips.items()}
    naive = paired.on_clips(model, 2, sampling="naive")
    twice = {**clips, "log_spectrogram": tf.tile(clips["log_spectrogram"], [2, 1, 1, 1])}
    variables = model.trainable_variables
    expected = _loss_and_gradients(config.network, model, pairs, variables)
    for called, inputs in ((on_clips, clips), (naive, twice)):
        found = _loss_and_gradients(config.network, called, inputs, variables)
        assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-4)
        for mine, theirs in zip(found[1], expected[1], strict=True):
            largest = float(tf.reduce_max(tf.abs(theirs)))
            np.testing.assert_allclose(mine, theirs, atol=0.05 * largest + 1e-6)


def test_pairs_are_shown_as_they_are_trained():
    batch = {
        "corresponds": tf.constant([1, 0, 1, 0, 1, 0]),
        "draws": tf.zeros([3, 1]),
        "image": tf.constant([0, 1, 2]),
        "waveform": tf.constant([0, 10, 20]),
        "log_spectrogram": tf.constant([0, 10, 20, 1, 11, 21]),  # as in "naive"
    }
    shown = {name: value.numpy().tolist() for name, value in paired.pairs_of(batch, 1).items()}
    assert shown["image"] == [0, 0, 1, 1, 2, 2]
    assert shown["waveform"] == [0, 10, 10, 20, 20, 0]
    assert shown["log_spectrogram"] == [0, 11, 10, 21, 20, 1]


def test_a_match_weighs_as_much_as_all_its_mismatches(shards):
    """A network that says "match" to all: half right, and its loss is that of a coin's."""
    trainer = make_trainer(shards, config={"weight_decay": 0.0}, paired_negatives=3)
    fc2 = trainer.model.get_layer("fc2")
    for logits, accuracy in (([-9.0, 9.0], 0.5), ([9.0, -9.0], 0.5)):
        fc2.set_weights([np.zeros_like(fc2.get_weights()[0]), np.array(logits, np.float32)])
        loss, num_correct = trainer.step(trainer.batches(0))
        assert float(num_correct) / 8 == pytest.approx(accuracy)
        assert float(loss) == pytest.approx(9.0, rel=1e-3)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_training_on_paired_negatives_goes_on_where_it_was(shards, accumulation_steps):
    def losses(first, last):
        trainer = make_trainer(
            shards,
            config={"learning_rate": 0.0, "accumulation_steps": accumulation_steps},
            paired_negatives=1,
            pairs_per_clip=1,
        )
        batches = trainer.batches(first)
        return [float(trainer.step(batches)[0]) for _ in range(first, last)]

    whole = losses(0, 4)
    assert len(set(whole)) == 4
    np.testing.assert_allclose(losses(2, 4), whole[2:], rtol=1e-3)


def test_micro_batches_that_split_a_pair_are_refused(shards):
    with pytest.raises(UserError, match="2 pair.s. on a device at once; need an even number"):
        make_trainer(shards, config={"accumulation_steps": 4}, paired_negatives=1)
