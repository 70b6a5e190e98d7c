r"""OTS Table 1: retrieval of images and sounds by images and sounds, mean nDCG@30.

    python -m eval.retrieval --saved_models=runs/l3/saved_model,runs/ave/saved_model \
        --shards=data/audioset/shards --ontology=data/audioset/ontology.json --out_dir=runs/audioset

From each test clip one random frame and the 1 s of sound around it make the gallery; each of them
is a query, too. How relevant a clip is to another follows from its labels, see
`eval.sets.ontology`.

What the paper leaves open, and how it is read here:
- Gain: 2^r - 1. Random chance then scores .35 on AudioSet-Instruments, near the paper's .407; with
  gain r it would score .89 (`--gain=linear`). All labels of a clip count, not only instruments.
- The query's own item is part of the gallery: the paper builds one gallery, takes "each item" of
  it as a query and searches "the same database". So image-to-image and sound-to-sound rankings
  begin with the query itself, worth up to .07. `--noquery_in_gallery` leaves it out; the .json has
  both. Across modalities the clip's other half is always there: to retrieve it is the task.
- Clips without labels are neither queries nor in the gallery.
- Items that score alike are in random order, by seed: features that are all alike score as chance.
- CCA is fitted on one frame with its second of sound from each of at most 50,000 training clips,
  of the paper's 263k (`--cca_max_clips`). Its regularisation is the one of
  `cca.REGULARIZATION_GRID`, plain CCA among them, that is best across modalities by the labels of
  the validation split: a baseline should be as strong as it can be, and with few clips this decides
  how good it is.
- "For all cases the representations are L2-normalized": those that are searched, as AVE-Net's,
  which the same sentence names. What CCA is fitted on is not, for its own scale is CCA's to find;
  `--cca_unit_length` normalises that too.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from eval.methods import cca, networks, vgg16
from eval.metrics import ndcg, ranking
from eval.reporting import paper_values, synthetic, tables
from eval.reporting.table_config import LabelledConfig
from eval.sets import clips, ontology
from l3net import flags
from l3net.data import avc_pairs
from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.progress import progress

_log = logging.getLogger(__name__)

NUM_RETRIEVED = 30  # "k = 30 throughout"
VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
# Modality of the query, modality of the gallery.
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
# The table's rows in the paper's order, those without numbers last.
ROWS = (CHANCE, L3, L3_CCA, VGG, VGG_CCA, AVE, AVE_OF, AVE_MF, AVE_NAIVE)
_REMARKS = {AVE_MF: "paper: no better than AVE-Net", AVE_NAIVE: "paper: 1-2 % below AVE-Net"}
_METHODS = {
    "l3_net": L3,
    "l3_net_ots": L3,
    "ave_net": AVE,
    "ave_net_of": AVE_OF,
    "ave_net_mf": AVE_MF,
}
_OUTPUTS = {L3: "pool4"}  # "the vanilla L3-Net produces 512-D representations"


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """What is searched, and how it is scored."""

    shards: str
    cache_dir: str
    seed: int = 0
    flow_shards: str | None = setting(
        None, "Folder of the same clips prepared with optical flow, for AVE+OF."
    )
    split: str = setting("test", "Split whose clips are the queries and the gallery.")
    train_split: str = setting("train", "Split that CCA is fitted on.")
    val_split: str = setting("val", "Split that CCA's regularisation is chosen on.")
    gain: str = setting(
        ndcg.EXPONENTIAL,
        "Gain of an item of relevance r: 2^r - 1 (exponential) or r (linear); open in the paper.",
        choices=ndcg.GAINS,
    )
    query_in_gallery: bool = setting(
        True,
        "Whether image-to-image and sound-to-sound queries may retrieve themselves; the .json has "
        "both scores.",
    )
    cca_regularization: float | None = setting(
        None,
        "CCA's regularisation, added to each feature's variance as a share of the mean variance. "
        "0 is plain CCA. Without it: chosen by the labels of --val_split from "
        f"{', '.join(f'{s:g}' for s in cca.REGULARIZATION_GRID)}.",
        at_least=0.0,
    )
    cca_max_clips: int = setting(
        50_000,
        "How many clips of --train_split CCA is fitted on at most; the paper has 263 thousand.",
        at_least=2,
    )
    cca_unit_length: bool = setting(
        False,
        "Whether features have length 1 already when CCA is fitted on them; what is searched "
        "always has.",
    )

    def extract(
        self, model: clips.Network, outputs: Mapping[str, str], split: str
    ) -> clips.ClipFeatures:
        """Extracts features of an item of each clip of a split, at most cca_max_clips for CCA.

        Raises:
            UserError: if the network takes flow and there is no folder with flow.
        """
        return clips.extract_features(
            model,
            clips.folder_for(model, self.shards, self.flow_shards),
            split,
            outputs,
            seed=self.seed,
            cache_dir=self.cache_dir,
            max_clips=self.cca_max_clips if split == self.train_split else None,
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks, and what is known of the clips."""

    saved_models: tuple[str, ...] = setting(
        (), "SavedModels of l3net.export, separated by commas; each says which network it is."
    )
    ontology: str | None = setting(
        None, "AudioSet's ontology.json. Without it: a small part, enough for the demo data."
    )
    vgg16_weights: str | None = setting(
        None,
        "File of ImageNet's weights, Keras' vgg16_weights_tf_dim_ordering_tf_kernels.h5, for the "
        "rows of VGG16.",
    )


