"""The service runs in a process of its own, on loopback."""

import socket

import numpy as np
import pytest
import tensorflow as tf

from l3net.data import input_pipeline, schema, service
from l3net.data.service import DataService
from l3net.errors import UserError
from tests import tiny_service, tiny_shards


@pytest.fixture(scope="module")
def address():
    """Where the service runs."""
    with tiny_service.running() as (address, _):
        yield address


def _datasets(folder, encoding=schema.PCM16, start_step=0):
    """Returns the stream for this process and that for the service."""
    clips = [tiny_shards.make_clip(k, audio_encoding=encoding) for k in range(1, 11)]
    shards = tiny_shards.write_shards(folder, clips, num_shards=3)
    settings = {"batch_size": 8, "pairs_per_clip": 4, "shuffle_pairs": 12, "frame_px": 32}
    config = input_pipeline.PipelineConfig(**settings)
    return [
        input_pipeline.training_batches(
            shards, config, start_step=start_step, serializable=serializable
        )
        for serializable in (False, True)
    ]


def _check_equal(batches, expected):
    for batch, wanted in zip(batches, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, wanted)


@pytest.mark.parametrize("encoding", [schema.PCM16, schema.FLAC])
def test_the_service_prepares_the_same_batches_from_any_step_on(address, tmp_path, encoding):
    if encoding == schema.FLAC:
        pytest.importorskip("tensorflow_io", reason="tensorflow-io is not installed: l3net[io]")
    here, there = _datasets(tmp_path, encoding, start_step=7)
    there = service.through(there, DataService(address), "x")
    _check_equal(*(dataset.take(9).as_numpy_iterator() for dataset in (there, here)))


def test_trainers_share_batches_while_they_keep_up(address, tmp_path):
    """Whatever the step they would go on from."""
    sharing = DataService(address, share_pairs=True)
    (here, first), (_, second) = _datasets(tmp_path), _datasets(tmp_path, start_step=7)
    streams = [service.through(each, sharing, "shared") for each in (first, second)]
    taken = [dataset.take(9).as_numpy_iterator() for dataset in (here, *streams)]
    for batches in zip(*taken, strict=True):
        _check_equal(batches[1:], batches[:1] * 2)


CONFIG = input_pipeline.PipelineConfig(pairs_per_clip=8)


def test_pairs_that_python_reads_cannot_be_prepared_elsewhere(address):
    config = input_pipeline.PipelineConfig(pairs_per_clip=1)
    service.check(DataService(address), CONFIG)
    with pytest.raises(UserError, match="give --data_service a larger one, such as"):
        service.check(DataService(address), config)


@pytest.mark.parametrize("given", ["grpc://localhost:1", "localhost", "grpc://localhost:port"])
def test_a_service_that_does_not_answer_is_one_line(given):
    with pytest.raises(UserError, match=f"--data_service={given}: no answer .*need an address"):
        service.check(DataService(given), CONFIG)


def test_sharing_needs_a_service():
    with pytest.raises(UserError, match="--share_pairs is for trainers of one --data_service"):
        service.check(DataService(share_pairs=True), CONFIG)


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"ports {port} and {port + 1} cannot be used"):
            service.serve("localhost", port)
