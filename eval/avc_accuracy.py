r"""AVC accuracy of exported networks on fixed held-out pairs (L3 §3.2, Table 1; OTS §3).

    python -m eval.avc_accuracy --saved_models=runs/l3/saved_model,runs/ave/saved_model \
        --shards=data/flickr/shards

The pairs are drawn once by seed and kept in the prepared folder, so that all networks of the same
sampling classify the same; half are positives, so chance is 50 %. A pair is classified correctly if
the network gives its label more than 50 %.

Classifiers (`supervised_vision`, `supervised_audio`) get a row with their accuracy on the pairs'
frames or sounds; one of each makes the baseline "supervised direct" (L3 §3.2): the scalar product
of the two softmax outputs, against the threshold that is best on the validation split.
"""

import dataclasses
from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

import numpy as np

from eval.methods import networks
from eval.metrics import accuracy as metrics
from eval.reporting import paper_values, synthetic, tables
from eval.reporting.table_config import TableConfig
from eval.sets import clips
from l3net import constants, flags
from l3net.data import augment, avc_pairs, damage, fixed_pairs, schema
from l3net.data.shards import find_shards, read_clips
from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.progress import progress

_THRESHOLD_SPLIT = "val"
_BATCH_SIZE = 50

# The papers' words for each network; their numbers are in `paper_values`.
_METHODS = {
    "l3_net": "L3-Net",
    "l3_net_ots": "L3-Net, as in OTS",
    "ave_net": "AVE-Net",
    "ave_net_mf": "AVE+MF",
    "ave_net_of": "AVE+OF",
    "avol_net": "AVOL-Net",
    "supervised_pretraining": "Supervised pretraining",
    "supervised_vision": "Supervised vision (classes)",
    "supervised_audio": "Supervised audio (classes)",
}
# AVE-Net trained with another sampling than OTS's own (OTS §3.3).
_SAMPLED = {"naive": "AVE-Net, no shortcut prevention", "l3": "AVE-Net, sampling of L3"}
_DIRECT = "Supervised direct"
_TABLE = "avc_accuracy"
_DEFAULT_SAMPLING = "l3"  # for a SavedModel that does not say how it was trained
_VISION, _AUDIO = "supervised_vision", "supervised_audio"


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks."""

    saved_models: tuple[str, ...] = setting(
        (), "SavedModels that l3net.export wrote, a row each; without this flag --saved_model."
    )


@dataclasses.dataclass(frozen=True)
class Questions:
    """Held-out pairs."""

    shards: str
    flow_shards: str | None = setting(
        None, "Folder of the same clips prepared with optical flow, for AVE+OF."
    )
    split: str = setting("test", "Split of --shards from which the pairs are drawn.")
    num_pairs: int = setting(
        0,
        "Number of fixed pairs, even; half of them are positives, and every clip gives as many as "
        "any other but for a remainder. 0: the fewest that are at least "
        f"{fixed_pairs.MIN_PAIRS} and as many of every clip.",
        at_least=0,
    )
    sampling: str | None = setting(
        None,
        "Second of sound that goes with a frame in a positive pair; see l3net.data.avc_pairs. "
        "Without this flag each network is tested with the sampling that it was trained with.",
        choices=avc_pairs.SAMPLINGS,
    )
    misalignment_seconds: float = setting(
        0.0,
        "Largest random shift of the sound of test pairs under the sampling ots, forth or back, in "
        "seconds. It is an augmentation in OTS, so test pairs have none; our choice.",
        at_least=0,
    )
    seed: int = 0

    def asked_of(self, model: saved_model.SavedModel) -> "Questions":
        """Returns these questions with the network's own sampling, unless one was given."""
        sampling = self.sampling or networks.training_flag(model, "sampling") or _DEFAULT_SAMPLING
        return dataclasses.replace(self, sampling=sampling)

    def count(self, split: str | None = None) -> int:
        """Returns the number of pairs, perhaps of another split."""
        return self.num_pairs or fixed_pairs.balanced_num_pairs(self.shards, split or self.split)

    def in_words(self) -> str:
        """Returns what a row says, such as "10080 fixed test pairs, l3 sampling"."""
        words = f"{self.count()} fixed {self.split} pairs"
        words += f", {self.sampling} sampling" if self.sampling else ""
        shifted = self.sampling == "ots" and self.misalignment_seconds
        return words + (f", misaligned by up to {self.misalignment_seconds:g} s" if shifted else "")

    def batches(self, model: saved_model.SavedModel, split: str | None = None) -> Iterator[dict]:
        """Yields batches of fixed pairs, perhaps of another split, as the signatures take them.

        Yields:
            {"image", "images", "flow", "waveform"} as far as the network takes them (UserError
            without a folder of flow); "corresponds", "frame_label", "audio_label": int32 [N]; the
            clips' ids "frame_clip", "audio_clip": bytes [N].
        """
        sampling = self.asked_of(model).sampling
        assert sampling is not None
        num_pairs = self.count(split)
        folder = clips.folder_for(model, self.shards, self.flow_shards)
        path = fixed_pairs.fixed_pairs(
            folder,
            split or self.split,
            num_pairs=num_pairs,
            sampling=sampling,
            misalignment_seconds=self.misalignment_seconds,
            inputs=model.inputs,
            seed=self.seed,
        )
        dataset = fixed_pairs.read_pairs(
            path,
            batch_size=_BATCH_SIZE,
            frame_px=model.frame_px,
            inputs=model.inputs,
            with_clips=True,
        )
        with progress(networks.kind(model), unit="pair", total=num_pairs) as shown:
            for batch in damage.checked(dataset.as_numpy_iterator(), [path]):
                yield _to_floats(batch)
                shown.advance(len(batch[constants.CORRESPONDS_KEY]))


