"""What preparing a clip costs, beside one bare ffmpeg that makes the same frames and sound.

    python -m tests.benchmarks.bench_prep [--videos_dir=FOLDER] [--repeats=9] [--workers=1,2]

Without --videos_dir it makes three videos of ten seconds (320x240, 640x360, 1280x720, H.264 at
30 fps, AAC) in a temporary folder; videos that give no clip are left out. Three parts:

Processor time, per video, user and system, of this process and its children:

    ours    of a shard with this clip: ffmpeg, record, file, checksums, commit marker
    bare    of ONE ffmpeg call that decodes the same ten seconds, scales, encodes JPEGs of the same
            quality and 16-bit sound, and writes them nowhere

Both on one processor, which is what a worker has, in turn, the least of --repeats each: a ratio
holds on a busy machine, too.

Memory: the peak of a worker as `write_shards` starts it, and how much of that is its own; what it
shares with the other workers (TensorFlow) is there once.

Speed with one worker and more, each with a processor of its own, wall-clock, which wants an idle
machine: --copies shards, each with one clip of every video. The steady rate is that between two
commit markers; it leaves out the start (TensorFlow is imported) and the end (some workers have
nothing left to do), which are printed beside it. --workers= leaves this part out.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from data_prep.lists import manifest
from data_prep.lists.media_files import MediaFiles
from data_prep.shards import clip_records, processes, row_table, writer
from data_prep.shards import config as prep_config
from l3net import constants, flags
from l3net.data.markers import marker_path
from l3net.data.shards import find_shards
from l3net.errors import UserError
from l3net.flags import setting
from l3net.media import ffmpeg
from tests.benchmarks.timing import say

_SIZES = ("320x240", "640x360", "1280x720")
_SMALLEST_SIDE = "w='if(lt(iw,ih),{0},-2)':h='if(lt(iw,ih),-2,{0})'"
_FFMPEG_PEAK = """
import resource, sys
from l3net.media import ffmpeg
ffmpeg.decode_clip(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    videos_dir: str | None = setting(None, "Folder of videos; if not given, three are made.")
    repeats: int = setting(9, "Measurements of each; the least counts.", at_least=1)
    workers: tuple[str, ...] = setting(("1", "2"), "Numbers of processes to compare.")
    copies: int = setting(30, "Shards, with a clip of each video, to compare workers on.")


def main(config: Config) -> None:
    """Measures and prints."""
    _workers(config)  # whatever is wrong with them is reported at once
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        videos_dir = pathlib.Path(config.videos_dir or _make_videos(folder / "made")).resolve()
        recipe = _recipe(videos_dir)
        rows = _print_ratios(_rows(videos_dir), writer.Job(folder, recipe, folder), config.repeats)
        _print_memory(rows, recipe)
        _print_scaling(rows, videos_dir, folder, config)


@contextlib.contextmanager
def _processors(number: int) -> Iterator[None]:
    """Keeps this process and those it starts to so many processors, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- Videos --------------------------------------------------------------------------------------
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
    return clip_records.Recipe(
        config, {}, MediaFiles((videos_dir,)), ffmpeg.DEFAULT_TIMEOUT_SECONDS
    )


# --- Processor time ------------------------------------------------------------------------------
def _print_ratios(
    rows: Sequence[manifest.ManifestRow], job: writer.Job, repeats: int
) -> list[manifest.ManifestRow]:
    """Prints a line per video and one for all; returns the rows that give a clip."""
    ratios = [_compare(row, job, repeats) for row in rows]
    rows = [row for row, ratio in zip(rows, ratios, strict=True) if ratio]
    if not rows:
        raise UserError(f"no file in {job.recipe.files.folders[0]} gives a clip")
    _say_ratio("all", *(sum(part) for part in zip(*filter(None, ratios), strict=True)))
    say(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return rows


def _say_ratio(name: str, ours: float, bare: float) -> None:
    say(f"{name[:40]:40s} ours {ours:6.3f} s   bare {bare:6.3f} s   ratio {ours / bare:.3f}")


def _compare(
    row: manifest.ManifestRow, job: writer.Job, repeats: int
) -> tuple[float, float] | None:
    """Prints a video's line; returns (ours, bare) in seconds, None if it gives no clip."""
    outcome, _ = clip_records.make_record(row, job.recipe)  # and warms the file's cache
    if outcome.outcome != clip_records.OK:
        say(f"{row.path[:40]:40s} {outcome.outcome} ({outcome.reason})")
        return None
    path = job.recipe.files.folders[0] / row.path
    ours, bare = [], []
    name = writer.shard_name_of(row, job.recipe.config)
    with _processors(1), row_table.opened(job.out_dir) as table:
        table.add_rows([row])
        table.place(lambda _: name)
        job = dataclasses.replace(job, rows=table.path)
        for _ in range(repeats):
            marker_path(job.out_dir / name).unlink(missing_ok=True)  # or it would be kept
            ours.append(_processor_seconds(lambda: writer.write_shard(name, job, lambda _: None)))
            bare.append(_processor_seconds(lambda: _bare(path, outcome.num_frames)))
    _say_ratio(row.path, min(ours), min(bare))
    return min(ours), min(bare)


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


# --- Memory --------------------------------------------------------------------------------------
def _print_memory(rows: Sequence[manifest.ManifestRow], recipe: clip_records.Recipe) -> None:
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        say("memory: not reported by this system")
        return
    with processes.worker_context().Pool(1) as pool:
        peak, own = pool.apply(_worker_memory, (rows, recipe))
    # From a small process: a child's figure begins with that of the process that starts it.
    command = [sys.executable, "-c", _FFMPEG_PEAK]
    (videos_dir,) = recipe.files.folders
    peaks = [int(subprocess.check_output([*command, videos_dir / row.path])) for row in rows]
    line = f"peak memory of a worker {peak} MB, of that its own {own} MB"
    say(f"{line}; of its ffmpeg {max(peaks)} MB")


def _worker_memory(
    rows: Sequence[manifest.ManifestRow], recipe: clip_records.Recipe
) -> tuple[int, int]:
    """Makes the clips; returns this process's peak and what no other process shares, in MB."""
    for row in rows:
        clip_records.make_record(row, recipe)
    status = pathlib.Path("/proc/self/status").read_text()
    peak, now = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("VmHWM", "VmRSS"))
    parts = pathlib.Path("/proc/self/smaps_rollup").read_text()
    own = sum(map(int, re.findall(r"Private_\w+:\s+(\d+)", parts)))
    return peak // 1024, (own + peak - now) // 1024  # what was given back was its own


