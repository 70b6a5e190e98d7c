"""Shards to batches for training, as tf.data.

The cost of a pair: a clip is 250 JPEGs and 10 s of sound, a pair needs one and one. So several
pairs are drawn per clip read, the small pairs are shuffled (JPEG bytes and two seconds of 16-bit
sound), not the clips, and only the crop of a frame is decoded.

The stream of pairs is a pure function of the seed. It is made of rounds: a round reads a group of
shards once, in an order shuffled again each epoch, and shuffles their pairs. How many pairs a round
gives is known beforehand, so training resumes at any step by going to that step's round and
skipping the few pairs before it, undecoded: no buffer needs to be kept in a checkpoint. (A global
TensorFlow seed enters the shuffling, too: that is how TensorFlow seeds its ops.)
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from l3net import constants
from l3net.data import augment, avc_pairs, schema
from l3net.data.shards import Shard
from l3net.errors import UserError
from l3net.flags import setting
from l3net.log_spectrogram import log_spectrogram

_SHUFFLE_BUFFERS_PER_ROUND = 4
_SHARDS_READ_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """How pairs are drawn.

    Attributes:
        frame_px: height and width of the frame.
        seed: decides everything random.
        inputs: what the network takes, of constants.FRAME, FRAMES, FLOW, LOG_SPECTROGRAM; nothing
            else is decoded.
        labels: whether the clips' labels are read: for the supervised baselines alone, AVC
            training never sees one.
    """

    batch_size: int = setting(
        256,
        "Pairs per step over all replicas, an even number; L3 256, OTS 2048.",
        flag="global_batch_size",
    )
    sampling: str = setting(
        "l3",
        "Which second of sound goes with a frame: l3: any that overlaps it; ots: centred on it, "
        "then misaligned at random; naive: centred on it, which OTS warns of.",
        choices=avc_pairs.SAMPLINGS,
    )
    misalignment_seconds: float = setting(
        constants.MISALIGNMENT_SECONDS,
        "Largest shift of the sound under --sampling=ots, in seconds, forth or back; OTS: up to "
        "1 s, which 0.5 reads as the span of the shifts and 1.0 as the largest one.",
        at_least=0,
    )
    pairs_per_clip: int = setting(
        8, "Pairs drawn each time a clip is read; not given in the papers.", at_least=1
    )
    shuffle_pairs: int = setting(
        2048, "Size of the shuffle buffer in pairs, which take 0.2 MB each.", at_least=1
    )
    frame_px: int = constants.FRAME_PX
    seed: int = 0
    inputs: tuple[str, ...] = (constants.FRAME, constants.LOG_SPECTROGRAM)
    labels: bool = False


def training_batches(
    shards: list[Shard], config: PipelineConfig, *, start_step: int = 0
) -> tf.data.Dataset:
    """Makes the endless stream of training batches.

    `start_step` batches are left out: a resumed run gets those that an unbroken one would have got.

    Returns:
        A dataset of {"corresponds": int32 [batch], "draws": float32 [batch, augment.NUM_DRAWS]}
        and, by `config.inputs`, "waveform": int16 [batch, 48000], "image": uint8 [batch, frame_px,
        frame_px, 3], "images": the same of 25 frames [batch, 25, ...], "flow": uint8 [batch,
        frame_px, frame_px, 20]; with `config.labels` "frame_label" and "audio_label": int32
        [batch]. To be finished by `prepare_batch`.

    Raises:
        UserError: if there are fewer than two videos, the batch size is odd, or the shards lack the
            flow that the network takes.
    """
    _check(shards, config)
    stored = schema.read_format(shards[0].path)
    check_pictures(shards, stored, config.inputs)
    rounds = _Rounds(shards, config, stored.audio_encoding)
    first_round, num_skipped = rounds.locate(start_step * config.batch_size)
    ratio = augment.jpeg_ratio(stored.smallest_side_px, config.frame_px)

    def decode(pair):
        return decode_pictures(pair, pair["draws"], frame_px=config.frame_px, ratio=ratio)

    pairs = tf.data.Dataset.counter(first_round).flat_map(rounds.pairs_of).skip(num_skipped)
    options = tf.data.Options()
    options.deterministic = True
    return (
        pairs.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(config.batch_size, drop_remainder=True)
        .map(lambda batch: _mix(batch, config.inputs), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def check_pictures(shards: list[Shard], stored: schema.Format, inputs: tuple[str, ...]) -> None:
    """Refuses shards without the pictures that the network takes.

    Raises:
        UserError: if flow is among the inputs and the shards hold none, or flow or many frames are
            and the shards hold another number of frames a second than the papers'.
    """
    folder = shards[0].path.parent
    if constants.FLOW in inputs and not stored.has_flow:
        raise UserError(
            f"{folder} holds no optical flow; prepare it with "
            "data_prep.write_shards --flow_smallest_side_px=256"
        )
    takes_many = {constants.FRAMES, constants.FLOW} & set(inputs)
    if takes_many and stored.frame_rate_hz != constants.FRAME_RATE_HZ:
        raise UserError(
            f"{folder} holds {stored.frame_rate_hz:g} frames a second; AVE+MF and AVE+OF need "
            f"{constants.FRAME_RATE_HZ}: prepare it without --fps"
        )


def decode_pictures(
    pair: dict[str, tf.Tensor], draws: tf.Tensor | None, *, frame_px: int, ratio: int
) -> dict[str, tf.Tensor]:
    """Decodes what a pair shows; see `augment.decode_and_crop`.

    Returns:
        The pair, with "image", "images" and "flow" (see `training_batches`) in place of "jpeg"
        string [], "jpegs" string [25] and "flow_jpegs" string [10].
    """
    pair = dict(pair)
    crop = functools.partial(augment.decode_and_crop, draws=draws, frame_px=frame_px, ratio=ratio)
    if "jpeg" in pair:
        pair["image"] = crop(pair.pop("jpeg"))
    if "jpegs" in pair:
        jpegs = tf.unstack(pair.pop("jpegs"), constants.NUM_FRAMES_MF)
        pair["images"] = tf.stack([crop(jpeg) for jpeg in jpegs])
    if "flow_jpegs" in pair:
        flows = tf.ensure_shape(pair.pop("flow_jpegs"), [constants.NUM_FLOW_FRAMES])
        pair["flow"] = augment.decode_and_crop_flow(flows, draws, frame_px=frame_px)
    return pair


def prepare_batch(
    batch: dict[str, tf.Tensor], *, spectrogram_settings: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """Finishes a batch: jitter, [-1, 1] range, log-spectrogram. Batched; runs on any device.

    Args:
        batch: from `training_batches`; without "draws" nothing is jittered (evaluation).
        spectrogram_settings: keyword arguments of `log_spectrogram`.

    Returns:
        The networks' inputs, as far as the batch has their source: {"frame": [batch, frame_px,
        frame_px, 3], "frames": [batch, 25, frame_px, frame_px, 3], "flow": [batch, frame_px,
        frame_px, 20], "log_spectrogram": [batch, bands, windows, 1]}, all float32.
    """
    inputs = {}
    draws = batch.get("draws")
    for source, name in (("image", constants.FRAME), ("images", constants.FRAMES)):
        if source in batch and draws is None:
            inputs[name] = augment.frame_to_float(batch[source])
        elif source in batch:
            inputs[name] = augment.jitter_frames(batch[source], draws)
    if "flow" in batch:
        inputs[constants.FLOW] = augment.flow_to_float(batch["flow"])
    if "waveform" in batch:
        waveform = tf.cast(batch["waveform"], tf.float32) * (1.0 / schema.INT16_SCALE)
        if draws is not None:
            waveform = augment.jitter_volume(waveform, draws)
        inputs[constants.LOG_SPECTROGRAM] = log_spectrogram(waveform, **spectrogram_settings)
    return inputs


class _Rounds:
    """The seeded order in which shards are read, and how many pairs that gives."""

    def __init__(self, shards: list[Shard], config: PipelineConfig, audio_encoding: str):
        self._config, self._audio_encoding = config, audio_encoding
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
        """Returns the round that holds a pair of the stream, and its position in that round."""
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
                lambda position, record: self._draw_pairs(round_index, position, record),
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

    def _draw_pairs(self, round_index, position, record) -> dict[str, tf.Tensor]:
        """Draws `pairs_per_clip` pairs of one clip, and their draws for augmentation."""
        clip = schema.decode_clip(
            record,
            audio_encoding=self._audio_encoding,
            with_flow=constants.FLOW in self._config.inputs,
            with_labels=self._config.labels,
        )
        seed = tf.stack([self._round_seed(round_index), position])
        num_pairs = self._config.pairs_per_clip
        width = avc_pairs.NUM_TIME_DRAWS + augment.NUM_DRAWS
        draws = tf.random.stateless_uniform([num_pairs, width], seed)
        index, matching, other = avc_pairs.draw_times(
            clip["frame_times_us"],
            tf.size(clip["waveform"]),
            draws[:, : avc_pairs.NUM_TIME_DRAWS],
            sampling=self._config.sampling,
            misalignment_seconds=self._config.misalignment_seconds,
            num_padding_frames=clip["num_padding_frames"],
        )
        media_id = tf.strings.to_hash_bucket_fast(clip["media_id"], 2**62)
        return {
            **self._pictures(clip, index),
            **self._labels(clip),
            "matching": _seconds_from(clip["waveform"], matching, num_pairs),
            "other": _seconds_from(clip["waveform"], other, num_pairs),
            "media_id": tf.fill([num_pairs], media_id),
            "draws": draws[:, avc_pairs.NUM_TIME_DRAWS :],
        }

    def _pictures(self, clip: dict[str, tf.Tensor], index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Picks the JPEGs that the network's inputs are made of."""

        def around(jpegs, count):
            padding = clip["num_padding_frames"]
            window = avc_pairs.frame_window(
                index, count, tf.size(jpegs), num_padding_frames=padding
            )
            return tf.gather(jpegs, window)

        pictures = {}
        if constants.FRAME in self._config.inputs:
            pictures["jpeg"] = tf.gather(clip["frames"], index)
        if constants.FRAMES in self._config.inputs:
            pictures["jpegs"] = around(clip["frames"], constants.NUM_FRAMES_MF)
        if constants.FLOW in self._config.inputs:
            pictures["flow_jpegs"] = around(clip["flows"], constants.NUM_FLOW_FRAMES)
        return pictures

    def _labels(self, clip: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the clip's label for each pair; of several labels the first (our choice)."""
        if not self._config.labels:
            return {}
        has_label = tf.debugging.assert_positive(
            tf.size(clip["label_indices"]), message="a clip of the shards has no label"
        )
        with tf.control_dependencies([has_label] if has_label is not None else []):
            label = tf.cast(clip["label_indices"][0], tf.int32)
        return {"label": tf.fill([self._config.pairs_per_clip], label)}


def _seconds_from(waveform: tf.Tensor, starts: tf.Tensor, count: int) -> tf.Tensor:
    """Cuts one second at each start: int16 [count, 48000]."""
    length = constants.AUDIO_SAMPLES
    return tf.stack([tf.slice(waveform, [starts[i]], [length]) for i in range(count)])


def _mix(batch: dict[str, tf.Tensor], inputs: tuple[str, ...]) -> dict[str, tf.Tensor]:
    corresponds, partner = avc_pairs.mix_pairs(
        batch["media_id"], batch["draws"][:, augment.PARTNER]
    )
    row = tf.range(tf.size(partner))
    is_match = corresponds == constants.CORRESPONDS
    kept = ("image", "images", "flow", "draws")
    mixed: dict[str, tf.Tensor] = {name: batch[name] for name in kept if name in batch}
    if "label" in batch:
        mixed[constants.FRAME_LABEL] = batch["label"]
        mixed[constants.AUDIO_LABEL] = tf.gather(batch["label"], tf.where(is_match, row, partner))
    if constants.LOG_SPECTROGRAM in inputs:
        sounds = tf.concat([batch["matching"], batch["other"]], axis=0)
        mixed["waveform"] = tf.gather(sounds, tf.where(is_match, row, tf.size(row) + partner))
    return {**mixed, constants.CORRESPONDS_KEY: corresponds}


def _check(shards: list[Shard], config: PipelineConfig) -> None:
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
