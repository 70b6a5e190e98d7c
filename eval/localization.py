r"""Where is what sounds? AVOL-Net's localization (OTS §4.1), and the overlap that others report.

    python -m eval.localization --saved_model=runs/avol/saved_model \
        --shards=data/audioset/shards --boxes=data/audioset/boxes.csv --split=val
    python -m eval.localization --saved_model=runs/avol/saved_model \
        --media_dir=data/flickr_test --boxes=data/flickr_test/boxes.csv --consensus=2 --whole_frame

The prediction is the position of the map's maximum, a hit if it is in a box. Beside it: the same
frames with the sound of another class, which OTS §4.1 and Fig. 6 say leaves the map empty or moves
it.

cIoU and AUC as on VGG-SS and Flickr-SoundNet: Senocak et al., CVPR 2018, §4 (definition, consensus
of annotators), and the published code of Chen et al., CVPR 2021 (the half of the picture with the
highest values is the predicted area; cIoU: frames whose overlap reaches 0.5; AUC: over thresholds).
"""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eval.metrics import localization as metrics
from eval.metrics.accuracy import binomial_error
from eval.reporting import paper_values, tables
from eval.reporting.table_config import TableConfig
from eval.sets import sounding_frames
from eval.sets.sounding_frames import FrameSet, SoundingFrame
from l3net import flags
from l3net.data import schema
from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.media import heat_map
from l3net.progress import progress

CENTRE, OURS, MISMATCHED = "Image centre", "AVOL-Net", "AVOL-Net, sound of another class"
ROWS = (CENTRE, OURS, MISMATCHED)
_TABLE = "localization"
METRICS = (
    tables.Metric("hits", "hits %"),
    tables.Metric("maximum", "mean maximum of the map", decimals=3),
    tables.Metric("empty", "empty maps %"),
    tables.Metric("moved", "maximum moved %"),
    tables.Metric("empty_or_moved", "empty or moved %"),
    tables.Metric("ciou", "cIoU %"),
    tables.Metric("auc", "AUC %"),
)
_SHARES = ("hits", "empty", "moved", "empty_or_moved", "ciou")  # of frames, in per cent
# A map below it everywhere says "does not correspond": nothing here makes this sound.
EMPTY_BELOW = 0.5
_BATCH_SIZE = 32
# Mismatched sounds are drawn from the first so many frames' sounds: 50 MB, whatever the data set.
_POOL_SIZE = 512


@dataclasses.dataclass(frozen=True)
class FramesConfig:
    """The annotated frames."""

    shards: str | None
    boxes: str | None = setting(
        None,
        "CSV of the annotated boxes: boxes.csv as data_prep.datasets or data_prep.demo writes it.",
    )
    media_dir: str | None = setting(
        None, "Folder of pictures ID.jpg and sounds ID.wav, in place of --shards."
    )
    split: str = setting(
        "test", "Split of the shards. Paper: 500 clips of AudioSet-Instruments' validation split."
    )

    def read(self) -> FrameSet:
        """Reads the boxes and returns the frames that they belong to.

        Raises:
            UserError: if a flag is missing, or what it names cannot be read.
        """
        if not self.boxes or bool(self.shards) == bool(self.media_dir):
            raise UserError("need --boxes and one of --shards and --media_dir; see --help")
        annotated = sounding_frames.read_boxes(self.boxes)
        if self.media_dir:
            return sounding_frames.from_folder(self.media_dir, annotated)
        return sounding_frames.from_shards(str(self.shards), self.split, annotated)


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """How predictions are judged."""

    consensus: int = setting(
        1,
        "Annotators who must agree: 2 for Flickr-SoundNet, where each drew boxes of their own.",
        at_least=1,
    )
    whole_frame: bool = setting(
        False,
        "Whether the network is shown the complete frame, squashed to a square, so that every box "
        "is in view; else the centre crop, as in training.",
    )
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The prediction for one frame."""

    point: tuple[float, float]  # (y, x) of the map's maximum, in shares of the frame
    hit: bool  # whether it is in the annotated region
    maximum: float  # the probability that picture and sound correspond
    ciou: float  # overlap of the map's upper half with the region, in what the network sees
    num_highest: int  # cells that share the maximum; of several the first is the prediction
    in_view: bool  # whether the network sees anything of the region


@dataclasses.dataclass(frozen=True)
class Judged:
    """A frame's outcome with its own sound and with that of another class."""

    example_id: str
    centre_hit: bool  # whether the middle of the frame is in the annotated region
    matched: Outcome
    mismatched: Outcome | None  # None if there is no other sound


