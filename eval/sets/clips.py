"""Frames and seconds of sound of prepared clips, and the features that networks give them.

From each clip a frame is drawn at random, with the 1 s of sound around it (OTS §3.1: "a single
frame and surrounding 1 s of audio are sampled randomly from each test video"). What is drawn
depends on the seed and the clip's id alone: every network, and every folder in which the same clip
was prepared (with optical flow or without), gives the same items.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from eval.reporting import cache, synthetic
from eval.sets import clip_labels
from l3net import constants
from l3net.data import augment, avc_pairs, input_pipeline, schema
from l3net.data.shards import Shard, content_digest, find_shards, read_clips
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.progress import progress

BLOCK_ITEMS = 64  # read, and kept in the cache, together
_BATCH_SIZE = 32
_SAMPLING = "naive"  # as avc_pairs names it: the second of sound is centred on the frame
# Part of every cache key: raise it when the steps from a clip to a network's inputs change.
PROTOCOL = "clips v1"


class Network(Protocol):
    """A network that has features: `saved_model.SavedModel` or `vgg16.Vgg16`."""

    metadata: dict[str, Any]
    frame_px: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it takes, by constants."""

    def features(self, signature: str, output: str) -> Callable[[Any], np.ndarray]:
        """Returns one output as a function; see `saved_model.SavedModel.features`."""


@dataclasses.dataclass(frozen=True)
class Items:
    """N frames of clips, each with its second of sound.

    Images are the centre crop that the networks were trained for (224/256 of the smallest side).
    The frame is at the middle of its sound; nearer to the clip's ends only where no frame has half
    a second on both sides.
    """

    example_ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]  # none, one or several of each clip
    times_seconds: np.ndarray  # float64 [N], the frames' times from the clip's start
    frame_indices: np.ndarray  # int64 [N], within the clip
    images: np.ndarray  # uint8 [N, frame_px, frame_px, 3]
    waveforms: np.ndarray  # float32 [N, 48000] in [-1, 1]
    frames: np.ndarray | None = None  # uint8 [N, 25, frame_px, frame_px, 3], around the frame
    flow: np.ndarray | None = None  # float32 [N, frame_px, frame_px, 20] in [-1, 1]

    def __len__(self) -> int:
        return len(self.example_ids)

    def part(self, rows: slice) -> "Items":
        """Returns some of the items, without copying what is seen and heard."""
        some: Any = {k: None if v is None else v[rows] for k, v in vars(self).items()}
        return Items(**some)


# --- Reading -------------------------------------------------------------------------------------
def folder_for(model: Network, shards: str, flow_shards: str | None) -> str:
    """Returns which of two prepared folders of the same clips a network takes.

    Raises:
        UserError: if the network takes flow and there is no folder with flow.
    """
    if constants.FLOW not in model.inputs:
        return shards
    if flow_shards is None:
        raise UserError("a network takes optical flow; give --flow_shards")
    return flow_shards


def nonempty_shards(folder: str | pathlib.Path, split: str) -> list[Shard]:
    """Returns the shards of a split; see `find_shards`.

    Raises:
        UserError: if there is no such split, or it has no clips.
    """
    shards = find_shards(folder, split)
    if not shards:
        raise UserError(f"split {split!r} of {folder} has no clips")
    return shards


def data_name(folder: str | pathlib.Path, split: str) -> str:
    """Returns how a row or a title names a prepared folder; see `synthetic.display_name`."""
    return synthetic.display_name(nonempty_shards(folder, split)[0].dataset_name)


def read_blocks(
    folder: str | pathlib.Path,
    split: str,
    *,
    frame_px: int,
    seed: int,
    num_per_clip: int = 1,
    inputs: Sequence[str] = (constants.FRAME, constants.LOG_SPECTROGRAM),
    max_clips: int | None = None,
) -> Iterator[Items]:
    """Draws frames with their seconds of sound from every clip of a split, in blocks.

    An item of 224x224 takes 0.35 MB (25 frames 3.8 MB more, flow 4 MB).

    Args:
        folder: prepared shards.
        split: such as "test".
        frame_px: height and width of the frames.
        seed: what the draw depends on.
        num_per_clip: frames per clip, drawn one by one.
        inputs: what the network takes; FRAMES and FLOW of constants are read only if named here.
        max_clips: ends after so many clips; the preparation has spread them over the shards at
            random.

    Yields:
        Up to BLOCK_ITEMS items, clip by clip in the order of the shards.

    Raises:
        UserError: if the folder lacks the split, or flow that is wanted, or a clip is too short.
    """
    shards = nonempty_shards(folder, split)
    stored = schema.read_format(shards[0].path)
    input_pipeline.check_pictures(shards, stored, tuple(inputs))
    decode = _decoder(frame_px, augment.jpeg_ratio(stored.smallest_side_px, frame_px))
    num_clips = sum(shard.num_clips for shard in shards)
    num_clips = num_clips if max_clips is None else min(num_clips, max_clips)
    waiting: list[dict[str, Any]] = []
    with progress(f"reading split {split}", unit="clip", total=num_clips) as shown:
        for _, clip in zip(range(num_clips), read_clips(shards), strict=False):
            waiting += _cut(clip, seed, num_per_clip, inputs)
            while len(waiting) >= BLOCK_ITEMS:
                yield _stacked(waiting[:BLOCK_ITEMS], decode)
                waiting = waiting[BLOCK_ITEMS:]
            shown.advance()
    if waiting:
        yield _stacked(waiting, decode)


