"""Embeddings of sound, images and video in memory, with openl3's names and shapes.

    model = l3net.SavedModel("runs/x/saved_model")
    embedding, timestamps = l3net.get_audio_embedding(waveform, 44_100, model=model)
    embedding = l3net.get_image_embedding(image, model=model)
    sound, picture, timestamps = l3net.get_video_embedding("clip.mp4", model=model)

The numbers are those that `l3net.extract` writes for files. All three functions take:

    model       a `SavedModel`, or the path of its folder, which is then loaded at every call (about
                a second): load it yourself if you call more than once.
    output      "pool4" (512-D), "conv4_2" (6144-D for sound, 8192-D for images) or "embedding"
                (128-D; AVE-Net's of both, AVOL-Net's of sound). None takes "embedding" where the
                network has it (for a video: for both), else "pool4" (our choice).
    hop_size    seconds between two windows or steps, rounded to whole samples at 48 kHz.
    batch_size  windows or images that go through the network at once.

They raise `UserError` if what they are given has a wrong type, shape or value, or the network does
not give this output.
"""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from l3net import constants
from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.inference.saved_model import AUDIO, VISION, SavedModel
from l3net.media import file_kinds, images, sound

EMBEDDING, POOL4 = "embedding", "pool4"
Model = str | os.PathLike | SavedModel