# --- Measuring -----------------------------------------------------------------------------------
def judge(
    model: saved_model.SavedModel, frames: FrameSet, config: JudgeConfig
) -> tuple[list[Judged], Counter]:
    """Runs AVOL-Net on every annotated frame, with its own and with another sound.

    Returns:
        The outcomes, and how many clips gave no frame, by reason.

    Raises:
        UserError: if there is no frame, or the SavedModel cannot localize.
    """
    judge_batch = functools.partial(_judge_batch, model, model.localization(), config)
    left_out: Counter = Counter()
    pool = list(itertools.islice(_frames(frames, Counter()), _POOL_SIZE))
    rng = np.random.default_rng(config.seed)
    judged: list[Judged] = []
    with progress("localizing", unit="frame", total=frames.num_clips) as shown:
        annotated = _frames(frames, left_out)
        while batch := list(itertools.islice(annotated, _BATCH_SIZE)):
            judged += judge_batch(batch, [_other(frame, pool, rng) for frame in batch])
            shown.advance(len(batch))
    if not judged:
        raise UserError(
            f"{frames.data}: none of the annotated frames is there ({_counted(left_out)}); do the "
            "ids in --boxes agree, and are clips as long as the annotated time (VGG-SS: 5 s)?"
        )
    return judged, left_out


def _judge_batch(
    model: saved_model.SavedModel,
    localize: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    config: JudgeConfig,
    batch: Sequence[SoundingFrame],
    others: Sequence[np.ndarray | None],
) -> list[Judged]:
    """Runs the network on some frames, each with its own sound and with another one."""
    shown = [
        sounding_frames.decode(frame.jpeg, model.frame_px, whole=config.whole_frame)
        for frame in batch
    ]
    images = np.stack([image for image, _ in shown])
    own = [frame.waveform for frame in batch]
    # A frame without another sound is given its own once more, and no outcome of that.
    unlike = [mine if other is None else other for mine, other in zip(own, others, strict=True)]
    maps = []
    for sounds in (own, unlike):
        waveforms = np.stack(sounds).astype(np.float32) / schema.INT16_SCALE
        maps.append(localize({saved_model.IMAGE: images, saved_model.WAVEFORM: waveforms}))
    judged = []
    for frame, (_, view), other, *heats in zip(batch, shown, others, *maps, strict=True):
        boxes = frame.annotation.boxes
        matched, mismatched = (
            _outcome(heat, boxes, view, images.shape[1:3], config.consensus) for heat in heats
        )
        centre_hit = metrics.is_hit((0.5, 0.5), boxes, config.consensus)
        judged.append(
            Judged(frame.example_id, centre_hit, matched, None if other is None else mismatched)
        )
    return judged


def _frames(frames: FrameSet, left_out: Counter) -> Iterator[SoundingFrame]:
    """Yields the frames and counts the clips that give none."""
    for frame in frames.read():
        if isinstance(frame, str):
            left_out[frame] += 1
        else:
            yield frame


def _other(
    frame: SoundingFrame, pool: Sequence[SoundingFrame], rng: np.random.Generator
) -> np.ndarray | None:
    """Draws the sound of another video of another class; without classes, of another video."""
    label = frame.annotation.label
    candidates = [
        other.waveform
        for other in pool
        if other.media_id != frame.media_id and not (label and other.annotation.label == label)
    ]
    return candidates[rng.integers(len(candidates))] if candidates else None


def _outcome(
    heat: np.ndarray,
    boxes: np.ndarray,
    view: sounding_frames.View,
    image_px: tuple[int, int],
    consensus: int,
) -> Outcome:
    point = view.to_frame(heat_map.peak(heat, image_px))
    area = metrics.upper_half(heat_map.enlarge(heat, image_px, (metrics.RASTER_PX,) * 2))
    agreed = metrics.consensus_map(view.of_boxes(boxes), consensus)
    return Outcome(
        point,
        metrics.is_hit(point, boxes, consensus),
        float(heat.max()),
        metrics.ciou(area, agreed),
        int((heat == heat.max()).sum()),
        bool(agreed.any()),
    )


# --- The table -----------------------------------------------------------------------------------
def make_table(
    model: saved_model.SavedModel, frames: FrameSet, config: JudgeConfig
) -> tables.Table:
    """Measures image centre, AVOL-Net and AVOL-Net with the sound of another class."""
    judged, left_out = judge(model, frames, config)
    measured = {
        CENTRE: _hits([one.centre_hit for one in judged]),
        OURS: _summary([one.matched for one in judged]),
    }
    pairs = [(one.matched, one.mismatched) for one in judged if one.mismatched is not None]
    if pairs:
        moved = [own.point != other.point for own, other in pairs]
        empty = [other.maximum < EMPTY_BELOW for _, other in pairs]
        measured[MISMATCHED] = _summary([other for _, other in pairs])
        measured[MISMATCHED]["moved"] = 100 * float(np.mean(moved))
        measured[MISMATCHED]["empty_or_moved"] = 100 * float(np.logical_or(empty, moved).mean())
    measured[OURS] |= {
        "metadata": model.metadata,
        "left_out": dict(left_out),
        "frames": [_line(one) for one in judged],
    }
    data = f"{frames.data}, {len(judged)} frames"
    rows = [
        _row(
            data, method, paper_values.values(_TABLE, frames.data_set, method), measured.get(method)
        )
        for method in ROWS
    ]
    return tables.Table(
        _TABLE,
        "OTS §4.1: localization of what sounds",
        METRICS,
        rows,
        _notes(left_out, config, measured[OURS]),
    )


