"""Official lists of data sets -> the clips they name; one small reader per format.

Formats and where they are from: docs/datasets.md. A list whose header or first row has another
format is refused; a later row that cannot be read is one `Unusable`, and the rest goes on.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from l3net import constants
from l3net.data.recording_lists import TEST, TRAIN, csv_rows, text_lines
from l3net.errors import UserError

VAL = "val"
# L3, appendix A -> the spellings of Kinetics-400, -600 and -700. The paper used an early list.
KINETICS_SOUNDS: Mapping[str, tuple[str, ...]] = {
    "blowing nose": ("blowing nose",),
    "bowling": ("bowling",),
    "chopping wood": ("chopping wood",),
    "ripping paper": ("ripping paper",),
    "shuffling cards": ("shuffling cards",),
    "singing": ("singing",),
    "tapping pen": ("tapping pen",),
    "typing": ("typing",),
    "blowing out": ("blowing out", "blowing out candles"),
    "dribbling ball": ("dribbling ball", "dribbling basketball"),
    "laughing": ("laughing",),
    "mowing the lawn by pushing lawnmower": (
        *("mowing the lawn by pushing lawnmower", "mowing lawn"),
    ),
    "shoveling snow": ("shoveling snow",),
    "stomping": ("stomping", "stomping grapes"),
    "tap dancing": ("tap dancing",),
    "tapping guitar": ("tapping guitar",),
    "tickling": ("tickling",),
    "fingerpicking": ("fingerpicking",),
    "patting": ("patting",),
    "playing accordion": ("playing accordion",),
    "playing bagpipes": ("playing bagpipes",),
    "playing bass guitar": ("playing bass guitar",),
    "playing clarinet": ("playing clarinet",),
    "playing drums": ("playing drums",),
    "playing guitar": ("playing guitar",),
    "playing harmonica": ("playing harmonica",),
    "playing keyboard": ("playing keyboard",),
    "playing organ": ("playing organ",),
    "playing piano": ("playing piano",),
    "playing saxophone": ("playing saxophone",),
    "playing trombone": ("playing trombone",),
    "playing trumpet": ("playing trumpet",),
    "playing violin": ("playing violin",),
    "playing xylophone": ("playing xylophone",),
}
# Ours: three of the 34 are in no published Kinetics under any such name; the nearest class there.
NEAREST_CLASSES: Mapping[str, str] = {
    "fingerpicking": "strumming guitar",
    "patting": "petting animal (not cat)",
    "typing": "using computer",
}
INSTRUMENT_ROOTS = ("Musical instrument", "Singing", "Tools")  # OTS §2: 110 classes
_SPLIT_NAMES = {
    **{"train": TRAIN, "training": TRAIN},
    **{"val": VAL, "validate": VAL, "validation": VAL},
    **{"test": TEST, "testing": TEST},
}
_KINETICS_COLUMNS = frozenset(("label", "youtube_id", "time_start", "time_end", "split", "is_cc"))
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_FLICKR_URL = re.compile(
    r"(?:https?://)?(?:www\.)?flickr\.com/(?:videos|photos)/[^/]+/(\d+)(?:/.*)?"
)


@dataclasses.dataclass(frozen=True, slots=True)
class ListedClip:
    """One clip that a list names.

    Attributes:
        video_id: such as YouTube's.
        start_seconds, end_seconds: on the whole video's time line.
        part: "train", "val" or "test" as the list has it, "" where it has none.
        labels: as the list writes them.
        source: file name of the list.
        line: in it (JSON: number of the entry).
    """

    video_id: str
    start_seconds: float
    end_seconds: float
    part: str
    labels: tuple[str, ...]
    source: str
    line: int

    @property
    def clip_id(self) -> str:
        """Such as "ID_000030", the name that Kinetics and VGGSound give to a clip."""
        if self.start_seconds == int(self.start_seconds):
            return f"{self.video_id}_{int(self.start_seconds):06d}"
        return f"{self.video_id}_{self.start_seconds:010.3f}"


@dataclasses.dataclass(frozen=True, slots=True)
class Unusable:
    """One row that cannot be read.

    Attributes:
        detail: what is wrong.
        source, line: as `ListedClip`.
    """

    detail: str
    source: str
    line: int


Entry = ListedClip | Unusable


# --- Kinetics ------------------------------------------------------------------------------------
def read_kinetics(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads one list of Kinetics-400, -600 or -700.

    Args:
        path: a CSV with the columns label (may lack: held-out test lists), youtube_id, time_start,
            time_end, split and perhaps is_cc; or the JSON of the same clips.

    Yields:
        The clips, with one label or none.

    Raises:
        UserError: if the file cannot be read or has another format.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".json":
        what = '{"ID": {"annotations": {"label": …, "segment": [START, END]}, "subset": …}, …}'
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: got a JSON {type(content).__name__}; need {what}")
        return _parsed(path, enumerate(content.items(), 1), _kinetics_json, what)
    return _read_kinetics_csv(path)


def _read_kinetics_csv(path: pathlib.Path) -> Iterator[Entry]:
    rows = csv_rows(path)
    line, columns = next(rows, (1, []))
    needed = _KINETICS_COLUMNS - {"label", "is_cc"}
    if not needed <= set(columns) <= _KINETICS_COLUMNS:
        raise UserError(
            f"{path}, line {line}: got the columns {', '.join(columns) or 'none'}; need Kinetics' "
            "label,youtube_id,time_start,time_end,split"
        )

    def parse(fields: list[str]) -> tuple:
        row = dict(zip(columns, fields, strict=True))
        labels = (row["label"],) if row.get("label") else ()
        start, end = float(row["time_start"]), float(row["time_end"])
        return row["youtube_id"], start, end, _SPLIT_NAMES[row["split"]], labels

    yield from _parsed(path, rows, parse, f"a row of {','.join(columns)}, split train, val or test")


def _kinetics_json(item: tuple[str, dict]) -> tuple:
    video_id, entry = item
    annotations = entry["annotations"]
    start, end = annotations["segment"]
    labels = (annotations["label"],) if annotations.get("label") else ()
    return video_id, float(start), float(end), _SPLIT_NAMES[entry["subset"]], labels


def kinetics_sounds_labels(nearest: bool) -> dict[str, str]:
    """Returns Kinetics' class -> the class of L3's appendix A.

    Args:
        nearest: whether to take `NEAREST_CLASSES`, too.
    """
    names = {theirs: ours for ours, spellings in KINETICS_SOUNDS.items() for theirs in spellings}
    if nearest:
        names |= {theirs: ours for ours, theirs in NEAREST_CLASSES.items()}
    return names


# --- AudioSet ------------------------------------------------------------------------------------
def read_audioset(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads one of AudioSet's lists of segments.

    Args:
        path: such as eval_segments.csv; a name with "eval" is the test list, one with "train" a
            training list.

    Yields:
        The clips; labels are ontology ids such as "/m/04szw".

    Raises:
        UserError: if the file cannot be read, has another format, or its name tells no split.
    """
    path = pathlib.Path(path)
    part = {(True, False): TEST, (False, True): TRAIN}.get(
        ("eval" in path.name.lower(), "train" in path.name.lower())
    )
    if part is None:
        raise UserError(
            f"{path}: cannot tell its split; need AudioSet's own file names: eval_segments.csv, "
            "balanced_train_segments.csv, unbalanced_train_segments.csv"
        )

    def parse(fields: list[str]) -> tuple:
        video_id, start, end, labels = fields
        if not labels.startswith("/"):
            raise ValueError("no label")
        return video_id, float(start), float(end), part, tuple(labels.split(","))

    what = 'AudioSet\'s YTID, start_seconds, end_seconds, "label,label"'
    return _parsed(path, csv_rows(path), parse, what)


