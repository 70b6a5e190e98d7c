"""Prepared folders: of videos by `prepare`, of numbers and without ffmpeg by `write_folder`."""

import dataclasses
import json
import pathlib

from data_prep.lists.manifest import ManifestRow, read_manifest, write_manifest
from data_prep.shards import preparation
from data_prep.shards.config import Media, Target
from data_prep.shards.preparation import Run, Source
from l3net.data import schema
from l3net.data.markers import (
    LABELS_FILE,
    OUTCOMES_FILE,
    PREP_FILE,
    marker_path,
    shard_name,
)
from tests.tiny_shards import write_shards

CONFIG_HASH = "0123456789abcdef"
CONFIGS = (Source, Target, Media, Run)  # of data_prep.write_shards


def prepare(**settings) -> dict[str, int]:
    """Prepares a folder as data_prep.write_shards does; returns outcome -> number of rows."""
    configs = [
        config(
            **{
                field.name: settings.pop(field.name)
                for field in dataclasses.fields(config)
                if field.name in settings
            }
        )
        for config in CONFIGS
    ]
    assert not settings, f"no such settings: {settings}"
    return preparation.prepare(*configs)


def rows_in(path: pathlib.Path) -> list[ManifestRow]:
    """Returns the rows of a manifest."""
    return [row for _, row in read_manifest(path)]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns file name -> bytes, without hidden files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def write_folder(
    folder: pathlib.Path,
    clips: dict[str, list[schema.Clip]],
    *,
    others: list[dict[str, str]] = (),
    num_shards: int = 1,
    name: str = "synthetic",
) -> pathlib.Path:
    """Writes a finished folder of clips by split and returns it.

    The others are rows that gave no clip (example_id, split, outcome, reason, detail); they are in
    the marker of the first shard of their split.
    """
    rows = [_row(clip, split) for split, members in clips.items() for clip in members]
    rows += [
        ManifestRow(row["example_id"], row["example_id"], row["example_id"], 0, 10, row["split"])
        for row in others
    ]
    for split, members in clips.items():
        write_shards(folder, members, split=split, num_shards=num_shards, name=name)
        for index in range(num_shards):
            failures = [row for row in others if row["split"] == split and index == 0]
            path = folder / shard_name(name, split, index, num_shards)
            _complete_marker(path, split, members[index::num_shards], failures)
    write_manifest(folder / "manifest.csv", rows)
    labels = sorted({label for row in rows for label in row.labels})
    (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels))
    (folder / OUTCOMES_FILE).write_text("example_id\n")
    config = {"dataset_name": name, "num_shards": dict.fromkeys(clips, num_shards)}
    config |= {"manifest_hash": "0" * 16, "max_seconds": 10.0, "prep_version": "1"}
    prep = {"config_hash": CONFIG_HASH, "config": config, "ffmpeg_version": "7.0"}
    (folder / PREP_FILE).write_text(json.dumps(prep))
    return folder


def change_marker(folder: pathlib.Path, shard: str, **changes) -> None:
    """Writes a commit marker again with changes."""
    path = marker_path(folder / shard)
    content = json.loads(path.read_text()) | changes
    content.pop("checksum", None)
    path.write_text(json.dumps(content))


def flip_byte(path: pathlib.Path) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def _row(clip: schema.Clip, split: str) -> ManifestRow:
    seconds = len(clip.waveform) / 48_000
    return ManifestRow(
        clip.example_id, clip.media_id, clip.data_path, 0.0, seconds, split, clip.labels
    )


def _complete_marker(
    path: pathlib.Path, split: str, clips: list[schema.Clip], others: list[dict[str, str]]
) -> None:
    outcomes = [
        {
            **{"example_id": clip.example_id, "path": clip.data_path, "split": split},
            **{"outcome": "ok", "reason": "", "detail": ""},
            "seconds": len(clip.waveform) / 48_000,
        }
        for clip in clips
    ]
    outcomes += [{"path": row["example_id"], "seconds": 0.0, **row} for row in others]
    changes = {"config_hash": CONFIG_HASH, "outcomes": outcomes}
    change_marker(path.parent, path.name, num_bytes=path.stat().st_size, **changes)
