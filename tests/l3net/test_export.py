import functools
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from l3net import constants, export, models
from l3net.data import augment
from l3net.errors import UserError
from l3net.inference import saved_model, saved_model_writer
from l3net.inference import signatures as made
from l3net.inference.saved_model import METADATA_FILE
from l3net.log_spectrogram import log_spectrogram
from l3net.training import checkpoints
from tests import commands, tiny_training
from tests.tiny_networks import POOL4, SMALLEST, TINY, TRAINED_STEPS, save_tiny_run

SMALL = models.ModelConfig("supervised_audio", **SMALLEST)  # one ConvNet
AUDIO_CONV4_2, VISION_CONV4_2 = 6144 // 16, 8192 // 16


def random_inputs(num: int, size_px: int = TINY.frame_px) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    waveform = rng.uniform(-1, 1, (num, constants.AUDIO_SAMPLES)).astype(np.float32)
    image = rng.integers(0, 256, (num, size_px, size_px, 3)).astype(np.uint8)
    return {"waveform": waveform, "image": image}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> pathlib.Path:
    run_dir = save_tiny_run(tmp_path_factory.mktemp("run"))
    (run_dir / "flags.txt").write_text("--shards=prepared/tiny\n--width=0.0625\n")
    return run_dir


@pytest.fixture(scope="module")
def exported(run_dir) -> pathlib.Path:
    return export.export(run_dir)


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    yield loaded.signatures  # `loaded` lives as long as the signatures are used


