"""What a folder holds of each data set: official lists and the folder's files -> manifest rows.

One function per data set, all of the same form: it takes a `Request`, returns what is `Found` and
raises UserError if a list has an unknown format. A listed clip that cannot become a row is counted
with a reason and stops nothing: dead links are normal. `DATASETS` names them all.
"""

import dataclasses
import hashlib
import operator
import os
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tqdm

from data_prep.lists import box_lists, dataset_lists, manifest, media_index
from data_prep.lists.box_lists import Box
from data_prep.lists.dataset_lists import TEST, TRAIN, VAL, Entry, ListedClip, Unusable
from data_prep.lists.manifest import ManifestRow
from data_prep.lists.media_index import IMAGE_SECONDS, MediaFile
from l3net import constants
from l3net.data import recording_lists
from l3net.data.recording_lists import ListedRecording
from l3net.errors import UserError
from l3net.media.file_kinds import IMAGE, SUFFIXES, VIDEO

NOT_IN_FOLDER = "not in folder"
OTHER_TIMES = "only other times in folder"
EMPTY = "empty file"
TWICE = "listed twice"
UNUSABLE = "unusable row"
NO_LABEL = "no label"
NO_BOX = "no box"

# L3 §3.1: 500k videos at random, 400k to train, 50k to validate, 50k to test.
FLICKR_VIDEOS = 500_000
FLICKR_FRACTIONS = {TRAIN: 0.8, VAL: 0.1, TEST: 0.1}
# OTS §2: the public training set, split at random.
AUDIOSET_FRACTIONS = {TRAIN: 0.9, VAL: 0.1}
# What a clip is known by: a part of a video, or the video.
_CLIP_ID, _VIDEO_ID = operator.attrgetter("clip_id"), operator.attrgetter("video_id")
_SYNSET = re.compile(r"n\d{8}")
_IMAGENET_VAL = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for; see `datasets.make_manifest`."""

    media_dir: pathlib.Path
    lists: tuple[pathlib.Path, ...] = ()
    ontology: pathlib.Path | None = None
    split_fractions: Mapping[str, float] | None = None
    seed: int = 0
    trimmed: str = media_index.AUTO
    nearest_classes: bool = True
    labels_from: str = "none"


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """A clip of the data set that did not become a row; a row of missing.csv.

    Attributes:
        example_id, media_id, split: as the row's would have been, "" if unknown.
        reason: in a few words.
        detail: more words.
        source, line: where it is listed.
    """

    example_id: str
    media_id: str
    split: str
    reason: str
    detail: str = ""
    source: str = ""
    line: int = 0


@dataclasses.dataclass
class Found:
    """What came out.

    Attributes:
        rows: of the manifest.
        missing: what is listed, but did not become a row.
        num_other: listed clips of classes that are not the data set's.
        notes: what to tell the user.
        boxes: rows of boxes.csv; None if the data set has none.
    """

    rows: list[ManifestRow] = dataclasses.field(default_factory=list)
    missing: list[Missing] = dataclasses.field(default_factory=list)
    num_other: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    boxes: list[Box] | None = None


# --- Videos of the papers ------------------------------------------------------------------------
def flickr_soundnet(request: Request) -> Found:
    """L3 §3.1: the first 10 s of 500k videos at random, 400k/50k/50k, or as many as there are."""
    found = Found()
    files = _listed_flickr(request, found) if request.lists else _unlisted_flickr(request)
    splits = ranked_splits(
        files, request.split_fractions or FLICKR_FRACTIONS, request.seed, FLICKR_VIDEOS
    )
    for video_id, split in splits.items():
        seconds = constants.CLIP_SECONDS
        found.rows.append(
            ManifestRow(video_id, video_id, files[video_id], 0.0, float(seconds), split)
        )
    found.rows.sort(key=lambda row: row.example_id)
    counts = Counter(splits.values())
    told = ", ".join(f"{split} {counts[split]}" for split in (TRAIN, VAL, TEST) if counts[split])
    if len(files) < FLICKR_VIDEOS:
        found.notes.append(
            f"{len(files)} videos are fewer than the paper's {FLICKR_VIDEOS}; its 400k/50k/50k "
            f"were scaled down to {told}"
        )
    else:
        found.notes.append(f"{len(splits)} of {len(files)} videos, drawn by seed: {told}")
    return found


def _listed_flickr(request: Request, found: Found) -> dict[str, str]:
    entries = _entries(request, dataset_lists.read_flickr)
    clips = _once(entries, found, _VIDEO_ID)
    wanted = {clip.video_id for clip in clips}
    index = _index(request, media_index.flickr_names, wanted)
    files = {}
    for clip in clips:
        if file := _file(request, found, clip, index.get(clip.video_id, ()), "", clip.video_id):
            files[clip.video_id] = file.path
    return files


def _unlisted_flickr(request: Request) -> dict[str, str]:
    files = {}
    for path in sorted(_videos(request)):
        named = [name for name, _ in media_index.flickr_names(pathlib.PurePosixPath(path).stem)]
        files.setdefault(named[0] if named else path, path)
    return files


def ranked_splits(
    video_ids: Iterable[str], fractions: Mapping[str, float], seed: int, limit: int
) -> dict[str, str]:
    """Draws at most `limit` videos and splits them, to exact sizes.

    The videos are put in the order of a seeded hash and cut: the last split of `fractions` first,
    so a further video moves others only at the cuts.

    Args:
        video_ids: distinct.
        fractions: split -> share; the shares sum to 1.
        seed: another seed draws others.
        limit: number of videos.

    Returns:
        Video id -> split.
    """
    ordered = sorted(video_ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    drawn = ordered[:limit]
    splits, begin, share = {}, 0, 0.0
    for split, fraction in reversed(fractions.items()):
        share += fraction
        end = round(share * len(drawn))
        splits |= dict.fromkeys(drawn[begin:end], split)
        begin = end
    return splits


def kinetics_sounds(request: Request) -> Found:
    """L3 §3.1: 34 classes of Kinetics, by the paper's names; official train, val and test."""
    found = Found()
    names = dataset_lists.kinetics_sounds_labels(request.nearest_classes)
    clips, taken = [], Counter()
    for clip in _once(_entries(request, dataset_lists.read_kinetics), found):
        if not clip.labels:
            _miss(found, clip, clip.clip_id, _split(request, clip), NO_LABEL)
        elif clip.labels[0] not in names:
            found.num_other += 1
        else:
            taken[clip.labels[0]] += 1
            clips.append(dataclasses.replace(clip, labels=(names[clip.labels[0]],)))
    _match_youtube(request, found, clips)
    renamed = {theirs: names[theirs] for theirs in taken if names[theirs] != theirs}
    found.notes += [f"{ours!r} is Kinetics' {theirs!r}" for theirs, ours in sorted(renamed.items())]
    absent = sorted(set(dataset_lists.KINETICS_SOUNDS) - {names[theirs] for theirs in taken})
    if absent:
        found.notes.append(f"{len(absent)} of the paper's 34 classes are listed nowhere: {absent}")
    return found


