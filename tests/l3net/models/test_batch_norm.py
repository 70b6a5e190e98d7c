import keras
import numpy as np
import pytest
import tensorflow as tf

from l3net.models.batch_norm import BatchNorm

SHAPES = [(4, 6, 5, 3), (2, 5, 4, 4, 3)]


def _pair(shape, **settings):
    """Ours and Keras' own layer."""
    ours = BatchNorm(momentum=0.9, **settings)
    theirs = keras.layers.BatchNormalization(momentum=0.9)
    ours.build(shape)
    theirs.build(shape)
    for layer in (ours, theirs):
        layer.gamma.assign([1.0, 2.0, 0.5])
        layer.beta.assign([0.0, -1.0, 3.0])
    return ours, theirs


def _input(shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("synchronized", [False, True])
def test_training_equals_keras_layer(shape, synchronized):
    x = _input(shape)
    ours, theirs = _pair(shape, synchronized=synchronized)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        got, expected = ours(x, training=True), theirs(x, training=True)
        got_loss, expected_loss = tf.reduce_sum(got**3), tf.reduce_sum(expected**3)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    gradient = tape.gradient(expected_loss, x)
    np.testing.assert_allclose(tape.gradient(got_loss, x), gradient, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-5)
    # The unbiased variance: num / (num - 1) of Keras' estimate.
    num = x.numpy().size / 3
    unbiased = (np.asarray(theirs.moving_variance) - 0.9) * num / (num - 1) + 0.9
    np.testing.assert_allclose(ours.moving_variance, unbiased, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_inference_uses_the_moving_averages(shape):
    ours, theirs = _pair(shape)
    for layer in (ours, theirs):
        layer.moving_mean.assign([1.0, 2.0, 3.0])
        layer.moving_variance.assign([1.0, 4.0, 0.25])
    x = _input(shape)
    np.testing.assert_allclose(ours(x, training=False), theirs(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours.moving_mean, [1.0, 2.0, 3.0])


def test_a_frozen_layer_does_not_move():
    ours, _ = _pair(SHAPES[0])
    ours.trainable = False
    x = _input(SHAPES[0])
    np.testing.assert_array_equal(ours(x, training=True), ours(x, training=False))
    np.testing.assert_array_equal(ours.moving_mean, [0.0, 0.0, 0.0])


def test_half_precision_is_kept_but_statistics_are_float32():
    layer = BatchNorm(dtype="mixed_bfloat16")
    x = tf.cast(_input(SHAPES[0]), tf.bfloat16)
    assert layer(x, training=True).dtype == tf.bfloat16
    assert layer.moving_mean.dtype == "float32"


def test_defaults_by_hand():
    layer = BatchNorm()
    normalized = layer(tf.constant([0.0, 2.0], shape=(2, 1, 1, 1)), training=True)
    # Mean 1, variance 1, and 1e-3 added; the moving averages go 1 % of the way.
    np.testing.assert_allclose(np.ravel(normalized), [-(1.001**-0.5), 1.001**-0.5], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, [0.01], rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, [0.99 + 0.01 * 2], rtol=1e-6)  # unbiased: 2
    layer = BatchNorm(momentum=0.5, epsilon=1e-2, synchronized=True, name="x")
    again = BatchNorm.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
