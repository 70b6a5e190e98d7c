import dataclasses
import logging

import numpy as np
import pytest
import tensorflow as tf

from l3net import models
from l3net.errors import UserError
from l3net.training import checkpoint_files, checkpoints
from tests.tiny_training import MODEL


def test_no_run_or_no_checkpoint_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="holds no model.json"):
        checkpoints.load_model(tmp_path)
    checkpoints.save_model_config(tmp_path, MODEL)
    for which in ("last", "best"):
        with pytest.raises(UserError, match="holds no checkpoint"):
            checkpoints.load_model(tmp_path, which)
    with pytest.raises(UserError, match="got checkpoint 'first'; need one of last, best"):
        checkpoints.load_model(tmp_path, "first")


def _keep(folder, config, *, seed, which="last", step=7):
    """Keeps a network with random weights as a run's checkpoint; returns its model."""
    checkpoints.save_model_config(folder, config)
    model = models.build_model(config, seed=seed)
    name = {"last": checkpoints.CHECKPOINTS, "best": checkpoints.BEST}[which]
    checkpoint_files.write(tf.train.Checkpoint(model=model), folder / name, step)
    return model


def _same(a, b) -> bool:
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_best_and_last(tmp_path):
    last = _keep(tmp_path, MODEL, seed=1, step=9)
    loaded, config, step = checkpoints.load_model(tmp_path, "best")  # there is none
    assert _same(loaded, last) and config == MODEL and step == 9
    best = _keep(tmp_path, MODEL, seed=2, which="best", step=5)
    loaded, _, step = checkpoints.load_model(tmp_path, "best")
    assert _same(loaded, best) and step == 5
    assert _same(checkpoints.load_model(tmp_path)[0], last)


@pytest.mark.parametrize("changes", [{"width": 0.125}, {"model": "ave_net"}])
def test_a_checkpoint_of_another_network_is_one_line_and_leaves_no_weight_random(tmp_path, changes):
    _keep(tmp_path, MODEL, seed=1)
    checkpoints.save_model_config(tmp_path, dataclasses.replace(MODEL, **changes))
    with pytest.raises(UserError, match="ckpt-7 does not fit this network") as caught:
        checkpoints.load_model(tmp_path)
    assert "\n" not in str(caught.value)


def _classifier(modality: str, **changes):
    return dataclasses.replace(
        MODEL, model=f"supervised_{modality}", num_classes=3, conv1_1_stride=2, **changes
    )


def test_two_classifiers_give_their_trunks(tmp_path, caplog):
    """Supervised pretraining (L3 §3.2): vision from one run, audio from another, the rest stays."""
    runs = [tmp_path / "vision", tmp_path / "audio"]
    sources = {
        run.name: _keep(run, _classifier(run.name), seed=k, which="best").get_layer(run.name)
        for k, run in enumerate(runs, 1)
    }
    config = dataclasses.replace(MODEL, model="supervised_pretraining", conv1_1_stride=2)
    model, untouched = models.build_model(config, seed=3), models.build_model(config, seed=3)
    with caplog.at_level(logging.INFO, "l3net.training.checkpoints"):
        checkpoints.initialize_from(model, [str(run) for run in runs])
    for modality, source in sources.items():
        for name in ("conv1_1", "conv4_2", "conv4_2_batch_norm"):
            given = source.get_layer(name).get_weights()
            got = model.get_layer(modality).get_layer(name).get_weights()
            assert len(given) == len(got) > 0
            for a, b in zip(given, got, strict=True):
                np.testing.assert_array_equal(a, b)
    for name in ("fc1", "fc2"):
        kept = model.get_layer(name).get_weights()
        np.testing.assert_array_equal(kept[0], untouched.get_layer(name).get_weights()[0])
    # Per trunk 8 layers, each a kernel and batch norm's four.
    assert "40 variables from" in caplog.text and "step 7: vision" in caplog.text
    assert "4 variables stay random: fc1, fc2" in caplog.text


def test_what_does_not_fit_is_refused(tmp_path):
    _keep(tmp_path / "wide", dataclasses.replace(MODEL, width=0.125), seed=0)
    with pytest.raises(UserError, match=r"vision/conv1_1/kernel is \(3, 3, 3, 8\) there and \(3,"):
        checkpoints.initialize_from(models.build_model(MODEL), [str(tmp_path / "wide")])
    _keep(tmp_path / "audio", _classifier("audio"), seed=0)
    with pytest.raises(UserError, match=r"no layer there has the name of one here.*\(vision\)"):
        checkpoints.initialize_from(
            models.build_model(_classifier("vision")), [str(tmp_path / "audio")]
        )
