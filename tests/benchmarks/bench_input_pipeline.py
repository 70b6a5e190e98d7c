"""Training pairs per second from shards at the papers' full size, beside the bare decode rate.

    python -m tests.benchmarks.bench_input_pipeline [--shards=FOLDER --split=train]

Without --shards it makes 48 ten-second clips of textured frames (341x256, 25 fps, 16-bit sound)
in a temporary folder. Every figure is pairs/s of the same run on the same machine:

    decode+crop       tf.data that only decodes and crops the JPEGs, nothing else: the limit
    raw batches       shards -> pairs -> shuffled, decoded, mixed batches
    prepared          the same, finished on the host: jitter and log-spectrogram too
"""

import pathlib
import sys
import tempfile
import time

import tensorflow as tf
from absl import app, flags

from l3net import constants
from l3net.data import augment, input_pipeline
from l3net.data.shards import Shard, find_shards, read_clips
from tests import tiny_shards

_SHARDS = flags.DEFINE_string("shards", None, "A prepared folder; none makes one.")
_SPLIT = flags.DEFINE_string("split", "train", "Of the prepared folder.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Pairs per batch.")
_SECONDS = flags.DEFINE_float("seconds", 12.0, "Of each measurement.")
_PAIRS_PER_CLIP = flags.DEFINE_integer("pairs_per_clip", 8, "Drawn per clip read.")

_NUM_CLIPS = 48
_SPECTROGRAM = {"pad_end": False, "average": 1}  # 257 x 199, as in L3


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        if _SHARDS.value:
            shards = find_shards(_SHARDS.value, _SPLIT.value)
        else:
            clips = [tiny_shards.textured_clip(number) for number in range(_NUM_CLIPS)]
            shards = tiny_shards.write_shards(pathlib.Path(temporary), clips, num_shards=4)
        config = input_pipeline.PipelineConfig(_BATCH.value, pairs_per_clip=_PAIRS_PER_CLIP.value)
        raw = input_pipeline.training_batches(shards, config)
        limit = _pairs_per_second(_decode_only(shards))
        rows = {"decode+crop": limit, "raw batches": _pairs_per_second(raw)}
        prepared = raw.map(_prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
        rows["prepared"] = _pairs_per_second(prepared)
    for name, rate in rows.items():
        sys.stdout.write(f"{name:15s} {rate:7.0f} pairs/s   {rate / limit:5.2f} of decode+crop\n")


def _prepare(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return input_pipeline.prepare_batch(batch, spectrogram_settings=_SPECTROGRAM)


def _decode_only(shards: list[Shard]) -> tf.data.Dataset:
    """Decodes and crops frames that are already in memory."""
    clip = next(read_clips(shards))
    draws = tf.random.stateless_uniform([len(clip.frames), augment.NUM_DRAWS], [0, 0])
    frames = tf.data.Dataset.from_tensor_slices((list(clip.frames), draws)).cache().repeat()
    return frames.map(
        lambda jpeg, draw: augment.decode_and_crop(jpeg, draw, frame_px=constants.FRAME_PX),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).batch(_BATCH.value)


def _pairs_per_second(dataset: tf.data.Dataset) -> float:
    """Counts pairs over a fixed time, after a warm-up of a quarter of it."""
    iterator = iter(dataset)
    count, start = None, time.perf_counter()
    while True:
        next(iterator)
        now = time.perf_counter()
        if count is None:
            if now - start > _SECONDS.value / 4:
                count, start = 0, now
            continue
        count += _BATCH.value
        if now - start > _SECONDS.value:
            return count / (now - start)


if __name__ == "__main__":
    app.run(main)
