import os
import random
import resource

import numpy as np
import pytest
import tensorflow as tf

from l3net.errors import UserError
from l3net.training import checkpoint_files


def _checkpoint(seed: int) -> tf.train.Checkpoint:
    values = np.random.default_rng(seed).normal(size=4000).astype(np.float32)
    return tf.train.Checkpoint(a=tf.Variable(values), b=tf.Variable(seed, dtype=tf.int64))


@pytest.fixture()
def folder(tmp_path):
    for step in (3, 7):
        checkpoint_files.write(_checkpoint(step), tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


def _content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _tensors(folder, step) -> dict[str, bytes]:
    reader = tf.train.load_checkpoint(str(checkpoint_files.path_of(folder, step)))
    names = reader.get_variable_to_shape_map()
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in names}


INDEX, DATA = "ckpt-7.index", "ckpt-7.data-00000-of-00001"
DAMAGES = {
    "no index": lambda folder: (folder / INDEX).unlink(),
    "no data": lambda folder: (folder / DATA).unlink(),
    "empty index": lambda folder: (folder / INDEX).write_bytes(b""),
    "empty data": lambda folder: (folder / DATA).write_bytes(b""),
    "half an index": lambda folder: _cut(folder / INDEX),
    "half the data": lambda folder: _cut(folder / DATA),
    "a pipe as index": lambda folder: _make_pipe(folder / INDEX),
    "a pipe as data": lambda folder: _make_pipe(folder / DATA),
    "another's index": lambda folder: (folder / INDEX).write_bytes(b"text\n" * 40),
}


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _make_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(folder, damage, caplog):
    assert checkpoint_files.newest(folder) == 7
    DAMAGES[damage](folder)
    before = _content(folder)
    assert checkpoint_files.newest(folder) == 3
    assert "ckpt-7 is damaged (" in caplog.text
    assert _content(folder) == before
    # A good one takes its place, and what it supersedes goes.
    checkpoint_files.write(_checkpoint(8), folder, 7)
    assert checkpoint_files.newest(folder) == 7
    checkpoint_files.remove(folder, [3])
    assert checkpoint_files.steps(folder) == [7]


def test_any_changed_byte_is_found_or_changes_nothing(folder):
    expected, rng = _tensors(folder, 7), random.Random(0)
    num_found = 0
    for name in (INDEX, DATA):
        whole = (folder / name).read_bytes()
        for place in rng.sample(range(len(whole)), 60):
            changed = bytearray(whole)
            changed[place] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(changed)
            found = checkpoint_files.damage(checkpoint_files.path_of(folder, 7)) is not None
            assert found or _tensors(folder, 7) == expected, (name, place)
            num_found += found
        (folder / name).write_bytes(whole)
    assert num_found > 100


def test_where_no_checkpoint_can_be_read_nothing_changes(folder):
    for path in folder.iterdir():
        _cut(path)
    before = _content(folder)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read \(ckpt-3, ckpt-7\)"):
        checkpoint_files.newest(folder)
    assert _content(folder) == before


def test_no_checkpoints(tmp_path):
    assert checkpoint_files.newest(tmp_path / "nowhere") is None
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"')
    assert checkpoint_files.newest(tmp_path) is None


@pytest.mark.parametrize("name", ["a [1]", "a\\b"])
def test_where_tensorflow_finds_no_weights_nothing_begins(tmp_path, name):
    (tmp_path / name).mkdir()
    variables = tf.train.Checkpoint(v=tf.Variable(1.0))
    with pytest.raises(tf.errors.NotFoundError):
        variables.read(variables.write(str(tmp_path / name / "ckpt-1")))
    with pytest.raises(UserError, match="finds no weights below a folder with"):
        checkpoint_files.newest(tmp_path / name)


def test_a_later_one_does_not_count_where_it_is_said(folder):
    assert checkpoint_files.newest(folder, up_to=6) == 3
    assert checkpoint_files.newest(folder, up_to=2) is None


def test_a_full_disk_costs_the_new_checkpoint_alone(folder):
    before, limits = _content(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as a full disk: no more bytes
    try:
        with pytest.raises(UserError, match="cannot write checkpoint .*ckpt-9: .*before are kept"):
            checkpoint_files.write(_checkpoint(9), folder, 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _content(folder) == before
