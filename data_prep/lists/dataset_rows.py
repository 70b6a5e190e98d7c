"""What a folder holds of each data set: official lists and the folder's files -> manifest rows.

A listed clip that cannot become a row is counted with a reason and stops nothing: dead links are
normal. `DATASETS` names the data sets.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from data_prep.lists import box_lists, dataset_lists, manifest, media_index
from data_prep.lists.box_lists import Box
from data_prep.lists.dataset_lists import SPLITS, TEST, TRAIN, VAL, Entry, ListedClip, Unusable
from data_prep.lists.manifest import ManifestRow
from data_prep.lists.media_files import MediaFiles
from data_prep.lists.media_index import IMAGE_SECONDS, MediaFile, Names
from l3net import constants
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.media.file_kinds import IMAGE, VIDEO
from l3net.progress import track

NOT_IN_FOLDER, OTHER_TIMES, EMPTY = "not in folder", "only other times in folder", "empty file"
TWICE, UNUSABLE, NO_LABEL, NO_BOX = "listed twice", "unusable row", "no label", "no box"
# L3 §3.1: 500k videos at random, 400k to train, 50k to validate, 50k to test.
FLICKR_VIDEOS = 500_000
FLICKR_FRACTIONS = {TRAIN: 0.8, VAL: 0.1, TEST: 0.1}
# L3 §3.1: 15k / 1.9k / 1.9k of 19k clips; drawn from all that are listed (our choice).
KINETICS_FRACTIONS = {TRAIN: 0.8, VAL: 0.1, TEST: 0.1}
# OTS §2: the public training set, split at random.
AUDIOSET_FRACTIONS = {TRAIN: 0.9, VAL: 0.1}
LABELS_FROM = NO_LABELS, DIRECTORY = ("none", "directory")


@dataclasses.dataclass(frozen=True)
class Request:
    """What there is of the data set."""

    media_dir: str | pathlib.Path = setting(
        REQUIRED,
        "Folder of the videos or images, which the paths in the manifest begin in; archives in it, "
        "and archives in its place, are read as --videos_dir of data_prep.write_shards says.",
        any_name=True,
    )
    lists: tuple[str, ...] = setting(
        (), "Paths of the data set's official lists, with commas between them (docs/datasets.md)."
    )
    ontology: str | None = setting(None, "For audioset_instruments: path of its ontology.json.")
    split_fractions: str | None = setting(
        None,
        "Shares, such as train=0.9,val=0.1, into which the official training clips are split (all "
        "clips of kinetics_sounds, and where there are no official splits); by default as in the "
        "paper.",
    )
    seed: int = setting(
        0, "Seed of every split drawn at random: the papers' and --split_fractions."
    )
    official_splits: bool = setting(
        False,
        "For kinetics_sounds: keep the train, val and test of Kinetics' lists (--split_fractions "
        "then share out train alone) instead of splitting all listed clips 8:1:1 by --seed.",
    )
    trimmed: str = setting(
        media_index.AUTO,
        "Whether files begin where their clips begin; auto: those whose names hold the start do.",
        choices=media_index.TRIMMED,
    )
    nearest_classes: bool = setting(
        True,
        "For kinetics_sounds: take the classes that no published Kinetics has (fingerpicking, "
        "patting, typing) from their nearest.",
    )
    labels_from: str = setting(
        NO_LABELS, "For folder: where the labels of the videos are from.", choices=LABELS_FROM
    )
    files: MediaFiles = MediaFiles(())  # in `media_dir`

    @functools.cached_property
    def fractions(self) -> dict[str, float] | None:
        """`split_fractions` as numbers; raises UserError if they are unusable."""
        if self.split_fractions is None:
            return None
        return manifest.parse_fractions(self.split_fractions)


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """A clip of the data set that did not become a row; a row of missing.csv."""

    example_id: str  # what the row would have had, "" if unknown
    media_id: str
    split: str
    reason: str  # a few words
    detail: str = ""  # more words
    source: str = ""  # where it is listed
    line: int = 0


@dataclasses.dataclass
class Result:
    """What came of a request."""

    rows: list[ManifestRow] = dataclasses.field(default_factory=list)  # the manifest's rows
    # What is listed, but did not become a row.
    missing: list[Missing] = dataclasses.field(default_factory=list)
    num_other: int = 0  # number of listed clips of other classes
    notes: list[str] = dataclasses.field(default_factory=list)  # lines for the user
    boxes: list[Box] | None = None  # the rows of boxes.csv; None if the data set has none

    def miss(self, clip: ListedClip, reason: str, detail: str = "") -> None:
        """Counts a clip as missing."""
        ids = clip.clip_id, clip.video_id, clip.split
        self.missing.append(Missing(*ids, reason, detail, clip.source, clip.line))


# --- Videos of the papers ------------------------------------------------------------------------
def flickr_soundnet(request: Request) -> Result:
    """L3 §3.1: the first 10 s of 500k videos at random, 400k/50k/50k, or as many as there are."""
    result = Result()
    files = _listed_flickr(request, result) if request.lists else _unlisted_flickr(request)
    fractions = request.fractions or FLICKR_FRACTIONS
    splits = ranked_splits(files, fractions, request.seed, FLICKR_VIDEOS)
    seconds = float(constants.CLIP_SECONDS)
    for video_id, split in sorted(splits.items()):
        result.rows.append(ManifestRow(video_id, video_id, files[video_id], 0.0, seconds, split))
    counts = Counter(splits.values())
    sizes = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
    if len(files) < FLICKR_VIDEOS:
        result.notes.append(
            f"{len(files)} videos are fewer than the paper's {FLICKR_VIDEOS}; its 400k/50k/50k "
            f"were scaled down to {sizes}"
        )
    else:
        result.notes.append(f"{len(splits)} of {len(files)} videos, drawn by seed: {sizes}")
    return result


def _listed_flickr(request: Request, result: Result) -> dict[str, str]:
    clips = _once(request, result, _entries(request, dataset_lists.read_flickr))
    matches = _with_files(request, result, clips, media_index.flickr_names)
    return {clip.video_id: file.path for clip, file in matches}


def _unlisted_flickr(request: Request) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in sorted(_paths(request, VIDEO)):
        names = [name for name, _ in media_index.flickr_names(pathlib.PurePosixPath(path).stem)]
        files.setdefault(names[0] if names else path, path)
    return files


def ranked_splits(
    video_ids: Iterable[str], fractions: dict[str, float], seed: int, limit: int
) -> dict[str, str]:
    """Draws at most `limit` videos and splits them, to exact sizes: video id -> split.

    The videos are put in the order of a seeded hash and cut: the last split of `fractions` first,
    so a further video moves others only at the cuts.
    """
    ordered = sorted(video_ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    drawn = ordered[:limit]
    splits: dict[str, str] = {}
    begin, share = 0, 0.0
    for split, fraction in reversed(fractions.items()):
        share += fraction
        end = round(share * len(drawn))
        splits |= dict.fromkeys(drawn[begin:end], split)
        begin = end
    return splits


def kinetics_sounds(request: Request) -> Result:
    """L3 §3.1: 34 classes of Kinetics, by the paper's names; all listed clips are split 8:1:1.

    A clip's split depends on its video's id and the seed alone, so all clips of a video are in one
    (our choice). The paper had 15k / 1.9k / 1.9k clips of an early Kinetics; the official splits
    of the published ones, with `official_splits`, have other proportions.
    """
    result = Result()
    names = dataset_lists.kinetics_sounds_labels(request.nearest_classes)
    entries, fractions = _entries(request, dataset_lists.read_kinetics), None
    if not request.official_splits:
        entries, fractions = _without_splits(entries), KINETICS_FRACTIONS
        result.notes.append(
            "all listed clips were split by seed, by default 8:1:1 as the paper's; "
            "--official_splits keeps the lists' own splits"
        )
    clips, taken = [], set()
    for clip in _once(request, result, entries, fractions):
        if not clip.labels:
            result.miss(clip, NO_LABEL)
        elif clip.labels[0] not in names:
            result.num_other += 1
        else:
            taken.add(clip.labels[0])
            clips.append(dataclasses.replace(clip, labels=(names[clip.labels[0]],)))
    _add_youtube(request, result, clips)
    renamed = sorted((theirs, names[theirs]) for theirs in taken if names[theirs] != theirs)
    result.notes += [f"{paper!r} is Kinetics' {theirs!r}" for theirs, paper in renamed]
    absent = sorted(set(dataset_lists.KINETICS_SOUNDS) - {names[theirs] for theirs in taken})
    if absent:
        result.notes.append(f"{len(absent)} of the paper's 34 classes are listed nowhere: {absent}")
    return result


def audioset_instruments(request: Request) -> Result:
    """OTS §2: clips with one of 110 labels; train 90 % and val 10 % of the public training lists.

    All labels of a clip are kept, by name, those of the 110 first.
    """
    if request.ontology is None:
        raise UserError(
            "audioset_instruments needs --ontology: the path of AudioSet's ontology.json"
        )
    names, instruments = dataset_lists.read_ontology(request.ontology)
    result, clips = Result(), []
    entries = _with_labels(_entries(request, dataset_lists.read_audioset), instruments, result)
    for clip in _once(request, result, entries, AUDIOSET_FRACTIONS):
        ids = sorted(clip.labels, key=lambda label: label not in instruments)
        labels = tuple(names.get(label, label) for label in ids)
        clips.append(dataclasses.replace(clip, labels=labels))
    _add_youtube(request, result, clips)
    return result


# --- Further data sets ---------------------------------------------------------------------------
def vggsound(request: Request) -> Result:
    """VGGSound: clips of 10 s with one of 309 labels; official train and test."""
    result = Result()
    clips = _once(request, result, _entries(request, dataset_lists.read_vggsound))
    _add_youtube(request, result, clips)
    return result


def vggss(request: Request) -> Result:
    """VGG-SS: test clips of VGGSound with boxes on their middle frame."""
    result = Result()
    clips, boxes = _with_boxes(request, result, box_lists.read_vggss)
    _add_youtube(request, result, clips)
    result.boxes = [box for row in result.rows for box in boxes[row.example_id]]
    return result


def flickr_soundnet_test(request: Request) -> Result:
    """The annotated frames of Flickr-SoundNet: images ID.jpg with boxes of several annotators."""
    result = Result()
    clips, boxes = _with_boxes(request, result, box_lists.read_flickr_boxes)
    for clip, file in _with_files(request, result, clips, media_index.plain_names, IMAGE):
        name = clip.video_id
        result.rows.append(ManifestRow(name, name, file.path, 0.0, IMAGE_SECONDS, TEST))
    result.boxes = [box for row in result.rows for box in boxes[row.example_id]]
    return result


def folder(request: Request) -> Result:
    """Any folder of videos: the first 10 s of each, labelled by its own folder or not."""
    found = manifest.rows_from_files(
        request.files, split_fractions=request.fractions, seed=request.seed
    )
    rows = list(found)
    if request.labels_from == DIRECTORY:
        rows = [dataclasses.replace(row, labels=_directory_label(row.path)) for row in rows]
    return Result(rows)


def _directory_label(path: str) -> tuple[str, ...]:
    name = pathlib.PurePosixPath(path).parent.name
    if manifest.LABEL_SEPARATOR in name or not name.isprintable():
        raise UserError(
            f"{path}: the folder's name cannot be a label; need printable characters without "
            f"{manifest.LABEL_SEPARATOR!r}"
        )
    return (name,) if name.strip() else ()


# --- From lists to clips -------------------------------------------------------------------------
def _entries(request: Request, read: Callable[[pathlib.Path], Iterator[Entry]]) -> Iterator[Entry]:
    for path in map(pathlib.Path, request.lists):
        yield from track(read(path), f"reading {path.name}", unit="row")


def _with_labels(
    entries: Iterable[Entry], labels: frozenset[str], result: Result
) -> Iterator[Entry]:
    """Yields the entries but clips with none of the labels, which are counted."""
    for entry in entries:
        if isinstance(entry, ListedClip) and labels.isdisjoint(entry.labels):
            result.num_other += 1
        else:
            yield entry


def _without_splits(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yields the entries as if all labelled clips were in one training list, the rest in none."""
    for entry in entries:
        if isinstance(entry, ListedClip):
            entry = dataclasses.replace(entry, split=TRAIN if entry.labels else "")
        yield entry


