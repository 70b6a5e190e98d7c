"""The audio subnetwork behind the common interface of HEAR 2021.

    hear-validator l3net.hear --model runs/x/saved_model
    python -m heareval.embeddings.runner l3net.hear --model runs/x/saved_model

HEAR (Holistic Evaluation of Audio Representations, https://hearbenchmark.com/hear-api.html) runs
any module with `load_model`, `get_timestamp_embeddings` and `get_scene_embeddings` on its tasks.

Our choice: the embedding is `pool4`, 512-D, of every network, for its tasks are classification;
windows of one second follow each other by 50 ms for timestamps (the largest that HEAR suggests) and
by half a second for scenes (as the ten subclips of L3 §3.3), whose embedding is the mean over time.
"""

import itertools
import os
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from l3net import constants
from l3net.errors import UserError
from l3net.inference import embeddings, saved_model
from l3net.media import sound

ENVIRONMENT_VARIABLE = "L3NET_SAVED_MODEL"
TIMESTAMP_HOP_SAMPLES = 2_400  # 50 ms
SCENE_HOP_SAMPLES = 24_000  # 0.5 s
# Windows at once. A map of conv1 of full-width stride-1 L3-Net is 13 MB for each of them.
BATCH_SIZE = 32


class HearModel(tf.Module):
    """A network with HEAR's attributes: the sample rate in Hz, and D of both embeddings."""

    def __init__(self, network: saved_model.SavedModel, output: str):
        super().__init__(name="l3net")
        self._features = network.features(saved_model.AUDIO, output)
        self._neighbours = network.windows(output, TIMESTAMP_HOP_SAMPLES)
        self.sample_rate = constants.SAMPLE_RATE_HZ
        silence = np.zeros([1, constants.AUDIO_SAMPLES], np.float32)
        size = int(self._features(silence).shape[1])
        self.scene_embedding_size = self.timestamp_embedding_size = size

    def embed(self, windows: Iterable[np.ndarray], *, neighbours: bool = False) -> np.ndarray:
        """Returns float32 [N, D] of windows float32 [48000]; at least one.

        `neighbours`: they are of one sound, TIMESTAMP_HOP_SAMPLES apart, and may share what they
        have in common.
        """
        function = self._neighbours if neighbours else self._features
        batches = saved_model.batches(windows, BATCH_SIZE)
        return np.concatenate([function(batch) for batch in batches])


def load_model(model_file_path: str = "", *, output: str = embeddings.POOL4) -> HearModel:
    """Loads a network from the folder of a SavedModel that l3net.export wrote.

    "" takes the one that the environment variable L3NET_SAVED_MODEL names, for no weights come with
    this package. The output is "pool4", "conv4_2" or, where the network has one, "embedding"; HEAR
    gives none.
    """
    path = model_file_path or os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not path:
        raise UserError(
            "no network: give load_model the folder of a SavedModel that l3net.export wrote "
            f"(hear-validator l3net.hear --model FOLDER), or set {ENVIRONMENT_VARIABLE} to it"
        )
    return HearModel(saved_model.SavedModel(path), output)


def get_timestamp_embeddings(audio: tf.Tensor, model: HearModel) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives an embedding every 50 ms.

    The embedding at time t is of the second from t - 0.5 s to t + 0.5 s; outside the sound there is
    silence. Times go from 0 to the last multiple of 50 ms inside the sound. `audio` is float32
    [n_sounds, n_samples] in [-1, 1], 48 kHz; a UserError if it has another shape or type, is empty
    or has samples that are NaN, infinite or of another scale.

    Returns:
        (float32 [n_sounds, n_timestamps, D], float32 [n_sounds, n_timestamps]): embeddings, and
        their times in milliseconds.
    """
    sounds = _checked(audio)
    hop = TIMESTAMP_HOP_SAMPLES
    windows = (
        sound.windows(sound.until_last_centre([waveform], hop=hop), hop=hop, center=True)
        for waveform in sounds
    )
    embedding = np.stack([model.embed(each, neighbours=True) for each in windows])
    milliseconds = 1000.0 * sound.window_times(embedding.shape[1], hop)
    times = np.tile(milliseconds.astype(np.float32), [len(sounds), 1])
    return tf.constant(embedding), tf.constant(times)


def get_scene_embeddings(audio: tf.Tensor, model: HearModel) -> tf.Tensor:
    """Gives one embedding per sound, float32 [n_sounds, D]: the mean over windows of one second.

    There is one each half second. Sound shorter than a second is padded with zeros, and so is the
    last window. Audio and errors are as in `get_timestamp_embeddings`.
    """
    sounds = _checked(audio)
    windows = (sound.windows([waveform], hop=SCENE_HOP_SAMPLES) for waveform in sounds)
    rows = model.embed(itertools.chain.from_iterable(windows))
    return tf.constant(rows.reshape(len(sounds), -1, rows.shape[1]).mean(axis=1))


def _checked(audio: tf.Tensor) -> np.ndarray:
    sounds = np.asarray(audio)
    if not np.issubdtype(sounds.dtype, np.floating):
        raise UserError(f"audio of type {sounds.dtype}: need float32 in [-1, 1]")
    if sounds.ndim != 2 or sounds.size == 0:
        raise UserError(
            f"audio of shape {sounds.shape}: need [n_sounds, n_samples], at least one of each"
        )
    sound.check_samples(sounds, "audio")
    return sounds.astype(np.float32, copy=False)
