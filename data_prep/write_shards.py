"""ENTRY: manifest (or a plain folder of videos) -> shards of clips.

    python -m data_prep.write_shards --videos_dir=my_videos --out_dir=shards/my
    python -m data_prep.write_shards --manifest=clips.csv --videos_dir=videos --out_dir=shards/clips
    python -m data_prep.write_shards ... --runner=beam -- --runner=FlinkRunner --flink_master=h:8081

The shard of a clip is a hash of its example_id and clips are sorted inside it, so the bytes depend
neither on the order of the manifest nor on who writes them: one process, many, or a cluster
(docs/scaling.md). Whatever kills a run, the same command goes on with the unfinished shards.
"""

import functools
import pathlib
import shlex
from collections.abc import Mapping, Sequence

from absl import flags

from data_prep.lists import manifest
from data_prep.shards import beam, clip_records, folder, processes, writer
from data_prep.shards import config as prep_config
from l3net import constants, errors
from l3net.data import schema
from l3net.errors import UserError
from l3net.media import ffmpeg

LOCAL, BEAM = RUNNERS = ("local", "beam")
DEFAULT_FAILURE_BUDGET = 0.5


def write_shards(
    *,
    out_dir: str | pathlib.Path,
    manifest_path: str | pathlib.Path | None = None,
    videos_dir: str | pathlib.Path | None = None,
    dataset_name: str = "videos",
    num_shards: int | None = None,
    num_workers: int | None = None,
    split_fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    timeout_seconds: float = ffmpeg.DEFAULT_TIMEOUT_SECONDS,
    retry_failed: bool = False,
    failure_budget: float = DEFAULT_FAILURE_BUDGET,
    runner: str = LOCAL,
    beam_options: Sequence[str] = (),
    **media_settings,
) -> dict[str, int]:
    """Prepares a folder of shards, or finishes one.

    Args:
        out_dir: of the shards; see `schema` for what it will hold.
        manifest_path: of the CSV of clips; None takes the first seconds of every video in
            `videos_dir`.
        videos_dir: root of the manifest's paths; None is the manifest's own folder.
        dataset_name: first part of the shards' names; letters, digits, "_" and ".".
        num_shards: see `prep_config.make_config`.
        num_workers: processes of the local runner; None is one per processor.
        split_fractions: split -> share, without a manifest; None puts all in "train".
        seed: of that split.
        timeout_seconds: wall-clock limit per clip, flow included.
        retry_failed: whether to try rows again that failed in an earlier run.
        failure_budget: share of the rows that may fail.
        runner: "local" or "beam".
        beam_options: of Apache Beam; see `beam`.
        **media_settings: see `prep_config.Media`.

    Returns:
        outcome ("ok", "skipped", "failed") -> number of rows; the sum is the manifest's length.

    Raises:
        UserError: if the manifest, the folder or a setting is unusable, the configuration differs
            from the folder's, the disk is full, a worker died, no clip came out, or more rows
            failed than the budget allows (the shards are complete and usable then).
    """
    media = prep_config.Media(**media_settings)
    prep_config.check_names(dataset_name, num_shards)
    media.check()
    _check_runner(runner, beam_options, num_workers)
    _check_folders(out_dir, manifest_path, videos_dir)
    rows, videos_dir = _rows(manifest_path, videos_dir, media.max_seconds, split_fractions, seed)
    config = prep_config.make_config(rows, media, dataset_name=dataset_name, num_shards=num_shards)
    out_dir = pathlib.Path(out_dir)
    with writer.disk_errors(out_dir), folder.locked(out_dir):
        label_indices = folder.begin(out_dir, config, rows)
        recipe = clip_records.Recipe(config, label_indices, videos_dir, timeout_seconds)
        job = writer.Job(out_dir, recipe, retry_failed)
        shards = writer.all_shards(rows, config)
        unfinished = [shard for shard in shards if not writer.is_finished(shard, job)]
        if runner == BEAM and unfinished:
            beam.write_shards(unfinished, job, options=beam_options)
        else:
            processes.write_shards(unfinished, job, num_workers=num_workers)
        counts = folder.finish(shards, job)
    folder.judge(counts, failure_budget, out_dir)
    return {
        outcome: sum(n for (o, _), n in counts.items() if o == outcome)
        for outcome in clip_records.OUTCOMES
    }


def _check_runner(runner: str, beam_options: Sequence[str], num_workers: int | None) -> None:
    if runner not in RUNNERS:
        raise UserError(f"runner {runner!r}: need one of {', '.join(RUNNERS)}")
    if num_workers is not None and num_workers < 1:
        raise UserError(f"num_workers {num_workers}: need at least 1")
    if runner == BEAM:
        beam.check_options(beam_options)
    elif beam_options:
        raise UserError(f"got {' '.join(beam_options)}: options of Beam need --runner=beam")


def _check_folders(*paths: str | pathlib.Path | None) -> None:
    for path in paths:
        if "://" in str(path):
            raise UserError(
                f"{path}: need a path of the file system, which every worker sees; mount the "
                "bucket or network drive"
            )


