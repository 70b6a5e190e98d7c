"""A SavedModel of ours: what its folder says of itself, and how sound and images go through it.

`l3net.export` writes it, `l3net.extract` and `eval` read it. Nothing here knows how the network is
built: a network is its signatures.

    audio     waveform float32 [N, 48000] in [-1, 1]   -> pool4, conv4_2 float32 [N, D]
    vision    image uint8 [N, height, width, 3]        -> pool4, conv4_2 float32 [N, D]
    avc       image uint8 [N, P, P, 3], waveform       -> corresponds float32 [N]
    localize  image uint8 [N, height, width, 3], waveform -> map, corresponds (AVOL-Net)

`audio` and `vision` also give `conv4_2_map` float32 [N, rows, columns, channels] after the ReLU:
the activations whose maxima are pool4, for heat maps (L3 Fig. 4 and 9).

AVE-Net and AVOL-Net also give `embedding` [N, 128], classifiers `softmax`. AVE+MF takes `images`
uint8 [N, 25, height, width, 3] in place of `image`; AVE+OF takes `flow` float32 [N, height, width,
20] beside it: x and y of ten flow frames, in 20/256 of the smallest side, within [-1, 1].
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from l3net import constants
from l3net.data import schema
from l3net.errors import UserError, first_line

METADATA_FILE = "assets.extra/l3net.json"
AUDIO, VISION, AVC, LOCALIZE = "audio", "vision", "avc", "localize"
WAVEFORM, IMAGE, IMAGES, FLOW = "waveform", "image", "images", "flow"  # the signatures' inputs


class SavedModel:
    """A loaded SavedModel of ours.

    Attributes:
        metadata: the content of assets.extra/l3net.json.
        frame_px: height and width of the image that `avc` takes and `vision` was trained on.
    """

    def __init__(self, folder: str | pathlib.Path):
        """Loads a SavedModel.

        Args:
            folder: that `l3net.export` wrote.

        Raises:
            UserError: if there is none, it is damaged, or it is not ours.
        """
        self.metadata = read_metadata(folder)
        self.frame_px: int = self.metadata["frame_px"]
        self._folder = folder
        try:
            # Kept whole: signatures hold their variables weakly.
            self._loaded = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"{folder} is a damaged SavedModel ({first_line(error)}); run l3net.export again"
            ) from error

    def features(
        self, signature: str, output: str
    ) -> Callable[[np.ndarray | Mapping[str, np.ndarray]], np.ndarray]:
        """Returns one output of one signature as a function from a batch to features.

        Args:
            signature: `AUDIO` or `VISION`.
            output: such as "pool4", "conv4_2" or "embedding".

        Returns:
            A function from the signature's input, N of them (AVE+OF has two: then by name), to
            float32 [N, D] ("conv4_2_map": [N, rows, columns, channels]).

        Raises:
            UserError: if this network has no such signature or output.
        """
        function = self.signature(signature)
        if output not in function.structured_outputs:
            have = ", ".join(sorted(function.structured_outputs))
            raise UserError(
                f"{self._folder} gives {have} for {signature}; got a request for {output!r}"
            )
        names = list(function.structured_input_signature[1])

        def run(batch: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
            named = batch if isinstance(batch, Mapping) else {names[0]: batch}
            return function(**{name: tf.constant(named[name]) for name in names})[output].numpy()

        return run

    def correspondence(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Returns the network's judgement as a function.

        Returns:
            A function from pairs, {"image": uint8 [N, frame_px, frame_px, 3], "waveform": float32
            [N, 48000] in [-1, 1]} (or what else `avc` takes), to the probability that they
            correspond, float32 [N].

        Raises:
            UserError: if this network has no signature `avc`.
        """
        return self._of_pairs(AVC, "corresponds")

    def localization(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Returns where the network sees what it hears, as a function (OTS §4).

        Returns:
            A function from pairs, as `correspondence` takes them but with images of any size, to
            the map of correspondence, float32 [N, rows, columns] in [0, 1].

        Raises:
            UserError: if this network has no signature `localize`.
        """
        return self._of_pairs(LOCALIZE, "map")

    def _of_pairs(
        self, signature: str, output: str
    ) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        function = self.signature(signature)
        names = list(function.structured_input_signature[1])
        return lambda pairs: function(**{name: tf.constant(pairs[name]) for name in names})[
            output
        ].numpy()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The network's inputs, of constants.FRAME, FRAMES, FLOW, LOG_SPECTROGRAM."""
        return tuple(self.metadata.get("inputs", (constants.FRAME, constants.LOG_SPECTROGRAM)))

    def signature(self, name: str) -> Callable[..., dict[str, tf.Tensor]]:
        """Returns a signature as a TensorFlow function, gradients and all.

        Args:
            name: "audio", "vision", "avc" or "localize".

        Returns:
            A function from keyword tensors to named tensors; see the head of this file. It lives
            as long as this object.

        Raises:
            UserError: if the network has no such signature.
        """
        function = self._loaded.signatures.get(name)
        if function is None:
            have = ", ".join(sorted(self._loaded.signatures)) or "none"
            raise UserError(
                f"{self._folder} has no signature {name!r} (it has {have}); it is another "
                "network's SavedModel"
            )
        return function


def read_metadata(folder: str | pathlib.Path) -> dict:
    """Reads what a SavedModel of ours says of itself.

    Args:
        folder: that `l3net.export` wrote.

    Returns:
        The content of assets.extra/l3net.json.

    Raises:
        UserError: if the folder does not exist or is no SavedModel of ours.
    """
    path = pathlib.Path(folder) / METADATA_FILE
    if not pathlib.Path(folder).is_dir():
        raise UserError(f"SavedModel folder {folder} does not exist; l3net.export makes one")
    try:
        metadata = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is no SavedModel of ours: it has no readable {METADATA_FILE}; "
            "l3net.export makes one"
        ) from error
    if not isinstance(metadata, dict) or "frame_px" not in metadata:
        raise UserError(f"{folder} is no SavedModel of ours: {METADATA_FILE} lacks frame_px")
    return metadata


