"""What a prepared folder holds: counts, lengths, sizes, loudness and a few clips to look at.

Counts come from the commit markers of the finished shards, everything else from their records, read
once, one clip in memory at a time.
"""

import csv
import dataclasses
import json
import math
import pathlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from data_prep.lists import manifest
from data_prep.shards.clip_records import OK
from data_prep.shards.folder import MANIFEST_FILE
from l3net import constants
from l3net.data import schema
from l3net.data.shards import OUTCOMES_FILE, PREP_FILE, Shard, marker_path, read_clips, shard_name
from l3net.errors import UserError, first_line

EXAMPLES_PER_REASON = 20
CLIPPED_RUN_SAMPLES = 3  # so many samples in a row at the same end of the scale are clipping
_LEVEL_EDGES_DBFS = np.arange(-150, 1, 2)  # one sample in ten seconds, one step high, is at -147
_NUM_DURATION_BINS = 20
_SCALE_ENDS = (-32768, 32767)  # of int16


@dataclasses.dataclass
class Histogram:
    """Counts per bin.

    Attributes:
        edges: [num_bins + 1], increasing.
        counts: int64 [num_bins]; a bin holds its lower edge, the last one its upper edge too.
    """

    edges: np.ndarray
    counts: np.ndarray = None

    def __post_init__(self) -> None:
        if self.counts is None:
            self.counts = np.zeros(len(self.edges) - 1, np.int64)

    def add(self, value: float) -> None:
        """Counts a value; one outside of the edges goes to the nearest bin."""
        index = np.searchsorted(self.edges, value, side="right") - 1
        self.counts[np.clip(index, 0, len(self.counts) - 1)] += 1


@dataclasses.dataclass
class Split:
    """One split, as far as its shards are finished.

    Attributes:
        num_shards: of the finished folder.
        num_finished_shards: of them.
        reasons: (outcome, reason) -> rows of the manifest; ("ok", "") are the clips.
        seconds: of all clips.
        num_bytes: of the finished shards' files.
    """

    num_shards: int
    num_finished_shards: int = 0
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
class Sound:
    """Levels of the clips that were read; 0 dBFS is a full-scale square wave.

    Attributes:
        rms_dbfs, peak_dbfs: of each clip; digital silence (nothing but zeros) is in neither.
        num_silent: clips of digital silence.
        num_full_scale: clips with a sample at an end of the int16 scale.
        num_clipped: clips with `CLIPPED_RUN_SAMPLES` of them in a row.
        num_seconds: whole seconds, cut one after the other from each clip.
        num_silent_seconds: of them, digital silence.
    """

    rms_dbfs: Histogram
    peak_dbfs: Histogram
    num_silent: int = 0
    num_full_scale: int = 0
    num_clipped: int = 0
    num_seconds: int = 0
    num_silent_seconds: int = 0


@dataclasses.dataclass(frozen=True)
class SampleClip:
    """A frame of a clip and the second of sound around it, to look at.

    Attributes:
        example_id, data_path, split, labels: of the clip.
        frame: JPEG, as in the shard.
        frame_seconds: time of the frame, from the clip's start.
        sound_start_seconds: time of the first sample, from the clip's start.
        waveform: int16 [48000], one second.
        seconds, rms_dbfs, peak_dbfs: of the whole clip; the levels of digital silence are -inf.
    """

    example_id: str
    data_path: str
    split: str
    labels: tuple[str, ...]
    frame: bytes
    frame_seconds: float
    sound_start_seconds: float
    waveform: np.ndarray
    seconds: float
    rms_dbfs: float
    peak_dbfs: float


@dataclasses.dataclass
class Survey:
    """What `survey_folder` found.

    Attributes:
        dataset_name: of the folder.
        config_hash: of the configuration it was made with.
        prep: content of prep.json.
        splits: name -> split.
        has_outcomes_file: whether write_shards has come to its end.
        num_rows: of the manifest.
        label_rows: label -> rows of the manifest.
        examples: (outcome, reason) -> the first few rows, as in the commit markers.
        durations_seconds: of all clips of finished shards.
        duration_range_seconds: shortest and longest clip.
        num_shards_read: not empty and read for what follows; all, unless the caller sets a limit.
        num_shards_with_clips: of the finished shards.
        num_clips_read: see num_shards_read; what follows is of these clips.
        num_bytes_read: of their shards.
        num_frame_bytes, num_flow_bytes: of their JPEGs.
        frame_sizes_px: (width, height) -> clips.
        labels: label -> split -> clips.
        num_unlabelled: clips without a label.
        sound: levels.
        sample: clips to look at.
    """

    dataset_name: str
    config_hash: str
    prep: Mapping[str, object]
    splits: Mapping[str, Split]
    has_outcomes_file: bool
    num_rows: int
    label_rows: Counter
    durations_seconds: Histogram
    examples: dict[tuple[str, str], list[dict]] = dataclasses.field(default_factory=dict)
    duration_range_seconds: tuple[float, float] = (math.inf, 0.0)
    num_shards_read: int = 0
    num_shards_with_clips: int = 0
    num_clips_read: int = 0
    num_bytes_read: int = 0
    num_frame_bytes: int = 0
    num_flow_bytes: int = 0
    frame_sizes_px: Counter = dataclasses.field(default_factory=Counter)
    labels: defaultdict = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    num_unlabelled: int = 0
    sound: Sound = dataclasses.field(
        default_factory=lambda: Sound(Histogram(_LEVEL_EDGES_DBFS), Histogram(_LEVEL_EDGES_DBFS))
    )
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


