"""A prepared folder from beginning to end: rows of a manifest -> shards -> outcomes.csv."""

import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Iterator

from data_prep.lists.manifest import ManifestRow, parse_fractions, rows_from_files
from data_prep.lists.media_files import MediaFiles, find
from data_prep.shards import beam, clip_records, folder, processes, row_table, writer
from data_prep.shards.config import Media, Target, make_config
from l3net.errors import UserError
from l3net.files import disk_errors, locked
from l3net.flags import setting
from l3net.media import ffmpeg

LOCAL, BEAM = RUNNERS = ("local", "beam")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Which clips are prepared."""

    manifest: str | pathlib.Path | None = setting(
        None,
        "CSV of the clips (docs/datasets.md); without it, the first seconds of every video in "
        "--videos_dir are clips.",
    )
    videos_dir: str | pathlib.Path | None = setting(
        None,
        "Root of the paths in the manifest: a folder, in which archives (.tar, .tar.gz, .tgz, "
        ".zip, also WebDataset's shards) are read as if they were unpacked there; or archives and "
        "folders themselves, such as 'shards/*.tar', with commas between them. None is the "
        "manifest's own folder.",
        any_name=True,
    )
    split_fractions: str | None = setting(
        None,
        "Share of the videos in each split, such as train=0.8,val=0.1,test=0.1, without a manifest "
        "only; none puts all in train.",
    )
    seed: int = setting(0, "Seed with which --split_fractions are drawn.")

    def files(self) -> MediaFiles:
        """Returns the folders and archives that the rows' paths are in."""
        if self.manifest is None and self.videos_dir is None:
            raise UserError("got neither --manifest nor --videos_dir; need at least one of them")
        if self.manifest is not None and self.split_fractions is not None:
            raise UserError(
                "--split_fractions is for --videos_dir alone; this manifest names splits"
            )
        if self.videos_dir is None:
            return find(pathlib.Path(self.manifest or "").parent, "videos")
        return find(self.videos_dir, "videos")

    def made(self, files: MediaFiles, max_seconds: float) -> Iterator[ManifestRow]:
        """Yields a row per video, for who has no manifest."""
        fractions = None
        if self.split_fractions is not None:
            fractions = parse_fractions(self.split_fractions)
        return rows_from_files(
            files, max_seconds=max_seconds, split_fractions=fractions, seed=self.seed
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """How the work is done."""

    runner: str = setting(
        LOCAL,
        "Runner of the work: processes of this machine, or Apache Beam (docs/scaling.md).",
        choices=RUNNERS,
    )
    num_workers: int | None = setting(
        None, "Processes of the local runner; none is one per processor."
    )
    beam_options: str = setting(
        "",
        "Pipeline options for Beam, such as '--runner=FlinkRunner --flink_master=host:8081'; none "
        "is its own local runner. They may also be given at the end, behind --.",
    )
    timeout_seconds: float = setting(
        ffmpeg.DEFAULT_TIMEOUT_SECONDS,
        "Wall-clock limit per clip, seconds, optical flow included.",
        at_least=1,
    )
    retry_failed: bool = setting(False, "Whether to try again what failed in an earlier run.")
    failure_budget: float = setting(
        0.5,
        "Share of the rows that may fail, 0 to 1; above it the exit status is 1.",
        at_least=0,
        at_most=1,
    )

    def check(self) -> None:
        """Raises UserError if nothing can run like this."""
        if self.num_workers is not None and self.num_workers < 1:
            raise UserError(f"num_workers {self.num_workers}: need at least 1")
        if self.runner == BEAM:
            beam.check_options(shlex.split(self.beam_options))
        elif self.beam_options:
            raise UserError(f"got {self.beam_options}: options of Beam need --runner=beam")


def prepare(source: Source, target: Target, media: Media, run: Run) -> dict[str, int]:
    """Prepares a folder of shards, or finishes one; returns outcome -> rows of the manifest.

    Raises:
        UserError: if the manifest, the folder or a setting is unusable, the configuration differs
            from the folder's, the disk is full, a worker died, no clip came out, or more rows
            failed than the budget allows (the shards are complete and usable then).
    """
    for settings in (target, media, run):
        settings.check()
    for path in (target.out_dir, source.manifest, source.videos_dir):
        if "://" in str(path):
            raise UserError(
                f"{path}: need a path of the file system, which every worker sees; mount the "
                "bucket or network drive"
            )
    files, out_dir = source.files(), pathlib.Path(target.out_dir)
    with disk_errors(out_dir), locked(out_dir), row_table.opened(out_dir) as rows:
        if source.manifest is not None:
            rows.add_manifest(source.manifest)
        # Who has unpacked everything need not wait until the archives beside it are indexed.
        if files.archives and not (source.manifest and all(map(files.has, rows.paths()))):
            files = files.indexed(out_dir, [pathlib.Path(source.manifest or "").parent])
        if source.manifest is None:
            rows.add_rows(source.made(files, media.max_seconds))
        config = make_config(rows.hash(), rows.num_clips(), media, target)
        label_indices = folder.begin(out_dir, config, rows)
        recipe = clip_records.Recipe(config, label_indices, files, run.timeout_seconds)
        job = writer.Job(out_dir, recipe, rows.path, run.retry_failed)
        rows.place(functools.partial(writer.shard_name_of, config=config))
        shards, num_rows = writer.shard_names(config), rows.num_rows()
        unfinished = {
            name: num_rows.get(name, 0) for name in shards if not writer.is_finished(name, job)
        }
        if run.runner == BEAM and unfinished:
            beam.write_shards(unfinished, job, options=shlex.split(run.beam_options))
        else:
            processes.write_shards(unfinished, job, num_workers=run.num_workers)
        counts = folder.finish(shards, job, rows)
    folder.judge(counts, run.failure_budget, out_dir)
    return {
        outcome: sum(n for (known, _), n in counts.items() if known == outcome)
        for outcome in clip_records.OUTCOMES
    }
