import pytest

from tests import tiny_training


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    return tiny_training.make_shards(tmp_path_factory.mktemp("shards"))
