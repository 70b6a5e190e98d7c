r"""L3 Table 4 and §3.5.3: do pool4's clusters and units know classes that were never shown?

    python -m eval.table4_nmi --saved_model=runs/l3/saved_model \
        --random_saved_model=runs/l3/saved_model_random --shards=data/kinetics_sounds/shards

One random frame and a second of sound around it per test clip; pool4 of vision and of audio (the
paper: "the L3-Net embeddings"). Clusters: k-means, and how far it agrees with the classes (Table
4). Units: how many classes have a unit such that of its five most exciting clips four, or three,
are of that class (§3.5.3).
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.metrics import clusters
from eval.reporting import paper_values, tables
from eval.reporting.table_config import TrainedAndRandomConfig
from eval.sets import clips
from l3net import flags
from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.progress import track

RANDOM, OURS_RANDOM, OURS = "Random assignments", "Ours random", "Ours"
VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
PAPER_NUM_CLUSTERS = 64
# How many of a unit's top five items must be of one class (L3 §3.5.3).
NUM_NEEDED = {"units_4_of_5": 4, "units_3_of_5": 3}
_OUTPUT = "pool4"
_ITEMS = {VISION: "frames", AUDIO: "sounds"}  # one of each clip
_NUM_RANDOM_DRAWS = 20


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Clusters: what the paper leaves open, and what a small data set needs."""

    seed: int = 0
    split: str = setting("test", "Split of --shards whose clips are clustered.")
    num_clusters: int = setting(
        PAPER_NUM_CLUSTERS,
        "Clusters of k-means, 64 in the paper, for 1.9k clips; 0: as many as there are classes "
        "seen.",
        at_least=0,
    )
    num_draws: int = setting(
        5, "How often k-means is run, from other starts; the mean is shown.", at_least=1
    )
    unit_length: bool = setting(
        False, "Scale pool4 to length 1 before clustering, which is not in the paper."
    )


# --- The table -----------------------------------------------------------------------------------
def make_table(
    networks: Mapping[str, saved_model.SavedModel],
    shards: str | pathlib.Path,
    *,
    truth: Mapping[str, Mapping[str, str]] | None,
    protocol: Protocol,
    cache_dir: str | pathlib.Path,
) -> tables.Table:
    """Measures clusters and units of vision and audio, three rows each.

    Args:
        networks: OURS and OURS_RANDOM, at least one of them.
        shards: prepared folder.
        truth: see `clips.read_truth`; None takes the clips' first label for both.
        protocol: see `Protocol`.
        cache_dir: folder of the cache of features.

    Raises:
        UserError: if there are fewer labelled clips than clusters, or fewer than two classes.
    """
    outputs = {VISION: _OUTPUT, AUDIO: _OUTPUT}
    extracted = {
        method: clips.extract_features(
            network, shards, protocol.split, outputs, seed=protocol.seed, cache_dir=cache_dir
        )
        for method, network in networks.items()
    }
    classes = clips.classes_of(next(iter(extracted.values())), truth)
    if not protocol.num_clusters:
        num_seen = len(_names(classes[VISION]))
        protocol = dataclasses.replace(protocol, num_clusters=num_seen)
    rows, by_chance = [], {}
    for modality, what in _ITEMS.items():
        has_class = classes[modality] != ""
        known = classes[modality][has_class]
        _check(known, protocol, what)
        features = {
            method: each.features[modality][has_class] for method, each in extracted.items()
        }
        measured = {RANDOM: _random(known, next(iter(features.values())).shape[1], protocol)}
        by_chance[f"{len(known)} {what}"] = measured[RANDOM]["nmi"]
        for method, matrix in features.items():
            measured[method] = _network(matrix, known, protocol, f"{method}, {modality}")
            measured[method]["metadata"] = networks[method].metadata
        data_set = clips.data_name(shards, protocol.split)
        methods = (RANDOM, OURS_RANDOM, OURS)
        rows += [
            _row(data_set, len(known), method, modality, measured.get(method)) for method in methods
        ]
    return tables.Table(
        "table4",
        "L3 Table 4 and §3.5.3: clusters and units of pool4 against the classes",
        [
            tables.Metric("nmi", "NMI", decimals=3),
            tables.Metric("adjusted", "adjusted MI", decimals=3),
            tables.Metric("units_4_of_5", "classes with a unit, 4 of 5", decimals=0),
            tables.Metric("units_3_of_5", "classes with a unit, 3 of 5", decimals=0),
        ],
        rows,
        _notes(classes, protocol, by_chance),
    )


def _names(classes: np.ndarray) -> np.ndarray:
    return np.unique(classes[classes != ""])


def _check(classes: np.ndarray, protocol: Protocol, what: str) -> None:
    num_classes = len(_names(classes))
    if num_classes < 2:
        raise UserError(f"the {what} are of {num_classes} class(es); need two or more labels")
    if not 2 <= protocol.num_clusters <= len(classes):
        raise UserError(
            f"--num_clusters={protocol.num_clusters}: need 2 to {len(classes)}, the number of "
            f"labelled {what}, or 0 for as many as there are classes seen"
        )