# --- Sound ---------------------------------------------------------------------------------------
def get_audio_embedding(
    audio: np.ndarray | Sequence[np.ndarray],
    sr: float | Sequence[float],
    *,
    model: Model,
    output: str | None = None,
    center: bool = True,
    hop_size: float = 0.1,
    batch_size: int = 32,
) -> tuple[np.ndarray, np.ndarray] | tuple[list[np.ndarray], list[np.ndarray]]:
    """Gives the embedding of one second of sound every `hop_size` seconds.

    `audio` is [samples] or [samples, channels], integer (its type's full range) or float in
    [-1, 1]; channels are averaged. Or a list of such sounds. `sr` is its sample rate in Hz, or one
    per sound; any but 48000 is resampled.

    With `center` window i is centred on i * hop_size, with half a second of silence before the
    sound; otherwise it starts there. The last window is the first that reaches the end of the
    sound, zeros behind it.

    Returns:
        (float32 [T, D], float64 [T]): embeddings, and in seconds the centre of each window (its
        start if not `center`). For a list of sounds two lists of these.
    """
    _check_batch_size(batch_size)
    network = _load(model)
    function = network.features(AUDIO, choose_output(network, output, AUDIO))
    hop = sound.hop_samples(hop_size)

    def embed(waveform: np.ndarray, sample_rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
        mono = sound.mono_48k(np.asarray(waveform), sample_rate_hz)
        embedding = _embed(function, sound.windows([mono], hop=hop, center=center), batch_size)
        return embedding, sound.window_times(len(embedding), hop)

    sounds: Sequence[Any] = audio if isinstance(audio, list | tuple) else [audio]
    rates = _one_rate_per_sound(sr, len(sounds))
    pairs = [embed(waveform, rate) for waveform, rate in zip(sounds, rates, strict=True)]
    if sounds is not audio:
        return pairs[0]
    return [embedding for embedding, _ in pairs], [times for _, times in pairs]


def _one_rate_per_sound(sr: float | Sequence[float], num_sounds: int) -> list[float]:
    rates = (np.full(num_sounds, sr) if np.ndim(sr) == 0 else np.asarray(sr)).tolist()
    if len(rates) != num_sounds:
        raise UserError(f"{num_sounds} sounds with {len(rates)} sample rates: need one, or as many")
    return rates


# --- Images --------------------------------------------------------------------------------------
def get_image_embedding(
    image: np.ndarray | Sequence[np.ndarray],
    *,
    model: Model,
    output: str | None = None,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Gives the embedding of images: float32 [N, D], where N is 1 for a single image.

    `image` is uint8 [height, width, 3] or [N, height, width, 3], RGB. A list of these, of any
    sizes, gives a list. Of each image the network sees the centre square of 224/256 of the smallest
    side, scaled to the size of its training (`images.center_crop`).
    """
    _check_batch_size(batch_size)
    given: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
    stacks = [_stack(each) for each in given]
    if not stacks:
        return []
    network = _load(model)
    function = _image_function(network, choose_output(network, output, VISION))
    crops = (images.center_crop(each, network.frame_px) for each in itertools.chain(*stacks))
    embedding = _embed(function, crops, batch_size)
    ends = np.cumsum([len(stack) for stack in stacks])
    return np.split(embedding, ends[:-1]) if given is image else embedding


def _stack(image: np.ndarray) -> np.ndarray:
    """Checks an image or a stack of them; returns a stack."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise UserError(f"image of type {image.dtype}: need uint8, 0 to 255, RGB")
    if image.ndim not in (3, 4) or image.shape[-1] != 3 or image.size == 0:
        raise UserError(
            f"image of shape {image.shape}: need [height, width, 3] or [N, height, width, 3], "
            "not empty"
        )
    return image if image.ndim == 4 else image[np.newaxis]


def _image_function(network: SavedModel, output: str) -> Callable[[np.ndarray], np.ndarray]:
    seen = [name for name in network.inputs if name != constants.LOG_SPECTROGRAM]
    if seen and seen != [constants.FRAME]:
        raise UserError(
            f"this network sees {' and '.join(seen)} at once, not an image; its signature "
            "'vision' takes them (tf.saved_model.load)"
        )
    return network.features(VISION, output)


# --- Video ---------------------------------------------------------------------------------------
def get_video_embedding(
    path: str | os.PathLike,
    *,
    model: Model,
    output: str | None = None,
    hop_size: float = 0.1,
    batch_size: int = 32,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives the embeddings of sound and picture of a video, step by step together.

    Step i is the time t = i * hop_size on the file's own time line. Its sound is the second from
    t - 0.5 s to t + 0.5 s, its picture the frame shown at t: the frame is in the middle of its
    second, as in OTS §3.3. Before the beginning and after the end of the sound there is silence.
    There are as many steps as both sound and picture cover. Memory does not grow with the length
    of the video, but for the embeddings themselves.

    Returns:
        (float32 [T, D], float32 [T, E], float64 [T]): embeddings of sound and of picture, and the
        times in seconds.
    """
    _check_batch_size(batch_size)
    path, hop = pathlib.Path(path), sound.hop_samples(hop_size)
    if file_kinds.kind_of(path) != file_kinds.VIDEO:
        raise UserError(f"{path}: not a video by its suffix; l3net.extract takes sounds and images")
    network = _load(model)
    output = choose_output(network, output, AUDIO, VISION)
    hear, see = network.features(AUDIO, output), _image_function(network, output)
    blocks = sound.until_last_centre(sound.sound_blocks(path), hop=hop)
    heard = _embed(hear, sound.windows(blocks, hop=hop, center=True), batch_size)
    frames = images.video_frames(
        path, frame_rate_hz=constants.SAMPLE_RATE_HZ / hop, frame_px=network.frame_px
    )
    with contextlib.closing(frames):
        seen = _embed(see, itertools.islice(frames, len(heard)), batch_size)
    num_steps = min(len(heard), len(seen))
    return heard[:num_steps], seen[:num_steps], sound.window_times(num_steps, hop)


# --- All -----------------------------------------------------------------------------------------
def choose_output(network: SavedModel, output: str | None, *signatures: str) -> str:
    """Returns the wanted output; for None "embedding" if all signatures give it, else "pool4"."""
    if output is not None:
        return output
    sizes = network.metadata.get("feature_sizes", {})
    return EMBEDDING if all(EMBEDDING in sizes.get(name, ()) for name in signatures) else POOL4


def _load(model: Model) -> SavedModel:
    if isinstance(model, SavedModel):
        return model
    if not isinstance(model, str | os.PathLike):
        raise UserError(
            f"model of type {type(model).__name__}: need the path of a SavedModel that "
            "l3net.export wrote, or l3net.SavedModel(path)"
        )
    return SavedModel(pathlib.Path(model))


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch size of {batch_size}: need at least 1")


def _embed(
    function: Callable[[np.ndarray], np.ndarray], items: Iterable[np.ndarray], batch_size: int
) -> np.ndarray:
    """Sends windows or pictures, at least one, through a network: float32 [N, D]."""
    return np.concatenate([function(batch) for batch in saved_model.batches(items, batch_size)])
