"""The clips that figures show: features of all, pictures and sounds of those that are shown."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from eval.sets import clips


@dataclasses.dataclass(frozen=True)
class Shown:
    """Items that a figure shows: example id -> uint8 [frame_px, frame_px, 3], float32 [48000]."""

    images: Mapping[str, np.ndarray]
    waveforms: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """A split of a prepared folder; of each clip one frame, with the second of sound around it."""

    shards: str | pathlib.Path
    split: str  # the papers take test splits
    data: str  # the folder's name, for titles
    seed: int
    cache_dir: str | pathlib.Path
    truth: Mapping[str, Mapping[str, str]] | None = None  # see `clips.read_truth`
    has_labels: bool = True  # whether it is known what is seen and heard

    @property
    def title(self) -> str:
        """Names the clips in a figure's title."""
        return f"{self.data}, {self.split}"

    def extract(self, model: clips.Network, outputs: Mapping[str, str]) -> clips.ClipFeatures:
        """Extracts features of every clip; see `clips.extract_features`."""
        return clips.extract_features(
            model, self.shards, self.split, outputs, seed=self.seed, cache_dir=self.cache_dir
        )

    def classes_of(self, extracted: clips.ClipFeatures) -> dict[str, np.ndarray] | None:
        """Returns what is seen and heard, see `clips.classes_of`; None without labels."""
        return clips.classes_of(extracted, self.truth) if self.has_labels else None

    def read(self, wanted: set[str], *, frame_px: int) -> Shown:
        """Reads the items of some clips, by example ids: the same items as `extract` takes."""
        images, waveforms = {}, {}
        for block in clips.read_blocks(self.shards, self.split, frame_px=frame_px, seed=self.seed):
            for index, example_id in enumerate(block.example_ids):
                if example_id in wanted:
                    images[example_id] = block.images[index]
                    waveforms[example_id] = block.waveforms[index]
        return Shown(images, waveforms)