def survey_folder(
    folder: str | pathlib.Path, *, num_clips: int, seed: int = 0, max_shards: int | None = None
) -> Survey:
    """Reads a prepared folder once, with a progress bar.

    Args:
        folder: as `data_prep.write_shards` left it, finished or not.
        num_clips: to draw as a sample, evenly over all clips that are read.
        seed: of that sample and of its frames.
        max_shards: read the records of so many shards only, drawn by seed; None is all. The shard
            of a clip is a hash of its id, so whole shards are a fair sample.

    Returns:
        The survey.

    Raises:
        UserError: if this is no prepared folder, it has no clip yet, or a file is damaged.
    """
    folder = pathlib.Path(folder)
    survey = _begin(folder)
    shards = list(_finished_shards(folder, survey))
    if not survey.num_clips:
        raise UserError(f"{folder} has no clip{_why_no_clip(survey)}")
    shards = [(split, shard) for split, shard in shards if shard.num_clips]
    survey.num_shards_with_clips = len(shards)
    if max_shards is not None and max_shards < len(shards):
        drawn = np.random.default_rng(seed).choice(len(shards), max_shards, replace=False)
        shards = [shards[index] for index in sorted(drawn)]
    survey.num_shards_read = len(shards)
    try:
        _read_clips(survey, shards, num_clips, seed)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot read {folder}: {first_line(error)}") from error
    return survey


# --- Files beside the shards ---------------------------------------------------------------------
def _begin(folder: pathlib.Path) -> Survey:
    """Returns a survey of what lies beside the shards."""
    try:
        prep = json.loads((folder / PREP_FILE).read_text())
        config = prep["config"]
        splits = {split: Split(int(count)) for split, count in sorted(config["num_shards"].items())}
        edges = np.linspace(0, float(config["max_seconds"]), _NUM_DURATION_BINS + 1)
        dataset_name, config_hash = str(config["dataset_name"]), prep["config_hash"]
        num_rows, label_rows = _count_rows(folder / MANIFEST_FILE)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{folder} is no folder of shards ({error}); data_prep.write_shards makes one"
        ) from error
    return Survey(
        dataset_name=dataset_name,
        config_hash=config_hash,
        prep=prep,
        splits=splits,
        has_outcomes_file=(folder / OUTCOMES_FILE).is_file(),
        num_rows=num_rows,
        label_rows=label_rows,
        durations_seconds=Histogram(edges),
    )


def _count_rows(path: pathlib.Path) -> tuple[int, Counter]:
    """Returns the manifest's number of rows, and label -> rows; holds no row."""
    num_rows, labels = 0, Counter()
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, strict=True):
            num_rows += 1
            labels.update(label for label in row["labels"].split(manifest.LABEL_SEPARATOR) if label)
    return num_rows, labels


def _finished_shards(folder: pathlib.Path, survey: Survey) -> Iterator[tuple[str, Shard]]:
    """Yields (split, shard) for every shard that fits its marker; counts what the marker says."""
    for name, split in survey.splits.items():
        for index in range(split.num_shards):
            path = folder / shard_name(survey.dataset_name, name, index, split.num_shards)
            marker = _marker(path, survey.config_hash)
            if marker is None:
                continue
            split.num_finished_shards += 1
            split.num_bytes += marker["num_bytes"]
            try:
                before = split.num_clips
                for row in marker["outcomes"]:
                    _count_outcome(survey, split, row)
                if split.num_clips - before != marker["num_clips"]:
                    raise ValueError("other num_clips than outcomes")
                yield name, Shard(path, marker["num_clips"], ())
            except (LookupError, TypeError, ValueError) as error:
                raise UserError(
                    f"{marker_path(path)} is damaged ({error!r}); delete it and run "
                    "data_prep.write_shards again"
                ) from error


def _marker(path: pathlib.Path, config_hash: object) -> dict | None:
    """Returns a shard's commit marker; None unless both are there and fit."""
    try:
        marker = json.loads(marker_path(path).read_text())
        fits = marker["config_hash"] == config_hash
        fits = fits and marker["num_bytes"] == path.stat().st_size
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return marker if fits else None


def _count_outcome(survey: Survey, split: Split, row: Mapping[str, object]) -> None:
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
    reasons = sum((split.reasons for split in survey.splits.values()), Counter())
    if not reasons:
        return ", for no shard is finished; run data_prep.write_shards again to finish it"
    told = ", ".join(f"{n} {outcome} {reason}" for (outcome, reason), n in sorted(reasons.items()))
    return f": {told}; {OUTCOMES_FILE} says more, and data_prep.write_shards tries again"


