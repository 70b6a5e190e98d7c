"""Configurations that tables share; their fields are flags of the tables' commands."""

import dataclasses

from l3net.errors import UserError
from l3net.flags import setting


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Network, data and output of the table."""

    saved_model: str | None = setting(
        None, "SavedModel of the trained network, as l3net.export writes it."
    )
    shards: str | None = setting(
        None,
        "Folder of shards that data_prep.write_shards made, or its address on object storage "
        "(s3://, gs://): the data of the table.",
    )
    out_dir: str = setting("runs/tables", "Folder for the table's .json and .md.")
    cache_dir: str = setting(
        "runs/cache", "Folder for features and results that need not be computed twice."
    )
    seed: int = setting(0, "Seed of everything that is drawn at random.", at_least=0)


@dataclasses.dataclass(frozen=True)
class LabelledConfig(TableConfig):
    """Network, data, its classes, and output of the table."""

    clips: str | None = setting(
        None,
        "CSV with columns example_id, label (the class that is seen) and heard_label, which count "
        "in place of the shards' labels; the demo data's clips.csv.",
    )


@dataclasses.dataclass(frozen=True)
class TrainedAndRandomConfig(LabelledConfig):
    """Trained and random network, data, its classes, and output of the table."""

    random_saved_model: str | None = setting(
        None, 'SavedModel of the same network with random weights: the row "Ours random".'
    )


@dataclasses.dataclass(frozen=True)
class FrozenNetworksConfig(TrainedAndRandomConfig):
    """Trained, random and further networks, data, its classes, and output of the table."""

    further_saved_models: tuple[str, ...] = setting(
        (),
        "SavedModels of further networks, separated by commas, for a row each: such as a network "
        "trained with labels, or on other data.",
    )


def positive_or_word(flag: str, text: str, word: str) -> float | None:
    """Reads a flag that is a positive number, or a word that leaves it open: None; or UserError."""
    if text == word:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise UserError(f'--{flag}={text}: need a positive number or "{word}"')
    return value
