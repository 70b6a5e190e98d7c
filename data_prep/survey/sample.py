"""A few clips of a prepared folder to look at: how they are drawn, and what is shown."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep.survey.loudness import peak_dbfs, rms_dbfs
from l3net import constants
from l3net.data.schema import Clip
from l3net.errors import UserError
from l3net.flags import setting


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Which clips are read and shown."""

    num_clips: int = setting(24, "Clips to show, drawn evenly from all that are read.", at_least=0)
    seed: int = setting(0, "Seed with which clips and shards are drawn.", at_least=0)
    max_clips: int = setting(
        10_000,
        "Clips to read (our choice); of a larger folder so many shards are drawn that they have at "
        "least as many. The shard of a clip is a hash of its id, so they are a fair sample.",
        at_least=1,
    )

    def shards(self, num_clips: Sequence[int]) -> list[int]:
        """Returns the positions, in order, of the shards to read, given every shard's clips."""
        if sum(num_clips) <= self.max_clips:
            return list(range(len(num_clips)))
        drawn = np.random.default_rng(self.seed).permutation(len(num_clips))
        counts = np.cumsum(np.array(num_clips)[drawn])
        return sorted(drawn[: np.searchsorted(counts, self.max_clips) + 1].tolist())

    def clips(self, num_clips: int) -> set[int]:
        """Returns the positions of the clips to show among so many that are read."""
        rng = np.random.default_rng(self.seed)
        drawn = rng.choice(num_clips, min(self.num_clips, num_clips), replace=False)
        return set(drawn.tolist())


@dataclasses.dataclass(frozen=True)
class SampleClip:
    """A frame of a clip and the second of sound around it; times are from the clip's start."""

    example_id: str
    data_path: str
    split: str
    labels: tuple[str, ...]
    frame: bytes  # JPEG, as in the shard
    frame_seconds: float
    sound_start_seconds: float
    waveform: np.ndarray  # int16 [48000]
    seconds: float  # this and the levels are the complete clip's
    rms_dbfs: float
    peak_dbfs: float


def sample_clip(clip: Clip, split: str, draw: float) -> SampleClip:
    """Takes one frame of a clip and the second of sound around it, inside the clip.

    `draw`, uniform in [0, 1), chooses among the frames that show a picture of their own time.

    Raises:
        UserError: if there is no second of sound.
    """
    if len(clip.waveform) < constants.AUDIO_SAMPLES:
        raise UserError(
            f"clip {clip.example_id} has {len(clip.waveform)} samples of sound; need a second, "
            f"{constants.AUDIO_SAMPLES}, as data_prep.write_shards makes"
        )
    first = clip.num_padding_frames
    index = first + int(draw * (len(clip.frames) - first))
    frame_seconds = (clip.timestamps_us[index] - clip.start_us) / constants.MICROSECONDS
    centre = round(frame_seconds * constants.SAMPLE_RATE_HZ)
    last_start = len(clip.waveform) - constants.AUDIO_SAMPLES
    start = min(max(centre - constants.AUDIO_SAMPLES // 2, 0), last_start)
    return SampleClip(
        example_id=clip.example_id,
        data_path=clip.data_path,
        split=split,
        labels=clip.labels,
        frame=clip.frames[index],
        frame_seconds=frame_seconds,
        sound_start_seconds=start / constants.SAMPLE_RATE_HZ,
        waveform=clip.waveform[start : start + constants.AUDIO_SAMPLES].copy(),
        seconds=len(clip.waveform) / constants.SAMPLE_RATE_HZ,
        rms_dbfs=rms_dbfs(clip.waveform),
        peak_dbfs=peak_dbfs(clip.waveform),
    )
