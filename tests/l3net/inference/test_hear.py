"""HEAR 2021: what its validator asks of a module, rule by rule, and what its text asks beyond.

The rules are those of hearvalidator 2021.0.2, with its sounds (white noise of 2 s and 3.74 s), and
of https://hearbenchmark.com/hear-api.html.
"""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from l3net import hear
from l3net.errors import UserError
from l3net.inference import saved_model
from tests.tiny_networks import save_tiny_network

RATE = 48_000
ACCEPTABLE_SAMPLE_RATES = (16_000, 22_050, 44_100, 48_000)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_tiny_network(tmp_path_factory.mktemp("net") / "saved_model")


@pytest.fixture(scope="module")
def model(network):
    return hear.load_model(str(network))


def noise(num_sounds: int, seconds: float) -> tf.Tensor:
    generator = tf.random.Generator.from_seed(4)
    return generator.uniform((num_sounds, int(seconds * RATE))) * 2 - 1.0


def test_the_model_is_a_tf_module_with_the_three_attributes(model):
    assert isinstance(model, tf.Module)
    assert model.sample_rate in ACCEPTABLE_SAMPLE_RATES
    for name in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        assert isinstance(getattr(model, name), int), name


def test_only_hears_own_arguments_are_needed():
    needed = {
        hear.load_model: [],
        hear.get_timestamp_embeddings: ["audio", "model"],
        hear.get_scene_embeddings: ["audio", "model"],
    }
    for function, expected in needed.items():
        parameters = inspect.signature(function).parameters.values()
        assert [p.name for p in parameters if p.default is p.empty] == expected
    first = next(iter(inspect.signature(hear.load_model).parameters.values()))
    assert first.name == "model_file_path" and first.default == ""


def test_without_a_path_the_environment_names_the_network(network, monkeypatch):
    monkeypatch.delenv("L3NET_SAVED_MODEL", raising=False)
    with pytest.raises(UserError, match="no network: give load_model .* or set L3NET_SAVED_MODEL"):
        hear.load_model()
    monkeypatch.setenv("L3NET_SAVED_MODEL", str(network))
    assert hear.load_model().sample_rate == RATE
    with pytest.raises(UserError, match="does not exist"):
        hear.load_model("no/such/folder")


def test_another_output(network):
    silence = tf.zeros([1, RATE])
    embedding = hear.get_scene_embeddings(silence, hear.load_model(network, output="conv4_2"))
    np.testing.assert_allclose(embedding, np.log(1e-3), rtol=1e-5)  # the tiny network's own
    with pytest.raises(UserError, match="got a request for 'embedding'"):
        hear.load_model(network, output="embedding")


def test_timestamp_embeddings_of_a_batch(model):
    embeddings, timestamps = hear.get_timestamp_embeddings(noise(16, 2.0), model)
    assert tf.is_tensor(embeddings) and tf.is_tensor(timestamps)
    assert embeddings.dtype == tf.float32
    assert embeddings.shape[0] == 16
    assert embeddings.shape[:2] == timestamps.shape
    assert embeddings.shape[2] == model.timestamp_embedding_size
    assert np.isfinite(embeddings).all()
    steps = timestamps[:, 1:] - timestamps[:, :-1]
    average = tf.math.reduce_mean(steps)
    assert average <= 50.0
    assert tf.math.reduce_all(tf.abs(steps - average) < 1e-3)


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.3, 0.5, 1.0, 1.37, 3.0, 3.74])
def test_sounds_of_any_length_are_covered_to_the_end(model, seconds):
    embeddings, timestamps = hear.get_timestamp_embeddings(noise(2, seconds), model)
    milliseconds = timestamps.numpy()
    assert embeddings.shape[:2] == milliseconds.shape
    assert (milliseconds[:, 0] == 0).all()
    assert (milliseconds[:, -1] < 1000 * seconds).all()
    assert (milliseconds[:, -1] >= 1000 * seconds - 50 - 1e-3).all()
    assert np.isfinite(embeddings).all()
    scenes = hear.get_scene_embeddings(noise(2, seconds), model)
    assert tf.is_tensor(scenes) and scenes.dtype == tf.float32 and np.isfinite(scenes).all()
    assert scenes.shape == (2, model.scene_embedding_size) == (2, 16)


def test_embeddings_are_centred_at_their_timestamps(model, network):
    sound = noise(1, 2.0)
    embeddings, timestamps = hear.get_timestamp_embeddings(sound, model)
    padded = np.pad(sound.numpy()[0], RATE // 2)
    pool4 = saved_model.SavedModel(network).features("audio", "pool4")
    for step in (0, 13, len(timestamps[0]) - 1):
        start = round(float(timestamps[0, step]) * RATE / 1000)
        expected = pool4(padded[np.newaxis, start : start + RATE])[0]
        np.testing.assert_allclose(embeddings[0, step], expected, rtol=1e-5)


def test_a_click_is_heard_around_its_time(model):
    sound = np.zeros((1, 3 * RATE), np.float32)
    sound[0, 2 * RATE] = 1.0
    embeddings, timestamps = hear.get_timestamp_embeddings(tf.constant(sound), model)
    heard = timestamps.numpy()[0][embeddings.numpy()[0].max(axis=1) > 1e-3]
    np.testing.assert_array_equal(heard[[0, -1]], [1550.0, 2500.0])


def test_the_scene_is_the_mean_over_half_seconds(model, network):
    sound = noise(1, 2.0).numpy()
    windows = np.stack([sound[0, start : start + RATE] for start in (0, RATE // 2, RATE)])
    expected = saved_model.SavedModel(network).features("audio", "pool4")(windows).mean(axis=0)
    got = hear.get_scene_embeddings(tf.constant(sound), model).numpy()[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_sound_alone_gives_what_it_gives_in_a_batch(model):
    sounds = noise(3, 1.2)
    together, times = hear.get_timestamp_embeddings(sounds, model)
    scenes = hear.get_scene_embeddings(sounds, model)
    for index in range(3):
        alone, alone_times = hear.get_timestamp_embeddings(sounds[index : index + 1], model)
        np.testing.assert_allclose(together[index], alone[0], rtol=1e-5)
        np.testing.assert_array_equal(times[index], alone_times[0])
        scene = hear.get_scene_embeddings(sounds[index : index + 1], model)
        np.testing.assert_allclose(scenes[index], scene[0], rtol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_windows_of_many_sounds_share_batches(network, monkeypatch):
    sizes = []

    def features(self, signature, output):
        def run(batch):
            sizes.append(len(batch))
            return np.zeros((len(batch), 5), np.float32)

        return run

    monkeypatch.setattr(saved_model.SavedModel, "features", features)
    model = hear.load_model(network)
    assert model.timestamp_embedding_size == 5
    sizes.clear()
    assert hear.get_scene_embeddings(noise(20, 1.4), model).shape == (20, 5)  # 2 windows each
    assert sizes == [32, 8]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(RATE, np.float32), r"shape \(48000,\)"),
        (np.zeros((2, 0), np.float32), r"shape \(2, 0\)"),
        (np.zeros((1, RATE), np.int16), "type int16"),
        (np.full((1, RATE), np.nan, np.float32), "NaN"),
        (np.full((1, RATE), 20_000, np.float32), "audio holds samples up to 20000"),
    ],
)
def test_invalid_audio_is_refused(model, audio, message):
    for function in (hear.get_timestamp_embeddings, hear.get_scene_embeddings):
        with pytest.raises(UserError, match=message):
            function(tf.constant(audio), model)
