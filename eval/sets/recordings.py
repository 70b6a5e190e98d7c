"""Labelled recordings of the sound classification benchmarks (L3 §3.3), read from their folders.

- ESC-50, ESC-10 and DCASE 2013 in the layouts of eval.sets.recording_lists; every listed file must
  exist.
- spoken digits (l3net.data.spoken_digits), the split by speaker.
- a prepared shard folder (l3net.data.schema), its splits train and test.

Nothing is decoded until `Recording.load` is called.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable

import numpy as np
import resampy
import soundfile

from eval.reporting import cache, synthetic
from eval.sets import clip_labels, recording_lists
from eval.sets.recording_lists import TEST, TRAIN, ListedRecording
from l3net import constants
from l3net.data import schema, spoken_digits
from l3net.errors import UserError, first_line
from l3net.files import regular, sha256_of
from l3net.media import sound

# Our choice, the papers name no resampler: resampy's more exact filter.
RESAMPLING = "kaiser_best"
_ESC_RATE_HZ = 44_100  # of the published recordings; there are copies at 16 kHz


@dataclasses.dataclass(frozen=True)
class Recording:
    """One labelled sound.

    Attributes:
        name: unique within its set.
        label: its class.
        part: its fold ("1" to "5"), or TRAIN or TEST where the data set fixes a split; what is
            trained on may be several parts, such as speakers.
        content_hash: returns a hash of the file, or of a shard's samples; read once.
        load: sample rate in Hz -> mono float32 [num_samples] in [-1, 1].
    """

    name: str
    label: str
    part: str
    content_hash: Callable[[], str]
    load: Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class RecordingSet:
    """The recordings of one data set.

    Attributes:
        name: such as "ESC-50".
        data: how a table's row names its data, such as "ESC-10 (400 real recordings)".
        recordings: in a fixed order.
        is_synthetic: whether it is the demo data.
    """

    name: str
    data: str
    recordings: tuple[Recording, ...]
    is_synthetic: bool = False

    @property
    def classes(self) -> list[str]:
        """Sorted class names, by class index."""
        return sorted({recording.label for recording in self.recordings})

    @property
    def labels(self) -> np.ndarray:
        """Int64 [num_recordings], indices into `classes`."""
        index = {label: position for position, label in enumerate(self.classes)}
        return np.array([index[recording.label] for recording in self.recordings])

    @property
    def parts(self) -> np.ndarray:
        """Str [num_recordings], the fold or split of each recording."""
        return np.array([recording.part for recording in self.recordings])

    @property
    def test_parts(self) -> list[str]:
        """The parts that are tested on, each once: every fold, or the test split alone."""
        parts = sorted(set(self.parts))
        return [TEST] if TEST in parts else parts

    def content_hash(self) -> str:
        """Returns a hash of every recording's contents, label and part."""
        return cache.key_of([[r.content_hash(), r.label, r.part] for r in self.recordings])


# --- Sound files ---------------------------------------------------------------------------------
def load_file(
    path: pathlib.Path,
    seconds: float | None = None,
    sample_rate_hz: int = constants.SAMPLE_RATE_HZ,
) -> np.ndarray:
    """Reads a sound file as one channel at one rate.

    Args:
        path: a file that libsndfile reads (wav, ogg, flac).
        seconds: length to which it is cut or padded with zeros; None keeps the file's.
        sample_rate_hz: rate of the result; other rates are resampled (RESAMPLING).

    Returns:
        float32 [num_samples] in [-1, 1], the mean of the channels.

    Raises:
        UserError: if the file cannot be read, or holds no sound or samples that sound has not.
    """
    try:
        samples, rate_hz = soundfile.read(regular(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"cannot read the recording {path}: {first_line(error)}") from error
    if not len(samples):
        raise UserError(f"the recording {path} holds no sound")
    sound.check_samples(samples, f"the recording {path}")
    mono = samples.mean(axis=1)
    if rate_hz != sample_rate_hz:
        mono = resampy.resample(mono, rate_hz, sample_rate_hz, filter=RESAMPLING)
    if seconds is not None:
        length = round(seconds * sample_rate_hz)
        mono = np.pad(mono[:length], (0, max(0, length - len(mono))))
    return np.clip(mono, -1, 1).astype(np.float32, copy=False)


def _from_listed(
    folder: pathlib.Path, listed: ListedRecording, name: str, seconds: float | None = None
) -> Recording:
    path = folder / listed.path
    if listed.problem:
        raise UserError(f"{folder}: {listed.problem}")
    if not path.is_file():
        raise UserError(f"the recording {path} is listed but does not exist")
    if path.stat().st_size == 0:
        raise UserError(f"the recording {path} has zero bytes; fetch it again")
    return Recording(
        name,
        listed.label,
        listed.split.removeprefix("fold"),
        functools.cache(lambda: cache.key_of(sha256_of(path), seconds)),
        functools.partial(load_file, path, seconds),
    )


def _existing(folder: str | pathlib.Path, what: str) -> pathlib.Path:
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f"the {what} folder {folder} does not exist")
    return folder


def _checked_set(name: str, recordings: list[Recording], official: int) -> RecordingSet:
    """Makes a set whose `data` says how much of the official set it holds."""
    if len({recording.part for recording in recordings}) < 2:
        raise UserError(f"{name}: all recordings are in one fold; need at least two to test")
    if len({recording.label for recording in recordings}) < 2:
        raise UserError(f"{name}: all recordings are of one class; need at least two")
    count = len(recordings)
    amount = f"{count}" if count == official else f"{count} of {official}"
    return RecordingSet(name, f"{name} ({amount} real recordings)", tuple(recordings))


