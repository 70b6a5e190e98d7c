"""Shards to batches for training, as tf.data.

The cost of a pair: a clip is 250 JPEGs and 10 s of sound, a pair needs one and one. So several
pairs are drawn per clip read, the small pairs are shuffled (JPEG bytes and two seconds of 16-bit
sound), not the clips, and only the crop of a frame is decoded.

The stream of pairs is a pure function of the seed. It is made of rounds: a round reads a group of
shards once, in an order shuffled anew each epoch, and shuffles their pairs. How many pairs a round
gives is known beforehand, so training resumes at any step by going to that step's round and
skipping the few pairs before it, undecoded: no buffer needs to be kept in a checkpoint. (If a
global TensorFlow seed is set, it enters the shuffling: that is how TensorFlow seeds its ops.)
"""

import dataclasses
import pathlib

import tensorflow as tf

from l3net import constants
from l3net.data import augment, avc_pairs, schema
from l3net.errors import UserError
from l3net.log_spectrogram import log_spectrogram

_SHUFFLE_BUFFERS_PER_ROUND = 4
_SHARDS_READ_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """How pairs are drawn.

    Attributes:
        batch_size: global, over all replicas; even.
        sampling: see `avc_pairs`.
        pairs_per_clip: drawn each time a clip is read.
        shuffle_pairs: size of the shuffle buffer; each pair takes about 0.2 MB.
        frame_px: height and width of the frame.
        seed: of everything random.
    """

    batch_size: int
    sampling: str = "l3"
    pairs_per_clip: int = 8
    shuffle_pairs: int = 2048
    frame_px: int = constants.FRAME_PX
    seed: int = 0


