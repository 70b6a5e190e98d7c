"""MODELS: name -> how to build a network of the papers, its input and its loss."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from l3net import constants, losses
from l3net.errors import UserError
from l3net.log_spectrogram import log_spectrogram_shape
from l3net.models.l3_net import l3_net


@dataclasses.dataclass(frozen=True)
class Network:
    """What tells one network of the papers from another.

    Attributes:
        builder: keyword function that returns a functional Keras model.
        stride: of conv1_1: 1 in L3, 2 in OTS.
        pad_end: whether the log-spectrogram has OTS's 200th window.
        loss: (model outputs, corresponds) -> float32 [batch].
    """

    builder: Callable[..., keras.Model]
    stride: int
    pad_end: bool
    loss: Callable[[dict[str, tf.Tensor], tf.Tensor], tf.Tensor]


MODELS = {
    "l3_net": Network(l3_net, stride=1, pad_end=False, loss=losses.correspondence_loss),
    "l3_net_ots": Network(l3_net, stride=2, pad_end=True, loss=losses.correspondence_loss),
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A network and its size; the defaults are the papers'. Plain data, kept with checkpoints.

    Attributes:
        model: a key of MODELS.
        width: channel multiplier.
        frame_px: height and width of the frame.
        spectrogram_average: see `log_spectrogram.log_spectrogram`.
        batch_norm_momentum: of the moving averages (ours).
    """

    model: str = "l3_net"
    width: float = 1.0
    frame_px: int = constants.FRAME_PX
    spectrogram_average: int = 1
    batch_norm_momentum: float = 0.99

    @property
    def network(self) -> Network:
        """The entry of MODELS."""
        if self.model not in MODELS:
            raise UserError(f"--model={self.model}: need one of {', '.join(MODELS)}")
        return MODELS[self.model]

    @property
    def spectrogram_settings(self) -> dict[str, bool | int]:
        """Keyword arguments of `log_spectrogram.log_spectrogram`."""
        return {"pad_end": self.network.pad_end, "average": self.spectrogram_average}


def build_model(config: ModelConfig, *, seed: int = 0, any_frame_size: bool = False) -> keras.Model:
    """Builds a network from its configuration.

    Args:
        config: name and size.
        seed: of the weights.
        any_frame_size: whether the vision ConvNet takes frames of any height and width, as the
            256x256 images of L3 §3.4; the weights are the same.

    Returns:
        A functional Keras model with random weights.

    Raises:
        UserError: if the name or a size is not allowed.
    """
    network = config.network
    _check_size(config)
    frame_px = None if any_frame_size else config.frame_px
    return network.builder(
        frame_shape=(frame_px, frame_px, 3),
        log_spectrogram_shape=log_spectrogram_shape(**config.spectrogram_settings),
        stride=network.stride,
        width=config.width,
        batch_norm_momentum=config.batch_norm_momentum,
        seed=seed,
    )


def _check_size(config: ModelConfig) -> None:
    # Four rows of conv4_2 must be left for the 4x3 and 4x4 grids of L3 §3.3 and §3.4.
    shrink = 8 * config.network.stride
    if config.frame_px < 4 * shrink:
        raise UserError(
            f"--frame_px={config.frame_px}: {config.model} needs at least {4 * shrink} pixels"
        )
    bands, windows, _ = log_spectrogram_shape(**config.spectrogram_settings)
    if bands < 4 * shrink or windows < 3 * shrink or config.spectrogram_average < 1:
        raise UserError(
            f"--spectrogram_average={config.spectrogram_average}: leaves {bands}x{windows}; "
            f"{config.model} needs at least {4 * shrink}x{3 * shrink}"
        )
    if config.width <= 0:
        raise UserError(f"--width={config.width}: need a positive multiplier; 1.0 is the papers'")
