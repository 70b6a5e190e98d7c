"""The forms that a shard may have: how clips become its bytes, and how they are read back."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from data_prep.shards import webdataset
from data_prep.shards.config import WEBDATASET, Config
from l3net.data.clip import Clip
from l3net.data.markers import shard_name


class Format(NamedTuple):
    """One form.

    Attributes:
        encode_clip: a clip -> the bytes of its record.
        writer: path -> a context manager with `write(record)`.
        read_records: path -> the records; the file's bytes were checked before.
        clip_from_bytes: the bytes of a record -> its clip.
    """

    encode_clip: Callable[[Clip], bytes]
    writer: Callable[[str], Any]
    read_records: Callable[[pathlib.Path], Iterator[bytes]]
    clip_from_bytes: Callable[[bytes], Clip]


def _read_tfrecords(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file.

    Not by tf.data: a worker runs no TensorFlow operation, so it starts none of its threads.
    """
    with open(path, "rb") as file:
        while header := file.read(12):  # length, checksum of the length
            yield file.read(int.from_bytes(header[:8], "little"))
            file.read(4)  # checksum of the record


def format_of(config: Config) -> Format:
    """Returns the form of a folder's shards."""
    if config.format == WEBDATASET:
        return Format(
            webdataset.encode_clip,
            webdataset.Writer,
            webdataset.read_records,
            webdataset.clip_from_bytes,
        )
    # Here, not above: TensorFlow takes half a gigabyte, and to plan a run needs none of it.
    import tensorflow as tf

    from l3net.data import schema

    return Format(schema.encode_clip, tf.io.TFRecordWriter, _read_tfrecords, schema.clip_from_bytes)


def shard_names(config: Config) -> list[tuple[str, str]]:
    """Returns (split, file name) of every shard of a folder, split by split."""
    return [
        (split, name_of_shard(config, split, index))
        for split, count in sorted(config.num_shards.items())
        for index in range(count)
    ]


def name_of_shard(config: Config, split: str, index: int) -> str:
    """Returns the file name of a shard, such as "demo-train-00007-of-00064"."""
    name = shard_name(config.dataset_name, split, index, config.num_shards[split])
    return name + webdataset.SUFFIX if config.format == WEBDATASET else name
