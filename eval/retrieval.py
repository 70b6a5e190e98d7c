"""OTS Table 1: retrieval of images and sounds by images and sounds, mean nDCG@30.

    python -m eval.retrieval --saved_models=runs/l3/saved_model,runs/ave/saved_model \
        --shards=data/audioset/shards --ontology=data/audioset/ontology.json --out_dir=runs/audioset

From each test clip one random frame and the 1 s of sound around it make the data base; each of them
is a query, too. How relevant a clip is to another follows from its labels, see
`eval.sets.ontology`.

What the paper leaves open, and how it is read here:
- Gain: 2^r - 1. Random chance then scores .35 on AudioSet-Instruments, near the paper's .407; with
  gain r it would score .89 (`--gain=linear`). All labels of a clip count, not only instruments.
- The query's own item is part of the data base: the paper builds one data base, takes "each item"
  of it as a query and searches "the same database". So image-to-image and sound-to-sound rankings
  begin with the query itself, worth up to .07. `--noquery_in_database` leaves it out; the .json
  has both. Across modalities the clip's other half is always there: to find it is the task.
- Clips without labels are neither queries nor in the data base.
- Items that score alike are in random order, by seed: features that are all alike score as chance.
- CCA is fitted on one frame with its second of sound from each training clip. Its regularisation
  is the one of `cca.REGULARIZATION_GRID` that is best across modalities on the validation split: a
  baseline should be as strong as it can be, and with few clips this decides how good it is.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from eval.methods import cca, networks, vgg16
from eval.metrics import ndcg, ranking
from eval.reporting import flags as shared
from eval.reporting import tables
from eval.sets import clips, ontology
from l3net import errors
from l3net.data.shards import find_shards
from l3net.errors import UserError
from l3net.inference import saved_model

_log = logging.getLogger(__name__)

NUM_RETRIEVED = 30  # "k = 30 throughout"
VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
# Modality of the query, modality of the data base.
DIRECTIONS = {
    "im_im": (VISION, VISION),
    "im_aud": (VISION, AUDIO),
    "aud_im": (AUDIO, VISION),
    "aud_aud": (AUDIO, AUDIO),
}
CHANCE, L3, L3_CCA = "Random chance", "L3-Net", "L3-Net with CCA"
VGG, VGG_CCA = "VGG16-ImageNet", "VGG16-ImageNet + L3-Audio CCA"
AVE, AVE_OF, AVE_MF = "AVE-Net", "AVE+OF", "AVE+MF"
AVE_NAIVE = "AVE-Net, no shortcut prevention"
# OTS Table 1 and §3.2, in the order of DIRECTIONS.
PAPER: dict[str, tuple[float, ...]] = {
    CHANCE: (0.407, 0.407, 0.407, 0.407),
    L3: (0.567, 0.418, 0.385, 0.653),
    L3_CCA: (0.578, 0.531, 0.560, 0.649),
    VGG: (0.600,),
    VGG_CCA: (0.493, 0.458, 0.464, 0.618),
    AVE: (0.604, 0.561, 0.587, 0.665),
    AVE_OF: (0.608, 0.558, 0.588, 0.665),
    AVE_MF: (),
    AVE_NAIVE: (),
}
_REMARKS = {AVE_MF: "paper: no better than AVE-Net", AVE_NAIVE: "paper: 1-2 % below AVE-Net"}
_METHODS = {
    "l3_net": L3,
    "l3_net_ots": L3,
    "ave_net": AVE,
    "ave_net_of": AVE_OF,
    "ave_net_mf": AVE_MF,
}
_OUTPUTS = {L3: "pool4"}  # "the vanilla L3-Net produces 512-D representations"
_EMBEDDING = "embedding"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is searched, and how it is scored.

    Attributes:
        shards, flow_shards: prepared folders; the second for networks that take flow.
        cache_dir: folder of the cache.
        split: of the queries and the data base.
        train_split: that CCA is fitted on.
        val_split: that CCA's regularisation is chosen on.
        gain: one of metrics.GAINS.
        query_in_database: whether a query may find itself; in the table, the .json has both.
        cca_regularization: see `cca.fit`; None chooses it.
        cca_max_clips: the most training clips that CCA is fitted on.
        seed: of the frames, and of the order of what scores alike.
    """

    shards: str
    flow_shards: str | None
    cache_dir: str
    split: str = "test"
    train_split: str = "train"
    val_split: str = "val"
    gain: str = ndcg.EXPONENTIAL
    query_in_database: bool = True
    cca_regularization: float | None = None
    cca_max_clips: int = 50_000
    seed: int = 0

    def describe(
        self, model: clips.Network, outputs: Mapping[str, str], split: str
    ) -> clips.ClipFeatures:
        """Describes an item of each clip of a split, of so many training clips as CCA takes.

        Args:
            model: the network.
            outputs: signature -> output.
            split: of the folder.

        Returns:
            See `clips.extract_features`.

        Raises:
            UserError: if the network takes flow and no folder with flow was given.
        """
        folder = clips.folder_for(model, self.shards, self.flow_shards)
        return clips.extract_features(
            model,
            folder,
            split,
            outputs,
            seed=self.seed,
            cache_dir=self.cache_dir,
            max_clips=self.cca_max_clips if split == self.train_split else None,
        )


