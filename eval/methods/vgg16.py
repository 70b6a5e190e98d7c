"""VGG16 trained on ImageNet, as Keras publishes it: a supervised baseline (OTS §3.1, Table 1).

"Vision features extracted from the last hidden layer of the VGG-16 network trained in a
fully-supervised manner on ImageNet": 4096-D, Keras' layer fc2, after its ReLU (our choice).
"""

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l3net import constants
from l3net.errors import UserError, first_line
from l3net.files import sha256_of
from l3net.inference import saved_model

LAST_HIDDEN = "fc2"


class Vgg16:
    """VGG16 in place of a SavedModel's `vision` signature, see `clips.Network`.

    Attributes:
        metadata: hash of the weights file, version of Keras.
        frame_px: height and width of its images.
        inputs: a frame.
    """

    frame_px: int = constants.FRAME_PX
    inputs: tuple[str, ...] = (constants.FRAME,)

    def __init__(self, weights: str | pathlib.Path):
        """Reads Keras' vgg16_weights_tf_dim_ordering_tf_kernels.h5 (with the top layers).

        Raises:
            UserError: if it does not exist, or holds other weights.
        """
        path = pathlib.Path(weights)
        if not path.is_file():
            raise UserError(
                f"the weights file {path} does not exist; --vgg16_weights takes Keras' "
                "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
            )
        try:
            network = keras.applications.VGG16(weights=str(path))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} does not hold VGG16's weights ({first_line(error)}); need "
                "Keras' vgg16_weights_tf_dim_ordering_tf_kernels.h5, with the top layers"
            ) from error
        self.metadata: dict[str, Any] = {
            "vgg16_weights": sha256_of(path),
            "keras": keras.__version__,
        }
        self._network = keras.Model(network.input, network.get_layer(LAST_HIDDEN).output)

    def features(self, signature: str, output: str) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the last hidden layer, from uint8 [N, 224, 224, 3] to float32 [N, 4096].

        Raises:
            UserError: if another signature or output is asked for.
        """
        if (signature, output) != (saved_model.VISION, LAST_HIDDEN):
            raise UserError(f"VGG16 gives {LAST_HIDDEN} of vision; got a request for {output!r}")
        prepare = keras.applications.vgg16.preprocess_input

        def run(images: np.ndarray) -> np.ndarray:
            return np.array(self._network(prepare(images.astype(np.float32)), training=False))

        return run
