r"""L3 Table 2: sound classification with frozen audio features.

    python -m eval.table2_sound --saved_model=runs/l3/saved_model \
        --random_saved_model=runs/l3_random/saved_model --esc50=data/ESC-50 --out_dir=runs/l3

Needs any of --esc50, --esc10, --dcase2013 and (not the paper's) --spoken_digits; without one, the
sounds of --shards take their part and every row says so. Runs the rows "Ours", "Ours random",
SVM-MFCC and Random Forest, with --piczak also Piczak's ConvNet; quotes the others.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eval.methods import baselines, features, linear_probe, networks, piczak
from eval.metrics import accuracy
from eval.reporting import cache, paper_values, synthetic, tables
from eval.reporting.table_config import FrozenNetworksConfig, positive_or_word
from eval.sets import recordings
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting

_log = logging.getLogger(__name__)

OURS, OURS_RANDOM = "Ours", "Ours random"
SVM, FOREST = baselines.SVM, baselines.FOREST
_OUR_METHODS = (OURS_RANDOM, OURS, SVM, FOREST, piczak.METHOD)
_TABLE = "table2"
_SETS = (paper_values.ESC50, paper_values.ESC10, paper_values.DCASE)
_NOT_RUN_NOTES = {piczak.METHOD: "give --piczak=small or --piczak=paper"}
_OUTPUT = "conv4_2"  # before the ReLU, max-pooled to 4x3x512 (L3 §3.3)
_PICZAK_OFF = "off"
_PICZAK_EPOCHS = {size: recipe.epochs for size, recipe in piczak.RECIPES.items()}
# Part of every result's cache key: raise it when a protocol in this folder changes.
PROTOCOL = "table2 v2"


@dataclasses.dataclass(frozen=True)
class Config:
    """Recordings and classifiers."""

    shards: str | None = None
    clips: str | None = None
    seed: int = 0
    esc50: str | None = setting(
        None, "Folder of ESC-50, which holds audio/ and meta/esc50.csv; 5 folds."
    )
    esc10: str | None = setting(
        None, "Folder of ESC-10: its class folders, or the layout of ESC-50; 5 folds."
    )
    dcase2013: str | None = setting(
        None, "Folder that holds scenes_stereo/ and scenes_stereo_testset/ of DCASE 2013."
    )
    spoken_digits: str | None = setting(
        None,
        "Folder recordings/ of the Free Spoken Digit Dataset; tested on the speaker whom av_digits "
        "never trains on. Not in the paper.",
    )
    svm_c: str = setting(
        linear_probe.CHOOSE,
        f'C of the linear SVM, a positive number, or "{linear_probe.CHOOSE}": chosen from '
        f"{', '.join(f'{c:g}' for c in linear_probe.C_GRID)} by cross-validation inside the "
        "training folds. The paper gives none; SoundNet's code used 0.01.",
    )
    piczak: str = setting(
        _PICZAK_OFF,
        "Whether to train Piczak's ConvNet: off; paper, which wants a GPU; small, whose row says "
        "that it is not the paper's.",
        choices=(_PICZAK_OFF, *_PICZAK_EPOCHS),
    )
    piczak_epochs: int | None = setting(
        None,
        f"Epochs of Piczak's ConvNet. Without this flag {_PICZAK_EPOCHS['paper']} as in his paper, "
        f"{_PICZAK_EPOCHS['small']} for the small one.",
        at_least=1,
    )

    @property
    def c(self) -> float | None:
        """The SVM's C, None to choose it."""
        return positive_or_word("svm_c", self.svm_c, linear_probe.CHOOSE)


def read_sets(config: Config) -> list[recordings.RecordingSet]:
    """Reads the benchmarks that are given; the prepared folder only if there is none.

    Raises:
        UserError: if nothing is given, or something cannot be read.
    """
    readers = [
        (config.esc50, recordings.read_esc50),
        (config.esc10, recordings.read_esc10),
        (config.dcase2013, recordings.read_dcase2013),
        (config.spoken_digits, recordings.read_spoken_digits),
    ]
    sets = [read(folder) for folder, read in readers if folder]
    if sets and config.shards:
        _log.info("benchmark recordings are given, so --shards is left out")
    if not sets and config.shards:
        sets = [recordings.read_shards(config.shards, config.clips)]
    if not sets:
        raise UserError(
            "nothing to classify: give --esc50, --esc10, --dcase2013, --spoken_digits (folders of "
            "recordings) or --shards (a folder that data_prep.write_shards made)"
        )
    return sets


