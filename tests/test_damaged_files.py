"""Every reader of small files on many damaged ones: content, or one line that names the file."""

import contextlib
import json
import os
import pathlib
import random
import signal
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from data_prep.lists import box_lists, dataset_lists
from data_prep.shards import folder as prepared
from eval.figures import drawings
from eval.reporting import curves, tables
from eval.sets import clip_labels, ontology, recording_lists, recordings, sounding_frames
from l3net import npz_files
from l3net.data import damage, shards, spoken_digits
from l3net.errors import UserError, first_line
from l3net.inference import search_index
from l3net.media import images
from l3net.training import run_dir
from tests import mutations, tiny_boxes, tiny_folders, tiny_sets, tiny_shards

NUM_CASES = 60
_ID = "abcdefghij0"


def _records(path: pathlib.Path) -> None:
    with tf.io.TFRecordWriter(str(path)) as file:
        for length in range(9):
            file.write(bytes(length))


def _count_records(path: pathlib.Path) -> None:
    """Counts them as whoever takes kept pairs does, whom an error tells to make them again."""
    try:
        damage.num_records(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: {first_line(error)}") from error


def _table(path: pathlib.Path) -> None:
    rows = [tables.Row("data", "Ours", tables.RUN, ours={"accuracy": 50.0}, details={"x": [1]})]
    table = tables.Table("t", "T", [tables.Metric("accuracy", "accuracy %")], rows, ["note"])
    tables.write_table(table, path.parent, flags={"seed": 0}, seconds=1.0)


def _index(path: pathlib.Path) -> None:
    index = search_index.SearchIndex.create(
        path.parent, fingerprint="f", size=4, settings={"hop_seconds": 0.5}
    )
    for number in range(3):
        vectors = np.eye(4, dtype=np.float32)[[number]]
        streams = [("sound", [vectors], 0.5), ("image", [vectors], 1.0)]
        index.add(path.parent / f"{number}.mp4", sha256=f"{number}", kind="video", streams=streams)


def _query(path: pathlib.Path) -> None:
    index = search_index.SearchIndex(path.parent)
    index.counts()
    index.find("1")
    index.query(np.eye(4, dtype=np.float32)[:2])


def _run(path: pathlib.Path) -> None:
    described = {"data": {"name": "d"}, "model": {"model": "m"}, "pipeline": {"batch_size": 4}}
    (path.parent / "training.json").write_text(json.dumps(described))
    lines = [{"step": k, "split": s, "accuracy": 0.5} for k in (1, 2) for s in ("train", "val")]
    (path.parent / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _shards(path: pathlib.Path) -> None:
    clips = [tiny_shards.make_clip(number, labels=("a",)) for number in range(2)]
    tiny_folders.write_folder(path.parent, {"train": clips, "val": clips})


def _text(text: str) -> Callable[[pathlib.Path], object]:
    return lambda path: path.write_text(text)


def _kinetics(identifier: str) -> dict:
    annotations = {"label": "bowling", "segment": [1.0, 11.0]}
    return {identifier: {"annotations": annotations, "subset": "train"}}


_NODES = [{"id": name, "name": name, "child_ids": []} for name in dataset_lists.INSTRUMENT_ROOTS]
_XML = "<a><bbox><n>1</n><x>10</x><y>20</y><x>100</x><y>200</y></bbox></a>"
_VGGSS = [{"file": f"{_ID}_000030", "class": "dog", "bbox": [[0.1, 0.2, 0.5, 0.6]]}] * 2
_MANIFEST = "example_id,media_id,path,start_seconds,end_seconds,split,labels\n" + "".join(
    f"{k},{k},{k}.mp4,0.0,1.0,train,a|b\n" for k in range(3)
)
# Name of the file -> what writes it, what reads it.
READERS: dict[str, tuple[Callable, Callable]] = {
    "kinetics.json": (
        _text(json.dumps(_kinetics(_ID) | _kinetics("abcdefghij1"))),
        lambda path: list(dataset_lists.read_kinetics(path)),
    ),
    "kinetics.csv": (
        _text(f"label,youtube_id,time_start,time_end,split,is_cc\na,{_ID},0,10,train,0\n"),
        lambda path: list(dataset_lists.read_kinetics(path)),
    ),
    "eval_segments.csv": (
        _text(f'# YTID\n{_ID}, 0.000, 10.000, "/m/1,/m/2"\n'),
        lambda path: list(dataset_lists.read_audioset(path)),
    ),
    "vggsound.csv": (
        _text(f'{_ID},30,"dog, barking",train\n'),
        lambda path: list(dataset_lists.read_vggsound(path)),
    ),
    "vggss.json": (_text(json.dumps(_VGGSS)), lambda path: list(box_lists.read_vggss(path))),
    "1.xml": (_text(_XML), lambda path: list(box_lists.read_flickr_boxes(path.parent))),
    "ontology.json": (_text(json.dumps(_NODES)), dataset_lists.read_ontology),
    "classes.json": (
        _text(json.dumps(_NODES)),
        lambda path: ontology.read_ontology(path).distances(["Tools"]),
    ),
    "manifest.csv": (_text(_MANIFEST), tiny_folders.rows_in),
    "boxes.csv": (
        lambda path: tiny_boxes.write_boxes(path, "a,0,0.5,0.1,0.1,0.5,0.5,x"),
        sounding_frames.read_boxes,
    ),
    "clips.csv": (
        _text("example_id,label\na,b\n"),
        lambda path: clip_labels.read_labels(path, "label"),
    ),
    "esc50/meta/esc50.csv": (
        lambda path: tiny_sets.write_esc50(path.parents[1], seconds=0.01),
        lambda path: recording_lists.list_esc50(path.parents[1]),
    ),
    "tables/t.json": (_table, lambda path: tables.cells(tables.read_table(path)[0])),
    "figures/figures.json": (
        lambda path: drawings.write_list(
            [drawings.not_run(drawings.Subject("a", "A", "L3"), "why")], path.parent
        ),
        lambda path: drawings.read_list(path.parent),
    ),
    "run/training.json": (_run, lambda path: curves.read_curve(path.parent)),
    "run/metrics.jsonl": (_run, lambda path: run_dir.last_metrics(path.parent)),
    "index/index.sqlite": (_index, _query),
    "shards/prep.json": (_shards, lambda path: prepared.read_prep(path.parent)),
    "shards/synthetic-train-00000-of-00001.json": (
        _shards,
        lambda path: shards.find_shards(path.parent, "train"),
    ),
    "shards/synthetic-train-00000-of-00001": (
        _shards,
        lambda path: list(shards.read_clips(shards.find_shards(path.parent, "train"))),
    ),
    "pairs.tfrecord": (_records, _count_records),
    "shards/labels.txt": (_shards, lambda path: shards.read_labels(path.parent)),
    "a.wav": (tiny_sets.write_tone, recordings.load_file),
    "0_jackson_0.wav": (
        tiny_sets.write_tone,
        lambda path: spoken_digits.list_recordings(path.parent),
    ),
    "a.png": (
        lambda path: tiny_sets.save_image(path, (200, 9, 30)),
        lambda path: images.read_image(path, 8),
    ),
    "state.npz": (
        lambda path: np.savez(path, a=np.arange(5), b=np.array("text")),
        lambda path: _arrays(path),
    ),
}


def _arrays(path: pathlib.Path) -> None:
    with npz_files.open_npz(path) as npz:
        [npz[name] for name in ("a", "b")]


def _written(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, Callable]:
    """Writes one of `READERS`; returns its path and its reader."""
    write, read = READERS[name]
    path = folder / "world" / name
    path.parent.mkdir(parents=True)
    write(path)
    return path, read


@pytest.mark.parametrize("name", READERS)
def test_damage_is_content_or_one_line(tmp_path, name):
    path, read = _written(tmp_path, name)
    read(path)
    whole, draw, num_refused = path.read_bytes(), random.Random(0), 0
    others = sorted(each for each in path.parent.rglob("*") if each.is_file())
    moves = set(mutations.MOVES) - {"folder", "pipe", "link"}
    for _ in range(NUM_CASES):
        kind = mutations.mutate(path, others, draw, without=moves)
        try:
            read(path)
        except UserError as error:
            num_refused += 1
            assert "\n" not in str(error) and len(str(error)) < 2000, kind
        except (OSError, ValueError) as error:
            # What the reader's contract allows; commands show an OSError with its name as a line.
            assert name == "state.npz" or (isinstance(error, OSError) and error.filename), kind
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.write_bytes(whole)
    assert num_refused or name == "state.npz"


class _HangError(BaseException):
    """Nobody takes it for a damaged file."""


@pytest.mark.parametrize("name", READERS)
def test_nobody_waits_for_a_pipe(tmp_path, name):
    path, read = _written(tmp_path, name)
    path.unlink()
    os.mkfifo(path)

    def hang(*_):
        raise _HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(60)
    try:
        with pytest.raises((UserError, OSError)):
            read(path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