# --- Records -------------------------------------------------------------------------------------
def _read_clips(
    survey: Survey, shards: Sequence[tuple[str, Shard]], num_clips: int, seed: int
) -> None:
    """Reads every clip of the shards, measures it and draws the sample."""
    total = sum(shard.num_clips for _, shard in shards)
    rng = np.random.default_rng(seed)
    drawn = set(rng.choice(total, min(num_clips, total), replace=False).tolist())
    position = 0
    with tqdm.tqdm(
        total=total,
        unit="clip",
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 30,
    ) as bar:
        for split, shard in shards:
            first = position
            for clip in read_clips([shard]):
                _measure(survey, split, clip)
                if position in drawn:
                    draw = np.random.default_rng([seed, position]).random()
                    survey.sample.append(sample_clip(clip, split, draw))
                position += 1
                bar.update()
            if position - first != shard.num_clips:
                raise UserError(
                    f"shard {shard.path} has {position - first} clips, its marker says "
                    f"{shard.num_clips}; delete both and run data_prep.write_shards again"
                )
            survey.num_bytes_read += shard.path.stat().st_size
    survey.num_clips_read = position


def _measure(survey: Survey, split: str, clip: schema.Clip) -> None:
    survey.num_frame_bytes += sum(map(len, clip.frames))
    survey.num_flow_bytes += sum(map(len, clip.flows))
    survey.frame_sizes_px[clip.width_px, clip.height_px] += 1
    survey.num_unlabelled += not clip.labels
    for label in clip.labels:
        survey.labels[label][split] += 1
    _measure_sound(survey.sound, clip.waveform)


def _measure_sound(sound: Sound, waveform: np.ndarray) -> None:
    seconds = waveform[: len(waveform) // constants.SAMPLE_RATE_HZ * constants.SAMPLE_RATE_HZ]
    sounds = seconds.reshape(-1, constants.SAMPLE_RATE_HZ).any(axis=1)
    sound.num_seconds += len(sounds)
    sound.num_silent_seconds += int((~sounds).sum())
    if not waveform.any():
        sound.num_silent += 1
        return
    sound.rms_dbfs.add(rms_dbfs(waveform))
    sound.peak_dbfs.add(peak_dbfs(waveform))
    longest = max(_longest_run(waveform == end) for end in _SCALE_ENDS)
    sound.num_full_scale += longest > 0
    sound.num_clipped += longest >= CLIPPED_RUN_SAMPLES


def rms_dbfs(waveform: np.ndarray) -> float:
    """Returns the level of int16 [num_samples] sound, 0 for a full-scale square wave.

    A full-scale sine has -3.01; digital silence, -inf.
    """
    mean_square = np.mean(np.square(waveform, dtype=np.float64)) if len(waveform) else 0.0
    return _decibels(math.sqrt(mean_square))


def peak_dbfs(waveform: np.ndarray) -> float:
    """Returns the level of the sample furthest from zero, -inf for digital silence."""
    return _decibels(max(-int(waveform.min()), int(waveform.max())) if len(waveform) else 0)


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(amplitude / schema.INT16_SCALE) if amplitude else -math.inf


def _longest_run(flags: np.ndarray) -> int:
    """Returns the length of the longest run of true: bool [num] -> int."""
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((changes[1::2] - changes[::2]).max(initial=0))


def sample_clip(clip: schema.Clip, split: str, draw: float) -> SampleClip:
    """Takes one frame of a clip and the second of sound around it.

    Args:
        clip: with at least one second of sound.
        split: it is in.
        draw: uniform in [0, 1), chooses among the frames that show a picture of their own time.

    Returns:
        The frame and its second, which is centred on it but stays inside the clip.

    Raises:
        UserError: if the sound is shorter.
    """
    if len(clip.waveform) < constants.AUDIO_SAMPLES:
        raise UserError(
            f"clip {clip.example_id} has {len(clip.waveform)} samples of sound; need a second, "
            f"{constants.AUDIO_SAMPLES}, as data_prep.write_shards makes"
        )
    first = clip.num_padding_frames
    index = first + int(draw * (len(clip.frames) - first))
    frame_seconds = (clip.timestamps_us[index] - clip.start_us) / constants.MICROSECONDS
    centre = round(frame_seconds * constants.SAMPLE_RATE_HZ)
    last_start = len(clip.waveform) - constants.AUDIO_SAMPLES
    start = min(max(centre - constants.AUDIO_SAMPLES // 2, 0), last_start)
    return SampleClip(
        example_id=clip.example_id,
        data_path=clip.data_path,
        split=split,
        labels=clip.labels,
        frame=clip.frames[index],
        frame_seconds=frame_seconds,
        sound_start_seconds=start / constants.SAMPLE_RATE_HZ,
        waveform=clip.waveform[start : start + constants.AUDIO_SAMPLES].copy(),
        seconds=len(clip.waveform) / constants.SAMPLE_RATE_HZ,
        rms_dbfs=rms_dbfs(clip.waveform),
        peak_dbfs=peak_dbfs(clip.waveform),
    )
