"""VGG16 from Keras' weights file: the last hidden layer, or one clear line."""

import pathlib

import h5py
import keras
import numpy as np
import pytest

from eval.methods import vgg16
from l3net.errors import UserError
from l3net.inference import saved_model


def test_a_missing_or_other_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="does not exist; --vgg16_weights takes Keras'"):
        vgg16.Vgg16(tmp_path / "nothing.h5")


@pytest.mark.slow
def test_another_file_is_one_line(tmp_path):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(UserError, match="does not hold VGG16's weights"):
        vgg16.Vgg16(path)
    path.write_text("no weights")
    with pytest.raises(UserError, match="does not hold VGG16's weights"):
        vgg16.Vgg16(path)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[pathlib.Path, list[np.ndarray]]:
    """A file laid out as the one that Keras publishes, from before Keras 3; random weights."""
    path = tmp_path_factory.mktemp("vgg16") / "vgg16_weights.h5"
    network = keras.applications.VGG16(weights=None)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{part}_1:0" for part in ("W", "b")][: len(layer.weights)]
            group.attrs["weight_names"] = np.array(names, "S")
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value
    return path, network.get_weights()


@pytest.mark.slow
def test_features_are_the_last_hidden_layers(published):
    path, weights = published
    network = vgg16.Vgg16(path)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    found = network.features(saved_model.VISION, vgg16.LAST_HIDDEN)(images)
    assert found.shape == (2, 4096) and found.min() == 0 < found.max()
    # Layer by layer: ImageNet's mean off each channel, blue first.
    full = keras.applications.VGG16(weights=None)
    full.set_weights(weights)
    values = images[..., ::-1].astype(np.float32) - np.float32([103.939, 116.779, 123.68])
    for layer in full.layers[1:-1]:
        values = layer(values)
    np.testing.assert_allclose(found, np.array(values), rtol=1e-4, atol=1e-6)
    assert vgg16.Vgg16(path).metadata == network.metadata
    with pytest.raises(UserError, match="VGG16 gives fc2"):
        network.features(saved_model.AUDIO, "pool4")
