import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from l3net import constants, models
from l3net.errors import UserError
from l3net.models import convnets, heads
from l3net.models.convnets import GlobalMax
from tests.tiny_networks import TINY

# Output sizes of each block from L3 Fig. 2 and OTS Fig. 2 (conv1_1 stride 1 and 2). OTS prints
# 128x100 for the audio conv1; "same" padding of 257 gives 129, equal after pool1. Frames of AVE+MF
# come first in its sizes (our choice).
_L3 = {
    "vision": [(224, 224), (112, 112), (56, 56), (28, 28)],
    "audio": [(257, 199), (128, 99), (64, 49), (32, 24)],
}
_OTS = {
    "vision": [(112, 112), (56, 56), (28, 28), (14, 14)],
    "audio": [(129, 100), (64, 50), (32, 25), (16, 12)],
}
SHAPES = {
    "l3_net": _L3,
    "l3_net_ots": _OTS,
    "ave_net": _OTS,
    "ave_net_mf": _OTS | {"vision": [(13, 112, 112), (13, 56, 56), (6, 28, 28), (3, 14, 14)]},
    "ave_net_of": _OTS,
    "avol_net": _OTS,
    "supervised_vision": {"vision": _L3["vision"]},
    "supervised_audio": {"audio": _L3["audio"]},
    "supervised_pretraining": _L3,
}
CHANNELS = (64, 128, 256, 512)

# Trunk with convolution biases, derived from the papers: vision 4,685,376, audio 4,684,224. Here:
# no convolution biases (1,920 fewer), but batch norm's beta and gamma (2 x 1,920).
VISION, AUDIO = 4_685_376 + 1_920, 4_684_224 + 1_920
VISION_3D = 3 * (4_685_376 - 1_920) + 2 * 1_920  # every kernel three deep
_STREAM = 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256  # conv1_2 ... conv3_2, per 3x3
TWO_STREAM = (
    9 * (3 * 64 + _STREAM) + 2 * 896  # the frame's conv1_1 ... conv3_2 and their batch norms
    + 9 * (20 * 64 + _STREAM) + 2 * 896  # the flow's
    + 9 * 2 * 512 * 512 + 2 * 1024  # conv4_1 from 512 channels, conv4_2
)  # fmt: skip
FUSION = (1024 * 128 + 128) + (128 * 2 + 2)
EMBEDDING = (512 * 128 + 128) + (128 * 128 + 128)  # fc1, fc2; or conv5, conv6
CLASSES = (512 * 128 + 128) + (128 * 34 + 34)
PARAMETERS = {
    "l3_net": {"vision": VISION, "audio": AUDIO, "rest": FUSION},
    "l3_net_ots": {"vision": VISION, "audio": AUDIO, "rest": FUSION},
    "ave_net": {"vision": VISION + EMBEDDING, "audio": AUDIO + EMBEDDING, "rest": 2 + 2},
    "ave_net_mf": {"vision": VISION_3D + EMBEDDING, "audio": AUDIO + EMBEDDING, "rest": 2 + 2},
    "ave_net_of": {"vision": TWO_STREAM + EMBEDDING, "audio": AUDIO + EMBEDDING, "rest": 2 + 2},
    "avol_net": {"vision": VISION + EMBEDDING, "audio": AUDIO + EMBEDDING, "rest": 1 + 1},
    "supervised_vision": {"vision": VISION + CLASSES, "rest": 0},
    "supervised_audio": {"audio": AUDIO + CLASSES, "rest": 0},
    # The subnetworks are frozen.
    "supervised_pretraining": {"vision": 0, "audio": 0, "rest": FUSION},
}


