"""What a trainer makes of its configuration; its steps are tested in test_training.py."""

import numpy as np
import pytest

from l3net.training.step import TrainingConfig
from tests import tiny_training


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_training.make_shards(tmp_path_factory.mktemp("shards"))  # 8 training clips


@pytest.mark.parametrize(
    ("pairs_per_epoch", "steps_per_epoch"),
    [(0, 2), (32, 8)],  # batches of 4: as many pairs as clips, or as many as asked for
)
def test_an_epoch_is_as_many_pairs_as_clips_or_as_asked_for(
    shards, pairs_per_epoch, steps_per_epoch
):
    config = {"learning_rate": 1.0, "pairs_per_epoch": pairs_per_epoch}
    rate = tiny_training.make_trainer(shards, config=config, batch_size=4).learning_rate
    first = 16 * steps_per_epoch  # the papers' 16 epochs, then 6 % less
    rates = [float(rate(step)) for step in (0, first - 1, first, 2 * first - 1, 2 * first)]
    np.testing.assert_allclose(rates, [1, 1, 0.94, 0.94, 0.94**2], rtol=1e-6)


def test_defaults_are_the_papers():
    config = TrainingConfig("shards")
    assert (config.learning_rate, config.weight_decay) == (1e-4, 1e-5)
    assert (config.learning_rate_decay, config.epochs_per_decay) == (0.94, 16)
    assert (config.pairs_per_epoch, config.warmup_steps, config.accumulation_steps) == (0, 0, 1)
