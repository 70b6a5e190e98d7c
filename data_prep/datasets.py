"""ENTRY: the official lists of a data set and what you have of it -> manifest.csv.

    python -m data_prep.datasets --dataset=kinetics_sounds --media_dir=kinetics/videos \
        --lists=train.csv,validate.csv,test.csv --manifest=data/kinetics_sounds/manifest.csv
    python -m data_prep.datasets --dataset=folder --media_dir=my_videos --labels_from=directory \
        --split_fractions=train=0.8,val=0.1,test=0.1 --manifest=data/mine/manifest.csv

Then `data_prep.write_shards --manifest=… --videos_dir=…` for videos. Beside the manifest:

    missing.csv  example_id,media_id,split,reason,detail,source,line: what is listed and not there
    boxes.csv    of vggss and flickr_soundnet_test, with the columns of the demo data set's

Lists, layouts and where their formats are described: docs/datasets.md.
"""

import dataclasses
import functools
import pathlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from absl import flags

from data_prep.lists import box_lists, manifest, media_index
from data_prep.lists.dataset_lists import TEST, TRAIN, VAL
from data_prep.lists.dataset_rows import DATASETS, Found, Missing, Request
from l3net import errors
from l3net.errors import UserError
from l3net.files import write_csv

MISSING_FILE, BOXES_FILE = "missing.csv", "boxes.csv"
LABELS_FROM = ("none", "directory")
_SPLIT_ORDER = (TRAIN, VAL, TEST)


def make_manifest(
    *,
    dataset: str,
    media_dir: str | pathlib.Path,
    manifest_path: str | pathlib.Path,
    lists: Sequence[str | pathlib.Path] = (),
    ontology: str | pathlib.Path | None = None,
    split_fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    trimmed: str = media_index.AUTO,
    nearest_classes: bool = True,
    labels_from: str = "none",
    overwrite: bool = False,
) -> Found:
    """Makes the manifest of a data set, with missing.csv and perhaps boxes.csv beside it.

    Args:
        dataset: one of `DATASETS`.
        media_dir: of the videos, recordings or images; root of the manifest's paths.
        manifest_path: of the CSV to write; its folder is made if need be.
        lists: paths of the official lists.
        ontology: path of AudioSet's ontology.json.
        split_fractions: split -> share of what the lists call train, or of everything where they
            have no splits; None is the paper's way.
        seed: of that split.
        trimmed: whether the files begin where their clips begin: "yes", "no", or "auto", which
            takes those for trimmed whose names hold the start.
        nearest_classes: of Kinetics-Sounds: whether three classes that no published Kinetics has
            are taken from their nearest (`dataset_lists.NEAREST_CLASSES`).
        labels_from: of folder: "directory" or "none".
        overwrite: whether to replace a manifest that is another.

    Returns:
        What was found.

    Raises:
        UserError: if an argument is unusable, a list has an unknown format, no clip is there,
            another manifest exists, or a file cannot be written.
    """
    request = Request(
        media_dir=pathlib.Path(media_dir),
        lists=tuple(pathlib.Path(path) for path in lists),
        ontology=None if ontology is None else pathlib.Path(ontology),
        split_fractions=split_fractions,
        seed=seed,
        trimmed=trimmed,
        nearest_classes=nearest_classes,
        labels_from=labels_from,
    )
    _check(dataset, request)
    try:
        found = DATASETS[dataset].find(request)
        _check_found(found, request)
        _write(pathlib.Path(manifest_path), found, overwrite)
    except OSError as error:
        raise UserError(f"cannot make {manifest_path} of {media_dir}: {error}") from error
    return found


def _check(dataset: str, request: Request) -> None:
    if dataset not in DATASETS:
        raise UserError(f"data set {dataset!r}: need one of {', '.join(DATASETS)}")
    if not request.media_dir.is_dir():
        raise UserError(f"media folder {request.media_dir} does not exist")
    if request.labels_from not in LABELS_FROM:
        raise UserError(
            f"labels_from {request.labels_from!r}: need one of {', '.join(LABELS_FROM)}"
        )
    if request.trimmed not in media_index.TRIMMED:
        allowed = ", ".join(media_index.TRIMMED)
        raise UserError(f"trimmed {request.trimmed!r}: need one of {allowed}")
    _check_wanted(dataset, request)


def _check_wanted(dataset: str, request: Request) -> None:
    """Raises UserError if something is given that the data set would not read, or is missing."""
    kind = DATASETS[dataset]
    if kind.lists and kind.lists_needed and not request.lists:
        raise UserError(f"{dataset} needs --lists: {kind.lists}")
    if request.lists and not kind.lists:
        raise UserError(f"{dataset} reads no --lists; its classes are told by the folder")
    if len(request.lists) > 1 and kind.one_list:
        raise UserError(f"{dataset} reads one list; got {len(request.lists)} in --lists")
    if request.labels_from != "none" and dataset != "folder":
        raise UserError(f"--labels_from is for --dataset=folder; {dataset} has its own labels")
    if request.ontology is not None and dataset != "audioset_instruments":
        raise UserError(f"--ontology is for --dataset=audioset_instruments; {dataset} reads none")
    if request.split_fractions is not None and kind.fixed_splits:
        raise UserError(f"{dataset} has fixed splits; leave --split_fractions out")
    if request.split_fractions is not None:
        manifest.checked_fractions(request.split_fractions)


