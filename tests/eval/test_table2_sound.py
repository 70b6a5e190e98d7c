import functools
import json
import pathlib

import numpy as np
import pytest
from absl.flags import IllegalFlagValueError

from eval import table2_sound
from eval.methods import baselines, features, linear_probe, piczak
from eval.reporting.table_config import FrozenNetworksConfig
from eval.table2_sound import Config
from l3net import flags
from l3net.errors import UserError
from tests import commands
from tests.tiny_networks import save_tiny_network
from tests.tiny_sets import write_esc50, write_sound_shards, write_spoken_digits, write_tone

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    metadata = {"model_config": {"model": "l3_net", "width": 0.25}, "trained_steps": 7}
    return {
        table2_sound.OURS_RANDOM: save_tiny_network(folder / "random", gain=0.5),
        table2_sound.OURS: save_tiny_network(folder / "ours", metadata=metadata),
    }


@pytest.fixture(autouse=True)
def small_forest(monkeypatch):
    monkeypatch.setattr(baselines, "NUM_TREES", 10)


def _table(sets, networks, cache_dir, **config):
    networks = {name: features.AudioNetwork(path) for name, path in networks.items()}
    return table2_sound.make_table(sets, Config(**config), exported=networks, cache_dir=cache_dir)


def _rows(table, name):
    return {row.method: row for row in table.rows if row.data.startswith(name)}


def _sets(**folders):
    return table2_sound.read_sets(Config(**folders))


def test_further_networks_have_a_row_behind_the_papers(tmp_path, networks):
    folder = write_esc50(tmp_path / "esc", categories=("dog", "rain"), seconds=4)
    own = {table2_sound.OURS: networks[table2_sound.OURS], "a": networks[table2_sound.OURS_RANDOM]}
    rows = _table(_sets(esc10=folder), own, tmp_path / "cache").rows
    of_set = [row for row in rows if row.data.startswith("ESC-10")]
    assert [row.method for row in of_set] == [*table2_sound.methods_of("ESC-10"), "a"]
    assert of_set[-1].status == "run" and not of_set[-1].paper and of_set[-1].errors


def test_esc_layout_end_to_end(tmp_path, networks):
    folder = write_esc50(tmp_path / "esc", categories=("dog", "rain", "sea"), seconds=4)
    table = _table(_sets(esc50=folder, esc10=folder), networks, tmp_path / "cache")
    for name, count in (("ESC-50", "15 of 2000"), ("ESC-10", "13 of 400")):
        rows = _rows(table, name)
        assert list(rows) == table2_sound.methods_of(name)
        assert rows["Ours"].data == f"{name} ({count} real recordings)"
        assert rows["Ours"].ours["accuracy"] > 90  # pure tones, one pitch per class
        assert rows["Ours"].status == rows[table2_sound.SVM].status == "run"
        assert 0 <= rows["Ours"].errors["accuracy"] < 10
    details = _rows(table, "ESC-50")["Ours"].details
    assert list(details["accuracy_per_part"]) == list("12345")
    assert sum(map(sum, details["confusion"])) == 15
    assert details["classes"] == ["dog", "rain", "sea"]
    assert (details["num_features"], details["num_subclips"]) == (16, 15 * 10)
    assert set(details["svm_c"]) <= set(linear_probe.C_GRID)
    assert details["saved_model"]["metadata"]["trained_steps"] == 7
    assert _rows(table, "ESC-50")["Ours"].note == "l3_net, width 0.25, 7 steps"
    assert _rows(table, "ESC-50")["SoundNet"].status == "quoted"
    assert {row.status for row in _rows(table, "DCASE").values()} == {"not run", "quoted"}
    assert any(note.startswith("±: standard error, over folds") for note in table.notes)


def test_the_papers_numbers_and_order():
    def paper(name):
        rows = table2_sound._ordered_rows(name, name, {})
        return {row.method: row.paper.get("accuracy") for row in rows}

    assert list(paper("ESC-50").values()) == [39.6, 39.9, 44.3, 64.5, 74.2, 62.5, 79.3, 81.3]
    assert paper("ESC-10") == {
        "SVM-MFCC": 67.5, "Random Forest": 72.7, "Piczak ConvNet": 78.5, "Human perf.": 95.7,
        "Ours random": None, "Ours": None,
    }  # fmt: skip
    dcase = paper("DCASE 2013")
    assert list(dcase.values()) == [None, None, 69, 72, 77, 78, 88, 85, 93]
    assert list(dcase)[:2] == ["SVM-MFCC", "Random Forest"] and list(dcase)[-1] == "Ours"
    assert set(paper("demo data").values()) == {None}


def test_a_16_khz_copy_has_the_papers_number_and_says_so(tmp_path):
    folder = write_esc50(tmp_path / "esc")
    for path in (folder / "audio").iterdir():
        write_tone(path, rate_hz=16_000)
    rows = _rows(_table(_sets(esc50=folder), {}, tmp_path / "cache"), "ESC-50, 16 kHz copy")
    assert rows["SVM-MFCC"].paper == {"accuracy": 39.6} and rows["SVM-MFCC"].status == "run"


def test_errors_are_over_folds_or_binomial(tmp_path):
    def error(data, predictions):
        run = functools.partial(table2_sound._summary, data, np.array(predictions))
        row = table2_sound._measured(data, "Ours", [data.name], tmp_path / "cache", run)
        return row.errors["accuracy"]

    esc = _sets(esc50=write_esc50(tmp_path / "esc"))[0]
    predictions = esc.labels.copy()
    predictions[0] = 1 - predictions[0]  # 50 % in one fold, 100 % in four
    assert error(esc, predictions) == pytest.approx(10)
    shards = _sets(shards=write_sound_shards(tmp_path / "demo"))[0]
    predictions = shards.labels.copy()
    predictions[-1] = 1 - predictions[-1]  # three of four
    assert error(shards, predictions) == pytest.approx(100 * (0.75 * 0.25 / 4) ** 0.5)
    assert "binomial" in table2_sound._notes(None, [shards])[1]