# --- Scores --------------------------------------------------------------------------------------
class Database:
    """The items that are queries and are searched.

    Attributes:
        example_ids: of the clips with labels, in the order in which items that score alike come.
        num_unlabelled: clips left out.
    """

    def __init__(
        self,
        split: str,
        example_ids: Sequence[str],
        labels: Sequence[Sequence[str]],
        classes: ontology.Ontology,
        setting: Setting,
    ):
        """Orders the clips and looks up their labels.

        Args:
            split: that the clips are of.
            example_ids: of all clips.
            labels: of each clip.
            classes: that has all labels.
            setting: of the scores.

        Raises:
            UserError: if fewer than two clips have labels, or a label is not in the ontology.
        """
        labelled = [place for place, of_clip in enumerate(labels) if of_clip]
        if len(labelled) < 2:
            raise UserError(
                f"{len(labelled)} of {len(labels)} clips of split {split!r} in "
                f"{setting.shards} have labels; need at least two to tell what is relevant"
            )
        order = np.random.default_rng(setting.seed).permutation(labelled)
        self.example_ids = [example_ids[place] for place in order]
        self.num_unlabelled = len(labels) - len(labelled)
        self._query_in_database = setting.query_in_database
        relevance = ontology.Relevance(classes, [labels[place] for place in order])
        self._judge = ranking.Judge(relevance, k=NUM_RETRIEVED, gain=setting.gain)

    def rows_of(self, described: clips.ClipFeatures) -> dict[str, np.ndarray]:
        """Returns L2-normalised features of the data base's clips, in its order.

        Args:
            described: one item of each clip.

        Returns:
            Modality -> float32 [num_clips, size].

        Raises:
            UserError: if other clips were described.
        """
        place = {example_id: row for row, example_id in enumerate(described.example_ids)}
        missing = [example_id for example_id in self.example_ids if example_id not in place]
        if missing:
            raise UserError(
                f"{len(missing)} clip(s) such as {missing[0]} are not in every folder; --shards "
                "and --flow_shards must be of the same clips"
            )
        order = [place[example_id] for example_id in self.example_ids]
        found = described.features.items()
        return {name: ranking.l2_normalize(array[order]) for name, array in found}

    def scores(self, features: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores every direction for which there are features.

        Args:
            features: modality -> L2-normalised, of the clips in order; both of one size.

        Returns:
            "ndcg": direction -> mean nDCG@30; "standard_error": of that; "ndcg_query_left_out":
            direction -> the mean without the query in the data base, within one modality.
        """
        found = {}
        for direction, (query, searched) in DIRECTIONS.items():
            if query in features and searched in features:
                judge = functools.partial(self._judge.score, features[query], features[searched])
                found[direction] = {False: judge()}
                if query == searched:
                    found[direction][True] = judge(leave_out_own=True)
        return self._details(found)

    def chance(self) -> dict[str, Any]:
        """Returns the expected scores of random rankings, in the form of `scores`."""
        whole = self._judge.random_chance()
        found: dict[str, dict[bool, ranking.Score]] = {name: {False: whole} for name in DIRECTIONS}
        for direction, (query, searched) in DIRECTIONS.items():
            if query == searched:
                found[direction][True] = self._judge.random_chance(leave_out_own=True)
        return self._details(found)

    def _details(self, found: Mapping[str, Mapping[bool, ranking.Score]]) -> dict[str, Any]:
        """Picks the scores of the table; `found`: direction -> own item left out -> score."""
        left_out = not self._query_in_database
        shown = {name: scores.get(left_out, scores[False]) for name, scores in found.items()}
        return {
            "ndcg": {name: score.mean for name, score in shown.items()},
            "standard_error": {name: score.standard_error for name, score in shown.items()},
            "ndcg_query_in_database": {name: scores[False].mean for name, scores in found.items()},
            "ndcg_query_left_out": {
                name: scores[True].mean for name, scores in found.items() if True in scores
            },
        }


# --- Rows ----------------------------------------------------------------------------------------
def _method(model: saved_model.SavedModel) -> str | None:
    """Returns the row of a network; None if the table has none for it."""
    method = _METHODS.get(networks.kind(model))
    naive = networks.training_flag(model, "sampling") == networks.NAIVE
    return AVE_NAIVE if method == AVE and naive else method


def _outputs(method: str) -> dict[str, str]:
    output = _OUTPUTS.get(method, _EMBEDDING)
    return {VISION: output, AUDIO: output}


class _Rows:
    """Runs the rows one by one; the first network also tells the clips' labels."""

    def __init__(
        self,
        setting: Setting,
        classes: ontology.Ontology,
        truth: Mapping[str, Mapping[str, str]] | None,
    ):
        self._setting, self._classes, self._truth = setting, classes, truth
        self._databases: dict[str, Database] = {}
        self.rows: dict[str, list[tables.Row]] = {method: [] for method in PAPER}

    @property
    def database(self) -> Database | None:
        """What is searched; None before the first row."""
        return self._databases.get(self._setting.split)

    @property
    def data(self) -> str:
        """How a row names its data."""
        (first, *_) = find_shards(self._setting.shards, self._setting.split)
        synthetic = " data (synthetic)" if first.dataset_name == "demo" else ""
        amount = f", {len(self.database.example_ids)}" if self.database else ""
        return f"{first.dataset_name}{synthetic}{amount} {self._setting.split} clips"

    def add(self, method: str, scores: dict[str, Any], note: str, **details: Any) -> None:
        """Adds a row of scores."""
        remark = _REMARKS.get(method)
        note = "; ".join(part for part in (note, remark) if part)
        self.rows[method].append(
            tables.Row(
                self.data, method, tables.RUN, _paper(method), scores["ndcg"], note,
                {**scores, **details},
            )
        )  # fmt: skip

    def database_of(self, split: str, described: clips.ClipFeatures) -> Database:
        """Returns the data base of a split; makes it if there is none yet.

        Args:
            split: of the folder.
            described: of that split; tells its clips and their labels.

        Returns:
            The data base.
        """
        if split not in self._databases:
            labels = described.labels
            if self._truth:
                labels = [_true_labels(name, self._truth) for name in described.example_ids]
            self._databases[split] = Database(
                split, described.example_ids, labels, self._classes, self._setting
            )
        return self._databases[split]

    def scores(self, split: str, described: clips.ClipFeatures) -> dict[str, Any]:
        """Scores the features of a split's items; see `Database.scores`."""
        database = self.database_of(split, described)
        if split == self._setting.split and not self.rows[CHANCE]:
            self.add(CHANCE, database.chance(), "expected value")
        return database.scores(database.rows_of(described))

    def network(self, method: str, model: saved_model.SavedModel) -> None:
        """Adds the row of a network, and for L3-Net the one with CCA."""
        _log.info("%s: %s", method, networks.in_words(model))
        describe = functools.partial(self._setting.describe, model, _outputs(method))
        described = describe(self._setting.split)
        note = networks.in_words(model) + (", untrained" if networks.is_random(model) else "")
        scores = self.scores(self._setting.split, described)
        self.add(method, scores, note, metadata=model.metadata, shards=described.digest)
        if method == L3:
            self.aligned(L3_CCA, describe, note, model.metadata)

    def vgg(self, network: vgg16.Vgg16, l3_net: saved_model.SavedModel | None) -> None:
        """Adds the rows of VGG16, the second if there is an L3-Net whose sound features to take."""
        see = functools.partial(self._setting.describe, network, {VISION: vgg16.LAST_HIDDEN})
        scores = self.scores(self._setting.split, see(self._setting.split))
        self.add(VGG, scores, "", metadata=network.metadata)
        if l3_net is None:
            return
        hear = functools.partial(self._setting.describe, l3_net, {AUDIO: _OUTPUTS[L3]})
        self.aligned(
            VGG_CCA,
            lambda split: _together(see(split), hear(split)),
            networks.in_words(l3_net),
            {"vision": network.metadata, "audio": l3_net.metadata},
        )

    def aligned(
        self,
        method: str,
        describe: Callable[[str], clips.ClipFeatures],
        note: str,
        metadata: dict[str, Any],
    ) -> None:
        """Adds a row of features aligned by CCA.

        Args:
            method: the row.
            describe: split -> features of both modalities.
            note: of the row.
            metadata: of the networks.
        """
        setting = self._setting
        trained = describe(setting.train_split)
        regularization, tried = setting.cca_regularization, {}
        if regularization is None:
            tried = self._tried(trained, describe(setting.val_split))
            regularization = max(tried, key=tried.__getitem__)
        found = _fit(trained, regularization)
        scores = self.scores(setting.split, _projected(found, describe(setting.split)))
        num_components, num_pairs = len(found.correlations), len(trained.example_ids)
        self.add(
            method,
            scores,
            f"{note}; {num_components} components from {num_pairs} training pairs, regularisation "
            f"{regularization:g}",
            metadata=metadata,
            canonical_correlations=found.correlations.tolist(),
            cca_pairs=num_pairs,
            cca_regularization=regularization,
            cca_tried={f"{share:g}": score for share, score in tried.items()},
        )

    def _tried(self, trained: clips.ClipFeatures, held_out: clips.ClipFeatures) -> dict[float, float]:
        """Returns the mean score across modalities on the validation split per regularisation."""
        across = [name for name, (query, searched) in DIRECTIONS.items() if query != searched]
        tried = {}
        for share in cca.REGULARIZATION_GRID:
            projected = _projected(_fit(trained, share), held_out)
            ndcg = self.scores(self._setting.val_split, projected)["ndcg"]
            tried[share] = float(np.mean([ndcg[name] for name in across]))
        _log.info("CCA: nDCG across modalities on validation by regularisation %s", tried)
        return tried


def _fit(trained: clips.ClipFeatures, regularization: float) -> cca.Cca:
    seen, heard = trained.features[VISION], trained.features[AUDIO]
    return cca.fit(seen, heard, regularization=regularization)


def _projected(found: cca.Cca, described: clips.ClipFeatures) -> clips.ClipFeatures:
    sides = {VISION: found.first, AUDIO: found.second}
    features = {name: side.project(described.features[name]) for name, side in sides.items()}
    return dataclasses.replace(described, features=features)


def _together(first: clips.ClipFeatures, second: clips.ClipFeatures) -> clips.ClipFeatures:
    """Joins two networks' features of the same items."""
    if first.example_ids != second.example_ids:
        raise ValueError("two networks described different items")
    return dataclasses.replace(first, features={**first.features, **second.features})


def _true_labels(example_id: str, truth: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Returns what is seen and what is heard in a clip, once if they are the same."""
    labels = [truth[modality].get(example_id) for modality in (VISION, AUDIO)]
    if None in labels:
        raise UserError(f"--demo_clips does not list the clip {example_id}; is it of other data?")
    return tuple(dict.fromkeys(labels))


def _paper(method: str) -> dict[str, float]:
    return dict(zip(DIRECTIONS, PAPER[method], strict=False))


# --- The table -----------------------------------------------------------------------------------
def make_table(
    models: Sequence[saved_model.SavedModel],
    setting: Setting,
    *,
    classes: ontology.Ontology,
    vgg: vgg16.Vgg16 | None = None,
    truth: Mapping[str, Mapping[str, str]] | None = None,
) -> tables.Table:
    """Scores each network, and random chance.

    Args:
        models: the networks; those that Table 1 has no row for are left out.
        setting: what is searched, and how it is scored.
        classes: the ontology of the clips' labels.
        vgg: VGG16 with ImageNet's weights.
        truth: see `clips.read_truth`; replaces the clips' labels by what is seen and heard.

    Returns:
        The paper's rows in its order, those without a network "not run".

    Raises:
        UserError: if no network is left, or anything cannot be read.
    """
    table = _Rows(setting, classes, truth)
    rows_of = [(model, _method(model)) for model in models]
    for model, method in rows_of:
        if method is None:
            _log.info("%s has no row in this table", networks.kind(model))
        else:
            table.network(method, model)
    if vgg is not None:
        trained = [m for m, method in rows_of if method == L3 and not networks.is_random(m)]
        table.vgg(vgg, next(iter(trained), None))
    if table.database is None:
        raise UserError("nothing to search with: need --saved_models with L3-Net or AVE-Net")
    rows = [row for method in PAPER for row in table.rows[method] or [_not_run(method, table.data)]]
    headings = [f"{direction.replace('_', '-')}" for direction in DIRECTIONS]
    columns = [
        tables.Metric(direction, heading, decimals=3)
        for direction, heading in zip(DIRECTIONS, headings, strict=True)
    ]
    title = f"OTS Table 1: cross-modal and intra-modal retrieval, mean nDCG@{NUM_RETRIEVED}"
    return tables.Table("retrieval", title, columns, rows, _notes(setting, table, truth))


def _not_run(method: str, data: str) -> tables.Row:
    needs = {VGG: "--vgg16_weights", VGG_CCA: "--vgg16_weights and an L3-Net"}
    network = L3 if method == L3_CCA else method
    note = f"needs {needs.get(method, f'the SavedModel of {network}')}"
    note = "; ".join(part for part in (note, _REMARKS.get(method)) if part)
    return tables.Row(data, method, tables.NOT_RUN, _paper(method), note=note)


def _notes(
    setting: Setting, table: _Rows, truth: Mapping[str, Mapping[str, str]] | None
) -> list[str]:
    own = "part of the data base" if setting.query_in_database else "left out of the data base"
    chosen = f"chosen on split {setting.val_split!r}"
    if setting.cca_regularization is not None:
        chosen = f"{setting.cca_regularization:g}"
    notes = [
        "Query - data base: im = image, aud = sound. Paper: AudioSet-Instruments, 4.3k test clips.",
        f"Gain {setting.gain}; the query's own item is {own} (im-im and aud-aud); the .json has "
        "both.",
        f"CCA: at most {cca.NUM_COMPONENTS} components, fitted on split {setting.train_split!r}; "
        f"regularisation (a share of the mean variance; ours) {chosen}.",
    ]
    if truth:
        notes.append("Labels of a clip: what is seen and what is heard in it, from --demo_clips.")
    if table.database.num_unlabelled:
        notes.append(f"{table.database.num_unlabelled} clips without labels are left out.")
    if "(synthetic)" in table.data:
        notes.append("The demo data is synthetic: its numbers show that everything runs, no more.")
    return notes


def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    return {
        **shared.define(),
        "saved_models": flags.DEFINE_list(
            "saved_models", [], "SavedModels of l3net.export; each tells which network it is."
        ),
        "shards": flags.DEFINE_string(
            "shards", None, "Prepared folder with splits test and, for CCA, train. Paper: "
            "AudioSet-Instruments."
        ),
        "flow_shards": flags.DEFINE_string(
            "flow_shards", None, "The same clips prepared with optical flow, for AVE+OF."
        ),
        "demo_clips": flags.DEFINE_string(
            "demo_clips",
            None,
            "clips.csv of the demo data: what is really seen and heard, in place of its loose "
            "labels; only with --demo_shards.",
        ),
        "ontology": flags.DEFINE_string(
            "ontology",
            None,
            "AudioSet's ontology.json. Default: a small part, enough for the demo data.",
        ),
        "vgg16_weights": flags.DEFINE_string(
            "vgg16_weights",
            None,
            "Keras' vgg16_weights_tf_dim_ordering_tf_kernels.h5, for the rows of VGG16.",
        ),
        "split": flags.DEFINE_string("split", "test", "Split that is searched."),
        "train_split": flags.DEFINE_string("train_split", "train", "Split that CCA is fitted on."),
        "val_split": flags.DEFINE_string(
            "val_split", "val", "Split that CCA's regularisation is chosen on."
        ),
        "gain": flags.DEFINE_enum(
            "gain", ndcg.EXPONENTIAL, ndcg.GAINS, "Worth of relevance r: 2^r - 1, or r."
        ),
        "query_in_database": flags.DEFINE_bool(
            "query_in_database", True, "Whether im-im and aud-aud queries may find themselves."
        ),
        "cca_regularization": flags.DEFINE_float(
            "cca_regularization",
            None,
            "Added to each feature's variance for CCA, as a share of the mean variance. Default: "
            f"chosen from {', '.join(f'{share:g}' for share in cca.REGULARIZATION_GRID)} on "
            "--val_split.",
            lower_bound=0.0,
        ),
        "cca_max_clips": flags.DEFINE_integer(
            "cca_max_clips", 50_000, "Most training clips that CCA is fitted on.", lower_bound=2
        ),
    }  # fmt: skip


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, searches, writes the table."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
    values = {name: holder.value for name, holder in holders.items()}
    folders = values["saved_models"] or [values["saved_model"]]
    shards = values["shards"] or values["demo_shards"]
    if not all(folders) or not shards:
        raise UserError("need --saved_models, and --shards or --demo_shards; see --help")
    names = [field.name for field in dataclasses.fields(Setting)]
    setting = Setting(**{**{name: values[name] for name in names}, "shards": shards})
    # The demo's truth tells nothing of real clips.
    told = None if values["shards"] else values["demo_clips"]

    def make() -> tables.Table:
        models = [saved_model.SavedModel(pathlib.Path(folder)) for folder in folders]
        weights = values["vgg16_weights"]
        return make_table(
            models,
            setting,
            classes=ontology.read_ontology(values["ontology"]),
            vgg=vgg16.Vgg16(weights) if weights else None,
            truth=clips.read_truth(told) if told else None,
        )

    tables.make_and_write(make, values)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
