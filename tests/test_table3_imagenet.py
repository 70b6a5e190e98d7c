import json
import pathlib
import subprocess
import sys

import pytest

from eval import image_sets, linear_layer, report, table3_imagenet
from l3net.errors import UserError
from tests.test_image_sets import write_imagenet, write_shards
from tests.test_linear_layer import save_tiny_vision

ROOT = pathlib.Path(__file__).parents[1]
OURS, OURS_RANDOM = table3_imagenet.OURS, table3_imagenet.OURS_RANDOM


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    ours = {"model": "l3_net", "width": 0.25, "trained_steps": 7, "trained_on": "demo"}
    return {
        OURS_RANDOM: save_tiny_vision(folder / "random", gain=0.0),
        OURS: save_tiny_vision(folder / "ours", **ours),
    }


@pytest.fixture(scope="module")
def networks(paths):
    return {name: linear_layer.VisionNetwork(path) for name, path in paths.items()}


def _settings(**changes):
    values = {
        "augmentation": "none",
        "image_px": 16,
        "num_epochs": 20,
        "batch_size": 4,
        "learning_rate": 0.02,
        "seeds": (0, 1),
    }
    return table3_imagenet.Settings(**{**values, **changes})


def _table(images, networks, cache_dir, **changes):
    return table3_imagenet.make_table(
        images, networks=networks, settings=_settings(**changes), cache_dir=cache_dir
    )


@pytest.fixture
def demo(tmp_path):
    return image_sets.read_shards(write_shards(tmp_path / "demo"))


def test_demo_rows_say_so_and_the_papers_are_not_run(demo, networks, tmp_path):
    table = _table(demo, networks, tmp_path / "cache")
    random, ours = table.rows[:2]
    assert random.method == OURS_RANDOM and ours.method == OURS
    assert ours.data.startswith("demo data (synthetic)") and not ours.paper
    assert ours.ours["accuracy"] == 100
    assert random.ours["accuracy"] == 50  # a blind network guesses one of two classes
    assert [row.method for row in table.rows[2:]] == list(table3_imagenet.PAPER)
    assert {row.status for row in table.rows[2:]} == {report.NOT_RUN, report.QUOTED}
    assert not any(row.ours for row in table.rows[2:])
    assert any("synthetic" in note for note in table.notes)
    assert "unlike the paper" in table.notes[1]


def test_details_and_note(demo, networks, tmp_path):
    row = _table(demo, networks, tmp_path / "cache").rows[1]
    assert row.note == "l3_net, width 0.25, 7 steps, on demo, 16 px images, learning rate 0.02"
    assert list(row.details["per_seed"]) == ["0", "1"]
    assert row.details["num_classes"] == 2
    assert row.details["saved_model"]["metadata"]["model"] == "l3_net"


def test_imagenet_numbers_stand_beside_the_papers(networks, tmp_path, monkeypatch):
    write_imagenet(tmp_path / "imagenet")
    part = image_sets.read_imagenet(tmp_path / "imagenet")
    table = _table(part, networks, tmp_path / "cache")
    assert table.rows[1].ours["accuracy"] == 100 and not table.rows[1].paper
    assert table.rows[1].data.startswith("part of ImageNet (3 of 1000 classes")
    for name, value in (("CLASSES", 3), ("TRAIN", 15), ("VAL", 6)):
        monkeypatch.setattr(image_sets, f"IMAGENET_{name}", value)
    whole = image_sets.read_imagenet(tmp_path / "imagenet")
    rows = {row.method: row for row in _table(whole, networks, tmp_path / "cache").rows}
    assert list(rows) == list(table3_imagenet.PAPER)
    assert rows[OURS].paper == {"accuracy": 32.3} and rows[OURS].ours["accuracy"] == 100
    assert rows[OURS].data == "ImageNet"
    assert rows["Zhang et al."].status == report.QUOTED
    assert rows[table3_imagenet.FROM_SCRATCH].status == report.NOT_RUN


def test_default_size_and_inception(demo, networks, tmp_path):
    rows = _table(
        demo,
        {OURS: networks[OURS]},
        tmp_path / "cache",
        augmentation="inception",
        image_px=None,
        seeds=(0,),
    ).rows
    assert rows[0].details["training"]["image_px"] == 64
    assert rows[0].ours["accuracy"] == 100


def test_rate_is_chosen_once_for_all_seeds(demo, networks, tmp_path, monkeypatch):
    calls = []
    choose = linear_layer.choose_rate

    def recorded(*args, **kwargs):
        calls.append(kwargs["seed"])
        return choose(*args, **kwargs)

    monkeypatch.setattr(linear_layer, "choose_rate", recorded)
    given = (demo, {OURS: networks[OURS]}, tmp_path / "cache")
    row = _table(*given, learning_rate=None).rows[0]
    assert calls == [0]
    choice = row.details["learning_rate_choice"]
    assert list(choice) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert choice[f"{row.details['learning_rate']:g}"] == max(choice.values())


def test_second_run_computes_nothing(demo, networks, tmp_path, monkeypatch):
    first = _table(demo, networks, tmp_path / "cache")
    monkeypatch.setattr(linear_layer, "train", None)
    assert _table(demo, networks, tmp_path / "cache").rows == first.rows
    with pytest.raises(TypeError):  # another rate is another result
        _table(demo, networks, tmp_path / "cache", learning_rate=0.5)


def test_no_network_is_not_run(demo, tmp_path):
    rows = _table(demo, {}, tmp_path / "cache").rows
    assert [row.method for row in rows] == list(table3_imagenet.PAPER)
    assert rows[-2].status == report.NOT_RUN


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "large"])
def test_bad_rate(text):
    with pytest.raises(UserError, match="need a positive number"):
        table3_imagenet.parse_rate(text)


def test_good_rate():
    assert table3_imagenet.parse_rate("choose") is None
    assert table3_imagenet.parse_rate("1e-3") == 0.001


def _run(*arguments):
    command = [sys.executable, "-m", "eval.table3_imagenet", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_command_line(tmp_path, paths):
    demo = write_shards(tmp_path / "demo")
    done = _run(
        f"--demo_shards={demo}",
        f"--saved_model={paths[OURS]}",
        "--augmentation=none",
        "--epochs=20",
        "--batch_size=4",
        "--learning_rate=0.02",
        f"--out_dir={tmp_path / 'out'}",
        f"--cache_dir={tmp_path / 'cache'}",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "table3.json").read_text())
    assert record["rows"][0]["ours"]["accuracy"] == 100
    assert record["flags"]["learning_rate"] == "0.02"
    assert (tmp_path / "out" / "table3.md").read_text() == done.stdout


def test_command_line_without_data_is_one_line():
    done = _run()
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: nothing to classify: give")
    assert "Traceback" not in done.stderr
