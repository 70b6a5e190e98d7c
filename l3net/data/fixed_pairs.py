"""Evaluation pairs: drawn once by seed, kept in a file, so that accuracies can be compared.

The file is a TFRecord of small `tf.train.Example`s, one pair each, with the frame (or 25 frames,
or flow frames) as JPEG and the second of sound as 16-bit PCM. It is in the prepared folder under
fixed_pairs/, named after everything it depends on, and made when first needed. Every clip gives as
many pairs as any other (but for a remainder); half of them are positives, half negatives (L3 §3.2).
They are in the order in which the clips that they need were read.
"""

import collections
import contextlib
import logging
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from l3net import constants
from l3net.data import augment, avc_pairs, damage, input_pipeline, schema
from l3net.data.sequence_example import BYTES, INTS, pack
from l3net.data.shards import content_digest, find_shards, read_clips
from l3net.data.storage import Location, locate, written_whole
from l3net.errors import UserError
from l3net.progress import Progress, progress

_log = logging.getLogger(__name__)
FOLDER = "fixed_pairs"
MIN_PAIRS = 10_000  # our choice: an accuracy's standard error is then below half a point
# A pair's numbers, besides what is seen and heard.
NUMBERS = (constants.CORRESPONDS_KEY, constants.FRAME_LABEL, constants.AUDIO_LABEL)
_FRAME, _FLOW, _WAVEFORM = "frame", "flow", "waveform"
_FRAME_ID, _FRAME_TIME_US = "frame/example_id", "frame/time_us"
_AUDIO_ID, _AUDIO_START = "waveform/example_id", "waveform/start_sample"
# The clips that a pair is of, by id, if asked for.
FRAME_CLIP, AUDIO_CLIP = "frame_clip", "audio_clip"


def fixed_pairs(
    folder: str | Location,
    split: str,
    *,
    num_pairs: int,
    sampling: str,
    misalignment_seconds: float = 0.0,
    inputs: tuple[str, ...] = (constants.FRAME, constants.LOG_SPECTROGRAM),
    seed: int = 0,
) -> Location:
    """Returns the file of a split's fixed pairs; makes it if it does not exist.

    Which pairs are drawn depends on the clips, the sampling and the seed, not on the inputs: all
    networks see the same pairs.

    Args:
        folder: a prepared folder, where the file is kept; perhaps an address (`storage.locate`).
        split: such as "val".
        num_pairs: even; see `balanced_num_pairs`. While the file is made, negatives of which one
            half was read wait in memory: 12 kB of sound per pair in all, and the frames' JPEGs.
        sampling: how frame and second are drawn, see `avc_pairs`.
        misalignment_seconds: largest random shift of the sound under "ots". That is an augmentation
            in OTS §3.3, so evaluation pairs have none by default (our choice).
        inputs: those of the network; they decide what is kept: one frame, 25 frames, flow.
        seed: decides the draw.

    Raises:
        UserError: if num_pairs is odd, or the split holds fewer than two videos or no flow for a
            network that takes it, or nothing can be written at the address.
    """
    shards = find_shards(folder, split)
    num_videos = len({media_id for shard in shards for media_id in shard.media_ids})
    if num_pairs < 2 or num_pairs % 2 or num_videos < 2:
        raise UserError(
            f"got {num_pairs} evaluation pairs over {num_videos} video(s) of split {split!r}; "
            "need an even number of pairs and at least 2 videos"
        )
    kept = "".join(f"-{name}" for name in (constants.FRAMES, constants.FLOW) if name in inputs)
    digest = content_digest(shards)
    shift = f"-shift{misalignment_seconds:g}s" if sampling == "ots" else ""
    name = f"{split}-{sampling}{shift}-{num_pairs}-seed{seed}{kept}-{digest}.tfrecord"
    path = locate(folder) / FOLDER / name
    if not _is_complete(path, num_pairs):
        how = {"sampling": sampling, "misalignment_seconds": misalignment_seconds}
        _write(path, shards, num_pairs, how, inputs, seed)
    return path


def _is_complete(path: Location, num_pairs: int) -> bool:
    if not path.exists():
        return False
    with contextlib.suppress(ValueError, OSError):
        if damage.num_records(path) == num_pairs:
            return True
    _log.warning("%s is damaged; it is made again", path)
    return False


