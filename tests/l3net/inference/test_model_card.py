import ast
import re

import pytest

from l3net import models
from l3net.errors import UserError
from l3net.inference import model_card

METADATA = {
    "model_config": {"model": "ave_net", "width": 0.25, "spectrogram_average": 2},
    "frame_px": 112,
    "feature_sizes": {
        "audio": {"pool4": 128, "embedding": 128},
        "vision": {"pool4": 128},
        "avc": {},
    },
    "num_parameters": 1_234_567,
    "random_weights": False,
    "trained_on": "av_digits",
    "trained_steps": 4000,
    "training": {
        "best": {"step": 3000, "accuracy": 0.8765},
        "last": {"train_loss": 0.41234, "val_accuracy": 0.8612, "val_pairs": 2000},
    },
}


def front_matter(card: str) -> dict[str, str]:
    start, text, _ = card.split("---\n", 2)
    assert start == ""
    return dict(line.split(": ", 1) for line in text.splitlines())


def code(card: str) -> list[str]:
    (found,) = re.findall(r"```python\n(.*?)```", card, re.S)
    ast.parse(found)
    return found.splitlines()


def test_front_matter_names_licence_library_and_tags():
    card = model_card.model_card({**METADATA, "license": "cc-by-4.0"})
    assert front_matter(card) == {
        "license": "cc-by-4.0",
        "library_name": "l3net",
        "pipeline_tag": "feature-extraction",
        "tags": "[audio-visual, self-supervised, audio, vision]",
    }
    assert front_matter(model_card.model_card(METADATA))["license"] == "unknown"


def test_the_card_says_what_was_learnt_from_what_and_how_well():
    card = model_card.model_card(METADATA)
    assert "# AVE-Net\n" in card and "Objects that Sound" in card
    assert "Signatures: `audio`, `vision`, `avc`." in card
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card, re.M))
    assert rows["Trained on"] == "av_digits, 4,000 steps" and rows["Parameters"] == "1,234,567"
    assert rows["Best validation accuracy (step 3,000)"] == "0.876"
    assert rows["Last train_loss"] == "0.412" and rows["Last val_accuracy"] == "0.861"
    assert rows["Features of `audio`"] == "pool4 128, embedding 128"
    assert not any("pairs" in row for row in rows)


def test_six_lines_of_use_that_load_it_by_its_name():
    for signatures, function in (({"audio": {}}, "audio"), ({"vision": {}}, "image")):
        lines = code(model_card.model_card({**METADATA, "feature_sizes": signatures}, "me/mine"))
        assert len(lines) == 6 and 'l3net.SavedModel.from_pretrained("me/mine")' in lines[3]
        assert f"get_{function}_embedding" in lines[5]


def test_random_weights_unknown_networks_and_runs_without_a_summary():
    random = model_card.model_card({**METADATA, "random_weights": True, "training": None})
    assert "nothing: random weights" in random and "accuracy" not in random
    imported = {"imported": {"from": "https://example.org"}}
    bare = model_card.model_card({"model_config": {"model": "x"}, "frame_px": 224, **imported})
    assert "# x\n\nFrom https://example.org, as" in bare and "| Trained on | not recorded |" in bare
    assert "# A network\n" in model_card.model_card({"frame_px": 224})


@pytest.mark.parametrize("model", list(models.MODELS))
def test_every_network_has_its_name(model):
    card = model_card.model_card({**METADATA, "model_config": {"model": model}})
    assert f"# {model}\n" not in card and "\nFrom " in card


@pytest.mark.parametrize("identifier", ["", "CC BY 4.0", "mit\nlibrary_name: x", "a: b"])
def test_what_is_no_identifier_of_a_licence_is_refused(identifier):
    with pytest.raises(UserError, match="apache-2.0, cc-by-4.0"):
        model_card.check_license(identifier)