def _cut(
    clip: schema.Clip, seed: int, num_per_clip: int, inputs: Sequence[str]
) -> list[dict[str, Any]]:
    """Draws items from a clip; their pictures stay JPEG."""
    if len(clip.waveform) < constants.AUDIO_SAMPLES:
        seconds = len(clip.waveform) / constants.SAMPLE_RATE_HZ
        raise UserError(f"clip {clip.example_id} has {seconds:.2f} s of sound; need 1 s or more")
    own = hashlib.sha256(clip.example_id.encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(own[:8], "little")])
    times_us = np.array(clip.timestamps_us) - clip.start_us
    index, starts, _ = avc_pairs.draw_times(
        tf.constant(times_us, tf.int64),
        len(clip.waveform),
        tf.constant(rng.random((num_per_clip, avc_pairs.NUM_TIME_DRAWS), np.float32)),
        sampling=_SAMPLING,
        num_padding_frames=clip.num_padding_frames,
    )
    return [
        {
            "example_id": clip.example_id,
            "labels": clip.labels,
            "time_seconds": times_us[frame] / constants.MICROSECONDS,
            "frame_index": frame,
            "waveform": clip.waveform[start : start + constants.AUDIO_SAMPLES],
            "pictures": _pictures(clip, frame, inputs),
        }
        for frame, start in zip(index.numpy(), starts.numpy(), strict=True)
    ]


def _pictures(clip: schema.Clip, frame: int, inputs: Sequence[str]) -> dict[str, Any]:
    """Picks the JPEGs that `input_pipeline.decode_pictures` takes."""

    def around(pictures: Sequence[bytes], count: int) -> list[bytes]:
        padding = clip.num_padding_frames
        window = avc_pairs.frame_window(
            tf.constant([frame]), count, len(pictures), num_padding_frames=padding
        )
        return [pictures[index] for index in window[0].numpy()]

    picked: dict[str, Any] = {"jpeg": clip.frames[frame]}
    if constants.FRAMES in inputs:
        picked["jpegs"] = around(clip.frames, constants.NUM_FRAMES_MF)
    if constants.FLOW in inputs:
        picked["flow_jpegs"] = around(clip.flows, constants.NUM_FLOW_FRAMES)
    return picked


