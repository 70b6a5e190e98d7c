"""Prepared folders made of numbers, without ffmpeg: for tests and benchmarks of what reads them."""

import io
import json
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from l3net.data import schema
from l3net.data.markers import marker_path, shard_name
from l3net.data.shards import Shard, find_shards


def write_shards(
    folder: pathlib.Path,
    clips: list[schema.Clip],
    *,
    split: str = "train",
    num_shards: int = 1,
    name: str = "synthetic",
) -> list[Shard]:
    """Writes clips round-robin into shards with their commit markers."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(num_shards):
        path = folder / shard_name(name, split, index, num_shards)
        part = clips[index::num_shards]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for clip in part:
                writer.write(schema.encode_clip(clip))
        marker = {"num_clips": len(part), "media_ids": [clip.media_id for clip in part]}
        marker_path(path).write_text(json.dumps(marker))
    return find_shards(folder, split)


def make_clip(
    number: int,
    *,
    seconds: float = 2.0,
    frame_rate_hz: float = 25.0,
    size_px: tuple[int, int] = (64, 72),
    start_us: int = 0,
    **changes,
) -> schema.Clip:
    """Makes a clip whose pieces show its number: frames are grey of level `10 * number` (<= 250).

    Sample k of the sound is `number * 100 + k % 100`, so a cut shows whose it is and from where.
    """
    num_frames, num_samples = round(seconds * frame_rate_hz), round(seconds * 48_000)
    jpeg = encode_jpeg(np.full((*size_px, 3), 10 * number % 256, np.uint8))
    times = [start_us + round(k * 1_000_000 / frame_rate_hz) for k in range(num_frames)]
    clip = {
        "example_id": f"clip{number:04d}",
        "dataset_name": "synthetic",
        "media_id": f"video{number:04d}",
        "data_path": f"video{number:04d}.mp4",
        "start_us": start_us,
        "end_us": start_us + round(seconds * 1_000_000),
        "labels": (),
        "label_indices": (),
        "frames": (jpeg,) * num_frames,
        "timestamps_us": tuple(times),
        "height_px": size_px[0],
        "width_px": size_px[1],
        "waveform": (number * 100 + np.arange(num_samples) % 100).astype(np.int16),
        "frame_rate_hz": frame_rate_hz,
    }
    return schema.Clip(**{**clip, **changes})


def textured_clip(number: int, seed: int = 0) -> schema.Clip:
    """Makes a full-size clip whose frames compress about as badly as real ones (some 15 kB)."""
    rng = np.random.default_rng([seed, number])
    coarse = Image.fromarray(rng.integers(0, 255, (32, 43, 3), np.uint8)).resize((400, 300), 3)
    scene = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (300, 400, 3))
    scene = np.clip(scene, 0, 255).astype(np.uint8)
    frames = [encode_jpeg(scene[k % 44 : k % 44 + 256, k % 59 : k % 59 + 341]) for k in range(250)]
    return make_clip(
        number,
        seconds=10.0,
        size_px=(256, 341),
        frames=tuple(frames),
        waveform=rng.integers(-9000, 9000, 480_000).astype(np.int16),
    )


def flows_of(size_px: tuple[int, int], level: int) -> dict:
    """Returns the fields of a clip of 50 frames whose flow is of one level."""
    jpeg = encode_grey_jpeg(np.full((2 * size_px[0], size_px[1]), level))
    sizes = {"flow_height_px": size_px[0], "flow_width_px": size_px[1]}
    return {"flows": (jpeg,) * 49, "flow_scale_px": 0.02, **sizes}


def encode_jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """Encodes uint8 [height, width, 3] (or [height, width], grey) as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_grey_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encodes [height, width] as greyscale JPEG."""
    return encode_jpeg(image.astype(np.uint8), quality)
