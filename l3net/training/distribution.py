"""Where training runs: the GPUs of this machine, or those of several machines.

A *worker* is one process of `l3net.train` on one machine; a *replica* is one GPU (or the CPU). The
workers of TF_CONFIG run the same command; the first of them is the *chief*, which alone writes. All
share a file system with --run_dir and the shards.

    global batch = workers x replicas of a worker x accumulation steps x pairs at once

A worker reads its own shards only (every n-th) and draws its part of the global batch from them;
negatives pair two videos of the same worker (our choice). Replicas of one worker share its stream:
one GPU or four of one machine see the same global batches in the same order.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
import socket
import time
import zlib
from collections.abc import Iterator

import tensorflow as tf

from l3net.data import damage, input_pipeline
from l3net.data import service as data_service
from l3net.data.service import HERE, DataService
from l3net.data.shards import Shard, content_digest
from l3net.errors import UserError
from l3net.flags import setting

TF_CONFIG = "TF_CONFIG"
# What a collective operation ends with when a worker is gone, whichever operation it is.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
_SAY_SECONDS, _LOOK_SECONDS = 30.0, 0.5
_log = logging.getLogger(__name__)
_SEED_STRIDE = 7_919  # between the streams of two workers; a prime, to hit no seed that users take


@dataclasses.dataclass(frozen=True)
class Devices:
    """What trains."""

    strategy: str = setting(
        "auto",
        "Devices that train together. mirrored: all GPUs of this machine, or its processor; "
        "multi_worker: those of all machines in the environment variable TF_CONFIG; auto: "
        "multi_worker if there is a TF_CONFIG, else mirrored.",
        choices=("auto", "mirrored", "multi_worker"),
    )
    wait_seconds: float = setting(
        600.0,
        "Seconds that a worker waits at the start for the others of TF_CONFIG; those that are "
        "missing are named every half minute.",
    )


def make_strategy(
    name: str = "auto", *, wait_seconds: float = Devices.wait_seconds
) -> tf.distribute.Strategy:
    """Makes the strategy `Devices` names; with several workers it must be TensorFlow's first work.

    Raises:
        UserError: if TF_CONFIG is missing or invalid, or another worker after `wait_seconds`.
    """
    if name == "mirrored" or (name == "auto" and not os.environ.get(TF_CONFIG)):
        return tf.distribute.MirroredStrategy()
    own, addresses = _check_tf_config()
    _meet(own, addresses, wait_seconds)
    with lost_worker_is_one_line():
        return tf.distribute.MultiWorkerMirroredStrategy()


def _check_tf_config() -> tuple[str, list[str]]:
    """Returns this worker's address of TF_CONFIG and those of all; UserError if it is invalid."""
    example = (
        '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    text = os.environ.get(TF_CONFIG, "")
    try:
        content = json.loads(text)
        cluster, task = content["cluster"], content["task"]
        known = set(cluster) <= {"chief", "worker"}
        addresses = [address for job in sorted(cluster) for address in cluster[job]]
        own = cluster[task["type"]][int(task["index"])]
        ok = known and int(task["index"]) >= 0 and all(map(_port, addresses))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        ok = False
    if not ok:
        raise UserError(
            f"--strategy=multi_worker: got {TF_CONFIG}={text[:200]!r}; need jobs worker (and "
            f"chief) alone and a task of them, such as {example}"
        )
    return own, addresses


def _meet(own: str, addresses: list[str], wait_seconds: float) -> None:
    """Waits until every other worker of TF_CONFIG has answered, for TensorFlow would in silence.

    Meanwhile this worker's own port answers; then TensorFlow takes it.

    Raises:
        UserError: if some are still missing after `wait_seconds`, or the port is taken.
    """
    try:
        server = socket.create_server(("", _port(own)), backlog=len(addresses))
    except OSError as error:
        raise UserError(
            f"port {_port(own)} of this worker ({own} in {TF_CONFIG}) cannot be used: "
            f"{error.strerror}; end what uses it, or name another"
        ) from error
    start = said = time.monotonic()
    missing = [address for address in addresses if address != own]
    with server:
        while missing := [address for address in missing if not _answers(address)]:
            now = time.monotonic()
            waited, names = now - start, ", ".join(missing)
            if waited >= wait_seconds:
                raise UserError(
                    f"no answer from {names} of {TF_CONFIG} in {waited:.0f} s; start the same "
                    "command on all workers, or give --wait_seconds"
                )
            if now - said >= _SAY_SECONDS:
                said = now
                _log.warning("waiting for %s of %s since %.0f s", names, TF_CONFIG, waited)
            time.sleep(_LOOK_SECONDS)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def lost_worker_is_one_line() -> Iterator[None]:
    """Turns the errors of a collective operation whose partner is gone into one for people."""
    try:
        yield
    except _LOST as error:
        if not os.environ.get(TF_CONFIG):
            raise
        reason = " ".join(str(error.message).split())[:200]
        raise UserError(
            "another worker of TF_CONFIG is gone; start the same command on all workers again, "
            f"they go on from the last checkpoint ({type(error).__name__}: {reason})"
        ) from error


@dataclasses.dataclass(frozen=True)
class Position:
    """This process among all; worker 0 is the chief, replicas are those of all workers."""

    worker: int
    num_workers: int
    num_replicas: int

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes metrics, run files and checkpoints."""
        return self.worker == 0


def position_of(strategy: tf.distribute.Strategy) -> Position:
    """Returns this process's position in a strategy."""
    worker, num_workers = 0, 1
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        resolver = strategy.cluster_resolver
        jobs = resolver.cluster_spec().as_dict()
        num_chiefs = len(jobs.get("chief", []))
        num_workers = num_chiefs + len(jobs.get("worker", []))
        worker = resolver.task_id + (num_chiefs if resolver.task_type == "worker" else 0)
    return Position(worker, max(1, num_workers), strategy.num_replicas_in_sync)


def micro_batch_size(position: Position, batch_size: int, accumulation_steps: int) -> int:
    """Returns how many pairs of a global batch one replica takes at once.

    Raises:
        UserError: if that is no integer, or a worker's part is odd; says which sizes would do.
    """
    parts = position.num_replicas * accumulation_steps
    # A worker's part of the batch is half positives, half negatives.
    unit = math.lcm(parts, 2 * position.num_workers)
    if batch_size < unit or batch_size % unit:
        below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
        near = f"{below} or {above}" if below else f"{above}"
        raise UserError(
            f"--global_batch_size={batch_size}: cannot be cut into {position.num_workers} "
            f"worker(s) with {position.num_replicas} replica(s) in all and --accumulation_steps="
            f"{accumulation_steps}; need a multiple of {unit}, such as {near}"
        )
    return batch_size // parts


def shards_of_worker(shards: list[Shard], position: Position) -> list[Shard]:
    """Returns every n-th shard: what one of n workers reads.

    Raises:
        UserError: if any worker would get too little; all workers raise it alike.
    """
    parts = [shards[worker :: position.num_workers] for worker in range(position.num_workers)]
    for worker, part in enumerate(parts):
        num_videos = len({media_id for shard in part for media_id in shard.media_ids})
        if position.num_workers > 1 and num_videos < 2:
            raise UserError(
                f"worker {worker} of {position.num_workers} would get {len(part)} of {len(shards)} "
                f"training shard(s) with {num_videos} video(s); each needs at least 2 videos: "
                "take fewer workers, or prepare the data again with more --num_shards"
            )
    return parts[position.worker]


def training_batches(
    strategy: tf.distribute.Strategy,
    shards: list[Shard],
    config: input_pipeline.PipelineConfig,
    *,
    micro_batch: int,
    start_step: int,
    service: DataService = HERE,
) -> Iterator:
    """Makes this worker's endless stream of micro-batches, one for each of its replicas at a time.

    They are distributed batches of `input_pipeline.training_batches`, `micro_batch` pairs each,
    drawn from this worker's part of all training shards. `start_step` global batches are left out.
    With a service, that prepares them. UserError comes where a record cannot be read.
    """
    position = position_of(strategy)
    own = dataclasses.replace(
        config,
        batch_size=config.batch_size // position.num_workers,
        seed=config.seed + _SEED_STRIDE * position.worker,
    )
    own_shards = shards_of_worker(shards, position)

    def prepared(own, start_step):
        is_elsewhere = bool(service.data_service)
        dataset = input_pipeline.training_batches(
            own_shards, own, start_step=start_step, serializable=is_elsewhere
        )
        same = repr([own, content_digest(own_shards)])
        return data_service.through(
            dataset, service, hashlib.sha256(same.encode()).hexdigest()[:16]
        )

    def batches(_):
        if config.paired_negatives:  # a match and its mismatches stay together
            parts = own.batch_size // micro_batch
            part = dataclasses.replace(own, batch_size=micro_batch)
            return prepared(part, start_step * parts)
        dataset = prepared(own, start_step)
        if micro_batch == own.batch_size:
            return dataset
        return dataset.rebatch(micro_batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    dataset = strategy.distribute_datasets_from_function(batches)
    return damage.checked(dataset, [shard.path for shard in own_shards])


def any_worker(strategy: tf.distribute.Strategy, yes: bool) -> bool:
    """Returns whether any worker says yes; all must call it."""
    return _sum(strategy, float(yes)) > 0 if position_of(strategy).num_workers > 1 else yes


def check_agreement(strategy: tf.distribute.Strategy, text: str, what: str) -> None:
    """Refuses, on all workers, if one has another text; all must call it.

    Raises:
        UserError: says in what (`what`) the workers differ.
    """
    position = position_of(strategy)
    if position.num_workers == 1:
        return
    digest = zlib.crc32(text.encode()) % 65_521  # sums of it are exact in float32
    if _sum(strategy, float(digest)) != digest * position.num_replicas:
        raise UserError(f"the workers of TF_CONFIG differ in {what}; start all of them alike")


def _sum(strategy: tf.distribute.Strategy, value: float) -> float:
    return float(strategy.reduce("SUM", strategy.run(lambda: tf.constant(value)), axis=None))