def run_numpy(signature, **inputs) -> dict[str, np.ndarray]:
    outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def block_max(maps: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Max-pools [N, H, W, C] to [N, rows * columns * C] the slow way."""
    height, width = maps.shape[1] // rows, maps.shape[2] // columns
    cells = [
        maps[:, r * height : (r + 1) * height, c * width : (c + 1) * width].max(axis=(1, 2))
        for r in range(rows)
        for c in range(columns)
    ]
    return np.concatenate(cells, axis=1)


def test_audio_equals_the_keras_model_before_the_relu(run_dir, signatures):
    model, config, _ = checkpoints.load_model(run_dir)
    waveform = random_inputs(3)["waveform"]
    waveform[2] = 0.0  # silence
    got = run_numpy(signatures["audio"], waveform=waveform)
    spectrogram = log_spectrogram(tf.constant(waveform), **config.spectrogram_settings)
    audio = model.get_layer("audio")
    maps = audio(spectrogram, training=False)
    assert got["pool4"].shape == (3, POOL4) and got["conv4_2"].shape == (3, AUDIO_CONV4_2)
    assert_close(got["pool4"], maps["pool4"].numpy())
    assert_close(got["conv4_2"], block_max(maps["conv4_2_before_relu"].numpy(), 4, 3))
    assert got["conv4_2"].min() < 0  # a ReLU would have cut these
    assert_close(got["conv4_2_map"], maps["conv4_2"].numpy())
    np.testing.assert_array_equal(got["conv4_2_map"].max(axis=(1, 2)), got["pool4"])
    in_training = audio(spectrogram, training=True)["pool4"].numpy()
    assert not np.allclose(got["pool4"], in_training, rtol=1e-2)


def test_windows_of_a_stretch_equal_windows_apart(exported, signatures):
    rng = np.random.default_rng(7)
    stretch = rng.uniform(-1, 1, constants.AUDIO_SAMPLES + 4 * 4_800).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(stretch, constants.AUDIO_SAMPLES)[::4_800]
    together = run_numpy(signatures["audio_windows"], waveform=stretch, hop=np.int32(4_800))
    apart = run_numpy(signatures["audio"], waveform=windows)
    assert together.keys() == apart.keys()
    for name, values in apart.items():
        assert_close(together[name], values)


@pytest.mark.parametrize(
    ("hop", "num", "taken"),
    [(4_800, 3, "audio_windows"), (4_800, 1, "audio"), (4_801, 3, "audio"), (48_000, 3, "audio")],
)
def test_windows_share_their_spectrogram_where_they_overlap_by_its_hops(exported, hop, num, taken):
    model = saved_model.SavedModel(exported)
    asked, features = [], model.features

    def spied(signature, output):
        function = features(signature, output)
        return lambda batch: asked.append(signature) or function(batch)

    model.features = spied
    sound = random_inputs(3)["waveform"].ravel()
    windows = np.stack([sound[start * hop :][: constants.AUDIO_SAMPLES] for start in range(num)])
    assert_close(model.windows("pool4", hop)(windows), features("audio", "pool4")(windows))
    assert asked == [taken]


def test_vision_equals_the_keras_model_after_the_relu(run_dir, signatures):
    model, _, _ = checkpoints.load_model(run_dir)
    image = random_inputs(3)["image"]
    got = run_numpy(signatures["vision"], image=image)
    maps = model.get_layer("vision")(image.astype(np.float32) / 127.5 - 1.0, training=False)
    assert_close(got["pool4"], maps["pool4"].numpy())
    assert_close(got["conv4_2"], block_max(maps["conv4_2"].numpy(), 4, 4))
    assert got["conv4_2"].min() >= 0
    assert_close(got["conv4_2_map"], maps["conv4_2"].numpy())


@pytest.mark.parametrize("shape", [(256, 256), (224, 224), (64, 64), (64, 301)])
def test_vision_takes_images_of_many_sizes(signatures, shape):
    image = np.zeros((1, *shape, 3), np.uint8)
    got = run_numpy(signatures["vision"], image=image)
    assert got["pool4"].shape == (1, POOL4) and got["conv4_2"].shape == (1, VISION_CONV4_2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image too small"):
        signatures["vision"](image=tf.zeros([1, 48, 64, 3], tf.uint8))


def test_avc_gives_the_probability_of_a_match(run_dir, signatures):
    model, config, _ = checkpoints.load_model(run_dir)
    inputs = random_inputs(3)
    got = run_numpy(signatures["avc"], **inputs)["corresponds"]
    frame = augment.frame_to_float(tf.constant(inputs["image"]))
    spectrogram = log_spectrogram(tf.constant(inputs["waveform"]), **config.spectrogram_settings)
    outputs = model({"frame": frame, "log_spectrogram": spectrogram}, training=False)
    assert got.shape == (3,) and got.dtype == np.float32
    np.testing.assert_allclose(got, outputs["softmax"].numpy()[:, 1], atol=1e-5)


def test_metadata_says_where_the_weights_come_from(exported):
    metadata = json.loads((exported / METADATA_FILE).read_text())
    assert metadata["model_config"]["model"] == "l3_net_ots"
    assert metadata["trained_steps"] == TRAINED_STEPS
    assert metadata["random_weights"] is False and metadata["seed"] is None
    assert metadata["run_flags"] == ["--shards=prepared/tiny", "--width=0.0625"]
    assert metadata["frame_px"] == 64 and metadata["log_spectrogram_shape"] == [129, 100, 1]
    sizes = metadata["feature_sizes"]
    assert sizes["audio"] == {"pool4": POOL4, "conv4_2": AUDIO_CONV4_2}
    assert sizes["vision"] == {"pool4": POOL4, "conv4_2": VISION_CONV4_2}
    assert metadata["versions"]["tensorflow"] == tf.__version__


ISOLATED = """
import sys

class Refuse:
    names = ["l3net", "data_prep", "eval", "tensorflow_io"]
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError("refused: " + name)

sys.meta_path.insert(0, Refuse())
import numpy as np, tensorflow as tf
assert not {name.split(".")[0] for name in sys.modules} & set(Refuse.names)

folder, inputs, outputs = sys.argv[1:]
given, loaded, results = np.load(inputs), tf.saved_model.load(folder), {}
for signature in ("audio", "vision", "avc"):
    function = loaded.signatures[signature]
    taken = {key: tf.constant(given[key]) for key in function.structured_input_signature[1]}
    for output, value in function(**taken).items():
        results[signature + "." + output] = value.numpy()
np.savez(outputs, **results)
"""


def test_loads_where_only_tensorflow_is_installed(exported, signatures, tmp_path):
    inputs = random_inputs(2)
    np.savez(tmp_path / "inputs.npz", **inputs)
    arguments = [str(exported), str(tmp_path / "inputs.npz"), str(tmp_path / "outputs.npz")]
    done = commands.run("-c", ISOLATED, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = np.load(tmp_path / "outputs.npz")
    assert len(outputs.files) == 7
    for name in ("audio", "vision", "avc"):
        keys = signatures[name].structured_input_signature[1]
        expected = run_numpy(signatures[name], **{key: inputs[key] for key in keys})
        for output, value in expected.items():
            assert_close(outputs[f"{name}.{output}"], value)


def test_random_weights_repeat_by_seed_and_need_no_checkpoint(signatures, tmp_path):
    checkpoints.save_model_config(tmp_path, TINY)
    with pytest.raises(UserError, match="no checkpoint"):
        export.export(tmp_path)
    out = export.export(tmp_path, random_weights=True, seed=0)
    assert out == tmp_path / "saved_model_random"
    first = json.loads((out / METADATA_FILE).read_text())
    export.export(tmp_path, random_weights=True, seed=2)  # replaces its own folder
    second = json.loads((out / METADATA_FILE).read_text())
    for metadata, seed in ((first, 0), (second, 2)):
        assert metadata["random_weights"] is True and metadata["seed"] == seed
        assert metadata["trained_steps"] == 0
        again = saved_model_writer.weights_digest(models.build_model(TINY, seed=seed))
        assert metadata["weights_sha256"] == again
    assert first["weights_sha256"] != second["weights_sha256"]
    waveform = random_inputs(2)["waveform"]
    loaded = tf.saved_model.load(str(out))
    random = run_numpy(loaded.signatures["audio"], waveform=waveform)["conv4_2"]
    trained = run_numpy(signatures["audio"], waveform=waveform)["conv4_2"]
    assert not np.allclose(random, trained, rtol=0.1)
    assert not list(tmp_path.glob(".saved_model*"))


# --- Batch norm of random networks ----------------------------------------------------------------
@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> pathlib.Path:
    return tiny_training.make_shards(tmp_path_factory.mktemp("data") / "shards")


def export_random(folder: pathlib.Path, config=TINY, **settings):
    """Returns the metadata of a random network and, as a Keras model, the network in the folder."""
    folder.mkdir(exist_ok=True)
    checkpoints.save_model_config(folder, config)
    out = export.export(folder, random_weights=True, **settings)
    network = models.build_model(config)
    loaded = tf.saved_model.load(str(out))
    for variable, value in zip(network.variables, loaded.network_variables, strict=True):
        variable.assign(value)
    return json.loads((out / METADATA_FILE).read_text()), network


def neutral_statistics(network) -> list[bool]:
    """Returns for each channel's mean and variance whether it is 0 and 1."""
    averages = [variable for variable in network.variables if "moving_" in variable.path]
    return np.concatenate([v.numpy() == ("variance" in v.path) for v in averages]).tolist()


def test_random_networks_have_the_statistics_of_real_input(shards, tmp_path, caplog):
    caplog.set_level("WARNING", "l3net.export")
    metadata, network = export_random(tmp_path, seed=3, shards=shards, batch_norm_batches=2)
    said = {"statistics": "calibrated", "num_pairs": 64, "data": "synthetic"}
    assert metadata["random_batch_norm"] == said and not caplog.records
    assert not any(neutral_statistics(network))
    # Anew: clips that it was measured on leave every batch norm with mean 0 and variance 1.
    pipeline = tiny_training.pipeline_config(TINY, batch_size=32, pairs_per_clip=1, seed=8)
    found = export.find_shards(shards, "train")
    inputs = next(export.batches_of_statistics(found, pipeline, TINY, size=32))
    for name, data in (("vision", inputs["frame"]), ("audio", inputs["log_spectrogram"])):
        layers = network.get_layer(name)
        for layer in ("conv1_1_batch_norm", "conv4_2_batch_norm"):
            until = keras.Model(layers.inputs, layers.get_layer(layer).output)
            maps = until(data, training=False).numpy().reshape(-1, until.output.shape[-1])
            np.testing.assert_allclose(maps.mean(axis=0), 0.0, atol=0.25)
            np.testing.assert_allclose(maps.std(axis=0), 1.0, atol=0.25)


def test_random_statistics_repeat_by_seed_without_labels(shards, tmp_path):
    settings = {"seed": 3, "config": SMALL}
    first, _ = export_random(tmp_path, **settings, shards=shards)
    assert first["random_batch_norm"]["num_pairs"] == 384  # the default
    bare = tiny_training.make_shards(tmp_path / "bare", labelled=False)
    again, _ = export_random(tmp_path, **settings, shards=bare)
    assert again["weights_sha256"] == first["weights_sha256"]
    other, _ = export_random(tmp_path, **settings, shards=shards, batch_norm_batches=1)
    assert other["weights_sha256"] != first["weights_sha256"]


def test_identity_when_asked_for_or_without_shards(shards, tmp_path, caplog):
    caplog.set_level("WARNING", "l3net.export")
    asked, network = export_random(tmp_path, SMALL, shards=shards, batch_norm_batches=0)
    assert all(neutral_statistics(network)) and not caplog.records
    without, network = export_random(tmp_path, SMALL)
    assert all(neutral_statistics(network)) and "with --shards" in caplog.text
    assert asked["weights_sha256"] == without["weights_sha256"]
    assert asked["random_batch_norm"] == without["random_batch_norm"]
    assert asked["random_batch_norm"]["statistics"] == "identity"


def test_frozen_layers_of_random_networks_are_calibrated_too(shards, tmp_path):
    config = models.ModelConfig("supervised_pretraining", **SMALLEST)
    metadata, network = export_random(tmp_path, config, shards=shards, batch_norm_batches=1)
    assert not any(neutral_statistics(network))
    trainable = models.build_model(config).trainable_variables
    assert metadata["num_parameters"] == sum(each.numpy().size for each in trainable)


def test_shards_are_for_random_networks_and_must_be_there(run_dir, shards, tmp_path):
    with pytest.raises(UserError, match="is for --random_weights"):
        export.export(run_dir, tmp_path / "out", shards=shards)
    with pytest.raises(UserError, match="does not exist"):
        export.export(run_dir, tmp_path / "out", random_weights=True, shards=tmp_path / "none")
    assert not (tmp_path / "out").exists()


def test_no_run_and_a_folder_that_is_not_its_own(run_dir, tmp_path):
    with pytest.raises(UserError, match=r"no model\.json"):
        export.export(tmp_path / "nothing")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no SavedModel of ours"):
        export.export(run_dir, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_wrong_saved_model_is_not_kept(run_dir, exported, monkeypatch):
    before = (exported / METADATA_FILE).read_text()
    other = models.build_model(TINY, seed=99)
    enlarge = export._of_any_frame_size
    monkeypatch.setattr(export, "_of_any_frame_size", lambda _, config: enlarge(other, config))
    with pytest.raises(UserError, match="differs from the Keras model"):
        export.export(run_dir)
    assert (exported / METADATA_FILE).read_text() == before
    assert not list(run_dir.glob(".saved_model*"))
    diverged = np.full((2, 3), np.nan, np.float32)
    with pytest.raises(UserError, match="audio/pool4 of the network is not finite"):
        saved_model_writer._compare("audio/pool4", diverged, diverged)


FEATURES = {"pool4": (2, 16)}
EMBEDDING = {**FEATURES, "embedding": (2, 128)}
PAIRS = {"avc": {"corresponds": (2,), "distance": (2,)}}
SIGNATURES = {
    **dict.fromkeys(
        ("ave_net", "ave_net_mf", "ave_net_of"),
        {"audio": EMBEDDING, "vision": EMBEDDING, **PAIRS},
    ),
    "avol_net": {
        "audio": EMBEDDING,
        "vision": FEATURES,
        "avc": {"corresponds": (2,)},
        "localize": {"map": (2, 4, 4), "corresponds": (2,)},
    },
    "supervised_vision": {"vision": {**FEATURES, "softmax": (2, 34)}},
    "supervised_audio": {"audio": {**FEATURES, "softmax": (2, 34)}},
}


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory):
    """Exports a network of the smallest size, once for all tests."""

    @functools.cache
    def export_once(name: str) -> pathlib.Path:
        config = models.ModelConfig(name, **SMALLEST)
        return export.export(save_tiny_run(tmp_path_factory.mktemp(name) / "run", config=config))

    return export_once


@pytest.mark.parametrize("name", list(SIGNATURES))
def test_every_network_answers_its_signatures(exported_once, name):
    folder = exported_once(name)
    loaded = saved_model.SavedModel(folder)
    assert loaded.inputs == models.MODELS[name].inputs
    signatures = tf.saved_model.load(str(folder)).signatures
    stretch = {"audio_windows"} if "audio" in SIGNATURES[name] else set()
    assert set(signatures) == {*SIGNATURES[name], *stretch, "serving_default"}
    rng = np.random.default_rng(0)
    for signature, expected in SIGNATURES[name].items():
        inputs = {}
        for key, spec in signatures[signature].structured_input_signature[1].items():
            shape = [2, *(64 if side is None else side for side in spec.shape[1:])]
            floats = rng.uniform(-1, 1, shape).astype(np.float32)
            inputs[key] = (
                rng.integers(0, 256, shape).astype(np.uint8) if spec.dtype == tf.uint8 else floats
            )
        outputs = run_numpy(signatures[signature], **inputs)
        assert {key: outputs[key].shape for key in expected} == expected
        if name.startswith("ave_net") and "embedding" in outputs:
            np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "modality"), [("avol_net", "audio"), ("supervised_vision", "vision")]
)
def test_default_endpoint_is_the_sound_or_else_the_picture(exported_once, name, modality):
    layer = keras.layers.TFSMLayer(str(exported_once(name)), call_endpoint="serving_default")
    inputs = random_inputs(3)["waveform" if modality == "audio" else "image"]
    loaded = tf.saved_model.load(str(exported_once(name)))
    expected = loaded.signatures[modality](tf.constant(inputs))
    for endpoint in (layer, keras.layers.TFSMLayer(str(exported_once(name)))):
        outputs = endpoint(inputs)
        assert set(outputs) == set(expected)
        np.testing.assert_array_equal(outputs["pool4"], expected["pool4"])


