"""Serializes a `tf.train.SequenceExample` in parts, without copying what is large.

As one message, a record's JPEGs would be copied on each of its levels: 30 ms of a processor for a
clip of ten seconds in place of 3. So the library writes the small parts, and what is in front of
the large ones is written here: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterable, Mapping

import tensorflow as tf

BYTES, INTS, REALS = "bytes_list", "int64_list", "float_list"  # kinds of a tf.train.Feature
_LENGTH_DELIMITED = 2
_MAP_KEY, _MAP_VALUE = 1, 2


def feature_lists(lists: Mapping[str, list[bytes]]) -> list[bytes]:
    """Returns the parts of a `SequenceExample`'s feature lists, from those of each."""
    parts = []
    for key, value in sorted(lists.items()):
        entry = [*_field(_MAP_KEY, [key.encode()]), *_field(_MAP_VALUE, value)]
        parts += _field(tf.train.FeatureLists.FEATURE_LIST_FIELD_NUMBER, entry)
    return _field(tf.train.SequenceExample.FEATURE_LISTS_FIELD_NUMBER, parts)


def pack(kind: str, values: Iterable) -> tf.train.Feature:
    """Returns a `Feature` of one of the three kinds; strings become UTF-8."""
    if kind == BYTES:
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if kind == INTS:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def feature_list(kind: str, rows: Iterable[Iterable]) -> list[bytes]:
    """Returns the parts of a `FeatureList` with one `Feature` per row; bytes are one to a row."""
    if kind != BYTES:
        features = [pack(kind, row) for row in rows]
        return [tf.train.FeatureList(feature=features).SerializeToString()]
    parts = []
    for row in rows:
        value = _field(tf.train.BytesList.VALUE_FIELD_NUMBER, [*row])
        feature = _field(tf.train.Feature.BYTES_LIST_FIELD_NUMBER, value)
        parts += _field(tf.train.FeatureList.FEATURE_FIELD_NUMBER, feature)
    return parts


def _field(number: int, parts: list[bytes]) -> list[bytes]:
    """Returns the parts of a field below 16, given those of its content."""
    size = sum(map(len, parts))
    head = bytearray([number << 3 | _LENGTH_DELIMITED])
    while size > 0x7F:  # seven bits a byte, the lowest first
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return [bytes(head), *parts]
