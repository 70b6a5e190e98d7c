"""Training pairs per second from shards at the papers' full size, beside the bare decode rate.

    python -m tests.benchmarks.bench_input_pipeline [--shards=FOLDER --split=train]

Without --shards it makes 48 ten-second clips of textured frames (341x256, 25 fps, 16-bit sound)
in a temporary folder. Every figure is pairs/s of the same run on the same machine:

    decode+crop  tf.data that only decodes and crops the JPEGs, nothing else: the limit
    raw          shards -> pairs -> shuffled, decoded, mixed batches
    prepared     the same, finished on the host: jitter and log-spectrogram too

They are measured by turns, some rounds: medians, and medians of the rounds' ratios. The last two
for one pair per clip (the papers') and for 8 (the small flagfiles'), with the bytes
that the process reads per pair, on Linux. "first visit" is what one pair per clip does once per
clip and run: it finds out where a record's parts are.

Then what AVE+MF and AVE+OF take for a pair, 25 frames or a frame and 10 flow frames, decoded and
cropped from memory, for several sizes of the stored pictures and of the network's: pairs/s, and
milliseconds of a processor per pair, which other programs beside it disturb less.

Then the distinct videos in a batch, over 4,000 clips of a second: smallest, mean and greatest of
several batches, beside what independent draws of a video for each pair give on average.
"""

import dataclasses
import io
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from data_prep.shards import flow
from l3net import constants, flags
from l3net.data import augment, input_pipeline, schema
from l3net.data.partial_records import PartialRecords
from l3net.data.shards import Shard, find_shards, read_clips
from l3net.flags import setting
from tests import tiny_shards
from tests.benchmarks import table
from tests.benchmarks.timing import say, seconds_of

_NUM_CLIPS = 48
_NUM_SMALL_CLIPS = 4000
_SPECTROGRAM = {"pad_end": False, "average": 1}  # 257 x 199, as in L3
_PAIRS_PER_CLIP = (1, 8)
_DECODE = "decode+crop"
# Smallest side of the stored pictures and the network's frames, pixels.
_SIZES = ((256, 224), (256, 112), (128, 112), (256, 64), (73, 64))


@dataclasses.dataclass(frozen=True)
class Config:
    """The data and the measurement."""

    shards: str | None = setting(None, "Prepared folder; if not given, one is made.")
    split: str = setting("train", "Split of the prepared folder.")
    batch_size: int = setting(64, "Pairs per batch.", at_least=2)
    seconds: float = setting(4.0, "Seconds of each measurement, a quarter of them to warm up.")
    rounds: int = setting(3, "Measurements of each kind, by turns.", at_least=1)
    num_batches: int = setting(20, "Batches whose videos are counted; 0: none.", at_least=0)
    out: str | None = setting(None, table.OUT_HELP)


def main(config: Config) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if config.shards:
            shards = find_shards(config.shards, config.split)
        else:
            clips = [tiny_shards.textured_clip(number) for number in range(_NUM_CLIPS)]
            shards = tiny_shards.write_shards(folder / "full", clips, num_shards=4)
        rows = [*_rates(shards, config), *_many_pictures(next(read_clips(shards)), config)]
        table.write_rows(config.out, rows)
        if config.num_batches:
            _print_diversity(_small_clips(folder / "small"), config)


