"""Archives beside loose files: equal shards, kills included, and what the index costs.

    python -m tests.benchmarks.bench_archives --videos_dir=FOLDER [--members=1000] [--kills=5]

Makes a WebDataset of copies of the videos (`KEY.mp4`, `KEY.json`, `KEY.txt`; ten archives, of which
one is a .tar.gz and one a .zip) with hostile members among them, prepares it and the loose files,
and compares every file of the two folders.
"""

import dataclasses
import gzip
import io
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

from data_prep.archives import member_index
from data_prep.lists.manifest import ManifestRow, write_manifest
from data_prep.lists.media_files import find
from l3net import flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from tests.benchmarks.timing import say
from tests.tiny_archives import claim_of_a_terabyte, header, hostile_members, without_end
from tests.tiny_folders import contents

ARCHIVES = 10
SETTINGS = ("--fps=5", "--max_seconds=2", "--smallest_side_px=64", "--num_shards=50")
_INDEX = """
import pathlib, resource, sys, time
from data_prep.lists.media_files import find
began = time.monotonic()
find(sys.argv[1], "videos").indexed(pathlib.Path(sys.argv[2]))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, time.monotonic() - began)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is prepared."""

    videos_dir: str = setting(REQUIRED, "Folder of videos, of which copies become the members.")
    members: int = setting(1000, "Videos in all archives.", at_least=ARCHIVES)
    kills: int = setting(5, "How often the preparation is killed before it may finish.")
    many: int = setting(200_000, "Empty members of a further .tar, of which an index is made.")


def main(config: Config) -> None:
    """Prints the comparison."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _make(config, folder)
        loose = folder / "loose_shards"
        say(f"loose files: {_prepare(folder, 'loose', loose)}")
        _say_index(folder / "web", folder / "indexed")
        say(f"archives: {_prepare(folder, 'web', folder / 'web_shards')}")
        _compare(loose, folder / "web_shards")
        _killed(config, folder, folder / "killed_shards")
        _compare(loose, folder / "killed_shards")
        _many(folder / "many", config.many)


# --- What is prepared ----------------------------------------------------------------------------
def _make(config: Config, folder: pathlib.Path) -> None:
    """Writes the loose files, the archives and the manifest of both."""
    videos = sorted(path for path in pathlib.Path(config.videos_dir).iterdir() if path.is_file())
    (folder / "loose").mkdir()
    (folder / "web").mkdir()
    rows = []
    for number in range(ARCHIVES):
        files = []
        for key in range(number, config.members, ARCHIVES):
            video = videos[key % len(videos)]
            name = f"{key:09d}{video.suffix}"
            (folder / "loose" / name).hardlink_to(_copy(video, folder))
            files.append((name, video.read_bytes()))
            files += [(f"{key:09d}.json", b'{"key": 1}'), (f"{key:09d}.txt", b"a caption")]
            rows.append(ManifestRow(name, name, name, 0.0, 10.0, "train", ("label",)))
        _write_archive(folder / "web" / f"{number:05d}", number, files)
    rows.append(ManifestRow("gone", "gone", "gone.mp4", 0.0, 10.0, "train"))
    write_manifest(folder / "manifest.csv", rows)


def _copy(video: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    copy = folder / "originals" / video.name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(video.read_bytes())
    return copy


def _write_archive(path: pathlib.Path, number: int, files: list[tuple[str, bytes]]) -> None:
    if number == 1:
        with zipfile.ZipFile(f"{path}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in [("../../out.mp4", b""), ("/out.mp4", b""), *files]:
                archive.writestr(name, data)
        return
    tar = io.BytesIO()
    first = files[0][0]
    settings = {"encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.open(fileobj=tar, mode="w", **settings) as archive:
        for info in hostile_members():
            archive.addfile(info)
        # A name twice: the last file counts, and a link behind it does not.
        for name, data in [(first, b"an earlier version"), *files]:
            archive.addfile(header(name, len(data)), io.BytesIO(data))
        archive.addfile(header(first, type=tarfile.SYMTYPE, linkname="/etc/passwd"))
    data = tar.getvalue()
    if number == 2:
        data = without_end(data) + claim_of_a_terabyte()
    if number == 3:
        pathlib.Path(f"{path}.tar.gz").write_bytes(gzip.compress(data, 1))
    else:
        pathlib.Path(f"{path}.tar").write_bytes(data)


# --- Runs ----------------------------------------------------------------------------------------
def _command(folder: pathlib.Path, videos: str, out: pathlib.Path, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "data_prep.write_shards", f"--manifest={folder / 'manifest.csv'}"),
        *(f"--videos_dir={folder / videos}", f"--out_dir={out}", "--dataset_name=bench"),
        *(f"--num_workers={workers}", *SETTINGS),
    ]


def _prepare(folder: pathlib.Path, videos: str, out: pathlib.Path) -> str:
    """Prepares in one process, of which all its children's time is known; returns that."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(_command(folder, videos, out, 1), capture_output=True, text=True)
    if done.returncode:
        raise UserError(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{seconds:.1f} s of processors, {time.monotonic() - began:.1f} s"


def _killed(config: Config, folder: pathlib.Path, out: pathlib.Path) -> None:
    """Kills the preparation again and again, each time after a few more shards."""
    rng = random.Random(0)
    for _ in range(config.kills):
        before = len(list(out.glob("bench-*.json")))
        process = subprocess.Popen(
            _command(folder, "web", out, 2), start_new_session=True, stderr=subprocess.DEVNULL
        )
        wanted = before + rng.randint(1, 8)
        while len(list(out.glob("bench-*.json"))) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        left = sum(1 for path in out.glob(".*") if path.name.startswith((".member-", ".bench-")))
        say(f"killed at {len(list(out.glob('bench-*.json')))} shards, {left} files left over")
    say(f"the rest: {_prepare(folder, 'web', out)}")


def _compare(loose: pathlib.Path, other: pathlib.Path) -> None:
    ours, theirs = contents(loose), contents(other)
    if ours != theirs:
        names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        raise UserError(f"{other.name} differs in {len(names)} files, such as {names[0]}")
    hidden = sorted(path.name for path in other.glob(".*"))
    say(f"{other.name}: all {len(ours)} files equal, {sum(map(len, ours.values())) / 1e6:.0f} MB")
    say(f"beside them: {', '.join(hidden)}")


# --- The index -----------------------------------------------------------------------------------
def _say_index(archives: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir()
    # From a small process: a child's peak begins with that of the process that starts it.
    command = ["sh", "-c", '"$@"; exit', "sh", sys.executable, "-c", _INDEX, archives, folder]
    answer = subprocess.check_output(command, text=True)
    peak_mb, processor, seconds = map(float, answer.split())
    size_mb = (folder / member_index.FILE).stat().st_size / 1e6
    num = len(find(archives, "videos").archives)
    say(
        f"index of {num} archives: {processor:.1f} s of processors, {seconds:.1f} s, "
        f"peak {peak_mb:.0f} MB; {size_mb:.1f} MB on disk"
    )


def _many(folder: pathlib.Path, num: int) -> None:
    (folder / "archives").mkdir(parents=True)
    with tarfile.open(folder / "archives" / "many.tar", "w") as tar:
        for number in range(num):
            tar.addfile(header(f"{number:09d}.mp4"))
            tar.getmembers().clear()
    say(f"{num} members:")
    _say_index(folder / "archives", folder / "index")


if __name__ == "__main__":
    flags.run(main, Config)
