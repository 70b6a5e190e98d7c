"""What the content of a prepared folder depends on, besides the videos."""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Mapping

from data_prep.lists.manifest import ManifestRow
from data_prep.shards import flow
from l3net import constants
from l3net.data.clip import AUDIO_ENCODINGS, FLAC, FLOATS, PCM16
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.media import ffmpeg, tracks
from l3net.media.sound import SILENCE_DBFS

TFRECORD, WEBDATASET = FORMATS = ("tfrecord", "webdataset")
PREP_VERSION = "2"  # of the code that makes a clip; 2: frame = the last that began by its time
CLIPS_PER_SHARD = 16  # about 90 MB of ten-second clips, the work lost when a run is killed
MAX_SHARDS = 1024
# Every second of sound needs a frame; above it a second of frames fills a shard.
MIN_FRAME_RATE_HZ, MAX_FRAME_RATE_HZ = 1.0, 100.0
# Came later than the first folders; see Config.content.
LATER_SETTINGS = {
    "audio_track": None,
    "flow_method": flow.TV_L1,
    "flow_smallest_side_px": 0,
    "format": TFRECORD,
    "frame_rate_hz": constants.FRAME_RATE_HZ,
    "max_frames": 0,
    "mediasequence_flow": False,
    "skip_silent": False,
    "video_track": None,
}
_DATASET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Where the shards are written."""

    out_dir: str | pathlib.Path = setting(
        REQUIRED, "Folder for the shards; the work in an unfinished one goes on."
    )
    dataset_name: str = setting(
        "videos", "Data set's name, with which the shards' file names begin: letters, digits, _ ."
    )
    num_shards: int | None = setting(
        None,
        f"Shards per split; none is one per {CLIPS_PER_SHARD} clips, at most {MAX_SHARDS}.",
    )

    def check(self) -> None:
        """Raises UserError if the files cannot have such names."""
        if not _DATASET_NAME.fullmatch(self.dataset_name):
            raise UserError(f"dataset_name {self.dataset_name!r}: need letters, digits, _ and .")
        if self.num_shards is not None and not 1 <= self.num_shards <= 99_999:
            raise UserError(
                f"num_shards {self.num_shards}: need 1 to 99999 (five digits of a name)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Media(tracks.Tracks):
    """How pictures and sound are stored."""

    format: str = setting(
        TFRECORD,
        "Form of the shards: TFRecord, which everything here reads, or WebDataset's .tar files of "
        "JPEGs, FLAC and JSON for other programs.",
        choices=FORMATS,
    )
    audio_encoding: str = setting(
        PCM16,
        "Encoding of the sound: 16-bit samples, FLAC (the same in half the size) or floats (what "
        "DMVR reads). WebDataset's is always FLAC.",
        choices=AUDIO_ENCODINGS,
    )
    smallest_side_px: int = setting(
        constants.SMALLEST_SIDE_PX,
        "Smallest side of the frames, pixels; 256 in the papers.",
        at_least=16,
        at_most=4096,
    )
    jpeg_quality: int = setting(
        ffmpeg.DEFAULT_JPEG_QUALITY,
        "Quality of the frames' JPEGs as ffmpeg's -q:v: 2 is best, 31 is worst.",
        at_least=2,
        at_most=31,
    )
    max_seconds: float = setting(
        constants.CLIP_SECONDS,
        "Limit on a clip's length, seconds; 10 in the papers.",
        at_least=ffmpeg.MIN_COMMON_SECONDS,
    )
    max_frames: int = setting(
        0, "Limit on a clip's length in frames, its sound is cut alike; 0 is none.", at_least=0
    )
    frame_rate_hz: float = setting(
        constants.FRAME_RATE_HZ,
        "Frames per second; 25 in the papers. Fewer save space; AVE+OF and AVE+MF need 25.",
        flag="fps",
        at_least=MIN_FRAME_RATE_HZ,
        at_most=MAX_FRAME_RATE_HZ,
    )
    flow_smallest_side_px: int = setting(
        0,
        "Smallest side of the optical flow between frames, pixels; 0 computes none. Only "
        "AVE+OF needs it; 256 is the size of the papers' frames. With tvl1 a clip of 10 s then "
        "takes over a minute of one processor (64 pixels: 5 s), and 1.5 MB more.",
        at_least=0,
        at_most=4096,
    )
    flow_method: str = setting(
        flow.TV_L1,
        "Method of the optical flow: tvl1, the papers', or dis, which takes about a thirtieth of "
        "its time and is smoother, so that small fast things blur (docs/measurements.md).",
        choices=flow.METHODS,
    )
    mediasequence_flow: bool = setting(
        False,
        "Whether to store the optical flow once more, as MediaSequence and DMVR read it: JPEGs in "
        "colour under FORWARD_FLOW/image/encoded. Nothing of ours reads them.",
    )
    strict: bool = setting(False, "Whether the least decoding error fails a clip.")
    skip_silent: bool = setting(
        False,
        "Whether to leave out clips without sound: no sample is above "
        f"{SILENCE_DBFS:.0f} dBFS (our choice).",
    )

    def check(self) -> None:
        """Raises UserError if two settings do not go together."""
        fewest = math.ceil(ffmpeg.MIN_COMMON_SECONDS * self.frame_rate_hz - 1e-6)
        if self.max_frames and self.max_frames < fewest:
            raise UserError(
                f"max_frames {self.max_frames}: need 0 (no limit) or at least {fewest}, "
                f"{ffmpeg.MIN_COMMON_SECONDS:g} s at {self.frame_rate_hz:g} frames a second"
            )
        side_px, lowest = self.flow_smallest_side_px, flow.MIN_SMALLEST_SIDE_PX
        if side_px and not lowest <= side_px <= self.smallest_side_px:
            raise UserError(
                f"flow_smallest_side_px {side_px}: need 0 (no flow) or {lowest} to "
                f"{self.smallest_side_px}, the frames' own smallest side"
            )
        if self.flow_method != flow.TV_L1 and not side_px:
            raise UserError(
                f"flow_method {self.flow_method}: there is no optical flow to compute; give "
                "--flow_smallest_side_px, such as 256, too"
            )
        if self.mediasequence_flow and not side_px:
            raise UserError(
                "mediasequence_flow stores the optical flow once more, and there is none: give "
                "--flow_smallest_side_px, such as 256, too"
            )
        if self.format == WEBDATASET and self.audio_encoding == FLOATS:
            raise UserError("audio_encoding floats: the sound of --format=webdataset is FLAC")
        if self.format == WEBDATASET and self.mediasequence_flow:
            raise UserError("mediasequence_flow is for --format=tfrecord; leave it out")
        if side_px and self.frame_rate_hz != constants.FRAME_RATE_HZ:
            raise UserError(
                f"fps {self.frame_rate_hz:g} with optical flow: AVE+OF needs "
                f"{constants.FRAME_RATE_HZ} frames a second; leave out --fps or "
                "--flow_smallest_side_px"
            )

    def clip_seconds(self, row: ManifestRow) -> float:
        """Returns the longest that the clip of a row may be."""
        seconds = min(row.end_seconds - row.start_seconds, self.max_seconds)
        return min(seconds, self.max_frames / self.frame_rate_hz) if self.max_frames else seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Media):
    """Everything that the content of a prepared folder depends on, besides the videos."""

    dataset_name: str
    manifest_hash: str  # of the rows, in any order
    num_shards: Mapping[str, int]  # per split
    prep_version: str = PREP_VERSION

    def content(self) -> dict[str, object]:
        """Returns what prep.json holds and the hash is made from.

        Settings that came later are left out at their default, so folders from before stay valid.
        """
        return {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if key not in LATER_SETTINGS or value != LATER_SETTINGS[key]
        }

    def hash(self) -> str:
        """Returns 16 hex digits."""
        content = json.dumps(self.content(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def make_config(
    manifest_hash: str, num_clips: Mapping[str, int], media: Media, target: Target
) -> Config:
    """Returns the configuration of a folder of so many rows per split."""
    if media.format == WEBDATASET:
        media = dataclasses.replace(media, audio_encoding=FLAC)
    return Config(
        dataset_name=target.dataset_name,
        manifest_hash=manifest_hash,
        num_shards={
            split: target.num_shards
            or min(MAX_SHARDS, math.ceil(num_clips[split] / CLIPS_PER_SHARD))
            for split in sorted(num_clips)
        },
        **dataclasses.asdict(media),
    )
