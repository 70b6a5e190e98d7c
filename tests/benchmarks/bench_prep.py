"""Processor time of preparing a clip, beside one bare ffmpeg that makes the same frames and sound.

    python -m tests.benchmarks.bench_prep [--videos_dir=FOLDER] [--workers=1,2]

Without --videos_dir it makes three videos of ten seconds (320x240, 640x360, 1280x720, H.264 at
30 fps, AAC) in a temporary folder; videos that give no clip are left out. Per video:

    ours    user and system time of all that makes a record: this process and ffmpeg
    bare    the same of ONE ffmpeg call that decodes the same ten seconds, scales, encodes JPEGs of
            the same quality and 16-bit sound, and writes them nowhere

Both with one thread, in turn, the least of --repeats each: a ratio holds on a busy machine, too.
Then the peak memory of a worker, and clips per second with one worker and more; that is wall-clock
time, start of the processes included, and wants an idle machine.
"""

import dataclasses
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import flags

from data_prep import clip_records, ffmpeg, manifest, prep_config
from data_prep.write_shards import write_shards
from l3net import constants, errors
from l3net.errors import UserError

_VIDEOS_DIR = flags.DEFINE_string("videos_dir", None, "Folder of videos; none makes three.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Measurements of each; the least counts.")
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Numbers of processes to compare.")
_COPIES = flags.DEFINE_integer("copies", 4, "Clips per video in the comparison of workers.")

_SIZES = ("320x240", "640x360", "1280x720")
_SMALLEST_SIDE = "w='if(lt(iw,ih),{0},-2)':h='if(lt(iw,ih),-2,{0})'"
_FFMPEG_PEAK = """
import resource, sys
from data_prep import ffmpeg
ffmpeg.decode_clip(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        videos_dir = pathlib.Path(_VIDEOS_DIR.value or _make_videos(folder / "made")).resolve()
        rows = _rows(videos_dir)
        recipe = _recipe(videos_dir)
        ratios = [_compare(row, recipe) for row in rows]
        rows = [row for row, ratio in zip(rows, ratios, strict=True) if ratio]
        if not rows:
            raise UserError(f"no file in {videos_dir} gives a clip")
        _print_memory([videos_dir / row.path for row in rows])
        _print_scaling(rows, videos_dir, folder)
    ours, bare = (sum(part) for part in zip(*filter(None, ratios), strict=True))
    load = os.getloadavg()[0]
    _tell(f"all: ours {ours:.2f} s, bare {bare:.2f} s, ratio {ours / bare:.3f} (load {load:.1f})")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _make_videos(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    for size in _SIZES:
        picture = f"testsrc2=s={size}:r=30,noise=alls=8:allf=t"
        sources = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=440:r=44100")
        codecs = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac")
        _run_bare(*sources, "-t", "10", *codecs, "-ac", "2", str(folder / f"{size}.mp4"))
    return folder


def _run_bare(*arguments: str) -> None:
    command = [ffmpeg.find_ffmpeg(), "-nostdin", "-loglevel", "error", *arguments]
    subprocess.run(command, check=True)


def _rows(videos_dir: pathlib.Path) -> list[manifest.ManifestRow]:
    seconds = constants.CLIP_SECONDS
    return [
        manifest.ManifestRow(path.stem, path.stem, path.name, 0.0, seconds, "train", ())
        for path in sorted(videos_dir.iterdir())
        if path.is_file()
    ]


def _recipe(videos_dir: pathlib.Path) -> clip_records.Recipe:
    config = prep_config.Config(dataset_name="bench", manifest_hash="", num_shards={"train": 1})
    return clip_records.Recipe(config, {}, videos_dir, ffmpeg.DEFAULT_TIMEOUT_SECONDS)


def _compare(row: manifest.ManifestRow, recipe: clip_records.Recipe) -> tuple[float, float] | None:
    """Prints a video's line; returns (ours, bare) in seconds, None if it gives no clip."""
    outcome, _ = clip_records.make_record(row, recipe)  # and warms the file's cache
    if outcome.outcome != clip_records.OK:
        _tell(f"{row.path[:40]:40s} {outcome.outcome} ({outcome.reason})")
        return None
    path = recipe.videos_dir / row.path
    ours, bare = [], []
    for _ in range(_REPEATS.value):
        ours.append(_processor_seconds(lambda: clip_records.make_record(row, recipe)))
        bare.append(_processor_seconds(lambda: _bare(path, outcome.num_frames)))
    ours, bare = min(ours), min(bare)
    _tell(f"{row.path[:40]:40s} ours {ours:6.3f} s   bare {bare:6.3f} s   {ours / bare:.3f}")
    return ours, bare


def _bare(path: pathlib.Path, num_frames: int) -> None:
    size = _SMALLEST_SIDE.format(constants.SMALLEST_SIDE_PX)
    # JPEG's own matrix: without it most HD video gets wrong colours.
    colours = "out_color_matrix=bt601:out_range=full"
    filters = f"fps={constants.FRAME_RATE_HZ},scale={size}:flags=bicubic:{colours}"
    quality = str(ffmpeg.DEFAULT_JPEG_QUALITY)
    seconds, rate = str(constants.CLIP_SECONDS), str(constants.SAMPLE_RATE_HZ)
    _run_bare(
        *("-threads", "1", "-filter_threads", "1", "-t", seconds, "-i", f"file:{path}"),
        *("-map", "0:V:0", "-vf", f"{filters},format=yuvj420p", "-frames:v", str(num_frames)),
        *("-c:v", "mjpeg", "-q:v", quality, "-threads", "1", "-f", "null", "-"),
        *("-map", "0:a:0", "-ar", rate, "-ac", "1", "-c:a", "pcm_s16le", "-f", "null", "-"),
    )


def _processor_seconds(work: Callable[[], object]) -> float:
    """Returns user and system time of this process and of the children it has waited for."""

    def spent() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = spent()
    work()
    return spent() - before


def _print_memory(paths: list[pathlib.Path]) -> None:
    """Prints the peaks of a worker, which is what this process has been so far, and of ffmpeg."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        ours = int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) // 1024
        # From a small process: a child's figure begins with that of the process that starts it.
        peaks = [
            int(subprocess.check_output([sys.executable, "-c", _FFMPEG_PEAK, str(path)]))
            for path in paths
        ]
        _tell(f"peak memory: worker {ours} MB, with TensorFlow; its ffmpeg {max(peaks)} MB")


def _print_scaling(
    rows: list[manifest.ManifestRow], videos_dir: pathlib.Path, folder: pathlib.Path
) -> None:
    copies = [
        dataclasses.replace(row, example_id=f"{row.example_id}_{copy}")
        for row in rows
        for copy in range(_COPIES.value)
    ]
    manifest.write_manifest(folder / "manifest.csv", copies)
    for workers in map(int, _WORKERS.value):
        began = time.perf_counter()
        write_shards(
            manifest_path=folder / "manifest.csv",
            videos_dir=videos_dir,
            out_dir=folder / f"shards_{workers}",
            num_shards=max(4, *map(int, _WORKERS.value)),
            num_workers=workers,
        )
        seconds = time.perf_counter() - began
        _tell(f"{workers} workers: {len(copies) / seconds:6.2f} clips/s, wall-clock")


if __name__ == "__main__":
    errors.run(main)