def make_table(
    sets: Sequence[recordings.RecordingSet],
    config: Config,
    *,
    exported: Mapping[str, features.AudioNetwork],
    cache_dir: pathlib.Path,
) -> tables.Table:
    """Runs every row that can be run, `exported` networks by method.

    Returns:
        The table, set by set; the paper's sets that are not given are "not run".
    """
    rows = []
    for data in sets:
        rows += _ordered_rows(data.name, data.data, _run_rows(data, config, exported, cache_dir))
    present = {data.name for data in sets}
    for name in (name for name in _SETS if name not in present):
        rows += _ordered_rows(name, f"{name} (not given)", {})
    return tables.Table(
        "table2",
        "L3 Table 2: sound classification",
        [tables.Metric("accuracy", "accuracy %")],
        rows,
        _notes(config.c, sets),
    )


def methods_of(name: str) -> list[str]:
    """Returns a data set's methods in the paper's order, ours that it lacks around them."""
    quoted = paper_values.methods(_TABLE, name)
    if not quoted:
        return list(_OUR_METHODS)
    first = [method for method in (SVM, FOREST) if method not in quoted]
    last = [method for method in (OURS_RANDOM, OURS) if method not in quoted]
    return [*first, *quoted, *last]


def _ordered_rows(name: str, data: str, ran: dict[str, tables.Row]) -> list[tables.Row]:
    """Returns a set's rows in the paper's order, also those not run, then further networks'."""
    rows = []
    for method in methods_of(name):
        missing = tables.NOT_RUN if method in _OUR_METHODS else tables.QUOTED
        note = _NOT_RUN_NOTES.get(method, "")
        made = ran.get(method) or tables.Row(data, method, missing, note=note)
        paper = paper_values.values(_TABLE, name, method)
        rows.append(dataclasses.replace(made, paper=paper))
    return rows + [row for method, row in ran.items() if method not in methods_of(name)]


def _notes(c: float | None, sets: Sequence[recordings.RecordingSet]) -> list[str]:
    grid = ", ".join(f"{value:g}" for value in linear_probe.C_GRID)
    chosen = f"chosen from {grid} by cross-validation inside the training folds" if c is None else c
    notes = [
        "Accuracy is the mean over the folds (or of the test split). Quoted numbers: L3 Table 2; "
        "for ESC-10, Piczak 2015.",
        f"±: standard error, {_error_in_words(sets)}.",
        f"Linear SVM on conv4_2: C {chosen} (our choice; the paper gives none).",
    ]
    if any(data.is_synthetic for data in sets):
        notes.append(synthetic.NOTE)
    return notes


def _error_in_words(sets: Sequence[recordings.RecordingSet]) -> str:
    kinds = {len(data.test_parts) > 1 for data in sets}
    words = {
        True: "over folds their standard deviation / sqrt(their number)",
        False: "of a single test part the binomial one, sqrt(p (1 - p) / recordings)",
    }
    return "; ".join(words[kind] for kind in (True, False) if kind in kinds)


def _run_rows(
    data: recordings.RecordingSet,
    config: Config,
    exported: Mapping[str, features.AudioNetwork],
    cache_dir: pathlib.Path,
) -> dict[str, tables.Row]:
    rows = {
        method: _network_row(data, method, network, config, cache_dir)
        for method, network in exported.items()
    }
    for method in (SVM, FOREST):
        rows[method] = _baseline_row(data, method, config.seed, cache_dir)
    convnet = _recipe(config)
    if convnet is not None and piczak.METHOD in methods_of(data.name):
        rows[piczak.METHOD] = _convnet_row(data, convnet, config.seed, cache_dir)
    return rows