def _to_floats(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns sound and flow of a batch into what the signatures take."""
    batch = dict(batch)
    if saved_model.WAVEFORM in batch:
        levels = batch[saved_model.WAVEFORM].astype(np.float32)
        batch[saved_model.WAVEFORM] = levels / schema.INT16_SCALE
    if saved_model.FLOW in batch:
        batch[saved_model.FLOW] = augment.flow_to_float(batch[saved_model.FLOW]).numpy()
    return batch


# --- Measuring -----------------------------------------------------------------------------------
class Measured(NamedTuple):
    """An accuracy in [0, 1], and its standard error.

    Pairs of the same clip are not independent: the error is clustered by the clip of the frame (of
    the sound for a classifier of sounds), see `metrics.clustered_error`. That the sound of a
    negative is of yet another clip is left out (our choice).
    """

    accuracy: float
    error: float


def _measured(correct: np.ndarray, clips_of: np.ndarray) -> Measured:
    return Measured(float(correct.mean()), metrics.clustered_error(correct, clips_of))


def accuracy(model: saved_model.SavedModel, questions: Questions) -> Measured:
    """Returns the share of pairs that are classified correctly, every pair once."""
    judge = model.correspondence()
    correct, names = [], []
    for batch in questions.batches(model):
        truth = batch[constants.CORRESPONDS_KEY] == constants.CORRESPONDS
        correct.append((judge(batch) > 0.5) == truth)
        names.append(batch[fixed_pairs.FRAME_CLIP])
    return _measured(np.concatenate(correct), np.concatenate(names))


def class_scores(
    model: saved_model.SavedModel, questions: Questions, split: str | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Runs a classifier of frames or of sounds over the pairs, perhaps of another split.

    Returns:
        Softmax outputs float32 [pairs, classes], and by name the pairs' numbers, int32 [pairs], and
        their clips' ids, bytes [pairs].
    """
    sees = constants.FRAME in model.inputs
    classify = model.features(saved_model.VISION if sees else saved_model.AUDIO, "softmax")
    taken = saved_model.IMAGE if sees else saved_model.WAVEFORM
    known = (*fixed_pairs.NUMBERS, fixed_pairs.FRAME_CLIP, fixed_pairs.AUDIO_CLIP)
    scores: list[np.ndarray] = []
    facts: dict[str, list[np.ndarray]] = {name: [] for name in known}
    for batch in questions.batches(model, split):
        scores.append(classify(batch[taken]))
        for name, values in facts.items():
            values.append(batch[name])
    return np.concatenate(scores), {name: np.concatenate(v) for name, v in facts.items()}


def class_accuracy(model: saved_model.SavedModel, questions: Questions) -> Measured:
    """Returns the share of the pairs' frames, or sounds, that a classifier classifies correctly."""
    scores, facts = class_scores(model, questions)
    label, clip = constants.AUDIO_LABEL, fixed_pairs.AUDIO_CLIP
    if constants.FRAME in model.inputs:
        label, clip = constants.FRAME_LABEL, fixed_pairs.FRAME_CLIP
    return _measured(scores.argmax(axis=1) == facts[label], facts[clip])


def supervised_direct(
    vision: saved_model.SavedModel, audio: saved_model.SavedModel, questions: Questions
) -> tuple[Measured, float]:
    """Measures "supervised direct": similarity of the two class distributions (L3 §3.2).

    Returns:
        Accuracy, and the threshold, which comes from the validation split (our choice: the paper
        does not say where from).
    """
    questions = questions.asked_of(vision)  # the same pairs for both

    def scores(split: str | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        seen, facts = class_scores(vision, questions, split)
        heard, _ = class_scores(audio, questions, split)
        return (seen * heard).sum(axis=1), facts

    similarity, facts = scores(_THRESHOLD_SPLIT)
    threshold = metrics.best_threshold(similarity, facts[constants.CORRESPONDS_KEY])
    similarity, facts = scores(None)
    correct = (similarity > threshold) == facts[constants.CORRESPONDS_KEY]
    return _measured(correct, facts[fixed_pairs.FRAME_CLIP]), threshold


# --- The table -----------------------------------------------------------------------------------
def make_table(models: Sequence[saved_model.SavedModel], questions: Questions) -> tables.Table:
    """Measures the accuracy of each network.

    Returns:
        A table with a row per network, one more for a pair of classifiers, and those of the papers'
        rows that no network was given for, as not run.
    """
    data = _Data.of(questions)
    rows = [_row(model, questions, data) for model in models]
    rows += _direct_rows(models, questions, data)
    rows += _rows_not_run({row.method for row in rows}, questions, data)
    return tables.Table(
        _TABLE,
        "AVC accuracy on held-out pairs (chance 50 %)",
        [
            tables.Metric("accuracy", "accuracy %"),
            tables.Metric("parameters", "parameters, M", decimals=2),
            tables.Metric("minutes", "training, min"),
            tables.Metric("pairs_per_second", "pairs/s", decimals=0),
        ],
        rows,
        [
            "±: standard error over the pairs, those of the same clip taken together (cluster-"
            "robust), for pairs of the same clip are not independent.",
            "Rows of classifiers: share of the pairs' frames (or sounds) classified correctly.",
        ],
    )


class _Data(NamedTuple):
    """The test split: how rows name its data set, the paper's name if it is the paper's, clips."""

    name: str
    data_set: str | None
    num_clips: int

    @classmethod
    def of(cls, questions: Questions) -> "_Data":
        shards = find_shards(questions.shards, questions.split)
        name = next(read_clips(shards)).dataset_name
        data_set = paper_values.data_set_of(name)
        return cls(synthetic.display_name(name), data_set, sum(s.num_clips for s in shards))

    def paper(self, method: str) -> tuple[dict[str, float], list[str]]:
        """Returns the paper's numbers of a method on this data set, and what to say beside them."""
        values = paper_values.values(_TABLE, self.data_set, method)
        remark = paper_values.near(self.data_set, self.num_clips) if values else ""
        return values, [remark] if remark else []


def _row(model: saved_model.SavedModel, questions: Questions, data: _Data) -> tables.Row:
    kind = networks.kind(model)
    method = _METHODS.get(kind, kind)
    trained_with = networks.training_flag(model, "sampling")
    if kind == "ave_net":
        method = _SAMPLED.get(trained_with or "", method)
    questions = questions.asked_of(model)
    paper, remarks = data.paper(method)
    if trained_with and trained_with != questions.sampling:
        paper, remarks = {}, [f"trained with {trained_with} sampling"]  # the paper tests alike
    measure = class_accuracy if kind in (_VISION, _AUDIO) else accuracy
    ours, errors = _per_cent(measure(model, questions))
    return tables.Row(
        f"{data.name}, {questions.in_words()}",
        method,
        tables.RUN,
        paper=paper,
        ours={**ours, **_cost(model)},
        errors=errors,
        note=", ".join([kind, f"{model.metadata.get('trained_steps', '?')} steps", *remarks]),
        details={"metadata": model.metadata, "questions": dataclasses.asdict(questions)},
    )


def _per_cent(measured: Measured) -> tuple[dict[str, float], dict[str, float]]:
    known = np.isfinite(measured.error)  # not of pairs of a single clip
    errors = {"accuracy": 100 * measured.error} if known else {}
    return {"accuracy": 100 * measured.accuracy}, errors


def _rows_not_run(methods: Set[str], questions: Questions, data: _Data) -> list[tables.Row]:
    """Returns a row for every method that a paper has a number of, on whatever data."""
    sets = (paper_values.FLICKR, paper_values.KINETICS, paper_values.AUDIOSET)
    known = dict.fromkeys(m for name in sets for m in paper_values.methods(_TABLE, name))
    rows = []
    for method in (method for method in known if method not in methods):
        paper, remarks = data.paper(method)
        where = f"{data.name}, {questions.in_words()}"
        rows.append(tables.Row(where, method, tables.NOT_RUN, paper, note=", ".join(remarks)))
    return rows


def _direct_rows(
    models: Sequence[saved_model.SavedModel], questions: Questions, data: _Data
) -> list[tables.Row]:
    by_kind = {networks.kind(model): model for model in models}
    if not {_VISION, _AUDIO} <= set(by_kind):
        return []
    measured, threshold = supervised_direct(by_kind[_VISION], by_kind[_AUDIO], questions)
    costs = [_cost(by_kind[kind]) for kind in (_VISION, _AUDIO)]
    summed = {
        key: sum(cost[key] for cost in costs)
        for key in ("parameters", "minutes")
        if all(key in cost for cost in costs)
    }
    paper, remarks = data.paper(_DIRECT)
    ours, errors = _per_cent(measured)
    return [
        tables.Row(
            f"{data.name}, {questions.asked_of(by_kind[_VISION]).in_words()}",
            _DIRECT,
            tables.RUN,
            paper=paper,
            ours={**ours, **summed},
            errors=errors,
            note=", ".join([f"threshold {threshold:.3g} from {_THRESHOLD_SPLIT}", *remarks]),
        )
    ]


def _cost(model: saved_model.SavedModel) -> dict[str, float]:
    """Returns what training took, as far as the SavedModel says."""
    training = model.metadata.get("training") or {}
    cost = {
        "parameters": model.metadata.get("num_parameters", 0) / 1e6,
        "minutes": training.get("seconds", 0) / 60,
        "pairs_per_second": training.get("pairs_per_second", 0),
    }
    return {key: value for key, value in cost.items() if value}


def main(table: TableConfig, config: Config, questions: Questions) -> None:
    """Measures and writes the table."""
    folders = config.saved_models or (table.saved_model,)
    if not all(folders) or not questions.shards:
        raise UserError("--saved_models and --shards are needed; see --help")

    def make() -> tables.Table:
        models = [saved_model.SavedModel(folder) for folder in folders if folder]
        return make_table(models, questions)

    tables.make_and_write(make, table, config, questions)


if __name__ == "__main__":
    flags.run(main, TableConfig, Config, Questions)
