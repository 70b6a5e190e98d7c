"""OTS Fig. 3: queries and what AVE-Net retrieves for them, within and across modalities.

"Each column shows one query and retrieved results. Purely for visualization purposes, as it is hard
to display sound, the frame of the video that is aligned with the sound is shown."
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eval import figures
from eval.figures.clip_source import ClipSource, Shown
from eval.metrics import ranking
from l3net.inference import saved_model

VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
SUBJECT = figures.Subject("retrieval", "Cross-modal and intra-modal retrieval", "OTS Fig. 3")
NUM_RETRIEVED = 5
NUM_QUERIES = 3  # of each kind
KINDS = {
    "image to image": (VISION, VISION),
    "image to sound": (VISION, AUDIO),
    "sound to image": (AUDIO, VISION),
    "sound to sound": (AUDIO, AUDIO),
}
_COLUMN_INCHES = 1.05


def draw(
    model: saved_model.SavedModel,
    source: ClipSource,
) -> figures.Drawing:
    """Draws the gallery of retrieval.

    Args:
        model: with aligned embeddings (AVE-Net); not one that takes flow or many frames.
        source: of the clips; its seed draws the queries, too. What is seen and heard names them,
            nothing more.

    Returns:
        The figure, with the sounds of each column that has some.

    Raises:
        UserError: if the network has no embeddings, or the clips cannot be read.
    """
    outputs = {VISION: "embedding", AUDIO: "embedding"}
    found = source.describe(model, outputs)
    features = {name: ranking.l2_normalize(array) for name, array in found.features.items()}
    classes = source.classes_of(found)
    rng = np.random.default_rng(source.seed)
    num_queries = min(NUM_QUERIES, len(found.example_ids))
    queries = rng.choice(len(found.example_ids), num_queries, replace=False)
    columns = [
        (kind, int(query), _retrieved(features, *KINDS[kind], int(query)))
        for kind in KINDS
        for query in queries
    ]
    wanted = {found.example_ids[i] for _, query, got in columns for i in (query, *got)}
    shown = source.read(wanted, frame_px=model.frame_px)
    return _drawing(columns, found.example_ids, shown, classes, source.title)


def _retrieved(
    features: Mapping[str, np.ndarray], query_of: str, items_of: str, query: int
) -> list[int]:
    """Returns the nearest items of other clips, the nearest first."""
    near = ranking.nearest(
        features[query_of][query : query + 1], features[items_of], NUM_RETRIEVED + 1
    )[0]
    return [int(item) for item in near if item != query][:NUM_RETRIEVED]


def _drawing(
    columns: Sequence[tuple[str, int, list[int]]],
    ids: Sequence[str],
    shown: Shown,
    classes: Mapping[str, np.ndarray] | None,
    data: str,
) -> figures.Drawing:
    num_rows = 1 + max((len(got) for _, _, got in columns), default=0)
    figure = figures.new_figure(_COLUMN_INCHES * len(columns) + 0.6, 1.35 * num_rows + 0.9)
    per_kind = len(columns) // len(KINDS)
    groups = figure.subfigures(1, len(KINDS), wspace=0.04)
    sounds = []
    for kind_number, (kind, group) in enumerate(zip(KINDS, groups, strict=True)):
        group.suptitle(kind, fontweight="bold", fontsize=10)
        grid = group.subplots(num_rows, per_kind, squeeze=False)
        of_kind = columns[kind_number * per_kind : (kind_number + 1) * per_kind]
        for axes in grid.flat:
            axes.set_axis_off()
        for column, (_, query, got) in zip(grid.T, of_kind, strict=True):
            for place, (item, axes) in enumerate(zip((query, *got), column, strict=False)):
                modality = KINDS[kind][0 if place == 0 else 1]
                _show(axes, shown.images[ids[item]], modality, _name(classes, modality, item))
            column[0].text(
                0.5, 1.32, "query", ha="center", transform=column[0].transAxes, color="#b03020"
            )
            heard = [
                item
                for place, item in enumerate((query, *got))
                if KINDS[kind][0 if place == 0 else 1] == AUDIO
            ]
            if heard:
                sounds.append(
                    figures.Sound(
                        f"{kind}: {_name(classes, KINDS[kind][0], query) or ids[query]}",
                        np.concatenate([shown.waveforms[ids[item]] for item in heard]),
                    )
                )
    figure.suptitle(f"What AVE-Net retrieves: {data}", fontsize=11)
    return figures.Drawing(
        SUBJECT,
        f"Columns: a query (top) and the {num_rows - 1} nearest of {len(ids)} items of other clips "
        "by Euclidean distance of AVE-Net's embeddings. Queries were drawn at random (ours), the "
        "same for all four kinds. Items marked with a note are sounds, shown by the frame at their "
        "middle. Words: what is seen, or heard, by the labels; no training saw them. The sounds: "
        "those of each column, the query first.",
        figure,
        sounds,
    )


def _show(axes, image: np.ndarray, modality: str, name: str) -> None:
    note = "\N{EIGHTH NOTE} " if modality == AUDIO else ""
    figures.show_image(axes, image)
    axes.set_title(f"{note}{name}", fontsize=7.5, pad=2)


def _name(classes: Mapping[str, np.ndarray] | None, modality: str, item: int) -> str:
    return "" if classes is None else str(classes[modality][item]).split(",")[0]
