import pytest
import tensorflow as tf

from l3net.data import damage, fixed_pairs, input_pipeline
from l3net.data.shards import find_shards
from l3net.errors import UserError
from tests import tiny_shards, tiny_training


@pytest.fixture
def shards(tmp_path):
    return tiny_training.make_shards(tmp_path / "shards")


def _second_record(path) -> int:
    """Returns where the second record begins."""
    return int.from_bytes(path.read_bytes()[:8], "little") + 16


def _change(path, place, value):
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(data)


DAMAGES = {
    "length": lambda path, start: _change(path, start + 4, b"\x01"),
    "content": lambda path, start: _change(path, start + 12, b"\xff" * 9),
    "checksum": lambda path, start: _change(path, start + 8, b"\xff" * 4),
    "zeros": lambda path, start: _change(path, start, bytes(path.stat().st_size - start)),
}


@pytest.mark.parametrize("pairs_per_clip", [1, 2])
@pytest.mark.parametrize("kind", DAMAGES)
def test_training_on_a_damaged_record_ends_in_one_line(tmp_path, shards, kind, pairs_per_clip):
    path = find_shards(shards, "train")[0].path
    DAMAGES[kind](path, _second_record(path))
    if pairs_per_clip == 1 and kind == "checksum":
        return  # reads parts of records, which have no checksums
    with pytest.raises(UserError, match=f"{path}.*verify_shards.*finds every one") as error:
        tiny_training.train(
            tmp_path / "run",
            shards,
            num_steps=9,
            model=tiny_training.CLASSIFIER,
            pairs_per_clip=pairs_per_clip,
        )
    assert "record 1" in str(error.value) or kind in ("length", "zeros")
    assert "\n" not in str(error.value) and "{{" not in str(error.value)


def test_a_picture_that_is_none_is_named(tmp_path, shards):
    path = find_shards(shards, "train")[0].path
    start, data = _second_record(path), path.read_bytes()
    path.write_bytes(data[:start] + data[start:].replace(b"\xff\xd8\xff\xe0", b"nope"))
    with pytest.raises(
        UserError, match=rf"record \d of {path} is damaged \(picture \d+ is no JPEG"
    ):
        model = tiny_training.CLASSIFIER
        tiny_training.train(tmp_path / "run", shards, num_steps=9, model=model, pairs_per_clip=1)


def test_records_are_counted_by_their_lengths(shards):
    path = find_shards(shards, "train")[0].path
    assert damage.num_records(path) == 4
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut off"):
        damage.num_records(path)


def _pairs(shards, num_pairs=8):
    return fixed_pairs.fixed_pairs(shards, "val", num_pairs=num_pairs, sampling="l3")


@pytest.mark.parametrize("how", ["empty", "cut", "short"])
def test_fixed_pairs_that_are_not_all_there_are_made_again(shards, how, caplog):
    path = _pairs(shards)
    whole = path.read_bytes()
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    if how == "short":
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records[:3]:
                writer.write(record)
    else:
        path.write_bytes(whole[: {"empty": 0, "cut": len(whole) // 2}[how]])
    assert _pairs(shards) == path and path.read_bytes() == whole
    assert "is damaged; it is made again" in caplog.text


def test_a_damaged_pair_is_named(shards):
    path = _pairs(shards)
    _change(path, _second_record(path) + 40, b"\xff")
    dataset = fixed_pairs.read_pairs(path, batch_size=4, frame_px=32)
    with pytest.raises(UserError, match=f"record 1 of {path} is damaged"):
        list(damage.checked(dataset, [path]))


def test_what_is_whole_goes_through():
    assert list(damage.checked(iter([1, 2]), [tiny_shards])) == [1, 2]


@pytest.mark.parametrize("pairs_per_clip", [1, 2])
def test_shards_that_go_while_they_are_read_are_named(tmp_path, shards, pairs_per_clip):
    found = find_shards(shards, "train")
    config = input_pipeline.PipelineConfig(
        batch_size=2, pairs_per_clip=pairs_per_clip, shuffle_pairs=4, frame_px=32
    )
    batches = damage.checked(
        input_pipeline.training_batches(found, config), [each.path for each in found]
    )
    for each in found:
        each.path.unlink()
    with pytest.raises(UserError, match=f"cannot read {shards}.*No such file.*same command again"):
        for _ in range(9):
            next(batches)
