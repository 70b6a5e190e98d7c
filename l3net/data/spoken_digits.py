"""The Free Spoken Digit Dataset: a folder of {digit}_{speaker}_{index}.wav, 8 kHz, 0.1 to 2.3 s.

3,000 recordings of six speakers, 50 of each digit by each (Jakobovski and others, CC BY-SA 4.0).
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterable

import soundfile

from l3net.errors import UserError
from l3net.files import regular

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_RECORDINGS = 3000  # of the complete set
_RECORDING = re.compile(r"(?P<digit>\d)_(?P<speaker>.+)_(?P<index>\d+)\.wav")


@dataclasses.dataclass(frozen=True)
class Recording:
    """A voice that says a digit."""

    name: str  # of its file
    digit: int
    speaker: str
    index: int
    seconds: float


def list_recordings(folder: str | pathlib.Path) -> list[Recording]:
    """Lists a folder of recordings by digit, speaker and index.

    Raises:
        UserError: if it has none, or one cannot be read or is empty.
    """
    recordings = []
    for path in sorted(pathlib.Path(folder).glob("*.wav")):
        found = _RECORDING.fullmatch(path.name)
        if found is None:
            continue
        try:
            seconds = float(soundfile.info(regular(path)).duration)
        except (RuntimeError, OSError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if seconds <= 0:
            raise UserError(f"{path} is empty; get it again or remove it")
        digit, index = int(found["digit"]), int(found["index"])
        recordings.append(Recording(path.name, digit, found["speaker"], index, seconds))
    if not recordings:
        raise UserError(
            f"{folder} has no file named digit_speaker_index.wav; need recordings/ of the Free "
            "Spoken Digit Dataset"
        )
    return sorted(recordings, key=lambda one: (one.digit, one.speaker, one.index))


def held_out_speaker(recordings: Iterable[Recording]) -> str:
    """Returns the speaker whom no training hears: the last by name (our choice)."""
    return max(one.speaker for one in recordings)
