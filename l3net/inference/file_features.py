"""Sound, image and video files as features with times: which files, which settings, which rows.

What l3net.extract writes and l3net.search indexes. Batches never mix files, so the numbers of a
file depend on nothing but the file, the network and the settings.
"""

import dataclasses
import logging
import math
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from l3net.errors import UserError
from l3net.flags import setting
from l3net.inference import saved_model
from l3net.inference.read_ahead import ReadAhead
from l3net.media import file_kinds, folders, images, sound, tracks

FEATURES = ("pool4", "conv4_2", "embedding")
BOTH, SOUND, PICTURE = STREAMS = ("both", "sound", "picture")
_ITEMS_AHEAD = 32  # blocks of a second of sound, 3 MB, or pictures, 5 MB
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings(tracks.Tracks):
    """What the features of a file depend on, besides the file and the network."""

    features: str = setting(
        "pool4",
        "Features to take. pool4: 512-D, global maximum. conv4_2: 6144-D for sound, before the "
        "ReLU (L3 3.3), 8192-D for pictures, after it (L3 3.4). embedding: 128-D, of networks that "
        "have one.",
        choices=FEATURES,
    )
    hop_seconds: float = setting(
        0.5, "Seconds between the starts of two one-second windows of sound (our choice)."
    )
    center: bool = setting(
        False,
        "Centre window i of sound on i * hop_seconds, with half a second of silence before the "
        "sound; otherwise it starts there.",
    )
    frame_rate_hz: float = setting(1.0, "Pictures taken per second of video (our choice).")
    video_streams: str = setting(BOTH, "Streams to take from a video.", choices=STREAMS)

    def check(self) -> None:
        """Raises UserError if a number is invalid."""
        sound.hop_samples(self.hop_seconds)
        if not (math.isfinite(self.frame_rate_hz) and self.frame_rate_hz > 0):
            raise UserError(f"--frame_rate_hz={self.frame_rate_hz}: need a positive number")


@dataclasses.dataclass(frozen=True)
class Stream:
    """The features of one stream of a file.

    Attributes:
        kind: file_kinds.SOUND or file_kinds.IMAGE.
        chunks: features float32 [n, D] each, computed as they are taken.
        times_seconds: from a number of rows to their times, float64, on the file's own time line:
            where a window of one second starts (its middle if `center`), or when a frame is shown.
        step_seconds: between two rows; 0 for an image.
    """

    kind: str
    chunks: Iterator[np.ndarray]
    times_seconds: Callable[[int], np.ndarray]
    step_seconds: float


@dataclasses.dataclass
class _Decoder:
    """One stream of a file: what it yields, sound or pictures, decoded ahead once started."""

    kind: str
    items: Iterator[np.ndarray]
    rate_hz: float = 0.0

    def start(self) -> None:
        if not isinstance(self.items, ReadAhead):
            self.items = ReadAhead(self.items, _ITEMS_AHEAD)

    def close(self) -> None:
        if isinstance(self.items, ReadAhead):
            self.items.close()


