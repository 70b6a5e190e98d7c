"""What a prepared folder holds: counts, lengths, sizes, loudness and a few clips to look at.

Counts come from the commit markers of the finished shards, everything else from their records, read
once, one clip in memory at a time.
"""

import dataclasses
import math
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_prep.lists import manifest
from data_prep.shards.clip_records import OK
from data_prep.shards.config import TFRECORD
from data_prep.shards.folder import MANIFEST_FILE, read_prep
from data_prep.survey.loudness import Histogram, Sound
from data_prep.survey.sample import SampleClip, Sampling, sample_clip
from l3net.data.list_files import csv_table
from l3net.data.markers import (
    OUTCOMES_FILE,
    finished_marker,
    marker_path,
    shard_name,
)
from l3net.data.schema import Clip
from l3net.data.shards import Shard, read_clips
from l3net.errors import UserError, first_line
from l3net.media.sound import is_silent
from l3net.progress import progress, track

EXAMPLES_PER_REASON = 20
_NUM_DURATION_BINS = 20


@dataclasses.dataclass
class Split:
    """One split, as far as its shards are finished."""

    num_shards: int  # of the finished folder
    num_finished_shards: int = 0
    # (outcome, reason) -> rows of the manifest; ("ok", "") are the clips.
    reasons: Counter = dataclasses.field(default_factory=Counter)
    seconds: float = 0.0
    num_bytes: int = 0

    def num(self, outcome: str) -> int:
        """Returns the number of rows with this outcome."""
        return sum(n for (known, _), n in self.reasons.items() if known == outcome)

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return self.num(OK)


@dataclasses.dataclass
class Survey:
    """What is in a prepared folder; from `survey_folder`."""

    dataset_name: str
    prep: Mapping[str, Any]  # content of prep.json
    splits: Mapping[str, Split]
    has_outcomes_file: bool  # whether write_shards has come to its end
    num_rows: int  # of the manifest
    label_rows: Counter  # label -> rows of the manifest

    # From the commit markers of finished shards.
    durations_seconds: Histogram
    duration_range_seconds: tuple[float, float] = (math.inf, 0.0)  # shortest, longest clip
    # (outcome, reason) -> the first few rows.
    examples: dict[tuple[str, str], list[dict]] = dataclasses.field(default_factory=dict)
    num_shards_with_clips: int = 0

    # From the records: of all clips, or of a sample of the shards.
    num_shards_read: int = 0
    num_clips_read: int = 0
    num_bytes_read: int = 0
    num_frame_bytes: int = 0  # of JPEGs
    num_flow_bytes: int = 0
    frame_sizes_px: Counter = dataclasses.field(default_factory=Counter)  # (width, height) -> clips
    # label -> split -> clips
    labels: defaultdict = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    num_unlabelled: int = 0
    sound: Sound = dataclasses.field(default_factory=Sound)
    silent_clips: list[str] = dataclasses.field(default_factory=list)  # ids of the first few
    sample: list[SampleClip] = dataclasses.field(default_factory=list)

    @property
    def num_clips(self) -> int:
        """Number of clips in finished shards."""
        return sum(split.num_clips for split in self.splits.values())

    @property
    def is_finished(self) -> bool:
        """Whether write_shards has come to its end and every shard is as it left it."""
        return self.has_outcomes_file and all(
            split.num_finished_shards == split.num_shards for split in self.splits.values()
        )

    @property
    def reasons(self) -> Counter:
        """(outcome, reason) -> rows of all splits."""
        return sum((split.reasons for split in self.splits.values()), Counter())


def survey_folder(folder: str | pathlib.Path, sampling: Sampling) -> Survey:
    """Reads a prepared folder, finished or not, once.

    Raises:
        UserError: if this is no prepared folder, it has no clip yet, or a file is damaged.
    """
    folder = pathlib.Path(folder)
    survey = _begin(folder)
    num_shards = sum(split.num_shards for split in survey.splits.values())
    found = _finished_shards(folder, survey)
    finished = list(track(found, "reading markers", unit="shard", total=num_shards))
    if not survey.num_clips:
        raise UserError(f"{folder} has no clip{_why_no_clip(survey)}")
    shards = [(split, shard) for split, shard in finished if shard.num_clips]
    survey.num_shards_with_clips = len(shards)
    shards = [shards[index] for index in sampling.shards([shard.num_clips for _, shard in shards])]
    survey.num_shards_read = len(shards)
    try:
        _read_clips(survey, shards, sampling)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot read {folder}: {first_line(error)}") from error
    return survey