def audioset_instruments(request: Request) -> Found:
    """OTS §2: clips with one of 110 labels; train 90 % and val 10 % of the public training lists.

    All labels of a clip are kept, by name, those of the 110 first.
    """
    if request.ontology is None:
        raise UserError(
            "audioset_instruments needs --ontology: the path of AudioSet's ontology.json"
        )
    names, instruments = dataset_lists.read_ontology(request.ontology)
    fractions = request.split_fractions or AUDIOSET_FRACTIONS
    request = dataclasses.replace(request, split_fractions=fractions)
    found, clips = Found(), []
    entries = _with_labels(_entries(request, dataset_lists.read_audioset), instruments, found)
    for clip in _once(entries, found):
        labels = sorted(clip.labels, key=lambda label: label not in instruments)
        labels = tuple(names.get(label, label) for label in labels)
        clips.append(dataclasses.replace(clip, labels=labels))
    _match_youtube(request, found, clips)
    return found


# --- Further videos ------------------------------------------------------------------------------
def vggsound(request: Request) -> Found:
    """VGGSound: clips of 10 s with one of 309 labels; official train and test."""
    found = Found()
    _match_youtube(request, found, _once(_entries(request, dataset_lists.read_vggsound), found))
    return found


def vggss(request: Request) -> Found:
    """VGG-SS: test clips of VGGSound with boxes on their middle frame."""
    found = Found()
    listed = (item for path in request.lists for item in box_lists.read_vggss(path))
    clips, boxes = _with_boxes(listed, found, _CLIP_ID)
    _match_youtube(request, found, clips)
    found.boxes = [box for row in found.rows for box in boxes[row.example_id]]
    return found


