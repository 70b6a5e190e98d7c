import keras
import numpy as np
import pytest
import tensorflow as tf

from l3net import constants, models
from l3net.models import heads
from l3net.models.batch_norm import BatchNorm
from tests.tiny_networks import SMALLEST

INPUTS = {"vision": constants.FRAME, "audio": constants.LOG_SPECTROGRAM}
NAMES = ("l3_net", "ave_net", "avol_net", "supervised_vision", "supervised_audio")


@pytest.fixture(scope="module")
def networks():
    """A network of each kind of head as it starts, but for random biases of its Dense layers."""
    made = {name: models.build_model(models.ModelConfig(name, **SMALLEST)) for name in NAMES}
    rng = np.random.default_rng(0)
    for model in made.values():
        for owner in (model, *_subnetworks(model)):
            for layer in owner.layers:
                if isinstance(layer, keras.layers.Dense):
                    layer.bias.assign(rng.normal(size=layer.bias.shape))
    return made


def _subnetworks(model):
    return [layer for layer in model.layers if isinstance(layer, keras.Model)]


def _input(model, name):
    shape = model.input[name].shape[1:]
    return tf.constant(np.random.default_rng(7).uniform(-1, 1, (3, *shape)).astype(np.float32))


def _two_layers(subnetwork, x, first="fc1", second="fc2"):
    """What a ReLU after the first layer and nothing after the second one give."""
    kernel, bias = subnetwork.get_layer(first).get_weights()
    hidden = np.maximum(np.asarray(x) @ kernel + bias, 0)
    assert 0.05 < np.mean(hidden == 0) < 0.95  # else a ReLU would make no difference
    kernel, bias = subnetwork.get_layer(second).get_weights()
    return hidden @ kernel + bias


def _check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_l3_net_has_a_relu_between_its_two_layers(networks):
    model = networks["l3_net"]
    inputs = {name: _input(model, name) for name in model.input}
    outputs = model(inputs, training=False)
    pool4 = [
        model.get_layer(tower)(inputs[name], training=False)["pool4"]
        for tower, name in INPUTS.items()
    ]
    _check(outputs["logits"], _two_layers(model, np.concatenate(pool4, axis=1)))


@pytest.mark.parametrize(
    ("network", "tower", "output"),
    [
        ("ave_net", "vision", "embedding"),
        ("ave_net", "audio", "embedding"),
        ("avol_net", "audio", "embedding"),
        ("avol_net", "vision", "embedding_map"),
        ("supervised_vision", "vision", "logits"),
        ("supervised_audio", "audio", "logits"),
    ],
)
def test_a_head_is_two_layers_with_a_relu_and_an_l2_norm_in_ave_net_alone(
    networks, network, tower, output
):
    subnetwork = networks[network].get_layer(tower)
    outputs = subnetwork(_input(networks[network], INPUTS[tower]), training=False)
    if output == "embedding_map":  # at each position
        expected = _two_layers(subnetwork, outputs["conv4_2"], "conv5", "conv6")
        assert expected.shape == (3, 4, 4, constants.EMBEDDING_UNITS)
    else:
        expected = _two_layers(subnetwork, outputs["pool4"])
    lengths = np.linalg.norm(expected, axis=-1, keepdims=True)
    if output != "logits":
        assert np.abs(lengths - 1).min() > 0.1
    _check(outputs[output], expected / lengths if network == "ave_net" else expected)


def test_conv7_starts_at_scale_a_hundredth_and_no_shift(networks):
    scale, shift = networks["avol_net"].get_layer("conv7").get_weights()
    np.testing.assert_array_equal(scale, np.full((1, 1, 1, 1), 0.01, np.float32))
    np.testing.assert_array_equal(shift, [0.0])


def test_fc3_starts_with_the_threshold_at_distance_1():
    model = models.build_model(models.ModelConfig("ave_net", **SMALLEST))
    kernel, bias = model.get_layer("fc3").get_weights()
    np.testing.assert_array_equal(kernel, [[6.0, -6.0]])
    np.testing.assert_array_equal(bias, [-6.0, 6.0])


@pytest.mark.parametrize(("starts_small", "deviation"), [(False, (2 / 500) ** 0.5), (True, 0.01)])
def test_a_layer_starts_as_he_says_or_small(starts_small, deviation):
    layer = heads.dense(400, "fc", seed=0, starts_small=starts_small)
    layer.build((None, 500))
    kernel, bias = layer.get_weights()
    assert kernel.std() == pytest.approx(deviation, rel=0.01) and abs(kernel.mean()) < 1e-3
    assert not bias.any()


def test_batch_norm_is_as_of_2017_unless_asked_otherwise(networks):
    for model in networks.values():
        owners = _subnetworks(model)
        norms = [
            layer for owner in owners for layer in owner.layers if isinstance(layer, BatchNorm)
        ]
        assert len(norms) == 8 * len(owners) > 0
        assert {(n.momentum, n.epsilon, n.synchronized) for n in norms} == {(0.99, 1e-3, False)}
