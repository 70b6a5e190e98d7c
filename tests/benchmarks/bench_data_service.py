"""What a pair costs through tf.data's service, on loopback, beside the pipeline in the trainer.

    python -m tests.benchmarks.bench_data_service

Each trainer is a process that takes batches and does nothing with them; the service is another. The
clips are those of `bench_input_pipeline`. For one trainer without the service, one with it and two
that share: pairs/s of each trainer, the processor time per pair of trainers and service, start-up
left out, and the bytes over loopback per pair (all that goes over it, so stop what else does).
"""

import concurrent.futures
import dataclasses
import multiprocessing
import pathlib
import tempfile
import time

from l3net import flags
from l3net.flags import setting
from tests.benchmarks.timing import say

_PAIRS_PER_CLIP = 8


@dataclasses.dataclass(frozen=True)
class Config:
    """The measurement."""

    num_clips: int = setting(16, "Clips of ten seconds.", at_least=2)
    batch_size: int = setting(64, "Pairs per batch.", at_least=2)
    num_batches: int = setting(40, "Batches that each trainer takes.", at_least=1)
    repeats: int = setting(3, "Measurements of each kind.", at_least=1)


def main(config: Config) -> None:
    """Measures and prints."""
    from tests import tiny_service, tiny_shards

    with tempfile.TemporaryDirectory() as folder, tiny_service.running() as (address, pid):
        clips = [tiny_shards.textured_clip(number) for number in range(config.num_clips)]
        tiny_shards.write_shards(pathlib.Path(folder), clips, num_shards=4)
        # New processes: TensorFlow cannot be forked.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            for _ in range(config.repeats):
                for where, num_trainers in (("", 1), (address, 1), (address, 2)):
                    start = time.time() + 1.0
                    given = (folder, where, num_trainers > 1, start, config)
                    before = _processor_seconds(pid), _loopback_bytes()
                    trainers = [pool.submit(_train, *given) for _ in range(num_trainers)]
                    results = [trainer.result() for trainer in trainers]
                    _say(results, where, pid, before, config)


def _train(folder: str, address: str, share: bool, start: float, config: Config):
    """Takes batches; returns wall-clock and processor seconds."""
    from l3net.data import input_pipeline, service
    from l3net.data.shards import find_shards

    pipeline = input_pipeline.PipelineConfig(config.batch_size, pairs_per_clip=_PAIRS_PER_CLIP)
    dataset = input_pipeline.training_batches(
        find_shards(folder, "train"), pipeline, serializable=bool(address)
    )
    given = service.DataService(address, share_pairs=share)
    batches = iter(service.through(dataset, given, f"bench{start}"))
    next(batches)
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(config.num_batches):
        next(batches)
    return time.perf_counter() - begun, time.process_time() - used


def _say(results, where: str, pid: int, before: tuple[float, float], config: Config) -> None:
    num_pairs = config.batch_size * config.num_batches
    of_trainer = sum(used for _, used in results) / len(results)
    of_service = _processor_seconds(pid) - before[0]
    num_bytes = (_loopback_bytes() - before[1]) / len(results) / (num_pairs + config.batch_size)
    rates = ", ".join(f"{num_pairs / seconds:.0f}" for seconds, _ in results)
    say(
        f"{'service' if where else 'direct ':7s} {len(results)} trainer(s): {rates} pairs/s each; "
        f"processor ms per pair: {1e3 * of_trainer / num_pairs:.2f} of a trainer, "
        f"{1e3 * of_service / (num_pairs + config.batch_size):.2f} of the service; "
        f"{num_bytes / 1e6:.3f} MB over loopback per pair and trainer"
    )


def _processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # user and system, in ticks of Linux


def _loopback_bytes() -> float:
    lines = pathlib.Path("/proc/net/dev").read_text().splitlines()
    (counts,) = (line.split() for line in lines if line.strip().startswith("lo:"))
    return float(counts[1])


if __name__ == "__main__":
    flags.run(main, Config)