def read_ontology(path: str | pathlib.Path) -> tuple[dict[str, str], frozenset[str]]:
    """Reads AudioSet's ontology and applies the rule of AudioSet-Instruments to it (OTS §2).

    Args:
        path: of ontology.json.

    Returns:
        Label id -> name; the ids of the 110 classes: everything at or below `INSTRUMENT_ROOTS`.

    Raises:
        UserError: if the file cannot be read, or is no such ontology.
    """
    content = read_json(path)
    try:
        children = {node["id"]: node["child_ids"] for node in content}
        names = {node["id"]: node["name"] for node in content}
        ids = {name: label for label, name in names.items()}
        waiting, found = [ids[root] for root in INSTRUMENT_ROOTS], set()
        while waiting:  # a node may have several parents
            label = waiting.pop()
            if label not in found:
                found.add(label)
                waiting += children[label]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no AudioSet ontology ({error!r}); need its ontology.json: a list of nodes "
            "with id, name and child_ids"
        ) from error
    return names, frozenset(found)


# --- VGGSound, Flickr ----------------------------------------------------------------------------
def read_vggsound(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads vggsound.csv: YouTube id, start in seconds, label, train or test; clips of 10 s.

    Args:
        path: of the CSV, without a header.

    Yields:
        The clips, with one label.

    Raises:
        UserError: if the file cannot be read or has another format.
    """

    def parse(fields: list[str]) -> tuple:
        video_id, text, label, part = fields
        start = float(text)
        if not label:
            raise ValueError("no label")
        return video_id, start, start + constants.CLIP_SECONDS, _SPLIT_NAMES[part], (label,)

    what = "VGGSound's id,start,label,train or test"
    return _parsed(pathlib.Path(path), csv_rows(path), parse, what)


def read_flickr(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads SoundNet's urls_public.txt: on each line the address of a Flickr video, or its number.

    Args:
        path: of the text file.

    Yields:
        The first 10 s of each video (L3 §3.1), without label and split.

    Raises:
        UserError: if the file cannot be read or has another format.
    """

    def parse(text: str) -> tuple:
        match = _FLICKR_URL.fullmatch(text)
        if match is None and not re.fullmatch(r"\d+", text):
            raise ValueError("no Flickr video")
        return match[1] if match else text, 0.0, constants.CLIP_SECONDS, "", ()

    what = "http://www.flickr.com/videos/USER/NUMBER/… or NUMBER"
    return _parsed(pathlib.Path(path), text_lines(path), parse, what, youtube=False)


# --- ImageNet ------------------------------------------------------------------------------------
def read_imagenet_val(path: str | pathlib.Path) -> dict[int, str]:
    """Reads the labels of ImageNet's validation images, in any of the three usual forms.

    Args:
        path: of imagenet_2012_validation_synset_labels.txt (a synset per line), Kaggle's
            LOC_val_solution.csv, or the development kit's ILSVRC2012_validation_ground_truth.txt
            (a number per line, with meta.mat in the same folder).

    Returns:
        Number of the image (1 is ILSVRC2012_val_00000001) -> synset, such as "n01440764".

    Raises:
        UserError: if the file cannot be read or has another format.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".csv":
        return _read_kaggle_val(path)
    lines = list(text_lines(path))
    synsets = _devkit_synsets(path) if lines and lines[0][1].isdigit() else None
    labels = {}
    for line, text in lines:
        label = synsets.get(text) if synsets else text
        if label is None or not re.fullmatch(r"n\d{8}", label):
            raise UserError(
                f"{path}, line {line}: got {text!r}; need a synset such as n01440764, or the "
                "development kit's number of one"
            )
        labels[line] = label
    return labels


def _read_kaggle_val(path: pathlib.Path) -> dict[int, str]:
    labels = {}
    for line, fields in csv_rows(path):
        if fields == ["ImageId", "PredictionString"]:
            continue
        match = re.fullmatch(r"ILSVRC2012_val_(\d{8}),(n\d{8}) .*", ",".join(fields))
        if match is None:
            raise UserError(
                f"{path}, line {line}: got {fields}; need ImageId,PredictionString such as "
                "ILSVRC2012_val_00000001,n01440764 10 20 30 40"
            )
        labels[int(match[1])] = match[2]
    return labels


def _devkit_synsets(path: pathlib.Path) -> dict[str, str]:
    import scipy.io  # here: only this form of the list needs it

    meta = path.with_name("meta.mat")
    try:
        synsets = scipy.io.loadmat(meta, squeeze_me=True)["synsets"]
        return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in synsets}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path} has numbers; need the development kit's meta.mat beside it to name them: "
            f"{error}"
        ) from error


# --- Any list ------------------------------------------------------------------------------------
def read_json(path: str | pathlib.Path) -> object:
    """Returns the content of a JSON file; raises UserError if it cannot be read."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} as a JSON file: {error}") from error


def _parsed(
    path: pathlib.Path,
    rows: Iterable[tuple[int, object]],
    parse: Callable[[object], tuple],
    what: str,
    youtube: bool = True,
) -> Iterator[Entry]:
    """Yields an entry per row; the first row must be usable, else the format is another."""
    source, is_first = path.name, True
    for line, row in rows:
        try:
            video_id, start, end, part, labels = parse(row)
            _check_clip(video_id, start, end, youtube)
            entry = ListedClip(video_id, start, end, part, labels, source, line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if is_first:
                raise UserError(f"{path}, line {line}: got {row!r}; need {what}") from error
            entry = Unusable(f"{row!r}: {error!r}", source, line)
        yield entry
        is_first = False
    if is_first:
        raise UserError(f"{path} lists nothing; need {what}")


def _check_clip(video_id: str, start: float, end: float, youtube: bool) -> None:
    if youtube and not _YOUTUBE_ID.fullmatch(video_id):
        raise ValueError(f"{video_id!r} is no YouTube id")
    if not (0 <= start < end < math.inf):
        raise ValueError(f"clip from {start} to {end} s")