def _decoder(frame_px: int, ratio: int) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Returns a function that decodes the pictures of one item, centre crop."""
    return tf.function(
        lambda pair: input_pipeline.decode_pictures(pair, None, frame_px=frame_px, ratio=ratio)
    )


def _stacked(cut: list[dict[str, Any]], decode: Callable) -> Items:
    pictures = [
        decode({name: tf.constant(jpegs) for name, jpegs in item["pictures"].items()})
        for item in cut
    ]
    stacked = {name: np.stack([one[name].numpy() for one in pictures]) for name in pictures[0]}
    flow = stacked.get("flow")
    levels = np.stack([item["waveform"] for item in cut]).astype(np.float32)
    return Items(
        example_ids=tuple(item["example_id"] for item in cut),
        labels=tuple(item["labels"] for item in cut),
        times_seconds=np.array([item["time_seconds"] for item in cut], np.float64),
        frame_indices=np.array([item["frame_index"] for item in cut], np.int64),
        images=stacked["image"],
        waveforms=levels / np.float32(schema.INT16_SCALE),
        frames=stacked.get("images"),
        flow=None if flow is None else augment.flow_to_float(flow).numpy(),
    )


def read_truth(path: str | pathlib.Path) -> dict[str, dict[str, str]]:
    """Reads the classes that are seen and heard in clips, where the shards' labels are loose.

    Args:
        path: CSV with columns example_id, label (the class that is seen) and heard_label.

    Returns:
        `saved_model.VISION` or `AUDIO` -> example id -> class.
    """
    columns = {saved_model.VISION: "label", saved_model.AUDIO: "heard_label"}
    return {name: clip_labels.read_labels(path, column) for name, column in columns.items()}


# --- Features ------------------------------------------------------------------------------------
def embed(
    model: Network, items: Items, signature: str, output: str, *, cache_dir: str | pathlib.Path
) -> np.ndarray:
    """Returns one output of a network for a block of items, computed if it is not yet on disk.

    Args:
        model: the network.
        items: read with the model's own `frame_px` and `inputs`.
        signature: `saved_model.VISION` or `AUDIO`.
        output: such as "pool4" or "embedding", D numbers.
        cache_dir: folder of the cache.

    Returns:
        float32 [N, D].

    Raises:
        UserError: if the network has no such output, or gives numbers that are not finite.
    """
    given = _given(model, items, signature)
    key = cache.key_of(
        PROTOCOL, model.metadata, signature, output,
        {name: cache.hash_array(array) for name, array in given.items()},
    )  # fmt: skip
    folder = pathlib.Path(cache_dir) / "features"
    kept = cache.read_array(folder, key)
    if kept is not None:
        return np.array(kept)
    run = model.features(signature, output)
    outputs = []
    for start in range(0, len(items), _BATCH_SIZE):
        batch = {name: array[start : start + _BATCH_SIZE] for name, array in given.items()}
        outputs.append(run(next(iter(batch.values())) if len(batch) == 1 else batch))
    values = np.concatenate(outputs)
    if not np.isfinite(values).all():
        raise UserError(f"{output} of {signature} is not finite; did the training diverge?")
    cache.write_array(folder, key, values)
    return values


def _given(model: Network, items: Items, signature: str) -> dict[str, np.ndarray]:
    """Returns the items' arrays that a signature takes, by its inputs' names."""
    if signature == saved_model.AUDIO:
        return {saved_model.WAVEFORM: items.waveforms}
    sources: dict[str, tuple[str, Any]] = {
        constants.FRAME: (saved_model.IMAGE, items.images),
        constants.FRAMES: (saved_model.IMAGES, items.frames),
        constants.FLOW: (saved_model.FLOW, items.flow),
    }
    return dict(sources[name] for name in model.inputs if name in sources)


@dataclasses.dataclass(frozen=True)
class ClipFeatures:
    """Features of the N items of a split, in the order of the clips' ids."""

    example_ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    features: Mapping[str, np.ndarray]  # signature -> float32 [N, D]
    digest: str  # short hash of the shards' content


def extract_features(
    model: Network,
    folder: str | pathlib.Path,
    split: str,
    outputs: Mapping[str, str],
    *,
    cache_dir: str | pathlib.Path,
    **draw: Any,
) -> ClipFeatures:
    """Draws items from a split and extracts their features, one block in memory at a time.

    Args:
        model: the network.
        folder: prepared shards.
        split: such as "test".
        outputs: signature -> output, those to compute.
        cache_dir: folder of the cache.
        **draw: see `read_blocks`: seed, num_per_clip, max_clips.

    Returns:
        The features; whatever folder the same clips come from, in the same order.

    Raises:
        UserError: see `read_blocks` and `embed`.
    """
    digest = content_digest(find_shards(folder, split))
    ids: list[str] = []
    labels: list[tuple[str, ...]] = []
    arrays: dict[str, list[np.ndarray]] = {signature: [] for signature in outputs}
    draw |= {"frame_px": model.frame_px, "inputs": model.inputs}
    for block in read_blocks(folder, split, **draw):
        ids += block.example_ids
        labels += block.labels
        for signature, output in outputs.items():
            arrays[signature].append(embed(model, block, signature, output, cache_dir=cache_dir))
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return ClipFeatures(
        tuple(ids[index] for index in order),
        tuple(labels[index] for index in order),
        {signature: np.concatenate(parts)[order] for signature, parts in arrays.items()},
        digest,
    )


def classes_of(
    extracted: ClipFeatures, truth: Mapping[str, Mapping[str, str]] | None
) -> dict[str, np.ndarray]:
    """Returns the classes that are seen and heard in items.

    Without `truth` (see `read_truth`) these are the clips' first labels.

    Returns:
        `saved_model.VISION` or `AUDIO` -> str [N], the class, "" without one.
    """
    if truth is None:
        first = np.array([labels[0] if labels else "" for labels in extracted.labels])
        return {saved_model.VISION: first, saved_model.AUDIO: first}
    return {
        modality: np.array([known.get(name, "") for name in extracted.example_ids])
        for modality, known in truth.items()
    }