def _check_found(found: Found, request: Request) -> None:
    if found.rows:
        return
    reasons = Counter(item.reason for item in found.missing)
    told = [f"{count} {reason}" for reason, count in reasons.most_common()]
    told += [f"{found.num_other} of other classes"] if found.num_other else []
    example = next((item.example_id for item in found.missing if item.example_id), "")
    looked = f"; looked for files named like {example}" if example else ""
    raise UserError(
        f"no clip of the data set is in {request.media_dir} ({', '.join(told) or 'none listed'})"
        f"{looked}"
    )


# --- Files ---------------------------------------------------------------------------------------
def _write(path: pathlib.Path, found: Found, overwrite: bool) -> None:
    """Writes the manifest last: who sees it has the others."""
    new = path.with_name(f"{path.name}.new")
    try:
        manifest.write_manifest(new, found.rows)
        if not overwrite and path.exists() and path.read_bytes() != new.read_bytes():
            raise UserError(
                f"{path} exists and is another manifest; give --overwrite to replace it, or "
                "another --manifest"
            )
        columns = [field.name for field in dataclasses.fields(Missing)]
        rows = ([getattr(item, column) for column in columns] for item in found.missing)
        write_csv(path.with_name(MISSING_FILE), columns, rows)
        if found.boxes is not None:
            write_csv(path.with_name(BOXES_FILE), box_lists.COLUMNS, found.boxes)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


# --- What is told --------------------------------------------------------------------------------
def summary(found: Found) -> str:
    """Returns a table of the splits, the reasons why clips are missing, and the notes.

    Args:
        found: as `make_manifest` returns it.

    Returns:
        Lines of text.
    """
    table = [("split", "clips", "classes", "hours", "missing")]
    missing = Counter(item.split for item in found.missing)
    present = Counter(row.split for row in found.rows)
    for split in sorted({*present, *missing}, key=_split_order):
        rows = [row for row in found.rows if row.split == split]
        classes = len({label for row in rows for label in row.labels})
        hours = sum(row.end_seconds - row.start_seconds for row in rows) / 3600
        table.append((split or "-", str(len(rows)), str(classes), f"{hours:.2f}", missing[split]))
    widths = [max(len(str(row[column])) for row in table) for column in range(len(table[0]))]
    lines = []
    for first, *others in table:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    reasons = Counter(item.reason for item in found.missing)
    lines += [f"missing: {count} {reason}" for reason, count in reasons.most_common()]
    if found.num_other:
        lines.append(f"left out: {found.num_other} listed clips of other classes")
    return "".join(f"{line}\n" for line in [*lines, *(f"note: {note}" for note in found.notes)])


def _split_order(split: str) -> tuple[int, str]:
    order = _SPLIT_ORDER.index(split) if split in _SPLIT_ORDER else len(_SPLIT_ORDER)
    return order, split or "~"  # unknown splits last


def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are the keywords of `make_manifest`."""
    string, enum = flags.DEFINE_string, flags.DEFINE_enum
    return {
        "dataset": enum("dataset", None, list(DATASETS), "Which data set.", required=True),
        "media_dir": string(
            "media_dir",
            None,
            "Folder of the videos, recordings or images; root of the manifest's paths.",
            required=True,
        ),
        "manifest_path": string("manifest", None, "CSV of clips to write.", required=True),
        "lists": flags.DEFINE_list("lists", [], "Official lists, with commas between them."),
        "ontology": string("ontology", None, "AudioSet's ontology.json."),
        "split_fractions": string(
            "split_fractions",
            None,
            "Shares such as train=0.9,val=0.1 of the official training clips (of all, where there "
            "are no official splits); default: the paper's.",
        ),
        "seed": flags.DEFINE_integer("seed", 0, "Of that split."),
        "trimmed": enum(
            "trimmed",
            media_index.AUTO,
            list(media_index.TRIMMED),
            "Whether files begin where their clips begin; auto: if their names hold the start.",
        ),
        "nearest_classes": flags.DEFINE_bool(
            "nearest_classes",
            True,
            "Kinetics-Sounds: take the classes that no published Kinetics has (fingerpicking, "
            "patting, typing) from their nearest.",
        ),
        "labels_from": enum(
            "labels_from", "none", list(LABELS_FROM), "folder: what labels the videos."
        ),
        "overwrite": flags.DEFINE_bool("overwrite", False, "Replace a manifest that is another."),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, makes the manifest, prints the summary."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; all options are flags (--helpshort)")
    settings = {keyword: holder.value for keyword, holder in holders.items()}
    if settings["split_fractions"] is not None:
        settings["split_fractions"] = manifest.parse_fractions(settings["split_fractions"])
    found = make_manifest(**settings)
    sys.stdout.write(f"{settings['manifest_path']}\n{summary(found)}")


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
