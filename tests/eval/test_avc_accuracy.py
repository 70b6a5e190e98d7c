"""AVC accuracy: exactly once per pair, and "supervised direct" with its threshold."""

import dataclasses
import json

import numpy as np
import pytest

from eval import avc_accuracy
from eval.reporting import tables
from eval.reporting.table_config import TableConfig
from l3net.errors import UserError
from tests import tiny_shards


def _seen(images):
    return np.round(images.mean(axis=(1, 2, 3)) / 10).astype(int)


def _heard(waveforms):
    return np.round(waveforms[:, 0] * 32768).astype(int) // 100


class FakeModel:
    """Knows the clips of frames by their grey level and of sounds by their samples: everything."""

    def __init__(self, kind="ave_net", inputs=("frame", "log_spectrogram"), knows=True):
        self.inputs, self.frame_px = inputs, 32
        self.metadata = {
            "model_config": {"model": kind},
            "trained_steps": 5,
            "num_parameters": 2_500_000,
            "training": {"seconds": 90.0, "pairs_per_second": 400.0},
        }
        self._knows = knows

    def correspondence(self):
        def judge(batch):
            fits = _seen(batch["image"]) == _heard(batch["waveform"])
            return fits * 0.8 + 0.1 if self._knows else np.full(len(fits), 0.9)

        return judge

    def features(self, signature, output):
        assert output == "softmax"
        classify = _seen if signature == "vision" else _heard
        return lambda batch: np.eye(10, dtype=np.float32)[classify(batch)]


CLASSIFIERS = [
    FakeModel("supervised_vision", ("frame",)),
    FakeModel("supervised_audio", ("log_spectrogram",)),
]


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    clips = [tiny_shards.make_clip(k, labels=(f"c{k}",), label_indices=(k,)) for k in range(1, 6)]
    for split in ("val", "test"):
        tiny_shards.write_shards(folder, clips, split=split)
    return avc_accuracy.Questions(str(folder), None, "test", num_pairs=62, sampling="l3")


def test_accuracy_of_one_who_knows_and_one_who_does_not(questions):
    assert avc_accuracy.accuracy(FakeModel(), questions) == 1.0
    assert avc_accuracy.accuracy(FakeModel(knows=False), questions) == 0.5


def test_supervised_direct_compares_the_class_distributions(questions):
    accuracy, threshold = avc_accuracy.supervised_direct(*CLASSIFIERS, questions)
    assert accuracy == 1.0 and 0 < threshold < 1


def test_table_has_a_row_per_network_and_one_for_both_classifiers(questions):
    table = avc_accuracy.make_table([FakeModel(), *CLASSIFIERS], questions)
    methods = {row.method: row for row in table.rows if row.status == tables.RUN}
    assert list(methods) == [
        "AVE-Net", "Supervised vision (classes)", "Supervised audio (classes)", "Supervised direct",
    ]  # fmt: skip
    assert all(row.ours["accuracy"] == 100.0 for row in methods.values())
    others = [row.method for row in table.rows if row.status == tables.NOT_RUN]
    assert "AVOL-Net" in others and not set(others) & set(methods)
    assert all("62 fixed test pairs" in row.data for row in table.rows)
    assert methods["AVE-Net"].ours == {
        "accuracy": 100.0, "parameters": 2.5, "minutes": 1.5, "pairs_per_second": 400.0,
    }  # fmt: skip
    assert methods["Supervised direct"].ours["minutes"] == 3.0


@pytest.mark.parametrize(
    ("sampling", "method"),
    [("naive", "AVE-Net, no shortcut prevention"), ("l3", "AVE-Net, sampling of L3")],
)
def test_a_network_of_another_sampling_is_asked_with_it(questions, sampling, method):
    model = FakeModel()
    model.metadata = {**model.metadata, "run_flags": ["--sampling=ots", f"--sampling={sampling}"]}
    row = avc_accuracy.make_table([model], questions).rows[0]
    assert row.method == method and f"{sampling} sampling" in row.data


def test_sound_and_flow_come_as_the_signatures_take_them():
    waveform, flow = np.array([[-32768, 16384]], np.int16), np.array([1, 128, 255], np.uint8)
    batch = avc_accuracy._to_floats({"waveform": waveform, "flow": flow, "image": flow})
    assert batch["waveform"].tolist() == [[-1.0, 0.5]] and batch["flow"].tolist() == [-1, 0, 1]
    assert batch["waveform"].dtype == batch["flow"].dtype == np.float32
    assert batch["image"] is flow


def test_flags_become_questions_and_a_table(questions, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(avc_accuracy.saved_model, "SavedModel", lambda folder: FakeModel())
    config = avc_accuracy.Config(saved_models=("a",))
    asked = dataclasses.replace(questions, sampling="ots", seed=3)
    table = TableConfig(shards=questions.shards, out_dir=str(tmp_path), seed=3)
    avc_accuracy.main(table, config, asked)
    record = json.loads((tmp_path / "avc_accuracy.json").read_text())
    assert capsys.readouterr().out == (tmp_path / "avc_accuracy.md").read_text()
    assert record["rows"][0]["details"]["questions"] == dataclasses.asdict(asked)
    assert record["flags"]["sampling"] == "ots" and record["flags"]["saved_models"] == ["a"]
    assert record["seed"] == 3 and record["rows"][0]["ours"]["accuracy"] == 100.0


def test_a_missing_network_or_folder_is_one_clear_line(questions):
    without = dataclasses.replace(questions, shards=None)
    for config, asked in ((("a",), without), ((), questions)):
        with pytest.raises(UserError, match="--saved_models and --shards are needed"):
            avc_accuracy.main(TableConfig(), avc_accuracy.Config(config), asked)
    model = FakeModel("ave_net_of", ("frame", "flow", "log_spectrogram"))
    with pytest.raises(UserError, match="give --flow_shards"):
        avc_accuracy.accuracy(model, dataclasses.replace(questions, flow_shards=None))
