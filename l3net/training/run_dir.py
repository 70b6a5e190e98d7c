"""The files of a run, but for its checkpoints: what it is, what came out.

runs/<name>/flags.txt        a flagfile that repeats the run
runs/<name>/training.json    configuration and data: only the same may resume
runs/<name>/versions.json    versions of the software
runs/<name>/metrics.jsonl    one line each time something was measured
runs/<name>/summary.json     written when a run ends
"""

import dataclasses
import json
import logging
import pathlib
import statistics
from typing import Any

from l3net import models, provenance
from l3net.data import input_pipeline
from l3net.data.shards import Shard, content_digest
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.json_files import read_json, read_lines, write_json
from l3net.training.checkpoints import Standing
from l3net.training.distribution import Position
from l3net.training.step import TrainingConfig

_log = logging.getLogger(__name__)

FLAGS_FILE = "flags.txt"
CONFIG_FILE = "training.json"
METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "summary.json"
VERSIONS_FILE = "versions.json"
TENSORBOARD = "tensorboard"

_CONFIGS = {
    "model": models.ModelConfig,
    "pipeline": input_pipeline.PipelineConfig,
    "training": TrainingConfig,
}
# What a version before had fixed, where the default has changed since.
_BEFORE = {"training": {"adam_epsilon": 1e-7}}
_DEVICES = "distribution"
_ADVICE = "put a copy of it there, or take a new --run_dir"


def describe(
    model_config: models.ModelConfig,
    pipeline_config: input_pipeline.PipelineConfig,
    config: TrainingConfig,
    shards: list[Shard],
) -> dict[str, dict]:
    """Returns what a run is, as JSON can hold it."""
    training = dataclasses.asdict(config)
    # By content, not by folder: a moved data set is the same data set.
    del training["shards"]
    content = {
        "model": dataclasses.asdict(model_config),
        "pipeline": dataclasses.asdict(pipeline_config),
        "training": training,
        "data": {
            "name": shards[0].dataset_name,
            "num_clips": sum(shard.num_clips for shard in shards),
            "digest": content_digest(shards),
        },
    }
    return json.loads(json.dumps(content))  # tuples become lists


def check_same(run_dir: pathlib.Path, content: dict[str, dict], position: Position) -> None:
    """Refuses to resume a run of another configuration; warns of another number of devices.

    Raises:
        UserError: if the folder holds a run whose `describe` is not `content`.
    """
    path = run_dir / CONFIG_FILE
    if not path.exists():
        return
    before, changed = read_json(path, dict[str, dict[str, Any]], _ADVICE), []
    if before.get(_DEVICES, _devices(position)) != _devices(position):
        _log.warning(
            "this run was on %(num_workers)d worker(s) and %(num_replicas)d replica(s); on "
            "others it goes on, but not exactly as it would have",
            before[_DEVICES],
        )
    for part, values in content.items():
        # What a version before did not know had its default, or a value of that time.
        old = {**_defaults(part), **_BEFORE.get(part, {}), **before.get(part, {})}
        changed += [
            f"{part}.{key}: {old.get(key)!r} -> {value!r}"
            for key, value in values.items()
            if old.get(key) != value
        ]
    if changed:
        raise UserError(
            f"{run_dir} holds a run of another configuration ({'; '.join(changed)}); "
            "give the same flags to resume it, or a new --run_dir"
        )


def write_description(run_dir: pathlib.Path, content: dict[str, dict], position: Position) -> None:
    """Writes training.json and versions.json; see `describe`."""
    write_json(run_dir / VERSIONS_FILE, provenance.versions())
    write_json(run_dir / CONFIG_FILE, {**content, _DEVICES: _devices(position)})


def _devices(position: Position) -> dict[str, int]:
    return {"num_workers": position.num_workers, "num_replicas": position.num_replicas}


def _defaults(part: str) -> dict:
    fields = dataclasses.fields(_CONFIGS[part]) if part in _CONFIGS else ()
    known = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return json.loads(json.dumps(known))


@dataclasses.dataclass(frozen=True)
class _Line:
    """What a line of metrics has; all else is numbers, too."""

    step: int
    split: str
    loss: float | None = None
    accuracy: float | None = None


# --- Metrics -------------------------------------------------------------------------------------
def read_metrics(run_dir: str | pathlib.Path) -> list[dict]:
    """Returns the lines of a run's metrics.jsonl; none if there is no such file."""
    path = pathlib.Path(run_dir) / METRICS_FILE
    if not path.exists():
        return []
    return read_lines(path, _Line)


def forget_metrics_after(run_dir: pathlib.Path, step: int) -> None:
    """Drops the lines of steps that a resumed run is about to make again."""
    kept = [line for line in read_metrics(run_dir) if line["step"] <= step]
    write_whole(run_dir / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept))


def check_nothing_lost(run_dir: pathlib.Path) -> None:
    """Refuses to begin a run again in a folder whose checkpoints are gone.

    Raises:
        UserError: if its metrics say that it was trained.
    """
    last = max((line["step"] for line in read_metrics(run_dir)), default=0)
    if last > 0:
        raise UserError(
            f"{run_dir} has metrics up to step {last} and no checkpoint; nothing was changed: put "
            f"a copy of its checkpoints there, delete {METRICS_FILE} to begin again, or take a new "
            "--run_dir"
        )


def last_metrics(run_dir: pathlib.Path) -> dict[str, float]:
    """Returns the last value of each metric: "train_loss", "val_accuracy" and so on."""
    return {
        f"{line['split']}_{name}": value
        for line in read_metrics(run_dir)
        for name, value in line.items()
        if name not in ("step", "split")
    }


# --- Summary -------------------------------------------------------------------------------------
def write_summary(
    run_dir: pathlib.Path, standing: Standing, num_parameters: int, *, diverged: str | None = None
) -> None:
    """Writes summary.json: how far a run came, how fast and how good, or why it `diverged`.

    {"steps", "seconds" of training steps, "pairs_per_second" (median of the train lines, None
    without any), "num_parameters" (trainable), "best": {"step", "accuracy"} or None, "last": see
    `last_metrics`, "diverged": None or what went wrong}.
    """
    speeds = [
        line["pairs_per_second"] for line in read_metrics(run_dir) if line["split"] == "train"
    ]
    best = {"step": standing.best_step, "accuracy": standing.best_accuracy}
    content = {
        "steps": standing.step,
        "seconds": standing.seconds,
        "pairs_per_second": statistics.median(speeds) if speeds else None,
        "num_parameters": num_parameters,
        "best": best if standing.best_step >= 0 else None,
        "last": last_metrics(run_dir),
        "diverged": diverged,
    }
    write_json(run_dir / SUMMARY_FILE, content)


def read_summary(run_dir: str | pathlib.Path) -> dict | None:
    """Returns a run's summary.json; None if it never ended."""
    path = pathlib.Path(run_dir) / SUMMARY_FILE
    return read_json(path, dict, _ADVICE) if path.is_file() else None
