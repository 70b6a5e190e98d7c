"""Table 4 and §3.5.3 on features whose clusters and units are known."""

import json

import numpy as np
import pytest
from absl.flags import IllegalFlagValueError

from eval import table4_nmi
from eval.reporting.table_config import TrainedAndRandomConfig
from eval.sets import clips
from eval.table4_nmi import AUDIO, OURS, OURS_RANDOM, RANDOM, VISION, Protocol
from l3net import export, flags
from l3net.errors import UserError
from tests import tiny_training
from tests.tiny_networks import save_tiny_run

NUM_CLIPS, NUM_CLASSES = 60, 4


class FakeNetwork:
    """Its features: the class and a little noise ("knows"), or noise alone."""

    def __init__(self, knows):
        self.knows, self.metadata = knows, {"trained_steps": 3 if knows else 0}


@pytest.fixture(autouse=True)
def clip_names(monkeypatch):
    """Stands in for reading clips and running networks."""
    names = tuple(f"clip{k:03d}" for k in range(NUM_CLIPS))
    labels = tuple((f"c{k % NUM_CLASSES}", "Sound") for k in range(NUM_CLIPS))

    def describe(network, shards, split, outputs, *, seed, cache_dir):
        assert outputs == {VISION: "pool4", AUDIO: "pool4"} and split == "test"
        assert (shards, cache_dir) == ("shards", "cache")
        rng = np.random.default_rng(seed)
        hot = np.eye(8)[np.arange(NUM_CLIPS) % NUM_CLASSES]
        known = 10 * hot if network.knows else 0
        features = {name: known + rng.random((NUM_CLIPS, 8)) for name in outputs}
        return clips.ClipFeatures(names, labels, features, "digest")

    monkeypatch.setattr(clips, "extract_features", describe)
    monkeypatch.setattr(clips, "data_name", lambda shards, split: "data")
    return names


NETWORKS = {OURS_RANDOM: FakeNetwork(False), OURS: FakeNetwork(True)}


def _table(networks=NETWORKS, truth=None, **protocol):
    protocol = Protocol(**{"num_clusters": NUM_CLASSES, "num_draws": 2, **protocol})
    given = {"truth": truth, "protocol": protocol, "cache_dir": "cache"}
    return table4_nmi.make_table(networks, "shards", **given)


def _row(table, method, modality):
    what = {VISION: "frames", AUDIO: "sounds"}[modality]
    (row,) = [r for r in table.rows if r.method == method and r.data.endswith(what)]
    return row


def test_the_trained_network_knows_the_classes_and_the_random_one_does_not():
    table = _table()
    assert [row.method for row in table.rows] == [RANDOM, OURS_RANDOM, OURS] * 2
    assert table.rows[0].data == "data, 60 frames" and table.rows[3].data == "data, 60 sounds"
    for modality in (VISION, AUDIO):
        ours = _row(table, OURS, modality)
        assert ours.ours["nmi"] == pytest.approx(1)
        assert ours.ours["units_4_of_5"] == ours.ours["units_3_of_5"] == NUM_CLASSES
        assert ours.details["units_4_of_5_unit_of_class"] == {f"c{k}": k for k in range(4)}
        assert len(ours.details["nmi_per_draw"]) == 2
        for other in (_row(table, method, modality).ours for method in (RANDOM, OURS_RANDOM)):
            assert other["nmi"] < 0.3 and other["units_4_of_5"] < NUM_CLASSES


def test_the_papers_numbers_stand_beside_on_its_own_data_only(monkeypatch):
    table = _table()
    assert not any(row.paper or "paper" in row.note for row in table.rows)
    monkeypatch.setattr(clips, "data_name", lambda shards, split: "kinetics_sounds_16k")
    table = _table()
    assert _row(table, OURS, VISION).note == "vision; paper: about 1900 test clips, here 60"
    assert _row(table, OURS, VISION).paper == {
        "nmi": 0.409, "units_4_of_5": 10, "units_3_of_5": 23,
    }  # fmt: skip
    assert _row(table, OURS, AUDIO).paper["nmi"] == 0.330
    assert _row(table, RANDOM, AUDIO).paper == {"nmi": 0.165}
    without = _table(networks={OURS_RANDOM: FakeNetwork(False)})
    statuses = [_row(without, method, VISION).status for method in (OURS, OURS_RANDOM, RANDOM)]
    assert statuses == ["not run", "run", "run"]


