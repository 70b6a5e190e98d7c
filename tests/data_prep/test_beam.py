import functools
import pathlib
import re
import resource
import sys

import pytest

from data_prep.lists import manifest
from data_prep.lists.manifest import ManifestRow
from data_prep.shards import beam, writer
from l3net.data.markers import OUTCOMES_FILE, marker_path
from l3net.errors import UserError
from tests import commands, tiny_folders
from tests.tiny_archives import tar_bytes, write
from tests.tiny_folders import contents, rows_in

REPOSITORY = pathlib.Path(__file__).parents[2]
SETTINGS = {"dataset_name": "tiny", "smallest_side_px": 64, "num_shards": 5, "failure_budget": 1}


@pytest.fixture(scope="module")
def manifest_path(tiny_videos, tmp_path_factory) -> pathlib.Path:
    """Good rows and one whose file is missing."""
    rows = rows_in(tiny_videos / "manifest.csv")
    rows.append(ManifestRow("missing", "missing", "missing.mp4", 0.0, 2.0, "train", ("high",)))
    path = tmp_path_factory.mktemp("beam") / "manifest.csv"
    manifest.write_manifest(path, rows)
    return path


@pytest.fixture(scope="module")
def by_processes(tiny_videos, manifest_path) -> pathlib.Path:
    """What local processes make of it."""
    return prepare(tiny_videos, manifest_path, manifest_path.parent / "local", num_workers=1)


def prepare(videos, manifest_path, out_dir, **settings) -> pathlib.Path:
    given = {"manifest": manifest_path, "videos_dir": videos, "out_dir": out_dir}
    tiny_folders.prepare(**given | SETTINGS | settings)
    return out_dir


@pytest.fixture
def with_beam(tiny_videos, manifest_path):
    """Prepares the given folder with Beam."""
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: l3net[beam]")
    return functools.partial(prepare, tiny_videos, manifest_path, runner="beam")


def test_beam_writes_the_same_bytes(with_beam, by_processes, tmp_path):
    files = contents(with_beam(tmp_path / "beam"))
    assert files == contents(by_processes)
    # Shards without a clip, and what failed, are part of it.
    sizes = {name: len(data) for name, data in files.items() if name.endswith("-of-00005")}
    assert len(sizes) == 15 and 0 in sizes.values()
    assert b"missing,missing,missing.mp4,train,failed,missing" in files[OUTCOMES_FILE]


def test_beam_reads_archives(with_beam, tiny_videos, by_processes, tmp_path):
    files = ((path.name, path.read_bytes()) for path in sorted(tiny_videos.glob("*.mp4")))
    write(tmp_path / "x.tar", tar_bytes(files))
    with_beam(tmp_path / "beam", videos_dir=tmp_path / "x.tar")
    assert contents(tmp_path / "beam") == contents(by_processes)


def test_beam_goes_on_where_processes_stopped(
    with_beam, tiny_videos, manifest_path, by_processes, tmp_path
):
    out_dir = prepare(tiny_videos, manifest_path, tmp_path / "out", num_workers=1)
    shards = [path for path in out_dir.glob("tiny-*-of-*") if path.suffix != ".json"]
    lost, *kept = sorted(path for path in shards if path.stat().st_size)
    marker_path(lost).unlink()
    lost.write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert contents(with_beam(out_dir)) == contents(by_processes)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    with_beam(out_dir, retry_failed=True)
    assert contents(out_dir) == contents(by_processes)


def test_a_full_disk_under_beam_is_one_line(with_beam, by_processes, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
    try:
        with pytest.raises(UserError, match="Beam pipeline failed.*cannot write") as caught:
            with_beam(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert contents(with_beam(tmp_path)) == contents(by_processes)


def test_a_folder_that_the_workers_do_not_share_is_reported(with_beam, tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "_SECONDS_FOR_MARKERS", 0.0)
    monkeypatch.setattr(writer, "write_shard", lambda *_: None)  # to another machine's disk
    with pytest.raises(UserError, match="lacks 15 of 15 shards; every worker must see this folder"):
        with_beam(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--runner=NoSuchRunner", "NoSuchRunner"),
        ("--runner=no.such.Runner", "No module named 'no'"),
        ("--direct_num_workers=many", "invalid int value: 'many'"),
    ],
)
def test_unusable_options_are_reported_before_anything_is_written(
    with_beam, tmp_path, options, words
):
    with pytest.raises(UserError, match=words) as caught:
        with_beam(tmp_path / "out", beam_options=options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("with_beam")
def test_options_come_from_the_flag_and_from_behind_it(tiny_videos, tmp_path):
    command = [
        *("-m", "data_prep.write_shards", "--runner=beam"),
        *(f"--videos_dir={tiny_videos}", f"--out_dir={tmp_path / 'out'}"),
        "--beam_options=--runner=NoSuchRunner --job_name='two words'",
        *("--", "--direct_num_workers=3"),
    ]
    done = commands.run(*command, cwd=REPOSITORY)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    start = "Beam refuses --runner=NoSuchRunner --job_name=two words --direct_num_workers=3: "
    assert re.match(f"error: {start}.*NoSuchRunner", last), last


def test_without_beam_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"run pip install 'l3net\[beam\]'"):
        beam.check_options([])


def test_options_of_beam_need_the_runner(tiny_videos, manifest_path, tmp_path):
    with pytest.raises(UserError, match="got --streaming: options of Beam need --runner=beam"):
        prepare(tiny_videos, manifest_path, tmp_path / "out", beam_options="--streaming")
    assert not (tmp_path / "out").exists()