def folder(request: Request) -> Found:
    """Any folder of videos: the first 10 s of each, labelled by the folder it lies in or not."""
    rows = manifest.rows_from_folder(
        request.media_dir, split_fractions=request.split_fractions, seed=request.seed
    )
    if request.labels_from == "directory":
        rows = [dataclasses.replace(row, labels=_directory_label(row.path)) for row in rows]
    return Found(rows)


def _directory_label(path: str) -> tuple[str, ...]:
    name = pathlib.PurePosixPath(path).parent.name
    if manifest.LABEL_SEPARATOR in name or not name.isprintable():
        raise UserError(
            f"{path}: the folder's name cannot be a label; need printable characters without "
            f"{manifest.LABEL_SEPARATOR!r}"
        )
    return (name,) if name.strip() else ()


# --- Recordings ----------------------------------------------------------------------------------
def esc50(request: Request) -> Found:
    """ESC-50: recordings of 5 s; a split is a fold."""
    listed = recording_lists.list_esc50(request.media_dir)
    return _recordings(request, listed, recording_lists.ESC_SECONDS)


def esc10(request: Request) -> Found:
    """ESC-10: recordings of 5 s in either layout; a split is a fold."""
    listed = recording_lists.list_esc10(request.media_dir)
    return _recordings(request, listed, recording_lists.ESC_SECONDS)


def dcase2013(request: Request) -> Found:
    """DCASE 2013 scenes: recordings of 30 s; train are the public ones, test the private ones."""
    listed = recording_lists.list_dcase2013(request.media_dir)
    return _recordings(request, listed, recording_lists.SCENE_SECONDS)


def _recordings(request: Request, listed: Iterable[ListedRecording], seconds: float) -> Found:
    found, seen = Found(), set()
    for item in listed:
        name, path = item.path, request.media_dir / item.path
        if name in seen:
            reason = TWICE
        elif item.problem:
            reason = NO_LABEL
        elif not path.is_file():
            reason = NOT_IN_FOLDER
        else:
            reason = "" if _size(path) else EMPTY
        seen.add(name)
        if reason:
            missing = Missing(name, name, item.split, reason, item.problem, item.source, item.line)
            found.missing.append(missing)
        else:
            row = ManifestRow(name, name, name, 0.0, seconds, item.split, (item.label,))
            found.rows.append(row)
    return found


# --- Images --------------------------------------------------------------------------------------
def imagenet(request: Request) -> Found:
    """ImageNet ILSVRC 2012: train/SYNSET/*.JPEG and val/, in such folders or flat with a list."""
    found = Found()
    listed = dataset_lists.read_imagenet_val(request.lists[0]) if request.lists else {}
    seen = set()
    for split in (TRAIN, VAL):
        if (request.media_dir / split).is_dir():
            paths = media_index.media_paths(request.media_dir / split, SUFFIXES[IMAGE])
            for path in sorted(_progress(paths, f"{split} images", "image")):
                seen.add(_add_image(found, split, path, listed))
    if not found.rows:
        raise UserError(
            f"{request.media_dir} holds no ImageNet: need train/n01440764/*.JPEG, or val/ with "
            "such folders, or with ILSVRC2012_val_00000001.JPEG … and their labels in --lists"
        )
    for number in sorted(set(listed) - seen):
        name = f"ILSVRC2012_val_{number:08d}"
        source = request.lists[0].name
        found.missing.append(Missing(name, name, VAL, NOT_IN_FOLDER, "", source, number))
    return found