def _recipe(config: Config) -> piczak.Recipe | None:
    if config.piczak == _PICZAK_OFF:
        return None
    recipe = piczak.RECIPES[config.piczak]
    return dataclasses.replace(recipe, epochs=config.piczak_epochs or recipe.epochs)


def _network_row(
    data: recordings.RecordingSet,
    method: str,
    network: features.AudioNetwork,
    config: Config,
    cache_dir: pathlib.Path,
) -> tables.Row:
    def run() -> dict[str, Any]:
        extracted = features.extract(network, data.recordings, output=_OUTPUT, cache_dir=cache_dir)
        outcome = linear_probe.evaluate(
            extracted.matrix,
            extracted.recording_of,
            data.labels,
            data.parts,
            tested=data.test_parts,
            c=config.c,
            seed=config.seed,
        )
        return {
            **_summary(data, outcome.predictions),
            "svm_c": list(outcome.chosen_c),
            "num_features": extracted.matrix.shape[1],
            "num_subclips": len(extracted.matrix),
        }

    protocol: list[Any] = [features.PROTOCOL, _OUTPUT, network.content_hash]
    protocol += [config.c, list(linear_probe.C_GRID), config.seed]
    row = _measured(data, method, protocol, cache_dir, run)
    about = {"hash": network.content_hash, "metadata": network.metadata}
    details = {**row.details, "saved_model": about}
    return dataclasses.replace(row, note=networks.in_words(network, width=True), details=details)


def _baseline_row(
    data: recordings.RecordingSet, method: str, seed: int, cache_dir: pathlib.Path
) -> tables.Row:
    def run() -> dict[str, Any]:
        statistics = baselines.extract(data.recordings, cache_dir=cache_dir)
        predictions = baselines.evaluate(
            method, statistics, data.labels, data.parts, tested=data.test_parts, seed=seed
        )
        return _summary(data, predictions)

    protocol = [baselines.PROTOCOL, method, baselines.SVM_C, baselines.NUM_TREES, seed]
    return _measured(data, method, protocol, cache_dir, run)


def _convnet_row(
    data: recordings.RecordingSet, recipe: piczak.Recipe, seed: int, cache_dir: pathlib.Path
) -> tables.Row:
    settings = {"segments": "short", "vote": "probability", **dataclasses.asdict(recipe)}

    def run() -> dict[str, Any]:
        return _summary(data, piczak.evaluate(data, recipe, cache_dir=cache_dir, seed=seed))

    row = _measured(data, piczak.METHOD, [piczak.PROTOCOL, settings, seed], cache_dir, run)
    details = {**row.details, "recipe": settings}
    return dataclasses.replace(row, note=recipe.note(), details=details)


def _summary(data: recordings.RecordingSet, predictions: np.ndarray) -> dict[str, Any]:
    return accuracy.accuracy_summary(
        data.labels, predictions, data.parts, tested=data.test_parts, classes=data.classes
    )


def _measured(
    data: recordings.RecordingSet,
    method: str,
    protocol: list[Any],
    cache_dir: pathlib.Path,
    run: Callable[[], dict[str, Any]],
) -> tables.Row:
    """Makes a row of the result of `run`, from the cache if data and protocol are as they were."""
    data_hash = data.content_hash()
    result = cache.remembered(cache_dir, cache.key_of(PROTOCOL, data_hash, protocol), run)
    details = {"data_hash": data_hash, "num_recordings": len(data.recordings), **result}
    ours, errors = {"accuracy": result["accuracy"]}, {"accuracy": accuracy.error_of_summary(result)}
    return tables.Row(data.data, method, tables.RUN, ours=ours, details=details, errors=errors)


def main(table: FrozenNetworksConfig, config: Config) -> None:
    """Makes the table and writes it."""
    _ = config.c  # a value that is not allowed is refused before anything is read

    def make() -> tables.Table:
        exported = networks.of_table(table, (OURS_RANDOM, OURS), features.AudioNetwork)
        cache_dir = pathlib.Path(table.cache_dir)
        return make_table(read_sets(config), config, exported=exported, cache_dir=cache_dir)

    tables.make_and_write(make, table, config)


if __name__ == "__main__":
    flags.run(main, FrozenNetworksConfig, Config)
