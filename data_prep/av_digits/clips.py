"""The clips of av_digits: which image and which recordings each has, and how it looks and sounds.

Our choice, as all of this data set: nothing in the picture tells when a digit is said, and nothing
but the digit is common to picture and sound.
"""

import collections
import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image

from data_prep.av_digits.sources import NUM_DIGITS
from data_prep.demo_data import backgrounds, colours
from data_prep.lists.dataset_lists import TEST, TRAIN, VAL
from l3net import constants
from l3net.data import spoken_digits
from l3net.data.spoken_digits import Recording
from l3net.errors import UserError

LABELS = spoken_digits.WORDS
TEST_HEARD = "test_heard"
# Clips of each digit. `test` has one speaker whom training never hears, `test_heard` has new
# recordings of the other speakers.
CLIPS_PER_DIGIT: Mapping[str, int] = {TRAIN: 160, VAL: 30, TEST: 40, TEST_HEARD: 40}
# Recordings of every speaker by index: the set's own test part (0 to 4), 5 to 9, the others.
_TEST_INDICES, _VAL_INDICES = range(5), range(5, 10)
CLIP_SECONDS = 2.0
_SIZES_PX = ((320, 240), (240, 320), (256, 256), (288, 216))  # width, height
_INK_PX = 20  # of the 28 pixels of an image
_CONTRAST = 60  # between pen and background, in levels of 255
_VISIBLE = 64  # ink from here on belongs to the digit's box


@dataclasses.dataclass(frozen=True)
class ClipPlan:
    """What a clip is made of."""

    example_id: str  # also its media id
    split: str
    digit: int
    image: int  # index among MNIST's test images
    recordings: tuple[str, ...]  # names of files, in the order in which they are heard
    pauses_seconds: tuple[float, ...]  # before each
    seed: tuple[int, int]

    @property
    def path(self) -> str:
        """The video's path, relative to the data set."""
        return f"{self.split}/{self.example_id}.mp4"


# --- Plans ---------------------------------------------------------------------------------------
def plan_clips(digits: np.ndarray, recordings: Sequence[Recording], seed: int) -> list[ClipPlan]:
    """Shares images and recordings out, so that no two splits have one in common.

    Args:
        digits: int [num_images], what the images show.
        recordings: of two speakers or more; the last by name is heard in split test alone.
        seed: seed of everything drawn.

    Raises:
        UserError: if there are too few images, or a split has no recording of a digit.
    """
    unheard = spoken_digits.held_out_speaker(recordings)
    voices = collections.defaultdict(list)
    for one in recordings:
        voices[_split_of(one, unheard), one.digit].append(one)
    rng = np.random.default_rng((seed, 0))
    images = {
        digit: list(rng.permutation(np.flatnonzero(digits == digit))) for digit in range(NUM_DIGITS)
    }
    _check(images, voices)
    plans = []
    for split, count in CLIPS_PER_DIGIT.items():
        for index in range(count):
            for digit in range(NUM_DIGITS):
                example_id = f"{split}_{LABELS[digit]}_{index:03d}"
                clip_seed = (seed, zlib.crc32(example_id.encode()))
                drawn = _draw_recordings(voices[split, digit], np.random.default_rng(clip_seed))
                image = int(images[digit].pop())
                plans.append(ClipPlan(example_id, split, digit, image, *drawn, clip_seed))
    return plans


def _check(images: Mapping[int, Sequence], voices: Mapping[tuple[str, int], Sequence]) -> None:
    needed = sum(CLIPS_PER_DIGIT.values())
    for digit in range(NUM_DIGITS):
        if len(images[digit]) < needed:
            raise UserError(
                f"{len(images[digit])} images of digit {digit}; need {needed}: all of MNIST's test "
                "images"
            )
        for split in CLIPS_PER_DIGIT:
            if not voices[split, digit]:
                raise UserError(
                    f"no recording of digit {digit} for split {split}; need all speakers of the "
                    "Free Spoken Digit Dataset, with indices 0 to 49"
                )


def _split_of(recording: Recording, unheard: str) -> str:
    """Returns the one split that may use a recording."""
    if recording.speaker == unheard:
        return TEST
    if recording.index in _TEST_INDICES:
        return TEST_HEARD
    return VAL if recording.index in _VAL_INDICES else TRAIN


