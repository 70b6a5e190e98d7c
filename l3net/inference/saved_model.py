"""A SavedModel of ours: what its folder says of itself, and how batches go through it.

`l3net.export` writes it, `l3net.extract` and `eval` read it. Nothing here knows how the network is
built: a network is its signatures.

    audio     waveform float32 [N, 48000] in [-1, 1]   -> pool4, conv4_2 float32 [N, D]
    audio_windows  waveform float32 [samples], hop int32 [], multiples of 240 -> as audio, a row for
              each second, hop samples apart (networks of openl3's and older exports lack it)
    vision    image uint8 [N, height, width, 3]        -> pool4, conv4_2 float32 [N, D]
    avc       image uint8 [N, P, P, 3], waveform       -> corresponds float32 [N]
    localize  image uint8 [N, height, width, 3], waveform -> map, corresponds (AVOL-Net)

`serving_default`, what TensorFlow Serving and `keras.layers.TFSMLayer` take where no name is given,
is `audio` where the network hears, else `vision`.

`audio` and `vision` also give `conv4_2_map` float32 [N, rows, columns, channels] after the ReLU:
the activations whose maxima are pool4, for heat maps (L3 Fig. 4 and 9).

AVE-Net and AVOL-Net also give `embedding` [N, 128], classifiers `softmax`. AVE+MF takes `images`
uint8 [N, 25, height, width, 3] in place of `image`; AVE+OF takes `flow` float32 [N, height, width,
20] beside it: x and y of ten flow frames, in 20/256 of the smallest side, within [-1, 1].
"""

import dataclasses
import os
import pathlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from l3net import constants
from l3net.errors import UserError, first_line
from l3net.files import check_for_weights, sha256_of
from l3net.inference import hub
from l3net.json_files import check, read_json

METADATA_FILE = "assets.extra/l3net.json"
IMPORTED = "imported"  # in the metadata of openl3's networks: where their weights come from
AUDIO, VISION, AVC, LOCALIZE = "audio", "vision", "avc", "localize"
AUDIO_WINDOWS = "audio_windows"
DEFAULT = "serving_default"
_ADVICE = "copy it again, or run l3net.export again"
WAVEFORM, IMAGE, IMAGES, FLOW = "waveform", "image", "images", "flow"  # the signatures' inputs
HOP = "hop"

# TensorFlow takes seconds to import: only what runs a network does, so that --help need not.
if TYPE_CHECKING:
    import tensorflow as tf

Batch = np.ndarray | Mapping[str, np.ndarray]
Function: TypeAlias = "tf.types.experimental.ConcreteFunction"


