"""Labelled recordings of the sound classification benchmarks (L3 §3.3), read where they lie.

- ESC-50: `audio/*.wav` and `meta/esc50.csv` (columns filename, fold, target, category, esc10 ...).
- ESC-10: the same, rows whose esc10 is True; or folders `001 - Dog bark/1-100032-A.ogg`, where the
  first digit of a file's name is its fold.
- DCASE 2013 scenes: `scenes_stereo/busystreet01.wav` ... to train and `scenes_stereo_testset/` to
  test, each perhaps inside a folder of its own name (as the published archives unpack).
- demo: a prepared shard folder (l3net.data.schema), its splits train and test.

Nothing is decoded until `Recording.load` is called.
"""

import csv
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable

import numpy as np
import resampy
import soundfile

from eval import cache
from l3net import constants
from l3net.data import schema
from l3net.errors import UserError

# Ours: the papers name no resampler; this is resampy's more exact filter.
RESAMPLING = "kaiser_best"
TRAIN, TEST = "train", "test"

# "5-second-long"; the published Ogg files hold 3.6 to 7.2 s, and the authors' own notebook pads or
# cuts each to exactly 5 s.
ESC_SECONDS = 5.0
_FOLDS = range(1, 6)
_AUDIO_SUFFIXES = (".wav", ".ogg", ".flac")
_ESC10_FOLDER = re.compile(r"\d{3} - (?P<label>.+)")
_ESC10_FILE = re.compile(r"(?P<fold>\d)-.+")
_SCENE_FILE = re.compile(r"(?P<label>[a-z]+)_?\d+")
SCENES = (
    "bus",
    "busystreet",
    "office",
    "openairmarket",
    "park",
    "quietstreet",
    "restaurant",
    "supermarket",
    "tube",
    "tubestation",
)
_SCENE_TRAIN_FOLDERS = ("scenes_stereo", "development", "train")
_SCENE_TEST_FOLDERS = ("scenes_stereo_testset", "scenes_stereo_test", "evaluation", "test")
_SCENE_LISTS = ("groundtruth", "ground_truth", "meta", "labels")


