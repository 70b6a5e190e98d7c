"""What the contents of a prepared folder depend on, besides the videos."""

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from data_prep.lists import manifest
from data_prep.shards import optical_flow
from l3net import constants
from l3net.data import schema
from l3net.errors import UserError
from l3net.media import ffmpeg

PREP_VERSION = "2"  # 2: the frame at a time is the last that began by then
CLIPS_PER_SHARD = 16  # about 90 MB of ten-second clips, the work lost when a run is killed
MAX_SHARDS = 1024
# Every second of sound needs a frame; above it a second of frames fills a shard.
MIN_FRAME_RATE_HZ, MAX_FRAME_RATE_HZ = 1.0, 100.0
# Came later than the first folders; see Config.content.
LATER_SETTINGS = {
    "flow_smallest_side_px": 0,
    "frame_rate_hz": constants.FRAME_RATE_HZ,
    "max_frames": 0,
}
_DATASET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Media:
    """How picture and sound are kept.

    Attributes:
        audio_encoding: one of `schema.AUDIO_ENCODINGS`.
        smallest_side_px: of the frames.
        jpeg_quality: ffmpeg's -q:v, 2 (best) to 31.
        max_seconds: limit on the length of a clip.
        strict: whether the least decoding error fails a clip.
        flow_smallest_side_px: of optical flow (AVE+OF), at most `smallest_side_px`; 0 is none.
        frame_rate_hz: of the frames; fewer than 25 save space, AVE+OF and AVE+MF need 25.
        max_frames: limit on the length of a clip in frames, its sound is cut alike; 0 is none.
    """

    audio_encoding: str = schema.PCM16
    smallest_side_px: int = constants.SMALLEST_SIDE_PX
    jpeg_quality: int = ffmpeg.DEFAULT_JPEG_QUALITY
    max_seconds: float = constants.CLIP_SECONDS
    strict: bool = False
    flow_smallest_side_px: int = 0
    frame_rate_hz: float = constants.FRAME_RATE_HZ
    max_frames: int = 0

    def check(self) -> None:
        """Raises UserError if a setting is unusable, or two do not go together."""
        if self.audio_encoding not in schema.AUDIO_ENCODINGS:
            allowed = ", ".join(schema.AUDIO_ENCODINGS)
            raise UserError(f"audio_encoding {self.audio_encoding!r}: need one of {allowed}")
        if not MIN_FRAME_RATE_HZ <= self.frame_rate_hz <= MAX_FRAME_RATE_HZ:
            raise UserError(
                f"fps {self.frame_rate_hz:g}: need {MIN_FRAME_RATE_HZ:g} to {MAX_FRAME_RATE_HZ:g}"
            )
        fewest = math.ceil(ffmpeg.MIN_COMMON_SECONDS * self.frame_rate_hz - 1e-6)
        if self.max_frames and self.max_frames < fewest:
            raise UserError(
                f"max_frames {self.max_frames}: need 0 (no limit) or at least {fewest}, "
                f"{ffmpeg.MIN_COMMON_SECONDS:g} s at {self.frame_rate_hz:g} frames a second"
            )
        self._check_flow()

    def _check_flow(self) -> None:
        side_px, lowest = self.flow_smallest_side_px, optical_flow.MIN_SMALLEST_SIDE_PX
        if side_px and not lowest <= side_px <= self.smallest_side_px:
            raise UserError(
                f"flow_smallest_side_px {side_px}: need 0 (no flow) or {lowest} to "
                f"{self.smallest_side_px}, the frames' own smallest side"
            )
        if side_px and self.frame_rate_hz != constants.FRAME_RATE_HZ:
            raise UserError(
                f"fps {self.frame_rate_hz:g} with optical flow: AVE+OF needs "
                f"{constants.FRAME_RATE_HZ} frames a second; leave out --fps or "
                "--flow_smallest_side_px"
            )

    def clip_seconds(self, row: manifest.ManifestRow) -> float:
        """Returns how long the clip of a row is to be, at most."""
        seconds = min(row.end_seconds - row.start_seconds, self.max_seconds)
        return min(seconds, self.max_frames / self.frame_rate_hz) if self.max_frames else seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Media):
    """Everything that the contents of a prepared folder depend on, besides the videos.

    Attributes:
        dataset_name: first part of the shards' names.
        manifest_hash: of the rows, in any order.
        num_shards: split -> number.
        prep_version: of the code that makes a clip.
    """

    dataset_name: str
    manifest_hash: str
    num_shards: Mapping[str, int]
    prep_version: str = PREP_VERSION

    def content(self) -> dict[str, object]:
        """Returns what prep.json holds and the hash is of.

        Settings that came later are left out at their default, so folders from before stay valid.
        """
        content = dataclasses.asdict(self)
        return {
            key: value
            for key, value in content.items()
            if key not in LATER_SETTINGS or value != LATER_SETTINGS[key]
        }

    def hash(self) -> str:
        """Returns 16 hex digits."""
        return _short_hash(self.content())


def make_config(
    rows: Sequence[manifest.ManifestRow],
    media: Media,
    *,
    dataset_name: str,
    num_shards: int | None = None,
) -> Config:
    """Returns the configuration of a folder.

    Args:
        rows: of the manifest, sorted by example_id.
        media: how picture and sound are kept.
        dataset_name: first part of the shards' names.
        num_shards: per split; None gives one per `CLIPS_PER_SHARD` clips, at most `MAX_SHARDS`.
    """
    clips = Counter(row.split for row in rows)
    return Config(
        dataset_name=dataset_name,
        manifest_hash=_manifest_hash(rows),
        num_shards={
            split: num_shards or min(MAX_SHARDS, math.ceil(clips[split] / CLIPS_PER_SHARD))
            for split in sorted(clips)
        },
        **dataclasses.asdict(media),
    )


def check_names(dataset_name: str, num_shards: int | None) -> None:
    """Raises UserError if no file name can be made of these."""
    if not _DATASET_NAME.fullmatch(dataset_name):
        raise UserError(f"dataset_name {dataset_name!r}: need letters, digits, _ and .")
    if num_shards is not None and not 1 <= num_shards <= 99_999:
        raise UserError(f"num_shards {num_shards}: need 1 to 99999 (five digits of a name)")


def _manifest_hash(rows: Sequence[manifest.ManifestRow]) -> str:
    return _short_hash([dataclasses.astuple(row) for row in rows])


def _short_hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