def _draw_recordings(
    voices: Sequence[Recording], rng: Generator
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Draws recordings until the clip is full, and the pauses before them; at least one."""
    names: list[str] = []
    pauses: list[float] = []
    end = 0.0
    while True:
        pause, voice = rng.uniform(0.05, 0.3), voices[rng.integers(len(voices))]
        end += pause + voice.seconds
        if names and end > CLIP_SECONDS:
            return tuple(names), tuple(pauses)
        names.append(voice.name)
        pauses.append(float(pause))


# --- Sound ---------------------------------------------------------------------------------------
def compose_sound(plan: ClipPlan, voices: Sequence[np.ndarray]) -> np.ndarray:
    """Puts a plan's recordings, float32 at 48 kHz each, one after the other over a room's noise.

    Returns:
        int16 [96000, 1]. Each recording gets a loudness of its own; what is too long is cut.
    """
    rng = np.random.default_rng((*plan.seed, 1))
    sound = rng.normal(size=round(CLIP_SECONDS * constants.SAMPLE_RATE_HZ))
    sound *= 10 ** rng.uniform(-3, -2)
    start = 0
    for voice, pause in zip(voices, plan.pauses_seconds, strict=True):
        start += round(pause * constants.SAMPLE_RATE_HZ)
        loudest = max(float(np.abs(voice).max(initial=0)), 1e-6)
        part = voice[: max(0, len(sound) - start)]
        sound[start : start + len(part)] += part * (rng.uniform(0.3, 0.9) / loudest)
        start += len(voice)
    return np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)[:, None]


# --- Picture -------------------------------------------------------------------------------------
def draw_frames(plan: ClipPlan, ink: np.ndarray) -> Iterator[tuple[np.ndarray, tuple]]:
    """Draws a clip's frames at 25 fps: an image of MNIST in one colour, moving over a background.

    Args:
        plan: the clip.
        ink: uint8 [28, 28].

    Yields:
        A frame, uint8 [height, width, 3], and the digit's box: ymin, xmin, ymax, xmax as shares of
        the frame.
    """
    rng = np.random.default_rng((*plan.seed, 2))
    width, height = _SIZES_PX[rng.integers(len(_SIZES_PX))]
    background = backgrounds.draw_background(width, height, rng)
    pen = Image.new("RGB", (width, height), _pen_colour(background, rng))
    digit = Image.fromarray(ink)
    num_frames = round(CLIP_SECONDS * constants.FRAME_RATE_HZ)
    for matrix in _motion(width, height, num_frames, rng):
        mask = digit.transform(
            (width, height), Image.Transform.AFFINE, tuple(matrix), Image.Resampling.BICUBIC
        )
        frame = np.asarray(Image.composite(pen, background, mask))
        rows, columns = (np.flatnonzero((np.asarray(mask) >= _VISIBLE).any(axis=a)) for a in (1, 0))
        box = (rows[0] / height, columns[0] / width, (rows[-1] + 1) / height)
        yield frame, (*box, (columns[-1] + 1) / width)


def _motion(width: int, height: int, num_frames: int, rng: Generator) -> np.ndarray:
    """Returns how a pixel of each frame maps to one of the 28x28: float [num_frames, 6].

    The digit wanders, turns by up to 20 degrees and grows and shrinks, slowly and smoothly; it
    stays in the square in the middle.
    """
    side = min(width, height)
    times = np.arange(num_frames) / constants.FRAME_RATE_HZ

    def wave(middle: float, reach: float) -> np.ndarray:
        return middle + reach * np.sin(2 * np.pi * (rng.uniform(0.2, 1) * times + rng.uniform()))

    size = wave(rng.uniform(0.35, 0.6), 0.04) * side / _INK_PX  # pixels of a frame per pixel
    angle = wave(rng.uniform(-0.2, 0.2), 0.15)
    room = 0.46 * side - size.max() * _INK_PX * 0.7
    x = wave(width / 2 + room * rng.uniform(-0.5, 0.5), 0.5 * max(room, 0))
    y = wave(height / 2 + room * rng.uniform(-0.5, 0.5), 0.5 * max(room, 0))
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    # Frame -> image: turned about (x, y), which shows the middle of the 28x28.
    return np.stack(
        [
            *(cosine, sine, 14 - cosine * x - sine * y),
            *(-sine, cosine, 14 + sine * x - cosine * y),
        ],
        axis=1,
    )


def _pen_colour(background: Image.Image, rng: Generator) -> colours.Colour:
    """Draws a colour that is lighter or darker than the middle of the background."""
    grey = np.asarray(background.convert("L"), np.float64)
    height, width = grey.shape
    level = grey[height // 4 : -height // 4, width // 4 : -width // 4].mean()
    while True:
        colour = colours.paint(rng) if rng.random() < 0.5 else colours.muted(rng)
        colour = colours.shade(colour, rng.uniform(0.3, 1.6))
        red, green, blue = colour
        if abs(0.299 * red + 0.587 * green + 0.114 * blue - level) >= _CONTRAST:
            return colour