def _hits(hits: Sequence[bool]) -> dict[str, Any]:
    low, high = metrics.wilson_interval(sum(hits), len(hits))
    return {
        "hits": 100 * float(np.mean(hits)),
        "hits_95_percent": [100 * low, 100 * high],
        "num_frames": len(hits),
    }


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    maxima = np.array([outcome.maximum for outcome in outcomes])
    overlaps = [outcome.ciou for outcome in outcomes]
    return {
        **_hits([outcome.hit for outcome in outcomes]),
        "maximum": float(maxima.mean()),
        "empty": 100 * float((maxima < EMPTY_BELOW).mean()),
        "ciou": 100 * metrics.success_rate(overlaps),
        "auc": 100 * metrics.success_auc(overlaps),
        "mean_overlap": float(np.mean(overlaps)),
        # Where the sigmoid is 1 in float32, the position of the maximum is unknown.
        "tied": 100 * float(np.mean([outcome.num_highest > 1 for outcome in outcomes])),
        "num_unseen": sum(not outcome.in_view for outcome in outcomes),
    }


def _line(one: Judged) -> dict[str, Any]:
    """Returns a frame's outcome for the .json: what it takes to find examples for a figure."""

    def rounded(outcome: Outcome | None) -> dict[str, Any] | None:
        if outcome is None:
            return None
        return {
            "y_x": [round(side, 4) for side in outcome.point],
            "hit": outcome.hit,
            "maximum": round(outcome.maximum, 4),
            "ciou": round(outcome.ciou, 4),
        }

    return {
        "example_id": one.example_id,
        "centre_hit": one.centre_hit,
        "matched": rounded(one.matched),
        "mismatched": rounded(one.mismatched),
    }


def _row(
    data: str, method: str, paper: dict[str, float], measured: dict[str, Any] | None
) -> tables.Row:
    if measured is None:
        return tables.Row(data, method, tables.NOT_RUN, paper, note="no sound of another class")
    ours = {metric.key: measured[metric.key] for metric in METRICS if metric.key in measured}
    errors = {
        key: binomial_error(ours[key], measured["num_frames"]) for key in _SHARES if key in ours
    }
    low, high = measured["hits_95_percent"]
    note = f"hits: 95 % in {low:.1f} to {high:.1f}" + ("; paper: 500 clips" if paper else "")
    return tables.Row(data, method, tables.RUN, paper, ours, note, measured, errors)


def _counted(left_out: Counter) -> str:
    return "; ".join(f"{count} {why}" for why, count in sorted(left_out.items())) or "none"


def _notes(left_out: Counter, config: JudgeConfig, measured: dict[str, Any]) -> list[str]:
    shown = "complete frame, squashed" if config.whole_frame else "centre crop of 224/256"
    return [
        "A hit: the position of the map's maximum is in the annotated region, without tolerance "
        "(our choice; the paper names none).",
        f"The network sees the {shown} and hears the second around it. Regions: where "
        f"{config.consensus} box(es) overlap. Frames whose regions it does not see: "
        f"{measured['num_unseen']}. Clips left out: {_counted(left_out)}.",
        f"Empty: the map is below {EMPTY_BELOW} everywhere. Moved: its maximum is in another cell "
        "than with the frame's own sound. Hits of the mismatched row are still those of what "
        "sounds in the frame's own clip.",
        "cIoU: share of frames where the map's upper half and the region overlap by 0.5 or more; "
        "AUC: mean of that share over all thresholds; both inside what the network sees.",
        f"Maps whose maximum several cells share (the first counts): {measured['tied']:.1f} %.",
    ]


def main(table: TableConfig, frames: FramesConfig, judging: JudgeConfig) -> None:
    """Localizes in each annotated frame and writes the table."""
    if not table.saved_model:
        raise UserError("need --saved_model of an AVOL-Net; l3net.export makes one")
    model_dir = table.saved_model
    tables.make_and_write(
        lambda: make_table(saved_model.SavedModel(model_dir), frames.read(), judging),
        table,
        frames,
        judging,
    )


if __name__ == "__main__":
    flags.run(main, TableConfig, FramesConfig, JudgeConfig)
