import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from eval.methods import epochs, image_crops, linear_layer
from eval.reporting import cache
from eval.sets import image_sets
from l3net import models
from l3net.errors import UserError
from l3net.inference import signatures
from tests.tiny_networks import save_tiny_vision, save_vision
from tests.tiny_sets import write_imagenet

TRAINING = linear_layer.Training("inception", image_px=16, num_epochs=3, batch_size=4)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return linear_layer.VisionNetwork(save_tiny_vision(tmp_path_factory.mktemp("net") / "model"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write_imagenet(folder)
    return image_sets.read_imagenet(folder)


def _setup(network, cache_dir, training=TRAINING):
    return linear_layer.Setup(network, training, 3, cache_dir)


def _train(network, images, cache_dir, training=TRAINING, rates=(0.01,), seed=0):
    return linear_layer.train(_setup(network, cache_dir, training), images.train, rates, seed)


def test_papers_features_from_256_px_images(tmp_path):
    path = save_tiny_vision(tmp_path / "of", inputs=["frame", "flow", "log_spectrogram"])
    with pytest.raises(UserError, match="takes flow, frame, not single images"):
        linear_layer.VisionNetwork(path)
    # A network trained on 224 px crops; a sixteenth of the channels: 8192 / 16 features.
    config = models.ModelConfig("l3_net", width=0.0625)
    built = models.build_model(config, any_frame_size=True)
    module = tf.Module()
    module.network_variables = [variable.value for variable in built.variables]
    module.vision = signatures.vision_signature(built, config)
    network = linear_layer.VisionNetwork(save_vision(tmp_path / "model", module, frame_px=224))
    assert network.default_image_px == 256
    found = network(np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3)).astype(np.uint8))
    assert found.shape == (1, 512) and (found >= 0).all() and found.any()  # after the ReLU
    with pytest.raises(UserError, match="cannot take 24x24 images") as error:
        network(np.zeros((1, 24, 24, 3), np.uint8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("augmentation", linear_layer.AUGMENTATIONS)
def test_layer_learns_and_measures_every_image_once(network, images, tmp_path, augmentation):
    training = linear_layer.Training(augmentation, image_px=16, num_epochs=10, batch_size=4)
    untrained = linear_layer.build(48, 3, seed=3)
    trained = _train(network, images, tmp_path, training, rates=(0.05,))[0]
    setup = _setup(network, tmp_path, training)
    low, high = linear_layer.accuracies(setup, images.val, [untrained, trained])
    # Six val images: accuracies are sixths.
    assert (6 * low) % 1 == pytest.approx(0, abs=1e-6) and low < 0.9
    assert high == 1.0


def test_loss_and_schedule_are_the_papers(network, images, tmp_path):
    model = _train(network, images, tmp_path, rates=(0.1,))[0]
    # 15 images in batches of 4: 4 steps an epoch, x0.94 after each 8.
    rates = [float(model.optimizer._learning_rate(step)) for step in (0, 7, 8, 15, 16)]
    assert rates == pytest.approx([0.1, 0.1, 0.094, 0.094, 0.1 * 0.94**2])
    assert int(model.optimizer.iterations) == 12
    logits = np.log([[0.5, 0.25, 0.25]])
    smooth = -np.log(0.5) * (0.9 + 0.1 / 3) - 2 * np.log(0.25) * 0.1 / 3
    assert float(model.loss(np.array([0]), tf.constant(logits))) == pytest.approx(smooth, rel=1e-5)


def _averaging():
    """Returns a variable and the optimizer that averages it."""
    variable = keras.Variable([0.0])
    decay = linear_layer.AVERAGE_DECAY
    adam = linear_layer.AveragingAdam(0.1, use_ema=True, ema_momentum=decay)
    adam.build([variable])
    return variable, adam


def test_average_of_the_weights_by_hand():
    variable, adam = _averaging()
    seen, average = [], None
    for number in range(200):
        adam.apply([tf.constant([1.0 + number % 3])], [variable])
        seen.append(float(variable[0]))
        decay = 0 if number == 0 else min(0.9999, (1 + number) / (10 + number))
        average = seen[-1] if number == 0 else decay * average + (1 - decay) * seen[-1]
    assert float(variable[0]) == seen[-1] and seen[-1] != pytest.approx(average, rel=1e-3)
    adam.finalize_variable_values([variable])
    assert float(variable[0]) == pytest.approx(average, rel=1e-4)


def test_long_trainings_average_with_the_papers_codes_decay():
    _, adam = _averaging()
    for steps, decay in ((0, 0.1), (90, 0.91), (80_000, 80_001 / 80_010), (10**6, 0.9999)):
        adam.iterations.assign(steps)
        assert float(adam.ema_momentum) == pytest.approx(decay, abs=1e-6)


def test_gradients_are_clipped_at_two_together():
    model = linear_layer.build(4, 3, seed=0)
    linear_layer.compile_model(model, 0.1, TRAINING, 15)
    assert model.optimizer.global_clipnorm == 2.0 and model.optimizer.use_ema
    clipped = model.optimizer._clip_gradients([tf.constant([30.0]), tf.constant([40.0])])
    np.testing.assert_allclose(np.ravel(clipped), [1.2, 1.6], rtol=1e-6)


def test_a_layer_is_tested_with_its_average(network, images, tmp_path):
    layer = _train(network, images, tmp_path, rates=(0.05,))[0]
    average = layer.optimizer._model_variables_moving_average[0]
    np.testing.assert_array_equal(layer.get_weights()[0], np.array(average))


def test_rates_beside_each_other_are_as_alone(network, images, tmp_path):
    both = _train(network, images, tmp_path, rates=(0.001, 0.01))
    alone = _train(network, images, tmp_path, rates=(0.01,))
    for left, right in zip(both[1].get_weights(), alone[0].get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_network_runs_on_new_crops_each_epoch_or_once(network, images, tmp_path, monkeypatch):
    seen, batches = [], image_crops.batches

    def counted(split, rows, **settings):
        for crops, found in batches(split, rows, **settings):
            seen.extend(settings.get("seed") or ["central"] for _ in found)
            yield crops, found

    monkeypatch.setattr(image_crops, "batches", counted)
    _train(network, images, tmp_path)
    assert len(seen) == 3 * 15 and len(set(seen)) == 3
    seen.clear()
    plain = linear_layer.Training("none", image_px=16, num_epochs=3, batch_size=4)
    _train(network, images, tmp_path, plain)
    assert len(seen) == 15
    _train(network, images, tmp_path, plain, seed=1)
    assert len(seen) == 15  # another layer, the same features


def test_killed_training_goes_on(network, images, tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SAVE_EVERY_SECONDS", 0)
    whole = _train(network, images, tmp_path / "whole")[0]
    batches, calls = linear_layer._batches, []

    def killed(*args):
        calls.append(args[-1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return batches(*args)

    monkeypatch.setattr(linear_layer, "_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(network, images, tmp_path / "killed")
    resumed = _train(network, images, tmp_path / "killed")[0]
    assert calls == [(0, 0), (0, 1), (0, 2), (0, 2)]
    for left, right in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_features_are_in_chunks_and_few_are_open_at_a_time(network, images, tmp_path, monkeypatch):
    rows = np.array([14, 0, 7, 7])
    whole = linear_layer.central_features(_setup(network, tmp_path / "whole"), images.train)
    expected = whole.take(rows)
    assert expected.shape == (4, 48)
    monkeypatch.setattr(linear_layer, "_CHUNK_IMAGES", 2)
    monkeypatch.setattr(linear_layer, "_OPEN_CHUNKS", 3)
    opened, read_array = [], cache.read_array

    def recorded(folder, key):
        array = read_array(folder, key)
        if array is not None:
            opened.append(weakref.ref(array))
        return array

    monkeypatch.setattr(cache, "read_array", recorded)
    chunks = linear_layer.central_features(_setup(network, tmp_path / "chunks"), images.train)
    found = chunks.take(np.arange(15))
    np.testing.assert_allclose(found[rows], expected, rtol=1e-5)
    assert len(opened) == 8 and sum(array() is not None for array in opened) == 3
    np.testing.assert_allclose(chunks.take(rows), expected, rtol=1e-5)


def test_held_out_part():
    labels = np.repeat([0, 1, 2], [40, 3, 1])
    held = linear_layer.held_out(labels, seed=0)
    assert [int(held[labels == label].sum()) for label in range(3)] == [4, 1, 0]
    assert not np.array_equal(held, linear_layer.held_out(labels, seed=1))
    draws = [linear_layer.held_out(labels, seed=0, draw=number) for number in range(5)]
    assert np.sum(draws, axis=0).max() == 1 and [draw.sum() for draw in draws] == [5, 5, 5, 4, 4]


def test_tenths_are_held_out_until_they_tell_rates_apart(monkeypatch):
    def sizes(num_per_class):
        labels = np.repeat(np.arange(20), num_per_class)
        return [int(held.sum()) for held in linear_layer._draws(labels, seed=0)]

    assert sizes(40) == [80, 80, 80]  # 800 photographs of 20 classes
    assert sizes(1000) == [2000] and sizes(10) == [20] * 5
    assert sizes(2) == [20, 20] and not sizes(1)


def test_rate_is_chosen_on_training_images_only(network, images, tmp_path, monkeypatch):
    measured, accuracies = [], linear_layer.accuracies

    def recorded(setup, split, models):
        measured.append(split)
        return accuracies(setup, split, models)

    monkeypatch.setattr(linear_layer, "accuracies", recorded)
    training = linear_layer.Training("none", image_px=16, num_epochs=20, batch_size=4)
    setup = _setup(network, tmp_path, training)
    rate, found = linear_layer.choose_rate(setup, images.train, seed=0, grid=(1e-6, 0.02))
    assert rate == 0.02 and found[1] == 1.0 > found[0]
    held = [source for split in measured for source in split.sources]
    assert len(measured) == 5 and set(held) <= set(images.train.sources)
    assert len(set(held)) == len(held)  # each image once
    single = images.train.take([0, 5, 10])
    with pytest.raises(UserError, match="one training image"):
        linear_layer.choose_rate(setup, single, seed=0)
