"""openl3's published weights as a SavedModel of ours: file -> network -> signatures -> folder.

A file, such as openl3_audio_mel256_music-v0_4_0.h5.gz, holds one network: what it takes (sound or
images), which spectrogram its training had, and on which videos. Only its name says the latter two.
The networks are those of `l3net.models.openl3`.
"""

import dataclasses
import gzip
import hashlib
import io
import pathlib
import re
from collections.abc import Sequence

import h5py
import keras
import numpy as np
import tensorflow as tf

from l3net import constants
from l3net.constants import AUDIO_GRID
from l3net.data import augment
from l3net.errors import UserError, first_line
from l3net.files import regular
from l3net.inference import saved_model, saved_model_writer, signatures
from l3net.inference.saved_model_writer import Function
from l3net.models import convnets, openl3

PUBLISHED_AT = "https://github.com/marl/openl3/raw/models/"
_CONTENTS = {"music": "AudioSet videos of music", "env": "AudioSet videos of the environment"}
_NAME = re.compile(
    rf"openl3_({'|'.join(openl3.MODALITIES)})_({'|'.join(openl3.INPUT_REPRS)})"
    rf"_({'|'.join(_CONTENTS)})(\W.*)?\.h5(\.gz)?"
)
_GZIP_START = b"\x1f\x8b"
_MOST_BYTES = 1 << 26  # the published files have 19 MB, unpacked


@dataclasses.dataclass(frozen=True)
class Weights:
    """One of the published files.

    Attributes:
        modality: "audio" or "image".
        input_repr: the spectrogram in training: "linear", "mel128" or "mel256".
        content: the videos of training: "music" or "env".
        layers: name and arrays of each layer that has weights, in order.
        sha256: the digest of the file.
    """

    modality: str
    input_repr: str
    content: str
    layers: Sequence[tuple[str, Sequence[np.ndarray]]]
    sha256: str

    @property
    def name(self) -> str:
        """The network's name, such as openl3_audio_mel256_music."""
        return f"openl3_{self.modality}_{self.input_repr}_{self.content}"

    @property
    def embedding_sizes(self) -> tuple[int, int]:
        """The two sizes of the embedding, openl3's default first."""
        channels = constants.POOL4_UNITS
        grid = AUDIO_GRID if self.modality == openl3.AUDIO else constants.IMAGE_GRID
        return grid[0] * grid[1] * channels, channels


def import_weights(
    weights: str | pathlib.Path, out: str | pathlib.Path, *, embedding_size: int = 0
) -> dict[str, dict[str, int]]:
    """Writes a weights file of openl3 as a SavedModel, checked as `l3net.export` checks its own.

    The signature is `audio` or `vision`. "embedding" is openl3's of the given size. "conv4_2" is
    the larger one (for images that are not 224x224 px: of a 4x4 grid, too), "pool4" the smaller
    one: openl3 takes them where no ReLU follows.

    Args:
        weights: the file; its name must be the published one.
        out: the folder, replaced if it is a SavedModel of ours.
        embedding_size: 512, or 6144 for sound and 8192 for images; 0: the larger.

    Returns:
        Signature -> output -> number of features.

    Raises:
        UserError: if the file has another name or content, there is no such size, or `out` is
            something else.
    """
    out = pathlib.Path(out)
    saved_model_writer.check_replaceable(out)
    read = read_weights(weights)
    size = embedding_size or read.embedding_sizes[0]
    if size not in read.embedding_sizes:
        allowed = " or ".join(map(str, read.embedding_sizes))
        raise UserError(f"--embedding_size={size}: the {read.modality} network gives {allowed}")
    network = build(read)
    if read.modality == openl3.AUDIO:
        made = {saved_model.AUDIO: _audio_signature(network, read.input_repr, size)}
    else:
        made = {saved_model.VISION: _vision_signature(network, size)}
    metadata = _describe(read, network, size)
    return saved_model_writer.write(out, made, network, metadata, expected=made)


def _describe(read: Weights, network: keras.Model, embedding_size: int) -> dict:
    is_audio = read.modality == openl3.AUDIO
    also = f"{read.name} {embedding_size}"
    return {
        "model_config": {"model": read.name},
        "inputs": [constants.LOG_SPECTROGRAM if is_audio else constants.FRAME],
        "frame_px": constants.FRAME_PX,
        "license": "cc-by-4.0",
        "random_weights": False,
        "trained_on": _CONTENTS[read.content],
        "num_parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "weights_sha256": saved_model_writer.weights_digest(network, also),
        saved_model.IMPORTED: {"sha256": read.sha256, "license": "CC BY 4.0", "from": PUBLISHED_AT},
    }