# --- Speed ---------------------------------------------------------------------------------------
def _print_scaling(
    rows: Sequence[manifest.ManifestRow],
    videos_dir: pathlib.Path,
    folder: pathlib.Path,
    config: Config,
) -> None:
    num_shards, first = config.copies, None
    clips = [_placed(row, shard, num_shards) for row in rows for shard in range(num_shards)]
    manifest.write_manifest(folder / "manifest.csv", clips)
    for workers in _workers(config):
        began = time.time()
        _write_shards(folder, videos_dir, workers, num_shards)
        seconds = time.time() - began
        rate = _steady_rate(folder / "shards", workers)
        shutil.rmtree(folder / "shards")
        first, rest = first or rate / workers, seconds - len(clips) / rate
        say(
            f"{workers} workers on as many processors: {rate:.3f} clips/s steady, "
            f"{rate / workers:.3f} per worker, {rate / workers / first:.2f} of the first line's; "
            f"{len(clips)} clips in {seconds:.1f} s, {rest:.1f} s of it start and end"
        )


def _workers(config: Config) -> list[int]:
    """Returns what --workers says; UserError without so many processors or enough --copies."""
    workers = list(map(int, config.workers))
    if not workers:
        return []
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("this system does not let us choose processors; give --workers= for none")
    num_processors = len(os.sched_getaffinity(0))
    if not 1 <= min(workers) <= max(workers) <= num_processors:
        raise UserError(f"--workers={','.join(config.workers)}: need 1 to {num_processors}")
    if config.copies <= 3 * max(workers):
        raise UserError("need --copies of more than three times the largest of --workers")
    return workers


def _write_shards(
    folder: pathlib.Path, videos_dir: pathlib.Path, workers: int, num_shards: int
) -> None:
    """Runs the command; on so many processors, because the parts of one ffmpeg use several."""
    command = [
        *(sys.executable, "-m", "data_prep.write_shards", f"--videos_dir={videos_dir}"),
        *(f"--manifest={folder / 'manifest.csv'}", f"--out_dir={folder / 'shards'}"),
        *(f"--num_shards={num_shards}", f"--num_workers={workers}"),
    ]
    with _processors(workers):
        subprocess.run(command, check=True, capture_output=True)


def _placed(row: manifest.ManifestRow, shard: int, num_shards: int) -> manifest.ManifestRow:
    """Returns the row with an example_id that takes it into a certain shard."""
    ids = (f"{row.example_id}_{shard}_{number}" for number in itertools.count())
    example_id = next(name for name in ids if writer.shard_of(name, num_shards) == shard)
    return dataclasses.replace(row, example_id=example_id)


def _steady_rate(shards_dir: pathlib.Path, workers: int) -> float:
    """Returns clips per second between two commit markers, while all workers were at work."""
    shards = find_shards(shards_dir, "train")
    markers = (marker_path(shard.path) for shard in shards)
    times = sorted(marker.stat().st_mtime for marker in markers)[workers - 1 : -workers]
    return shards[0].num_clips * (len(times) - 1) / (times[-1] - times[0])


if __name__ == "__main__":
    flags.run(main, Config)
