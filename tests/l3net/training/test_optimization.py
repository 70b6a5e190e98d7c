import keras
import numpy as np
import pytest
import tensorflow as tf

from l3net import models
from l3net.models import losses
from l3net.training import optimization
from tests.tiny_networks import TINY


def test_epsilon_is_that_of_adams_paper():
    """Not Keras's 1e-7; a first step of a gradient g is rate * g / (|g| + epsilon)."""
    for settings, epsilon in (({}, 1e-8), ({"epsilon": 1e-3}, 1e-3)):
        variable = keras.Variable(np.zeros(1, np.float32))
        adam = optimization.adam(optimization.LearningRate(1.0, steps_per_epoch=1), **settings)
        adam.build([variable])
        gradient = np.float32(1e-7)
        adam.apply([tf.constant([gradient])])
        # Adam's corrected moments: m = g, v = g ** 2; epsilon is added to the root of the
        # uncorrected v, which is sqrt(1 - 0.999) of it.
        expected = -gradient / (gradient + epsilon / np.sqrt(1 - 0.999))
        np.testing.assert_allclose(variable.numpy(), [expected], rtol=1e-3)


def test_six_percent_every_sixteen_epochs():
    rate = optimization.LearningRate(1e-4, steps_per_epoch=10)
    expected = [(0, 1.0), (159, 1.0), (160, 0.94), (319, 0.94), (320, 0.94**2), (1600, 0.94**10)]
    for step, factor in expected:
        np.testing.assert_allclose(rate(step), 1e-4 * factor, rtol=1e-5)
    rate = optimization.LearningRate(1.0, steps_per_epoch=2.5)
    np.testing.assert_allclose([rate(39), rate(40)], [1.0, 0.94], rtol=1e-6)


def test_constant_rate_and_warmup():
    rate = optimization.LearningRate(2.0, steps_per_epoch=1, decay=1.0, warmup_steps=4)
    np.testing.assert_allclose([rate(s) for s in (0, 1, 3, 4, 1000)], [0.5, 1, 2, 2, 2])
    rate = optimization.LearningRate(1e-3, steps_per_epoch=7, warmup_steps=3)
    back = optimization.LearningRate.from_config(rate.get_config())
    assert float(back(500)) == float(rate(500))


@pytest.mark.parametrize(
    ("logit", "corresponds", "expected"),
    [
        (0.0, 1, 0.693147), (0.0, 0, 0.693147),  # ln 2
        (2.0, 1, 0.126928), (2.0, 0, 2.126928),  # ln(1 + e^-2), and 2 more
        (-2.0, 1, 2.126928), (100.0, 0, 100.0), (100.0, 1, 0.0),
    ],
)  # fmt: skip
def test_logistic_loss_by_hand(logit, corresponds, expected):
    loss = losses.logistic_loss({"logit": tf.constant([logit])}, tf.constant([corresponds]))
    np.testing.assert_allclose(loss, [expected], rtol=1e-5, atol=1e-7)


def test_adam_reads_the_schedule_at_its_own_step():
    variable = keras.Variable([0.0])
    adam = optimization.adam(optimization.LearningRate(1.0, steps_per_epoch=1, epochs_per_decay=1))
    adam.apply([tf.constant([1.0])], [variable])
    np.testing.assert_allclose(variable, [-1.0], rtol=1e-3)
    adam.apply([tf.constant([1.0])], [variable])
    np.testing.assert_allclose(variable, [-1.94], rtol=1e-3)


def test_l2_penalty_covers_trainable_kernels_alone():
    model = models.build_model(TINY)
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable))
    num_weights = sum(
        int(np.prod(layer.kernel.shape))
        for owner in (model, model.get_layer("vision"), model.get_layer("audio"))
        for layer in owner.layers
        if hasattr(layer, "kernel")
    )
    penalty = optimization.l2_penalty(model, 1e-5)
    np.testing.assert_allclose(penalty, 1e-5 * num_weights / 2, rtol=1e-5)
    model.trainable = False
    assert float(optimization.l2_penalty(model, 1e-5)) == 0.0


def test_float16_alone_scales_the_loss():
    rate = optimization.LearningRate(1e-3, steps_per_epoch=1)
    for precision, scale in (("float32", 1.0), ("bfloat16", 1.0), ("float16", 2.0**15)):
        optimizer = optimization.adam(rate, precision=precision)
        optimizer.build([keras.Variable([0.0])])
        assert float(optimizer.scale_loss(tf.constant(1.0))) == scale


def test_scaled_gradients_move_the_weights_as_unscaled_ones():
    rate, moved = optimization.LearningRate(1e-2, steps_per_epoch=1), []
    for precision in ("float32", "float16"):
        variable = keras.Variable([1.0, 2.0])
        optimizer = optimization.adam(rate, precision=precision)
        optimizer.build([variable])
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(tf.convert_to_tensor(variable)))
                scaled = optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, [variable])
            optimization.apply_gradients(optimizer, gradients, [variable])
        moved.append(variable.numpy())
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-6)
    assert moved[0][0] < 0.99


@pytest.mark.parametrize(
    ("logits", "corresponds", "expected"),
    [([0.0, 0.0], 1, np.log(2)), ([0.0, 9.0], 1, 1.234e-4), ([0.0, 9.0], 0, 9.0)],
)
def test_correspondence_loss_index_1_is_a_match(logits, corresponds, expected):
    target = tf.constant([corresponds])
    loss = losses.softmax_cross_entropy({"logits": tf.constant([logits])}, target)
    np.testing.assert_allclose(loss, [expected], rtol=1e-3)