def balanced_num_pairs(folder: str | Location, split: str) -> int:
    """Returns how many pairs are at least MIN_PAIRS and as many of every clip (our choice).

    Each clip is once a positive and once a negative per turn: 1,000 clips give 10,000 pairs, 126
    give 10,080, 50,000 give 100,000.
    """
    per_turn = 2 * sum(shard.num_clips for shard in find_shards(folder, split))
    return per_turn * -(-MIN_PAIRS // max(per_turn, 1))


def read_pairs(
    path: Location,
    *,
    batch_size: int,
    frame_px: int,
    inputs: tuple[str, ...] = (constants.FRAME, constants.LOG_SPECTROGRAM),
    with_clips: bool = False,
) -> tf.data.Dataset:
    """Reads fixed pairs, each exactly once; the last batch may be smaller.

    Returns:
        A dataset of what `input_pipeline.training_batches` gives, without "draws": the frames are
        centre crops (our choice). The labels are -1 where a clip has none. With `with_clips` also
        FRAME_CLIP and AUDIO_CLIP, string [batch]: the ids of the clips.
    """
    first = next(iter(tf.data.TFRecordDataset(str(path)).take(1)))
    jpeg = _parse(first)[_FRAME][0]
    smallest_side_px = int(tf.reduce_min(tf.io.extract_jpeg_shape(jpeg)[:2]))
    ratio = augment.jpeg_ratio(smallest_side_px, frame_px)

    def decode(record):
        stored = _parse(record)
        pair = {name: tf.cast(stored[name], tf.int32) for name in NUMBERS}
        if constants.FRAME in inputs:
            pair["jpeg"] = stored[_FRAME][tf.size(stored[_FRAME]) // 2]
        if constants.FRAMES in inputs:
            pair["jpegs"] = stored[_FRAME]
        if constants.FLOW in inputs:
            pair["flow_jpegs"] = stored[_FLOW]
        if constants.LOG_SPECTROGRAM in inputs:
            waveform = tf.io.decode_raw(stored[_WAVEFORM], tf.int16)
            pair["waveform"] = tf.ensure_shape(waveform, [constants.AUDIO_SAMPLES])
        if with_clips:
            pair |= {FRAME_CLIP: stored[_FRAME_ID], AUDIO_CLIP: stored[_AUDIO_ID]}
        return input_pipeline.decode_pictures(pair, None, frame_px=frame_px, ratio=ratio)

    records = tf.data.TFRecordDataset(str(path))
    return records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)


def _parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
    strings = tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
    string = tf.io.FixedLenFeature([], tf.string)
    features = {_FRAME: strings, _FLOW: strings}
    features |= dict.fromkeys((_WAVEFORM, _FRAME_ID, _AUDIO_ID), string)
    numbers = {name: tf.io.FixedLenFeature([], tf.int64, default_value=-1) for name in NUMBERS}
    return tf.io.parse_single_example(record, features | numbers)


def draw_pairs(clips: list[dict], num_pairs: int, how: dict, seed: int) -> list[dict]:
    """Draws fixed pairs of clips (see `_description`), positives and negatives in turn.

    `how` is what `avc_pairs.draw_times` takes: "sampling" and "misalignment_seconds".

    Returns:
        For each pair "frame_clip", "audio_clip" (indices of `clips`), "frame_index",
        "start_sample", "corresponds".
    """
    rng = np.random.default_rng(seed)
    num_turns = -(-num_pairs // (2 * len(clips)))
    order = np.concatenate([rng.permutation(len(clips)) for _ in range(num_turns)])
    pairs = []
    for clip in order[: num_pairs // 2]:
        index, matching, _ = _draw_times(clips[clip], how, rng)
        pairs.append(_pair(clip, clip, index, matching))
        index, _, _ = _draw_times(clips[clip], how, rng)
        other = _other_video(clips, clip, rng)
        _, _, start = _draw_times(clips[other], how, rng)
        pairs.append(_pair(clip, other, index, start))
    return pairs


def _pair(frame_clip: int, audio_clip: int, frame_index: int, start_sample: int) -> dict:
    return {
        "frame_clip": int(frame_clip),
        "audio_clip": int(audio_clip),
        "frame_index": frame_index,
        "start_sample": start_sample,
        "corresponds": int(frame_clip == audio_clip),
    }


def _draw_times(clip: dict, how: dict, rng: np.random.Generator) -> tuple[int, int, int]:
    draws = rng.random((1, avc_pairs.NUM_TIME_DRAWS), np.float32)
    index, matching, other = avc_pairs.draw_times(
        tf.constant(clip["frame_times_us"], tf.int64),
        clip["num_samples"],
        tf.constant(draws),
        num_padding_frames=clip["num_padding_frames"],
        **how,
    )
    return int(index[0]), int(matching[0]), int(other[0])


def _other_video(clips: list[dict], clip: int, rng: np.random.Generator) -> int:
    while True:
        other = int(rng.integers(len(clips)))
        if clips[other]["media_id"] != clips[clip]["media_id"]:
            return other


def _write(path: Location, shards, num_pairs, how, inputs, seed) -> None:
    """Reads the shards twice: for what draws the pairs, then for their frames and sounds."""
    input_pipeline.check_pictures(shards, schema.read_format(shards[0].path), inputs)
    total = 2 * sum(shard.num_clips for shard in shards)
    with progress(f"drawing {num_pairs} fixed pairs", unit="clip", total=total) as shown:
        clips = []
        for clip in read_clips(shards):
            clips.append(_description(clip))
            shown.advance()
        pairs = draw_pairs(clips, num_pairs, how, seed)
        with written_whole(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
            for pair, pictures, sound in _cut(shards, pairs, inputs, shown):
                writer.write(_encode(pair, clips, pictures, sound))


def _description(clip: schema.Clip) -> dict:
    return {
        "example_id": clip.example_id,
        "media_id": clip.media_id,
        "frame_times_us": [time - clip.start_us for time in clip.timestamps_us],
        "num_samples": len(clip.waveform),
        "num_padding_frames": clip.num_padding_frames,
        "label": clip.label_indices[0] if clip.label_indices else -1,
    }


def _cut(
    shards, pairs: list[dict], inputs, shown: Progress
) -> Iterator[tuple[dict, dict[str, list[bytes]], bytes]]:
    """Cuts every pair's JPEGs and second of sound out of the clips, in one pass.

    A pair comes when both its halves were read: the first half of a negative waits in memory, which
    at any time is true of half the negatives at most.
    """
    pictures_of, sounds_of = collections.defaultdict(list), collections.defaultdict(list)
    for number, pair in enumerate(pairs):
        pictures_of[pair["frame_clip"]].append(number)
        sounds_of[pair["audio_clip"]].append(number)
    pictures: dict[int, dict[str, list[bytes]]] = {}
    sounds: dict[int, bytes] = {}
    for position, clip in enumerate(read_clips(shards)):
        for number in sorted({*pictures_of[position], *sounds_of[position]}):
            pair = pairs[number]
            if pair["frame_clip"] == position:
                pictures[number] = _pictures(clip, pair["frame_index"], inputs)
            if pair["audio_clip"] == position:
                start = pair["start_sample"]
                second = clip.waveform[start : start + constants.AUDIO_SAMPLES]
                sounds[number] = second.astype("<i2").tobytes()
            if number in pictures and number in sounds:
                yield pair, pictures.pop(number), sounds.pop(number)
        shown.advance()


def _pictures(clip: schema.Clip, frame_index: int, inputs) -> dict[str, list[bytes]]:
    """Picks a pair's JPEGs: its frame, or the frames around it, and its flow frames."""

    def around(items: tuple[bytes, ...], count: int) -> list[bytes]:
        window = avc_pairs.frame_window(
            tf.constant([frame_index]),
            count,
            len(items),
            num_padding_frames=clip.num_padding_frames,
        )
        return [items[index] for index in window[0].numpy()]

    frames = [clip.frames[frame_index]]
    if constants.FRAMES in inputs:
        frames = around(clip.frames, constants.NUM_FRAMES_MF)
    flows = around(clip.flows, constants.NUM_FLOW_FRAMES) if constants.FLOW in inputs else []
    return {_FRAME: frames, _FLOW: flows}


def _encode(pair: dict, clips: list[dict], pictures: dict[str, list[bytes]], sound: bytes) -> bytes:
    frame_clip, audio_clip = clips[pair["frame_clip"]], clips[pair["audio_clip"]]
    feature = {
        _FRAME: pack(BYTES, pictures[_FRAME]),
        _FLOW: pack(BYTES, pictures[_FLOW]),
        _WAVEFORM: pack(BYTES, [sound]),
        constants.CORRESPONDS_KEY: pack(INTS, [pair["corresponds"]]),
        constants.FRAME_LABEL: pack(INTS, [frame_clip["label"]]),
        constants.AUDIO_LABEL: pack(INTS, [audio_clip["label"]]),
        _FRAME_ID: pack(BYTES, [frame_clip["example_id"]]),
        _FRAME_TIME_US: pack(INTS, [frame_clip["frame_times_us"][pair["frame_index"]]]),
        _AUDIO_ID: pack(BYTES, [audio_clip["example_id"]]),
        _AUDIO_START: pack(INTS, [pair["start_sample"]]),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)