def test_spoken_digits_of_a_new_speaker(tmp_path, networks):
    sets = _sets(spoken_digits=write_spoken_digits(tmp_path / "recordings"))
    rows = _rows(_table(sets, networks, tmp_path / "cache"), "spoken digits")
    ran = {method: row for method, row in rows.items() if row.status == "run"}
    assert set(ran) == {"Ours", "Ours random", table2_sound.SVM, table2_sound.FOREST}
    for row in ran.values():
        assert row.data == "spoken digits (18 of 3000 real recordings), speaker zoe held out"
        assert row.details["num_tested"] == 6 and not row.paper
        share = row.ours["accuracy"] / 100
        assert row.errors["accuracy"] == pytest.approx(100 * (share * (1 - share) / 6) ** 0.5)
    assert ran[table2_sound.SVM].ours["accuracy"] == 100


def test_dcase_layout_and_no_networks(tmp_path):
    for name, hz in (("bus", 300), ("tube", 900)):
        for number in ("01", "02"):
            for folder in ("scenes_stereo", "scenes_stereo_testset"):
                write_tone(tmp_path / folder / f"{name}{number}.wav", hz=hz, channels=2)
    rows = _rows(_table(_sets(dcase2013=tmp_path), {}, tmp_path / "cache"), "DCASE")
    assert rows["Ours"].status == "not run"
    assert rows["Ours"].paper == {"accuracy": 93.0}
    assert rows[table2_sound.SVM].ours["accuracy"] == 100
    assert rows[table2_sound.SVM].paper == {}


def test_demo_rows_say_so_and_the_real_ones_are_not_run(tmp_path, networks):
    sets = _sets(shards=write_sound_shards(tmp_path / "demo"))
    table = _table(sets, networks, tmp_path / "cache", svm_c="0.01")
    ran = [row for row in table.rows if row.ours]
    assert {row.data for row in ran} == {"demo data (synthetic)"}
    assert {row.method for row in ran} == {"Ours", "Ours random", "SVM-MFCC", "Random Forest"}
    assert not any(row.paper for row in ran)
    assert any("synthetic" in note for note in table.notes)
    assert {row.status for row in table.rows if not row.ours} == {"not run", "quoted"}


def test_piczak_is_run_when_asked_and_says_what_was_trained(tmp_path, monkeypatch):
    sets = _sets(shards=write_sound_shards(tmp_path / "demo"))
    recipe = piczak.Recipe(learning_rate=0.005, width=0.05, batch_size=10)
    monkeypatch.setitem(piczak.RECIPES, "small", recipe)
    given = (sets, {}, tmp_path / "cache")
    rows = _rows(_table(*given, piczak="small", piczak_epochs=20), "demo")
    row = rows[piczak.METHOD]
    assert row.ours["accuracy"] == 100 and "not the paper's recipe" in row.note
    assert row.details["recipe"] == {
        "segments": "short", "vote": "probability", "learning_rate": 0.005, "epochs": 20,
        "width": 0.05, "batch_size": 10,
    }  # fmt: skip
    assert row.details["num_tested"] == 4
    without = _rows(_table(*given), "demo")[piczak.METHOD]
    assert without.status == "not run" and without.note == "give --piczak=small or --piczak=paper"


def test_flags_of_classifiers_and_data(tmp_path):
    assert table2_sound._recipe(Config()) is None
    assert table2_sound._recipe(Config(piczak="paper")).is_published
    recipe = table2_sound._recipe(Config(piczak="small", piczak_epochs=3))
    assert (recipe.epochs, recipe.width) == (3, 0.25)
    for flag in ("--piczak=large", "--piczak_epochs=0"):
        with pytest.raises(IllegalFlagValueError):
            flags.parse([flag], FrozenNetworksConfig, Config)
    with pytest.raises(UserError, match="nothing to classify: give --esc50") as error:
        _sets()
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match='--svm_c=0: need a positive number or "cv"'):
        table2_sound.main(FrozenNetworksConfig(), Config(svm_c="0"))
    with pytest.raises(UserError, match="^the ESC-50 folder"):
        table2_sound.main(FrozenNetworksConfig(), Config(esc50=str(tmp_path / "none")))


def test_second_run_computes_nothing(tmp_path, networks, monkeypatch):
    sets = _sets(esc50=write_esc50(tmp_path / "esc"), shards=tmp_path / "left out")
    assert [each.name for each in sets] == ["ESC-50"]
    first = _table(sets, networks, tmp_path / "cache")
    monkeypatch.setattr(features, "extract", None)
    monkeypatch.setattr(baselines, "extract", None)
    assert _table(sets, networks, tmp_path / "cache").rows == first.rows
    with pytest.raises(TypeError):  # another C is another result
        _table(sets, networks, tmp_path / "cache", svm_c="0.5")


def test_command_line(tmp_path):
    demo = write_sound_shards(tmp_path / "demo")
    command = ["-m", "eval.table2_sound", f"--shards={demo}"]
    command += [f"--out_dir={tmp_path / 'out'}", f"--cache_dir={tmp_path / 'cache'}"]
    done = commands.run(*command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "demo data (synthetic)" in done.stdout
    record = json.loads((tmp_path / "out" / "table2.json").read_text())
    assert record["flags"]["shards"] == str(demo)
    assert record["flags"]["svm_c"] == "cv"
    assert list(record["flags"]) == sorted(record["flags"]) and record["seconds"] > 0
    assert (tmp_path / "out" / "table2.md").read_text() == done.stdout