def _trainable(model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_every_network_is_pinned():
    assert set(SHAPES) == set(PARAMETERS) == set(models.MODELS)


@pytest.fixture(scope="module", params=list(models.MODELS))
def paper_model(request):
    return request.param, models.build_model(models.ModelConfig(model=request.param))


def test_layer_shapes_are_the_papers(paper_model):
    name, model = paper_model
    for tower, sizes in SHAPES[name].items():
        subnetwork = model.get_layer(tower)
        prefixes = ("", "flow_") if name == "ave_net_of" and tower == "vision" else ("",)
        for block, (size, channels) in enumerate(zip(sizes, CHANNELS, strict=True), start=1):
            for prefix in prefixes if block < 4 else ("",):
                for layer in (f"conv{block}_1", f"conv{block}_2"):
                    got = subnetwork.get_layer(prefix + layer).output.shape[1:]
                    assert got == (*size, channels), layer
                if block < 4:
                    pool = subnetwork.get_layer(f"{prefix}pool{block}").output
                    assert pool.shape[1:] == (*sizes[block], channels)
        assert subnetwork.get_layer("pool4").output.shape[1:] == (constants.POOL4_UNITS,)


def test_heads_are_the_papers(paper_model):
    name, model = paper_model
    expected = {
        "l3_net": {(None, "concat"): (1024,), (None, "fc1"): (128,), (None, "fc2"): (2,)},
        "ave_net": {
            ("vision", "fc1"): (128,), ("vision", "fc2"): (128,), ("audio", "fc1"): (128,),
            ("audio", "fc2"): (128,), (None, "distance"): (1,), (None, "fc3"): (2,),
        },
        "avol_net": {
            ("vision", "conv5"): (14, 14, 128), ("vision", "conv6"): (14, 14, 128),
            ("audio", "fc2"): (128,), (None, "conv7"): (14, 14, 1), (None, "map"): (14, 14),
        },
        "supervised_vision": {("vision", "fc1"): (128,), ("vision", "fc2"): (34,)},
        "supervised_audio": {("audio", "fc1"): (128,), ("audio", "fc2"): (34,)},
    }  # fmt: skip
    same = {
        "l3_net_ots": "l3_net", "supervised_pretraining": "l3_net", "ave_net_mf": "ave_net",
        "ave_net_of": "ave_net",
    }  # fmt: skip
    for (owner, layer), shape in expected[same.get(name, name)].items():
        network = model.get_layer(owner) if owner else model
        assert network.get_layer(layer).output.shape[1:] == shape, layer


def test_parameter_counts_are_exact(paper_model):
    name, model = paper_model
    counts = PARAMETERS[name]
    for tower in set(counts) - {"rest"}:
        assert _trainable(model.get_layer(tower)) == counts[tower]
    assert _trainable(model) == sum(counts.values())
    if name == "supervised_pretraining":  # the frozen trunks have all their weights
        moving_averages = 2 * 2 * 1_920
        assert model.count_params() == VISION + AUDIO + FUSION + moving_averages


def _small(**changes) -> models.ModelConfig:
    return dataclasses.replace(TINY, **changes)


def _inputs(config=None, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(-4, 2, (batch, *shape)).astype(np.float32)
        if name == constants.LOG_SPECTROGRAM
        else rng.uniform(-1, 1, (batch, *shape)).astype(np.float32)
        for name, shape in models.input_shapes(config or _small()).items()
    }


AVC = [name for name, network in models.MODELS.items() if not network.is_classifier]


@pytest.mark.parametrize("name", AVC)
def test_outputs_are_probabilities_and_depend_on_every_input(name):
    config = _small(model=name, conv1_1_stride=2)
    model, inputs = models.build_model(config), _inputs(config)
    outputs = model(inputs, training=False)
    corresponds = outputs["corresponds"].numpy()
    assert corresponds.shape == (2,) and (corresponds > 0).all() and (corresponds < 1).all()
    if "softmax" in outputs:
        np.testing.assert_allclose(tf.reduce_sum(outputs["softmax"], -1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(tf.nn.softmax(outputs["logits"]), outputs["softmax"], rtol=1e-5)
        np.testing.assert_array_equal(outputs["softmax"][:, constants.CORRESPONDS], corresponds)
    others = _inputs(config, seed=1)
    for changed in inputs:
        other = model({**inputs, changed: others[changed]}, training=False)
        assert np.abs(other["corresponds"] - corresponds).max() > 1e-6, changed


@pytest.mark.parametrize("name", ["ave_net", "ave_net_mf", "ave_net_of"])
def test_ave_embeddings_have_length_1_per_row(name):
    config = _small(model=name)
    outputs = models.build_model(config)(_inputs(config, batch=3), training=False)
    for embedding in (outputs["vision_embedding"], outputs["audio_embedding"]):
        assert embedding.shape == (3, 128)
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, rtol=1e-5)
    distance = np.linalg.norm(outputs["vision_embedding"] - outputs["audio_embedding"], axis=1)
    np.testing.assert_allclose(outputs["distance"], distance, rtol=1e-4)


def test_distance_of_equal_embeddings_has_a_finite_gradient():
    x = tf.constant([[0.6, 0.8]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        distance = heads.euclidean_distance()([x, tf.constant([[0.6, 0.8]])])
    assert np.isfinite(tape.gradient(distance, x)).all()


def test_avol_map_is_the_sigmoid_per_position_and_its_maximum_the_score():
    config = _small(model="avol_net", frame_px=96)
    model, inputs = models.build_model(config), _inputs(config)
    outputs = model(inputs, training=False)
    vision = model.get_layer("vision")(inputs["frame"], training=False)["embedding_map"].numpy()
    audio = model.get_layer("audio")(inputs["log_spectrogram"], training=False)["embedding"].numpy()
    scale, shift = (weight.reshape(()) for weight in model.get_layer("conv7").get_weights())
    score = scale * np.einsum("bhwc,bc->bhw", vision, audio) + shift
    assert outputs["map"].shape == (2, 6, 6)
    np.testing.assert_allclose(outputs["map"], 1 / (1 + np.exp(-score)), rtol=1e-3, atol=1e-5)
    highest = outputs["map"].numpy().max(axis=(1, 2))
    np.testing.assert_allclose(outputs["corresponds"], highest, rtol=1e-6)
    np.testing.assert_allclose(outputs["logit"], score.max(axis=(1, 2)), rtol=1e-3, atol=1e-4)


def test_frozen_subnetworks_do_not_follow_the_batch():
    config = _small(model="supervised_pretraining", conv1_1_stride=2)
    model, inputs = models.build_model(config), _inputs(config)
    before = model.get_weights()
    trained = model(inputs, training=True)["logits"]
    np.testing.assert_allclose(trained, model(inputs, training=False)["logits"], rtol=1e-5)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", list(models.MODELS))
def test_half_precision_keeps_weights_and_outputs_in_float32(name):
    config = _small(model=name, conv1_1_stride=2, precision="bfloat16")
    model, inputs = models.build_model(config), _inputs(config)
    assert {variable.dtype for variable in model.variables} == {"float32"}
    exact = models.build_model(dataclasses.replace(config, precision="float32"))
    exact.set_weights(model.get_weights())
    outputs, expected = model(inputs, training=True), exact(inputs, training=True)
    key = "logit" if name == "avol_net" else "logits"
    assert outputs[key].dtype == tf.float32
    scale = np.abs(expected[key]).max()
    assert 0 < np.abs(outputs[key] - expected[key]).max() < 0.2 * scale
    assert keras.config.dtype_policy().name == "float32"  # put back


def test_loss_of_every_network_reaches_every_weight():
    for name, network in models.MODELS.items():
        config = _small(model=name, conv1_1_stride=2)
        model, inputs = models.build_model(config), _inputs(config)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network.loss(model(inputs, training=True), tf.constant([0, 1])))
        gradients = tape.gradient(loss, model.trainable_variables)
        assert all(gradient is not None for gradient in gradients), name


def test_before_relu_and_pool4_are_what_they_say():
    vision = models.build_model(_small()).get_layer("vision")
    outputs = vision(_inputs()["frame"], training=False)
    before, after = outputs["conv4_2_before_relu"].numpy(), outputs["conv4_2"].numpy()
    assert before.min() < 0
    np.testing.assert_allclose(np.maximum(before, 0), after)
    np.testing.assert_allclose(after.max(axis=(1, 2)), outputs["pool4"])


def test_seed_decides_the_weights():
    def weights(seed):
        return models.build_model(_small(), seed=seed).get_weights()

    first, again, other = weights(0), weights(0), weights(1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    vision, audio = (
        models.build_model(_small()).get_layer(tower).get_layer("conv2_1").get_weights()[0]
        for tower in ("vision", "audio")
    )
    assert not np.array_equal(vision, audio)


def test_any_frame_size_has_the_same_weights():
    fixed = models.build_model(_small())
    free = models.build_model(_small(), any_frame_size=True)
    frame = _inputs()["frame"]
    np.testing.assert_allclose(
        fixed.get_layer("vision")(frame)["pool4"], free.get_layer("vision")(frame)["pool4"]
    )
    assert free.get_layer("vision")(np.zeros((1, 96, 80, 3)))["pool4"].shape == (1, 32)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(32, 24, 4, 3), (16, 12, 4, 3), (8, 6, 4, 3), (28, 28, 4, 4), (14, 14, 4, 4), (7, 7, 4, 4)],
)
def test_pool_to_grid_is_max_pooling_with_kernel_equal_stride(height, width, rows, columns):
    features = np.random.default_rng(0).normal(size=(2, height, width, 5)).astype(np.float32)
    kernel = (height // rows, width // columns)
    cropped = features[:, : kernel[0] * rows, : kernel[1] * columns]
    expected = tf.nn.max_pool2d(cropped, kernel, kernel, "VALID")
    got = convnets.pool_to_grid(tf.constant(features), rows, columns)
    assert got.shape == (2, rows * columns * 5)
    np.testing.assert_array_equal(got, np.reshape(expected, (2, -1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "soundnet"}, "--model=soundnet: need one of l3_net, l3_net_ots"),
        ({"frame_px": 32}, "--frame_px=32: l3_net_ots needs at least 64 pixels"),
        ({"spectrogram_average": 9}, "--spectrogram_average=9: leaves 29x23"),
        ({"precision": "int8"}, "--precision=int8: need one of float32, bfloat16, float16"),
        ({"conv1_1_stride": 3}, "--conv1_1_stride=3: need 1, 2"),
        ({"model": "supervised_audio", "num_classes": 1}, "--num_classes=1: need at least 2"),
        ({"width": 0.0}, "--width=0.0: need a positive multiplier"),
    ],
)
def test_unusable_sizes_are_one_clear_line(changes, message):
    with pytest.raises(UserError, match=message):
        models.build_model(_small(**changes))
    with pytest.raises(ValueError, match="need stride 1 or 2"):
        convnets.ConvNetSettings(stride=3)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 3, 5, 4, 3)])
def test_pool4_is_the_maximum_and_its_gradient_goes_there(shape):
    x = tf.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled = GlobalMax()(x)
    expected = x.numpy().reshape(2, -1, 3).max(axis=1)
    np.testing.assert_array_equal(pooled, expected)
    gradient = tape.gradient(pooled, x).numpy()
    np.testing.assert_array_equal(
        gradient != 0, x.numpy() == expected.reshape(2, *[1] * (len(shape) - 2), 3)
    )
    open_size = tf.function(
        GlobalMax(), input_signature=[tf.TensorSpec([None] * (len(shape) - 1) + [3])]
    )
    np.testing.assert_array_equal(open_size(x), expected)
