"""The networks whose weights openl3 publishes: front ends of sound, and one ConvNet for all files.

Facts are those of https://github.com/marl/openl3 (`openl3/models.py` of 0.4.2) and of kapre 0.4.1,
whose layers compute its spectrograms. The layers are L3-Net's at stride 1 (`convnets`), but

- batch norm comes before conv1_1, too, and the convolutions have a bias;
- conv4_2 is the end: neither batch norm nor ReLU follow;
- in the image network conv1_2's ReLU comes before its batch norm, and pools round up.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from l3net import constants
from l3net.models import convnets

AUDIO, IMAGE = MODALITIES = ("audio", "image")
LINEAR, MEL128, MEL256 = INPUT_REPRS = ("linear", "mel128", "mel256")
HOP_SAMPLES = 242
_FFT_LENGTHS = {LINEAR: 512, MEL128: 2048, MEL256: 2048}
_MEL_BANDS = {MEL128: 128, MEL256: 256}
_SMALLEST_MAGNITUDE = 1e-10
_FLOOR_DB = -80.0


# --- Sound ---------------------------------------------------------------------------------------
def spectrogram(waveform: tf.Tensor, input_repr: str) -> tf.Tensor:
    """Turns one second of sound into an audio network's input, in decibels below its maximum.

    Magnitudes of a periodic Hann window, hop 242. "linear": 512 samples, only windows inside the
    second. "mel128", "mel256": 2048 samples, zeros behind the second, Slaney's mel bands of the
    magnitude. Then 10 log10(max(x, 1e-10)), less the largest value of this second, at least -80.

    Args:
        waveform: float32 [batch, 48000], mono, in [-1, 1].
        input_repr: "linear", "mel128" or "mel256".

    Returns:
        float32 [batch, *spectrogram_shape(input_repr)]: frequency (0 Hz first), time, channel.
    """
    bands, windows, _ = spectrogram_shape(input_repr)
    frames = _frames(waveform, windows, _FFT_LENGTHS[input_repr])
    magnitude = tf.abs(tf.signal.rfft(frames, [_FFT_LENGTHS[input_repr]]))
    if input_repr != LINEAR:
        magnitude = magnitude @ mel_matrix(bands)
    magnitude = tf.reshape(magnitude, [-1, windows, bands])
    decibels = 10.0 * tf.math.log(tf.maximum(magnitude, _SMALLEST_MAGNITUDE)) / np.log(10.0)
    below = decibels - tf.reduce_max(decibels, axis=[1, 2], keepdims=True)
    return tf.transpose(tf.maximum(below, _FLOOR_DB), [0, 2, 1])[..., tf.newaxis]


def _frames(waveform: tf.Tensor, num_windows: int, length: int) -> tf.Tensor:
    """Returns windows of sound times Hann, zeros behind it: float32 [batch * windows, length].

    `tf.signal.stft` gives the same numbers; ONNX needs a Fourier transform of rank 2.
    """
    samples = HOP_SAMPLES * np.arange(num_windows)[:, np.newaxis] + np.arange(length)
    num_behind = max(0, samples[-1, -1] + 1 - constants.AUDIO_SAMPLES)
    frames = tf.gather(tf.pad(waveform, [[0, 0], [0, num_behind]]), samples, axis=1)
    return tf.reshape(frames * tf.signal.hann_window(length), [-1, length])


def spectrogram_shape(input_repr: str) -> tuple[int, int, int]:
    """Returns (bands, windows, 1) of one `spectrogram`: 257x197, 128x199 or 256x199."""
    samples, fft_length = constants.AUDIO_SAMPLES, _FFT_LENGTHS[input_repr]
    if input_repr == LINEAR:
        return fft_length // 2 + 1, 1 + (samples - fft_length) // HOP_SAMPLES, 1
    return _MEL_BANDS[input_repr], -(-samples // HOP_SAMPLES), 1


@functools.cache
def mel_matrix(num_bands: int) -> np.ndarray:
    """Returns Slaney's mel bands, 0 Hz to 24 kHz, of a 2048-point FFT: float32 [1025, num_bands].

    Mel is linear below 1 kHz (200/3 Hz each) and logarithmic above (27 steps for a factor of 6.4).
    Bands are triangles, each from its lower neighbour's centre to its upper one's, of area 1: what
    `librosa.filters.mel` gives by default.
    """
    nyquist, knee, hz_per_mel = constants.SAMPLE_RATE_HZ / 2, 1000.0, 200.0 / 3
    log_step = np.log(6.4) / 27
    top = knee / hz_per_mel + np.log(nyquist / knee) / log_step
    mels = np.linspace(0.0, top, num_bands + 2)
    above = knee * np.exp(log_step * (mels - knee / hz_per_mel))
    edges = np.where(mels * hz_per_mel < knee, mels * hz_per_mel, above)  # Hz
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    hz = np.linspace(0.0, nyquist, _FFT_LENGTHS[MEL256] // 2 + 1)[:, np.newaxis]
    rising, falling = (hz - lower) / (centre - lower), (upper - hz) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (upper - lower)).astype(np.float32)


# --- The network ---------------------------------------------------------------------------------
def convnet(modality: str, input_repr: str) -> keras.Model:
    """Builds the network of a weights file, from its input to conv4_2.

    Its layers with weights come in the order of the file's.

    Args:
        modality: "audio" or "image".
        input_repr: what an audio network hears; an image network is the same for all.

    Returns:
        A functional model: a `spectrogram`, or images float32 [batch, height, width, 3] in [-1, 1]
        (224x224 in training), to {"conv4_2": [batch, rows, columns, 512], "pool4": [batch, 512],
        its maximum}.
    """
    is_image = modality == IMAGE
    inputs = keras.Input((None, None, 3) if is_image else spectrogram_shape(input_repr))
    x = keras.layers.BatchNormalization(name="input_batch_norm")(inputs)
    for name, channels in convnets.CONVNET_LAYERS:
        if channels is None:
            padding = "same" if is_image else "valid"
            x = keras.layers.MaxPooling2D(2, padding=padding, name=name)(x)
            continue
        x = keras.layers.Conv2D(channels, constants.KERNEL_PX, padding="same", name=name)(x)
        if name == "conv4_2":
            break
        after = [keras.layers.BatchNormalization(name=f"{name}_batch_norm"), keras.layers.ReLU()]
        for layer in reversed(after) if is_image and name == "conv1_2" else after:
            x = layer(x)
    outputs = {"conv4_2": x, "pool4": convnets.GlobalMax(name="pool4")(x)}
    return keras.Model(inputs, outputs, name=f"openl3_{modality}")
