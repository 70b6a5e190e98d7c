"""Sound, image and video files as features with times: which files, which settings, which rows.

What l3net.extract writes and l3net.search indexes. Batches never mix files, so the numbers of a
file depend on nothing but the file, the network and the settings.
"""

import dataclasses
import logging
import math
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from l3net.errors import UserError
from l3net.inference import saved_model
from l3net.media import file_kinds
from l3net.media import images as media

FEATURES = ("pool4", "conv4_2", "embedding")
BOTH, SOUND, PICTURE = STREAMS = ("both", "sound", "picture")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the features of a file depend on, besides the file and the network.

    Attributes:
        features: an output of the signatures `audio` and `vision`, one of FEATURES.
        hop_seconds: between the starts of two one-second windows of sound.
        center: whether window i is centred on i * hop_seconds instead of starting there.
        frame_rate_hz: pictures taken per second of video.
        video_streams: what to take from a video, one of STREAMS.
    """

    features: str = "pool4"
    hop_seconds: float = 0.5
    center: bool = False
    frame_rate_hz: float = 1.0
    video_streams: str = BOTH

    def check(self) -> None:
        """Raises UserError if a number is nonsense."""
        saved_model.hop_samples(self.hop_seconds)
        if not (math.isfinite(self.frame_rate_hz) and self.frame_rate_hz > 0):
            raise UserError(f"--frame_rate_hz={self.frame_rate_hz}: need a positive number")


@dataclasses.dataclass(frozen=True)
class Stream:
    """The features of one stream of a file.

    Attributes:
        kind: file_kinds.SOUND or file_kinds.IMAGE.
        chunks: of features float32 [n, D], computed as they are taken.
        times_seconds: from a number of rows to their times, float64, on the file's own time line:
            where a window of one second starts (its middle if `center`), or when a frame is shown.
        step_seconds: between two rows; 0 for an image.
    """

    kind: str
    chunks: Iterator[np.ndarray]
    times_seconds: Callable[[int], np.ndarray]
    step_seconds: float


class FileFeatures:
    """A network and settings, ready to turn files into features."""

    def __init__(self, model: saved_model.SavedModel, settings: Settings, batch_size: int):
        """Keeps them.

        Args:
            model: of ours.
            settings: see `Settings`.
            batch_size: windows or pictures that go through the network at once.

        Raises:
            UserError: if a setting is nonsense.
        """
        settings.check()
        self.model, self.settings, self._batch_size = model, settings, batch_size
        self._hop = saved_model.hop_samples(settings.hop_seconds)

    def require(self, kinds: Iterable[str | None]) -> None:
        """Raises UserError unless the network gives the features of these kinds of files.

        Args:
            kinds: of file_kinds.SOUND, IMAGE and VIDEO; others are passed over.
        """
        kinds = set(kinds)
        streams = self.settings.video_streams if file_kinds.VIDEO in kinds else None
        if file_kinds.SOUND in kinds or streams in (BOTH, SOUND):
            self._function(saved_model.AUDIO)
        if file_kinds.IMAGE in kinds or streams in (BOTH, PICTURE):
            self._function(saved_model.VISION)

    def streams(self, path: pathlib.Path, kind: str) -> Iterator[Stream]:
        """Yields what a file gives, sound first; take a stream's chunks before the next stream.

        Args:
            path: of the file.
            kind: see `media.kind_of`.

        Raises:
            UserError: if the file lacks a stream; while chunks are taken, if it cannot be decoded.
        """
        wanted = self.settings.video_streams
        if kind == file_kinds.SOUND or (kind == file_kinds.VIDEO and wanted != PICTURE):
            yield self.sound(media.sound_blocks(path))
        if kind == file_kinds.IMAGE:
            yield self.pictures([media.read_image(path, self.model.frame_px)], 0.0)
        if kind == file_kinds.VIDEO and wanted != SOUND:
            rate = self.settings.frame_rate_hz
            frames = media.video_frames(path, frame_rate_hz=rate, frame_px=self.model.frame_px)
            yield self.pictures(frames, rate)

    def sound(self, blocks: Iterable[np.ndarray]) -> Stream:
        """Returns the features of sound, see `saved_model.windows`.

        Args:
            blocks: int16 or float32 [samples] each, 48 kHz mono.
        """
        hop = self._hop
        windows = saved_model.windows(blocks, hop=hop, center=self.settings.center)
        times = saved_model.window_times
        step_seconds = float(times(2, hop)[1])
        chunks = self._chunks(saved_model.AUDIO, windows)
        return Stream(file_kinds.SOUND, chunks, lambda num: times(num, hop), step_seconds)

    def pictures(self, images: Iterable[np.ndarray], rate_hz: float) -> Stream:
        """Returns the features of pictures.

        Args:
            images: uint8 [frame_px, frame_px, 3] each.
            rate_hz: of the pictures of a video; 0 for an image, which is shown at 0 s.
        """
        chunks = self._chunks(saved_model.VISION, images)
        if not rate_hz:
            return Stream(file_kinds.IMAGE, chunks, np.zeros, 0.0)
        return Stream(file_kinds.IMAGE, chunks, lambda num: np.arange(num) / rate_hz, 1 / rate_hz)

    def _chunks(self, signature: str, items: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return map(self._function(signature), saved_model.batches(items, self._batch_size))

    def _function(self, signature: str) -> Callable[[np.ndarray], np.ndarray]:
        return self.model.features(signature, self.settings.features)


def files_below(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """Lists the files of known suffix at any depth; hidden files and folders are left out.

    Args:
        folder: to search.

    Returns:
        (the files, sorted folder by folder; what is wrong with the folder, a line each).
    """
    found, unreadable, others = [], [], Counter()
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (pathlib.Path(parent, name) for name in sorted(names) if name[0] != ".")
        for path in paths:
            if path.suffix.lower() in file_kinds.KINDS:
                found.append(path)
            else:
                others[path.suffix.lower() or "no suffix"] += 1
    if others:
        told = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        _log.info("%s: %d other files left out (%s)", folder, others.total(), told)
    complaints = [f"{error.filename}: {error.strerror}" for error in unreadable]
    if not found and not complaints:
        known = ", ".join(file_kinds.KINDS)
        complaints = [f"{folder}: the folder holds no file of known suffix ({known})"]
    return found, complaints