def _add_image(found: Found, split: str, path: str, listed: Mapping[int, str]) -> int | None:
    """Adds a row; returns the number of a validation image."""
    name = pathlib.PurePosixPath(path)
    match = _IMAGENET_VAL.fullmatch(name.stem) if split == VAL else None
    number = int(match[1]) if match else None
    label = name.parent.name
    if not _SYNSET.fullmatch(label):
        label = listed.get(number, "")
    if label:
        path = f"{split}/{path}"
        found.rows.append(ManifestRow(path, path, path, 0.0, IMAGE_SECONDS, split, (label,)))
    else:
        found.missing.append(Missing(f"{split}/{path}", "", split, NO_LABEL))
    return number


def flickr_soundnet_test(request: Request) -> Found:
    """The annotated frames of Flickr-SoundNet: images ID.jpg with boxes of several annotators."""
    found = Found()
    listed = (item for path in request.lists for item in box_lists.read_flickr_boxes(path))
    clips, boxes = _with_boxes(listed, found, _VIDEO_ID)
    paths = media_index.media_paths(request.media_dir, SUFFIXES[IMAGE])
    wanted = {clip.video_id for clip in clips}
    index = media_index.index_folder(paths, media_index.plain_names, wanted)
    for clip in clips:
        name = clip.video_id
        if file := _file(request, found, clip, index.get(name, ()), TEST, name):
            found.rows.append(ManifestRow(name, name, file.path, 0.0, IMAGE_SECONDS, TEST))
    found.boxes = [box for row in found.rows for box in boxes[row.example_id]]
    return found


# --- Parts ---------------------------------------------------------------------------------------
def _entries(request: Request, read: Callable[[pathlib.Path], Iterator[Entry]]) -> Iterator[Entry]:
    """Yields what all lists name."""
    for path in request.lists:
        yield from _progress(read(path), path.name, "row")


def _with_labels(entries: Iterable[Entry], labels: frozenset[str], found: Found) -> Iterator[Entry]:
    """Yields the entries but clips with none of the labels, which are counted."""
    for entry in entries:
        if isinstance(entry, ListedClip) and labels.isdisjoint(entry.labels):
            found.num_other += 1
        else:
            yield entry


def _once(
    entries: Iterable[Entry], found: Found, name: Callable[[ListedClip], str] = _CLIP_ID
) -> list[ListedClip]:
    """Returns the usable clips, each once; the first place that lists one counts."""
    clips, seen = [], set()
    for entry in entries:
        if isinstance(entry, Unusable):
            found.missing.append(
                Missing("", "", "", UNUSABLE, entry.detail, entry.source, entry.line)
            )
        elif name(entry) in seen:
            _miss(found, entry, name(entry), "", TWICE)
        else:
            seen.add(name(entry))
            clips.append(entry)
    return clips


def _with_boxes(
    listed: Iterable[tuple[Entry, list[Box]]], found: Found, name: Callable[[ListedClip], str]
) -> tuple[list[ListedClip], dict[str, list[Box]]]:
    """Returns the usable clips that have a box, each once, and name -> boxes."""
    entries, boxes = [], {}
    for entry, its_boxes in listed:
        if isinstance(entry, ListedClip) and not its_boxes:
            _miss(found, entry, name(entry), entry.part, NO_BOX)
            continue
        entries.append(entry)
        if its_boxes:
            boxes.setdefault(name(entry), its_boxes)
    return _once(entries, found, name), boxes


