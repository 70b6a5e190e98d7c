"""Labels of prepared clips: their own first one, or the class that a CSV gives."""

import pathlib
from collections.abc import Iterator, Mapping

from l3net.data import schema
from l3net.data.list_files import csv_table
from l3net.data.shards import find_shards, read_clips


def read_labels(path: str | pathlib.Path, column: str) -> dict[str, str]:
    """Reads the class of each example id from a column of a CSV, such as the demo's clips.csv.

    Raises:
        UserError: if it cannot be read or lacks a column.
    """
    rows = csv_table(path, ("example_id", column), what="the classes in")
    return {row["example_id"]: row[column] for _, row in rows}


def labelled_clips(
    folder: str | pathlib.Path, split: str, labels: Mapping[str, str] | None
) -> Iterator[tuple[schema.Clip, str]]:
    """Yields each clip of a split with its class, "" if it has none.

    The class is that of its id in `labels`, or without these the clip's first label.
    """
    for clip in read_clips(find_shards(folder, split)):
        label = next(iter(clip.labels), "") if labels is None else labels.get(clip.example_id, "")
        yield clip, label
