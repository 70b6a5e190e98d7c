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
    assert avc_accuracy.accuracy(FakeModel(), questions) == (1.0, 0.0)
    assert avc_accuracy.accuracy(FakeModel(knows=False), questions).accuracy == 0.5


def test_error_is_that_of_clips_not_of_pairs(questions):
    """It always sees a match, so of each clip it gets exactly the positives right: no error."""
    even = dataclasses.replace(questions, num_pairs=60)
    assert avc_accuracy.accuracy(FakeModel(knows=False), even) == (0.5, pytest.approx(0, abs=1e-9))

    class KnowsTwoClips(FakeModel):
        def correspondence(self):
            judge = FakeModel().correspondence()
            return lambda batch: np.where(_seen(batch["image"]) > 3, judge(batch), 1 - judge(batch))

    measured = avc_accuracy.accuracy(KnowsTwoClips(), even)
    assert measured.accuracy == 0.4  # two clips of five, each right or wrong altogether
    assert measured.error == pytest.approx((0.4 * 0.6 / 4) ** 0.5)


def test_without_a_number_every_clip_gives_as_many_pairs(questions, monkeypatch):
    monkeypatch.setattr(avc_accuracy.fixed_pairs, "MIN_PAIRS", 31)
    asked = dataclasses.replace(questions, num_pairs=0)
    assert avc_accuracy.Questions("").num_pairs == 0 and asked.count() == 40
    batches = list(asked.batches(FakeModel()))
    names = np.concatenate([batch["frame_clip"] for batch in batches])
    assert np.unique(names, return_counts=True)[1].tolist() == [8] * 5
    assert "40 fixed test pairs" in avc_accuracy.make_table([], asked).rows[0].data


def test_supervised_direct_compares_the_class_distributions(questions):
    accuracy, threshold = avc_accuracy.supervised_direct(*CLASSIFIERS, questions)
    assert accuracy == (1.0, 0.0) and 0 < threshold < 1


def test_table_has_a_row_per_network_and_one_for_both_classifiers(questions):
    table = avc_accuracy.make_table([FakeModel(), *CLASSIFIERS], questions)
    methods = {row.method: row for row in table.rows if row.status == tables.RUN}
    assert list(methods) == [
        "AVE-Net", "Supervised vision (classes)", "Supervised audio (classes)", "Supervised direct",
    ]  # fmt: skip
    assert all(row.ours["accuracy"] == 100.0 for row in methods.values())
    others = [row.method for row in table.rows if row.status == tables.NOT_RUN]
    assert "AVOL-Net" in others and not set(others) & set(methods)
    assert not any(row.paper for row in table.rows)  # "synthetic" is no data set of the papers
    assert all(row.errors == {"accuracy": 0.0} for row in methods.values())
    assert all("62 fixed test pairs" in row.data for row in table.rows)
    assert methods["AVE-Net"].ours == {
        "accuracy": 100.0, "parameters": 2.5, "minutes": 1.5, "pairs_per_second": 400.0,
    }  # fmt: skip
    assert methods["Supervised direct"].ours["minutes"] == 3.0


def _trained_with(sampling, kind="ave_net"):
    model = FakeModel(kind)
    model.metadata = {**model.metadata, "run_flags": ["--sampling=x", f"--sampling={sampling}"]}
    return model


@pytest.mark.parametrize(
    ("kind", "sampling", "method"),
    [
        ("ave_net", "naive", "AVE-Net, no shortcut prevention"),
        ("ave_net", "l3", "AVE-Net, sampling of L3"),
        ("ave_net", "ots", "AVE-Net"),
        ("l3_net", "l3", "L3-Net"),
        ("l3_net_ots", "ots", "L3-Net, as in OTS"),
    ],
)
def test_each_network_is_tested_with_its_own_sampling(questions, kind, sampling, method):
    asked = dataclasses.replace(questions, sampling=None)
    row = avc_accuracy.make_table([_trained_with(sampling, kind)], asked).rows[0]
    assert row.method == method and row.data.endswith(f"pairs, {sampling} sampling")
    assert row.details["questions"]["sampling"] == sampling


def test_sampling_of_silent_networks_and_a_given_one(questions):
    asked = dataclasses.replace(questions, sampling=None)
    assert avc_accuracy.make_table([FakeModel()], asked).rows[0].data.endswith("l3 sampling")
    asked = dataclasses.replace(questions, sampling="ots", misalignment_seconds=0.25)
    row = avc_accuracy.make_table([_trained_with("naive")], asked).rows[0]
    assert row.data.endswith("ots sampling, misaligned by up to 0.25 s")
    assert "trained with naive sampling" in row.note


def test_test_pairs_are_not_misaligned_unless_asked(questions):
    """A frame's second of sound is centred on it; sample k of a clip is 100 * number + k % 100."""

    def starts(**changes):
        asked = dataclasses.replace(questions, sampling="ots", **changes)
        batches = list(asked.batches(FakeModel()))
        return {round(w[0] * 32768) % 100 for batch in batches for w in batch["waveform"]}

    assert starts() == {0, 20, 40, 60, 80}  # on the frames' grid of 1920 samples
    assert len(starts(misalignment_seconds=0.25)) > 5


def _rows_on(tmp_path, dataset_name, models):
    clips = [tiny_shards.make_clip(k, dataset_name=dataset_name) for k in range(1, 6)]
    tiny_shards.write_shards(tmp_path, clips, split="test")
    asked = avc_accuracy.Questions(str(tmp_path), num_pairs=10)
    return {row.method: row for row in avc_accuracy.make_table(models, asked).rows}


def test_the_papers_numbers_stand_beside_the_papers_data_alone(tmp_path):
    models = [_trained_with("l3", "l3_net"), _trained_with("ots")]
    rows = _rows_on(tmp_path, "kinetics_sounds", models)
    assert {method: row.paper["accuracy"] for method, row in rows.items() if row.paper} == {
        "L3-Net": 74.0, "Supervised direct": 65.0, "Supervised pretraining": 74.0,
    }  # fmt: skip
    assert rows["L3-Net"].note.endswith("paper: about 1900 test clips, here 5")
    assert "paper" not in rows["AVE-Net"].note and rows["AVOL-Net"].status == tables.NOT_RUN


def test_a_number_of_another_sampling_is_not_the_papers(tmp_path):
    rows = _rows_on(tmp_path, "audioset_instruments", [_trained_with("ots")])
    assert rows["AVE-Net"].paper == {"accuracy": 81.9} and not rows["L3-Net"].paper
    asked = avc_accuracy.Questions(str(tmp_path), num_pairs=10, sampling="naive")
    assert not avc_accuracy.make_table([_trained_with("ots")], asked).rows[0].paper


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