@dataclasses.dataclass(frozen=True)
class Recording:
    """One labelled sound.

    Attributes:
        name: unique within its set.
        label: its class.
        part: its fold ("1" to "5"), or TRAIN or TEST where the data set fixes a split.
        content_hash: returns a hash of what `load` returns: of the file, or of a shard's samples;
            read once.
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
    """

    name: str
    data: str
    recordings: tuple[Recording, ...]

    @property
    def classes(self) -> list[str]:
        """Sorted class names; the position is the class index."""
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
        found = sorted(set(self.parts))
        return [TEST] if TEST in found else found

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
        path: of a file that libsndfile reads (wav, ogg, flac).
        seconds: pads with zeros or cuts to this length; None keeps the file's.
        sample_rate_hz: of the result; other rates are resampled (RESAMPLING).

    Returns:
        float32 [num_samples] in [-1, 1], the mean of the channels.

    Raises:
        UserError: if the file cannot be read, or holds no sound.
    """
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"cannot read the recording {path}: {_first_line(error)}") from error
    if not len(samples):
        raise UserError(f"the recording {path} holds no sound")
    mono = samples.mean(axis=1)
    if rate_hz != sample_rate_hz:
        mono = resampy.resample(mono, rate_hz, sample_rate_hz, filter=RESAMPLING)
    if seconds is not None:
        length = round(seconds * sample_rate_hz)
        mono = np.pad(mono[:length], (0, max(0, length - len(mono))))
    return np.clip(mono, -1, 1).astype(np.float32, copy=False)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _from_file(
    path: pathlib.Path, *, name: str, label: str, part: str, seconds: float | None = None
) -> Recording:
    if not path.is_file():
        raise UserError(f"the recording {path} is listed but does not exist")
    if path.stat().st_size == 0:
        raise UserError(f"the recording {path} has zero bytes; fetch it again")
    return Recording(
        name,
        label,
        part,
        functools.cache(lambda: cache.key_of(cache.hash_file(path), seconds)),
        functools.partial(load_file, path, seconds),
    )


def _require_folder(folder: pathlib.Path, what: str) -> None:
    if not folder.is_dir():
        raise UserError(f"the {what} folder {folder} does not exist")


def _audio_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _AUDIO_SUFFIXES)


def _checked_set(name: str, recordings: list[Recording], official: int) -> RecordingSet:
    """Makes a set whose `data` says how much of the official set it holds."""
    if len({recording.part for recording in recordings}) < 2:
        raise UserError(f"{name}: all recordings are in one fold; need at least two to test")
    if len({recording.label for recording in recordings}) < 2:
        raise UserError(f"{name}: all recordings are of one class; need at least two")
    count = len(recordings)
    amount = f"{count}" if count == official else f"{count} of {official}"
    return RecordingSet(name, f"{name} ({amount} real recordings)", tuple(recordings))


# --- ESC-50 and ESC-10 ---------------------------------------------------------------------------
def read_esc50(folder: str | pathlib.Path) -> RecordingSet:
    """Reads ESC-50: 2000 recordings of 5 s, 50 classes, 5 folds.

    Args:
        folder: holds `audio/` and `meta/esc50.csv`.

    Returns:
        The set; parts are folds.

    Raises:
        UserError: if a folder, the list or a recording is missing, empty or malformed.
    """
    folder = pathlib.Path(folder)
    _require_folder(folder, "ESC-50")
    return _checked_set("ESC-50", _listed(folder, _read_list(folder)), official=2000)


def read_esc10(folder: str | pathlib.Path) -> RecordingSet:
    """Reads ESC-10: 400 recordings of 5 s, 10 classes, 5 folds, in either layout.

    Args:
        folder: holds class folders, or ESC-50's `audio/` and `meta/esc50.csv`.

    Returns:
        The set; parts are folds.

    Raises:
        UserError: if the folder is in neither layout, or something is missing or malformed.
    """
    folder = pathlib.Path(folder)
    _require_folder(folder, "ESC-10")
    classes = {p: m["label"] for p in sorted(folder.iterdir()) if (m := _class_folder(p))}
    if classes:
        return _checked_set("ESC-10", _from_class_folders(classes), official=400)
    if not (folder / "meta" / "esc50.csv").exists():
        raise UserError(
            f"{folder} holds no ESC-10: need class folders such as '001 - Dog bark', or "
            "ESC-50's audio/ and meta/esc50.csv"
        )
    rows = [row for row in _read_list(folder) if row["esc10"].strip().lower() == "true"]
    return _checked_set("ESC-10", _listed(folder, rows), official=400)


def _class_folder(path: pathlib.Path) -> re.Match | None:
    return _ESC10_FOLDER.fullmatch(path.name) if path.is_dir() else None


def _from_class_folders(classes: dict[pathlib.Path, str]) -> list[Recording]:
    found = []
    for folder, label in classes.items():
        for path in _audio_files(folder):
            match = _ESC10_FILE.fullmatch(path.stem)
            part = _fold(match["fold"] if match else "", path)
            name = f"{folder.name}/{path.name}"
            found.append(_from_file(path, name=name, label=label, part=part, seconds=ESC_SECONDS))
    if not found:
        raise UserError(f"the class folders of {next(iter(classes)).parent} hold no recordings")
    return found


def _fold(text: str, where: object) -> str:
    if text not in {str(fold) for fold in _FOLDS}:
        raise UserError(f"{where}: got fold {text!r}; need one of 1 to 5")
    return text


def _read_list(folder: pathlib.Path) -> list[dict[str, str]]:
    path = folder / "meta" / "esc50.csv"
    if not path.exists():
        raise UserError(f"{path} is missing: it lists the recordings' folds and classes")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    needed = ("filename", "fold", "category", "esc10")
    missing = [column for column in needed if not rows or rows[0].get(column) is None]
    if missing:
        raise UserError(f"{path} has no rows with the column(s) {', '.join(missing)}")
    return rows


def _listed(folder: pathlib.Path, rows: list[dict[str, str]]) -> list[Recording]:
    where = folder / "meta" / "esc50.csv"
    if not rows:
        raise UserError(f"{where} lists no recordings of this set")
    return [
        _from_file(
            folder / "audio" / row["filename"],
            name=row["filename"],
            label=row["category"],
            part=_fold((row["fold"] or "").strip(), f"{where}, {row['filename']}"),
            seconds=ESC_SECONDS,
        )
        for row in rows
    ]


# --- DCASE 2013 ----------------------------------------------------------------------------------
def read_dcase2013(folder: str | pathlib.Path) -> RecordingSet:
    """Reads the DCASE 2013 scenes: 10 classes, 30 s; 100 recordings to train, 100 to test.

    L3 §3.3 writes "10 training and 100 test clips per class"; the published sets hold 10 of each
    per class. A file's class is its name without the number (`busystreet01.wav`). Where names carry
    no class, a list beside the files (or in `folder`) whose name begins with groundtruth,
    ground_truth, meta or labels (.csv or .txt; a file name, then its class, on each line) gives it.

    Args:
        folder: holds `scenes_stereo/` and `scenes_stereo_testset/`.

    Returns:
        The set; parts are TRAIN and TEST.

    Raises:
        UserError: if a folder is missing or empty, or a recording's class is not to be found.
    """
    folder = pathlib.Path(folder)
    _require_folder(folder, "DCASE 2013")
    train = _scenes(_find_scenes(folder, _SCENE_TRAIN_FOLDERS), folder, TRAIN)
    test = _scenes(_find_scenes(folder, _SCENE_TEST_FOLDERS), folder, TEST)
    return _checked_set("DCASE 2013", train + test, official=200)


def _find_scenes(folder: pathlib.Path, names: Iterable[str]) -> pathlib.Path:
    for name in names:
        for candidate in (folder / name / name, folder / name):
            if candidate.is_dir() and _audio_files(candidate):
                return candidate
    raise UserError(f"{folder} has no folder of recordings named {' or '.join(names)}")


def _scenes(folder: pathlib.Path, root: pathlib.Path, part: str) -> list[Recording]:
    listed = {**_listed_scenes(root), **_listed_scenes(folder)}
    return [
        _from_file(path, name=f"{part}/{path.name}", label=_scene(path, listed), part=part)
        for path in _audio_files(folder)
    ]


def _scene(path: pathlib.Path, listed: dict[str, str]) -> str:
    match = _SCENE_FILE.fullmatch(path.stem.lower())
    label = listed.get(path.name) or (match["label"] if match else "")
    if label not in SCENES:
        raise UserError(f"cannot tell the scene of {path}; need one of {', '.join(SCENES)}")
    return label


def _listed_scenes(folder: pathlib.Path) -> dict[str, str]:
    """Returns file name -> class from every list in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".csv", ".txt") and path.stem.lower().startswith(_SCENE_LISTS):
            for line in path.read_text(encoding="utf-8").splitlines():
                fields = re.split(r"[,;\t ]+", line.strip())
                if len(fields) >= 2 and fields[1].lower() in SCENES:
                    found[pathlib.Path(fields[0]).name] = fields[1].lower()
    return found


