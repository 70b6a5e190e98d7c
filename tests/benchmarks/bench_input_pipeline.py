"""Training pairs per second from shards at the papers' full size, beside the bare decode rate.

    python tests/benchmarks/bench_input_pipeline.py [--shards=FOLDER --split=train]

Without --shards it makes 48 ten-second clips of textured frames (341x256, 25 fps, 16-bit sound)
in a temporary folder. Every figure is pairs/s of the same run on the same machine:

    decode+crop       tf.data that only decodes and crops the JPEGs, nothing else: the limit
    raw batches       shards -> pairs -> shuffled, decoded, mixed batches
    prepared          the same, finished on the host: jitter and log-spectrogram too
"""

import io
import json
import pathlib
import sys
import tempfile
import time

import l3net  # noqa: F401  (before TensorFlow: quiets its start-up notes)
import numpy as np
import tensorflow as tf
from absl import app, flags
from PIL import Image

from l3net import constants
from l3net.data import augment, input_pipeline, schema

_SHARDS = flags.DEFINE_string("shards", None, "A prepared folder; none makes one.")
_SPLIT = flags.DEFINE_string("split", "train", "Of the prepared folder.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Pairs per batch.")
_SECONDS = flags.DEFINE_float("seconds", 12.0, "Of each measurement.")
_PAIRS_PER_CLIP = flags.DEFINE_integer("pairs_per_clip", 8, "Drawn per clip read.")

_SPECTROGRAM = {"pad_end": False, "average": 1}  # 257 x 199, as in L3


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        folder = _SHARDS.value or _make_shards(pathlib.Path(temporary))
        shards = schema.find_shards(folder, _SPLIT.value)
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


def _decode_only(shards: list[schema.Shard]) -> tf.data.Dataset:
    """Decodes and crops frames that are already in memory."""
    clip = next(schema.read_clips(shards))
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


def _make_shards(folder: pathlib.Path, num_clips: int = 48, num_shards: int = 4) -> pathlib.Path:
    rng = np.random.default_rng(0)
    for index in range(num_shards):
        path = folder / schema.shard_name("bench", "train", index, num_shards)
        ids = range(index, num_clips, num_shards)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for clip in ids:
                writer.write(schema.encode_clip(_textured_clip(clip, rng)))
        marker = {"num_clips": len(ids), "media_ids": [f"video{clip}" for clip in ids]}
        schema.marker_path(path).write_text(json.dumps(marker))
    return folder


def _textured_clip(index: int, rng: np.random.Generator) -> schema.Clip:
    """Makes a clip whose frames compress about as badly as real ones (some 15 kB each)."""
    coarse = Image.fromarray(rng.integers(0, 255, (32, 43, 3), np.uint8)).resize((400, 300), 3)
    scene = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (300, 400, 3))
    scene = np.clip(scene, 0, 255).astype(np.uint8)
    frames = [_jpeg(scene[k % 44 : k % 44 + 256, k % 59 : k % 59 + 341]) for k in range(250)]
    return schema.Clip(
        example_id=f"clip{index}", dataset_name="bench", media_id=f"video{index}",
        data_path="", start_us=0, end_us=10_000_000, labels=(), label_indices=(),
        frames=tuple(frames), timestamps_us=tuple(range(0, 10_000_000, 40_000)),
        height_px=256, width_px=341,
        waveform=rng.integers(-9000, 9000, 480_000).astype(np.int16),
    )  # fmt: skip


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    app.run(main)
