"""Which recordings the sound benchmarks have, with their classes and folds; nothing is decoded.

- ESC-50: `audio/*.wav` and `meta/esc50.csv` (columns filename, fold, target, category, esc10 ...).
- ESC-10: the same, rows whose esc10 is True; or folders `001 - Dog bark/1-100032-A.ogg`, where the
  first digit of a file's name is its fold.
- DCASE 2013 scenes: `scenes_stereo/busystreet01.wav` ... to train and `scenes_stereo_testset/` to
  test, each perhaps inside a folder of its own name (as the published archives unpack).

Whether a listed file exists is for the caller to see.
"""

import pathlib
import re
from typing import NamedTuple

from l3net.data.list_files import csv_rows, text_lines
from l3net.errors import UserError

TRAIN, TEST = "train", "test"
AUDIO_SUFFIXES = frozenset((".flac", ".ogg", ".wav"))
# "5-second-long"; the published Ogg files hold 3.6 to 7.2 s, and the authors' own notebook pads or
# cuts each to exactly 5 s.
ESC_SECONDS = 5.0
SCENES = (
    *("bus", "busystreet", "office", "openairmarket", "park", "quietstreet", "restaurant"),
    *("supermarket", "tube", "tubestation"),
)
_FOLDS = frozenset("12345")
_ESC_LIST = pathlib.PurePath("meta", "esc50.csv")
_ESC_COLUMNS = ("filename", "fold", "category", "esc10")
_ESC10_FOLDER = re.compile(r"\d{3} - (?P<label>.+)")
# dcase_util puts "test_" in front, so that no name comes twice.
_SCENE_FILE = re.compile(r"(?:test_)?(?P<label>[a-z]+)_?\d+")
_SCENE_FOLDERS = {
    TRAIN: ("scenes_stereo", "development", "train"),
    TEST: ("scenes_stereo_testset", "scenes_stereo_test", "evaluation", "test"),
}
_SCENE_LISTS = (*("dcase2013_task1_filenamekey", "groundtruth", "ground_truth", "meta", "labels"),)


class ListedRecording(NamedTuple):
    """One recording of a benchmark.

    Attributes:
        path: relative to the data set's folder, posix style.
        split: "fold1" to "fold5", "train" or "test"; "" if unknown.
        label: its class, "" if unknown.
        problem: why split or label is unknown, else "".
    """

    path: str
    split: str
    label: str
    problem: str = ""


# --- ESC-50 and ESC-10 ---------------------------------------------------------------------------
def list_esc50(folder: str | pathlib.Path) -> list[ListedRecording]:
    """Lists ESC-50: what its list names, in its order, at least one; a split is a fold.

    Raises:
        UserError: if the list is missing, cannot be read or has another format.
    """
    path = pathlib.Path(folder) / _ESC_LIST
    if not path.exists():
        raise UserError(f"{path} is missing: it lists the recordings' folds and classes")
    return [recording for recording, _ in _esc_rows(path)]


def list_esc10(folder: str | pathlib.Path) -> list[ListedRecording]:
    """Lists ESC-10: its marked rows in ESC-50's list, or the files of the class folders by name.

    A split is a fold; there is at least one recording.

    Raises:
        UserError: if the folder is in neither layout or holds no such recording, or the list cannot
            be read or has another format.
    """
    folder = pathlib.Path(folder)
    path = folder / _ESC_LIST
    if path.exists():
        marked = [recording for recording, is_esc10 in _esc_rows(path) if is_esc10]
        if not marked:
            raise UserError(f"{path} has no rows of ESC-10: esc10 is True nowhere")
        return marked
    return _class_folders(folder)


def _class_folders(folder: pathlib.Path) -> list[ListedRecording]:
    matches = [(each, _ESC10_FOLDER.fullmatch(each.name)) for each in sorted(folder.iterdir())]
    classes = {each: match["label"] for each, match in matches if match and each.is_dir()}
    if not classes:
        raise UserError(
            f"{folder} holds no ESC-10: need class folders such as '001 - Dog bark', or ESC-50's "
            f"audio/ and {_ESC_LIST.as_posix()}"
        )
    recordings = [
        _in_class_folder(f"{each.name}/{name}", name.partition("-")[0], label)
        for each, label in classes.items()
        for name in _audio_names(each)
    ]
    if not recordings:
        raise UserError(f"the class folders of {folder} hold no recordings")
    return recordings