def training_batches(
    shards: list[schema.Shard], config: PipelineConfig, *, start_step: int = 0
) -> tf.data.Dataset:
    """Makes the endless stream of training batches.

    Args:
        shards: of the training split.
        config: how to draw.
        start_step: number of batches to leave out: a resumed run gets the batches that an
            unbroken one would have got.

    Returns:
        A dataset of {"image": uint8 [batch, frame_px, frame_px, 3], "waveform": int16 [batch,
        48000], "corresponds": int32 [batch], "draws": float32 [batch, augment.NUM_DRAWS]}, to be
        finished by `prepare_batch`.

    Raises:
        UserError: if there are fewer than two videos, or the batch size is odd.
    """
    _check(shards, config)
    rounds = _Rounds(shards, config)
    first_round, num_skipped = rounds.locate(start_step * config.batch_size)
    ratio = augment.jpeg_ratio(_stored_side_px(shards[0].path), config.frame_px)

    def decode(pair):
        image = augment.decode_and_crop(
            pair.pop("jpeg"), pair["draws"], frame_px=config.frame_px, ratio=ratio
        )
        return {**pair, "image": image}

    pairs = tf.data.Dataset.counter(first_round).flat_map(rounds.pairs_of).skip(num_skipped)
    options = tf.data.Options()
    options.deterministic = True
    return (
        pairs.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(config.batch_size, drop_remainder=True)
        .map(_mix, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def prepare_batch(
    batch: dict[str, tf.Tensor], *, spectrogram_settings: dict[str, bool | int]
) -> dict[str, tf.Tensor]:
    """Finishes a batch: jitter, [-1, 1] range, log-spectrogram. Batched; runs on any device.

    Args:
        batch: as `training_batches` gives it; without "draws" nothing is jittered (evaluation).
        spectrogram_settings: keyword arguments of `log_spectrogram`.

    Returns:
        {"frame": float32 [batch, frame_px, frame_px, 3], "log_spectrogram": float32 [batch, bands,
        windows, 1]}, the networks' inputs.
    """
    waveform = tf.cast(batch["waveform"], tf.float32) * (1.0 / schema.INT16_SCALE)
    if "draws" in batch:
        frame = augment.jitter_frames(batch["image"], batch["draws"])
        waveform = augment.jitter_volume(waveform, batch["draws"])
    else:
        frame = augment.frame_to_float(batch["image"])
    return {
        "frame": frame,
        "log_spectrogram": log_spectrogram(waveform, **spectrogram_settings),
    }


class _Rounds:
    """The seeded order in which shards are read, and how many pairs that gives."""

    def __init__(self, shards: list[schema.Shard], config: PipelineConfig):
        self._config = config
        self._encoding = schema.peek_audio_encoding(shards[0].path)
        self._paths = tf.constant([str(shard.path) for shard in shards])
        self._num_clips = tf.constant([shard.num_clips for shard in shards], tf.int64)
        clips_per_shard = sum(shard.num_clips for shard in shards) / len(shards)
        clips_per_round = _SHUFFLE_BUFFERS_PER_ROUND * config.shuffle_pairs / config.pairs_per_clip
        self._group = max(1, min(len(shards), round(clips_per_round / clips_per_shard)))
        self._rounds_per_epoch = -(-len(shards) // self._group)

    def _shards_of(self, round_index: tf.Tensor, per_shard: tf.Tensor) -> tf.Tensor:
        """Picks a round's entries from a tensor with one entry per shard."""
        epoch, group = round_index // self._rounds_per_epoch, round_index % self._rounds_per_epoch
        seed = tf.stack([tf.cast(self._config.seed, tf.int64), epoch])
        shuffled = tf.random.experimental.stateless_shuffle(per_shard, seed)
        return shuffled[group * self._group : (group + 1) * self._group]

    def locate(self, num_pairs: int) -> tuple[int, int]:
        """Returns the round that holds a pair of the stream, and its place in that round."""
        per_epoch = int(tf.reduce_sum(self._num_clips)) * self._config.pairs_per_clip
        round_index = num_pairs // per_epoch * self._rounds_per_epoch
        left = num_pairs % per_epoch
        while True:
            clips = self._shards_of(tf.constant(round_index, tf.int64), self._num_clips)
            in_round = int(tf.reduce_sum(clips)) * self._config.pairs_per_clip
            if left < in_round:
                return round_index, left
            left -= in_round
            round_index += 1

    def pairs_of(self, round_index: tf.Tensor) -> tf.data.Dataset:
        """Draws and shuffles the pairs of one round."""
        files = tf.data.Dataset.from_tensor_slices(self._shards_of(round_index, self._paths))
        records = files.interleave(
            tf.data.TFRecordDataset,
            cycle_length=_SHARDS_READ_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return (
            records.enumerate()
            .map(
                lambda place, record: self._draw_pairs(round_index, place, record),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .unbatch()
            .shuffle(
                self._config.shuffle_pairs,
                seed=self._round_seed(round_index),
                reshuffle_each_iteration=False,
            )
        )

    def _round_seed(self, round_index: tf.Tensor) -> tf.Tensor:
        return round_index + self._config.seed * 1_000_003

    def _draw_pairs(self, round_index, place, record) -> dict[str, tf.Tensor]:
        """Draws `pairs_per_clip` pairs of one clip, with all their random numbers."""
        clip = schema.decode_clip(record, audio_encoding=self._encoding)
        seed = tf.stack([self._round_seed(round_index), place])
        num_pairs = self._config.pairs_per_clip
        width = avc_pairs.NUM_TIME_DRAWS + augment.NUM_DRAWS
        draws = tf.random.stateless_uniform([num_pairs, width], seed)
        index, matching, other = avc_pairs.draw_times(
            clip["frame_times_us"],
            tf.size(clip["waveform"]),
            draws[:, : avc_pairs.NUM_TIME_DRAWS],
            sampling=self._config.sampling,
            num_padding_frames=clip["num_padding_frames"],
        )
        media_id = tf.strings.to_hash_bucket_fast(clip["media_id"], 2**62)
        return {
            "jpeg": tf.gather(clip["frames"], index),
            "matching": _seconds_from(clip["waveform"], matching, num_pairs),
            "other": _seconds_from(clip["waveform"], other, num_pairs),
            "media_id": tf.fill([num_pairs], media_id),
            "draws": draws[:, avc_pairs.NUM_TIME_DRAWS :],
        }


def _seconds_from(waveform: tf.Tensor, starts: tf.Tensor, count: int) -> tf.Tensor:
    """Cuts one second at each start: int16 [count, 48000]."""
    length = constants.AUDIO_SAMPLES
    return tf.stack([tf.slice(waveform, [starts[i]], [length]) for i in range(count)])


def _mix(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    corresponds, partner = avc_pairs.mix_pairs(
        batch["media_id"], batch["draws"][:, augment.PARTNER]
    )
    row = tf.range(tf.size(partner))
    is_match = corresponds == constants.CORRESPONDS
    sounds = tf.concat([batch["matching"], batch["other"]], axis=0)
    waveform = tf.gather(sounds, tf.where(is_match, row, tf.size(row) + partner))
    return {
        "image": batch["image"],
        "waveform": waveform,
        "corresponds": corresponds,
        "draws": batch["draws"],
    }


def _check(shards: list[schema.Shard], config: PipelineConfig) -> None:
    num_videos = len({media_id for shard in shards for media_id in shard.media_ids})
    if num_videos < 2:
        raise UserError(
            f"the training shards hold {num_videos} video(s); negative pairs need at least 2"
        )
    if tf.compat.v1.get_seed(1)[0] == 0:
        raise UserError(
            "tf.random.set_seed(0) was called: TensorFlow cannot shuffle by a seed tensor then; "
            "set no global seed (the pipeline has its own), or one that is not 0"
        )
    if config.batch_size < 2 or config.batch_size % 2:
        raise UserError(
            f"--global_batch_size={config.batch_size}: need an even number, half of the pairs "
            "are negatives"
        )
    if config.sampling not in avc_pairs.SAMPLINGS:
        raise UserError(
            f"--sampling={config.sampling}: need one of {', '.join(avc_pairs.SAMPLINGS)}"
        )


def _stored_side_px(path: pathlib.Path) -> int:
    """Returns the smallest side of a shard's first frame."""
    record = next(iter(tf.data.TFRecordDataset(str(path)).take(1)))
    jpeg = schema.decode_clip(record, audio_encoding=schema.peek_audio_encoding(path))["frames"][0]
    return int(tf.reduce_min(tf.io.extract_jpeg_shape(jpeg)[:2]))
