import numpy as np
import pytest
import tensorflow as tf

from l3net import constants, models
from l3net.errors import UserError
from l3net.models import convnets

# Output sizes from L3 Fig. 2 and OTS Fig. 2 (paper_facts of both: conv1_1 stride 1 and 2). OTS
# prints 128x100 for the audio conv1; "same" padding of 257 gives 129, equal after pool1.
SHAPES = {
    "l3_net": {
        "vision": [(224, 224), (112, 112), (56, 56), (28, 28)],
        "audio": [(257, 199), (128, 99), (64, 49), (32, 24)],
    },
    "l3_net_ots": {
        "vision": [(112, 112), (56, 56), (28, 28), (14, 14)],
        "audio": [(129, 100), (64, 50), (32, 25), (16, 12)],
    },
}
CHANNELS = (64, 128, 256, 512)

# Trunk with convolution biases, derived from the papers: vision 4,685,376, audio 4,684,224. Ours
# have no convolution biases (1,920 fewer) and batch norm's beta and gamma (2 x 1,920) besides.
TRUNK_PARAMETERS = {"vision": 4_685_376 + 1_920, "audio": 4_684_224 + 1_920}
FUSION_PARAMETERS = (1024 * 128 + 128) + (128 * 2 + 2)
PARAMETERS = {name: sum(TRUNK_PARAMETERS.values()) + FUSION_PARAMETERS for name in SHAPES}


def _trainable(model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def test_every_network_is_pinned():
    assert set(SHAPES) == set(PARAMETERS) == set(models.MODELS)


@pytest.fixture(scope="module", params=list(models.MODELS))
def paper_model(request):
    return request.param, models.build_model(models.ModelConfig(model=request.param))


def test_layer_shapes_are_the_papers(paper_model):
    name, model = paper_model
    for tower in ("vision", "audio"):
        subnetwork = model.get_layer(tower)
        for block, (size, channels) in enumerate(
            zip(SHAPES[name][tower], CHANNELS, strict=True), start=1
        ):
            for layer in (f"conv{block}_1", f"conv{block}_2"):
                assert subnetwork.get_layer(layer).output.shape[1:] == (*size, channels), layer
            if block < 4:
                next_size = SHAPES[name][tower][block]
                pool = subnetwork.get_layer(f"pool{block}").output
                assert pool.shape[1:] == (*next_size, channels)
        assert subnetwork.get_layer("pool4").output.shape[1:] == (constants.POOL4_UNITS,)
    assert model.get_layer("concat").output.shape[1:] == (1024,)
    assert model.get_layer("fc1").output.shape[1:] == (128,)
    assert model.get_layer("fc2").output.shape[1:] == (2,)


def test_parameter_counts_are_exact(paper_model):
    name, model = paper_model
    for tower, count in TRUNK_PARAMETERS.items():
        assert _trainable(model.get_layer(tower)) == count
    assert _trainable(model) == PARAMETERS[name]


def _small(**changes) -> models.ModelConfig:
    settings = {"model": "l3_net_ots", "width": 0.0625, "frame_px": 64, "spectrogram_average": 2}
    return models.ModelConfig(**{**settings, **changes})


def _inputs(batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "frame": rng.uniform(-1, 1, (batch, 64, 64, 3)).astype(np.float32),
        "log_spectrogram": rng.normal(-4, 2, (batch, 129, 100, 1)).astype(np.float32),
    }


def test_outputs_are_probabilities_and_depend_on_both_inputs():
    model, inputs = models.build_model(_small()), _inputs()
    outputs = model(inputs, training=False)
    np.testing.assert_allclose(tf.reduce_sum(outputs["softmax"], -1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(tf.nn.softmax(outputs["logits"]), outputs["softmax"], rtol=1e-5)
    for changed in inputs:
        other = model({**inputs, changed: inputs[changed] * 0.5}, training=False)
        assert np.abs(other["logits"] - outputs["logits"]).max() > 1e-4


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
        ({"width": 0.0}, "--width=0.0: need a positive multiplier"),
    ],
)
def test_unusable_sizes_are_one_clear_line(changes, message):
    with pytest.raises(UserError, match=message):
        models.build_model(_small(**changes))


def test_subnetwork_refuses_another_stride():
    with pytest.raises(ValueError, match="need stride 1 or 2"):
        convnets.subnetwork("vision", (64, 64, 3), stride=3)
