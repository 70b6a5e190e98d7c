import json
import pathlib
import types

import pytest
from absl.flags import IllegalFlagValueError

from eval import table3_imagenet
from eval.methods import from_scratch, linear_layer
from eval.methods.networks import by_method
from eval.reporting import tables
from eval.reporting.table_config import FrozenNetworksConfig
from eval.sets import image_sets
from eval.table3_imagenet import Images, Settings
from l3net import flags
from l3net.errors import UserError
from l3net.inference.image_classifier import ModelConfig
from tests import commands
from tests.tiny_networks import save_tiny_vision
from tests.tiny_sets import write_image_shards, write_imagenet

ROOT = pathlib.Path(__file__).parents[2]
OURS, OURS_RANDOM = table3_imagenet.OURS, table3_imagenet.OURS_RANDOM
FROM_SCRATCH = table3_imagenet.FROM_SCRATCH


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    config = {"model": "l3_net", "width": 0.25}
    ours = {"model_config": config, "trained_steps": 7, "trained_on": "demo"}
    return {
        OURS_RANDOM: save_tiny_vision(folder / "random", gain=0.0),
        OURS: save_tiny_vision(folder / "ours", **ours),
    }


@pytest.fixture(scope="module")
def networks(paths):
    return {name: linear_layer.VisionNetwork(path) for name, path in paths.items()}


def _settings(**changes):
    sizes = {"image_px": 16, "epochs": 20, "batch_size": 4, "seeds": 2}
    rates = {"learning_rate": "0.02", "scratch_learning_rate": 0.01}
    return Settings(**{"augmentation": "none", **sizes, **rates, **changes})


def _table(images, frozen, cache_dir, scratch=None, **changes):
    return table3_imagenet.make_table(
        images, frozen=frozen, settings=_settings(**changes), cache_dir=cache_dir, scratch=scratch
    )


@pytest.fixture
def demo(tmp_path):
    return image_sets.read_shards(write_image_shards(tmp_path / "demo"))


def test_demo_rows_say_so_and_the_papers_are_not_run(demo, networks, tmp_path):
    table = _table(demo, networks, tmp_path / "cache")
    random, ours = table.rows[:2]
    assert random.method == OURS_RANDOM and ours.method == OURS
    assert ours.data.startswith("demo data (synthetic)") and not ours.paper
    assert ours.ours["accuracy"] == 100
    assert random.errors["accuracy"] == pytest.approx(100 * (0.25 / len(demo.val)) ** 0.5)
    assert random.ours["accuracy"] == 50  # a blind network guesses one of two classes
    assert [row.method for row in table.rows[2:]] == table3_imagenet.ROWS
    assert {row.status for row in table.rows[2:]} == {tables.NOT_RUN, tables.QUOTED}
    assert not any(row.ours for row in table.rows[2:])
    assert any("synthetic" in note for note in table.notes)
    assert "unlike the paper" in table.notes[1]
    assert ours.note == "l3_net, 7 steps, on demo, width 0.25, 16 px images, learning rate 0.02"
    assert list(ours.details["per_seed"]) == ["0", "1"] and ours.details["num_classes"] == 2
    assert ours.details["saved_model"]["metadata"]["trained_steps"] == 7


def test_imagenet_numbers_stand_beside_the_papers(networks, tmp_path, monkeypatch):
    write_imagenet(tmp_path / "imagenet")
    part = image_sets.read_imagenet(tmp_path / "imagenet")
    table = _table(part, networks, tmp_path / "cache")
    assert table.rows[1].ours["accuracy"] == 100 and not table.rows[1].paper
    assert table.rows[1].errors == {"accuracy": 0}
    assert table.rows[1].data.startswith("part of ImageNet (3 of 1000 classes")
    for name, value in (("CLASSES", 3), ("TRAIN", 15), ("VAL", 6)):
        monkeypatch.setattr(image_sets, f"IMAGENET_{name}", value)
    whole = image_sets.read_imagenet(tmp_path / "imagenet")
    given = {**networks, "another": networks[OURS]}
    first, *others = _table(whole, given, tmp_path / "cache").rows
    assert first.method == "another" and first.ours["accuracy"] == 100  # before the paper's
    rows = {row.method: row for row in others}
    assert list(rows) == table3_imagenet.ROWS
    assert rows[OURS].paper == {"accuracy": 32.3} and rows[OURS].ours["accuracy"] == 100
    assert rows[OURS].data == "ImageNet"
    assert rows["Zhang et al."].status == tables.QUOTED
    assert rows[FROM_SCRATCH].status == tables.NOT_RUN


def test_further_networks_have_a_row_each(demo, tmp_path):
    about = (
        {"model_config": {"model": "supervised_vision"}, "trained_on": "demo"},
        {"random_weights": True, "random_batch_norm": {"data": "demo", "num_pairs": 384}},
        {"random_weights": True},
    )
    paths = [
        str(save_tiny_vision(tmp_path / f"{number}", **metadata))
        for number, metadata in enumerate(about)
    ]
    further = by_method([linear_layer.VisionNetwork(path) for path in paths])
    names = ["supervised_vision trained on demo", "network untrained, batch norm of demo"]
    names += ["network untrained, batch norm identity"]
    assert list(further) == names
    rows = _table(demo, {OURS: further[names[0]], **further}, tmp_path / "cache", seeds=1).rows
    assert [row.method for row in rows[:4]] == [OURS, *names]
    assert all(row.status == tables.RUN and not row.paper for row in rows[:4])
    with pytest.raises(UserError, match="2 networks make the rows supervised_vision trained"):
        by_method([further[names[0]]] * 2)


