"""openl3's weights: numbers of the real openl3, what takes an imported network, and wrong files.

Expected outputs come from the real openl3 and kapre, for weights made from a seed; `make
prove-openl3` makes them, and compares all twelve networks.
"""

import gzip
import json
import os
import pathlib

import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from PIL import Image

import l3net
from l3net import constants, extract, hear, import_openl3
from l3net.errors import UserError
from l3net.inference import file_features, openl3, saved_model
from l3net.models import openl3 as networks
from tests import tiny_openl3

EXPECTED = json.loads(pathlib.Path(__file__).with_name("openl3_expected.json").read_text())
NAMES = sorted({key.split("/")[0] for key in EXPECTED})
AUDIO, IMAGE = "openl3_audio_mel256_music", "openl3_image_mel256_music"
TOLERANCE = 2e-5  # of the largest value; the proof demands 1e-5 on one machine


def weights(folder: pathlib.Path, name: str, suffix: str = "-v0_4_0.h5") -> pathlib.Path:
    path = folder / f"{name}{suffix}"
    return tiny_openl3.write_weights(path, tiny_openl3.layers(name))


def assert_expected(name: str, embedding: np.ndarray) -> None:
    """Compares an embedding [D] with the real openl3's."""
    largest, *expected = EXPECTED[f"{name}/{len(embedding)}"]
    got = [np.abs(embedding).max(), *tiny_openl3.picked(embedding)]
    np.testing.assert_allclose(got, [largest, *expected], rtol=0, atol=TOLERANCE * largest)


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_gives_the_real_openl3s_numbers(name, tmp_path):
    read = openl3.read_weights(weights(tmp_path, name))
    network = openl3.build(read)
    if read.modality == networks.AUDIO:
        function = openl3._audio_signature(network, read.input_repr, 512)
        batch = tiny_openl3.waveforms()[:1]
    else:
        function = openl3._vision_signature(network, 512)
        batch = tiny_openl3.images()[:1]
    outputs = function.python_function(tf.constant(batch))
    assert read.name == name
    for size, output in zip(read.embedding_sizes, ("conv4_2", "pool4"), strict=True):
        assert outputs[output].shape == (1, size)
        assert_expected(name, outputs[output][0].numpy())
    np.testing.assert_array_equal(outputs["embedding"], outputs["pool4"])
    largest = tf.reduce_max(outputs["conv4_2_map"], axis=[1, 2])
    np.testing.assert_array_equal(largest, outputs["pool4"])


def test_all_layouts_are_expected():
    assert {tuple(name.split("_")[1:3]) for name in NAMES} == {
        ("audio", "linear"), ("audio", "mel128"), ("audio", "mel256"), ("image", "mel256")
    }  # fmt: skip