def test_the_spectrogram_is_what_onnx_converters_take(exported_once):
    # tf2onnx wants a Fourier transform of rank 2 and known width, and its magnitude alone.
    config = models.ModelConfig("avol_net", **SMALLEST)
    network = models.build_model(config, any_frame_size=True)
    for name, function in made.signatures(network, config).items():
        operations = function.get_concrete_function().graph.get_operations()
        transforms = [operation for operation in operations if "FFT" in operation.type]
        assert len(transforms) == {"vision": 0, "audio_windows": 2}.get(name, 1)
        for transform in transforms:
            assert transform.type == "RFFT" and transform.inputs[0].shape.as_list() == [None, 512]
            (consumer,) = transform.outputs[0].consumers()
            assert consumer.type == "ComplexAbs"


def test_half_precision_runs_are_exported_in_float32(tmp_path, exported_once):
    config = models.ModelConfig("ave_net", **SMALLEST, precision="bfloat16")
    folder = export.export(save_tiny_run(tmp_path / "half", config=config))
    waveform = random_inputs(2)["waveform"]
    first, second = (
        run_numpy(tf.saved_model.load(str(path)).signatures["audio"], waveform=waveform)
        for path in (folder, exported_once("ave_net"))
    )
    np.testing.assert_array_equal(first["embedding"], second["embedding"])
    model = models.build_model(TINY)  # of float32: as it is
    assert export._in_float32(model, TINY) == (model, TINY)


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone", "old"])
@pytest.mark.parametrize("name", ["saved_model.pb", "variables.index", "variables.data"])
def test_damage_to_a_savedmodel_is_one_line(tmp_path, exported, name, how):
    folder = shutil.copytree(exported, tmp_path / "damaged")
    (path,) = [each for each in folder.rglob("*") if each.name.startswith(name)]
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    if how == "old":  # written before there were checksums
        content = json.loads((folder / saved_model.METADATA_FILE).read_text())
        del content["files"], content["checksum"]
        (folder / saved_model.METADATA_FILE).write_text(json.dumps(content))
    path.write_bytes({"flip": flipped, "empty": b""}.get(how, data[:middle]))
    if how == "gone":
        path.unlink()
    with pytest.raises(UserError, match="is a damaged SavedModel") as error:
        saved_model.SavedModel(folder)
    assert "\n" not in str(error.value)


def test_a_folder_that_tensorflow_takes_for_a_pattern_is_named(tmp_path, exported):
    folder = shutil.copytree(exported, tmp_path / "network [1]")
    for use in (saved_model.SavedModel, saved_model_writer.check_replaceable):
        with pytest.raises(UserError, match="finds no weights below a folder with"):
            use(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"frame_px": "224"}', "frame_px: expected `int`"),
        ('{"format": 1}', "missing required field `frame_px`"),
        ('{"frame_px": 224', "is damaged"),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path, text, words):
    path = tmp_path / saved_model.METADATA_FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=f"l3net.json is damaged .*{words}|l3net.json {words}"):
        saved_model.read_metadata(tmp_path)
