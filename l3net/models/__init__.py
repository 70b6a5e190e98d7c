"""MODELS: name -> how to build a network of the papers, its inputs and its loss."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from l3net import constants
from l3net.errors import UserError
from l3net.flags import setting
from l3net.log_spectrogram import log_spectrogram_shape
from l3net.models import losses
from l3net.models.ave_net import ave_net
from l3net.models.avol_net import avol_net
from l3net.models.convnets import ConvNetSettings
from l3net.models.l3_net import l3_net
from l3net.models.supervised import classifier

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclasses.dataclass(frozen=True)
class Network:
    """What distinguishes the networks of the papers.

    Attributes:
        builder: (input shapes, ConvNetSettings) -> functional Keras model.
        stride: conv1_1's, 1 in L3, 2 in OTS.
        pad_end: whether the log-spectrogram has OTS's 200th window.
        inputs: some of constants.FRAME, FRAMES, FLOW, LOG_SPECTROGRAM.
        target: what the loss compares with: constants.CORRESPONDS_KEY, or FRAME_LABEL or
            AUDIO_LABEL (supervised baselines).
        loss: see `losses`.
        is_correct: see `losses`.
    """

    builder: Callable[..., keras.Model]
    stride: int
    pad_end: bool
    inputs: tuple[str, ...] = (constants.FRAME, constants.LOG_SPECTROGRAM)
    target: str = constants.CORRESPONDS_KEY
    loss: losses.Loss = losses.softmax_cross_entropy
    is_correct: losses.Loss = losses.correct_pairs

    @property
    def is_classifier(self) -> bool:
        """Whether it is trained on labels."""
        return self.target != constants.CORRESPONDS_KEY


def _supervised(modality: str, seen: str, target: str) -> Network:
    return Network(
        functools.partial(classifier, modality=modality),
        stride=1,
        pad_end=False,
        inputs=(seen,),
        target=target,
        is_correct=losses.correct_classes,
    )


MODELS = {
    "l3_net": Network(l3_net, stride=1, pad_end=False),
    "l3_net_ots": Network(l3_net, stride=2, pad_end=True),
    "ave_net": Network(ave_net, stride=2, pad_end=True),
    "ave_net_mf": Network(
        ave_net, stride=2, pad_end=True, inputs=(constants.FRAMES, constants.LOG_SPECTROGRAM)
    ),
    "ave_net_of": Network(
        ave_net,
        stride=2,
        pad_end=True,
        inputs=(constants.FRAME, constants.FLOW, constants.LOG_SPECTROGRAM),
    ),
    "avol_net": Network(avol_net, stride=2, pad_end=True, loss=losses.logistic_loss),
    "supervised_vision": _supervised("vision", constants.FRAME, constants.FRAME_LABEL),
    "supervised_audio": _supervised("audio", constants.LOG_SPECTROGRAM, constants.AUDIO_LABEL),
    "supervised_pretraining": Network(
        functools.partial(l3_net, frozen=True), stride=1, pad_end=False
    ),
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network and its size.

    The defaults are the papers'. Plain data, kept with checkpoints.
    """

    model: str = setting("l3_net", "Network to build.", choices=tuple(MODELS))
    width: float = setting(
        1.0, "Factor on the number of channels of every layer; 1.0 is the papers' network."
    )
    frame_px: int = setting(
        constants.FRAME_PX, "Height and width of the frame in pixels; 224 in the papers."
    )
    spectrogram_average: int = setting(
        1,
        "Shrink the log-spectrogram: average squares of so many bands x windows; 1 in the papers.",
        at_least=1,
    )
    conv1_1_stride: int = setting(
        0, "Stride of the ConvNets' first layer, 1 or 2; 0: the network's own, 1 in L3, 2 in OTS."
    )
    batch_norm_momentum: float = setting(
        0.99, "Momentum of batch norm's moving averages; not given in the papers."
    )
    synchronized_batch_norm: bool = setting(
        False, "Batch norm over the pairs of all replicas, not over those of each replica alone."
    )
    num_classes: int = setting(
        constants.NUM_KINETICS_SOUNDS_CLASSES,
        "Number of classes of the supervised baselines; 34 in L3 (Kinetics-Sounds); 0: as many as "
        "the shards have labels.",
    )
    precision: str = setting(
        "float32",
        "Arithmetic of the ConvNets; weights stay float32. Not given in the papers.",
        choices=tuple(PRECISIONS),
    )

    @property
    def network(self) -> Network:
        """The entry of MODELS."""
        if self.model not in MODELS:
            raise UserError(f"--model={self.model}: need one of {', '.join(MODELS)}")
        return MODELS[self.model]

    @property
    def stride(self) -> int:
        """The stride of conv1_1."""
        return self.conv1_1_stride or self.network.stride

    @property
    def spectrogram_settings(self) -> dict[str, Any]:
        """Keyword arguments of `log_spectrogram.log_spectrogram`."""
        return {"pad_end": self.network.pad_end, "average": self.spectrogram_average}


