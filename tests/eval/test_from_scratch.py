import keras
import numpy as np
import pytest

from eval.methods import from_scratch, linear_layer
from eval.sets import image_sets
from l3net import models
from l3net.data import augment
from l3net.errors import UserError
from l3net.inference import image_classifier, signatures
from tests.tiny_shards import encode_jpeg

TRAINING = linear_layer.Training("inception", image_px=32, num_epochs=10, batch_size=8)
TINY = models.ModelConfig(width=1 / 16)


def _split(name, per_class):
    """Pictures of stripes, horizontal or vertical: no colour says which."""
    sources, labels = [], np.arange(2 * per_class) % 2
    for number, label in enumerate(labels):
        rng = np.random.default_rng([number, name == "train"])
        line = np.roll(np.tile([0, 0, 0, 0, 200, 200, 200, 200], 6), rng.integers(8))
        image = np.broadcast_to(line[:, None] if label else line[None], (48, 48))
        noisy = image[..., None] + rng.integers(0, 50, (48, 48, 3))
        sources.append(encode_jpeg(noisy.astype(np.uint8)))
    identities = tuple(f"{name} {number}" for number in range(len(labels)))
    return image_sets.Split(tuple(sources), identities, labels)


def test_the_papers_network():
    model = image_classifier.build(models.ModelConfig(), 256, num_classes=1000, seed=0)
    assert model.get_layer("conv4_2").output.shape == (None, 32, 32, 512)
    assert model.get_layer("grid").output.shape == (None, 8192)
    # Convolutions without bias, batch norm's four numbers a channel, the linear layer.
    assert model.count_params() == (4_685_376 - 1_920) + 4 * 1_920 + 8_193 * 1000
    with pytest.raises(UserError, match="--image_px=63: l3_net_ots needs at least 64") as error:
        image_classifier.build(models.ModelConfig("l3_net_ots"), 63, num_classes=2, seed=0)
    assert "\n" not in str(error.value)


def test_same_features_as_the_frozen_network():
    config = models.ModelConfig(width=1 / 32, conv1_1_stride=2, frame_px=64)
    network = models.build_model(config, seed=3, any_frame_size=True)
    model = image_classifier.build(config, 80, num_classes=5, seed=7)
    *_, kernel, bias = model.get_weights()
    model.set_weights([*network.get_layer("vision").get_weights(), kernel, bias])
    image = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3)).astype(np.uint8)
    expected = signatures.vision_signature(network, config).python_function(image)["conv4_2"]
    features = keras.Model(model.input, model.get_layer("grid").output)
    found = features(augment.frame_to_float(image), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    logits = model(augment.frame_to_float(image), training=False)
    np.testing.assert_allclose(logits, expected @ kernel + bias, rtol=1e-3, atol=1e-5)


def test_learns_what_no_single_pixel_tells(tmp_path):
    train, val = _split("train", 16), _split("val", 10)
    given = {"rate": 0.01, "num_classes": 2, "seed": 0, "cache_dir": tmp_path}
    model = from_scratch.train(TINY, train, TRAINING, **given)
    assert int(model.optimizer.iterations) == 10 * 4
    untrained = image_classifier.build(TINY, 32, num_classes=2, seed=0)
    before, after = (from_scratch.accuracy(each, val, TRAINING) for each in (untrained, model))
    assert before <= 0.8 and after >= 0.95
    assert not list((tmp_path / "training").glob("*"))