def _with_boxes(
    request: Request, result: Result, read: Callable[[str], Iterator[tuple[Entry, list[Box]]]]
) -> tuple[list[ListedClip], dict[str, list[Box]]]:
    """Returns the usable clips that have a box, each once, and clip id -> boxes."""
    entries: list[Entry] = []
    boxes: dict[str, list[Box]] = {}
    for entry, its_boxes in (item for path in request.lists for item in read(path)):
        if isinstance(entry, Unusable):
            entries.append(entry)
        elif its_boxes:
            entries.append(entry)
            boxes.setdefault(entry.clip_id, its_boxes)
        else:
            result.miss(entry, NO_BOX)
    return _once(request, result, entries), boxes


def _once(
    request: Request,
    result: Result,
    entries: Iterable[Entry],
    fractions: Mapping[str, float] | None = None,
) -> list[ListedClip]:
    """Returns the usable clips, each once; the first row that lists one counts.

    What the lists call train is shared out by the request's fractions or else `fractions`.
    """
    fractions = request.fractions or fractions
    clips: dict[str, ListedClip] = {}
    for entry in entries:
        if isinstance(entry, Unusable):
            row = Missing("", "", "", UNUSABLE, entry.detail, entry.source, entry.line)
            result.missing.append(row)
        elif entry.clip_id in clips:
            result.miss(dataclasses.replace(entry, split=""), TWICE)
        else:
            if entry.split == TRAIN and fractions:
                split = manifest.split_of(entry.video_id, fractions, request.seed)
                entry = dataclasses.replace(entry, split=split)
            clips[entry.clip_id] = entry
    return list(clips.values())