def _random(classes: np.ndarray, num_units: int, protocol: Protocol) -> dict[str, Any]:
    """Measures what chance gives: random clusters, and units that rank at random."""
    drawn = clusters.random_clusterings(
        len(classes), protocol.num_clusters, num_draws=_NUM_RANDOM_DRAWS, seed=protocol.seed
    )
    measured = _agreement(clusters.agreement(classes, drawn))
    rng = np.random.default_rng(protocol.seed)
    rankings = [rng.random((len(classes), num_units)) for _ in range(_NUM_RANDOM_DRAWS)]
    for name, needed in NUM_NEEDED.items():
        counts = [
            len(clusters.preferred_classes(ranking, classes, num_needed=needed))
            for ranking in rankings
        ]
        measured[name] = float(np.mean(counts))
    return measured


def _network(
    matrix: np.ndarray, classes: np.ndarray, protocol: Protocol, what: str
) -> dict[str, Any]:
    clustered = clusters.unit_length(matrix) if protocol.unit_length else matrix
    seeds = range(protocol.seed, protocol.seed + protocol.num_draws)
    drawn = [
        clusters.kmeans_clustering(clustered, protocol.num_clusters, seed=seed)
        for seed in track(seeds, f"k-means, {what}", unit="run")
    ]
    measured = _agreement(clusters.agreement(classes, drawn))
    measured["nmi_error"] = clusters.nmi_error(classes, drawn)
    for name, needed in NUM_NEEDED.items():
        preferred = clusters.preferred_classes(matrix, classes, num_needed=needed)
        measured |= {name: len(preferred), f"{name}_unit_of_class": preferred}
    return {**measured, "num_units": matrix.shape[1]}


def _agreement(agreement: clusters.Agreement) -> dict[str, Any]:
    return {
        "nmi": float(np.mean(agreement.nmi)),
        "nmi_std": float(np.std(agreement.nmi)),
        "adjusted": float(np.mean(agreement.adjusted)),
        "nmi_per_draw": list(agreement.nmi),
    }


def _row(
    data_set: str, num_clips: int, method: str, modality: str, measured: dict[str, Any] | None
) -> tables.Row:
    known = paper_values.data_set_of(data_set)
    paper = paper_values.values(f"table4 {modality}", known, method)
    size = paper_values.near(known, num_clips) if paper else ""
    note = "; ".join(part for part in (modality, size) if part)
    data = f"{data_set}, {num_clips} {_ITEMS[modality]}"
    if measured is None:
        return tables.Row(data, method, tables.NOT_RUN, paper, note=f"no SavedModel given; {note}")
    names = ("nmi", "adjusted", *NUM_NEEDED)
    ours = {name: measured[name] for name in names if name in measured}
    errors = {"nmi": measured["nmi_error"]} if "nmi_error" in measured else {}
    return tables.Row(data, method, tables.RUN, paper, ours, note, measured, errors)


def _notes(
    classes: Mapping[str, np.ndarray], protocol: Protocol, by_chance: Mapping[str, float]
) -> list[str]:
    """Says how it was measured; `by_chance`: n, in words -> the NMI of random assignments."""
    counts = {modality: len(_names(each)) for modality, each in classes.items()}
    length = "scaled to length 1" if protocol.unit_length else "as they are, not scaled"
    expected = ", ".join(f"{nmi:.3f} for n = {num}" for num, nmi in by_chance.items())
    papers = paper_values.values("table4 vision", paper_values.KINETICS, RANDOM)["nmi"]
    notes = [
        f"pool4, {length} (our choice), one frame and one second per clip; k-means into "
        f"{protocol.num_clusters} clusters, the best of {clusters.NUM_INITS} starts, mean of "
        f"{protocol.num_draws}; NMI with the arithmetic mean. ±: standard error over the clips, "
        "by jackknife with the clusters as they are (our choice).",
        f"NMI by chance falls with the number n of clips. Random assignments to "
        f"{protocol.num_clusters} clusters: {expected} (mean of {_NUM_RANDOM_DRAWS}); the paper's "
        f"{papers:.3f} is for n of about 1.9k, {PAPER_NUM_CLUSTERS} clusters, 34 classes.",
        "Adjusted mutual information (not in the paper) is 0 by chance, whatever the number of "
        "clusters.",
        f"Classes: {counts[VISION]} seen, {counts[AUDIO]} heard. Units that rank at random are "
        "shown beside the random assignments (our choice).",
    ]
    num_without = [int((each == "").sum()) for each in classes.values()]
    if any(num_without):
        notes.append(f"Clips without a label are left out: {max(num_without)}.")
    return notes


def main(table: TrainedAndRandomConfig, protocol: Protocol) -> None:
    """Makes the table and writes it."""
    shards = table.shards
    if not shards:
        raise UserError("no clips: give --shards, a folder that data_prep.write_shards made")
    given = {OURS_RANDOM: table.random_saved_model, OURS: table.saved_model}
    if not any(given.values()):
        raise UserError("need --saved_model or --random_saved_model; l3net.export makes them")

    def make() -> tables.Table:
        return make_table(
            {name: saved_model.SavedModel(path) for name, path in given.items() if path},
            shards,
            truth=clips.read_truth(table.clips) if table.clips else None,
            protocol=protocol,
            cache_dir=table.cache_dir,
        )

    tables.make_and_write(make, table, protocol)


if __name__ == "__main__":
    flags.run(main, TrainedAndRandomConfig, Protocol)