def _rates(shards: list[Shard], config: Config) -> Iterator[table.Row]:
    """Prints and yields the rates of shards beside the bare decoding."""
    datasets = {_DECODE: _decode_only(shards, config)}
    for count in _PAIRS_PER_CLIP:
        pipeline = input_pipeline.PipelineConfig(config.batch_size, pairs_per_clip=count)
        raw = input_pipeline.training_batches(shards, pipeline)
        prepared = raw.map(_prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
        datasets |= {f"raw, {count} per clip": raw, f"prepared, {count} per clip": prepared}
    measured = _by_turns(datasets, config.batch_size, config)
    limit = measured[_DECODE]
    for name, rounds in measured.items():
        rate, num_bytes, _ = np.median(rounds, axis=0)
        share = float(np.median(rounds[:, 0] / limit[:, 0]))
        read = "" if name == _DECODE else f"   {num_bytes / 1e6:.2f} MB read per pair"
        say(f"{name:22s} {rate:7.0f} pairs/s   {share:.2f} of decode+crop{read}")
        if name != _DECODE:
            yield table.Row(
                f"input, {name}", rate, "pairs/s", limit="bare JPEG decode", of_limit=share
            )
    records = PartialRecords(shards, schema.read_format(shards[0].path).audio_encoding)
    before = _bytes_read()
    seconds = seconds_of(lambda: [records.facts(k) for k in range(records.num_clips)])
    num_bytes = (_bytes_read() - before) / records.num_clips
    rate = records.num_clips / seconds
    say(f"{'first visit':22s} {rate:7.0f} clips/s in one thread, {num_bytes / 1e6:.3f} MB each")


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


def _many_pictures(clip: schema.Clip, config: Config) -> Iterator[table.Row]:
    """Prints and yields the rates of pairs with many pictures, for some sizes of these."""
    datasets = {}
    for side_px, frame_px in _SIZES:
        frames = [_smaller(jpeg, side_px) for jpeg in clip.frames[: constants.NUM_FRAMES_MF]]
        found = flow.optical_flow(
            frames[: constants.NUM_FLOW_FRAMES + 1], smallest_side_px=side_px, method=flow.DIS
        )
        for name, pictures in (
            ("AVE+MF", {"jpegs": frames}),
            ("AVE+OF", {"jpeg": frames[0], "flow_jpegs": list(found.flows)}),
        ):
            datasets[name, side_px, frame_px] = _decode_pairs(pictures, side_px, frame_px)
    measured = _by_turns(datasets, 1, config)
    for (name, side_px, frame_px), rounds in measured.items():
        rate, _, seconds = np.median(rounds, axis=0)
        at_256 = measured[name, constants.SMALLEST_SIDE_PX, frame_px]
        ratio = float(np.median(rounds[:, 0] / at_256[:, 0]))
        say(
            f"{name} {side_px:3d} -> {frame_px:3d} px {rate:7.0f} pairs/s   {ratio:.2f} of stored "
            f"at 256 px   {1000 * seconds:.2f} ms of a processor per pair"
        )
        smaller = side_px < constants.SMALLEST_SIDE_PX
        yield table.Row(
            f"input of {name} at {frame_px} px, stored at {side_px} px",
            rate,
            "pairs/s",
            "stored at 256 px" if smaller else "",
            ratio if smaller else None,
        )


def _smaller(jpeg: bytes, side_px: int) -> bytes:
    """Encodes a frame again whose smallest side is this."""
    image = Image.open(io.BytesIO(jpeg))
    size = [round(side * side_px / min(image.size)) for side in image.size]
    return tiny_shards.encode_jpeg(np.asarray(image.resize((size[0], size[1]))))


def _decode_pairs(pictures: dict, side_px: int, frame_px: int) -> tf.data.Dataset:
    """Decodes the same pair again and again, each time another crop."""
    ratio = augment.jpeg_ratio(side_px, frame_px)

    def decode(number):
        draws = tf.random.stateless_uniform([augment.NUM_DRAWS], [number, 0])
        return input_pipeline.decode_pictures(
            {name: tf.constant(jpegs) for name, jpegs in pictures.items()},
            draws,
            frame_px=frame_px,
            ratio=ratio,
        )

    return tf.data.Dataset.counter().map(decode, num_parallel_calls=tf.data.AUTOTUNE)


def _by_turns(datasets: dict, pairs_per_item: int, config: Config) -> dict[Any, np.ndarray]:
    """Returns float64 [rounds, 3] by the dataset's name; columns as `_pairs_per_second` gives."""
    rounds = [
        [
            _pairs_per_second(dataset, pairs_per_item, config.seconds)
            for dataset in datasets.values()
        ]
        for _ in range(config.rounds)
    ]
    return dict(zip(datasets, np.array(rounds).transpose(1, 0, 2), strict=True))


def _pairs_per_second(
    dataset: tf.data.Dataset, pairs_per_item: int, seconds: float
) -> tuple[float, float, float]:
    """Counts over a fixed time, after a quarter of it.

    Returns:
        Pairs/s, bytes read per pair, seconds of a processor per pair.
    """
    iterator = iter(dataset)
    count, start, num_bytes, processor = None, time.perf_counter(), 0.0, 0.0
    while True:
        next(iterator)
        now = time.perf_counter()
        if count is None:
            if now - start > seconds / 4:
                count, start, num_bytes = 0, now, _bytes_read()
                processor = time.process_time()
            continue
        count += pairs_per_item
        if now - start > seconds:
            processor = time.process_time() - processor
            read = _bytes_read() - num_bytes
            return count / (now - start), read / count, processor / count


def _bytes_read() -> float:
    """Returns how many bytes this process has read, from whatever; NaN where that is unknown."""
    counters = pathlib.Path("/proc/self/io")
    return float(counters.read_text().split()[1]) if counters.exists() else float("nan")


# --- Distinct videos in a batch ------------------------------------------------------------------
def _small_clips(folder: pathlib.Path) -> list[Shard]:
    """Makes clips of one second whose label is their number."""
    clips = (
        tiny_shards.make_clip(
            0,
            seconds=1.0,
            frame_rate_hz=5.0,
            media_id=f"video{number}",
            labels=("number",),
            label_indices=(number,),
        )
        for number in range(_NUM_SMALL_CLIPS)
    )
    return tiny_shards.write_shards(folder, list(clips), num_shards=40)


def _print_diversity(shards: list[Shard], config: Config) -> None:
    say(f"distinct videos in a batch, of {_NUM_SMALL_CLIPS} clips; {config.num_batches} batches")
    for size in (256, 2048):
        ideal = _NUM_SMALL_CLIPS * (1 - (1 - 1 / _NUM_SMALL_CLIPS) ** size)
        for count in _PAIRS_PER_CLIP:
            pipeline = input_pipeline.PipelineConfig(
                size, pairs_per_clip=count, frame_px=32, inputs=("frame",), labels=True
            )
            batches = input_pipeline.training_batches(shards, pipeline).take(config.num_batches)
            videos = [len(np.unique(batch["frame_label"])) for batch in batches]
            say(
                f"batch of {size:4d}   {count} pair(s)/clip   {min(videos)} {np.mean(videos):.0f} "
                f"{max(videos)}   independent draws {ideal:.0f}"
            )


if __name__ == "__main__":
    flags.run(main, Config)
