"""Augmentation: pure functions of the data and of uniform random numbers ("draws").

A pair's draws are made with the pair (`input_pipeline`) and travel with it. So an augmented batch
depends on nothing but the seed and the step, and the batched part can run anywhere: in the input
pipeline or inside the training step on the accelerator.
"""

import tensorflow as tf

from l3net import constants

# Columns of "draws": uniform random numbers in [0, 1), float32 [batch, NUM_DRAWS].
CROP_Y, CROP_X, FLIP, BRIGHTNESS, SATURATION, VOLUME, PARTNER = range(7)
NUM_DRAWS = 7

# Our choice, for the papers name brightness and saturation jitter without ranges: those of the
# Inception recipe, on pixel values in [0, 1].
BRIGHTNESS_RANGE = 32.0 / 255.0
SATURATION_RANGE = 0.5
LUMA = (0.299, 0.587, 0.114)
_JPEG_RATIOS = (8, 4, 2, 1)


def frame_to_float(image: tf.Tensor) -> tf.Tensor:
    """Maps uint8 pixels [0, 255] to the vision ConvNet's float32 input [-1, 1] (our choice)."""
    return tf.cast(image, tf.float32) * (1.0 / 127.5) - 1.0


def jpeg_ratio(smallest_side_px: int, frame_px: int) -> int:
    """Returns how far (8, 4, 2 or 1) the JPEG decoder may shrink a frame for a crop that large."""
    side = smallest_side_px * constants.FRAME_PX / constants.SMALLEST_SIDE_PX
    return next((ratio for ratio in _JPEG_RATIOS if side / ratio >= frame_px), 1)


def decode_and_crop(
    jpeg: tf.Tensor, draws: tf.Tensor | None, *, frame_px: int, ratio: int = 1
) -> tf.Tensor:
    """Decodes only the crop of a JPEG, flipped half of the time.

    L3 §2.2: smallest side 256, random 224x224 crop, random horizontal flip. The crop is 224/256 of
    the smallest side, whatever size the frame was stored in; it is resized only if that is not
    `frame_px`.

    Args:
        jpeg: string [].
        draws: float32 [NUM_DRAWS]; None takes the centre crop (our choice for evaluation).
        frame_px: height and width of the result; 224 in the papers.
        ratio: see `jpeg_ratio`.

    Returns:
        uint8 [frame_px, frame_px, 3].
    """
    crop_px, offset = _crop_box(_frame_shape(jpeg, ratio), draws)
    crop = _finish(_decode_frame(jpeg, crop_px, offset, ratio), crop_px, draws, frame_px)
    return tf.ensure_shape(crop, [frame_px, frame_px, 3])


def decode_and_crop_frames(
    jpegs: tf.Tensor, draws: tf.Tensor | None, *, frame_px: int, ratio: int = 1
) -> tf.Tensor:
    """Decodes the same crop of several frames of a clip, the bytes of `decode_and_crop`.

    What does not depend on the picture is done once for all of them.

    Args:
        jpegs: string [num_frames], JPEGs of one size.
        draws: see `decode_and_crop`.
        frame_px: height and width of the result.
        ratio: see `jpeg_ratio`.

    Returns:
        uint8 [num_frames, frame_px, frame_px, 3].
    """
    crop_px, offset = _crop_box(_frame_shape(jpegs[0], ratio), draws)
    crops = tf.stack([_decode_frame(jpeg, crop_px, offset, ratio) for jpeg in tf.unstack(jpegs)])
    crops = _finish(crops, crop_px, draws, frame_px)
    return tf.ensure_shape(crops, [jpegs.shape[0], frame_px, frame_px, 3])


def _frame_shape(jpeg: tf.Tensor, ratio: int) -> tf.Tensor:
    """Returns height and width of a frame that is decoded so much smaller: int32 [2]."""
    return (tf.io.extract_jpeg_shape(jpeg)[:2] + (ratio - 1)) // ratio


def _decode_frame(jpeg: tf.Tensor, crop_px: tf.Tensor, offset: tf.Tensor, ratio: int) -> tf.Tensor:
    return tf.image.decode_and_crop_jpeg(
        jpeg,
        tf.concat([offset, [crop_px, crop_px]], axis=0),
        channels=3,
        ratio=ratio,
        fancy_upscaling=False,
        dct_method="INTEGER_FAST",
    )


def _finish(
    crop: tf.Tensor, crop_px: tf.Tensor, draws: tf.Tensor | None, frame_px: int
) -> tf.Tensor:
    """Resizes and flips uint8 [(frames,) crop_px, crop_px, 3], as far as it must be."""
    crop = tf.cond(crop_px == frame_px, lambda: crop, lambda: _resize(crop, frame_px))
    if draws is None:
        return crop
    # Here, pair by pair: half of them are not touched. (Batched, tf.where over a broadcast mask
    # alone costs more than all other jitter.)
    return tf.cond(draws[FLIP] < 0.5, lambda: tf.reverse(crop, axis=[-2]), lambda: crop)


