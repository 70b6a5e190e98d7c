r"""Draws the figures of both papers, as PNG and PDF, with the sounds that belong to them.

    python -m eval.figures --saved_model=runs/l3/saved_model \
        --ave_saved_model=runs/ave/saved_model --avol_saved_model=runs/avol/saved_model \
        --shards=data/audioset/shards --boxes=data/audioset/boxes.csv --out_dir=runs/figures

A figure whose network or data is not given is not drawn, and figures.json says so. l3net.localize
draws a complete video with its sound.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from eval.figures.clip_source import ClipSource
from eval.reporting import tables
from eval.reporting.table_config import TrainedAndRandomConfig
from eval.sets import clips, sounding_frames
from l3net import flags, provenance
from l3net.data.shards import read_labels
from l3net.errors import UserError, needs_extra
from l3net.files import CannotWriteError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.progress import track

if TYPE_CHECKING:
    from eval.figures import drawings

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks, boxes and tables of single figures."""

    ave_saved_model: str | None = setting(
        None, "SavedModel of the AVE-Net whose retrieval is shown (OTS Fig. 3)."
    )
    avol_saved_model: str | None = setting(
        None, "SavedModel of the AVOL-Net whose maps are shown (OTS Fig. 5 to 7)."
    )
    split: str = setting("test", "Split of the shards whose clips are shown.")
    boxes: str | None = setting(
        None,
        "CSV of annotated boxes, boxes.csv as data_prep.datasets or data_prep.demo writes it: "
        "OTS Fig. 5 and 6.",
    )
    table2: str | None = setting(
        None, "Table whose confusion matrix is drawn: table2.json of eval.table2_sound."
    )
    learning_curves: str | None = setting(
        None, "Validation curves to draw: learning_curves.json of eval.reporting.curves."
    )


def _source(table: TrainedAndRandomConfig, split: str) -> ClipSource:
    """Returns the clips, and what is known of them."""
    if not table.shards:
        raise UserError("no clips: give --shards, a folder that data_prep.write_shards made")
    truth = clips.read_truth(table.clips) if table.clips else None
    return ClipSource(
        table.shards,
        split,
        clips.data_name(table.shards, split),
        table.seed,
        table.cache_dir,
        truth,
        has_labels=bool(truth) or bool(read_labels(table.shards)),
    )


def _jobs(
    table: TrainedAndRandomConfig, config: Config
) -> list[tuple[Sequence["drawings.Subject"], Callable[[], list["drawings.Drawing"]]]]:
    """Returns what can be drawn: subjects, in case it fails, and a function that draws them."""
    from eval.figures import confusion, curves, embeddings, gallery, heat_maps, units

    source = _source(table, config.split)

    def given(flag: str) -> str:
        value = getattr(table if hasattr(table, flag) else config, flag)
        if not value:
            raise UserError(f"no --{flag} was given")
        return value

    @functools.cache
    def network(flag: str) -> saved_model.SavedModel:
        return saved_model.SavedModel(given(flag))

    def read_table(flag: str) -> tables.Table:
        return tables.read_table(given(flag))[0]

    def both() -> dict[str, saved_model.SavedModel]:
        return {"trained": network("saved_model"), "random": network("random_saved_model")}

    @functools.cache
    def localizer() -> heat_maps.Localizer:
        return heat_maps.Localizer(network("avol_saved_model"))

    def localizations() -> list["drawings.Drawing"]:
        boxes = sounding_frames.read_boxes(given("boxes"))
        annotated = sounding_frames.from_shards(source.shards, source.split, boxes)
        frames = heat_maps.first_frames(annotated)
        return [
            draw(localizer(), frames, annotated.data, seed=source.seed)
            for draw in (heat_maps.draw_localization, heat_maps.draw_sounds)
        ]

    return [
        ([curves.SUBJECT], lambda: [curves.draw(read_table("learning_curves"))]),
        (units.SUBJECTS, lambda: units.draw(network("saved_model"), source)),
        ([embeddings.SUBJECT], lambda: [embeddings.draw(both(), source)]),
        ([confusion.SUBJECT], lambda: [confusion.draw(read_table("table2"))]),
        ([gallery.SUBJECT], lambda: [gallery.draw(network("ave_saved_model"), source)]),
        ([heat_maps.LOCALIZATION, heat_maps.SOUNDS], localizations),
        ([heat_maps.VIDEO], lambda: [heat_maps.draw_video(localizer(), source)]),
    ]


def main(table: TrainedAndRandomConfig, config: Config) -> None:
    """Draws what can be drawn and writes the list of figures."""
    with needs_extra("eval", "drawing figures"):
        from eval.figures import drawings
    entries: list[dict[str, Any]] = []
    for subjects, draw in track(_jobs(table, config), "drawing", unit="figure"):
        try:
            with drawings.settings():
                entries += [drawings.write(drawing, table.out_dir) for drawing in draw()]
        except CannotWriteError:
            raise  # nor the next figure
        except UserError as error:
            _log.warning("%s not drawn: %s", subjects[0].name, error)
            entries += [drawings.not_run(subject, str(error)) for subject in subjects]
    if all(entry["status"] == drawings.NOT_RUN for entry in entries):
        raise UserError(f"nothing could be drawn: {entries[0]['caption']}")
    drawings.write_list(
        entries,
        table.out_dir,
        flags=dataclasses.asdict(table) | dataclasses.asdict(config),
        seed=table.seed,
        commit=provenance.commit(),
        versions=provenance.versions(),
    )


if __name__ == "__main__":
    flags.run(main, TrainedAndRandomConfig, Config)