def _match_youtube(request: Request, found: Found, clips: Sequence[ListedClip]) -> None:
    """Finds the file of every clip and adds the rows."""
    index = _index(request, media_index.youtube_names, {clip.video_id for clip in clips})
    num_whole = 0
    for clip in clips:
        name, split = clip.clip_id, _split(request, clip)
        file = _file(request, found, clip, index.get(clip.video_id, ()), split, name)
        if file is None:
            continue
        num_whole += not file.numbers
        start, end = media_index.extent(file, clip.start_seconds, clip.end_seconds, request.trimmed)
        found.rows.append(
            ManifestRow(name, clip.video_id, file.path, start, end, split, clip.labels)
        )
    if num_whole and request.trimmed == media_index.AUTO:
        found.notes.append(
            f"{num_whole} clips are in files named by the video's id alone, taken for whole "
            "videos; if they were cut to the clips, give --trimmed=yes"
        )


def _file(
    request: Request,
    found: Found,
    clip: ListedClip,
    files: Iterable[MediaFile],
    split: str,
    name: str,
) -> MediaFile | None:
    """Returns the file of a clip; None, and a missing clip, if there is none of any use."""
    files = list(files)
    file = media_index.best_file(files, clip.start_seconds, clip.end_seconds)
    if file is None:
        reason, detail = (OTHER_TIMES, files[0].path) if files else (NOT_IN_FOLDER, "")
    elif _size(request.media_dir / file.path) == 0:
        reason, detail = EMPTY, file.path
    else:
        return file
    _miss(found, clip, name, split, reason, detail)
    return None


def _size(path: pathlib.Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # a link that leads nowhere
        return 0


def _miss(
    found: Found, clip: ListedClip, name: str, split: str, reason: str, detail: str = ""
) -> None:
    found.missing.append(
        Missing(name, clip.video_id, split, reason, detail, clip.source, clip.line)
    )


def _split(request: Request, clip: ListedClip) -> str:
    """Returns the official split; what is called train is shared out if fractions are given."""
    if clip.part == TRAIN and request.split_fractions:
        return manifest.split_of(clip.video_id, request.split_fractions, request.seed)
    return clip.part


def _videos(request: Request) -> Iterator[str]:
    return _progress(media_index.media_paths(request.media_dir, SUFFIXES[VIDEO]), "files", "file")


def _index(
    request: Request, names: media_index.Names, wanted: set[str]
) -> dict[str, list[MediaFile]]:
    return media_index.index_folder(_videos(request), names, wanted)


def _progress(items: Iterable, what: str, unit: str) -> Iterable:
    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm.tqdm(items, desc=what, unit=unit, mininterval=interval, delay=2)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One choice of --dataset.

    Attributes:
        find: what there is of it.
        lists: what --lists must name; "" if none are read.
        lists_needed: whether it must be given.
        one_list: whether only one is read.
        fixed_splits: whether there is nothing for --split_fractions to share out.
    """

    find: Callable[[Request], Found]
    lists: str = ""
    lists_needed: bool = True
    one_list: bool = False
    fixed_splits: bool = False


DATASETS: Mapping[str, DataSet] = {
    "flickr_soundnet": DataSet(flickr_soundnet, "urls_public.txt", lists_needed=False),
    "kinetics_sounds": DataSet(kinetics_sounds, "Kinetics' CSV or JSON lists"),
    "audioset_instruments": DataSet(audioset_instruments, "AudioSet's …_segments.csv"),
    "vggsound": DataSet(vggsound, "vggsound.csv"),
    "vggss": DataSet(vggss, "vggss.json", fixed_splits=True),
    "flickr_soundnet_test": DataSet(
        flickr_soundnet_test, "the folder of annotations, ID.xml", fixed_splits=True
    ),
    "imagenet": DataSet(
        imagenet,
        "the labels of a flat val/ folder",
        lists_needed=False,
        one_list=True,
        fixed_splits=True,
    ),
    "esc50": DataSet(esc50, fixed_splits=True),
    "esc10": DataSet(esc10, fixed_splits=True),
    "dcase2013": DataSet(dcase2013, fixed_splits=True),
    "folder": DataSet(folder),
}
