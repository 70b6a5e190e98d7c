"""Prepared folders behind addresses: in memory (ram://), and on a real S3 server on loopback."""

import itertools
import pathlib
import re
import subprocess
import sys
import threading
import types
import uuid

import numpy as np
import pytest
import tensorflow as tf

from l3net.data import damage, fixed_pairs, input_pipeline, schema, shards, storage
from l3net.errors import UserError
from tests import tiny_shards


@pytest.fixture
def folder(tmp_path):
    """A prepared folder of two splits on the disk; one clip has a label."""
    clips = [tiny_shards.make_clip(k, audio_encoding=schema.FLAC) for k in range(1, 7)]
    tiny_shards.write_shards(tmp_path, clips, num_shards=2)
    tiny_shards.write_shards(tmp_path, clips[:3], split="val")
    (tmp_path / shards.LABELS_FILE).write_text("Drum\nGeige\n")
    return tmp_path


@pytest.fixture(params=["ram", "s3"])
def address(request, folder):
    """The same folder at an address."""
    if request.param == "ram":
        return copied(folder, f"ram://{uuid.uuid4().hex}/films/shards")
    return request.getfixturevalue("bucket") + "/shards"


def copied(folder: pathlib.Path, address: str) -> str:
    tf.io.gfile.makedirs(address)
    for path in folder.iterdir():
        with tf.io.gfile.GFile(f"{address}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    return address


@pytest.fixture(scope="module")
def s3_client():
    """Starts a server on loopback and points the file system of tensorflow-io to it."""
    pytest.importorskip("tensorflow_io", reason="comes for Python 3.10 to 3.12: extra io")
    boto3 = pytest.importorskip("boto3", reason="extra test")
    pytest.importorskip("moto", reason="extra test")
    # A process of its own: TensorFlow holds this one's lock while it writes.
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with pytest.MonkeyPatch.context() as patch:
        try:
            address = next(
                m[0] for line in server.stderr if (m := re.search(r"http://.*:\d+", line))
            )
            settings = {
                "AWS_ACCESS_KEY_ID": "one",
                "AWS_SECRET_ACCESS_KEY": "two",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "S3_ENDPOINT": address,
                "S3_USE_HTTPS": "0",
                "S3_VERIFY_SSL": "0",
                "NO_PROXY": "127.0.0.1",
            }
            for name, value in settings.items():
                patch.setenv(name, value)
            threading.Thread(target=server.stderr.read, daemon=True).start()  # it logs requests
            yield boto3.client("s3", endpoint_url=address, region_name="us-east-1")
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def bucket(s3_client, folder):
    name = f"films-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=name)
    for path in folder.iterdir():
        s3_client.put_object(Bucket=name, Key=f"shards/{path.name}", Body=path.read_bytes())
    return f"s3://{name}"


def _batches(folder, pairs_per_clip):
    config = input_pipeline.PipelineConfig(
        batch_size=4, pairs_per_clip=pairs_per_clip, shuffle_pairs=12, frame_px=32
    )
    found = shards.find_shards(folder, "train")
    batches = input_pipeline.training_batches(found, config).as_numpy_iterator()
    return list(itertools.islice(batches, 4))


def test_the_shards_labels_and_clips_of_an_address_are_those_of_the_folder(address, folder):
    there, here = shards.find_shards(address + "/", "train"), shards.find_shards(folder, "train")
    assert [each.path.name for each in there] == [each.path.name for each in here]
    assert shards.content_digest(there) == shards.content_digest(here)
    assert shards.read_labels(address) == ["Drum", "Geige"]
    assert schema.read_format(there[0].path) == schema.read_format(here[0].path)
    for far, near in zip(shards.read_clips(there), shards.read_clips(here), strict=True):
        np.testing.assert_array_equal(far.waveform, near.waveform)
        assert far.frames == near.frames and far.example_id == near.example_id


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_training_batches_of_an_address_are_those_of_the_folder(address, folder, pairs_per_clip):
    there, here = _batches(address, pairs_per_clip), _batches(folder, pairs_per_clip)
    for far, near in zip(there, here, strict=True):
        assert far.keys() == near.keys()
        for name, value in far.items():
            np.testing.assert_array_equal(value, near[name], err_msg=name)


def test_fixed_pairs_are_made_once_and_read_at_the_address(address, folder, monkeypatch):
    settings = {"num_pairs": 12, "sampling": "l3"}
    path = fixed_pairs.fixed_pairs(address, "val", **settings)
    assert str(path).startswith(f"{address}/{fixed_pairs.FOLDER}/val-l3-12-") and path.exists()
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # nothing half-written
    here = fixed_pairs.fixed_pairs(folder, "val", **settings)
    with tf.io.gfile.GFile(str(path), "rb") as file:
        assert file.read() == here.read_bytes()
    monkeypatch.delattr(fixed_pairs, "_write")  # the next ones are read
    again = fixed_pairs.fixed_pairs(address, "val", **settings)
    pairs = fixed_pairs.read_pairs(again, batch_size=12, frame_px=32)
    assert next(iter(pairs))["corresponds"].numpy().sum() == 6


def test_what_is_not_at_an_address_is_said(address):
    with pytest.raises(UserError, match="no shards of split 'test'.*train, val"):
        shards.find_shards(address, "test")
    with pytest.raises(UserError, match="nowhere does not exist"):
        shards.find_shards(f"{address}/nowhere", "train")
    with pytest.raises(UserError, match="has no labels.txt"):
        shards.read_labels(f"{address}/nowhere")
    marker = next(path for path in storage.locate(address).iterdir() if "train-00001" in str(path))
    tf.io.gfile.remove(str(marker).removesuffix(".json") + ".json")
    with pytest.raises(UserError, match="no commit marker"):
        shards.find_shards(address, "train")


def test_a_cut_off_shard_at_an_address_is_an_error(address):
    path = shards.find_shards(address, "train")[0].path
    with path.open() as file:
        begin = file.read(file.size() // 2)
    tf.io.gfile.remove(str(path))  # in memory, what is written to a file comes after what it holds
    with tf.io.gfile.GFile(str(path), "wb") as file:
        file.write(begin)
    with pytest.raises(tf.errors.OpError, match="it ends before its record"):
        _batches(address, 1)


def test_an_address_where_nothing_can_be_written_is_one_line(address, monkeypatch):
    def refuse(path, *_, **__):
        raise tf.errors.PermissionDeniedError(None, None, "Access Denied")

    monkeypatch.setattr(tf.io.gfile, "makedirs", refuse)
    with pytest.raises(UserError, match=r"cannot write .*fixed_pairs.*\(Access Denied\)"):
        fixed_pairs.fixed_pairs(address, "val", num_pairs=12, sampling="l3")


def test_a_folder_on_the_disk_stays_a_path(tmp_path):
    assert storage.locate(str(tmp_path)) == tmp_path
    assert storage.locate(tmp_path) is tmp_path


def test_a_scheme_without_tensorflow_io_names_the_extra(monkeypatch):
    monkeypatch.setattr(tf.io.gfile, "get_registered_schemes", lambda: ["", "file", "ram"])
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(UserError, match=r"s3://films/shards.*pip install 'l3net\[io\]'") as raised:
        shards.find_shards("s3://films/shards", "train")
    assert "\n" not in str(raised.value)


def test_a_scheme_that_nobody_brings_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", types.SimpleNamespace(__version__="0.37.1"))
    with pytest.raises(UserError, match="nor tensorflow-io 0.37.1.*file system ftp://"):
        shards.find_shards("ftp://films/shards", "train")


@pytest.mark.parametrize("pairs_per_clip", [1, 4])
def test_a_connection_that_is_lost_while_records_are_read_is_one_line(
    s3_client, bucket, pairs_per_clip
):
    found = shards.find_shards(f"{bucket}/shards", "train")
    config = input_pipeline.PipelineConfig(
        batch_size=4, pairs_per_clip=pairs_per_clip, shuffle_pairs=4, frame_px=32
    )
    paths = [each.path for each in found]
    batches = damage.checked(input_pipeline.training_batches(found, config), paths)
    for path in paths:
        s3_client.delete_object(Bucket=bucket.removeprefix("s3://"), Key=f"shards/{path.name}")
    with pytest.raises(UserError, match=rf"cannot read {bucket}/shards.*\(.+\).*again") as raised:
        for _ in range(9):
            next(batches)
    assert "\n" not in str(raised.value)


def test_a_process_that_read_s3_ends_with_its_own_status(bucket):
    program = f"""
import sys
from l3net.data import shards
found = shards.find_shards("{bucket}/shards", "train")
print(sum(1 for _ in shards.read_clips(found)))
sys.exit(3)
"""
    command = [sys.executable, "-c", program]  # its own exit counts, so no fork of `commands`
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "6\n"), done.stderr


def test_a_bucket_that_does_not_exist_is_said(s3_client):
    with pytest.raises(UserError, match="s3://no-such-bucket/shards"):
        shards.find_shards("s3://no-such-bucket/shards", "train")
