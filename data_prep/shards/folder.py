"""The folder around the shards: begun once, finished as often as it takes.

One run at a time works in a folder. The files beside the shards are written first (labels.txt,
manifest.csv, prep.json) and last (outcomes.csv), each completely or not at all.
"""

import dataclasses
import logging
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.archives import member_copies
from data_prep.lists import manifest
from data_prep.shards import flow
from data_prep.shards.clip_records import FAILED, OK
from data_prep.shards.config import LATER_SETTINGS, Config
from data_prep.shards.row_table import OUTCOME_COLUMNS, RowTable
from data_prep.shards.writer import Job, read_outcomes
from l3net.data.markers import LABELS_FILE, OUTCOMES_FILE, PREP_FILE
from l3net.errors import UserError
from l3net.files import write_csv, write_whole
from l3net.json_files import check, read_json, write_json
from l3net.media import ffmpeg

MANIFEST_FILE = "manifest.csv"  # the rows a folder was made from, kept beside its shards
_log = logging.getLogger(__name__)


# --- Begin ---------------------------------------------------------------------------------------
def begin(out_dir: pathlib.Path, config: Config, rows: RowTable) -> dict[str, int]:
    """Writes or checks the files beside the shards; returns label -> line number in labels.txt.

    Raises:
        UserError: if the folder was made with another configuration, or OpenCV is missing.
    """
    versions = _versions(config)
    if (out_dir / PREP_FILE).exists():
        before, _ = read_prep(out_dir)
        _check_same_config(out_dir, before, config)
        # Those it was begun with stay, so that every later run with others warns.
        versions = _warned_versions(out_dir, before, versions)
    prep = {"config_hash": config.hash(), "config": config.content(), **versions}
    _delete_leftovers(out_dir, config.dataset_name)
    labels = sorted(rows.labels)
    write_whole(out_dir / LABELS_FILE, "".join(f"{label}\n" for label in labels))
    manifest.write_manifest(out_dir / MANIFEST_FILE, rows.rows())
    # Last: a folder with this file has the others.
    write_json(out_dir / PREP_FILE, prep, sort_keys=True)
    return {label: index for index, label in enumerate(labels)}


def _versions(config: Config) -> dict[str, str]:
    """Returns the versions of the programs that the bytes of a clip depend on."""
    versions = {"ffmpeg_version": ffmpeg.ffmpeg_version()}
    if config.flow_smallest_side_px:
        versions["opencv_version"] = flow.opencv_version()
    return versions


@dataclasses.dataclass(frozen=True)
class _Prep:
    """What prep.json holds at least."""

    config_hash: str
    config: dict[str, Any]


def read_prep(out_dir: pathlib.Path) -> tuple[dict[str, Any], Config]:
    """Returns what prep.json holds, and the configuration in it.

    Raises:
        FileNotFoundError: if there is none.
        UserError: if it is damaged.
    """
    path = out_dir / PREP_FILE
    advice = "put a copy of it there, or prepare a new folder with data_prep.write_shards"
    prep = read_json(path, dict[str, Any], advice)
    config = LATER_SETTINGS | check(path, prep, _Prep, advice).config
    return {**prep, "config": config}, check(path, config, Config, advice)


def _check_same_config(out_dir: pathlib.Path, prep: Mapping, config: Config) -> None:
    before, now = prep["config"], dataclasses.asdict(config)
    changes = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if changes:
        raise UserError(
            f"{out_dir} was made with another configuration: {'; '.join(changes)}; "
            "use another --out_dir, or delete this one"
        )


def _warned_versions(
    out_dir: pathlib.Path, before: Mapping, now: Mapping[str, str]
) -> dict[str, str]:
    """Returns the versions that the folder was begun with; warns if they are others now."""
    begun = {key: before.get(key, version) for key, version in now.items()}
    if begun != now:
        then, today = (
            ", ".join(f"{key.split('_')[0]} {version}" for key, version in versions.items())
            for versions in (begun, now)
        )
        text = "%s was begun with %s and goes on with %s; clips may differ slightly"
        _log.warning(text, out_dir, then, today)
    return begun


def _delete_leftovers(out_dir: pathlib.Path, dataset_name: str) -> None:
    beside = (LABELS_FILE, MANIFEST_FILE, PREP_FILE, OUTCOMES_FILE)
    copies = (f".{dataset_name}-*.tmp", member_copies.LEFTOVERS)
    for pattern in (*copies, *(f".{name}.*.tmp" for name in beside)):
        for leftover in out_dir.glob(pattern):
            # A worker that outlives its killed run for a moment deletes its own.
            leftover.unlink(missing_ok=True)


# --- Finish --------------------------------------------------------------------------------------
def finish(shards: Sequence[str], job: Job, rows: RowTable) -> Counter:
    """Merges the outcomes of all shards into one file; returns (outcome, reason) -> rows.

    Raises:
        UserError: if a marker belongs to another manifest.
    """
    rows.add_outcomes(outcome for shard in shards for outcome in read_outcomes(shard, job))
    counts, seconds = rows.counts()
    num_rows = sum(rows.num_clips().values())
    if counts.total() != num_rows:
        raise UserError(
            f"{job.out_dir} has {counts.total()} outcomes for {num_rows} rows; delete it"
        )
    write_csv(job.out_dir / OUTCOMES_FILE, OUTCOME_COLUMNS, rows.outcomes())
    _log.info("%.1f minutes of clips", seconds / 60)
    return counts


def judge(counts: Counter, failure_budget: float, out_dir: pathlib.Path) -> None:
    """Logs what `finish` returned.

    Raises:
        UserError: if no clip came out, or a larger share failed than the budget allows.
    """
    total = counts.total()
    lines = [f"{n:7d} {outcome} {reason}" for (outcome, reason), n in sorted(counts.items())]
    _log.info("%d rows -> %s\n%s", total, out_dir, "\n".join(lines))
    num_failed = sum(n for (outcome, _), n in counts.items() if outcome == FAILED)
    words = ", ".join(f"{n} {outcome} {reason}".strip() for (outcome, reason), n in counts.items())
    table = out_dir / OUTCOMES_FILE
    if not counts[OK, ""]:
        raise UserError(f"no clip came out of {total} rows ({words}); see {table}")
    if num_failed > failure_budget * total:
        raise UserError(
            f"{num_failed} of {total} rows failed, more than the --failure_budget of "
            f"{failure_budget:g} allows ({words}); see {table}"
        )
