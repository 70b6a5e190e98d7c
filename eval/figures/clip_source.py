"""The clips that figures show: described once for all, and read again where they are shown."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from eval.sets import clips


@dataclasses.dataclass(frozen=True)
class Shown:
    """Items that a figure shows.

    Attributes:
        images: example id -> uint8 [frame_px, frame_px, 3].
        waveforms: example id -> float32 [48000].
    """

    images: Mapping[str, np.ndarray]
    waveforms: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ClipSource:
    """A split of a prepared folder; of each clip one frame, with the second of sound around it.

    Attributes:
        shards: prepared folder; the papers take test splits.
        split: of the folder.
        data: its name, for titles.
        seed: of the frame drawn from each clip.
        cache_dir: folder of the cache of features.
        truth: see `clips.read_truth`; None takes the clips' labels.
        has_labels: whether it is known what is seen and heard.
    """

    shards: str | pathlib.Path
    split: str
    data: str
    seed: int
    cache_dir: str | pathlib.Path
    truth: Mapping[str, Mapping[str, str]] | None = None
    has_labels: bool = True

    @property
    def title(self) -> str:
        """Names the clips in a figure's title."""
        return f"{self.data}, {self.split}"

    def describe(self, model: clips.Network, outputs: Mapping[str, str]) -> clips.ClipFeatures:
        """Describes every clip; see `clips.extract_features`."""
        return clips.extract_features(
            model, self.shards, self.split, outputs, seed=self.seed, cache_dir=self.cache_dir
        )

    def classes_of(self, described: clips.ClipFeatures) -> dict[str, np.ndarray] | None:
        """Returns what is seen and heard, see `clips.classes_of`; None without labels."""
        return clips.classes_of(described, self.truth) if self.has_labels else None

    def read(self, wanted: set[str], *, frame_px: int) -> Shown:
        """Reads the items of some clips: those that `describe` described.

        Args:
            wanted: example ids.
            frame_px: of the network.

        Returns:
            Their frames and sounds.
        """
        images, waveforms = {}, {}
        for block in clips.read_blocks(self.shards, self.split, frame_px=frame_px, seed=self.seed):
            for place, example_id in enumerate(block.example_ids):
                if example_id in wanted:
                    images[example_id] = block.images[place]
                    waveforms[example_id] = block.waveforms[place]
        return Shown(images, waveforms)
