import json

import absl.flags
import numpy as np
import pytest
import tensorflow as tf

from l3net import export, flags, models, tflite
from l3net.errors import UserError
from l3net.inference import saved_model
from tests.tiny_networks import save_tiny_network, save_tiny_run

TINY = models.ModelConfig("ave_net", width=0.03, frame_px=64, spectrogram_average=2)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return export.export(save_tiny_run(tmp_path_factory.mktemp("run"), config=TINY))


@pytest.fixture(scope="module")
def converted(network, tmp_path_factory):
    out = tmp_path_factory.mktemp("tflite") / "audio.tflite"
    convert(network, out, outputs=tflite.OUTPUTS, batch_size=2)
    return out


def convert(network, out, **flags) -> dict[str, float]:
    return tflite.convert(tflite.Config(saved_model=network, out=out, **flags))


def test_outputs_equal_the_saved_model(network, converted):
    noise = np.random.default_rng(7).uniform(-1, 1, (3, 48_000)).astype(np.float32)
    noise[1] *= 1e-3
    got = tflite.run(converted.read_bytes(), noise)
    assert set(got) == set(tflite.OUTPUTS)
    for name, values in got.items():
        expected = saved_model.SavedModel(network).features("audio", name)(noise)
        assert values.shape == expected.shape and values.dtype == np.float32
        np.testing.assert_allclose(values, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(got["pool4"][0] - got["pool4"][1]).max() > 1e-3  # it does hear


def test_only_built_in_operators_and_a_note_that_names_the_weights(network, converted):
    interpreter = tf.lite.Interpreter(model_path=str(converted))
    assert list(interpreter.get_signature_list()["audio"]["inputs"]) == ["waveform"]
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert {"RFFT2D", "LOG", "CONV_2D"} <= names
    assert not [name for name in names if name.startswith("Flex") or name == "CUSTOM"]
    note = json.loads(converted.with_name("audio.tflite.json").read_text())
    metadata = saved_model.read_metadata(network)
    assert note["saved_model"]["weights_sha256"] == metadata["weights_sha256"]
    assert note["quantize"] == "none" and note["batch_size"] == 2
    assert max(note["difference_from_saved_model"].values()) < 1e-4


def test_quantized_files_are_smaller_and_near(network, converted, tmp_path):
    sizes = [len(converted.read_bytes())]
    for quantize in ("float16", "dynamic"):
        out = tmp_path / f"{quantize}.tflite"
        differences = convert(network, out, quantize=quantize)
        assert set(differences) == {"pool4", "embedding"}
        assert 0 < max(differences.values()) <= tflite.TOLERANCES[quantize]
        sizes.append(len(out.read_bytes()))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_a_file_that_differs_is_not_kept(network, converted, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_convert", lambda *_: converted.read_bytes())
    monkeypatch.setitem(tflite.TOLERANCES, "none", 1e-9)
    out = tmp_path / "audio.tflite"
    out.write_text("of before")
    with pytest.raises(UserError, match="nothing was kept"):
        convert(network, out)
    assert out.read_text() == "of before" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("metadata", "tolerance"), [({}, 1e-3), ({saved_model.IMPORTED: {}}, tflite.OPENL3_TOLERANCE)]
)
def test_openl3s_networks_may_differ_more(metadata, tolerance, tmp_path, monkeypatch):
    network = save_tiny_network(tmp_path / "net", metadata=metadata)
    asked = []
    monkeypatch.setattr(tflite, "check", lambda *given: asked.append(given[-1]) or {"pool4": 0.0})
    convert(network, tmp_path / "audio.tflite")
    assert asked == [tolerance]


def test_check_refuses_other_numbers_and_nan(converted):
    content = converted.read_bytes()
    pool4 = tflite.run(content, tflite.check_sounds())["pool4"]
    assert tflite.check(content, {"pool4": lambda _: pool4}, 0.0) == {"pool4": 0.0}
    with pytest.raises(UserError, match="pool4 differs"):
        tflite.check(content, {"pool4": lambda _: 1.01 * pool4}, 1e-3)
    with pytest.raises(UserError, match="not finite"):
        tflite.check(content, {"pool4": lambda _: np.nan * pool4}, 1e-3)


def test_check_sounds_are_of_many_kinds():
    sounds = tflite.check_sounds()
    assert sounds.shape == (8, 48_000) and sounds.dtype == np.float32
    assert np.abs(sounds).max() <= 1.0
    loudness = np.sqrt(np.mean(sounds**2, axis=1))
    assert loudness[0] == 0 and (loudness[1:] > 0).all() and len(set(loudness)) == 8
    np.testing.assert_array_equal(sounds, tflite.check_sounds())


def test_invalid_settings_are_refused(network, tmp_path):
    with pytest.raises(UserError, match="--outputs=softmax: need one of pool4, embedding, conv4_2"):
        convert(network, tmp_path / "audio.tflite", outputs=["softmax"])
    with pytest.raises(UserError, match="is a folder"):
        convert(network, tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        convert(tmp_path / "none", tmp_path / "audio.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--quantize=int4", "--batch_size=0"])
def test_flags_that_are_not_allowed(flag):
    with pytest.raises(absl.flags.Error, match=flag[2:].partition("=")[0]):
        flags.parse(["--saved_model=x", "--out=y", flag], tflite.Config)
    given = ["--saved_model=x", "--out=y", "--outputs=pool4", "--outputs=conv4_2"]
    _, (config,) = flags.parse(given, tflite.Config)
    assert config.outputs == ["pool4", "conv4_2"]