def test_default_size_and_inception(demo, networks, tmp_path):
    given = (demo, {OURS: networks[OURS]}, tmp_path / "cache")
    changes = {"augmentation": "inception", "image_px": None, "learning_rate": "0.1"}
    row = _table(*given, **changes, epochs=6, seeds=1).rows[0]
    assert row.details["training"]["image_px"] == 64
    assert row.ours["accuracy"] == 100


def test_rate_is_chosen_once_for_all_seeds(demo, networks, tmp_path, monkeypatch):
    calls, choose = [], linear_layer.choose_rate

    def recorded(setup, split, seed):
        calls.append(seed)
        return choose(setup, split, seed)

    monkeypatch.setattr(linear_layer, "choose_rate", recorded)
    given = (demo, {OURS: networks[OURS]}, tmp_path / "cache")
    row = _table(*given, learning_rate="choose", epochs=2).rows[0]
    assert calls == [0]
    choice = row.details["learning_rate_choice"]
    assert list(choice) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert choice[f"{row.details['learning_rate']:g}"] == max(choice.values())


def test_second_run_computes_nothing(demo, networks, tmp_path, monkeypatch):
    given = (demo, networks, tmp_path / "cache")
    first = _table(*given, epochs=2)
    monkeypatch.setattr(linear_layer, "train", None)
    assert _table(*given, epochs=2).rows == first.rows
    with pytest.raises(TypeError):  # another rate is another result
        _table(*given, epochs=2, learning_rate="0.5")


def test_from_scratch_when_asked(demo, tmp_path, monkeypatch):
    rows = _table(demo, {}, tmp_path / "cache").rows  # nothing is asked for
    assert [row.method for row in rows] == table3_imagenet.ROWS
    assert [row.status for row in rows[-3:]] == [tables.NOT_RUN] * 3
    assert rows[-1].paper == {"accuracy": 59.2} and "--from_scratch" in rows[-1].note
    given = (demo, {}, tmp_path / "cache", ModelConfig(width=1 / 32))
    settings = {"image_px": 32, "epochs": 2, "scratch_epochs": 6, "seeds": 1}
    row, *others = _table(*given, **settings).rows
    assert row.method == FROM_SCRATCH and row.data.startswith("demo data (synthetic)")
    assert row.ours["accuracy"] == 100
    assert row.note == "l3_net, width 0.03125, 6 epochs, 32 px images, learning rate 0.01"
    assert [other.method for other in others] == table3_imagenet.ROWS
    monkeypatch.setattr(from_scratch, "train", None)
    assert _table(*given, **settings).rows[0] == row
    with pytest.raises(TypeError):  # another rate is another result
        _table(*given, **settings, scratch_learning_rate=0.1)


def test_from_scratch_is_like_the_network_it_is_compared_with():
    paper = table3_imagenet._like(None)
    assert (paper.model, paper.stride, paper.width, paper.frame_px) == ("l3_net", 1, 1.0, 224)
    given = {"model": "l3_net_ots", "width": 0.25, "frame_px": 112}
    like = table3_imagenet._like(types.SimpleNamespace(metadata={"model_config": given}))
    openl3s = {"model_config": {"model": "openl3_image_mel256_music"}, "imported": {}}
    assert table3_imagenet._like(types.SimpleNamespace(metadata=openl3s)) == paper
    assert (like.stride, like.width, like.frame_px) == (2, 0.25, 112)


def test_bad_training_and_no_data_are_refused():
    for flag in ("--augmentation=x", "--epochs=0", "--image_px=0", "--batch_size=0"):
        with pytest.raises(IllegalFlagValueError):
            flags.parse([flag], FrozenNetworksConfig, Images, Settings)
    with pytest.raises(UserError, match='--learning_rate=-1: need a positive number or "choose"'):
        table3_imagenet.main(FrozenNetworksConfig(), Images(), Settings(learning_rate="-1"))
    with pytest.raises(UserError, match="nothing to classify: give --imagenet") as error:
        table3_imagenet.read_images(Images())
    assert "\n" not in str(error.value)


def test_command_line(tmp_path, paths):
    demo = write_image_shards(tmp_path / "demo")
    command = ["-m", "eval.table3_imagenet", f"--shards={demo}", f"--saved_model={paths[OURS]}"]
    command += ["--augmentation=none", "--epochs=20", "--batch_size=4", "--learning_rate=0.02"]
    command += [f"--out_dir={tmp_path / 'out'}", f"--cache_dir={tmp_path / 'cache'}"]
    done = commands.run(*command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "table3.json").read_text())
    assert record["rows"][0]["ours"]["accuracy"] == 100
    assert record["flags"]["learning_rate"] == "0.02"
    assert (tmp_path / "out" / "table3.md").read_text() == done.stdout
