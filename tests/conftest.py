"""Media and shards for all tests, made by ffmpeg: small, deterministic, nothing downloaded.

For every test: `make_video(path, ...)` (a function, importable from here), and the session fixtures

    tiny_videos   folder with 8 two-second videos and their manifest.csv: splits train (4), val (2),
                  test (2); labels "high" and "low", half of each split; every video has a colour
                  and a pitch of its own, so that a network can learn which sound goes with which
                  picture
    tiny_shards   the same, prepared by write_shards: data set "tiny", 341 x 256 frames, pcm16
"""

import pathlib
import subprocess

import numpy as np
import pytest

from data_prep.lists.manifest import ManifestRow, write_manifest
from l3net.media import ffmpeg
from tests.tiny_folders import prepare

TINY_SPLITS = ("train",) * 4 + ("val",) * 2 + ("test",) * 2
TINY_COLOURS = ("red", "blue", "lime", "black", "yellow", "purple", "orange", "white")
TINY_LABELS = ("high", "low")


# Files whose tests take longest, first: a worker that begins one of them last works alone. Complete
# files go to workers (pyproject.toml), in the order of collection.
LONGEST = (
    *("test_training", "test_distributed", "test_training_step", "test_export", "test_train"),
    "test_retrieval",
    *("test_table3_imagenet", "test_table2_sound", "test_end_to_end", "test_write_shards"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def run_ffmpeg(*arguments: str) -> None:
    """Runs ffmpeg on made-up sources only; a test fails with what it says."""
    command = [ffmpeg.find_ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def make_video(
    path: pathlib.Path,
    *,
    picture: str | None = "color=gray:s=64x48:r=25",
    sound: str | None = "sine=440:r=48000",
    seconds: float = 2.0,
    picture_late_seconds: float = 0.0,
    sound_late_seconds: float = 0.0,
    options: tuple[str, ...] = (),
) -> pathlib.Path:
    """Makes one video of two lavfi sources (None for none) with codecs that every ffmpeg has.

    The suffix chooses the container; a late stream starts so many seconds after the other.
    """
    inputs = []
    for source, late in ((picture, picture_late_seconds), (sound, sound_late_seconds)):
        if source is not None:
            inputs += ["-itsoffset", str(late), "-f", "lavfi", "-t", str(seconds), "-i", source]
    # Passthrough: a late picture stays late. AAC in mkv would delay all by its priming.
    codecs = ["-c:v", "mpeg4", "-q:v", "2", "-fps_mode", "passthrough", "-bitexact"]
    codecs += ["-c:a", "pcm_s16le" if path.suffix == ".mkv" else "aac", "-b:a", "128k"]
    maps = [word for index in range(inputs.count("lavfi")) for word in ("-map", str(index))]
    run_ffmpeg(*inputs, *maps, *codecs, *options, f"file:{path}")
    return path


def make_step_video(
    path: pathlib.Path, size: str, *, sample_rate_hz: int = 48_000, **settings
) -> pathlib.Path:
    """Makes a video whose picture turns from black to white, and whose tone starts, at 1 s."""
    return make_video(
        path,
        picture=f"color=black:s={size}:r=25,geq=lum='if(lt(T,0.99),16,235)':cb=128:cr=128",
        sound=f"aevalsrc=if(lt(t\\,1)\\,0\\,0.5*sin(2*PI*440*t)):s={sample_rate_hz}",
        **settings,
    )


def steps_of(path: pathlib.Path) -> tuple[float, float]:
    """Returns when the picture turns white and when the sound starts, seconds."""
    bright = [frame.mean() > 128 for frame in ffmpeg.stream_frames(path, smallest_side_px=None)]
    loud = np.abs(np.concatenate(list(ffmpeg.stream_audio(path))).astype(int)) > 3000
    return bright.index(True) / 25, int(loud.argmax()) / 48_000


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory) -> pathlib.Path:
    """See the head of this file."""
    folder = tmp_path_factory.mktemp("tiny_videos")
    rows = []
    for index, (split, colour) in enumerate(zip(TINY_SPLITS, TINY_COLOURS, strict=True)):
        label = TINY_LABELS[index % 2]
        pitch_hz = (200 if label == "low" else 2000) + 50 * index
        make_video(
            folder / f"{index}_{label}.mp4",
            # Noise: frames of one video differ from one another, too.
            picture=f"color={colour}:s=64x48:r=25,noise=alls=30:allf=t:all_seed={index}",
            sound=f"sine={pitch_hz}:r=48000",
        )
        name = f"{index}_{label}"
        rows.append(ManifestRow(name, name, f"{name}.mp4", 0.0, 2.0, split, (label,)))
    write_manifest(folder / "manifest.csv", rows)
    return folder


@pytest.fixture(scope="session")
def tiny_shards(tiny_videos, tmp_path_factory) -> pathlib.Path:
    """See the head of this file."""
    out_dir = tmp_path_factory.mktemp("tiny_shards")
    settings = {"dataset_name": "tiny", "num_shards": 2, "num_workers": 1}
    counts = prepare(manifest=tiny_videos / "manifest.csv", out_dir=out_dir, **settings)
    assert counts == {"ok": len(TINY_SPLITS), "skipped": 0, "failed": 0}
    return out_dir
