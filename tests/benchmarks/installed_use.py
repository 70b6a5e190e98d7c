"""What a light install must do: run by tests/benchmarks/prove_install.sh in a fresh environment.

Imports nothing of the clone: the package that is installed makes shards of six drawn videos, trains
for some steps, exports and extracts, by its commands and by its functions.
"""

import importlib.metadata
import pathlib
import subprocess
import sys

import imageio_ffmpeg
import numpy as np

COMMAND = pathlib.Path(sys.executable).with_name("l3net")
LIGHT = ("Jinja2", "matplotlib", "librosa", "scikit-learn", "opencv-contrib-python-headless")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(*arguments: str, status: int = 0) -> str:
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def draw_videos(folder: pathlib.Path) -> None:
    folder.mkdir()
    for number in range(6):
        sources = [f"testsrc2=size=160x128:rate=25:duration=3,hue=h={60 * number}"]
        sources += [f"sine=frequency={200 * (number + 1)}:duration=3"]
        inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-loglevel", "error", *inputs, folder / f"video{number}.mp4"]
        subprocess.run(command, check=True)


def main() -> None:
    installed = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    for name in ("tensorflow", "keras", "numpy", "torch", "transformers", "datasets"):
        if name in installed:
            say(f"{name} {installed[name]}")
    draw_videos(pathlib.Path("videos"))
    run("write_shards", "--videos_dir=videos", "--out_dir=shards", "--dataset_name=drawn",
        "--audio_encoding=flac", "--num_shards=1",
        "--split_fractions=train=0.5,val=0.5", "--seed=5")  # fmt: skip
    run("train", "--flagfile=small_l3_net.flags", "--shards=shards", "--run_dir=run",
        "--num_steps=2", "--global_batch_size=4", "--num_eval_pairs=4", "--paired_negatives=1",
        "--eval_every_steps=2")  # fmt: skip
    run("export", "--run_dir=run")
    run("extract", "--saved_model=run/saved_model", "--out_dir=features", "videos")
    files = sorted(pathlib.Path("features").rglob("*.npz"))
    assert len(files) == 6, files
    with np.load(files[0]) as features:
        assert np.isfinite(features["audio_embedding"]).all()
        assert len(features["image_embedding"]) == len(features["image_timestamps"]) > 0
    if not set(LIGHT) & set(installed):
        said = run("report", "--shards_dir=shards", status=1)
        assert "pip install 'l3net[prep]'" in said and "Traceback" not in said, said

    import l3net

    model = l3net.SavedModel("run/saved_model")
    tone = np.sin(np.arange(44_100) / 10).astype(np.float32) / 2
    embedding, _ = l3net.get_audio_embedding(tone, 44_100, model=model)
    assert np.isfinite(embedding).all()
    say(f"trained, exported, extracted; embedding {embedding.shape}")


if __name__ == "__main__":
    main()
