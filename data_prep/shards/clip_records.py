"""One row of the manifest -> one record, or why not: the only work that costs time.

`make_record` depends on its arguments, the video file and the ffmpeg in use, and touches nothing
else: local processes and the workers of a cluster call the same function.
"""

import dataclasses
import time
from collections.abc import Mapping

from data_prep.lists.manifest import ManifestRow
from data_prep.lists.media_files import MediaFiles
from data_prep.shards import flow
from data_prep.shards.config import Config
from data_prep.shards.formats import format_of
from l3net import constants
from l3net.data.clip import Clip
from l3net.media import ffmpeg
from l3net.media.sound import MAX_SILENCE, is_silent

OK, SKIPPED, FAILED = OUTCOMES = ("ok", "skipped", "failed")
SILENT = "silent"
SILENCE = f"no sample beyond {MAX_SILENCE} of 32768"
_FLOWS_AT_ONCE = 10  # between two looks at the clock: 3 s at 256 pixels


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one row of the manifest; a row of outcomes.csv.

    The reason is "flow" if the optical flow failed, "silent" for a clip that `--skip_silent` left
    out, else one of `ffmpeg.MediaError`'s. A clip that is not "ok" has no frames, samples and
    seconds, and nothing of where it comes from (`ffmpeg.Origin`): which tracks, counted from 0, of
    how many, and what was done to its pictures.
    """

    example_id: str
    media_id: str
    path: str
    split: str
    outcome: str
    reason: str = ""
    detail: str = ""
    num_frames: int = 0
    num_samples: int = 0
    seconds: float = 0.0
    video_track: int | None = None
    num_video_tracks: int = 0
    audio_track: int | None = None
    num_audio_tracks: int = 0
    picture: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every clip of a folder is made."""

    config: Config
    label_indices: Mapping[str, int]  # label -> line number in labels.txt
    files: MediaFiles  # which the manifest's paths name
    timeout_seconds: float  # wall-clock limit per clip, flow included


def make_record(row: ManifestRow, recipe: Recipe) -> tuple[Outcome, bytes | None]:
    """Decodes and encodes the clip of one row: one row gives one record if its outcome is "ok".

    Raises:
        UserError: if ffmpeg or OpenCV is missing.
    """
    deadline = time.monotonic() + recipe.timeout_seconds
    try:
        decoded = _decode(row, recipe)
        if recipe.config.skip_silent and is_silent(decoded.waveform):
            return _outcome(row, SKIPPED, reason=SILENT, detail=SILENCE), None
        flows = _flow(row, decoded, recipe, deadline)
        record = format_of(recipe.config).encode_clip(_clip(row, decoded, flows, recipe))
    except ffmpeg.MediaError as error:
        return _outcome(row, error.outcome, reason=error.reason, detail=error.detail), None
    except ValueError as error:
        return _outcome(row, FAILED, reason="decode", detail=str(error)), None
    num_samples = len(decoded.waveform)
    outcome = _outcome(
        row,
        OK,
        num_frames=len(decoded.frames),
        num_samples=num_samples,
        seconds=round(num_samples / constants.SAMPLE_RATE_HZ, 6),
        **vars(decoded.origin),
    )
    return outcome, record


def _outcome(row: ManifestRow, outcome: str, **fields) -> Outcome:
    return Outcome(row.example_id, row.media_id, row.path, row.split, outcome, **fields)


def _decode(row: ManifestRow, recipe: Recipe) -> ffmpeg.DecodedClip:
    config = recipe.config
    reading = ffmpeg.Reading(
        audio_track=config.audio_track, video_track=config.video_track, strict=config.strict
    )
    with recipe.files.opened(row.path) as path:
        return ffmpeg.decode_clip(
            path,
            start_seconds=row.start_seconds,
            seconds=config.clip_seconds(row),
            frame_rate_hz=config.frame_rate_hz,
            smallest_side_px=config.smallest_side_px,
            jpeg_quality=config.jpeg_quality,
            reading=reading,
            timeout_seconds=recipe.timeout_seconds,
        )


def _flow(
    row: ManifestRow, decoded: ffmpeg.DecodedClip, recipe: Recipe, deadline: float
) -> flow.Flow | None:
    """Computes the flow, if any is wanted, a few frames at a time until the time is up."""
    smallest_side_px = recipe.config.flow_smallest_side_px
    if not smallest_side_px:
        return None
    frames = decoded.frames
    parts: list[flow.Flow] = []
    for first in range(0, max(1, len(frames) - 1), _FLOWS_AT_ONCE):
        if time.monotonic() > deadline:
            spent = f"after {recipe.timeout_seconds:g} s, at frame {first} of {len(frames)}"
            raise ffmpeg.MediaError(row.path, FAILED, "timeout", f"optical flow not done {spent}")
        try:
            parts.append(
                flow.optical_flow(
                    frames[first : first + _FLOWS_AT_ONCE + 1],
                    smallest_side_px=smallest_side_px,
                    method=recipe.config.flow_method,
                    mediasequence=recipe.config.mediasequence_flow,
                )
            )
        except ValueError as error:
            detail = f"from frame {first} on: {error}"
            raise ffmpeg.MediaError(row.path, FAILED, "flow", detail) from error
    return dataclasses.replace(
        parts[0],
        flows=tuple(jpeg for part in parts for jpeg in part.flows),
        forward_flows=tuple(jpeg for part in parts for jpeg in part.forward_flows),
    )


def _clip(
    row: ManifestRow, decoded: ffmpeg.DecodedClip, flows: flow.Flow | None, recipe: Recipe
) -> Clip:
    config = recipe.config
    return Clip(
        example_id=row.example_id,
        dataset_name=config.dataset_name,
        media_id=row.media_id,
        data_path=row.path,
        labels=row.labels,
        label_indices=tuple(recipe.label_indices[label] for label in row.labels),
        frame_rate_hz=config.frame_rate_hz,
        audio_encoding=config.audio_encoding,
        prep_version=config.prep_version,
        config_hash=config.hash(),
        ffmpeg_version=ffmpeg.ffmpeg_version(),
        **{name: value for name, value in vars(decoded).items() if name != "origin"},
        **({} if flows is None else vars(flows)),
    )
