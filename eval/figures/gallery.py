"""OTS Fig. 3: queries and what AVE-Net retrieves for them, within and across modalities.

"Each column shows one query and retrieved results. Purely for visualization purposes, as it is hard
to display sound, the frame of the video that is aligned with the sound is shown."
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.figures import drawings
from eval.figures.clip_source import ClipSource, Shown
from eval.metrics import ranking
from l3net.inference import saved_model

VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
SUBJECT = drawings.Subject("retrieval", "Cross-modal and intra-modal retrieval", "OTS Fig. 3")
NUM_RETRIEVED = 5
NUM_QUERIES = 3  # of each kind
KINDS = {
    "image to image": (VISION, VISION),
    "image to sound": (VISION, AUDIO),
    "sound to image": (AUDIO, VISION),
    "sound to sound": (AUDIO, AUDIO),
}
_COLUMN_INCHES = 1.05


def draw(model: saved_model.SavedModel, source: ClipSource) -> drawings.Drawing:
    """Draws queries and what is retrieved for them, with the sounds of each column that has some.

    Args:
        model: with aligned embeddings (AVE-Net); not one that takes flow or many frames.
        source: the clips; their seed draws the queries, too. What is seen and heard names them,
            nothing more.

    Raises:
        UserError: if the network has no embeddings, or the clips cannot be read.
    """
    extracted = source.extract(model, {VISION: "embedding", AUDIO: "embedding"})
    ids = extracted.example_ids
    features = {name: ranking.l2_normalize(array) for name, array in extracted.features.items()}
    classes = source.classes_of(extracted)
    rng = np.random.default_rng(source.seed)
    queries = rng.choice(len(ids), min(NUM_QUERIES, len(ids)), replace=False)
    columns = [
        (kind, int(query), _retrieved(features, *KINDS[kind], int(query)))
        for kind in KINDS
        for query in queries
    ]
    wanted = {ids[item] for _, query, retrieved in columns for item in (query, *retrieved)}
    shown = source.read(wanted, frame_px=model.frame_px)
    return _drawing(columns, ids, shown, classes, source.title)


def _retrieved(
    features: Mapping[str, np.ndarray], query_modality: str, modality: str, query: int
) -> list[int]:
    """Returns the nearest items of other clips, the nearest first."""
    queries = features[query_modality][query : query + 1]
    near = ranking.nearest(queries, features[modality], NUM_RETRIEVED + 1)[0]
    return [int(item) for item in near if item != query][:NUM_RETRIEVED]


def _drawing(
    columns: Sequence[tuple[str, int, list[int]]],
    ids: Sequence[str],
    shown: Shown,
    classes: Mapping[str, np.ndarray] | None,
    data: str,
) -> drawings.Drawing:
    num_rows = 1 + max((len(retrieved) for _, _, retrieved in columns), default=0)
    figure = drawings.new_figure(_COLUMN_INCHES * len(columns) + 0.6, 1.35 * num_rows + 0.9)
    per_kind = len(columns) // len(KINDS)
    groups: Any = figure.subfigures(1, len(KINDS), wspace=0.04)
    sounds = []
    for kind_number, (kind, group) in enumerate(zip(KINDS, groups, strict=True)):
        group.suptitle(kind, fontweight="bold", fontsize=10)
        grid = group.subplots(num_rows, per_kind, squeeze=False)
        of_kind = columns[kind_number * per_kind : (kind_number + 1) * per_kind]
        for axes in grid.flat:
            axes.set_axis_off()
        for column, (_, query, retrieved) in zip(grid.T, of_kind, strict=True):
            items = (query, *retrieved)
            modalities = (KINDS[kind][0], *[KINDS[kind][1]] * len(retrieved))
            for item, modality, axes in zip(items, modalities, column, strict=False):
                _show(axes, shown.images[ids[item]], modality, _name(classes, modality, item))
            column[0].text(
                0.5, 1.32, "query", ha="center", transform=column[0].transAxes, color="#b03020"
            )
            heard = [
                shown.waveforms[ids[item]]
                for item, modality in zip(items, modalities, strict=True)
                if modality == AUDIO
            ]
            if heard:
                title = f"{kind}: {_name(classes, KINDS[kind][0], query) or ids[query]}"
                sounds.append(drawings.Sound(title, np.concatenate(heard)))
    figure.suptitle(f"What AVE-Net retrieves: {data}", fontsize=11)
    return drawings.Drawing(
        SUBJECT,
        f"Columns: a query (top) and the {num_rows - 1} nearest of {len(ids)} items of other clips "
        "by Euclidean distance of AVE-Net's embeddings. Queries were drawn at random (our choice), "
        "the same for all four kinds. Items marked with a note are sounds, shown by the frame at "
        "their middle. Words: what is seen, or heard, by the labels; no training saw them. The "
        "sounds: those of each column, the query first.",
        figure,
        sounds,
    )


def _show(axes, image: np.ndarray, modality: str, name: str) -> None:
    note = "\N{EIGHTH NOTE} " if modality == AUDIO else ""
    drawings.show_image(axes, image)
    axes.set_title(f"{note}{name}", fontsize=7.5, pad=2)


def _name(classes: Mapping[str, np.ndarray] | None, modality: str, item: int) -> str:
    return "" if classes is None else str(classes[modality][item]).split(",")[0]