def _rows(
    manifest_path: str | pathlib.Path | None,
    videos_dir: str | pathlib.Path | None,
    max_seconds: float,
    split_fractions: Mapping[str, float] | None,
    seed: int,
) -> tuple[list[manifest.ManifestRow], pathlib.Path]:
    """Returns the rows, sorted by example_id, and the root of their paths."""
    if manifest_path is None and videos_dir is None:
        raise UserError("got neither --manifest nor --videos_dir; need at least one of them")
    if manifest_path is None:
        rows = manifest.rows_from_folder(
            videos_dir, max_seconds=max_seconds, split_fractions=split_fractions, seed=seed
        )
    elif split_fractions is not None:
        raise UserError("--split_fractions is for --videos_dir alone; this manifest names splits")
    else:
        rows = manifest.read_manifest(manifest_path)
    root = pathlib.Path(manifest_path).parent if videos_dir is None else pathlib.Path(videos_dir)
    if not root.is_dir():
        raise UserError(f"videos folder {root} does not exist")
    return sorted(rows, key=lambda row: row.example_id), root.resolve()


# --- Flags ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are the keywords of `write_shards`.

    In a function, because worker processes and tests import this module.
    """
    string, integer, number = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    return _define_media_flags() | {
        "manifest_path": string(
            "manifest", None, "CSV of clips; without it, the first seconds of every video."
        ),
        "videos_dir": string(
            "videos_dir", None, "Root of the manifest's paths (default: its own folder)."
        ),
        "out_dir": string("out_dir", None, "Folder of the shards; made if need be.", required=True),
        "dataset_name": string("dataset_name", "videos", "First part of the shards' names."),
        "num_shards": integer(
            "num_shards",
            None,
            f"Shards per split (default: one per {prep_config.CLIPS_PER_SHARD} clips, at most "
            f"{prep_config.MAX_SHARDS}).",
        ),
        "num_workers": integer("num_workers", None, "Processes (default: one per processor)."),
        "split_fractions": string(
            "split_fractions",
            None,
            "Without a manifest: shares such as train=0.8,val=0.1,test=0.1 (default: all train).",
        ),
        "seed": integer("seed", 0, "Of that split."),
        "timeout_seconds": number(
            "timeout_seconds",
            ffmpeg.DEFAULT_TIMEOUT_SECONDS,
            "Wall-clock limit per clip, seconds, optical flow included.",
            lower_bound=1,
        ),
        "retry_failed": flags.DEFINE_bool(
            "retry_failed", False, "Try again what failed in an earlier run."
        ),
        "failure_budget": number(
            "failure_budget",
            DEFAULT_FAILURE_BUDGET,
            "Share of the rows that may fail; above it the exit status is 1.",
            lower_bound=0,
            upper_bound=1,
        ),
        "runner": flags.DEFINE_enum(
            "runner", LOCAL, RUNNERS, "Local processes, or Apache Beam (docs/scaling.md)."
        ),
        "beam_options": string(
            "beam_options",
            "",
            "Of --runner=beam: Beam's pipeline options, such as '--runner=FlinkRunner "
            "--flink_master=host:8081' (default: Beam's own local runner). They may also stand "
            "behind -- at the end.",
        ),
    }


def _define_media_flags() -> dict[str, flags.FlagHolder]:
    """Defines those that say how picture and sound are kept."""
    integer = flags.DEFINE_integer
    return {
        "audio_encoding": flags.DEFINE_enum(
            "audio_encoding",
            schema.PCM16,
            schema.AUDIO_ENCODINGS,
            "How sound is stored: 16-bit samples, FLAC (half the size) or floats (DMVR's).",
        ),
        "smallest_side_px": integer(
            "smallest_side_px",
            constants.SMALLEST_SIDE_PX,
            "Smallest side of the frames, pixels; 256 in the papers.",
            lower_bound=16,
            upper_bound=4096,
        ),
        "jpeg_quality": integer(
            "jpeg_quality",
            ffmpeg.DEFAULT_JPEG_QUALITY,
            "ffmpeg's -q:v: 2 is best, 31 worst.",
            lower_bound=2,
            upper_bound=31,
        ),
        "max_seconds": flags.DEFINE_float(
            "max_seconds",
            constants.CLIP_SECONDS,
            "Limit on a clip's length, seconds; the papers take 10.",
            lower_bound=ffmpeg.MIN_COMMON_SECONDS,
        ),
        "max_frames": integer(
            "max_frames",
            0,
            "Limit on a clip's length in frames, its sound is cut alike; 0 is none.",
            lower_bound=0,
        ),
        "frame_rate_hz": flags.DEFINE_float(
            "fps",
            constants.FRAME_RATE_HZ,
            "Frames a second; 25 in the papers. Fewer save space; AVE+OF and AVE+MF need 25.",
            lower_bound=prep_config.MIN_FRAME_RATE_HZ,
            upper_bound=prep_config.MAX_FRAME_RATE_HZ,
        ),
        "flow_smallest_side_px": integer(
            "flow_smallest_side_px",
            0,
            "Smallest side of the TV-L1 optical flow between frames, pixels; 0 computes none. Only "
            "AVE+OF needs it; 256 is the size of the papers' frames. A clip of 10 s then takes "
            "over a minute of one processor (64 pixels: 5 s) and 1.5 MB more.",
            lower_bound=0,
            upper_bound=4096,
        ),
        "strict": flags.DEFINE_bool(
            "strict", False, "Whether the least decoding error fails a clip."
        ),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and prepares the folder."""
    settings = {keyword: holder.value for keyword, holder in holders.items()}
    settings["beam_options"] = [*shlex.split(settings["beam_options"]), *argv[1:]]
    if settings["split_fractions"] is not None:
        settings["split_fractions"] = manifest.parse_fractions(settings["split_fractions"])
    write_shards(**settings)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