class FileFeatures:
    """A network and settings, ready to turn files into features."""

    def __init__(self, model: saved_model.SavedModel, settings: Settings, batch_size: int):
        """Keeps them; UserError if a setting is invalid."""
        settings.check()
        self.model, self.settings, self._batch_size = model, settings, batch_size
        self._hop = sound.hop_samples(settings.hop_seconds)
        self._begun: dict[pathlib.Path, list[_Decoder]] = {}

    def require(self, kinds: Iterable[str | None]) -> None:
        """Raises UserError unless the network gives the features of these kinds of files."""
        kinds = set(kinds)
        streams = self.settings.video_streams if file_kinds.VIDEO in kinds else None
        hears = file_kinds.SOUND in kinds or streams in (BOTH, SOUND)
        sees = file_kinds.IMAGE in kinds or streams in (BOTH, PICTURE)
        try:
            for signature in [saved_model.AUDIO] * hears + [saved_model.VISION] * sees:
                self._function(signature)
        except UserError as error:
            if streams != BOTH:
                raise
            raise UserError(f"{error}; of videos --video_streams takes one stream") from error

    def begin(self, path: pathlib.Path) -> None:
        """Begins to decode a file in a thread; its `streams` go on from there.

        Of its first stream that is up to 32 seconds of sound or pictures (our choice). Whatever is
        wrong with the file, `streams` raises.
        """
        if path in self._begun:
            return
        try:
            decoders = self._decoders(path, file_kinds.kind_of(path))
        except UserError:
            return
        self._begun[path] = decoders
        decoders[0].start()

    def close(self) -> None:
        """Ends what was begun and not taken."""
        while self._begun:
            for decoder in self._begun.popitem()[1]:
                decoder.close()

    def streams(self, path: pathlib.Path, kind: str) -> Iterator[Stream]:
        """Yields what a file gives, sound first; take a stream's chunks before the next stream.

        Raises UserError if the file lacks a stream; while chunks are taken, if it is damaged.
        """
        decoders = self._begun.pop(path, None) or self._decoders(path, kind)
        try:
            for decoder in decoders:
                decoder.start()
                if decoder.kind == file_kinds.SOUND:
                    yield self.sound(decoder.items)
                else:
                    yield self.pictures(decoder.items, decoder.rate_hz)
        finally:
            for decoder in decoders:
                decoder.close()

    def _decoders(self, path: pathlib.Path, kind: str) -> list["_Decoder"]:
        """Returns one for each stream of a file, sound first."""
        settings, frame_px, decoders = self.settings, self.model.frame_px, []
        wanted = settings.video_streams
        if kind == file_kinds.SOUND or (kind == file_kinds.VIDEO and wanted != PICTURE):
            blocks = sound.sound_blocks(path, settings.audio_track)
            decoders.append(_Decoder(file_kinds.SOUND, blocks))
        if kind == file_kinds.IMAGE:
            image = map(images.read_image, [path], [frame_px])
            decoders.append(_Decoder(file_kinds.IMAGE, image))
        if kind == file_kinds.VIDEO and wanted != SOUND:
            rate = settings.frame_rate_hz
            frames = images.video_frames(
                path, frame_rate_hz=rate, frame_px=frame_px, track=settings.video_track
            )
            decoders.append(_Decoder(file_kinds.IMAGE, frames, rate))
        return decoders

    def sound(self, blocks: Iterable[np.ndarray]) -> Stream:
        """Returns the features of 48 kHz mono sound, int16 or float32 [samples] each block."""
        hop, times = self._hop, sound.window_times
        windows = sound.windows(blocks, hop=hop, center=self.settings.center)
        function = self.model.windows(self.settings.features, hop)
        chunks = map(function, saved_model.batches(windows, self._batch_size))
        return Stream(
            file_kinds.SOUND, chunks, lambda num: times(num, hop), float(times(2, hop)[1])
        )

    def pictures(self, frames: Iterable[np.ndarray], rate_hz: float) -> Stream:
        """Returns the features of pictures, uint8 [frame_px, frame_px, 3] each.

        Their rate is that of a video's pictures; 0 for an image, which is shown at 0 s.
        """
        function = self._function(saved_model.VISION)
        chunks = map(function, saved_model.batches(frames, self._batch_size))
        if not rate_hz:
            return Stream(file_kinds.IMAGE, chunks, np.zeros, 0.0)
        return Stream(file_kinds.IMAGE, chunks, lambda num: np.arange(num) / rate_hz, 1 / rate_hz)

    def _function(self, signature: str) -> Callable[[np.ndarray], np.ndarray]:
        return self.model.features(signature, self.settings.features)


def files_below(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """Lists the files of a kind at any depth (`file_kinds.kind_in_folder`), links followed.

    Hidden files and folders are left out; a folder that links lead to again is read once.

    Returns the files, sorted folder by folder; and what is wrong with the folder, a line each.
    """
    paths: list[pathlib.Path] = []
    problems: list[str] = []
    others: Counter[str] = Counter()
    names = folders.files_below(
        folder,
        may_leave=True,
        note=_log.warning,
        failed=lambda error: problems.append(f"{error.filename}: {error.strerror}"),
    )
    for path in (folder / name for name in names):
        if file_kinds.kind_in_folder(path) is not None:
            paths.append(path)
        else:
            others[path.suffix.lower() or "no suffix"] += 1
    if others:
        most = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        _log.info("%s: %d other files left out (%s)", folder, others.total(), most)
    if not paths and not problems:
        known = ", ".join(file_kinds.KINDS)
        problems = [f"{folder}: the folder holds no sound, image or video ({known})"]
    return paths, problems
