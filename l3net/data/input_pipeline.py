"""Shards to batches for training, as tf.data.

The cost of a pair: a clip is 250 JPEGs and 10 s of sound, a pair needs one and one. There are two
ways to pairs, by `PipelineConfig.pairs_per_clip`:

1, the papers' (a random video for each pair): each epoch is another order of all clips, drawn by
the seed, and a clip gives one pair. Of its record only what the pair shows is read
(`partial_records`), so neither order nor shuffling costs memory or reads, and training resumes at
any step by going there.

More, for disks that are slow at short reads: complete clips are read, several pairs are drawn of
each and shuffled (JPEG bytes and two seconds of 16-bit sound), so a batch holds fewer videos than
independent draws would. The stream is made of rounds: a round reads a group of shards once, in an
order shuffled again each epoch, and shuffles their pairs. How many pairs a round gives is known
beforehand, so training resumes by going to the step's round and skipping the few pairs before it,
undecoded: no buffer needs to be kept in a checkpoint. (A global TensorFlow seed enters this
shuffling, too: that is how TensorFlow seeds its ops.)

Either way only the crop of a frame is decoded, and the stream of pairs is a pure function of the
seed.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from l3net import constants
from l3net.data import augment, avc_pairs, schema
from l3net.data.partial_records import PartialRecords
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
    paired_negatives: int = setting(
        0,
        "Mismatches of every frame and of every sound of a batch, which make one match, too, and "
        "weigh as much together; a step then takes half as many clips. It leaves the plateau at 50 "
        "% much sooner and costs half as much. 0: every pair is drawn independently, as in the "
        "papers.",
        at_least=0,
    )
    pairs_per_clip: int = setting(
        1,
        "Pairs drawn each time a clip is read. 1: every pair is of another video, as if drawn at "
        "random from all clips (the papers), by short reads all over the shards. More: complete "
        "clips are read one after the other, for storage that is slow at short reads; a batch then "
        "holds fewer videos.",
        at_least=1,
    )
    shuffle_pairs: int = setting(
        2048,
        "Size of the shuffle buffer in pairs, which take 0.2 MB each; not used where "
        "--pairs_per_clip=1.",
        at_least=1,
    )
    frame_px: int = constants.FRAME_PX
    seed: int = 0
    inputs: tuple[str, ...] = (constants.FRAME, constants.LOG_SPECTROGRAM)
    labels: bool = False

    @property
    def clips_per_batch(self) -> int:
        """How many draws from clips make a batch: one for each pair, or for each two."""
        return self.batch_size // 2 if self.paired_negatives else self.batch_size


def training_batches(
    shards: list[Shard],
    config: PipelineConfig,
    *,
    start_step: int = 0,
    serializable: bool = False,
) -> tf.data.Dataset:
    """Makes the endless stream of training batches.

    `start_step` batches are left out: a resumed run gets those that an unbroken one would have got.
    `serializable`: its graph has no Python function, so that another process can run it.

    Returns:
        A dataset of {"corresponds": int32 [batch], "draws": float32 [batch, augment.NUM_DRAWS]}
        and, by `config.inputs`, "waveform": int16 [batch, 48000], "image": uint8 [batch, frame_px,
        frame_px, 3], "images": the same of 25 frames [batch, 25, ...], "flow": uint8 [batch,
        frame_px, frame_px, 20]; with `config.labels` "frame_label" and "audio_label": int32
        [batch]. To be finished by `prepare_batch`. With `config.paired_negatives` all have a row
        for each clip, [batch / 2, ...], but "corresponds", which has those of
        `avc_pairs.paired_targets`; in "naive" the seconds of all matches come first in "waveform",
        then those of all mismatches.

    Raises:
        UserError: if there are fewer than two videos, the batch size is odd, the shards lack the
            flow that the network takes, or what is to be serializable reads by Python functions.
    """
    _check(shards, config)
    if serializable:
        check_serializable(config)
    stored = schema.read_format(shards[0].path)
    check_pictures(shards, stored, config.inputs)
    way: _SinglePairs | _Rounds
    if config.pairs_per_clip == 1:
        way = _SinglePairs(shards, config, stored.audio_encoding)
    else:
        way = _Rounds(shards, config, stored.audio_encoding, serializable=serializable)
    pairs = way.pairs_from(start_step * config.clips_per_batch)
    ratio = augment.jpeg_ratio(stored.smallest_side_px, config.frame_px)

    def decode(pair):
        return decode_pictures(pair, pair["draws"], frame_px=config.frame_px, ratio=ratio)

    options = tf.data.Options()
    options.deterministic = True
    return (
        pairs.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(config.clips_per_batch, drop_remainder=True)
        .map(lambda batch: _mix(batch, config), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def check_serializable(config: PipelineConfig) -> None:
    """Raises UserError if the pairs are read by Python functions."""
    if config.pairs_per_clip == 1:
        raise UserError(
            "--pairs_per_clip=1 reads by Python functions, which no other process can run; give "
            "--data_service a larger one, such as --pairs_per_clip=8"
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
    if "jpeg" in pair:
        jpeg = pair.pop("jpeg")
        pair["image"] = augment.decode_and_crop(jpeg, draws, frame_px=frame_px, ratio=ratio)
    if "jpegs" in pair:
        jpegs = tf.ensure_shape(pair.pop("jpegs"), [constants.NUM_FRAMES_MF])
        pair["images"] = augment.decode_and_crop_frames(
            jpegs, draws, frame_px=frame_px, ratio=ratio
        )
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
            times = tf.shape(waveform)[0] // tf.shape(draws)[0]
            waveform = augment.jitter_volume(waveform, tf.tile(draws, [times, 1]))
        inputs[constants.LOG_SPECTROGRAM] = log_spectrogram(waveform, **spectrogram_settings)
    return inputs


@dataclasses.dataclass(frozen=True)
class _Clip:
    """A clip inside a graph, read or to be read.

    Attributes:
        facts: "media_id" string [], "frame_times_us" int64 [num_frames], "num_samples" and
            "num_padding_frames" int64 [], with labels "label" int32 [] (-1: the clip has none).
        jpegs: "frames" or "flows", int32 index of any shape -> that many JPEGs.
        seconds: int32 [count] -> int16 [count, 48000], the seconds of sound from these samples on.
    """

    facts: dict[str, tf.Tensor]
    jpegs: Callable[[str, tf.Tensor], tf.Tensor]
    seconds: Callable[[tf.Tensor], tf.Tensor]


class _SinglePairs:
    """One pair of each clip, in a seeded order of all clips, another one each epoch."""

    def __init__(self, shards: list[Shard], config: PipelineConfig, audio_encoding: str):
        self._config = config
        self._records = PartialRecords(shards, audio_encoding)

    def pairs_from(self, num_pairs: int) -> tf.data.Dataset:
        """Returns the stream without its first pairs."""
        return tf.data.Dataset.counter(num_pairs).map(
            self._draw_pair, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def _draw_pair(self, position: tf.Tensor) -> dict[str, tf.Tensor]:
        num_clips = self._records.num_clips
        seed = tf.constant(self._config.seed, tf.int64)
        number = tf.random.experimental.index_shuffle(
            position % num_clips, tf.stack([seed, position // num_clips]), num_clips - 1
        )
        clip = self._clip(number)
        pairs = _draw_pairs(clip, self._config, tf.stack([seed, position]), 1)
        return {name: value[0] for name, value in pairs.items()}

    def _clip(self, number: tf.Tensor) -> _Clip:
        def facts(number):
            known = self._records.facts(number)
            numbers = [known.num_samples, known.num_padding_frames, known.label]
            return known.media_id.encode(), known.frame_times_us, np.array(numbers, np.int64)

        def jpegs(field, index):
            def read(number, index):
                return self._records.jpegs(number, field, index)

            jpegs = tf.numpy_function(read, [number, index], tf.string, stateful=False)
            return tf.ensure_shape(jpegs, index.shape)

        def seconds(starts):
            read = self._records.seconds
            sound = tf.numpy_function(read, [number, starts], tf.int16, stateful=False)
            return tf.ensure_shape(sound, [*starts.shape, constants.AUDIO_SAMPLES])

        types = [tf.string, tf.int32, tf.int64]
        media_id, times, numbers = tf.numpy_function(facts, [number], types, stateful=False)
        numbers = tf.ensure_shape(numbers, [3])
        described = {
            "media_id": tf.ensure_shape(media_id, []),
            "frame_times_us": tf.cast(tf.ensure_shape(times, [None]), tf.int64),
            "num_samples": numbers[0],
            "num_padding_frames": numbers[1],
            "label": tf.cast(numbers[2], tf.int32),
        }
        return _Clip(described, jpegs, seconds)


class _Rounds:
    """Several pairs of each clip: the seeded order in which shards are read, and shuffled pairs."""

    def __init__(
        self,
        shards: list[Shard],
        config: PipelineConfig,
        audio_encoding: str,
        *,
        serializable: bool,
    ):
        self._config, self._audio_encoding = config, audio_encoding
        self._serializable = serializable
        self._paths = tf.constant([_complete_path(shard) for shard in shards])
        self._num_clips = tf.constant([shard.num_clips for shard in shards], tf.int64)
        clips_per_shard = sum(shard.num_clips for shard in shards) / len(shards)
        clips_per_round = _SHUFFLE_BUFFERS_PER_ROUND * config.shuffle_pairs / config.pairs_per_clip
        self._group = max(1, min(len(shards), round(clips_per_round / clips_per_shard)))
        self._rounds_per_epoch = -(-len(shards) // self._group)

    def pairs_from(self, num_pairs: int) -> tf.data.Dataset:
        """Returns the stream without its first pairs."""
        first_round, num_skipped = self._locate(num_pairs)
        return tf.data.Dataset.counter(first_round).flat_map(self._pairs_of).skip(num_skipped)

    def _shards_of(self, round_index: tf.Tensor, per_shard: tf.Tensor) -> tf.Tensor:
        """Picks a round's entries from a tensor with one entry per shard."""
        epoch, group = round_index // self._rounds_per_epoch, round_index % self._rounds_per_epoch
        seed = tf.stack([tf.cast(self._config.seed, tf.int64), epoch])
        shuffled = tf.random.experimental.stateless_shuffle(per_shard, seed)
        return shuffled[group * self._group : (group + 1) * self._group]

    def _locate(self, num_pairs: int) -> tuple[int, int]:
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

    def _pairs_of(self, round_index: tf.Tensor) -> tf.data.Dataset:
        """Draws and shuffles the pairs of one round."""
        files = tf.data.Dataset.from_tensor_slices(self._shards_of(round_index, self._paths))
        records = files.interleave(
            tf.data.TFRecordDataset,
            cycle_length=_SHARDS_READ_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        round_seed = round_index + self._config.seed * 1_000_003

        def draw(position, record):
            seed = tf.stack([round_seed, position])
            return _draw_pairs(self._clip(record), self._config, seed, self._config.pairs_per_clip)

        return (
            records.enumerate()
            .map(draw, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .unbatch()
            .shuffle(self._config.shuffle_pairs, seed=round_seed, reshuffle_each_iteration=False)
        )

    def _clip(self, record: tf.Tensor) -> _Clip:
        clip = schema.decode_clip(
            record,
            audio_encoding=self._audio_encoding,
            with_flow=constants.FLOW in self._config.inputs,
            with_labels=self._config.labels,
            serializable=self._serializable,
        )
        facts = {
            "num_samples": tf.size(clip["waveform"]),
            **{key: clip[key] for key in ("media_id", "frame_times_us", "num_padding_frames")},
        }
        if self._config.labels:
            facts["label"] = tf.cast(tf.concat([clip["label_indices"], [-1]], 0)[0], tf.int32)
        return _Clip(
            facts,
            lambda field, index: tf.gather(clip[field], index),
            functools.partial(_seconds_from, clip["waveform"]),
        )


def _complete_path(shard: Shard) -> str:
    """Returns a shard's path as a process in another folder needs it, or its address."""
    path = shard.path
    return str(path.absolute() if isinstance(path, pathlib.Path) else path)


def _draw_pairs(
    clip: _Clip, config: PipelineConfig, seed: tf.Tensor, num_pairs: int
) -> dict[str, tf.Tensor]:
    """Draws pairs of one clip, and their draws for augmentation."""
    width = avc_pairs.NUM_TIME_DRAWS + augment.NUM_DRAWS
    draws = tf.random.stateless_uniform([num_pairs, width], seed)
    index, matching, other = avc_pairs.draw_times(
        clip.facts["frame_times_us"],
        clip.facts["num_samples"],
        draws[:, : avc_pairs.NUM_TIME_DRAWS],
        sampling=config.sampling,
        misalignment_seconds=config.misalignment_seconds,
        num_padding_frames=clip.facts["num_padding_frames"],
    )
    media_id = tf.strings.to_hash_bucket_fast(clip.facts["media_id"], 2**62)
    pairs = {
        **_pictures(clip, index, config.inputs),
        "media_id": tf.fill([num_pairs], media_id),
        "draws": draws[:, avc_pairs.NUM_TIME_DRAWS :],
    }
    if constants.LOG_SPECTROGRAM in config.inputs:
        one_second = config.paired_negatives and config.sampling != avc_pairs.NAIVE
        starts = [matching] if one_second else [matching, other]
        pairs["sounds"] = tf.stack(tf.split(clip.seconds(tf.concat(starts, 0)), len(starts)), 1)
    if config.labels:
        pairs["label"] = tf.fill([num_pairs], _label(clip))
    return pairs


def _pictures(clip: _Clip, index: tf.Tensor, inputs: tuple[str, ...]) -> dict[str, tf.Tensor]:
    """Picks the JPEGs that the network's inputs are made of."""
    num_frames = tf.size(clip.facts["frame_times_us"])

    def around(field, count, num_pictures):
        padding = clip.facts["num_padding_frames"]
        window = avc_pairs.frame_window(index, count, num_pictures, num_padding_frames=padding)
        return clip.jpegs(field, window)

    pictures = {}
    if constants.FRAME in inputs:
        pictures["jpeg"] = clip.jpegs("frames", index)
    if constants.FRAMES in inputs:
        pictures["jpegs"] = around("frames", constants.NUM_FRAMES_MF, num_frames)
    if constants.FLOW in inputs:
        pictures["flow_jpegs"] = around("flows", constants.NUM_FLOW_FRAMES, num_frames - 1)
    return pictures


def _label(clip: _Clip) -> tf.Tensor:
    """Returns the clip's label: int32 []; of several labels the first (our choice)."""
    label = clip.facts["label"]
    has_label = tf.debugging.assert_non_negative(label, message="a clip of the shards has no label")
    with tf.control_dependencies([has_label] if has_label is not None else []):
        return tf.identity(label)


def _seconds_from(waveform: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """Cuts one second at each start: int16 [len(starts), 48000]."""
    length = constants.AUDIO_SAMPLES
    return tf.stack([tf.slice(waveform, [start], [length]) for start in tf.unstack(starts)])


def _mix(batch: dict[str, tf.Tensor], config: PipelineConfig) -> dict[str, tf.Tensor]:
    """Puts frames and sounds together: matches and mismatches."""
    kept = ("image", "images", "flow", "draws")
    mixed = {name: value for name, value in batch.items() if name in kept}
    if config.paired_negatives:
        return {**mixed, **_pair_up(batch, config)}
    corresponds, partner = avc_pairs.mix_pairs(
        batch["media_id"], batch["draws"][:, augment.PARTNER]
    )
    is_match = corresponds == constants.CORRESPONDS
    if "label" in batch:
        mixed[constants.FRAME_LABEL] = batch["label"]
        mixed[constants.AUDIO_LABEL] = tf.where(
            is_match, batch["label"], tf.gather(batch["label"], partner)
        )
    if "sounds" in batch:
        matching, other = tf.unstack(batch["sounds"], axis=1)
        mixed["waveform"] = tf.where(is_match[:, tf.newaxis], matching, tf.gather(other, partner))
    return {**mixed, constants.CORRESPONDS_KEY: corresponds}


def _pair_up(batch: dict[str, tf.Tensor], config: PipelineConfig) -> dict[str, tf.Tensor]:
    """Makes a match and mismatches of every clip.

    All get the same second of its sound, which the network then sees once. Not so in "naive", whose
    mismatches have a second of their own.
    """
    targets = avc_pairs.paired_targets(batch["media_id"], config.paired_negatives)
    sounds = tf.unstack(batch["sounds"], axis=1)
    return {"waveform": tf.concat(sounds, axis=0), constants.CORRESPONDS_KEY: targets}


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
    if config.paired_negatives and config.labels:
        raise UserError(
            f"--paired_negatives={config.paired_negatives} is for networks that learn from pairs, "
            "and this one learns labels: give --paired_negatives=0"
        )
    if config.sampling not in avc_pairs.SAMPLINGS:
        raise UserError(
            f"--sampling={config.sampling}: need one of {', '.join(avc_pairs.SAMPLINGS)}"
        )
