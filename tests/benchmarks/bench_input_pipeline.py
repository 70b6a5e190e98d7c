"""Training pairs per second from shards at the papers' full size, beside the bare decode rate.

    python -m tests.benchmarks.bench_input_pipeline [--shards=FOLDER --split=train]

Without --shards it makes 48 ten-second clips of textured frames (341x256, 25 fps, 16-bit sound)
in a temporary folder. Every figure is pairs/s of the same run on the same machine:

    decode+crop       tf.data that only decodes and crops the JPEGs, nothing else: the limit
    raw batches       shards -> pairs -> shuffled, decoded, mixed batches
    prepared          the same, finished on the host: jitter and log-spectrogram too
"""

import dataclasses
import pathlib
import tempfile
import time

import tensorflow as tf

from l3net import constants, flags
from l3net.data import augment, input_pipeline
from l3net.data.shards import Shard, find_shards, read_clips
from l3net.flags import setting
from tests import tiny_shards
from tests.benchmarks.timing import say

_NUM_CLIPS = 48
_SPECTROGRAM = {"pad_end": False, "average": 1}  # 257 x 199, as in L3


@dataclasses.dataclass(frozen=True)
class Config:
    """The data and the measurement."""

    shards: str | None = setting(None, "Prepared folder; if not given, one is made.")
    split: str = setting("train", "Split of the prepared folder.")
    batch_size: int = setting(64, "Pairs per batch.", at_least=2)
    seconds: float = setting(12.0, "Seconds of each measurement.")
    pairs_per_clip: int = setting(8, "Pairs drawn per clip read.", at_least=1)


def main(config: Config) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as temporary:
        if config.shards:
            shards = find_shards(config.shards, config.split)
        else:
            clips = [tiny_shards.textured_clip(number) for number in range(_NUM_CLIPS)]
            shards = tiny_shards.write_shards(pathlib.Path(temporary), clips, num_shards=4)
        pipeline = input_pipeline.PipelineConfig(
            config.batch_size, pairs_per_clip=config.pairs_per_clip
        )
        raw = input_pipeline.training_batches(shards, pipeline)
        limit = _pairs_per_second(_decode_only(shards, config), config)
        rows = {"decode+crop": limit, "raw batches": _pairs_per_second(raw, config)}
        prepared = raw.map(_prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
        rows["prepared"] = _pairs_per_second(prepared, config)
    for name, rate in rows.items():
        say(f"{name:15s} {rate:7.0f} pairs/s   {rate / limit:5.2f} of decode+crop")


def _prepare(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return input_pipeline.prepare_batch(batch, spectrogram_settings=_SPECTROGRAM)


def _decode_only(shards: list[Shard], config: Config) -> tf.data.Dataset:
    """Decodes and crops frames that are already in memory."""
    clip = next(read_clips(shards))
    draws = tf.random.stateless_uniform([len(clip.frames), augment.NUM_DRAWS], [0, 0])
    frames = tf.data.Dataset.from_tensor_slices((list(clip.frames), draws)).cache().repeat()
    return frames.map(
        lambda jpeg, draw: augment.decode_and_crop(jpeg, draw, frame_px=constants.FRAME_PX),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).batch(config.batch_size)


def _pairs_per_second(dataset: tf.data.Dataset, config: Config) -> float:
    """Counts pairs over a fixed time, after a warm-up of a quarter of it."""
    iterator = iter(dataset)
    count, start = None, time.perf_counter()
    while True:
        next(iterator)
        now = time.perf_counter()
        if count is None:
            if now - start > config.seconds / 4:
                count, start = 0, now
            continue
        count += config.batch_size
        if now - start > config.seconds:
            return count / (now - start)


if __name__ == "__main__":
    flags.run(main, Config)
