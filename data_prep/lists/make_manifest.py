"""The manifest of a data set, with missing.csv and perhaps boxes.csv beside it."""

import dataclasses
import pathlib
from collections import Counter

from data_prep.lists import box_lists, manifest, media_files, media_index
from data_prep.lists.dataset_rows import DATASETS, DIRECTORY, LABELS_FROM, Missing, Request, Result
from l3net.errors import UserError
from l3net.files import write_csv
from l3net.flags import REQUIRED, setting

MISSING_FILE, BOXES_FILE = "missing.csv", "boxes.csv"
# These need no manifest; their evaluations have a flag of the same name.
_READERS = {
    **dict.fromkeys(("esc50", "esc10", "dcase2013"), "eval.table2_sound"),
    "imagenet": "eval.table3_imagenet",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The manifest."""

    dataset: str = setting(REQUIRED, f"Name of the data set: {', '.join(DATASETS)}, av_digits.")
    manifest: str | pathlib.Path = setting(
        REQUIRED, "Path of the CSV of clips to write; its folder is made if need be."
    )
    overwrite: bool = setting(False, "Whether to replace a manifest that differs.")


def make_manifest(config: Config, request: Request) -> Result:
    """Makes the manifest of a data set.

    Raises:
        UserError: if a setting is unusable, a list has an unknown format, no clip has a file,
            another manifest exists, or a file cannot be written.
    """
    _check(config.dataset, request)
    files = media_files.find(request.media_dir, "media")
    try:
        if files.archives:
            folder = pathlib.Path(config.manifest).parent
            folder.mkdir(parents=True, exist_ok=True)
            files = files.indexed(folder)
        request = dataclasses.replace(request, files=files)
        result = DATASETS[config.dataset].make_rows(request)
        _check_rows(result, request)
        write_manifest(config, result)
    except OSError as error:
        raise UserError(f"cannot make {config.manifest} of {request.media_dir}: {error}") from error
    return result


def _check(dataset: str, request: Request) -> None:
    """Raises UserError if something is missing, or is given that the data set would not read."""
    if dataset in _READERS:
        reader = f"{_READERS[dataset]} reads the folder itself: --{dataset}=FOLDER"
        raise UserError(f"{dataset} needs no manifest: {reader}")
    if dataset not in DATASETS:
        raise UserError(f"data set {dataset!r}: need one of {', '.join(DATASETS)}")
    for name, allowed in (("labels_from", LABELS_FROM), ("trimmed", media_index.TRIMMED)):
        if getattr(request, name) not in allowed:
            raise UserError(f"{name} {getattr(request, name)!r}: need one of {', '.join(allowed)}")
    kind = DATASETS[dataset]
    if kind.lists and kind.lists_needed and not request.lists:
        raise UserError(f"{dataset} needs --lists: {kind.lists}")
    if request.lists and not kind.lists:
        raise UserError(f"{dataset} reads no --lists; its clips are the files of the folder")
    if request.labels_from == DIRECTORY and dataset != "folder":
        raise UserError(f"--labels_from is for --dataset=folder; {dataset} has its own labels")
    if request.ontology is not None and dataset != "audioset_instruments":
        raise UserError(f"--ontology is for --dataset=audioset_instruments; {dataset} reads none")
    if request.official_splits and dataset != "kinetics_sounds":
        raise UserError(
            f"--official_splits is for --dataset=kinetics_sounds; leave it out for {dataset}"
        )
    if request.fractions is not None and kind.fixed_splits:
        raise UserError(f"{dataset} has fixed splits; leave --split_fractions out")


def _check_rows(result: Result, request: Request) -> None:
    if result.rows:
        return
    reasons = Counter(item.reason for item in result.missing)
    counts = [f"{count} {reason}" for reason, count in reasons.most_common()]
    counts += [f"{result.num_other} of other classes"] if result.num_other else []
    example = next((item.example_id for item in result.missing if item.example_id), "")
    looked = f"; looked for files named like {example}" if example else ""
    raise UserError(
        f"no clip of the data set is in {request.media_dir} ({', '.join(counts) or 'none listed'})"
        f"{looked}"
    )


def write_manifest(config: Config, result: Result) -> None:
    """Writes the manifest last: who sees it has the others; UserError if it exists and differs."""
    path = pathlib.Path(config.manifest)
    new = path.with_name(f"{path.name}.new")
    try:
        manifest.write_manifest(new, result.rows)
        if not config.overwrite and path.exists() and path.read_bytes() != new.read_bytes():
            raise UserError(
                f"{path} exists and is another manifest; give --overwrite to replace it, or "
                "another --manifest"
            )
        columns = [field.name for field in dataclasses.fields(Missing)]
        rows = ([getattr(item, column) for column in columns] for item in result.missing)
        write_csv(path.with_name(MISSING_FILE), columns, rows)
        if result.boxes is not None:
            write_csv(path.with_name(BOXES_FILE), box_lists.COLUMNS, result.boxes)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
