"""The complete system once, tiny: video -> shards -> two steps -> SavedModel -> features, Table 2.

Each stage is the command that a user would run, in a process of its own; only the sizes are small.
"""

import json
import os
import pathlib

import numpy as np
import pytest

from data_prep.demo_data import clips
from data_prep.demo_data.data_set import Config, make_demo
from tests import commands
from tests.tiny_folders import prepare

ROOT = pathlib.Path(__file__).parents[1]


def _run(folder: pathlib.Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = commands.run("-m", *arguments, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("workplace")
    counts = ("3", "1", "2")
    make_demo(Config(folder / "videos", counts, 1.6, num_workers=1, labels=clips.LABELS[:3]))
    prepare(
        out_dir=folder / "shards",
        manifest=folder / "videos" / "manifest.csv",
        videos_dir=folder / "videos",
        dataset_name="demo",
        num_workers=1,
    )
    _run(
        folder, "l3net.train", "--run_dir=run", "--shards=shards", "--model=l3_net_ots",
        "--width=0.0625", "--frame_px=64", "--spectrogram_average=2", "--global_batch_size=6",
        "--num_steps=2", "--num_eval_pairs=6", "--sampling=ots",
    )  # fmt: skip
    _run(folder, "l3net.export", "--run_dir=run")
    return folder


def test_avc_accuracy_of_the_saved_model_equals_the_networks(workplace):
    printed = _run(
        workplace, "eval.avc_accuracy", "--saved_models=run/saved_model", "--shards=shards",
        "--split=val", "--num_pairs=6", "--sampling=ots", "--out_dir=run",
    )  # fmt: skip
    assert "demo data (synthetic), 6 fixed val pairs" in printed
    row = json.loads((workplace / "run" / "avc_accuracy.json").read_text())["rows"][0]
    lines = (workplace / "run" / "metrics.jsonl").read_text().splitlines()
    trained = [json.loads(line) for line in lines if '"val"' in line][-1]
    assert row["ours"]["accuracy"] == pytest.approx(100 * trained["accuracy"], abs=17)


def test_table2_names_its_data_and_what_was_not_run(workplace):
    printed = _run(
        workplace, "eval.table2_sound", "--saved_model=run/saved_model", "--shards=shards",
        "--clips=videos/clips.csv", "--out_dir=run", "--cache_dir=cache", "--svm_c=0.01",
    )  # fmt: skip
    rows = json.loads((workplace / "run" / "table2.json").read_text())["rows"]
    ours = next(r for r in rows if r["method"] == "Ours" and r["status"] == "run")
    assert "demo" in ours["data"] and "synthetic" in ours["data"]
    assert 0 <= ours["ours"]["accuracy"] <= 100
    assert ours["details"]["saved_model"]["metadata"]["trained_on"] == "demo"
    assert "2 steps, on demo" in printed
    statuses = {(r["data"], r["method"]): r["status"] for r in rows}
    assert statuses[("ESC-50 (not given)", "Ours")] == "not run"
    assert statuses[("ESC-50 (not given)", "SoundNet")] == "quoted"


def test_extract_takes_a_video_of_the_set(workplace):
    video = next((workplace / "videos" / "test").glob("*.mp4"))
    _run(
        workplace, "l3net.extract", "--saved_model=run/saved_model", "--out_dir=features",
        str(video),
    )  # fmt: skip
    (path,) = (workplace / "features").rglob("*.npz")
    with np.load(path) as content:
        assert content["audio_embedding"].shape[1] == content["image_embedding"].shape[1] == 32
        np.testing.assert_allclose(
            content["audio_timestamps"], [0.0, 0.5, 1.0][: len(content["audio_timestamps"])]
        )