# --- The benchmarks ------------------------------------------------------------------------------
def read_esc50(folder: str | pathlib.Path) -> RecordingSet:
    """Reads ESC-50: 2000 recordings of 5 s, 50 classes, 5 folds; UserError if one is missing."""
    return _read_esc("ESC-50", folder, recording_lists.list_esc50, official=2000)


def read_esc10(folder: str | pathlib.Path) -> RecordingSet:
    """Reads ESC-10: 400 recordings of 5 s, 10 classes, 5 folds, in either layout; or UserError."""
    return _read_esc("ESC-10", folder, recording_lists.list_esc10, official=400)


def _read_esc(
    name: str,
    folder: str | pathlib.Path,
    list_recordings: Callable[[pathlib.Path], Iterable[ListedRecording]],
    official: int,
) -> RecordingSet:
    folder = _existing(folder, name)
    seconds = recording_lists.ESC_SECONDS
    listed = list(list_recordings(folder))
    recordings = [
        _from_listed(folder, each, each.path.removeprefix("audio/"), seconds) for each in listed
    ]
    made = _checked_set(name, recordings, official)
    rates_hz = {_rate_hz(folder / each.path) for each in listed}
    if max(rates_hz) < _ESC_RATE_HZ:
        copy = f"{name}, {max(rates_hz) / 1000:g} kHz copy"
        made = dataclasses.replace(made, data=made.data.replace(name, copy, 1))
    return made


def _rate_hz(path: pathlib.Path) -> int:
    """Returns a file's sample rate; the published one's if it is damaged, which `load` reports."""
    try:
        return soundfile.info(regular(path)).samplerate
    except (soundfile.SoundFileError, OSError):
        return _ESC_RATE_HZ


def read_dcase2013(folder: str | pathlib.Path) -> RecordingSet:
    """Reads the DCASE 2013 scenes: 10 classes, 30 s; 100 recordings to train, 100 to test.

    L3 §3.3 writes "10 training and 100 test clips per class"; the published sets hold 10 of each
    per class. UserError if a folder is missing or empty, or a recording's class is unknown.
    """
    folder = _existing(folder, "DCASE 2013")
    recordings = [
        _from_listed(folder, each, f"{each.split}/{pathlib.PurePath(each.path).name}")
        for each in recording_lists.list_dcase2013(folder)
    ]
    return _checked_set("DCASE 2013", recordings, official=200)


def read_spoken_digits(folder: str | pathlib.Path) -> RecordingSet:
    """Reads the Free Spoken Digit Dataset: ten classes, tested on a speaker not trained on.

    That is the speaker whom no training of av_digits hears (`spoken_digits.held_out_speaker`). The
    others are a part each, so that what is chosen by cross-validation is chosen on new speakers,
    too. Recordings keep their length, 0.1 to 2.3 s. UserError if there are none, or of too few
    speakers or digits.
    """
    folder = _existing(folder, "spoken digits")
    listed = spoken_digits.list_recordings(folder)
    unheard = spoken_digits.held_out_speaker(listed)
    recordings = []
    for one in listed:
        part = TEST if one.speaker == unheard else one.speaker
        row = ListedRecording(one.name, part, spoken_digits.WORDS[one.digit])
        recordings.append(_from_listed(folder, row, one.name))
    made = _checked_set("spoken digits", recordings, spoken_digits.NUM_RECORDINGS)
    return dataclasses.replace(made, data=f"{made.data}, speaker {unheard} held out")


# --- Prepared shards -----------------------------------------------------------------------------
def read_shards(
    folder: str | pathlib.Path, heard_csv: str | pathlib.Path | None = None
) -> RecordingSet:
    """Reads the labelled clips of a prepared folder; a recording is a clip's sound.

    Our choice: of several labels the first counts; clips without a label are left out. The sound is
    held in memory as 16-bit samples, about 1 MB per 10 s.

    Args:
        folder: as data_prep.write_shards leaves it, with splits train and test.
        heard_csv: columns example_id and heard_label, which then count instead of the clips'
            labels: clips.csv of the demo data, whose labels are as loose as those of real videos.

    Raises:
        UserError: if a split or `heard_csv` cannot be read, or has fewer than two labelled classes.
    """
    heard = clip_labels.read_labels(heard_csv, "heard_label") if heard_csv else None
    recordings, dataset_name = [], ""
    for part in (TRAIN, TEST):
        for clip, label in clip_labels.labelled_clips(folder, part, heard):
            dataset_name = clip.dataset_name
            if label and len(clip.waveform):
                recordings.append(_from_clip(clip, label, part))
        num_classes = len({each.label for each in recordings if each.part == part})
        if num_classes < 2:
            raise UserError(
                f"split {part!r} of {folder} has {num_classes} labelled classes; need two or more"
            )
    if synthetic.is_synthetic(dataset_name):
        return RecordingSet("demo data", synthetic.DEMO, tuple(recordings), is_synthetic=True)
    data = f"{dataset_name} ({len(recordings)} clips)"
    return RecordingSet(dataset_name, data, tuple(recordings))


def _from_clip(clip: schema.Clip, label: str, part: str) -> Recording:
    return Recording(
        clip.example_id,
        label,
        part,
        functools.cache(functools.partial(cache.hash_array, clip.waveform)),
        functools.partial(_load_samples, clip.waveform),
    )


def _load_samples(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    waveform = samples.astype(np.float32) / schema.INT16_SCALE
    if sample_rate_hz != constants.SAMPLE_RATE_HZ:
        rates = (constants.SAMPLE_RATE_HZ, sample_rate_hz)
        waveform = resampy.resample(waveform, *rates, filter=RESAMPLING)
    return np.clip(waveform, -1, 1).astype(np.float32, copy=False)
