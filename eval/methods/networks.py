"""Exported networks: their SavedModels, and which of the papers' they are, by their metadata."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from eval.reporting import cache
from eval.reporting.table_config import FrozenNetworksConfig
from l3net.errors import UserError
from l3net.files import sha256_of
from l3net.inference import saved_model


class ExportedNetwork:
    """A SavedModel of which a table needs one half, loaded on first use.

    Attributes:
        path: folder of the SavedModel.
        metadata: what the exporter wrote about it (model_config, trained_steps, trained_on ...).
    """

    def __init__(self, path: str | pathlib.Path):
        """Reads the metadata.

        Raises:
            UserError: if there is no SavedModel that l3net.export wrote.
        """
        self.path = pathlib.Path(path)
        self.metadata = saved_model.read_metadata(path)

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 over the graph and its variables; the metadata does not count."""
        files = [self.path / "saved_model.pb"]
        for folder in ("variables", "assets"):
            files += sorted(p for p in (self.path / folder).rglob("*") if p.is_file())
        return cache.key_of([[p.relative_to(self.path).as_posix(), sha256_of(p)] for p in files])

    @functools.cached_property
    def loaded(self) -> saved_model.SavedModel:
        """The SavedModel, loaded on first use; UserError if it is damaged."""
        return saved_model.SavedModel(self.path)


Exported = TypeVar("Exported", bound=ExportedNetwork)


def kind(model: saved_model.SavedModel | ExportedNetwork) -> str:
    """Returns the name under which `l3net.train` knows the network, such as "ave_net"."""
    return str(model.metadata.get("model_config", {}).get("model", "network"))


def training_flag(model: saved_model.SavedModel, name: str) -> str | None:
    """Returns the value of a flag of its training run, None if the SavedModel does not say."""
    start = f"--{name}="
    values = [line for line in model.metadata.get("run_flags", []) if line.startswith(start)]
    return values[-1].removeprefix(start) if values else None


def is_random(model: saved_model.SavedModel | ExportedNetwork) -> bool:
    """Returns whether the network was never trained."""
    return bool(model.metadata.get("random_weights"))


def method_of(network: ExportedNetwork) -> str:
    """Returns the method of a further network's row, such as "l3_net_ots trained on demo"."""
    name, trained_on = kind(network), network.metadata.get("trained_on")
    if not is_random(network):
        return f"{name} trained on {trained_on or 'unknown data'}"
    statistics = (network.metadata.get("random_batch_norm") or {}).get("data")
    return f"{name} untrained, batch norm " + (f"of {statistics}" if statistics else "identity")


def by_method(further: Sequence[Exported]) -> dict[str, Exported]:
    """Returns --further_saved_models by `method_of`; UserError if two would have the same row."""
    found = {method_of(network): network for network in further}
    if len(found) < len(further):
        raise UserError(
            f"--further_saved_models: {len(further)} networks make the rows {', '.join(found)}; "
            "run the command once for each of those that are alike"
        )
    return found


def of_table(
    config: FrozenNetworksConfig, rows: tuple[str, str], load: Callable[[str], Exported]
) -> dict[str, Exported]:
    """Returns a table's networks by method, as far as given.

    Args:
        config: names their SavedModels.
        rows: the methods of its random and of its trained network; further ones have `method_of`.
        load: reads a SavedModel.
    """
    own = zip(rows, (config.random_saved_model, config.saved_model), strict=True)
    named = {method: load(path) for method, path in own if path}
    return named | by_method([load(path) for path in config.further_saved_models])


def in_words(model: saved_model.SavedModel | ExportedNetwork, *, width: bool = False) -> str:
    """Returns a table's note, such as "ave_net, 50 steps, on demo"; with `width` its width, too."""
    words = [kind(model)]
    multiplier = model.metadata.get("model_config", {}).get("width")
    if width and multiplier is not None:
        words.append(f"width {multiplier:g}")
    if saved_model.IMPORTED not in model.metadata:
        words.append(f"{model.metadata.get('trained_steps', '?')} steps")
    if model.metadata.get("trained_on"):
        words.append(f"on {model.metadata['trained_on']}")
    if batch_norm := model.metadata.get("random_batch_norm"):
        num_pairs = batch_norm["num_pairs"]
        words.append(f"batch norm of {num_pairs} pairs" if num_pairs else "batch norm identity")
    return ", ".join(words)