# --- Files beside the shards ---------------------------------------------------------------------
def _begin(folder: pathlib.Path) -> Survey:
    """Returns a survey of the files beside the shards."""
    try:
        prep, config = read_prep(folder)
        num_rows, label_rows = _count_rows(folder / MANIFEST_FILE)
    except (OSError, ValueError, LookupError, UserError) as error:
        raise UserError(
            f"{folder} is no folder of shards ({error}); data_prep.write_shards makes one"
        ) from error
    if config.format != TFRECORD:
        raise UserError(f"{folder} has {config.format} shards; this command reads tfrecord shards")
    splits = {split: Split(count) for split, count in sorted(config.num_shards.items())}
    edges = np.linspace(0, config.max_seconds, _NUM_DURATION_BINS + 1)
    return Survey(
        dataset_name=config.dataset_name,
        prep=prep,
        splits=splits,
        has_outcomes_file=(folder / OUTCOMES_FILE).is_file(),
        num_rows=num_rows,
        label_rows=label_rows,
        durations_seconds=Histogram(edges),
    )


def _count_rows(path: pathlib.Path) -> tuple[int, Counter]:
    """Returns the manifest's number of rows, and label -> rows; holds no row."""
    num_rows = 0
    labels: Counter[str] = Counter()
    for _, row in csv_table(path, ("labels",), what="the manifest"):
        num_rows += 1
        labels.update(label for label in row["labels"].split(manifest.LABEL_SEPARATOR) if label)
    return num_rows, labels


def _finished_shards(folder: pathlib.Path, survey: Survey) -> Iterator[tuple[str, Shard]]:
    """Yields (split, shard) for every shard that fits its marker; counts what the marker says."""
    for name, split in survey.splits.items():
        for index in range(split.num_shards):
            path = folder / shard_name(survey.dataset_name, name, index, split.num_shards)
            marker = finished_marker(path, survey.prep["config_hash"])
            if marker is None:
                continue
            split.num_finished_shards += 1
            split.num_bytes += path.stat().st_size
            try:
                before = split.num_clips
                for row in marker.outcomes or ():
                    _count_outcome(survey, split, row)
                if split.num_clips - before != marker.num_clips:
                    raise ValueError("other num_clips than outcomes")
                yield name, Shard(path, marker.num_clips, ())
            except (LookupError, TypeError, ValueError) as error:
                raise UserError(
                    f"{marker_path(path)} is damaged ({error!r}); delete it and run "
                    "data_prep.write_shards again"
                ) from error


def _count_outcome(survey: Survey, split: Split, row: Mapping) -> None:
    key = row["outcome"], row["reason"]
    split.reasons[key] += 1
    if row["outcome"] == OK:
        seconds = row["seconds"]
        split.seconds += seconds
        survey.durations_seconds.add(seconds)
        shortest, longest = survey.duration_range_seconds
        survey.duration_range_seconds = min(shortest, seconds), max(longest, seconds)
    else:
        examples = survey.examples.setdefault(key, [])
        if len(examples) < EXAMPLES_PER_REASON:
            examples.append({name: row[name] for name in ("path", "example_id", "split", "detail")})


def _why_no_clip(survey: Survey) -> str:
    reasons = sorted(survey.reasons.items())
    if not reasons:
        return ", for no shard is finished; run data_prep.write_shards again to finish it"
    words = ", ".join(f"{n} {outcome} {reason}" for (outcome, reason), n in reasons)
    return f": {words}; {OUTCOMES_FILE} says more, and data_prep.write_shards tries again"


# --- Records -------------------------------------------------------------------------------------
def _read_clips(survey: Survey, shards: Sequence[tuple[str, Shard]], sampling: Sampling) -> None:
    """Reads every clip of the shards, measures it and draws the sample."""
    total = sum(shard.num_clips for _, shard in shards)
    drawn, position = sampling.clips(total), 0
    with progress("reading", unit="clip", total=total) as shown:
        for split, shard in shards:
            first = position
            for clip in read_clips([shard]):
                _measure(survey, split, clip)
                if position in drawn:
                    draw = np.random.default_rng([sampling.seed, position]).random()
                    survey.sample.append(sample_clip(clip, split, draw))
                position += 1
                shown.advance()
            if position - first != shard.num_clips:
                raise UserError(
                    f"shard {shard.path} has {position - first} clips, its marker says "
                    f"{shard.num_clips}; delete both and run data_prep.write_shards again"
                )
            survey.num_bytes_read += os.stat(str(shard.path)).st_size
    survey.num_clips_read = position


def _measure(survey: Survey, split: str, clip: Clip) -> None:
    survey.num_frame_bytes += sum(map(len, clip.frames))
    survey.num_flow_bytes += sum(map(len, clip.flows + clip.forward_flows))
    survey.frame_sizes_px[clip.width_px, clip.height_px] += 1
    survey.num_unlabelled += not clip.labels
    for label in clip.labels:
        survey.labels[label][split] += 1
    survey.sound.add(clip.waveform)
    if len(survey.silent_clips) < EXAMPLES_PER_REASON and is_silent(clip.waveform):
        survey.silent_clips.append(clip.example_id)
