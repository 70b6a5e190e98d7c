"""OTS Table 1 on clips whose correct answers are known."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from eval import retrieval
from eval.methods import cca, vgg16
from eval.metrics import ndcg
from eval.reporting import paper_values
from eval.reporting.table_config import LabelledConfig
from eval.sets import clips, ontology
from l3net import constants
from l3net.errors import UserError
from l3net.inference import saved_model
from tests import tiny_shards

CLASSES = ("Harp", "Drill", "Organ", "Flute")
NUM_TRAIN, NUM_TEST = 60, 124  # 31 of each class: a perfect list of 30 is of one class
BOTH = (constants.FRAME, constants.LOG_SPECTROGRAM)
BUILT_IN = ontology.read_ontology(None)


class Network:
    """Knows the class by the grey it sees and the first sample it hears, turned or not alike."""

    def __init__(self, model="ave_net", *, aligned=True, knows=True, inputs=BOTH, **metadata):
        self.metadata = {"model_config": {"model": model}, "trained_steps": 5, **metadata}
        self.frame_px, self.inputs = 32, inputs
        self._aligned, self._knows = aligned, knows
        self._rng = np.random.default_rng(0)
        self.wanted = set()

    def features(self, signature, output):
        self.wanted.add((signature, output))

        def run(batch):
            if isinstance(batch, dict):
                batch = batch[saved_model.IMAGE]
            if signature == saved_model.VISION:
                number = np.round(batch.mean(axis=(1, 2, 3), dtype=np.float64) / 60).astype(int)
            else:
                number = (np.round(batch[:, 0] * 32768).astype(int) // 1000) % 4
            if not self._knows:
                number = np.zeros_like(number)
            turned = 0 if self._aligned or signature == saved_model.VISION else 1
            noise = 0.05 * self._rng.standard_normal((len(batch), len(CLASSES)))
            return (np.eye(len(CLASSES))[(number + turned) % 4] + noise).astype(np.float32)

        return run


def _clip(number: int, split: str, *, labelled: bool = True, flow: bool = False):
    kind = number % len(CLASSES)
    jpeg = tiny_shards.encode_jpeg(np.full((32, 32, 3), 60 * kind, np.uint8))
    flows = tiny_shards.flows_of((32, 32), level=128) if flow else {}
    return tiny_shards.make_clip(
        number,
        size_px=(32, 32),
        example_id=f"{split}{number:04d}",
        media_id=f"{split}{number:04d}",
        labels=(CLASSES[kind],) if labelled else (),
        frames=(jpeg,) * 50,
        waveform=np.full(96_000, 1000 * kind + 500, np.int16),
        **flows,
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for split, count in (("train", NUM_TRAIN), ("val", NUM_TRAIN), ("test", NUM_TEST)):
        made = [_clip(number, split) for number in range(count)]
        made += [_clip(900, split, labelled=False)] if split == "test" else []
        tiny_shards.write_shards(folder, made, split=split, num_shards=2)
    return folder


@pytest.fixture(scope="module")
def search(shards, tmp_path_factory):
    return retrieval.SearchConfig(str(shards), str(tmp_path_factory.mktemp("cache")))


def _table(models, search, classes=BUILT_IN, **changes):
    return retrieval.make_table(models, search, classes=classes, **changes)


def _rows(table):
    return {row.method: row for row in table.rows}


def test_one_who_knows_one_who_is_turned_and_one_who_knows_nothing(search):
    knows = _rows(_table([Network()], search))["AVE-Net"].ours
    assert knows == pytest.approx(dict.fromkeys(retrieval.DIRECTIONS, 1.0))
    rows = _rows(_table([Network("l3_net_ots", aligned=False)], search))
    plain, with_cca, chance = (rows[m].ours for m in ("L3-Net", "L3-Net with CCA", "Random chance"))
    assert plain["im_im"] == pytest.approx(1) and plain["aud_aud"] == pytest.approx(1)
    assert plain["im_aud"] < chance["im_aud"] + 0.02  # all it finds is of the wrong class
    assert min(with_cca.values()) > 0.85
    nothing = _rows(_table([Network(knows=False, name="nothing")], search))["AVE-Net"].ours
    for direction in ("im_aud", "aud_im"):
        assert nothing[direction] == pytest.approx(chance[direction], abs=0.1)


def test_table_has_the_papers_rows_in_its_order(search):
    table = _table([Network("ave_net_mf", name="mf"), Network("avol_net")], search)
    assert [row.method for row in table.rows] == list(retrieval.ROWS)
    rows = _rows(table)
    assert [row.method for row in table.rows if row.status == "run"] == ["Random chance", "AVE+MF"]
    assert rows["AVE-Net"].status == "not run"
    assert rows["VGG16-ImageNet"].note == "needs --vgg16_weights"
    assert all(row.data == "synthetic, 124 test clips" for row in table.rows)
    assert "1 clips without labels are left out." in table.notes


def test_the_papers_numbers_stand_beside_on_its_own_data_only(search, monkeypatch):
    assert not any(row.paper for row in _table([Network()], search).rows)
    monkeypatch.setattr(clips, "data_name", lambda shards, split: "audioset_instruments_16k")
    rows = _rows(_table([Network()], search))
    assert rows["AVE-Net"].paper == {
        "im_im": 0.604, "im_aud": 0.561, "aud_im": 0.587, "aud_aud": 0.665,
    }  # fmt: skip
    assert rows["AVE-Net"].note.endswith("paper: about 4300 test clips, here 124")
    vgg = rows["VGG16-ImageNet"]
    assert vgg.paper == {"im_im": 0.600} and vgg.status == "not run"
    assert rows["AVE+MF"].note == "needs the SavedModel of AVE+MF; paper: no better than AVE-Net"
    assert set(rows) == {*paper_values.methods("retrieval", paper_values.AUDIOSET),
                         "AVE+MF", "AVE-Net, no shortcut prevention"}  # fmt: skip


def test_every_direction_has_an_error_but_chance_is_exact(search):
    rows = _rows(_table([Network(knows=False, name="nothing")], search))
    assert set(rows["AVE-Net"].errors) == set(retrieval.DIRECTIONS)
    assert all(0 < error < 0.1 for error in rows["AVE-Net"].errors.values())
    assert rows["Random chance"].errors == {} and rows["AVE+MF"].errors == {}


def test_chance_is_worked_out_by_hand(search):
    chance = _rows(_table([Network()], search))["Random chance"]
    gains = 2.0 ** (20 - BUILT_IN.distances(CLASSES)) - 1
    discounts = 1 / np.log2(np.arange(2, 32))
    best = np.sort(np.repeat(gains, NUM_TEST // len(CLASSES), axis=1))[:, ::-1][:, :30]
    scores = gains.mean(axis=1) * discounts.sum() / (best @ discounts)
    assert chance.ours == pytest.approx(dict.fromkeys(retrieval.DIRECTIONS, np.mean(scores)))


def test_the_query_itself_may_be_left_out(search):
    models = [Network(knows=False, name="nothing")]
    counted = _rows(_table(models, search))["AVE-Net"]
    left_out = dataclasses.replace(search, query_in_gallery=False)
    without = _rows(_table(models, left_out))["AVE-Net"]
    assert without.ours["im_im"] < counted.ours["im_im"]
    assert without.ours["im_aud"] == counted.ours["im_aud"]  # the clip's sound always stays
    for name in ("ndcg_query_in_database", "ndcg_query_left_out"):
        assert without.details[name] == counted.details[name]
    assert set(counted.details["ndcg_query_left_out"]) == {"im_im", "aud_aud"}
    assert counted.details["ndcg_query_left_out"]["im_im"] == without.ours["im_im"]


def test_linear_gain_leaves_less_between_chance_and_perfect(search):
    linear = dataclasses.replace(search, gain=ndcg.LINEAR)
    chance = _rows(_table([Network()], linear))["Random chance"].ours["im_im"]
    assert chance > 0.8 > _rows(_table([Network()], search))["Random chance"].ours["im_im"]


def test_naive_sampling_and_untrained_networks_say_so(search):
    naive = Network(name="naive", run_flags=["--sampling=ots", "--sampling=naive"])
    random = Network("l3_net", random_weights=True)
    rows = _rows(_table([naive, random], search))
    assert rows["AVE-Net, no shortcut prevention"].status == "run"
    assert rows["AVE-Net"].status == "not run"
    assert "untrained" in rows["L3-Net"].note and "untrained" in rows["L3-Net with CCA"].note
    assert ("vision", "pool4") in random.wanted and ("audio", "embedding") in naive.wanted


def test_regularisation_is_the_best_on_the_validation_split(search):
    row = _rows(_table([Network("l3_net_ots", aligned=False)], search))["L3-Net with CCA"]
    tried = row.details["cca_tried"]
    assert len(tried) == len(cca.REGULARIZATION_GRID) and "0" in tried  # plain CCA
    assert tried[f"{row.details['cca_regularization']:g}"] == max(tried.values())
    fixed = dataclasses.replace(search, cca_regularization=0.5, val_split="there is none")
    table = _table([Network("l3_net_ots", aligned=False)], fixed)
    assert _rows(table)["L3-Net with CCA"].details["cca_regularization"] == 0.5
    assert any("for plain CCA (our choice): 0.5." in note for note in table.notes)


def test_cca_may_take_fewer_clips_and_features_of_length_one(search, monkeypatch):
    lengths, fit = [], cca.fit

    def recorded(first, second, **settings):
        lengths.append(np.linalg.norm(first, axis=1))
        return fit(first, second, **settings)

    monkeypatch.setattr(cca, "fit", recorded)
    model = Network("l3_net_ots", aligned=False)
    as_they_are = _table([model], search)
    assert np.ptp(lengths[0]) > 0.01 and len(lengths[0]) == NUM_TRAIN
    lengths.clear()
    few = dataclasses.replace(search, cca_max_clips=40, cca_unit_length=True)
    scaled = _table([model], few)
    np.testing.assert_allclose(np.concatenate(lengths), 1, rtol=1e-5)
    assert {len(each) for each in lengths} == {40}
    notes = [next(n for n in t.notes if n.startswith("CCA")) for t in (as_they_are, scaled)]
    said = "at most 50000 clips of split 'train' (the paper's has 263k)", "not before it"
    assert all(part in notes[0] for part in (*said, "chosen by labels", "on split 'val'"))
    assert "at most 40 clips" in notes[1] and "of length 1 before it, too" in notes[1]


def test_vgg16_sees_with_l3s_ears(search):
    vgg = Network(inputs=(constants.FRAME,), vgg16_weights="none")
    l3_net = Network("l3_net_ots", aligned=False)
    rows = _rows(_table([l3_net], search, vgg=vgg))
    assert rows["VGG16-ImageNet"].ours == pytest.approx({"im_im": 1.0})
    combined = rows["VGG16-ImageNet + L3-Audio CCA"]
    assert set(combined.ours) == set(retrieval.DIRECTIONS) and min(combined.ours.values()) > 0.85
    assert combined.details["cca_pairs"] == NUM_TRAIN
    assert vgg.wanted == {(saved_model.VISION, vgg16.LAST_HIDDEN)}
    assert _rows(_table([Network()], search, vgg=vgg))[combined.method].status == "not run"


def test_flow_comes_from_its_own_folder_of_the_same_clips(search, tmp_path):
    model = Network("ave_net_of", inputs=(constants.FRAME, constants.FLOW, *BOTH[1:]))
    with pytest.raises(UserError, match="give --flow_shards"):
        _table([model], search)
    made = [_clip(number, "test", flow=True) for number in reversed(range(NUM_TEST))]
    tiny_shards.write_shards(tmp_path / "flow", made, split="test")
    with_flow = dataclasses.replace(search, flow_shards=str(tmp_path / "flow"))
    table = _table([Network(), model], with_flow)
    assert _rows(table)["AVE+OF"].ours == pytest.approx(_rows(table)["AVE-Net"].ours)
    tiny_shards.write_shards(tmp_path / "fewer", made[1:], split="test")
    fewer = dataclasses.replace(search, flow_shards=str(tmp_path / "fewer"))
    with pytest.raises(UserError, match="such as test0123 are not in every folder"):
        _table([Network(), model], fewer)


def test_truth_takes_the_place_of_loose_labels(search):
    ids = [f"test{number:04d}" for number in [*range(NUM_TEST), 900]]
    seen = dict.fromkeys(ids, "Harp")
    heard = {**seen, "test0003": "Drill"}
    truth = {saved_model.VISION: seen, saved_model.AUDIO: heard}
    table = _table([Network()], search, truth=truth)
    assert table.rows[0].ours["im_im"] == pytest.approx(1, abs=0.01)  # nearly all are harps
    assert any("what is seen and what is heard" in note for note in table.notes)
    assert "125 test clips" in table.rows[0].data
    del seen["test0001"]
    with pytest.raises(UserError, match="--clips does not list the clip test0001"):
        _table([Network()], search, truth=truth)


def test_errors_are_one_line(search, tmp_path):
    with pytest.raises(UserError, match="nothing to search with"):
        _table([Network("avol_net")], search)
    unlabelled = [_clip(number, "test", labelled=False) for number in range(3)]
    tiny_shards.write_shards(tmp_path, unlabelled, split="test")
    with pytest.raises(UserError, match="0 of 3 clips of split 'test' in .* have labels"):
        _table([Network()], dataclasses.replace(search, shards=str(tmp_path)))
    with pytest.raises(UserError, match="'Harp' are not in the built-in"):
        _table([Network()], search, classes=ontology.Ontology({"Drill": ["Organ", "Flute"]}))


def test_entry_says_what_it_needs_and_writes_the_table(tmp_path, shards, monkeypatch):
    path = tmp_path / "clips.csv"
    with path.open("w", newline="") as file:
        rows = [[f"test{k:04d}", CLASSES[k % 4], CLASSES[k % 4]] for k in [*range(NUM_TEST), 900]]
        csv.writer(file).writerows([["example_id", "label", "heard_label"], *rows])
    monkeypatch.setattr(saved_model, "SavedModel", lambda folder: Network(name=str(folder)))
    table = LabelledConfig(shards=str(shards), clips=str(path), out_dir=str(tmp_path / "out"))
    search = retrieval.SearchConfig(str(shards), str(tmp_path))
    with pytest.raises(UserError, match="need --saved_models, and --shards"):
        retrieval.main(table, search, retrieval.Config())
    assert not (tmp_path / "out").exists()
    retrieval.main(table, search, retrieval.Config(saved_models=("ave",)))
    written = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    (row,) = [row for row in written["rows"] if row["method"] == "AVE-Net"]
    assert row["details"]["ndcg"] == row["ours"] and written["seed"] == 0
    assert written["flags"]["saved_models"] == ["ave"] and written["flags"]["split"] == "test"
    assert "OTS Table 1" in (tmp_path / "out" / "retrieval.md").read_text()
