"""Which frame goes with which second of sound (L3 §2.2; OTS §3.3).

Three samplings:

    l3      positive: any frame, any second of sound that overlaps it in time;
            negative: a second of sound from anywhere in another video.
    ots     positive: a frame with its second of sound centred on it; negative: another video's
            second, centred on one of its frames, so both lie on the same 0.04 s grid. On top of
            it both are misaligned at random. OTS says "by up to 1 s"; our choice: the shifts span
            1 s, -0.5 to 0.5 s, so that the frame stays inside its second. `misalignment_seconds`
            is the largest shift: 1.0 is the literal reading, 0.0 none. It is an augmentation, so
            evaluation pairs have none (our choice).
    naive   positive as in ots without misalignment, negative anywhere off the grid: the shortcut
            that OTS §3.3 warns of, kept because its effect is a reported experiment.

Labels are never read: a negative comes from another video, not from another class.
"""

import tensorflow as tf

from l3net import constants

SAMPLINGS = L3, OTS, NAIVE = ("l3", "ots", "naive")
NUM_TIME_DRAWS = 4
_HALF_SECOND = constants.AUDIO_SAMPLES // 2


def draw_times(
    frame_times_us: tf.Tensor,
    num_samples: tf.Tensor,
    draws: tf.Tensor,
    *,
    sampling: str,
    misalignment_seconds: float = constants.MISALIGNMENT_SECONDS,
    num_padding_frames: tf.Tensor | int = 0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws frames of one clip, and for each a matching and an unrelated second of its sound.

    Args:
        frame_times_us: int64 [num_frames], true frame times from the clip's start, increasing.
        num_samples: int [], length of the clip's sound at 48 kHz, at least 48000.
        draws: float32 [pairs, NUM_TIME_DRAWS], uniform in [0, 1).
        sampling: one of SAMPLINGS.
        misalignment_seconds: largest shift of a second of sound in "ots", forth or back; the other
            samplings have none.
        num_padding_frames: leading frames that show no picture of their own time; never drawn.

    Returns:
        frame_index, matching_start, other_start: int32 [pairs]. The second of sound that matches
        the frame begins at sample matching_start and contains the frame's time, unless "ots" shifts
        it by more than half a second. other_start begins the second to give to a
        negative pair of another video.

    Raises:
        ValueError: if the sampling is unknown.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling {sampling!r}: need one of {', '.join(SAMPLINGS)}")
    times = frame_times_us * 6 // 125  # microseconds to samples at 48 kHz, exactly 0.048
    num_samples = tf.cast(num_samples, tf.int64)
    if sampling == "l3":
        index, time = _draw_frame(times, draws[:, 0], num_padding_frames, 0, num_samples)
        earliest = tf.maximum(time - constants.AUDIO_SAMPLES, 0)
        latest = tf.minimum(time, num_samples - constants.AUDIO_SAMPLES)
        matching = _draw_between(earliest, latest, draws[:, 1])
        other = _draw_anywhere(num_samples, draws[:, 2])
    else:
        inside = (_HALF_SECOND, num_samples - _HALF_SECOND)
        index, time = _draw_frame(times, draws[:, 0], num_padding_frames, *inside)
        _, other_time = _draw_frame(times, draws[:, 2], num_padding_frames, *inside)
        largest = round(misalignment_seconds * constants.SAMPLE_RATE_HZ)
        matching = _centred_start(time, num_samples, largest * (sampling == "ots"), draws[:, 1])
        if sampling == "ots":
            other = _centred_start(other_time, num_samples, largest, draws[:, 3])
        else:
            other = _draw_anywhere(num_samples, draws[:, 3])
    return tuple(tf.cast(x, tf.int32) for x in (index, matching, other))


def _draw_frame(times, uniform, num_padding_frames, earliest, latest):
    """Picks a frame among those whose time is in [earliest, latest], else the one nearest to it."""
    first = tf.reduce_sum(tf.cast(times < earliest, tf.int64))
    first = tf.maximum(first, tf.cast(num_padding_frames, tf.int64))
    last = tf.reduce_sum(tf.cast(times <= latest, tf.int64)) - 1
    first = tf.minimum(first, tf.size(times, tf.int64) - 1)
    index = _draw_between(first, tf.maximum(first, last), uniform)
    return index, tf.gather(times, index)


def _draw_between(low, high, uniform):
    """Draws an integer from low to high, both included."""
    span = tf.cast(high - low + 1, tf.float64)
    return low + tf.cast(tf.floor(tf.cast(uniform, tf.float64) * span), tf.int64)


def _draw_anywhere(num_samples, uniform):
    return _draw_between(tf.constant(0, tf.int64), num_samples - constants.AUDIO_SAMPLES, uniform)


def _centred_start(time, num_samples, largest_shift, uniform):
    """Start of the second centred on a time, shifted by up to `largest_shift` samples."""
    largest_shift = tf.constant(largest_shift, tf.int64)
    start = time - _HALF_SECOND + _draw_between(-largest_shift, largest_shift, uniform)
    return tf.clip_by_value(start, tf.constant(0, tf.int64), num_samples - constants.AUDIO_SAMPLES)


def frame_window(
    frame_index: tf.Tensor,
    count: int,
    num_frames: tf.Tensor,
    *,
    num_padding_frames: tf.Tensor | int = 0,
) -> tf.Tensor:
    """Picks the frames around a frame: 25 for AVE+MF, 10 flow frames for AVE+OF (OTS §3.2).

    The paper does not say which; our choice: those centred on the frame. Where the clip begins or
    ends, its first or last one is repeated.

    Args:
        frame_index: int32 [pairs].
        count: how many; frame_index - count // 2 is the first.
        num_frames: int [], how many frames, or flow frames, the clip has.
        num_padding_frames: leading frames that show no picture of their own time; not picked.

    Returns:
        int32 [pairs, count].
    """
    window = frame_index[:, tf.newaxis] + tf.range(count) - count // 2
    last = tf.cast(num_frames, tf.int32) - 1
    first = tf.minimum(tf.cast(num_padding_frames, tf.int32), last)
    return tf.clip_by_value(window, first, last)


def mix_pairs(media_ids: tf.Tensor, partner_draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decides which rows of a batch become negatives and whose sound they get.

    Every second row is a negative, so positives and negatives are equal in number on every
    replica that gets an even share of the batch. A negative's sound comes from a row of another
    video, chosen at random. Only where a batch shows a single video do all rows stay positive: the
    label is always true.

    Args:
        media_ids: int64 [batch], equal for rows of the same video.
        partner_draws: float32 [batch], uniform in [0, 1).

    Returns:
        corresponds: int32 [batch]; partner: int32 [batch], the row whose unrelated second of
        sound a negative row gets.
    """
    different = media_ids[:, tf.newaxis] != media_ids[tf.newaxis, :]
    # The fractional part of a sum of two uniform numbers is uniform: an unbiased choice.
    scores = tf.math.floormod(partner_draws[:, tf.newaxis] + partner_draws[tf.newaxis, :], 1.0)
    partner = tf.argmax(tf.where(different, scores, -1.0), axis=1, output_type=tf.int32)
    odd_row = tf.range(tf.size(media_ids)) % 2 == 1
    negative = odd_row & tf.reduce_any(different, axis=1)
    return 1 - tf.cast(negative, tf.int32), partner


def paired_targets(media_ids: tf.Tensor, num_mismatches: int) -> tf.Tensor:
    """Says which pairs correspond if every clip gives a match and some mismatches (our choice).

    Clip k gives a group of 1 + num_mismatches rows: its frame with its own sound, and with those of
    the next clips; after the last clip comes the first (`frames_of_pairs`, `sounds_of_pairs`). So a
    sound, too, is in one match and in as many mismatches: what a frame or a sound alone does to
    the loss cancels, and the gradient is about which go together. The papers draw every pair
    independently.

    Args:
        media_ids: int64 [num_clips], equal for clips of the same video.
        num_mismatches: of each frame and sound, less than num_clips.

    Returns:
        int32 [num_rows]: a mismatch of two clips of one video is a match, too.
    """
    of_clips = tf.range(tf.size(media_ids))
    same = tf.gather(media_ids, frames_of_pairs(of_clips, num_mismatches)) == tf.gather(
        media_ids, sounds_of_pairs(of_clips, num_mismatches)
    )
    return tf.cast(same, tf.int32)


def frames_of_pairs(of_clips: tf.Tensor, num_mismatches: int) -> tf.Tensor:
    """Puts what each clip's frame gave into the rows of `paired_targets`: [num_rows, ...]."""
    return tf.repeat(of_clips, 1 + num_mismatches, axis=0)


def sounds_of_pairs(
    of_clips: tf.Tensor, num_mismatches: int, of_mismatches: tf.Tensor | None = None
) -> tf.Tensor:
    """Puts what each clip's sound gave into the rows of `paired_targets`: [num_rows, ...].

    Args:
        of_clips: [num_clips, ...].
        num_mismatches: as of `paired_targets`.
        of_mismatches: the same of the seconds that mismatches get, if they have their own.
    """
    others = of_clips if of_mismatches is None else of_mismatches
    next_ones = [tf.roll(others, -shift, axis=0) for shift in range(1, 1 + num_mismatches)]
    rows = tf.stack([of_clips, *next_ones], axis=1)
    return tf.reshape(rows, tf.concat([[-1], tf.shape(of_clips)[1:]], axis=0))


def weights_of_pairs(num_clips: int, num_mismatches: int) -> tf.Tensor:
    """Returns the weights of rows in the loss: a clip's match weighs as much as its mismatches.

    Returns:
        float32 [num_rows], which add up to 2 * num_clips: a match and a mismatch of each clip.
    """
    return tf.tile(tf.constant([1.0, *[1.0 / num_mismatches] * num_mismatches]), [num_clips])