def _esc_rows(path: pathlib.Path) -> list[tuple[ListedRecording, bool]]:
    """Returns each row of meta/esc50.csv, and whether it belongs to ESC-10; at least one."""
    rows = csv_rows(path)
    line, columns = next(rows, (1, []))
    missing = [column for column in _ESC_COLUMNS if column not in columns]
    if missing:
        raise UserError(
            f"{path}, line {line}: got the columns {', '.join(columns) or 'none'}, so no rows with "
            f"the column(s) {', '.join(missing)}; need ESC-50's own list"
        )
    recordings = [_esc_row(f"{path}, line {line}", columns, fields) for line, fields in rows]
    if not recordings:
        raise UserError(f"{path} has no rows under its column names")
    return recordings


def _esc_row(where: str, columns: list[str], fields: list[str]) -> tuple[ListedRecording, bool]:
    if len(fields) != len(columns):
        raise UserError(f"{where}: got {len(fields)} fields; need {len(columns)}")
    row = {column: field.strip() for column, field in zip(columns, fields, strict=True)}
    name, fold, label = row["filename"], row["fold"], row["category"]
    if fold not in _FOLDS:
        raise UserError(f"{where}: got fold {fold!r}; need one of 1 to 5")
    if not (name and label):
        raise UserError(f"{where}: got filename {name!r} and category {label!r}; need both")
    recording = ListedRecording(f"audio/{name}", f"fold{fold}", label)
    return recording, row["esc10"].lower() == "true"


def _in_class_folder(path: str, fold: str, label: str) -> ListedRecording:
    if fold in _FOLDS:
        return ListedRecording(path, f"fold{fold}", label)
    return ListedRecording(path, "", label, f"{path}: got fold {fold!r}; need one of 1 to 5")


# --- DCASE 2013 ----------------------------------------------------------------------------------
def list_dcase2013(folder: str | pathlib.Path) -> list[ListedRecording]:
    """Lists the scenes of DCASE 2013: 30 s, 10 classes; splits train (public) and test (private).

    A file's class is its name without the number (`busystreet01.wav`). Where names carry no class,
    a list beside the files (or in `folder`) gives it, whose name begins with groundtruth,
    ground_truth, meta or labels (.csv or .txt), or the published dcase2013_task1_filenamekey.csv:
    on each line a file name and a class, or the names that a file has with and without its class;
    in any order, and other columns are passed over.

    Returns:
        The recordings, those to train first, each part by name.

    Raises:
        UserError: if a folder is missing or empty, or a list cannot be read.
    """
    folder = pathlib.Path(folder)
    recordings = []
    for split, names in _SCENE_FOLDERS.items():
        part = _scene_folder(folder, names)
        scenes = {**_listed_scenes(folder), **_listed_scenes(part)}
        for name in _audio_names(part):
            path = (part / name).relative_to(folder).as_posix()
            scene = scenes.get(name) or _scene_in_name(name)
            recordings.append(_scene_recording(path, split, scene))
    return recordings


def _scene_folder(folder: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path:
    for name in names:
        for candidate in (folder / name / name, folder / name):
            if candidate.is_dir() and _audio_names(candidate):
                return candidate
    raise UserError(f"{folder} has no folder of recordings named {' or '.join(names)}")


def _scene_recording(path: str, split: str, scene: str) -> ListedRecording:
    if scene:
        return ListedRecording(path, split, scene)
    problem = f"cannot tell the scene of {path}; need one of {', '.join(SCENES)}"
    return ListedRecording(path, split, "", problem)


def _scene_in_name(name: str) -> str:
    match = _SCENE_FILE.fullmatch(pathlib.PurePath(name).stem.lower())
    return match["label"] if match and match["label"] in SCENES else ""


def _listed_scenes(folder: pathlib.Path) -> dict[str, str]:
    """Returns file name -> class from every list in a folder."""
    scenes: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".csv", ".txt") and path.stem.lower().startswith(_SCENE_LISTS):
            for _, text in text_lines(path):
                fields = re.split(r'[,;\t "]+', text)
                names = [pathlib.PurePath(field).name for field in fields if _is_audio(field)]
                if scene := _scene_in_line(fields, names):
                    scenes |= dict.fromkeys(names, scene)
    return scenes


def _scene_in_line(fields: list[str], names: list[str]) -> str:
    """Returns the class that a line gives, by itself or in a file's name; "" if not just one."""
    scenes = {field.lower() for field in fields} & set(SCENES)
    scenes = scenes or {_scene_in_name(name) for name in names} - {""}
    return scenes.pop() if len(scenes) == 1 else ""


def _audio_names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if _is_audio(path.name))


def _is_audio(name: str) -> bool:
    return pathlib.PurePath(name).suffix.lower() in AUDIO_SUFFIXES
