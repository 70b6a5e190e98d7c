"""L3 Fig. 10: pool4 in two dimensions, trained network beside random one, by t-SNE.

"For visualization purposes only, we colour the t-SNE embeddings using the labels"; "for clarity
and reduced clutter, only a subset of actions (13 classes out of 34) is shown".
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
import sklearn.decomposition
import sklearn.manifold

from eval.figures import drawings
from eval.figures.clip_source import ClipSource
from eval.metrics import clusters
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.progress import progress

VISION, AUDIO = saved_model.VISION, saved_model.AUDIO
SUBJECT = drawings.Subject("tsne", "t-SNE of learnt and random representations", "L3 Fig. 10")
NUM_CLASSES = 13
_PERPLEXITY = 30.0  # scikit-learn's and van der Maaten's default
_NUM_COMPONENTS = 50  # before t-SNE, as van der Maaten and Hinton did


def tsne(features: np.ndarray, *, seed: int) -> np.ndarray:
    """Lays features out in two dimensions.

    Our choice, for the paper names no settings: rows of length 1, 50 principal components,
    perplexity 30 (a third of the other items where they are under 90), for the rest
    scikit-learn's defaults.

    Args:
        features: float32 [num_items, size], at least 4 items.
        seed: what t-SNE's result depends on.

    Returns:
        float32 [num_items, 2]; units and axes mean nothing.
    """
    rows = clusters.unit_length(features)
    num_components = min(_NUM_COMPONENTS, *rows.shape)
    rows = sklearn.decomposition.PCA(num_components, random_state=seed).fit_transform(rows)
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    layout = sklearn.manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return layout.fit_transform(rows)


def choose_classes(classes: Mapping[str, np.ndarray], num_classes: int = NUM_CLASSES) -> list[str]:
    """Returns the classes that are shown, sorted: those with most items (our choice)."""
    names, counts = np.unique(np.concatenate(list(classes.values())), return_counts=True)
    known = [(-count, str(name)) for name, count in zip(names, counts, strict=True) if name]
    return sorted(name for _, name in sorted(known)[:num_classes])


def draw(networks: Mapping[str, saved_model.SavedModel], source: ClipSource) -> drawings.Drawing:
    """Draws L3 Fig. 10.

    Args:
        networks: title, such as "trained", -> network; one column each, one or two.
        source: the clips; their seed is t-SNE's, too.

    Raises:
        UserError: if the clips have no labels, or fewer than four have.
    """
    outputs = {AUDIO: "pool4", VISION: "pool4"}
    figure = drawings.new_figure(4.2 * len(networks) + 1.9, 7.4)
    grid = figure.subplots(2, len(networks), squeeze=False)
    for column, (title, model) in enumerate(networks.items()):
        extracted = source.extract(model, outputs)
        classes = source.classes_of(extracted)
        if classes is None:
            raise UserError(f"{source.shards} has no labels; t-SNE's points would have no colours")
        names = choose_classes(classes)
        for row, (modality, what) in enumerate(((AUDIO, "audio"), (VISION, "vision"))):
            kept = np.isin(classes[modality], names)
            if kept.sum() < 4:
                raise UserError(f"{kept.sum()} labelled {what} items; t-SNE needs 4 or more")
            with progress(f"t-SNE of {kept.sum()} {what} items"):
                positions = tsne(extracted.features[modality][kept], seed=source.seed)
            _scatter(grid[row, column], positions, classes[modality][kept], names)
            letter = "abcd"[row * len(networks) + column]
            grid[row, column].set_title(f"({letter}) {title}, {what}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="class", frameon=False)
    figure.suptitle(f"t-SNE of pool4: {source.title}")
    return drawings.Drawing(
        SUBJECT,
        "Each point: pool4 of a frame or of a second of sound, one of each clip, laid out by t-SNE "
        f"(axes have no unit) from rows of length 1, {_NUM_COMPONENTS} principal components, "
        f"perplexity {_PERPLEXITY:g} or a third of the items where they are few (our choice). "
        "Colours: the class, which no training saw; at most "
        f"{NUM_CLASSES} classes, those with most clips.",
        figure,
    )


def _scatter(axes, positions: np.ndarray, classes: np.ndarray, names: list[str]) -> None:
    colours = matplotlib.colormaps["tab20"]
    for number, name in enumerate(names):
        of_class = classes == name
        # Twenty colours, and another marker for the odd ones: distinct in grey, too.
        axes.scatter(
            *positions[of_class].T,
            s=14,
            color=colours(2 * number % 20 + number // 10),
            marker="os^Dv"[number % 5],
            label=name.split(",")[0],
            linewidths=0,
        )
    axes.set(xticks=[], yticks=[])
