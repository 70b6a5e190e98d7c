"""What a SavedModel's metadata says of it."""

import types

from eval.methods import networks
from l3net.data import avc_pairs


def _model(**metadata):
    return types.SimpleNamespace(metadata=metadata)


def test_kind_and_words_and_random_weights():
    model = _model(model_config={"model": "ave_net"}, trained_steps=50, trained_on="demo")
    assert networks.kind(model) == "ave_net"
    assert networks.in_words(model) == "ave_net, 50 steps, on demo"
    assert networks.in_words(model, width=True) == "ave_net, 50 steps, on demo"
    narrow = _model(model_config={"model": "l3_net", "width": 0.5}, trained_steps=0)
    assert networks.in_words(narrow) == "l3_net, 0 steps"
    assert networks.in_words(narrow, width=True) == "l3_net, width 0.5, 0 steps"
    assert networks.in_words(_model()) == "network, ? steps"
    openl3s = _model(model_config={"model": "openl3_x"}, trained_on="music", imported={})
    assert networks.in_words(openl3s) == "openl3_x, on music"
    for num_pairs, words in ((384, "batch norm of 384 pairs"), (0, "batch norm identity")):
        random = _model(trained_steps=0, random_batch_norm={"num_pairs": num_pairs})
        assert networks.in_words(random) == f"network, 0 steps, {words}"
    assert networks.is_random(_model(random_weights=True))
    assert not networks.is_random(_model(random_weights=False)) and not networks.is_random(_model())


def test_the_last_of_repeated_flags_counts():
    model = _model(run_flags=["--sampling=ots", "--seed=1", "--sampling=naive"])
    assert networks.training_flag(model, "sampling") == avc_pairs.NAIVE
    assert networks.training_flag(model, "samp") is None