# --- Sound ---------------------------------------------------------------------------------------
def hop_samples(hop_seconds: float) -> int:
    """Returns a hop as a whole number of samples at 48 kHz.

    Args:
        hop_seconds: between the starts of two windows.

    Returns:
        At least 1.

    Raises:
        UserError: if that is less than one sample.
    """
    samples = round(hop_seconds * constants.SAMPLE_RATE_HZ) if np.isfinite(hop_seconds) else 0
    if samples < 1:
        raise UserError(f"hop of {hop_seconds} s: need at least one sample at 48 kHz, 1/48000 s")
    return samples


def windows(
    blocks: Iterable[np.ndarray], *, hop: int, center: bool = False
) -> Iterator[np.ndarray]:
    """Cuts a stream of sound into seconds; holds about one second and one block of it.

    The last window is padded with zeros so that all sound lies in a window, and so is sound
    shorter than one second (openl3 does the same). But a rest of less than 0.01 s, one column of
    the spectrogram, opens no window: codecs leave such rests (5 s of Ogg are often 5.001 s).
    Silence is sound like any other.

    Args:
        blocks: int16 or float32 [samples] each, of any length, 48 kHz mono; float in [-1, 1].
        hop: samples between the starts of two windows.
        center: whether window i is centred on sample i * hop, instead of starting there; half a
            second of silence then goes before the sound.

    Yields:
        float32 [48000] in [-1, 1]; nothing at all if there is no sample.
    """
    length = constants.AUDIO_SAMPLES
    buffer = np.zeros(length // 2 if center else 0, np.float32)
    padding, skip, num_yielded, num_samples = len(buffer), 0, 0, 0
    for block in blocks:
        num_samples += len(block)
        buffer = np.concatenate([buffer, _to_float(block)])
        while len(buffer) - skip >= length:
            yield buffer[skip : skip + length].copy()
            num_yielded += 1
            skip += hop
        # A hop longer than one second leaves a gap that the next blocks must cross.
        drop = min(skip, len(buffer))
        buffer, skip = buffer[drop:], skip - drop
    covered = (num_yielded - 1) * hop + length if num_yielded else 0
    rest = num_samples + padding - covered
    wanted = rest >= constants.STFT_WINDOW_SAMPLES if num_yielded else num_samples > 0
    if wanted and skip < len(buffer):
        tail = buffer[skip:]
        yield np.pad(tail, (0, length - len(tail)))


def _to_float(block: np.ndarray) -> np.ndarray:
    if block.dtype == np.int16:
        return block.astype(np.float32) / schema.INT16_SCALE
    return block.astype(np.float32, copy=False)


def batches(items: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Stacks equally shaped arrays into batches, holding one batch at a time.

    Args:
        items: arrays of one shape.
        batch_size: of every batch but the last.

    Yields:
        Arrays [up to batch_size, *shape].
    """
    held = []
    for item in items:
        held.append(item)
        if len(held) == batch_size:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


# --- From Python ---------------------------------------------------------------------------------
def audio_embeddings(
    model: SavedModel,
    waveform: np.ndarray,
    sample_rate_hz: float,
    *,
    output: str = "pool4",
    hop_seconds: float = 0.5,
    center: bool = False,
    batch_size: int = 32,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives the features of each second of a sound in memory.

    Args:
        model: of which the signature `audio` is used.
        waveform: [samples] or [samples, channels], integer (its type's full range) or float in
            [-1, 1]; channels are averaged.
        sample_rate_hz: of the waveform; any but 48000 is resampled with resampy.
        output: of the signature.
        hop_seconds: between two windows, rounded to whole samples at 48 kHz.
        center: see `windows`.
        batch_size: windows that go through the network at once.

    Returns:
        (float32 [T, D], float64 [T]): features, and in seconds the start of each window (its
        centre if `center`).

    Raises:
        UserError: if the sound is empty, not finite or of a wrong shape, or a number is nonsense.
    """
    mono = _mono_48k(np.asarray(waveform), sample_rate_hz)
    hop = hop_samples(hop_seconds)
    function = model.features(AUDIO, output)
    embedded = [
        function(batch) for batch in batches(windows([mono], hop=hop, center=center), batch_size)
    ]
    embedding = np.concatenate(embedded)
    return embedding, window_times(len(embedding), hop)


def window_times(num_windows: int, hop: int) -> np.ndarray:
    """Returns the times of windows in seconds, float64: exact multiples of the hop in samples."""
    return np.arange(num_windows, dtype=np.float64) * hop / constants.SAMPLE_RATE_HZ


def _mono_48k(waveform: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    if not (np.isfinite(sample_rate_hz) and sample_rate_hz > 0):
        raise UserError(f"sample rate of {sample_rate_hz} Hz: need a positive number")
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise UserError(
            f"sound of shape {waveform.shape}: need [samples] or [samples, channels], not empty"
        )
    if np.issubdtype(waveform.dtype, np.signedinteger):
        waveform = waveform / -float(np.iinfo(waveform.dtype).min)
    elif not np.issubdtype(waveform.dtype, np.floating):
        raise UserError(
            f"sound of type {waveform.dtype}: need floats in [-1, 1] or signed integers"
        )
    mono = waveform if waveform.ndim == 1 else waveform.mean(axis=1)
    if not np.isfinite(mono).all():
        raise UserError("sound holds NaN or infinite samples")
    if sample_rate_hz != constants.SAMPLE_RATE_HZ:
        mono = _resample(mono, sample_rate_hz)
    return mono.astype(np.float32)


def _resample(mono: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    # Imported here: numba takes a second, and files come at 48 kHz from ffmpeg.
    import resampy

    try:
        return resampy.resample(mono.astype(np.float64), sample_rate_hz, constants.SAMPLE_RATE_HZ)
    except ValueError as error:  # too short for one sample at 48 kHz
        raise UserError(f"cannot resample {len(mono)} samples from {sample_rate_hz} Hz") from error
