"""What `make` would run, by its dry run."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def _make(*arguments: str) -> subprocess.CompletedProcess:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def _networks(line: str, flag: str) -> list[str]:
    return line.split(f"--{flag}=")[1].split()[0].split(",")


def test_evidence_is_of_every_seed_and_source():
    asked = ("--dry-run", "evidence", "SEEDS=0,2", "ESC10=a", "SPOKEN_DIGITS=b", "PHOTOS=c")
    lines = _make(*asked).stdout.splitlines()
    (sounds,) = (line for line in lines if "eval.table2_sound --saved_model" in line)
    (photos,) = (line for line in lines if "eval.table3_imagenet --saved_model" in line)
    for line, given in ((sounds, "--esc10=a  --spoken_digits=b"), (photos, "--imagenet=c")):
        first, second, means = line.split(" && ")
        for command, seed, folder in ((first, 0, ""), (second, 2, "/seed2")):
            assert given in command and f"--out_dir=runs/evidence/seed{seed}" in command
            assert _networks(command, "saved_model") == [
                f"runs/av_digits{folder}/l3_net/saved_model"
            ]
            further = _networks(command, "further_saved_models")
            assert further[:3] == [
                f"runs/evidence/seed{seed}/identity",
                f"runs/demo{folder}/l3_net/saved_model",
                f"runs/demo{folder}/l3_net/saved_model_random",
            ]
            assert len(further) == (5 if line is photos else 3)  # two learnt labels
        assert "--only_run --seeds=0,2" in means
        assert means.count("runs/evidence/seed") == 2
    exported = [line for line in lines if "--batch_norm_batches=0" in line]
    assert all("seed0/identity" in line and "seed2/identity" in line for line in exported[:1])


def test_evidence_without_a_folder_says_what_to_give():
    done = _make("evidence")
    assert done.returncode and "error: give folders: make evidence ESC50=" in done.stderr


def test_make_reproduces_esc50_in_a_folder_of_its_own_and_goes_on_from_its_cache():
    asked = ("--dry-run", "--always-make", "reproduce-esc50", "ESC50=sounds")
    lines = _make(*asked).stdout.splitlines()
    exports = [line for line in lines if "l3net.export" in line]
    # Each network with batch norm's statistics of shards, then without.
    assert [line.split("--run_dir=")[1].split()[0] for line in exports] == [
        *2 * ["runs/esc50/l3_net"],
        *2 * ["runs/esc50/l3_net_ots"],
    ]
    assert all("--random_weights" in line for line in exports)
    assert ["--shards=" in line for line in exports] == 2 * [True, False]
    text = " ".join(lines)
    assert "for piczak in off paper" in text and "--esc50=sounds" in text
    assert "--random_saved_model=runs/esc50/l3_net/saved_model_random" in text
    further = text.split("--further_saved_models=")[1].split()[0].split(",")
    assert further == [
        f"runs/esc50/{name}"
        for name in (
            "l3_net/saved_model_identity",
            "l3_net_ots/saved_model_random",
            "l3_net_ots/saved_model_identity",
        )
    ]
    assert "--cache_dir=runs/esc50/cache" in text
    refused = _make("reproduce-esc50")
    assert refused.returncode and "error: got no ESC50=; give the folder" in refused.stderr
    assert not refused.stdout