# --- The file ------------------------------------------------------------------------------------
def read_weights(path: str | pathlib.Path) -> Weights:
    """Reads a weights file, packed by gzip or not.

    Raises:
        UserError: if its name is none of the published, or it is missing, damaged or no HDF5 file
            with Keras' weights.
    """
    path = pathlib.Path(path)
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise UserError(
            f"{path}: only a file's name says which network it holds; give it its published name, "
            "openl3_{audio,image}_{linear,mel128,mel256}_{music,env}-v0_4_0.h5.gz"
        )
    try:
        raw = pathlib.Path(regular(path)).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; openl3's are at {PUBLISHED_AT}") from error
    try:
        layers = _keras_layers(_unpacked(raw))
    except Exception as error:  # whatever gzip and HDF5 find in a damaged file
        raise UserError(
            f"{path} is damaged or holds no weights of openl3 ({first_line(error)}); its source is "
            f"{PUBLISHED_AT}"
        ) from error
    modality, input_repr, content, *_ = named.groups()
    return Weights(modality, input_repr, content, layers, hashlib.sha256(raw).hexdigest())


def _unpacked(raw: bytes) -> bytes:
    if not raw.startswith(_GZIP_START):
        return raw
    with gzip.open(io.BytesIO(raw)) as packed:
        content = packed.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
    return content


def _keras_layers(content: bytes) -> list[tuple[str, list[np.ndarray]]]:
    """Returns name and arrays of the layers with weights: Keras 2 wrote their order as attributes.

    Raises one of many errors if the content is anything else.
    """
    layers = []
    with h5py.File(io.BytesIO(content)) as file:
        for name in map(_text, file.attrs["layer_names"]):
            group = file[name]
            arrays = [_array(group[_text(key)]) for key in group.attrs["weight_names"]]
            if arrays:
                layers.append((name, arrays))
    return layers


def _array(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.nbytes > _MOST_BYTES:  # it may be declared so, and packed
        raise ValueError(f"{dataset.name} has {dataset.nbytes} bytes")
    return np.asarray(dataset, np.float32)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


# --- The network ---------------------------------------------------------------------------------
def build(weights: Weights) -> keras.Model:
    """Builds the network of a file; UserError if what the file holds does not fit its name."""
    network = openl3.convnet(weights.modality, weights.input_repr)
    layers = [layer for layer in network.layers if layer.weights]
    needed = [[tuple(variable.shape) for variable in layer.weights] for layer in layers]
    got = [[array.shape for array in arrays] for _, arrays in weights.layers]
    if got != needed:
        raise UserError(
            f"{weights.name}: {_difference(weights, needed)}; the file has a wrong name"
        )
    for layer, (_, arrays) in zip(layers, weights.layers, strict=True):
        if not all(np.isfinite(array).all() for array in arrays):
            raise UserError(f"{weights.name}: {layer.name} is not finite; download the file again")
        layer.set_weights(arrays)
    return network


def _difference(weights: Weights, needed: Sequence[list]) -> str:
    if len(weights.layers) != len(needed):
        return f"the file has {len(weights.layers)} layers with weights, the network {len(needed)}"
    name, got, wanted = next(
        (name, [array.shape for array in arrays], shapes)
        for (name, arrays), shapes in zip(weights.layers, needed, strict=True)
        if [array.shape for array in arrays] != shapes
    )
    return f"layer {name} of the file has weights of shapes {got}, the network's {wanted}"


# --- The signatures ------------------------------------------------------------------------------
def _audio_signature(network: keras.Model, input_repr: str, embedding_size: int) -> Function:
    @tf.function(input_signature=[signatures.waveform_spec()])
    def signature(waveform):
        outputs = network(openl3.spectrogram(waveform, input_repr), training=False)
        grid = convnets.pool_to_grid(outputs["conv4_2"], *AUDIO_GRID)
        return _outputs(outputs, grid, embedding_size)

    return signature


def _vision_signature(network: keras.Model, embedding_size: int) -> Function:
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, saved_model.IMAGE)]
    )
    def signature(image):
        outputs = network(augment.frame_to_float(image), training=False)
        return _outputs(outputs, signatures.image_grid(outputs["conv4_2"]), embedding_size)

    return signature


def _outputs(
    outputs: dict[str, tf.Tensor], grid: tf.Tensor, embedding_size: int
) -> dict[str, tf.Tensor]:
    pool4 = outputs["pool4"]
    embedding = pool4 if embedding_size == pool4.shape[-1] else grid
    return {
        "embedding": tf.identity(embedding),
        "conv4_2": grid,
        "pool4": pool4,
        "conv4_2_map": outputs["conv4_2"],
    }
