"""L3 Table 2: sound classification with frozen audio features.

    python -m eval.table2_sound --saved_model=runs/l3/saved_model \
        --random_saved_model=runs/l3_random/saved_model --esc50=data/ESC-50 --out_dir=runs/l3

Needs any of --esc50, --esc10, --dcase2013; without one, --demo_shards stands in and every row says
so. Runs the rows "Ours", "Ours random", SVM-MFCC and Random Forest, with --piczak also Piczak's
ConvNet; quotes the others.
"""

import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from eval.methods import baselines, features, linear_probe, piczak
from eval.methods.networks import in_words
from eval.metrics import accuracy
from eval.reporting import cache, tables
from eval.reporting import flags as shared
from eval.sets import recordings
from l3net import errors
from l3net.errors import UserError

_log = logging.getLogger(__name__)

OURS, OURS_RANDOM = "Ours", "Ours random"
SVM, FOREST = baselines.SVM, baselines.FOREST
# Quoted, accuracy in per cent: ESC-50 and DCASE from L3 Table 2; ESC-10 from Piczak 2015 §3, its
# ConvNet from the author's notebooks (see `piczak`).
PAPER = {
    "ESC-50": {
        SVM: 39.6,
        "Autoencoder": 39.9,
        FOREST: 44.3,
        piczak.METHOD: 64.5,
        "SoundNet": 74.2,
        OURS_RANDOM: 62.5,
        OURS: 79.3,
        "Human perf.": 81.3,
    },
    "ESC-10": {
        SVM: 67.5,
        FOREST: 72.7,
        piczak.METHOD: 78.5,
        OURS_RANDOM: None,
        OURS: None,
        "Human perf.": 95.7,
    },
    "DCASE 2013": {
        SVM: None,
        FOREST: None,
        "RG": 69.0,
        "LTT": 72.0,
        "RNH": 77.0,
        "Ensemble": 78.0,
        "SoundNet": 88.0,
        OURS_RANDOM: 85.0,
        OURS: 93.0,
    },
}
_OUR_METHODS = (OURS_RANDOM, OURS, SVM, FOREST, piczak.METHOD)
_NOT_RUN_NOTES = {piczak.METHOD: "give --piczak=small or --piczak=paper"}
_OUTPUT = "conv4_2"  # before the ReLU, max-pooled to 4x3x512 (L3 §3.3)
# Part of every result's cache key: raise it when a protocol in this folder changes.
PROTOCOL = "table2 v1"


def read_sets(
    *,
    esc50: str | None,
    esc10: str | None,
    dcase2013: str | None,
    demo_shards: str | None,
    demo_clips: str | None = None,
) -> list[recordings.RecordingSet]:
    """Reads the data sets that are given; the demo only if no real one is.

    Args:
        esc50: folder, or None.
        esc10: folder, or None.
        dcase2013: folder, or None.
        demo_shards: a prepared shard folder, or None.
        demo_clips: CSV with the truth about its sounds (see `recordings.read_shards`), or None.

    Returns:
        At least one set.

    Raises:
        UserError: if none is given, or one cannot be read.
    """
    readers = [
        (esc50, recordings.read_esc50),
        (esc10, recordings.read_esc10),
        (dcase2013, recordings.read_dcase2013),
    ]
    found = [read(folder) for folder, read in readers if folder]
    if found and demo_shards:
        _log.info("real recordings are given, so the demo shards are left out")
    if not found and demo_shards:
        found = [recordings.read_shards(demo_shards, demo_clips)]
    if not found:
        raise UserError(
            "nothing to classify: give --esc50, --esc10 or --dcase2013 (folders of recordings), "
            "or --demo_shards (a folder that data_prep.write_shards made)"
        )
    return found


def make_table(
    sets: Sequence[recordings.RecordingSet],
    *,
    networks: dict[str, features.AudioNetwork],
    cache_dir: pathlib.Path,
    c: float | None,
    seed: int,
    convnet: piczak.Recipe | None = None,
) -> tables.Table:
    """Runs every row that can be run.

    Args:
        sets: data sets.
        networks: OURS and OURS_RANDOM, as far as given.
        cache_dir: folder of the cache.
        c: of the linear SVM, or None to choose it.
        seed: of the forest, of the groups that choose C where there are no folds, and of Piczak's
            ConvNet.
        convnet: how Piczak's ConvNet is trained, None for not at all.

    Returns:
        The table, with rows "not run" for the rest.
    """
    rows = []
    for data in sets:
        ran = _run_rows(data, networks, pathlib.Path(cache_dir), c, seed)
        if convnet is not None and piczak.METHOD in PAPER.get(data.name, _OUR_METHODS):
            ran[piczak.METHOD] = _convnet_row(data, convnet, pathlib.Path(cache_dir), seed)
        rows += _ordered_rows(data.name, data.data, ran)
    present = {data.name for data in sets}
    for name in PAPER:
        if name not in present:
            rows += _ordered_rows(name, f"{name} (not given)", {})
    return tables.Table(
        "table2",
        "L3 Table 2: sound classification",
        [tables.Metric("accuracy", "accuracy %")],
        rows,
        _notes(c, sets),
    )