# --- Prepared shards -----------------------------------------------------------------------------
def read_shards(folder: str | pathlib.Path) -> RecordingSet:
    """Reads the labelled clips of a prepared folder; a recording is a clip's sound.

    Ours: of a clip with several labels the first counts; clips without a label are left out. The
    sound is held in memory as 16-bit samples, about 1 MB per 10 s.

    Args:
        folder: as data_prep.write_shards leaves it, with splits train and test.

    Returns:
        The set; parts are TRAIN and TEST.

    Raises:
        UserError: if a split is missing, or fewer than two classes are labelled.
    """
    recordings = []
    dataset_name = ""
    for part in (TRAIN, TEST):
        for clip in schema.read_clips(schema.find_shards(folder, part)):
            dataset_name = clip.dataset_name
            if clip.labels and len(clip.waveform):
                recordings.append(_from_clip(clip, part))
    for part in (TRAIN, TEST):
        classes = {recording.label for recording in recordings if recording.part == part}
        if len(classes) < 2:
            raise UserError(
                f"split {part!r} of {folder} has {len(classes)} labelled classes; need two or more"
            )
    is_demo = dataset_name.startswith("demo")
    data = "demo data (synthetic)" if is_demo else f"{dataset_name} ({len(recordings)} clips)"
    return RecordingSet("demo data" if is_demo else dataset_name, data, tuple(recordings))


def _from_clip(clip: schema.Clip, part: str) -> Recording:
    return Recording(
        clip.example_id,
        clip.labels[0],
        part,
        functools.cache(functools.partial(cache.hash_array, clip.waveform)),
        functools.partial(_load_samples, clip.waveform),
    )


def _load_samples(
    samples: np.ndarray, sample_rate_hz: int = constants.SAMPLE_RATE_HZ
) -> np.ndarray:
    waveform = samples.astype(np.float32) / schema.INT16_SCALE
    if sample_rate_hz == constants.SAMPLE_RATE_HZ:
        return waveform
    resampled = resampy.resample(
        waveform, constants.SAMPLE_RATE_HZ, sample_rate_hz, filter=RESAMPLING
    )
    return np.clip(resampled, -1, 1).astype(np.float32, copy=False)
