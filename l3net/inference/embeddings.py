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

The functions of sound and of images also take openl3's further arguments, in openl3's order, so
that its calls work once they name a model:

    embedding_size  the output of this size, where `output` names none.
    input_repr, content_type  "linear", "mel128" or "mel256"; "music" or "env". The network has its
                own: another one is refused where the network is known to have been made otherwise.
    frontend, verbose  without effect: the spectrogram is part of the network, and nothing is
                printed.

They raise `UserError` if what they are given has a wrong type, shape or value, or the network does
not give this output.
"""

import contextlib
import itertools
import math
import numbers
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from l3net import constants
from l3net.errors import UserError, first_line
from l3net.inference import saved_model
from l3net.inference.saved_model import AUDIO, VISION, SavedModel
from l3net.media import file_kinds, images, sound

EMBEDDING, POOL4 = "embedding", "pool4"
Model = str | os.PathLike | SavedModel
# openl3's values of its further arguments.
INPUT_REPRS, CONTENT_TYPES = ("linear", "mel128", "mel256"), ("music", "env")
FRONTENDS = ("kapre", "librosa")


# --- Sound ---------------------------------------------------------------------------------------
def get_audio_embedding(
    audio: np.ndarray | Sequence[np.ndarray],
    sr: float | Sequence[float],
    model: Model | None = None,
    input_repr: str | None = None,
    content_type: str | None = None,
    embedding_size: int | None = None,
    center: bool = True,
    hop_size: float = 0.1,
    batch_size: int = 32,
    frontend: str | None = None,
    verbose: bool = True,
    *,
    output: str | None = None,
) -> tuple[np.ndarray, np.ndarray] | tuple[list[np.ndarray], list[np.ndarray]]:
    """Gives the embedding of one second of sound every `hop_size` seconds.

    `audio` is [samples] or [samples, channels], int8, int16 or int32 (its type's full range) or
    float in [-1, 1]; channels are averaged. Or a list of such sounds. `sr` is its sample rate in
    Hz, 1000 or more, or one per sound; any but 48000 is resampled: as files are, for a
    network of openl3's as openl3 does. [1, samples] is taken as one channel, and samples from 1 to
    16 are cut off at 1, both with a warning. Refused is what has a doubtful meaning or none:
    [channels, samples], values of 16 bits in floats or in int32, other types, NaN and infinity.

    With `center` window i is centred on i * hop_size, with half a second of silence before the
    sound; otherwise it starts there. The last window is the first that reaches the end of the
    sound, zeros behind it.

    Returns:
        (float32 [T, D], float64 [T]): embeddings, and in seconds the centre of each window (its
        start if not `center`). For a list of sounds two lists of these.
    """
    _check_batch_size(batch_size)
    _check_choice("frontend", frontend, FRONTENDS)
    network = _load(model)
    _check_made_so(network, input_repr, content_type)
    hop = sound.hop_samples(hop_size)
    function = network.windows(_output_of_size(network, output, AUDIO, embedding_size), hop)
    resampling = sound.AS_OPENL3 if _openl3_kind(network) else sound.AS_FFMPEG

    def embed(waveform: np.ndarray, sample_rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
        mono = sound.mono_48k(waveform, sample_rate_hz, resampling)
        embedding = _embed(function, sound.windows([mono], hop=hop, center=center), batch_size)
        return embedding, sound.window_times(len(embedding), hop)

    sounds: Sequence[Any] = audio if isinstance(audio, list | tuple) else [audio]
    rates = _one_each(sr, len(sounds), "sounds", "sample rates")
    pairs = [embed(waveform, rate) for waveform, rate in zip(sounds, rates, strict=True)]
    if sounds is not audio:
        return pairs[0]
    return [embedding for embedding, _ in pairs], [times for _, times in pairs]


# --- Images --------------------------------------------------------------------------------------
def get_image_embedding(
    image: np.ndarray | Sequence[np.ndarray],
    frame_rate: float | Sequence[float] | None = None,
    model: Model | None = None,
    input_repr: str | None = None,
    content_type: str | None = None,
    embedding_size: int | None = None,
    batch_size: int = 32,
    verbose: bool = True,
    *,
    output: str | None = None,
) -> Any:
    """Gives the embedding of images: float32 [N, D], where N is 1 for a single image.

    `image` is uint8 [height, width, 3] or [N, height, width, 3], RGB. A list of these, of any
    sizes, gives a list. Of each image the network sees the centre square of 224/256 of the smallest
    side, scaled to the size of its training (`images.center_crop`). Nothing else is taken: floats
    may be meant in [0, 1], [-1, 1] or [0, 255], and [3, height, width] may be three grey images.

    With `frame_rate`, images per second (or one for each item of a list), it gives a pair: the
    embeddings, and their times in seconds, float64 [N], or a list of these.
    """
    _check_batch_size(batch_size)
    given: Sequence[Any] = image if isinstance(image, list | tuple) else [image]
    stacks = [_stack(each) for each in given]
    rates = _one_each(frame_rate, len(stacks), "items of images", "frame rates")
    times = [_frame_times(stack, rate) for stack, rate in zip(stacks, rates, strict=True)]
    network = _load(model)
    _check_made_so(network, input_repr, content_type)
    output = _output_of_size(network, output, VISION, embedding_size)
    function = _image_function(network, output)
    embedded: list[np.ndarray] = []
    if stacks:
        crops = (images.center_crop(each, network.frame_px) for each in itertools.chain(*stacks))
        ends = np.cumsum([len(stack) for stack in stacks])
        embedded = np.split(_embed(function, crops, batch_size), ends[:-1])
    if given is image:
        return embedded if frame_rate is None else (embedded, times)
    return embedded[0] if frame_rate is None else (embedded[0], times[0])


def _stack(image: Any) -> np.ndarray:
    """Checks an image or a stack of them; returns a stack."""
    try:
        stack = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        raise UserError(f"image of type {type(image).__name__}: {first_line(error)}") from error
    if stack.dtype != np.uint8:
        raise UserError(
            f"image of type {stack.dtype}: need uint8, 0 to 255, RGB; from floats in [0, 1] it is "
            "(255 * image).round().astype('uint8')"
        )
    if stack.ndim not in (3, 4) or stack.shape[-1] != 3 or stack.size == 0:
        raise UserError(
            f"image of shape {stack.shape}: need [height, width, 3] or [N, height, width, 3], "
            "not empty; channels go last, grey ones are repeated, transparency is dropped"
        )
    return stack if stack.ndim == 4 else stack[np.newaxis]


def _frame_times(stack: np.ndarray, frame_rate: float | None) -> np.ndarray | None:
    """Returns when the images of a stack are shown, seconds, from 0 on; None without a rate."""
    if frame_rate is None:
        return None
    if not (_is_number(frame_rate) and frame_rate > 0):
        raise UserError(f"frame rate of {frame_rate!r}: need a positive number of images a second")
    return np.arange(len(stack)) / frame_rate


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
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"video of type {type(path).__name__}: need the path of a file")
    path, hop = pathlib.Path(path), sound.hop_samples(hop_size)
    if file_kinds.kind_of(path) != file_kinds.VIDEO:
        raise UserError(f"{path}: not a video; l3net.extract takes sounds and images")
    network = _load(model)
    output = choose_output(network, output, AUDIO, VISION)
    hear, see = network.windows(output, hop), _image_function(network, output)
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


def _output_of_size(
    network: SavedModel, output: str | None, signature: str, size: int | None
) -> str:
    """Returns the wanted output, for None the first that has this size."""
    if size is None:
        return choose_output(network, output, signature)
    sizes = network.metadata.get("feature_sizes", {}).get(signature, {})
    candidates = [output] if output else [EMBEDDING, POOL4, *sizes]
    for name in candidates:
        if sizes.get(name) == size:
            return name
    have = ", ".join(f"{name} {number}" for name, number in sizes.items()) or "no known sizes"
    wanted = f"{output} of " if output else ""
    raise UserError(f"embedding_size={size}: got a request for {wanted}{size}; there is {have}")


def _check_made_so(network: SavedModel, input_repr: Any, content_type: Any) -> None:
    """Raises UserError if openl3's names are not its, or known not to be this network's."""
    known_repr, known_content = _openl3_kind(network) or (INPUT_REPRS[0], None)
    for name, value, allowed, known in (
        ("input_repr", input_repr, INPUT_REPRS, known_repr),
        ("content_type", content_type, CONTENT_TYPES, known_content),
    ):
        _check_choice(name, value, allowed)
        if None not in (value, known) and value != known:
            raise UserError(f"{name}={value!r}: this network has {known!r}; give None")


def _openl3_kind(network: SavedModel) -> tuple[str, str] | None:
    """Returns input_repr and content_type of a network that l3net.import_openl3 wrote."""
    name = network.metadata.get("model_config", {}).get("model", "")
    match = re.fullmatch(r"openl3_[a-z]+_([a-z0-9]+)_([a-z]+)", name)
    return (match[1], match[2]) if match else None


def _check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise UserError(f"{name}={value!r}: need one of {', '.join(allowed)}, or None")


def _one_each(value: Any, num: int, items: str, values: str) -> list[Any]:
    """Returns one value for each item, from one for all or a sequence."""
    each = [value] * num if np.ndim(value) == 0 else list(value)
    if len(each) != num:
        raise UserError(f"{num} {items} with {len(each)} {values}: need one, or as many")
    return [one.item() if isinstance(one, np.ndarray | np.generic) else one for one in each]


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def _load(model: Model | None) -> SavedModel:
    if isinstance(model, SavedModel):
        return model
    if not isinstance(model, str | os.PathLike):
        got = "no model" if model is None else f"model of type {type(model).__name__}"
        raise UserError(
            f"{got}: need the path of a SavedModel that l3net.export wrote, or "
            "l3net.SavedModel(path); no weights come with this package"
        )
    return SavedModel(model)


def _check_batch_size(batch_size: int) -> None:
    if not (_is_number(batch_size) and batch_size >= 1 and batch_size == int(batch_size)):
        raise UserError(f"batch size of {batch_size}: need a whole number of at least 1")


def _embed(
    function: Callable[[np.ndarray], np.ndarray], items: Iterable[np.ndarray], batch_size: int
) -> np.ndarray:
    """Sends windows or pictures, at least one, through a network: float32 [N, D]."""
    return np.concatenate([function(batch) for batch in saved_model.batches(items, batch_size)])