def _ordered_rows(name: str, data: str, ran: dict[str, tables.Row]) -> list[tables.Row]:
    """Returns the rows of a data set in the paper's order, those not run as quoted or not run."""
    order = PAPER.get(name, dict.fromkeys(_OUR_METHODS))
    rows = []
    for method, quoted in order.items():
        missing = tables.NOT_RUN if method in _OUR_METHODS else tables.QUOTED
        paper = {} if quoted is None else {"accuracy": quoted}
        note = _NOT_RUN_NOTES.get(method, "")
        made = ran.get(method) or tables.Row(data, method, missing, note=note)
        rows.append(
            tables.Row(made.data, method, made.status, paper, made.ours, made.note, made.details)
        )
    return rows


def _notes(c: float | None, sets: Sequence[recordings.RecordingSet]) -> list[str]:
    grid = ", ".join(f"{value:g}" for value in linear_probe.C_GRID)
    chosen = f"chosen from {grid} by cross-validation inside the training folds" if c is None else c
    notes = [
        "Accuracy is the mean over the folds (or of the test split). Quoted numbers: L3 Table 2; "
        "for ESC-10, Piczak 2015.",
        f"Linear SVM on conv4_2: C {chosen} (ours; the paper gives none).",
    ]
    if any(data.name == "demo data" for data in sets):
        notes.append("The demo data is synthetic: its numbers show that everything runs, no more.")
    return notes


def _run_rows(
    data: recordings.RecordingSet,
    networks: dict[str, features.AudioNetwork],
    cache_dir: pathlib.Path,
    c: float | None,
    seed: int,
) -> dict[str, tables.Row]:
    found = {}
    for method, network in networks.items():
        found[method] = _network_row(data, method, network, cache_dir, c, seed)
    for method in (SVM, FOREST):
        found[method] = _baseline_row(data, method, cache_dir, seed)
    return found


def _network_row(
    data: recordings.RecordingSet,
    method: str,
    network: features.AudioNetwork,
    cache_dir: pathlib.Path,
    c: float | None,
    seed: int,
) -> tables.Row:
    def run() -> dict[str, Any]:
        described = features.extract(network, data.recordings, output=_OUTPUT, cache_dir=cache_dir)
        outcome = linear_probe.evaluate(
            described.matrix,
            described.recording_of,
            data.labels,
            data.parts,
            tested=data.test_parts,
            c=c,
            seed=seed,
        )
        return {
            **_summary(data, outcome.predictions),
            "svm_c": list(outcome.chosen_c),
            "num_features": described.matrix.shape[1],
            "num_subclips": len(described.matrix),
        }

    protocol = [features.PROTOCOL, _OUTPUT, network.content_hash, c, list(linear_probe.C_GRID)]
    details = _remembered(data, [*protocol, seed], cache_dir, run)
    details["saved_model"] = {"hash": network.content_hash, "metadata": network.metadata}
    return _row(data, method, details, in_words(network, width=True))


def _baseline_row(
    data: recordings.RecordingSet, method: str, cache_dir: pathlib.Path, seed: int
) -> tables.Row:
    def run() -> dict[str, Any]:
        described = baselines.extract(data.recordings, cache_dir=cache_dir)
        predictions = baselines.evaluate(
            method, described, data.labels, data.parts, tested=data.test_parts, seed=seed
        )
        return _summary(data, predictions)

    protocol = [baselines.PROTOCOL, method, baselines.SVM_C, baselines.NUM_TREES, seed]
    return _row(data, method, _remembered(data, protocol, cache_dir, run), "")


def _convnet_row(
    data: recordings.RecordingSet, recipe: piczak.Recipe, cache_dir: pathlib.Path, seed: int
) -> tables.Row:
    described = dataclasses.asdict(recipe)

    def run() -> dict[str, Any]:
        return _summary(data, piczak.evaluate(data, recipe, cache_dir=cache_dir, seed=seed))

    details = _remembered(data, [piczak.PROTOCOL, described, seed], cache_dir, run)
    return _row(data, piczak.METHOD, {**details, "recipe": described}, recipe.note())


