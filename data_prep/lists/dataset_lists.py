"""Official lists of data sets -> the clips they name; one small reader per format.

Formats and where they are from: docs/datasets.md. Every reader raises UserError if the list cannot
be read or its header or first row has another format; a later row that cannot be read is one
`Unusable`, and the rest goes on.
"""

import dataclasses
import math
import pathlib
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from data_prep.lists.manifest import is_label
from l3net import constants
from l3net.data.list_files import ONTOLOGY, csv_rows, ontology_nodes, text_lines
from l3net.errors import UserError
from l3net.json_files import plain, read_published

TRAIN, VAL, TEST = SPLITS = ("train", "val", "test")
# The classes of L3, appendix A. The paper used an early list of Kinetics.
KINETICS_SOUNDS = (
    *("blowing nose", "bowling", "chopping wood", "ripping paper", "shuffling cards", "singing"),
    *("tapping pen", "typing", "blowing out", "dribbling ball", "laughing"),
    *("mowing the lawn by pushing lawnmower", "shoveling snow", "stomping", "tap dancing"),
    *("tapping guitar", "tickling", "fingerpicking", "patting", "playing accordion"),
    *("playing bagpipes", "playing bass guitar", "playing clarinet", "playing drums"),
    *("playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano"),
    *("playing saxophone", "playing trombone", "playing trumpet", "playing violin"),
    "playing xylophone",
)
# How Kinetics-400, -600 and -700 spell four of them -> the paper's name.
OTHER_SPELLINGS = {
    "blowing out candles": "blowing out",
    "dribbling basketball": "dribbling ball",
    "mowing lawn": "mowing the lawn by pushing lawnmower",
    "stomping grapes": "stomping",
}
# Our choice: three of the 34 are in no published Kinetics; the nearest class there.
NEAREST_CLASSES = {
    "fingerpicking": "strumming guitar",
    "patting": "petting animal (not cat)",
    "typing": "using computer",
}
INSTRUMENT_ROOTS = ("Musical instrument", "Singing", "Tools")  # OTS §2: 110 classes
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "validate", "validation"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
_KINETICS_COLUMNS = frozenset(("label", "youtube_id", "time_start", "time_end", "split", "is_cc"))
_SHOWN = reprlib.Repr()  # the beginning of what a stranger's list holds
_SHOWN.maxstring = _SHOWN.maxother = 200
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_FLICKR = re.compile(
    r"(?:(?:https?://)?(?:www\.)?flickr\.com/(?:videos|photos)/[^/]+/(\d+)(?:/.*)?|(\d+))"
)


@dataclasses.dataclass(frozen=True, slots=True)
class ListedClip:
    """One clip that a list names."""

    video_id: str  # the video's id, such as YouTube's
    start_seconds: float  # extent on the complete video's time line
    end_seconds: float
    split: str  # "train", "val" or "test" as the list has it, "" where it has none
    labels: tuple[str, ...]  # as the list writes them
    source: str  # file name of the list
    line: int  # line in the list (JSON: number of the entry)
    is_part: bool = True  # whether a video may have several clips

    @property
    def clip_id(self) -> str:
        """The video's id; of a part such as "ID_000030", as Kinetics and VGGSound name clips."""
        if not self.is_part:
            return self.video_id
        if self.start_seconds == int(self.start_seconds):
            return f"{self.video_id}_{int(self.start_seconds):06d}"
        return f"{self.video_id}_{self.start_seconds:010.3f}"


@dataclasses.dataclass(frozen=True, slots=True)
class Unusable:
    """One row of a list that cannot be read, and why."""

    detail: str
    source: str
    line: int


Entry = ListedClip | Unusable
# What a row that cannot be read may raise: a number of 400 digits is too large for a float.
ROW_ERRORS = (ValueError, LookupError, TypeError, AttributeError, OverflowError)


class _Annotations(msgspec.Struct):
    segment: tuple[float, float]
    label: str | None = None


class _KineticsEntry(msgspec.Struct):
    subset: str
    annotations: _Annotations