def test_chance_is_told_for_this_many_clips_beside_the_papers(clip_names):
    truth = {VISION: {name: f"x{k % 3}" for k, name in enumerate(clip_names[5:])},
             AUDIO: {name: f"y{k % 5}" for k, name in enumerate(clip_names)}}  # fmt: skip
    table = _table(truth=truth, num_clusters=30)
    chance = [_row(table, RANDOM, modality).ours["nmi"] for modality in (VISION, AUDIO)]
    (note,) = [note for note in table.notes if "by chance falls" in note]
    assert f"30 clusters: {chance[0]:.3f} for n = 55 frames, {chance[1]:.3f} for n = 60" in note
    assert "the paper's 0.165 is for n of about 1.9k" in note


def test_nmi_of_networks_has_an_error_and_chance_and_counts_have_none():
    rows = _table(num_clusters=6).rows
    assert [set(row.errors) for row in rows] == [set(), {"nmi"}, {"nmi"}] * 2
    assert 0 < rows[1].errors["nmi"] < 0.2


def test_no_number_of_clusters_means_that_of_the_classes_seen(clip_names):
    truth = {VISION: {name: f"x{k % 3}" for k, name in enumerate(clip_names)},
             AUDIO: {name: f"y{k % 5}" for k, name in enumerate(clip_names)}}  # fmt: skip
    table = _table(truth=truth, num_clusters=0)
    assert table.rows == _table(truth=truth, num_clusters=3).rows
    assert any("into 3 clusters" in note for note in table.notes)


def test_truth_may_differ_between_eye_and_ear_and_may_be_missing(tmp_path):
    path = tmp_path / "clips.csv"
    rows = [f"clip{k:03d},x{k % 2},y{k % 3}" for k in range(NUM_CLIPS - 5)]
    path.write_text("\n".join(["example_id,label,heard_label", *rows]) + "\n")
    table = _table(truth=clips.read_truth(path))
    assert table.rows[0].data == "data, 55 frames"
    for modality, classes in ((VISION, {"x0", "x1"}), (AUDIO, {"y0", "y1", "y2"})):
        preferred = _row(table, OURS, modality).details["units_3_of_5_unit_of_class"]
        assert set(preferred) <= classes and preferred
    assert any("left out: 5" in note for note in table.notes)


def test_unit_length_counts():
    plain = _table(networks={OURS: FakeNetwork(False)})
    scaled = _table(networks={OURS: FakeNetwork(False)}, unit_length=True)
    first, second = (_row(t, OURS, VISION).details["nmi_per_draw"] for t in (plain, scaled))
    assert first != second
    assert any("length 1" in note for note in scaled.notes)


def test_bad_numbers_and_missing_flags_are_one_line(clip_names):
    for num_clusters in (61, 1):
        with pytest.raises(UserError, match=f"--num_clusters={num_clusters}: need 2 to 60"):
            _table(num_clusters=num_clusters)
    with pytest.raises(IllegalFlagValueError):
        flags.parse(["--num_draws=0"], TrainedAndRandomConfig, Protocol)
    with pytest.raises(UserError, match=r"of 1 class\(es\)"):
        _table(truth={VISION: dict.fromkeys(clip_names, "x"), AUDIO: {}})
    with pytest.raises(UserError, match="give --shards"):
        table4_nmi.main(TrainedAndRandomConfig(), Protocol())
    with pytest.raises(UserError, match="need --saved_model"):
        table4_nmi.main(TrainedAndRandomConfig(shards="x"), Protocol())


def test_protocol_is_that_of_the_readings():
    protocol = Protocol()
    assert (protocol.num_clusters, protocol.num_draws, protocol.unit_length) == (64, 5, False)
    details = _row(_table(num_draws=5), OURS, VISION).details
    assert len(details["nmi_per_draw"]) == 5


def test_an_exported_network_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.undo()  # real clips, real features
    shards = tiny_training.make_shards(tmp_path / "shards")
    run_dir = save_tiny_run(tmp_path / "run")
    config = TrainedAndRandomConfig(
        shards=str(shards),
        saved_model=str(export.export(run_dir)),
        random_saved_model=str(export.export(run_dir, random_weights=True)),
        out_dir=str(tmp_path / "out"),
        cache_dir=str(tmp_path / "cache"),
    )
    table4_nmi.main(config, Protocol(split="val", num_clusters=3, num_draws=1))
    assert (tmp_path / "out" / "table4.md").read_text() == capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "table4.json").read_text())
    assert [row["status"] for row in record["rows"]] == ["run"] * 6
    assert record["rows"][0]["data"] == "synthetic, 4 frames"
    assert record["rows"][2]["details"]["num_units"] == 32
    assert record["flags"]["num_clusters"] == 3
