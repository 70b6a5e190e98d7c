"""Pairs that another process prepares, through tf.data's service.

    trainer: `through`   -- graph of the pipeline -->   service: `serve`
                         <-- prepared batches -------

The service runs graphs alone, so it prepares what needs no Python: complete clips
(`PipelineConfig.pairs_per_clip` above 1), FLAC by tensorflow-io. It has one worker: each of several
would prepare the same stream.

https://www.tensorflow.org/api_docs/python/tf/data/experimental/service
"""

import contextlib
import dataclasses
import logging
import secrets
import socket

import tensorflow as tf

from l3net.data import input_pipeline
from l3net.errors import UserError, first_line
from l3net.flags import setting

_ANSWER_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DataService:
    """Who prepares the pairs; may change when a run resumes."""

    data_service: str = setting(
        "",
        "Address of the process that prepares the pairs, such as grpc://host:5000, where python -m "
        "l3net.data_service runs; without it the trainer does. The pairs are the same. It needs "
        "--pairs_per_clip above 1 and --shards at the same place there.",
    )
    share_pairs: bool = setting(
        False,
        "Whether all trainers of a --data_service with the same data, batch and seed get the same "
        "batches, each prepared once. Which ones a trainer gets then depends on when it starts and "
        "how fast it is, so no run can be repeated or resumed exactly.",
    )


HERE = DataService()  # the trainer itself prepares them


def check(service: DataService, config: input_pipeline.PipelineConfig) -> None:
    """Raises UserError unless the service answers and can prepare such pairs."""
    if service.data_service:
        input_pipeline.check_serializable(config)
        _check_answers(service.data_service)
    elif service.share_pairs:
        raise UserError("--share_pairs is for trainers of one --data_service; name it")


def through(dataset: tf.data.Dataset, service: DataService, stream: str) -> tf.data.Dataset:
    """Returns the same endless dataset, prepared by the service if there is one.

    Args:
        dataset: whose graph has no Python function.
        service: where it is prepared.
        stream: equal for datasets whose batches trainers may share.
    """
    if not service.data_service:
        return dataset
    module = tf.data.experimental.service
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    shared = {}
    if service.share_pairs:
        cache = module.CrossTrainerCache(trainer_id=secrets.token_hex(8))
        shared = {"job_name": stream, "cross_trainer_cache": cache}
    dataset_id = module.register_dataset(
        service.data_service,
        dataset,
        compression=None,  # our choice: pictures are decoded by now and hardly shrink
        dataset_id=stream if service.share_pairs else None,
    )
    return module.from_dataset_id(
        "parallel_epochs", service.data_service, dataset_id, dataset.element_spec, **shared
    )


def serve(host: str, port: int) -> None:
    """Prepares batches until the process ends.

    Args:
        host: name by which trainers reach this machine.
        port: the dispatcher's; the worker has the next one.

    Raises:
        UserError: if a port cannot be used.
    """
    # FLAC in graphs, and object storage; the first use loads them.
    with contextlib.suppress(ImportError), tf.Graph().as_default():
        import tensorflow_io

        tensorflow_io.audio.decode_flac(tf.constant(b""), dtype=tf.int16)
    module = tf.data.experimental.service
    try:
        dispatcher = module.DispatchServer(module.DispatcherConfig(port=port))
        addresses = {
            "dispatcher_address": f"localhost:{port}",
            "worker_address": f"{host}:{port + 1}",
        }
        worker = module.WorkerServer(module.WorkerConfig(port=port + 1, **addresses))
    except (RuntimeError, tf.errors.OpError) as error:
        raise UserError(
            f"ports {port} and {port + 1} cannot be used ({first_line(error)}); give another --port"
        ) from error
    _log.info("ready: --data_service=grpc://%s:%d", host, port)
    worker.join()
    del dispatcher


def _check_answers(address: str) -> None:
    """Raises UserError unless something listens, for TensorFlow would wait for it in silence."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"--data_service={address}: no answer ({first_line(error)}); need an address such as "
            "grpc://host:5000, where python -m l3net.data_service runs"
        ) from error