@pytest.mark.parametrize("num_bands", [128, 256])
def test_mel_bands_are_librosas(num_bands):
    expected = librosa.filters.mel(sr=48_000, n_fft=2048, n_mels=num_bands)
    np.testing.assert_allclose(networks.mel_matrix(num_bands), expected.T, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("input_repr", networks.INPUT_REPRS)
def test_each_second_is_measured_from_its_own_maximum(input_repr):
    noise = np.random.default_rng(0).uniform(-1, 1, 48_000) * (np.arange(48_000) < 24_000)
    waveform = tf.constant(np.stack([noise, noise / 64, 0 * noise]).astype(np.float32))
    shown = networks.spectrogram(waveform, input_repr).numpy()
    assert shown.shape == (3, *networks.spectrogram_shape(input_repr))
    np.testing.assert_array_equal(shown.max(axis=(1, 2, 3)), 0.0)
    np.testing.assert_allclose(shown.min(axis=(1, 2, 3)), [-80.0, -80.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-3)


# --- Imported ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    path = weights(folder, AUDIO, "-v0_4_0.h5.gz")
    import_openl3.main(import_openl3.Config(str(path), str(folder / "net"), embedding_size=512))
    path.unlink()
    return folder / "net"


@pytest.fixture(scope="module")
def model(audio):
    return l3net.SavedModel(audio)


def test_sound_embedded_by_an_imported_network(model):
    waveform = tiny_openl3.waveforms()[0]
    embedding, _ = l3net.get_audio_embedding(waveform, 48_000, model=model, center=False)
    assert_expected(AUDIO, embedding[0])
    larger, _ = l3net.get_audio_embedding(
        waveform, 48_000, model=model, center=False, output="conv4_2"
    )
    assert_expected(AUDIO, larger[0])
    assert model.metadata["feature_sizes"]["audio"] == {
        "embedding": 512, "conv4_2": 6144, "pool4": 512
    }  # fmt: skip
    assert model.metadata["model_config"] == {"model": AUDIO}
    with pytest.raises(UserError, match="no signature 'vision'"):
        l3net.get_image_embedding(tiny_openl3.images()[0], model=model)


def test_files_and_hear_take_an_imported_network(audio, model, tmp_path):
    soundfile.write(tmp_path / "a.wav", tiny_openl3.waveforms()[0], 48_000)
    config = extract.Config(saved_model=str(audio), out_dir=str(tmp_path / "out"))
    settings = file_features.Settings(features="embedding")
    outcomes = extract.extract_files([tmp_path / "a.wav"], config, settings)
    assert [outcome.status for outcome in outcomes] == ["done"]
    waveform, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    expected, _ = l3net.get_audio_embedding(waveform, 48_000, model=model, center=False)
    largest = np.abs(expected).max()
    with np.load(tmp_path / "out/a.wav.npz") as npz:
        np.testing.assert_allclose(npz["embedding"], expected, rtol=0, atol=1e-5 * largest)
    (tmp_path / "b.mp4").touch()
    with pytest.raises(UserError, match="no signature 'vision'.*--video_streams takes one"):
        extract.extract_files([tmp_path], config, settings)
    heard = hear.load_model(str(audio))
    assert heard.scene_embedding_size == 512
    scene = hear.get_scene_embeddings(tf.constant(waveform[np.newaxis]), heard)
    np.testing.assert_allclose(scene, expected, rtol=0, atol=1e-5 * largest)


def test_images_of_any_size(tmp_path):
    path, out = weights(tmp_path, IMAGE), tmp_path / "net"
    import_openl3.main(import_openl3.Config(str(path), str(out)))
    run = l3net.SavedModel(out).features(saved_model.VISION, "embedding")
    assert_expected(IMAGE, run(tiny_openl3.images()[:1])[0])
    assert run(np.zeros([1, 250, 301, 3], np.uint8)).shape == (1, 8192)


# --- Wrong files ---------------------------------------------------------------------------------
def refuse(path: pathlib.Path, message: str, **settings) -> None:
    """Imports, which must fail with a line and leave nothing behind."""
    before = sorted(path.parent.iterdir())
    config = import_openl3.Config(str(path), str(path.parent / "out"), **settings)
    with pytest.raises(UserError, match=message) as caught:
        import_openl3.main(config)
    assert "\n" not in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_other_names_are_refused(tmp_path):
    for name in ("weights.h5", "openl3_audio_mel64_music.h5", "openl3_audio_mel256_musical.h5"):
        refuse(tmp_path / name, "only a file's name says which network")
    refuse(tmp_path / f"{AUDIO}.h5", "No such file.*github.com/marl/openl3")
    (tmp_path / f"{AUDIO}-v0_4_0.h5").mkdir()
    refuse(tmp_path / f"{AUDIO}-v0_4_0.h5", "Is a directory")


def test_damaged_files_are_refused(tmp_path):
    path = weights(tmp_path, AUDIO)
    whole = path.read_bytes()
    packed = gzip.compress(whole, 1)
    contents = (
        b"", b"<html>Not found</html>", whole[:100_000], packed[:-1000],
        packed[:5_000_000] + b"damaged" + packed[5_000_007:], packed[:2],
    )  # fmt: skip
    for content in contents:
        path.write_bytes(content)
        refuse(path, "is damaged or holds no weights of openl3 .*github.com/marl/openl3")


def test_arrays_that_are_no_weights_are_refused(tmp_path, monkeypatch):
    made = tiny_openl3.layers(AUDIO)[:2]
    path = tiny_openl3.write_weights(tmp_path / f"{AUDIO}.h5", made)
    monkeypatch.setattr(openl3, "_MOST_BYTES", 2000)
    refuse(path, "is damaged or holds no weights of openl3 .*conv2d_2/kernel:0 has 2304 bytes")
    made[0][0] = np.array([b"x"])
    tiny_openl3.write_weights(path, made)
    refuse(path, "is damaged or holds no weights of openl3 .*conver")


def test_weights_of_another_network_are_refused(tmp_path):
    made = tiny_openl3.layers(AUDIO)
    path = tmp_path / f"{AUDIO}.h5"
    tiny_openl3.write_weights(path, tiny_openl3.layers(IMAGE))
    refuse(path, r"layer batch_normalization_1 .*\(3,\).*\(1,\)")
    tiny_openl3.write_weights(path, made[:-1])
    refuse(path, "15 layers with weights, the network 16")
    made[5][0][0] = np.nan
    tiny_openl3.write_weights(path, made)
    refuse(path, "conv2_1 is not finite")
    refuse(path, "--embedding_size=8192: the audio network gives 6144 or 512", embedding_size=8192)


# --- openl3's own regression files ---------------------------------------------------------------
VARIABLE = "L3NET_OPENL3"


def published(pattern: str) -> pathlib.Path:
    """Finds a file in the folder that the user names; skips the test without one."""
    if VARIABLE not in os.environ:
        pytest.skip(
            f"{VARIABLE} names no folder with openl3's weights and its tests/data (a clone of "
            "github.com/marl/openl3 with the weights in it)"
        )
    found = sorted(pathlib.Path(os.environ[VARIABLE]).rglob(pattern))
    if not found:
        pytest.fail(f"{VARIABLE}={os.environ[VARIABLE]} holds no {pattern}")
    return found[0]


def assert_regression(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Compares embeddings [T, D] by the length of their difference."""
    assert got.shape == expected.shape
    assert np.linalg.norm(got - expected) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("name", "file", "size", "settings"),
    [
        ("openl3_audio_mel256_music", "chirp_44k_kapre.npz", 6144, {}),
        (
            "openl3_audio_linear_env",
            "chirp_44k_kapre_linear.npz",
            512,
            {"center": False, "hop_size": 0.5},
        ),
    ],
)
def test_openl3s_regression_of_sound(name, file, size, settings, tmp_path):
    path, regression = published(f"{name}*.h5*"), published(file)
    openl3.import_weights(path, tmp_path / "net", embedding_size=size)
    waveform, rate = soundfile.read(published("chirp_44k.wav"))
    got, times = l3net.get_audio_embedding(waveform, rate, model=tmp_path / "net", **settings)
    with np.load(regression) as expected:
        # A chirp without noise: the resampler's last bits are heard (docs/openl3.md).
        assert_regression(got, expected["embedding"], 2e-2)
        np.testing.assert_allclose(times, expected["timestamps"], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "file", "output"),
    [
        ("openl3_image_mel256_music", "daisy.npz", "conv4_2"),
        ("openl3_image_linear_env", "daisy_linear.npz", "pool4"),
    ],
)
def test_openl3s_regression_of_images(name, file, output):
    """The network alone: openl3 scales larger images without antialiasing, and to [0, 1]."""
    path, regression = published(f"{name}*.h5*"), published(file)
    transform = pytest.importorskip("skimage.transform")
    image = np.asarray(Image.open(published("daisy.jpg")).convert("RGB"))
    side = min(image.shape[:2])
    small = transform.rescale(
        image, 256.0 / side, mode="constant", channel_axis=-1, anti_aliasing=False
    )
    top, left = (length // 2 - 112 for length in small.shape[:2])
    cropped = small[np.newaxis, top : top + 224, left : left + 224].astype(np.float32)
    maps = openl3.build(openl3.read_weights(path))(cropped, training=False)
    got = (
        openl3.convnets.pool_to_grid(maps["conv4_2"], *constants.IMAGE_GRID)
        if output == "conv4_2"
        else maps["pool4"]
    )
    with np.load(regression) as expected:
        assert_regression(got.numpy(), expected["embedding"], 1e-3)