# --- Kinetics ------------------------------------------------------------------------------------
def read_kinetics(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads one list of Kinetics-400, -600 or -700: clips with one label or none.

    It is a CSV with the columns label (may lack: held-out test lists), youtube_id, time_start,
    time_end, split and perhaps is_cc; or the JSON of the same clips.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == ".json":
        what = '{"ID": {"annotations": {"label": …, "segment": [START, END]}, "subset": …}, …}'
        content = read_published(path, dict[str, Any], what)
        return _parsed(path, enumerate(content.items(), 1), _kinetics_json, what)
    return _read_kinetics_csv(path)


def _read_kinetics_csv(path: pathlib.Path) -> Iterator[Entry]:
    rows = csv_rows(path)
    line, columns = next(rows, (1, []))
    needed = _KINETICS_COLUMNS - {"label", "is_cc"}
    is_twice = max(Counter(columns).values(), default=1) > 1
    if is_twice or not needed <= set(columns) <= _KINETICS_COLUMNS:
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
    video_id, entry = item[0], msgspec.convert(item[1], _KineticsEntry)
    start, end = entry.annotations.segment
    labels = (entry.annotations.label,) if entry.annotations.label else ()
    return video_id, start, end, _SPLIT_NAMES[entry.subset], labels


def kinetics_sounds_labels(nearest: bool) -> dict[str, str]:
    """Returns Kinetics' class -> the class of L3's appendix A; `nearest`: see NEAREST_CLASSES."""
    names = {name: name for name in KINETICS_SOUNDS} | OTHER_SPELLINGS
    if nearest:
        names |= {theirs: paper for paper, theirs in NEAREST_CLASSES.items()}
    return names


# --- AudioSet ------------------------------------------------------------------------------------
def read_audioset(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads one of AudioSet's lists of segments; labels are ontology ids such as "/m/04szw".

    A file with "eval" in its name is the test list, one with "train" a training list.
    """
    path = pathlib.Path(path)
    kinds = "eval" in path.name.lower(), "train" in path.name.lower()
    split = {(True, False): TEST, (False, True): TRAIN}.get(kinds)
    if split is None:
        raise UserError(
            f"{path}: cannot tell its split; need AudioSet's own file names: eval_segments.csv, "
            "balanced_train_segments.csv, unbalanced_train_segments.csv"
        )

    def parse(fields: list[str]) -> tuple:
        video_id, start, end, labels = fields
        if not labels.startswith("/"):
            raise ValueError("no label")
        return video_id, float(start), float(end), split, tuple(labels.split(","))

    what = 'AudioSet\'s YTID, start_seconds, end_seconds, "label,label"'
    return _parsed(path, csv_rows(path), parse, what)


def read_ontology(path: str | pathlib.Path) -> tuple[dict[str, str], frozenset[str]]:
    """Returns label id -> name of AudioSet's ontology, and the ids of the 110 classes (OTS §2).

    These are everything at or below `INSTRUMENT_ROOTS`.
    """
    nodes = ontology_nodes(path)
    children = {node.id: node.child_ids for node in nodes}
    names = {node.id: node.name for node in nodes}
    ids = {name: label for label, name in names.items()}
    below: set[str] = set()
    try:
        if unusable := [name for name in ids if not is_label(name)]:
            raise ValueError(f"the name {unusable[0]!r}")
        waiting = [ids[root] for root in INSTRUMENT_ROOTS]
        while waiting:  # a node may have several parents
            label = waiting.pop()
            if label not in below:
                below.add(label)
                waiting += children[label]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is no AudioSet ontology ({error!r}); need {ONTOLOGY}") from error
    return names, frozenset(below)


# --- VGGSound, Flickr ----------------------------------------------------------------------------
def read_vggsound(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads vggsound.csv, without a header: YouTube id, start in seconds, label, train or test."""

    def parse(fields: list[str]) -> tuple:
        video_id, text, label, split = fields
        start = float(text)
        if not label:
            raise ValueError("no label")
        return video_id, start, start + constants.CLIP_SECONDS, _SPLIT_NAMES[split], (label,)

    what = "VGGSound's id,start,label,train or test"
    return _parsed(pathlib.Path(path), csv_rows(path), parse, what)


def read_flickr(path: str | pathlib.Path) -> Iterator[Entry]:
    """Reads SoundNet's urls_public.txt: on each line the address of a Flickr video, or its number.

    A clip is the first 10 s of a video (L3 §3.1), without label and split.
    """

    def parse(text: str) -> tuple:
        match = _FLICKR.fullmatch(text)
        if match is None:
            raise ValueError("no Flickr video")
        return match[1] or match[2], 0.0, constants.CLIP_SECONDS, "", ()

    what = "http://www.flickr.com/videos/USER/NUMBER/… or NUMBER"
    return _parsed(pathlib.Path(path), text_lines(path), parse, what, youtube=False)


# --- Any list ------------------------------------------------------------------------------------
def shown(row: object) -> str:
    """Returns the beginning of a list's row as a message shows it."""
    return _SHOWN.repr(row)


def _parsed(
    path: pathlib.Path,
    rows: Iterable[tuple[int, object]],
    parse: Callable[[Any], tuple],
    what: str,
    youtube: bool = True,
) -> Iterator[Entry]:
    """Yields an entry per row; the first row must be usable, else the format is another."""
    source, is_first = path.name, True
    for line, row in rows:
        try:
            video_id, start, end, split, labels = parse(row)
            if youtube and not _YOUTUBE_ID.fullmatch(video_id):
                raise ValueError(f"{video_id!r} is no YouTube id")
            if not (0 <= start < end < math.inf):
                raise ValueError(f"clip from {start} to {end} s")
            if not all(map(is_label, labels)):
                raise ValueError(f"the label(s) {shown(labels)}")
            entry: Entry = ListedClip(video_id, start, end, split, labels, source, line, youtube)
        except ROW_ERRORS as error:
            if is_first:
                raise UserError(
                    f"{path}, line {line}: got {shown(row)} ({plain(error)}); need {what}"
                ) from error
            entry = Unusable(f"{shown(row)}: {plain(error)}", source, line)
        yield entry
        is_first = False
    if is_first:
        raise UserError(f"{path} lists nothing; need {what}")
