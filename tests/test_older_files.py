r"""What version 0.1 wrote is read, resumed and loaded: shards, a run, its SavedModel.

tests/data_of_0_1 holds an xz-compressed tar archive in base85. It was made with the commands of
commit cf334c1: four videos of 1.2 s (`make_video`, 96x64, one colour and one tone each, two for
training, labels a and b) went through

    python -m data_prep.write_shards --dataset_name=old --smallest_side_px=64 ...
    python -m l3net.train --run_dir=run --shards=shards --model=supervised_audio --num_classes=2 \
        --width=0.004 --frame_px=64 --spectrogram_average=2 --global_batch_size=4 \
        --pairs_per_clip=2 --shuffle_pairs=8 --num_eval_pairs=4 --num_steps=2 \
        --log_every_steps=1 --learning_rate=1e-2
    python -m l3net.export --run_dir=run

To be small, the kernels of fc1 and fc2 began as 1/16 and (-1/64, 1/64): units that are alike
compress. best/, tensorboard/ and fixed_pairs/ were left out, and of saved_model.pb what
`tf.saved_model.load` does not read: the main graph's nodes, its saver and the saver's functions.

The numbers below are what that commit read, gave, and reached in two steps more.
"""

import base64
import hashlib
import io
import json
import pathlib
import tarfile

import numpy as np
import pytest

from l3net.data.shards import find_shards, read_clips
from l3net.inference.saved_model import SavedModel
from l3net.training import checkpoints, run_dir
from tests import commands

ARCHIVE = pathlib.Path(__file__).parent / "data_of_0_1" / "run_and_shards.tar.xz.b85"
CLIPS = {  # SHA-256 of the sound and all JPEG files begins so
    "0": "d28a86502badf849",
    "1": "9959dabd2db2d724",
    "2": "63c03cb7bab49b80",
    "3": "a4e75983ad2a539b",
}
LOSSES = [3.50946044921875, 0.7419816851615906, 0.8263234496116638, 0.7267551422119141]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Holds shards/ and run/."""
    content = base64.b85decode(ARCHIVE.read_text().replace("\n", ""))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_shards_are_read(folder):
    shards = [*find_shards(folder / "shards", "train"), *find_shards(folder / "shards", "val")]
    clips = list(read_clips(shards))
    for clip in clips:
        digest = hashlib.sha256(np.ascontiguousarray(clip.waveform).tobytes())
        for jpeg in clip.frames:
            digest.update(jpeg)
        assert digest.hexdigest().startswith(CLIPS[clip.example_id])
        assert (clip.height_px, clip.width_px, len(clip.frames)) == (64, 96, 30)
        assert (clip.start_us, clip.end_us, clip.timestamps_us[-1]) == (0, 1_200_000, 1_160_000)
    assert [(clip.media_id, clip.labels) for clip in clips] == [
        (name, ("ab"[int(name) % 2],)) for name in CLIPS
    ]


def test_a_run_resumes_with_its_own_flags(folder):
    """And computes what the version before would have, with the epsilon of that time."""
    before = checkpoints.load_model(folder / "run")
    assert before[1].width == 0.004 and before[2] == 2
    flagfile = [f"--flagfile={folder / 'run' / 'flags.txt'}", f"--shards={folder / 'shards'}"]
    train = ["-m", "l3net.train", *flagfile, f"--run_dir={folder / 'run'}", "--num_steps=4"]
    refused = commands.run(*train)
    assert refused.returncode and "training.adam_epsilon: 1e-07 -> 1e-08" in refused.stderr
    done = commands.run(*train, "--adam_epsilon=1e-7")
    assert done.returncode == 0, done.stderr
    assert "resuming at step 2" in done.stderr
    lines = [line for line in run_dir.read_metrics(folder / "run") if line["split"] == "train"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    np.testing.assert_allclose([line["loss"] for line in lines], LOSSES, rtol=1e-3)
    assert checkpoints.load_model(folder / "run")[2] == 4
    assert run_dir.read_summary(folder / "run")["steps"] == 4
    again = (folder / "run" / "flags.txt").read_text().splitlines()
    assert {"--width=0.004", "--num_steps=4", f"--shards={folder / 'shards'}"} <= set(again)


def test_a_saved_model_gives_its_numbers(folder):
    model = SavedModel(folder / "run" / "saved_model")
    assert model.frame_px == 64 and model.inputs == ("log_spectrogram",)
    waveform = (np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000) / 2).astype(np.float32)[None]
    expected = {
        "conv4_2": [0.037173823, 0.002254147, -0.007033235, -0.017474504],
        "pool4": [0.037173823, 0.005196497],
        "softmax": [0.509065151, 0.490934879],
    }
    for output, numbers in expected.items():
        got = model.features("audio", output)(waveform)[0, :4]
        np.testing.assert_allclose(got, numbers, rtol=1e-3, atol=1e-5)
    metadata = json.loads((folder / "run/saved_model/assets.extra/l3net.json").read_text())
    assert model.metadata == metadata and metadata["trained_on"] == "old"