# --- Scores --------------------------------------------------------------------------------------
class Gallery:
    """The items that are queries and are searched: `example_ids`, the clips with labels.

    They are in the order in which items that score alike come.
    """

    def __init__(
        self,
        split: str,
        example_ids: Sequence[str],
        labels: Sequence[Sequence[str]],
        classes: ontology.Ontology,
        search: SearchConfig,
    ):
        """Orders the clips and looks up their labels.

        Raises:
            UserError: if fewer than two clips have labels, or a label is not in the ontology.
        """
        labelled = [index for index, of_clip in enumerate(labels) if of_clip]
        if len(labelled) < 2:
            raise UserError(
                f"{len(labelled)} of {len(labels)} clips of split {split!r} in {search.shards} "
                "have labels; need at least two to know what is relevant"
            )
        order = np.random.default_rng(search.seed).permutation(labelled)
        self.example_ids = [example_ids[index] for index in order]
        self.num_unlabelled = len(labels) - len(labelled)
        self._query_in_gallery = search.query_in_gallery
        relevance = ontology.Relevance(classes, [labels[index] for index in order])
        self._judge = ranking.Judge(relevance, k=NUM_RETRIEVED, gain=search.gain)

    def rows_of(self, extracted: clips.ClipFeatures) -> dict[str, np.ndarray]:
        """Returns modality -> L2-normalised features of the gallery's clips, in its order.

        Raises:
            UserError: if the features are those of other clips.
        """
        index_of = {example_id: row for row, example_id in enumerate(extracted.example_ids)}
        missing = [example_id for example_id in self.example_ids if example_id not in index_of]
        if missing:
            raise UserError(
                f"{len(missing)} clip(s) such as {missing[0]} are not in every folder; --shards "
                "and --flow_shards must hold the same clips"
            )
        order = [index_of[example_id] for example_id in self.example_ids]
        features = extracted.features.items()
        return {name: ranking.l2_normalize(array[order]) for name, array in features}

    def scores(self, features: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Scores every direction for which there are features.

        Args:
            features: modality -> L2-normalised, in the clips' order; both of one size.

        Returns:
            "ndcg": direction -> mean nDCG@30; "standard_error" of that over the queries, see
            `ranking.Score`; "ndcg_query_in_database"
            and "ndcg_query_left_out" (within one modality): the means with and without the query
            in the gallery.
        """

        def score(query: str, searched: str, leave_out_own: bool) -> ranking.Score:
            rows = features[query], features[searched]
            return self._judge.score(*rows, leave_out_own=leave_out_own)

        return self._scores(features, score)

    def chance(self) -> dict[str, Any]:
        """Returns the expected scores of random rankings, in the form of `scores`, no errors."""
        random = self._judge.random_chance
        return self._scores((VISION, AUDIO), lambda _, __, own: random(leave_out_own=own))

    def _scores(
        self, modalities: Collection[str], score: Callable[[str, str, bool], ranking.Score]
    ) -> dict[str, Any]:
        """Scores each direction, within one modality without the query's own item, too."""
        scored = {
            direction: [
                score(query, searched, own) for own in (False, True) if not own or query == searched
            ]
            for direction, (query, searched) in DIRECTIONS.items()
            if {query, searched} <= set(modalities)
        }
        shown = {name: each[0 if self._query_in_gallery else -1] for name, each in scored.items()}
        return {
            "ndcg": {name: one.mean for name, one in shown.items()},
            "standard_error": {
                name: one.standard_error
                for name, one in shown.items()
                if one.standard_error is not None
            },
            "ndcg_query_in_database": {name: each[0].mean for name, each in scored.items()},
            "ndcg_query_left_out": {
                name: each[1].mean for name, each in scored.items() if len(each) > 1
            },
        }


# --- Rows ----------------------------------------------------------------------------------------
def _method(model: saved_model.SavedModel) -> str | None:
    """Returns the row of a network; None if the table has none for it."""
    method = _METHODS.get(networks.kind(model))
    naive = networks.training_flag(model, "sampling") == avc_pairs.NAIVE
    return AVE_NAIVE if method == AVE and naive else method


def _outputs(method: str) -> dict[str, str]:
    output = _OUTPUTS.get(method, "embedding")
    return {VISION: output, AUDIO: output}


class _Rows:
    """Runs the rows one by one; the first network's clips say what the gallery is."""

    def __init__(
        self,
        search: SearchConfig,
        classes: ontology.Ontology,
        truth: Mapping[str, Mapping[str, str]] | None,
    ):
        self._search, self._classes, self._truth = search, classes, truth
        self._galleries: dict[str, Gallery] = {}
        self.rows: dict[str, list[tables.Row]] = {method: [] for method in ROWS}

    @property
    def gallery(self) -> Gallery | None:
        """What is searched; None before the first row."""
        return self._galleries.get(self._search.split)

    @property
    def _num_clips(self) -> int:
        return len(self.gallery.example_ids) if self.gallery else 0

    @property
    def data(self) -> str:
        """How a row names its data."""
        name = clips.data_name(self._search.shards, self._search.split)
        return f"{name}, {self._num_clips} {self._search.split} clips"

    def row(self, method: str, note: str, scores: Mapping[str, Any] | None = None) -> tables.Row:
        """Returns a row with the paper's numbers, if they are of the same data; scores if run."""
        name = clips.data_name(self._search.shards, self._search.split)
        data_set = paper_values.data_set_of(name)
        paper = paper_values.values("retrieval", data_set, method)
        size = paper_values.near(data_set, self._num_clips) if paper else ""
        row = tables.Row(
            self.data,
            method,
            tables.NOT_RUN if scores is None else tables.RUN,
            paper,
            note="; ".join(part for part in (note, _REMARKS.get(method), size) if part),
        )
        if scores is None:
            return row
        errors = scores["standard_error"]
        return dataclasses.replace(row, ours=scores["ndcg"], errors=errors, details=dict(scores))

    def add(self, method: str, scores: dict[str, Any], note: str, **details: Any) -> None:
        """Adds a row of scores."""
        self.rows[method].append(self.row(method, note, {**scores, **details}))

    def all(self) -> list[tables.Row]:
        """Returns every method's rows, in the paper's order; those not run say what they need."""
        needs = {VGG: "--vgg16_weights", VGG_CCA: "--vgg16_weights and an L3-Net"}
        needs |= {L3_CCA: f"the SavedModel of {L3}"}
        return [
            row
            for method, run in self.rows.items()
            for row in run
            or [self.row(method, f"needs {needs.get(method, f'the SavedModel of {method}')}")]
        ]

    def scores(self, split: str, extracted: clips.ClipFeatures) -> dict[str, Any]:
        """Scores the features of a split's items; see `Gallery.scores`."""
        if split not in self._galleries:
            ids, labels = extracted.example_ids, extracted.labels
            if self._truth:
                labels = tuple(_true_labels(example_id, self._truth) for example_id in ids)
            self._galleries[split] = Gallery(split, ids, labels, self._classes, self._search)
        gallery = self._galleries[split]
        if split == self._search.split and not self.rows[CHANCE]:
            self.add(CHANCE, gallery.chance(), "expected value")
        return gallery.scores(gallery.rows_of(extracted))

    def add_network(self, method: str, model: saved_model.SavedModel) -> None:
        """Adds the row of a network, and for L3-Net the one with CCA."""
        _log.info("%s: %s", method, networks.in_words(model))
        extract = functools.partial(self._search.extract, model, _outputs(method))
        extracted = extract(self._search.split)
        note = networks.in_words(model) + (", untrained" if networks.is_random(model) else "")
        scores = self.scores(self._search.split, extracted)
        self.add(method, scores, note, metadata=model.metadata, shards=extracted.digest)
        if method == L3:
            self.add_aligned(L3_CCA, extract, note, model.metadata)

    def add_vgg(self, network: vgg16.Vgg16, l3_net: saved_model.SavedModel | None) -> None:
        """Adds the rows of VGG16, the second if there is an L3-Net whose sound features to take."""
        see = functools.partial(self._search.extract, network, {VISION: vgg16.LAST_HIDDEN})
        scores = self.scores(self._search.split, see(self._search.split))
        self.add(VGG, scores, "", metadata=network.metadata)
        if l3_net is None:
            return
        hear = functools.partial(self._search.extract, l3_net, {AUDIO: _OUTPUTS[L3]})
        self.add_aligned(
            VGG_CCA,
            lambda split: _together(see(split), hear(split)),
            networks.in_words(l3_net),
            {"vision": network.metadata, "audio": l3_net.metadata},
        )

    def add_aligned(
        self,
        method: str,
        extract: Callable[[str], clips.ClipFeatures],
        note: str,
        metadata: dict[str, Any],
    ) -> None:
        """Adds a row of features aligned by CCA; `extract`: split -> both modalities' features."""
        search = self._search

        def features(split: str) -> clips.ClipFeatures:
            return _of_unit_length(extract(split)) if search.cca_unit_length else extract(split)

        trained = features(search.train_split)
        regularization, tried = search.cca_regularization, {}
        if regularization is None:
            tried = self._try_regularizations(trained, features(search.val_split))
            regularization = max(tried, key=tried.__getitem__)
        fitted = _fit(trained, regularization)
        scores = self.scores(search.split, _projected(fitted, features(search.split)))
        num_components, num_pairs = len(fitted.correlations), len(trained.example_ids)
        self.add(
            method,
            scores,
            f"{note}; {num_components} components from {num_pairs} training pairs, regularisation "
            f"{regularization:g}",
            metadata=metadata,
            canonical_correlations=fitted.correlations.tolist(),
            cca_pairs=num_pairs,
            cca_regularization=regularization,
            cca_tried={f"{share:g}": score for share, score in tried.items()},
        )

    def _try_regularizations(
        self, trained: clips.ClipFeatures, held_out: clips.ClipFeatures
    ) -> dict[float, float]:
        """Returns the mean score across modalities on the validation split per regularisation."""
        across = [name for name, (query, searched) in DIRECTIONS.items() if query != searched]
        tried = {}
        for share in cca.REGULARIZATION_GRID:
            projected = _projected(_fit(trained, share), held_out)
            scores = self.scores(self._search.val_split, projected)["ndcg"]
            tried[share] = float(np.mean([scores[name] for name in across]))
        _log.info("CCA: nDCG across modalities on validation by regularisation %s", tried)
        return tried


def _fit(trained: clips.ClipFeatures, regularization: float) -> cca.Cca:
    seen, heard = trained.features[VISION], trained.features[AUDIO]
    with progress(f"fitting CCA on {len(seen)} pairs"):
        return cca.fit(seen, heard, regularization=regularization)


def _projected(fitted: cca.Cca, extracted: clips.ClipFeatures) -> clips.ClipFeatures:
    sides = {VISION: fitted.first, AUDIO: fitted.second}
    features = {name: side.project(extracted.features[name]) for name, side in sides.items()}
    return dataclasses.replace(extracted, features=features)


def _of_unit_length(extracted: clips.ClipFeatures) -> clips.ClipFeatures:
    features = {name: ranking.l2_normalize(each) for name, each in extracted.features.items()}
    return dataclasses.replace(extracted, features=features)


def _together(first: clips.ClipFeatures, second: clips.ClipFeatures) -> clips.ClipFeatures:
    """Joins two networks' features of the same items."""
    if first.example_ids != second.example_ids:
        raise ValueError("two networks were shown different items")
    return dataclasses.replace(first, features={**first.features, **second.features})


def _true_labels(example_id: str, truth: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Returns what is seen and what is heard in a clip, once if they are the same."""
    labels = [truth[modality].get(example_id) for modality in (VISION, AUDIO)]
    if None in labels:
        raise UserError(f"--clips does not list the clip {example_id}; does it list other data?")
    return tuple(dict.fromkeys(label for label in labels if label is not None))


# --- The table -----------------------------------------------------------------------------------
def make_table(
    models: Sequence[saved_model.SavedModel],
    search: SearchConfig,
    *,
    classes: ontology.Ontology,
    vgg: vgg16.Vgg16 | None = None,
    truth: Mapping[str, Mapping[str, str]] | None = None,
) -> tables.Table:
    """Scores each network, and random chance: the paper's rows in its order.

    Args:
        models: the networks; those that Table 1 has no row for are left out.
        search: what is searched, and how it is scored.
        classes: the ontology that has the clips' labels.
        vgg: VGG16 with ImageNet's weights.
        truth: see `clips.read_truth`; replaces the clips' labels by what is seen and heard.

    Raises:
        UserError: if no network is left, or anything cannot be read.
    """
    made = _Rows(search, classes, truth)
    methods = [(model, _method(model)) for model in models]
    for model, method in methods:
        if method is None:
            _log.info("%s has no row in this table", networks.kind(model))
        else:
            made.add_network(method, model)
    if vgg is not None:
        trained = [m for m, method in methods if method == L3 and not networks.is_random(m)]
        made.add_vgg(vgg, next(iter(trained), None))
    if made.gallery is None:
        raise UserError("nothing to search with: need --saved_models with L3-Net or AVE-Net")
    return tables.Table(
        "retrieval",
        f"OTS Table 1: cross-modal and intra-modal retrieval, mean nDCG@{NUM_RETRIEVED}",
        [tables.Metric(name, name.replace("_", "-"), decimals=3) for name in DIRECTIONS],
        made.all(),
        _notes(search, made.data, made.gallery.num_unlabelled, has_truth=bool(truth)),
    )


def _notes(search: SearchConfig, data: str, num_unlabelled: int, *, has_truth: bool) -> list[str]:
    own = "part of the gallery" if search.query_in_gallery else "left out of the gallery"
    chosen = f"chosen by labels, the best across modalities on split {search.val_split!r}"
    if search.cca_regularization is not None:
        chosen = f"{search.cca_regularization:g}"
    before = "of length 1 before it, too" if search.cca_unit_length else "not before it"
    notes = [
        "Query - gallery: im = image, aud = sound. ±: standard error over the queries.",
        f"Gain {search.gain}; the query's own item is {own} (im-im and aud-aud); the .json has "
        "both.",
        f"CCA: at most {cca.NUM_COMPONENTS} components, fitted on at most {search.cca_max_clips} "
        f"clips of split {search.train_split!r} (the paper's has 263k); features have length 1 "
        f"after it, {before} (our choice); regularisation, as a share of the mean variance and 0 "
        f"for plain CCA (our choice): {chosen}.",
    ]
    if has_truth:
        notes.append("Labels of a clip: what is seen and what is heard in it, from --clips.")
    if num_unlabelled:
        notes.append(f"{num_unlabelled} clips without labels are left out.")
    if data.startswith(synthetic.DEMO):
        notes.append(synthetic.NOTE)
    return notes


def main(table: LabelledConfig, search: SearchConfig, config: Config) -> None:
    """Searches with each network and writes the table."""
    folders = config.saved_models or (table.saved_model or "",)
    if not all(folders) or not table.shards:
        raise UserError("need --saved_models, and --shards; see --help")

    def make() -> tables.Table:
        weights = config.vgg16_weights
        return make_table(
            [saved_model.SavedModel(folder) for folder in folders],
            search,
            classes=ontology.read_ontology(config.ontology),
            vgg=vgg16.Vgg16(weights) if weights else None,
            truth=clips.read_truth(table.clips) if table.clips else None,
        )

    tables.make_and_write(make, table, search, config)


if __name__ == "__main__":
    flags.run(main, LabelledConfig, SearchConfig, Config)
