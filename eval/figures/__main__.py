"""Draws the figures of both papers, as PNG and PDF, with the sounds that belong to them.

    python -m eval.figures --saved_model=runs/l3/saved_model \
        --ave_saved_model=runs/ave/saved_model --avol_saved_model=runs/avol/saved_model \
        --shards=data/audioset/shards --boxes=data/audioset/boxes.csv --out_dir=runs/figures

What is not given is not drawn, and figures.json says so. Without --shards, --demo_shards stands in
and every title says so. Learning curves are drawn by eval.learning_curves, a whole video with its
sound by l3net.localize.
"""

import functools
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tqdm
from absl import flags

from eval import clips, figures, report, sounding_frames
from eval import flags as shared
from eval.figures import confusion, embeddings, gallery, heat_maps, units
from eval.figures.clip_source import ClipSource
from l3net import errors, saved_model
from l3net.data import schema
from l3net.errors import UserError

# Name, title and source of each figure, in the order of the list, as far as it may be missing.
_UNITS = (
    ("units_vision", "Learnt visual concepts", "L3 Fig. 3"),
    ("units_vision_heat_maps", "Visual semantic heat maps", "L3 Fig. 4"),
    ("units_audio", "Learnt audio concepts", "L3 Fig. 7"),
    ("units_audio_heat_maps", "Audio semantic heat maps", "L3 Fig. 9"),
)
_TSNE = (("tsne", "t-SNE of learnt and random representations", "L3 Fig. 10"),)
_CONFUSION = (("confusion", "Confusion matrix of sound classification", "L3 Table 2"),)
_GALLERY = (("retrieval", "Cross-modal and intra-modal retrieval", "OTS Fig. 3"),)
_LOCALIZATION = (
    ("localization", "What is making the sound?", "OTS Fig. 5"),
    ("sounds", "What would make this sound?", "OTS Fig. 6"),
)
_VIDEO = (("video", "What is making the sound? Along a video", "OTS Fig. 7"),)

_log = logging.getLogger(__name__)


def _source(values: Mapping[str, Any]) -> ClipSource:
    """Finds the clips that the flags name, and what is known of them."""
    shards = values["shards"] or values["demo_shards"]
    if not shards:
        raise UserError(
            "no clips: give --shards or --demo_shards, folders that data_prep.write_shards made"
        )
    # The demo's truth tells nothing of real clips.
    told = None if values["shards"] else values["demo_clips"]
    truth = clips.read_truth(told) if told else None
    return ClipSource(
        shards,
        values["split"],
        clips.data_name(shards, values["split"]),
        values["seed"],
        values["cache_dir"],
        truth,
        has_labels=bool(truth) or bool(schema.read_labels(shards)),
    )


def _frames(values: Mapping[str, Any], source: ClipSource) -> sounding_frames.FrameSet:
    """Finds the annotated frames."""
    boxes = values["boxes"] if values["shards"] else values["demo_boxes"]
    if not boxes:
        raise UserError("no annotated boxes: give --boxes (or --demo_boxes)")
    read = sounding_frames.read_boxes(boxes)
    return sounding_frames.from_shards(source.shards, source.split, read)


def _jobs(values: Mapping[str, Any]) -> list[tuple[tuple, Callable[[], list[figures.Drawing]]]]:
    """Returns what can be drawn: names in case it fails, and a function that draws."""
    source = _source(values)

    @functools.cache
    def network(flag: str) -> saved_model.SavedModel:
        if not values[flag]:
            raise UserError(f"no --{flag} was given")
        return saved_model.SavedModel(values[flag])

    @functools.cache
    def localizer() -> heat_maps.Localizer:
        return heat_maps.Localizer(network("avol_saved_model"))

    def both() -> dict[str, saved_model.SavedModel]:
        return {"trained": network("saved_model"), "random": network("random_saved_model")}

    def table2() -> report.Table:
        if not values["table2"]:
            raise UserError("no --table2 was given")
        return report.read_table(values["table2"])[0]

    return [
        (_UNITS, lambda: units.draw(network("saved_model"), source)),
        (_TSNE, lambda: [embeddings.draw(both(), source)]),
        (_CONFUSION, lambda: [confusion.draw(table2())]),
        (_GALLERY, lambda: [gallery.draw(network("ave_saved_model"), source)]),
        (
            _LOCALIZATION,
            lambda: [
                heat_maps.draw_localization(localizer(), _frames(values, source), seed=source.seed),
                heat_maps.draw_sounds(localizer(), _frames(values, source), seed=source.seed),
            ],
        ),
        (_VIDEO, lambda: [heat_maps.draw_video(localizer(), source)]),
    ]


def draw_all(values: Mapping[str, Any]) -> pathlib.Path:
    """Draws what can be drawn and writes the list of figures.

    Args:
        values: flag name -> value.

    Returns:
        Path of figures.json.

    Raises:
        UserError: if there are no clips, or nothing at all could be drawn.
    """
    entries: list[dict[str, Any]] = []
    for names, draw in tqdm.tqdm(_jobs(values), desc="figures", disable=None):
        try:
            with figures.settings():
                drawings = draw()
                entries += [figures.write(drawing, values["out_dir"]) for drawing in drawings]
        except UserError as error:
            _log.warning("%s not drawn: %s", names[0][0], error)
            entries += [figures.not_run(*name, str(error)) for name in names]
    if all(entry["status"] == figures.NOT_RUN for entry in entries):
        raise UserError(f"nothing could be drawn: {entries[0]['caption']}")
    facts = {"flags": dict(values), "seed": values["seed"], "commit": report.commit()}
    return figures.write_list(entries, values["out_dir"], **facts, versions=report.versions())


# --- Flags ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    string = flags.DEFINE_string
    holders = [
        string("ave_saved_model", None, "SavedModel of AVE-Net: OTS Fig. 3."),
        string("avol_saved_model", None, "SavedModel of AVOL-Net: OTS Fig. 5 to 7."),
        string("shards", None, "Prepared folder whose clips are shown."),
        string("split", "test", "Split of the folder."),
        string("boxes", None, "boxes.csv of the clips, as data_prep.datasets writes it."),
        string("demo_clips", None, "clips.csv of the demo data: what is really seen and heard."),
        string("demo_boxes", None, "boxes.csv of the demo data."),
        string("table2", None, "table2.json, for its confusion matrix."),
    ]
    return {**shared.define(), **{holder.name: holder for holder in holders}}


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and draws."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
    draw_all({name: holder.value for name, holder in holders.items()})


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