# --- From clips to files -------------------------------------------------------------------------
def _paths(request: Request, kind: str) -> Iterator[str]:
    paths = request.files.paths(kind)
    return track(paths, f"listing {request.media_dir}", unit="file")


def _with_files(
    request: Request, result: Result, clips: Sequence[ListedClip], names: Names, kind: str = VIDEO
) -> Iterator[tuple[ListedClip, MediaFile]]:
    """Yields the clips that have a usable file; the others are missing."""
    wanted = {clip.video_id for clip in clips}
    index = media_index.index_folder(_paths(request, kind), names, wanted)
    for clip in clips:
        files = index.get(clip.video_id, [])
        file = media_index.best_file(files, clip.start_seconds, clip.end_seconds)
        if file is not None and request.files.num_bytes(file.path):
            yield clip, file
        elif file is not None:
            result.miss(clip, EMPTY, file.path)
        elif files:
            result.miss(clip, OTHER_TIMES, files[0].path)
        else:
            result.miss(clip, NOT_IN_FOLDER)


def _add_youtube(request: Request, result: Result, clips: Sequence[ListedClip]) -> None:
    """Adds a row for every clip that has a file."""
    num_complete = 0
    for clip, file in _with_files(request, result, clips, media_index.youtube_names):
        num_complete += not file.numbers
        start, end = media_index.extent(file, clip.start_seconds, clip.end_seconds, request.trimmed)
        name = clip.clip_id
        row = ManifestRow(name, clip.video_id, file.path, start, end, clip.split, clip.labels)
        result.rows.append(row)
    if num_complete and request.trimmed == media_index.AUTO:
        result.notes.append(
            f"{num_complete} clips are in files named by the video's id alone, taken for complete "
            "videos; if they were cut to the clips, give --trimmed=yes"
        )


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One choice of --dataset."""

    make_rows: Callable[[Request], Result]  # what makes its rows
    lists: str = ""  # what --lists must name; "" if none are read
    lists_needed: bool = True  # whether it must be given
    fixed_splits: bool = False  # whether there is nothing for --split_fractions to share out


DATASETS: Mapping[str, DataSet] = {
    "flickr_soundnet": DataSet(flickr_soundnet, "urls_public.txt", lists_needed=False),
    "kinetics_sounds": DataSet(kinetics_sounds, "Kinetics' CSV or JSON lists"),
    "audioset_instruments": DataSet(audioset_instruments, "AudioSet's …_segments.csv"),
    "vggsound": DataSet(vggsound, "vggsound.csv"),
    "vggss": DataSet(vggss, "vggss.json", fixed_splits=True),
    "flickr_soundnet_test": DataSet(flickr_soundnet_test, "folder of ID.xml", fixed_splits=True),
    "folder": DataSet(folder),
}