def _summary(data: recordings.RecordingSet, predictions: np.ndarray) -> dict[str, Any]:
    return accuracy.accuracy_summary(
        data.labels, predictions, data.parts, tested=data.test_parts, classes=data.classes
    )


def _remembered(
    data: recordings.RecordingSet,
    protocol: list[Any],
    cache_dir: pathlib.Path,
    run: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Returns the result of `run`, from the cache if data and protocol are as they were."""
    data_hash = data.content_hash()
    key = cache.key_of(PROTOCOL, data_hash, protocol)
    details = cache.read_json(cache_dir / "results", key)
    if details is None:
        started = time.monotonic()
        details = {**run(), "seconds": round(time.monotonic() - started, 1)}
        cache.write_json(cache_dir / "results", key, details)
    return {"data_hash": data_hash, "num_recordings": len(data.recordings), **details}


def _row(
    data: recordings.RecordingSet, method: str, details: dict[str, Any], note: str
) -> tables.Row:
    ours = {"accuracy": details["accuracy"]}
    return tables.Row(data.data, method, tables.RUN, {}, ours, note, details)


def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    return {
        **shared.define(),
        "esc50": flags.DEFINE_string(
            "esc50", None, "Folder of ESC-50 (audio/ and meta/esc50.csv)."
        ),
        "esc10": flags.DEFINE_string(
            "esc10", None, "Folder of ESC-10 (class folders, or ESC-50's layout)."
        ),
        "dcase2013": flags.DEFINE_string(
            "dcase2013", None, "Folder with DCASE 2013's scenes_stereo/ and scenes_stereo_testset/."
        ),
        "demo_clips": flags.DEFINE_string(
            "demo_clips",
            None,
            "clips.csv of the demo data: what is really heard, in place of its loose labels.",
        ),
        "svm_c": flags.DEFINE_string(
            "svm_c",
            linear_probe.CHOOSE,
            f'C of the linear SVM, or "{linear_probe.CHOOSE}": chosen from '
            f"{', '.join(f'{c:g}' for c in linear_probe.C_GRID)} by cross-validation inside the "
            "training folds. The paper gives none; SoundNet's code used 0.01.",
        ),
        **_define_piczak_flags(),
    }


def _define_piczak_flags() -> dict[str, flags.FlagHolder]:
    return {
        "piczak": flags.DEFINE_enum(
            "piczak",
            "off",
            ("off", *piczak.SIZES),
            "Train Piczak's ConvNet: paper (wants a GPU), or small (its row says so).",
        ),
        "piczak_segments": flags.DEFINE_enum(
            "piczak_segments",
            piczak.SHORT,
            piczak.SEGMENTS,
            "Its segments: 41 frames (64.5 % on ESC-50) or 101.",
        ),
        "piczak_vote": flags.DEFINE_enum(
            "piczak_vote", piczak.PROBABILITY, piczak.VOTES, "How its segments decide."
        ),
        "piczak_epochs": flags.DEFINE_integer(
            "piczak_epochs",
            None,
            "Its epochs. Default: the paper's 300 (short segments) or 150; small: 30.",
            lower_bound=1,
        ),
        "piczak_width": flags.DEFINE_float(
            "piczak_width",
            None,
            "Multiplies its filters and units. Default: 1, the paper's; small: 0.25.",
        ),
    }


def _recipe(values: Mapping[str, Any]) -> piczak.Recipe | None:
    """Returns the recipe that the flags give, None for "off"."""
    if values["piczak"] == "off":
        return None
    return piczak.make_recipe(
        values["piczak"],
        segments=values["piczak_segments"],
        vote=values["piczak_vote"],
        epochs=values["piczak_epochs"],
        width=values["piczak_width"],
    )


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, makes the table, writes it."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
    values = {name: holder.value for name, holder in holders.items()}
    c = shared.positive_or_word("svm_c", values["svm_c"], linear_probe.CHOOSE)
    convnet = _recipe(values)
    given = {OURS_RANDOM: values["random_saved_model"], OURS: values["saved_model"]}

    def make() -> tables.Table:
        networks = {name: features.AudioNetwork(path) for name, path in given.items() if path}
        sets = read_sets(
            esc50=values["esc50"],
            esc10=values["esc10"],
            dcase2013=values["dcase2013"],
            demo_shards=values["demo_shards"],
            demo_clips=values["demo_clips"],
        )
        cache_dir = pathlib.Path(values["cache_dir"])
        return make_table(
            sets,
            networks=networks,
            cache_dir=cache_dir,
            c=c,
            seed=values["seed"],
            convnet=convnet,
        )

    tables.make_and_write(make, values)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