def input_shapes(
    config: ModelConfig, *, any_frame_size: bool = False
) -> dict[str, tuple[int | None, ...]]:
    """Returns the shape of each input of a network by its name, without batch.

    With `any_frame_size` height and width of frames are left open (None).
    """
    side = None if any_frame_size else config.frame_px
    shapes = {
        constants.FRAME: (side, side, 3),
        constants.FRAMES: (constants.NUM_FRAMES_MF, side, side, 3),
        constants.FLOW: (side, side, 2 * constants.NUM_FLOW_FRAMES),
        constants.LOG_SPECTROGRAM: log_spectrogram_shape(**config.spectrogram_settings),
    }
    return {name: shapes[name] for name in config.network.inputs}


def build_model(config: ModelConfig, *, seed: int = 0, any_frame_size: bool = False) -> keras.Model:
    """Builds a network from its configuration.

    Args:
        config: the network and its size.
        seed: decides the weights.
        any_frame_size: whether the vision ConvNet takes frames of any height and width, as the
            256x256 images of L3 §3.4; the weights are the same.

    Raises:
        UserError: if the name or a size is not allowed, or Keras is set to channels first.
    """
    network = config.network
    _check(config)
    if keras.config.image_data_format() != "channels_last":
        raise UserError(
            'Keras is set to "channels_first" (image_data_format in ~/.keras/keras.json); the '
            'networks need "channels_last"'
        )
    settings = ConvNetSettings(
        stride=config.stride,
        width=config.width,
        batch_norm_momentum=config.batch_norm_momentum,
        synchronized_batch_norm=config.synchronized_batch_norm,
        seed=seed,
    )
    classes = {"num_classes": config.num_classes} if network.is_classifier else {}
    with _dtype_policy(PRECISIONS[config.precision]):
        shapes = input_shapes(config, any_frame_size=any_frame_size)
        return network.builder(shapes, settings, **classes)


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Sets Keras' global policy while layers are made, and puts the old one back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _check(config: ModelConfig) -> None:
    if config.precision not in PRECISIONS:
        raise UserError(f"--precision={config.precision}: need one of {', '.join(PRECISIONS)}")
    if config.conv1_1_stride not in (0, 1, 2):
        raise UserError(
            f"--conv1_1_stride={config.conv1_1_stride}: need 1, 2, or 0 for the network's own"
        )
    if config.network.is_classifier and config.num_classes < 2:
        raise UserError(f"--num_classes={config.num_classes}: need at least 2")
    if config.width <= 0:
        raise UserError(f"--width={config.width}: need a positive multiplier; 1.0 is the papers'")
    # Four rows of conv4_2 must be left for the 4x3 and 4x4 grids of L3 §3.3 and §3.4.
    shrink = 8 * config.stride
    if config.frame_px < 4 * shrink:
        raise UserError(
            f"--frame_px={config.frame_px}: {config.model} needs at least {4 * shrink} pixels"
        )
    bands, windows, _ = log_spectrogram_shape(**config.spectrogram_settings)
    if bands < 4 * shrink or windows < 3 * shrink:
        raise UserError(
            f"--spectrogram_average={config.spectrogram_average}: leaves {bands}x{windows}; "
            f"{config.model} needs at least {4 * shrink}x{3 * shrink}"
        )
