import random

import numpy as np
import pytest

from eval.reporting import cache

ARRAY = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
KEY = cache.key_of("features", 1)


@pytest.fixture
def folder(tmp_path):
    cache.write_array(tmp_path, KEY, ARRAY)
    cache.write_json(tmp_path, KEY, {"accuracy": 0.5, "folds": [1, 2]})
    return tmp_path


def test_what_is_kept_is_read_again(folder):
    assert np.array_equal(cache.read_array(folder, KEY), ARRAY)
    assert cache.read_json(folder, KEY) == {"accuracy": 0.5, "folds": [1, 2]}
    for value in ([1, 2], 3.5, "text", {}):
        cache.write_json(folder, "other", value)
        assert cache.read_json(folder, "other") == value
    assert cache.read_array(folder, "0" * 64) is None and cache.read_json(folder, "none") is None


def test_results_of_before_there_were_checksums_are_read(folder):
    path = cache.array_path(folder, KEY)
    np.save(path, ARRAY)
    assert np.array_equal(cache.read_array(folder, KEY), ARRAY)
    (folder / "old.json").write_text('{"accuracy": 0.5}')
    assert cache.read_json(folder, "old") == {"accuracy": 0.5}


def _damaged(data: bytes, rng: random.Random) -> bytes:
    kind, place = rng.randrange(3), rng.randrange(len(data))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data + bytes(rng.randrange(1, 9))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def test_damage_counts_as_nothing_kept(tmp_path):
    rng = random.Random(0)
    for number in range(300):
        key = cache.key_of(number)  # another file: each is compared once in a process
        cache.write_array(tmp_path, key, ARRAY)
        path = cache.array_path(tmp_path, key)
        data = path.read_bytes()
        header = number % 3 == 0
        head, rest = (data[:128], data[128:]) if header else (b"", data)
        path.write_bytes(_damaged(head, rng) + rest if header else head + _damaged(rest, rng))
        assert cache.read_array(tmp_path, key) is None, number
        cache.write_json(tmp_path, key, [1, 2, 3])
        path = tmp_path / f"{key}.json"
        path.write_bytes(_damaged(path.read_bytes(), rng))
        assert cache.read_json(tmp_path, key) in (None, [1, 2, 3]), number
