"""Methods of optical flow: processor time, error on known motions, difference from TV-L1.

    python -m tests.benchmarks.bench_flow --videos=a.mp4,b.mp4,c.mp4

It prints a Markdown table per size, with a row per method. The methods are those of
`write_shards --flow_method` and what else OpenCV offers for less time. Each pair of frames is given
to all methods in turn, OpenCV takes one thread, and time is the process's own, so other programs
beside it matter little.

Known motions: a frame of each video and itself, moved by `_MOTIONS`; the error is the mean length
of the difference from the true flow, a border of 20/256 left out, in the flow's own pixels.
The videos' own frames: the difference from TV-L1's flow over all pixels, and over those that move,
by more than 1/256 of the smallest side in TV-L1's flow, which is no truth either.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from data_prep.shards import flow
from l3net import constants, flags
from l3net.flags import REQUIRED, setting
from l3net.media import ffmpeg
from tests.benchmarks import table
from tests.benchmarks.timing import say

# To the right and down, in 1/256 of the smallest side, and degrees clockwise.
_MOTIONS = ((2, -1, 0), (6, 3, 0), (-16, 0, 0), (0, 0, 2), (0, 0, -4))
_TV_L1, _DIS = "`tvl1`", "`dis`"
_PAIRS_PER_CLIP = round(constants.CLIP_SECONDS * constants.FRAME_RATE_HZ) - 1


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared on what."""

    videos: str = setting(REQUIRED, "Videos, with commas between them.")
    sides: str = setting("64,128,256", "Smallest sides of the flow, pixels, with commas.")
    pairs: int = setting(3, "Pairs of frames of each video, half a second apart.", at_least=1)
    out: str | None = setting(None, table.OUT_HELP)


@dataclasses.dataclass
class _Sums:
    """What a method did, one number for each pair of frames."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    errors: list[float] = dataclasses.field(default_factory=list)
    differences: list[float] = dataclasses.field(default_factory=list)
    shares: list[float] = dataclasses.field(default_factory=list)
    where_moving: list[np.ndarray] = dataclasses.field(default_factory=list)  # every pixel's


def main(config: Config) -> None:
    """Measures and prints."""
    clips = [_frames(path, config.pairs) for path in config.videos.split(",")]
    header = (
        "| side, px | method | ms per pair | s per 10 s clip | error on known motions, px: mean, "
        "worst | mean difference from `tvl1`, px | share above 1 px | where it moves, px |\n"
        "|---:|---|---:|---:|---:|---:|---:|---:|"
    )
    rows = []
    for side_px in map(int, config.sides.split(",")):
        say(header)
        rows.append(_side(clips, side_px))
    table.write_rows(config.out, rows)


def _methods() -> dict[str, Any]:
    def changed(**settings):
        return cv2.optflow.DualTVL1OpticalFlow_create(**{**flow.TV_L1_SETTINGS, **settings})

    finest = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    finest.setFinestScale(0)  # refined at full resolution; the preset stops at half
    return {
        _TV_L1: flow.algorithm(flow.TV_L1),
        "TV-L1, three levels": changed(nscales=3),
        "TV-L1, epsilon 0.05": changed(epsilon=0.05),
        "TV-L1, one warp": changed(warps=1),
        _DIS: flow.algorithm(flow.DIS),
        "DIS, finest scale 0": finest,
        "DIS, OpenCV's fast": cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    }


def _frames(path: str, num_pairs: int) -> list[tuple[bytes, bytes]]:
    """Decodes neighbouring frames, 256 px, half a second from pair to pair."""
    frames = ffmpeg.decode_clip(path, seconds=num_pairs / 2 + 1).frames
    return [(frames[k], frames[k + 1]) for k in range(2, 12 * num_pairs, 12)]


def _side(clips: list[list[tuple[bytes, bytes]]], side_px: int) -> table.Row:
    """Prints a size's table; returns the row of DIS."""
    methods = _methods()
    sums = {name: _Sums() for name in methods}
    lengths = []
    moving = side_px / constants.SMALLEST_SIDE_PX
    for clip in clips:
        for pair in clip:
            earlier, later = (flow.grey(jpeg, side_px) for jpeg in pair)
            reference, length = None, np.zeros(0)
            for name, method in methods.items():
                started = time.process_time()
                motion = method.calc(earlier, later, None)
                sums[name].seconds.append(time.process_time() - started)
                if reference is None:
                    reference, length = motion, np.linalg.norm(motion, axis=-1)
                apart = np.linalg.norm(motion - reference, axis=-1)
                sums[name].differences.append(float(apart.mean()))
                sums[name].shares.append(float((apart > 1).mean()))
                sums[name].where_moving.append(apart[length > moving])
            lengths.append(length.ravel())
        for earlier, later, truth in _known(clip[0][0], side_px):
            margin = round(side_px * constants.FLOW_BOUND)
            inner = (slice(margin, -margin), slice(margin, -margin))
            for name, method in methods.items():
                error = np.linalg.norm(method.calc(earlier, later, None) - truth, axis=-1)
                sums[name].errors.append(float(error[inner].mean()))
    for name, of in sums.items():
        say(
            f"| {side_px} | {name} | {1000 * np.mean(of.seconds):.1f} "
            f"| {np.mean(of.seconds) * _PAIRS_PER_CLIP:.1f} "
            f"| {np.mean(of.errors):.2f}, {max(of.errors):.2f} "
            f"| {np.mean(of.differences):.3f} | {100 * np.mean(of.shares):.2f} % "
            f"| {_mean(np.concatenate(of.where_moving)):.2f} |"
        )
    length = np.concatenate(lengths)
    share, mean = (length > moving).mean(), _mean(length[length > moving])
    say(f"{100 * share:.1f} % of these pixels move, by {mean:.2f} px on average.")
    ours, papers = (np.array(sums[name].seconds) for name in (_DIS, _TV_L1))
    seconds = float(np.median(ours)) * _PAIRS_PER_CLIP
    return table.Row(
        f"flow of a 10 s clip, {side_px} px, --flow_method=dis, one core",
        seconds,
        "s",
        "TV-L1, the default",
        float(np.median(papers / ours)),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _known(jpeg: bytes, side_px: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields a frame, the same moved, and the true flow, all of this size."""
    full = flow.grey(jpeg, constants.SMALLEST_SIDE_PX)
    height, width = full.shape
    ratio = side_px / constants.SMALLEST_SIDE_PX
    size = (round(width * ratio), round(height * ratio))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for right, down, degrees in _MOTIONS:
        to = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
        to[:, 2] += (right, down)
        moved = cv2.warpAffine(
            full, to, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        new = [row[0] * x + row[1] * y + row[2] for row in to]
        truth = np.stack([new[0] - x, new[1] - y], axis=-1).astype(np.float32) * ratio
        yield tuple(
            cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (full, moved, truth)
        )


if __name__ == "__main__":
    flags.run(main, Config)