class SavedModel:
    """A loaded SavedModel of ours.

    Attributes:
        metadata: the content of assets.extra/l3net.json.
        frame_px: height and width of the image that `avc` takes and `vision` was trained on.
    """

    def __init__(self, folder: str | os.PathLike):
        """Loads what `l3net.export` wrote; UserError if it is missing, damaged or not ours.

        "hf://owner/name@revision" is fetched from the Hugging Face Hub, as by `from_pretrained`: so
        every command that takes a SavedModel takes that, too.
        """
        tf = _tensorflow()
        if str(folder).startswith(hub.URI):
            folder = hub.local_folder(folder)
        self.metadata = read_metadata(folder)
        self.frame_px: int = self.metadata["frame_px"]
        self._folder = folder
        check_for_weights(folder)
        _check_files(folder, self.metadata.get("files", {}))
        try:
            # Kept as a whole: signatures hold their variables weakly.
            self._loaded = tf.saved_model.load(str(folder))
        # Of one without checksums TensorFlow says in many ways that it is damaged.
        except (OSError, ValueError, LookupError, RuntimeError, tf.errors.OpError) as error:
            raise UserError(
                f"{folder} is a damaged SavedModel ({first_line(error)}); {_ADVICE}"
            ) from error

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, revision: str | None = None
    ) -> "SavedModel":
        """Loads a SavedModel of ours from the Hugging Face Hub, or from a folder that exists.

        A SavedModel is a program that TensorFlow runs: load only those whose owner you trust.

        Args:
            name: "owner/name", or a folder. Files come into huggingface_hub's cache, once; with
                HF_HUB_OFFLINE=1 from there alone. Needs the extra `hub`.
            revision: a branch, tag or commit; None: "main".

        Raises:
            UserError: see `hub.local_folder`, and as the class itself.
        """
        return cls(hub.local_folder(name, revision))

    def features(self, signature: str, output: str) -> Callable[[Batch], np.ndarray]:
        """Returns one output of `AUDIO` or `VISION` as a function from a batch to features.

        It takes the signature's input, N of them (AVE+OF has two: then by name), and gives
        float32 [N, D] ("conv4_2_map": [N, rows, columns, channels]). Raises UserError if this
        network has no such signature or output.
        """
        function = self.signature(signature)
        if output not in function.structured_outputs:
            have = ", ".join(sorted(function.structured_outputs))
            raise UserError(
                f"{self._folder} gives {have} for {signature}; got a request for {output!r}"
            )
        return _on_arrays(function, output)

    def windows(self, output: str, hop: int) -> Callable[[np.ndarray], np.ndarray]:
        """Returns one output of `AUDIO` as a function of windows that are `hop` samples apart.

        It takes float32 [N, 48000], seconds of one sound in order, and gives float32 [N, D]. What
        they have in common of the spectrogram is computed once where the network can
        (`AUDIO_WINDOWS`) and the hop allows it; that changes the last bit. Raises UserError as
        `features`.
        """
        each = self.features(AUDIO, output)
        overlap = constants.AUDIO_SAMPLES - hop
        shares = overlap > 0 and hop % constants.STFT_HOP_SAMPLES == 0
        if not shares or AUDIO_WINDOWS not in self._loaded.signatures:
            return each
        together = self.features(AUDIO_WINDOWS, output)

        def run(windows: np.ndarray) -> np.ndarray:
            if len(windows) == 1:
                return each(windows)
            stretch = np.concatenate([windows[0], windows[1:, overlap:].ravel()])
            return together({WAVEFORM: stretch, HOP: np.array(hop, np.int32)})

        return run

    def correspondence(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Returns the probability that pairs correspond, float32 [N], as a function of them.

        Pairs are {"image": uint8 [N, frame_px, frame_px, 3], "waveform": float32 [N, 48000] in
        [-1, 1]}, or what else `avc` takes. Raises UserError if the network has no such signature.
        """
        return _on_arrays(self.signature(AVC), "corresponds")

    def localization(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Returns the map of correspondence as a function of pairs (OTS §4).

        It is float32 [N, rows, columns] in [0, 1]; images may be of any size. Raises UserError if
        the network has no signature `localize`.
        """
        return _on_arrays(self.signature(LOCALIZE), "map")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The network's inputs, of constants.FRAME, FRAMES, FLOW, LOG_SPECTROGRAM."""
        return tuple(self.metadata.get("inputs", (constants.FRAME, constants.LOG_SPECTROGRAM)))

    def signature(self, name: str) -> Function:
        """Returns "audio", "vision", "avc" or "localize" as a TensorFlow function with gradients.

        It takes keyword tensors and gives named tensors, see the head of this file, and lives as
        long as this object. Raises UserError if the network has no such signature.
        """
        function = self._loaded.signatures.get(name)
        if function is None:
            have = ", ".join(sorted(set(self._loaded.signatures) - {DEFAULT})) or "none"
            raise UserError(
                f"{self._folder} has no signature {name!r} (it has {have}); it is another "
                "network's SavedModel"
            )
        return function


def _tensorflow() -> types.ModuleType:
    """Imports TensorFlow, for networks to run, without the Keras that it imports at its end.

    That is for SavedModels with Keras' optimizers inside, and with scikit-learn installed nearly
    half of the processor time. `tf.keras` and `import keras` find it when they are used.
    """
    hidden = "keras.src.optimizers"
    if "tensorflow" not in sys.modules and hidden not in sys.modules:
        sys.modules[hidden] = None  # type: ignore[assignment]
        try:
            import tensorflow
        finally:
            del sys.modules[hidden]
    import tensorflow

    return tensorflow


def use_bfloat16() -> None:
    """Lets convolutions of this process round to bfloat16, where the processor can; call it first.

    It holds for every network whose first call comes after it, of any export. Sums are float32.
    Where the processor lacks the instructions (AVX512_BF16, AMX) TensorFlow warns and nothing
    changes.
    """
    tf = _tensorflow()
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})


def _on_arrays(function: Function, output: str) -> Callable[[Batch], np.ndarray]:
    """Returns one output of a signature as a function of arrays, by name if there are several."""
    import tensorflow as tf

    names = list(function.structured_input_signature[1])

    def run(batch: Batch) -> np.ndarray:
        named = batch if isinstance(batch, Mapping) else {names[0]: batch}
        return function(**{name: tf.constant(named[name]) for name in names})[output].numpy()

    return run


def read_metadata(folder: str | os.PathLike) -> dict:
    """Returns the content of assets.extra/l3net.json; UserError if it is not ours."""
    path = pathlib.Path(folder) / METADATA_FILE
    if not pathlib.Path(folder).is_dir():
        raise UserError(f"SavedModel folder {folder} does not exist; l3net.export makes one")
    try:
        metadata = read_json(path, dict[str, Any], _ADVICE)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is no SavedModel of ours: it has no {METADATA_FILE}; l3net.export makes one"
        ) from error
    check(path, metadata, _Metadata, _ADVICE)
    return metadata


@dataclasses.dataclass(frozen=True)
class _Metadata:
    """What l3net.json holds at least; `files`, of path and SHA-256, since there are checksums."""

    frame_px: int
    inputs: tuple[str, ...] = ()
    feature_sizes: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)


def digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns path -> SHA-256 of the files of a SavedModel that TensorFlow reads."""
    paths = [*sorted(folder.glob("*.pb")), *sorted((folder / "variables").glob("*"))]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def _check_files(folder: str | os.PathLike, expected: Mapping[str, str]) -> None:
    for name, digest in expected.items():
        path = pathlib.Path(folder) / name
        problem = None if path.is_file() else "is missing"
        if problem is None and sha256_of(path) != digest:
            problem = "is not what was written"
        if problem is not None:
            raise UserError(f"{folder} is a damaged SavedModel: {name} {problem}; {_ADVICE}")


def batches(items: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Stacks arrays of one shape into batches, [up to batch_size, *shape], one at a time."""
    held = []
    for item in items:
        held.append(item)
        if len(held) == batch_size:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
