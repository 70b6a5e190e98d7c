"""Draws the figures of both papers, as PNG and PDF, with the sounds that belong to them.

    python -m eval.figures --saved_model=runs/l3/saved_model \
        --ave_saved_model=runs/ave/saved_model --avol_saved_model=runs/avol/saved_model \
        --shards=data/audioset/shards --boxes=data/audioset/boxes.csv --out_dir=runs/figures

What is not given is not drawn, and figures.json says so. Without --shards, --demo_shards stands in
and every title says so. A whole video with its sound is drawn by l3net.localize.
"""

import functools
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tqdm
from absl import flags

from eval import figures
from eval.figures import confusion, curves, embeddings, gallery, heat_maps, units
from eval.figures.clip_source import ClipSource
from eval.reporting import flags as shared
from eval.reporting import tables
from eval.sets import clips, sounding_frames
from l3net import errors, provenance
from l3net.data.shards import read_labels
from l3net.errors import UserError
from l3net.inference import saved_model

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
        has_labels=bool(truth) or bool(read_labels(shards)),
    )


def _frames(values: Mapping[str, Any], source: ClipSource) -> sounding_frames.FrameSet:
    """Finds the annotated frames."""
    boxes = values["boxes"] if values["shards"] else values["demo_boxes"]
    if not boxes:
        raise UserError("no annotated boxes: give --boxes (or --demo_boxes)")
    read = sounding_frames.read_boxes(boxes)
    return sounding_frames.from_shards(source.shards, source.split, read)


def _jobs(
    values: Mapping[str, Any],
) -> list[tuple[Sequence[figures.Subject], Callable[[], list[figures.Drawing]]]]:
    """Returns what can be drawn: subjects, in case it fails, and a function that draws them."""
    source = _source(values)

    @functools.cache
    def network(flag: str) -> saved_model.SavedModel:
        return saved_model.SavedModel(_given(values, flag))

    def table(flag: str) -> tables.Table:
        return tables.read_table(_given(values, flag))[0]

    def both() -> dict[str, saved_model.SavedModel]:
        return {"trained": network("saved_model"), "random": network("random_saved_model")}

    @functools.cache
    def localizer() -> heat_maps.Localizer:
        return heat_maps.Localizer(network("avol_saved_model"))

    def localizations() -> list[figures.Drawing]:
        annotated = _frames(values, source)
        frames = heat_maps.first_frames(annotated)
        return [
            draw(localizer(), frames, annotated.data, seed=source.seed)
            for draw in (heat_maps.draw_localization, heat_maps.draw_sounds)
        ]

    return [
        ([curves.SUBJECT], lambda: [curves.draw(table("learning_curves"))]),
        (units.SUBJECTS, lambda: units.draw(network("saved_model"), source)),
        ([embeddings.SUBJECT], lambda: [embeddings.draw(both(), source)]),
        ([confusion.SUBJECT], lambda: [confusion.draw(table("table2"))]),
        ([gallery.SUBJECT], lambda: [gallery.draw(network("ave_saved_model"), source)]),
        ([heat_maps.LOCALIZATION, heat_maps.SOUNDS], localizations),
        ([heat_maps.VIDEO], lambda: [heat_maps.draw_video(localizer(), source)]),
    ]


def _given(values: Mapping[str, Any], flag: str) -> str:
    if not values[flag]:
        raise UserError(f"no --{flag} was given")
    return values[flag]


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
    for subjects, draw in tqdm.tqdm(_jobs(values), desc="figures", disable=None):
        try:
            with figures.settings():
                drawings = draw()
                entries += [figures.write(drawing, values["out_dir"]) for drawing in drawings]
        except UserError as error:
            _log.warning("%s not drawn: %s", subjects[0].name, error)
            entries += [figures.not_run(subject, str(error)) for subject in subjects]
    if all(entry["status"] == figures.NOT_RUN for entry in entries):
        raise UserError(f"nothing could be drawn: {entries[0]['caption']}")
    facts = {"flags": dict(values), "seed": values["seed"], "commit": provenance.commit()}
    return figures.write_list(entries, values["out_dir"], **facts, versions=provenance.versions())


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
        string("learning_curves", None, "learning_curves.json of eval.reporting.curves."),
    ]
    return {**shared.define(), **{holder.name: holder for holder in holders}}


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and draws."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
    draw_all({name: holder.value for name, holder in holders.items()})


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
