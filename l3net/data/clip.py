"""What a clip is; `schema` says how it is written and read. Needs no TensorFlow."""

import dataclasses
import io
import itertools

import numpy as np
import soundfile

from l3net import constants

PCM16, FLAC, FLOATS = AUDIO_ENCODINGS = ("pcm16", "flac", "floats")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip: frames and sound on one time line.

    Attributes:
        example_id: unique within the data set.
        dataset_name: such as "demo".
        media_id: the video it was cut from; negatives pair different media ids.
        data_path: the video, relative to the data folder.
        start_us, end_us: the clip's extent on the video's own time line, microseconds.
        labels: may be empty.
        label_indices: their line numbers in labels.txt.
        frames: one JPEG each.
        timestamps_us: one per frame, on the video's own time line (so the first is >= start_us).
        height_px, width_px: size of every frame.
        waveform: int16 [num_samples], mono, 48 kHz; sample 0 sounds at start_us.
        num_padding_frames: leading frames that repeat the first one because the picture starts
            later than the clip; pairs are never drawn from them.
        audio_encoding: one of AUDIO_ENCODINGS.
        prep_version, config_hash, ffmpeg_version: what made the clip.
        flows: optical flow from each frame to the next, one less than there are frames, or none.
            One greyscale JPEG each, the displacement in x above that in y, so twice as high as the
            flow; level `constants.FLOW_ZERO_LEVEL` is no motion.
        flow_scale_px: displacement per level, in pixels of the flow per frame step.
        flow_height_px, flow_width_px: size of every flow.
        forward_flows: the same flows once more, as MediaSequence and DMVR read them, or none: one
            JPEG each with red for x, green for y and no blue; levels 0 to 255 are -1 to 1 times
            `constants.FLOW_LEVELS * flow_scale_px`.
    """

    example_id: str
    dataset_name: str
    media_id: str
    data_path: str
    start_us: int
    end_us: int
    labels: tuple[str, ...]
    label_indices: tuple[int, ...]
    frames: tuple[bytes, ...]
    timestamps_us: tuple[int, ...]
    height_px: int
    width_px: int
    waveform: np.ndarray
    num_padding_frames: int = 0
    frame_rate_hz: float = constants.FRAME_RATE_HZ
    audio_encoding: str = PCM16
    prep_version: str = ""
    config_hash: str = ""
    ffmpeg_version: str = ""
    flows: tuple[bytes, ...] = ()
    flow_scale_px: float = 0.0
    flow_height_px: int = 0
    flow_width_px: int = 0
    forward_flows: tuple[bytes, ...] = ()


def check_clip(clip: Clip) -> None:
    """Raises ValueError if a clip cannot be written, see `encode_clip`."""
    if problem := _problem(clip):
        raise ValueError(f"clip {clip.example_id}: {problem}")


def _problem(clip: Clip) -> str | None:
    num_frames, num_times = len(clip.frames), len(clip.timestamps_us)
    if not num_frames or num_frames != num_times:
        return f"got {num_frames} frames and {num_times} timestamps; need as many, at least one"
    if any(b <= a for a, b in itertools.pairwise(clip.timestamps_us)):
        return "timestamps must increase"
    if clip.waveform.dtype != np.int16 or clip.waveform.ndim != 1:
        shape = f"{clip.waveform.dtype} {clip.waveform.shape}"
        return f"waveform is {shape}; need int16 [num_samples]"
    if clip.audio_encoding not in AUDIO_ENCODINGS:
        return f"audio_encoding {clip.audio_encoding!r}: need one of {AUDIO_ENCODINGS}"
    if clip.flows and len(clip.flows) != num_frames - 1:
        return (
            f"got {len(clip.flows)} flows between {num_frames} frames; need one less than frames, "
            "or none"
        )
    if clip.forward_flows and len(clip.forward_flows) != len(clip.flows):
        return f"got {len(clip.forward_flows)} forward flows of {len(clip.flows)} flows"
    if clip.flows and min(clip.flow_scale_px, clip.flow_height_px, clip.flow_width_px) <= 0:
        return (
            f"flow of {clip.flow_width_px}x{clip.flow_height_px} px at {clip.flow_scale_px:g} px "
            "per level; need all above 0"
        )
    return None


def encode_flac(waveform: np.ndarray) -> bytes:
    """Returns int16 [num_samples] at 48 kHz as a FLAC file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, constants.SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