def decode_and_crop_flow(flows: tf.Tensor, draws: tf.Tensor | None, *, frame_px: int) -> tf.Tensor:
    """Decodes from flow frames the crop that `decode_and_crop` takes from a frame.

    A flipped flow also points the other way: its x changes sign.

    Args:
        flows: string [num_flows], greyscale JPEGs with x above y (see `schema.Clip`).
        draws: see `decode_and_crop`.
        frame_px: height and width of the result.

    Returns:
        uint8 levels [frame_px, frame_px, 2 * num_flows]: x and y of the first, of the second, ...
    """
    shape = tf.io.extract_jpeg_shape(flows[0])[:2] // tf.constant([2, 1])
    crop_px, offset = _crop_box(shape, draws)
    # From the top of x's crop to the bottom of y's: y alone would be decoded through x again.
    box = tf.concat([offset, [shape[0] + crop_px, crop_px]], axis=0)
    planes = []
    for jpeg in tf.unstack(flows):
        both = _decode_flow(jpeg, box)
        planes += [both[:crop_px], both[shape[0] :]]
    crop = tf.concat(planes, axis=-1)
    crop = tf.cond(crop_px == frame_px, lambda: crop, lambda: _resize(crop, frame_px))
    if draws is not None:
        crop = tf.cond(draws[FLIP] < 0.5, lambda: _flip_flow(crop), lambda: crop)
    return tf.ensure_shape(crop, [frame_px, frame_px, 2 * flows.shape[0]])


def _decode_flow(jpeg: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    # The default, fast inverse transform rounds down: half a level of motion to the left and up.
    return tf.io.decode_and_crop_jpeg(jpeg, box, channels=1, dct_method="INTEGER_ACCURATE")


def _flip_flow(flow: tf.Tensor) -> tf.Tensor:
    reversed_flow = tf.cast(tf.reverse(flow, axis=[1]), tf.int32)
    is_x = tf.range(flow.shape[-1]) % 2 == 0
    mirrored = tf.minimum(2 * constants.FLOW_ZERO_LEVEL - reversed_flow, 255)
    return tf.cast(tf.where(is_x, mirrored, reversed_flow), tf.uint8)


def flow_to_float(flow: tf.Tensor) -> tf.Tensor:
    """Maps uint8 flow levels to the flow stream's float32 input, [-1, 1] (our choice).

    0 is no motion, 1 a displacement of 20/256 of the smallest side from one frame to the next.
    """
    return (tf.cast(flow, tf.float32) - constants.FLOW_ZERO_LEVEL) / constants.FLOW_LEVELS


def _crop_box(shape: tf.Tensor, draws: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns size and (y, x) offset of the crop, 224/256 of the smallest side, in pixels."""
    smallest = tf.cast(tf.reduce_min(shape), tf.float32)
    crop_px = tf.cast(
        tf.round(smallest * (constants.FRAME_PX / constants.SMALLEST_SIDE_PX)), tf.int32
    )
    room = tf.cast(shape - crop_px, tf.float32)
    if draws is None:
        return crop_px, tf.cast(room / 2, tf.int32)
    return crop_px, tf.cast(tf.floor(draws[CROP_Y : CROP_X + 1] * (room + 1.0)), tf.int32)


def _resize(image: tf.Tensor, size_px: int) -> tf.Tensor:
    resized = tf.image.resize(image, [size_px, size_px], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def jitter_frames(frames: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Jitters brightness and saturation (L3 §2.2).

    Saturation is a blend with the grey image, brightness an offset (our choice); both are linear,
    so a frame is multiplied by one 3x3 matrix.

    Args:
        frames: uint8 [batch, (frames,) height, width, 3]; the frames of a clip alike.
        draws: float32 [batch, NUM_DRAWS].

    Returns:
        float32 [batch, (frames,) height, width, 3] in [-1, 1].
    """
    frames = frame_to_float(frames)
    saturation = 1.0 + SATURATION_RANGE * _symmetric(draws[:, SATURATION])
    brightness = 2.0 * BRIGHTNESS_RANGE * _symmetric(draws[:, BRIGHTNESS])  # on [-1, 1]
    saturation = saturation[:, tf.newaxis, tf.newaxis]
    to_grey = tf.tile(tf.constant(LUMA)[:, tf.newaxis], [1, 3])
    matrix = saturation * tf.eye(3) + (1.0 - saturation) * to_grey  # [batch, 3, 3]
    shape = tf.shape(frames)
    pixels = tf.reshape(frames, [shape[0], tf.reduce_prod(shape[1:-1]), 3])
    pixels = tf.matmul(pixels, matrix) + brightness[:, tf.newaxis, tf.newaxis]
    return tf.reshape(tf.clip_by_value(pixels, -1.0, 1.0), shape)


def jitter_volume(waveform: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Changes the volume of float32 [batch, samples] by up to 10 %, one factor a row (L3 §2.2)."""
    factor = 1.0 + constants.VOLUME_JITTER * _symmetric(draws[:, VOLUME])
    return waveform * factor[:, tf.newaxis]


def _symmetric(uniform: tf.Tensor) -> tf.Tensor:
    """Maps [0, 1) to [-1, 1)."""
    return 2.0 * uniform - 1.0
