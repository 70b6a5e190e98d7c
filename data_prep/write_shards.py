"""ENTRY: manifest (or a plain folder of videos) -> shards of clips.

    python -m data_prep.write_shards --videos_dir=my_videos --out_dir=shards/my
    python -m data_prep.write_shards --manifest=clips.csv --videos_dir=videos --out_dir=shards/clips

The shard of a clip is a hash of its example_id and clips are sorted inside it, so the bytes depend
neither on the order of the manifest nor on the number of workers. A shard is written beside its
place, renamed, and only then gets its commit marker: whatever kills a run, the same command goes on
with the unfinished shards.
"""

import contextlib
import csv
import dataclasses
import fcntl
import functools
import hashlib
import json
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf
import tqdm
from absl import flags

from data_prep import ffmpeg, manifest, optical_flow
from l3net import constants, errors
from l3net.data import schema
from l3net.errors import UserError
from l3net.files import write_whole

PREP_VERSION = "1"
OK, SKIPPED, FAILED = OUTCOMES = ("ok", "skipped", "failed")
MANIFEST_FILE = "manifest.csv"  # the rows a folder was made from, kept beside its shards
CLIPS_PER_SHARD = 16  # about 90 MB of ten-second clips, the work lost when a run is killed
MAX_SHARDS = 1024
DEFAULT_FAILURE_BUDGET = 0.5
_LOCK_FILE = ".lock"
_LATER_SETTINGS = {"flow_smallest_side_px": 0}  # see Config.content
_DATASET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one row of the manifest; a row of outcomes.csv.

    Attributes:
        example_id, media_id, path, split: of the row.
        outcome: "ok", "skipped" or "failed".
        reason: why not ok: "flow" if the optical flow failed, else see `ffmpeg.MediaError`.
        detail: more words.
        num_frames, num_samples, seconds: of the clip; 0 unless ok.
    """

    example_id: str
    media_id: str
    path: str
    split: str
    outcome: str
    reason: str = ""
    detail: str = ""
    num_frames: int = 0
    num_samples: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that the contents of a prepared folder depend on, besides the videos.

    Attributes:
        dataset_name: first part of the shards' names.
        manifest_hash: of the rows, in any order.
        num_shards: split -> number.
        audio_encoding: one of `schema.AUDIO_ENCODINGS`.
        smallest_side_px: of the frames.
        jpeg_quality: ffmpeg's -q:v.
        max_seconds: limit on the length of a clip.
        strict: whether the least decoding error fails a clip.
        prep_version: of this module.
        flow_smallest_side_px: of the optical flow; 0 is none.
    """

    dataset_name: str
    manifest_hash: str
    num_shards: Mapping[str, int]
    audio_encoding: str
    smallest_side_px: int
    jpeg_quality: int
    max_seconds: float
    strict: bool
    prep_version: str = PREP_VERSION
    flow_smallest_side_px: int = 0

    def content(self) -> dict[str, object]:
        """Returns what prep.json holds and the hash is of.

        Settings that came later are left out at their default, so folders from before stay valid.
        """
        content = dataclasses.asdict(self)
        return {
            key: value
            for key, value in content.items()
            if key not in _LATER_SETTINGS or value != _LATER_SETTINGS[key]
        }

    def hash(self) -> str:
        """Returns 16 hex digits."""
        return _short_hash(self.content())


@dataclasses.dataclass(frozen=True)
class _ShardTask:
    """One shard to write, by one worker; travels between processes."""

    path: pathlib.Path
    rows: tuple[manifest.ManifestRow, ...]  # sorted by example_id
    label_indices: Mapping[str, int]
    videos_dir: pathlib.Path
    config: Config
    timeout_seconds: float
    ffmpeg_version: str
    retry_failed: bool


def write_shards(
    *,
    out_dir: str | pathlib.Path,
    manifest_path: str | pathlib.Path | None = None,
    videos_dir: str | pathlib.Path | None = None,
    dataset_name: str = "videos",
    num_shards: int | None = None,
    num_workers: int | None = None,
    audio_encoding: str = schema.PCM16,
    smallest_side_px: int = constants.SMALLEST_SIDE_PX,
    jpeg_quality: int = ffmpeg.DEFAULT_JPEG_QUALITY,
    max_seconds: float = constants.CLIP_SECONDS,
    flow_smallest_side_px: int = 0,
    split_fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    strict: bool = False,
    timeout_seconds: float = ffmpeg.DEFAULT_TIMEOUT_SECONDS,
    retry_failed: bool = False,
    failure_budget: float = DEFAULT_FAILURE_BUDGET,
) -> dict[str, int]:
    """Prepares a folder of shards, or finishes one.

    Args:
        out_dir: of the shards; see `schema` for what it will hold.
        manifest_path: of the CSV of clips; None takes the first seconds of every video in
            `videos_dir`.
        videos_dir: root of the manifest's paths; None is the manifest's own folder.
        dataset_name: first part of the shards' names; letters, digits, "_" and ".".
        num_shards: per split; None gives one per `CLIPS_PER_SHARD` clips, at most `MAX_SHARDS`.
        num_workers: processes; None is one per processor.
        audio_encoding: one of `schema.AUDIO_ENCODINGS`.
        smallest_side_px: of the frames.
        jpeg_quality: ffmpeg's -q:v, 2 (best) to 31.
        max_seconds: limit on the length of a clip.
        flow_smallest_side_px: of optical flow (AVE+OF), at most `smallest_side_px`; 0 is none.
        split_fractions: split -> share, without a manifest; None puts all in "train".
        seed: of that split.
        strict: whether the least decoding error fails a clip.
        timeout_seconds: wall-clock limit per clip.
        retry_failed: whether to try rows again that failed in an earlier run.
        failure_budget: share of the rows that may fail.

    Returns:
        outcome ("ok", "skipped", "failed") -> number of rows; the sum is the manifest's length.

    Raises:
        UserError: if the manifest, the folder or a setting is unusable, the configuration differs
            from the folder's, the disk is full, a worker died, no clip came out, or more rows
            failed than the budget allows (the shards are complete and usable then).
    """
    _check_settings(dataset_name, audio_encoding, num_shards, num_workers)
    _check_flow_size(flow_smallest_side_px, smallest_side_px)
    rows, videos_dir = _rows(manifest_path, videos_dir, max_seconds, split_fractions, seed)
    config = Config(
        dataset_name=dataset_name,
        manifest_hash=_manifest_hash(rows),
        num_shards=_shard_counts(rows, num_shards),
        audio_encoding=audio_encoding,
        smallest_side_px=smallest_side_px,
        jpeg_quality=jpeg_quality,
        max_seconds=max_seconds,
        strict=strict,
        flow_smallest_side_px=flow_smallest_side_px,
    )
    out_dir = pathlib.Path(out_dir)
    with _disk_errors(out_dir), _locked(out_dir):
        tasks = _tasks(
            out_dir,
            rows,
            config,
            label_indices=_begin(out_dir, config, rows),
            videos_dir=videos_dir,
            timeout_seconds=timeout_seconds,
            retry_failed=retry_failed,
        )
        _run([task for task in tasks if not _is_finished(task)], num_workers or _num_processors())
        counts = _finish(out_dir, tasks)
    _judge(counts, failure_budget, out_dir)
    return {outcome: sum(n for (o, _), n in counts.items() if o == outcome) for outcome in OUTCOMES}


# --- What goes where -----------------------------------------------------------------------------
def shard_of(example_id: str, num_shards: int) -> int:
    """Returns the index of the shard that a clip goes to, from nothing but its id."""
    return int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:8], "big") % num_shards


def _check_settings(
    dataset_name: str, audio_encoding: str, num_shards: int | None, num_workers: int | None
) -> None:
    if not _DATASET_NAME.fullmatch(dataset_name):
        raise UserError(f"dataset_name {dataset_name!r}: need letters, digits, _ and .")
    if audio_encoding not in schema.AUDIO_ENCODINGS:
        allowed = ", ".join(schema.AUDIO_ENCODINGS)
        raise UserError(f"audio_encoding {audio_encoding!r}: need one of {allowed}")
    if num_shards is not None and not 1 <= num_shards <= 99_999:
        raise UserError(f"num_shards {num_shards}: need 1 to 99999 (five digits of a name)")
    if num_workers is not None and num_workers < 1:
        raise UserError(f"num_workers {num_workers}: need at least 1")


def _check_flow_size(flow_smallest_side_px: int, smallest_side_px: int) -> None:
    lowest = optical_flow.MIN_SMALLEST_SIDE_PX
    if flow_smallest_side_px and not lowest <= flow_smallest_side_px <= smallest_side_px:
        raise UserError(
            f"flow_smallest_side_px {flow_smallest_side_px}: need 0 (no flow) or {lowest} to "
            f"{smallest_side_px}, the frames' own smallest side"
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


def _shard_counts(rows: Sequence[manifest.ManifestRow], num_shards: int | None) -> dict[str, int]:
    clips = Counter(row.split for row in rows)
    return {
        split: num_shards or min(MAX_SHARDS, math.ceil(clips[split] / CLIPS_PER_SHARD))
        for split in sorted(clips)
    }


def _tasks(
    out_dir: pathlib.Path, rows: Sequence[manifest.ManifestRow], config: Config, **shared
) -> list[_ShardTask]:
    version = ffmpeg.ffmpeg_version()
    return [
        _ShardTask(
            path=out_dir / name,
            rows=tuple(shard_rows),
            config=config,
            ffmpeg_version=version,
            **shared,
        )
        for name, shard_rows in _rows_of_shards(rows, config).items()
    ]


def _rows_of_shards(
    rows: Sequence[manifest.ManifestRow], config: Config
) -> dict[str, list[manifest.ManifestRow]]:
    shards = {
        schema.shard_name(config.dataset_name, split, index, count): []
        for split, count in config.num_shards.items()
        for index in range(count)
    }
    for row in rows:
        count = config.num_shards[row.split]
        index = shard_of(row.example_id, count)
        shards[schema.shard_name(config.dataset_name, row.split, index, count)].append(row)
    return shards


def _manifest_hash(rows: Sequence[manifest.ManifestRow]) -> str:
    return _short_hash([dataclasses.astuple(row) for row in rows])


def _short_hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _num_processors() -> int:
    # Those this process may use: a container or job may have fewer than the machine.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- Begin and finish a folder -------------------------------------------------------------------
@contextlib.contextmanager
def _disk_errors(out_dir: pathlib.Path) -> Iterator[None]:
    """Turns a full disk and its like into one line."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(_disk_message(out_dir, error)) from error


def _disk_message(where: pathlib.Path, error: Exception) -> str:
    what = str(error).splitlines()[0]
    return f"cannot write {where}: {what}; make room, then the same command goes on from here"


@contextlib.contextmanager
def _locked(out_dir: pathlib.Path) -> Iterator[None]:
    """Keeps a second run out of the folder; the system drops the lock of a killed run."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with open(out_dir / _LOCK_FILE, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another write_shards is at work in {out_dir}; wait for it") from None
        yield


def _begin(
    out_dir: pathlib.Path, config: Config, rows: Sequence[manifest.ManifestRow]
) -> dict[str, int]:
    """Writes or checks what lies beside the shards; returns label -> index."""
    _check_same_config(out_dir, config)
    for leftover in out_dir.glob(f"{config.dataset_name}-*.tmp"):
        leftover.unlink()
    labels = sorted({label for row in rows for label in row.labels})
    write_whole(out_dir / schema.LABELS_FILE, "".join(f"{label}\n" for label in labels))
    manifest.write_manifest(out_dir / MANIFEST_FILE, rows)
    # Last: a folder with this file has the others.
    prep = {"config_hash": config.hash(), "config": config.content()}
    prep["ffmpeg_version"] = ffmpeg.ffmpeg_version()
    if config.flow_smallest_side_px:
        prep["opencv_version"] = optical_flow.opencv_version()  # tells here if OpenCV lacks
    write_whole(out_dir / schema.PREP_FILE, json.dumps(prep, indent=1, sort_keys=True) + "\n")
    return {label: index for index, label in enumerate(labels)}


def _check_same_config(out_dir: pathlib.Path, config: Config) -> None:
    path = out_dir / schema.PREP_FILE
    if not path.exists():
        return
    try:
        prep = json.loads(path.read_text())
        before = _LATER_SETTINGS | prep["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete {out_dir} and start anew") from error
    now = dataclasses.asdict(config)
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
    if prep.get("ffmpeg_version") != ffmpeg.ffmpeg_version():
        _log.warning(
            "%s was begun with ffmpeg %s and goes on with %s; clips may differ slightly",
            out_dir,
            prep.get("ffmpeg_version"),
            ffmpeg.ffmpeg_version(),
        )


def _is_finished(task: _ShardTask) -> bool:
    marker = _read_marker(task)
    if marker is None:
        return False
    if not task.retry_failed:
        return True
    return all(outcome["outcome"] != FAILED for outcome in marker["outcomes"])


def _read_marker(task: _ShardTask) -> dict | None:
    """Returns the commit marker of a shard; None unless shard and marker fit the task."""
    try:
        marker = json.loads(schema.marker_path(task.path).read_text())
        fits = marker["config_hash"] == task.config.hash()
        fits = fits and marker["num_bytes"] == task.path.stat().st_size
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return marker if fits else None


def _finish(out_dir: pathlib.Path, tasks: Sequence[_ShardTask]) -> Counter:
    """Merges the outcomes of all shards into one file; returns (outcome, reason) -> number."""
    outcomes = [
        Outcome(**outcome)
        for task in tasks
        for outcome in json.loads(schema.marker_path(task.path).read_text())["outcomes"]
    ]
    num_rows = sum(len(task.rows) for task in tasks)
    if len(outcomes) != num_rows:
        raise UserError(f"{out_dir} has {len(outcomes)} outcomes for {num_rows} rows; delete it")
    path = out_dir / schema.OUTCOMES_FILE
    partial = path.with_name(path.name + ".tmp")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(Outcome))
        outcomes.sort(key=lambda outcome: outcome.example_id)
        writer.writerows(dataclasses.astuple(outcome) for outcome in outcomes)
    os.replace(partial, path)
    _log.info("%.1f minutes of clips", sum(outcome.seconds for outcome in outcomes) / 60)
    return Counter((outcome.outcome, outcome.reason) for outcome in outcomes)


def _judge(counts: Counter, failure_budget: float, out_dir: pathlib.Path) -> None:
    """Prints the summary; raises UserError if too much failed."""
    total = counts.total()
    lines = [f"{n:7d} {outcome} {reason}" for (outcome, reason), n in sorted(counts.items())]
    _log.info("%d rows -> %s\n%s", total, out_dir, "\n".join(lines))
    num_failed = sum(n for (outcome, _), n in counts.items() if outcome == FAILED)
    told = ", ".join(f"{n} {outcome} {reason}".strip() for (outcome, reason), n in counts.items())
    table = out_dir / schema.OUTCOMES_FILE
    if not counts[OK, ""]:
        raise UserError(f"no clip came out of {total} rows ({told}); see {table}")
    if num_failed > failure_budget * total:
        raise UserError(
            f"{num_failed} of {total} rows failed, more than the --failure_budget of "
            f"{failure_budget:g} allows ({told}); see {table}"
        )


# --- Workers -------------------------------------------------------------------------------------
def _run(tasks: Sequence[_ShardTask], num_workers: int) -> None:
    """Writes the shards, with a progress bar per clip."""
    # Large shards first, so that none is left alone at the end.
    tasks = sorted(tasks, key=lambda task: -len(task.rows))
    num_workers = min(num_workers, len(tasks))
    with tqdm.tqdm(
        total=sum(len(task.rows) for task in tasks),
        unit="clip",
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 30,
    ) as bar:

        def report(outcome: Outcome) -> None:
            bar.update()
            if outcome.outcome == FAILED:
                _log.debug("%s: %s %s", outcome.path, outcome.reason, outcome.detail)

        if num_workers <= 1:
            for task in tasks:
                _write_shard(task, report)
        else:
            _run_in_processes(tasks, num_workers, report)


def _run_in_processes(
    tasks: Sequence[_ShardTask], num_workers: int, report: Callable[[Outcome], None]
) -> None:
    # One connection per worker and no shared queue: a killed worker leaves no lock behind, and
    # its closed connection tells. forkserver: TensorFlow is imported once, and never forked from
    # a process with threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([schema.__name__, ffmpeg.__name__])
    waiting, busy, processes = list(reversed(tasks)), {}, []
    try:
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            busy[ours] = process
            ours.send(waiting.pop())
        while busy:
            for connection in multiprocessing.connection.wait(list(busy)):
                _on_message(connection, busy, waiting, report)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _on_message(
    connection: multiprocessing.connection.Connection,
    busy: dict[multiprocessing.connection.Connection, multiprocessing.Process],
    waiting: list[_ShardTask],
    report: Callable[[Outcome], None],
) -> None:
    """Takes one message of a worker: an outcome, an error, or None: the shard is done."""
    try:
        message = connection.recv()
        if isinstance(message, UserError):
            raise message
        if isinstance(message, Outcome):
            report(message)
        elif waiting:
            connection.send(waiting.pop())
        else:
            connection.send(None)
            busy.pop(connection)
    except (EOFError, ConnectionError):
        process = busy[connection]
        process.join()
        raise UserError(
            f"a worker process died (exit status {process.exitcode}; -9 is often a lack of "
            "memory); finished shards are kept: run the same command again, perhaps with a "
            "smaller --num_workers"
        ) from None


def _work(connection: multiprocessing.connection.Connection) -> None:
    """Body of a worker process: shards to write come in, outcomes go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    with contextlib.suppress(EOFError, ConnectionError):  # the main process is gone
        while task := connection.recv():
            try:
                _write_shard(task, connection.send)
            except UserError as error:
                connection.send(error)
                return
            connection.send(None)


# --- One shard -----------------------------------------------------------------------------------
def _write_shard(task: _ShardTask, report: Callable[[Outcome], None]) -> None:
    """Writes one shard and its marker; raises UserError if the disk refuses."""
    partial = task.path.with_name(f"{task.path.name}.{os.getpid()}.tmp")
    try:
        outcomes = []
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for outcome, record in _results(task):
                if record is not None:
                    writer.write(record)
                outcomes.append(outcome)
                report(outcome)
        _commit(task, partial, outcomes)
    except ConnectionError:
        raise  # the main process is gone; see _work
    except (OSError, tf.errors.OpError) as error:
        raise UserError(_disk_message(task.path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _results(task: _ShardTask) -> Iterator[tuple[Outcome, bytes | None]]:
    """Yields (outcome, record) per row; what an earlier run could do is not done again."""
    marker = _read_marker(task)
    if marker is None or _sha256(task.path) != marker["sha256"]:
        for row in task.rows:
            yield _make_record(task, row)
        return
    records = _records(task.path)
    for row, fields in zip(task.rows, marker["outcomes"], strict=True):
        outcome = Outcome(**fields)
        if outcome.outcome == FAILED:
            yield _make_record(task, row)
        else:
            yield outcome, next(records) if outcome.outcome == OK else None


def _records(path: pathlib.Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file whose bytes were checked already.

    Not by tf.data: a worker runs no TensorFlow operation, so it starts none of its threads.
    """
    with open(path, "rb") as file:
        while header := file.read(12):  # length, checksum of the length
            yield file.read(int.from_bytes(header[:8], "little"))
            file.read(4)  # checksum of the record


def _commit(task: _ShardTask, partial: pathlib.Path, outcomes: Sequence[Outcome]) -> None:
    """Puts a written shard in its place, then its marker."""
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    marker_path = schema.marker_path(task.path)
    made = [outcome for outcome in outcomes if outcome.outcome == OK]
    marker = {
        "num_clips": len(made),
        "media_ids": sorted({outcome.media_id for outcome in made}),
        "num_bytes": partial.stat().st_size,
        "sha256": _sha256(partial),
        "config_hash": task.config.hash(),
        "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    # A marker never stands beside a shard that is not its own.
    marker_path.unlink(missing_ok=True)
    os.replace(partial, task.path)
    write_whole(marker_path, json.dumps(marker, indent=1) + "\n")


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _make_record(task: _ShardTask, row: manifest.ManifestRow) -> tuple[Outcome, bytes | None]:
    """Decodes and encodes one clip; whatever is wrong with its file is its outcome."""
    told = {key: getattr(row, key) for key in ("example_id", "media_id", "path", "split")}
    try:
        decoded = ffmpeg.decode_clip(
            _inside(task.videos_dir, row.path),
            start_seconds=row.start_seconds,
            seconds=min(row.end_seconds - row.start_seconds, task.config.max_seconds),
            smallest_side_px=task.config.smallest_side_px,
            jpeg_quality=task.config.jpeg_quality,
            strict=task.config.strict,
            timeout_seconds=task.timeout_seconds,
        )
        flow = _flow_of(task, row, decoded)
        record = schema.encode_clip(_clip(task, row, decoded, flow))
    except ffmpeg.MediaError as error:
        return Outcome(
            **told, outcome=error.outcome, reason=error.reason, detail=error.detail
        ), None
    except ValueError as error:
        return Outcome(**told, outcome=FAILED, reason="decode", detail=str(error)), None
    num_samples = len(decoded.waveform)
    return Outcome(
        **told,
        outcome=OK,
        num_frames=len(decoded.frames),
        num_samples=num_samples,
        seconds=round(num_samples / constants.SAMPLE_RATE_HZ, 6),
    ), record


def _inside(root: pathlib.Path, relative: str) -> pathlib.Path:
    """Returns the file that a row names; raises MediaError if it lies outside the root."""
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise ffmpeg.MediaError(relative, FAILED, "refused", str(error)) from error
    if not path.is_relative_to(root):
        raise ffmpeg.MediaError(relative, FAILED, "refused", "leads out of --videos_dir")
    return path


def _flow_of(
    task: _ShardTask, row: manifest.ManifestRow, decoded: ffmpeg.DecodedClip
) -> optical_flow.Flow | None:
    smallest_side_px = task.config.flow_smallest_side_px
    if not smallest_side_px:
        return None
    try:
        return optical_flow.tv_l1(decoded.frames, smallest_side_px=smallest_side_px)
    except ValueError as error:
        raise ffmpeg.MediaError(row.path, FAILED, "flow", str(error)) from error


def _clip(
    task: _ShardTask,
    row: manifest.ManifestRow,
    decoded: ffmpeg.DecodedClip,
    flow: optical_flow.Flow | None,
) -> schema.Clip:
    clip = schema.Clip(
        example_id=row.example_id,
        dataset_name=task.config.dataset_name,
        media_id=row.media_id,
        data_path=row.path,
        labels=row.labels,
        label_indices=tuple(task.label_indices[label] for label in row.labels),
        audio_encoding=task.config.audio_encoding,
        prep_version=PREP_VERSION,
        config_hash=task.config.hash(),
        ffmpeg_version=task.ffmpeg_version,
        **{field.name: getattr(decoded, field.name) for field in dataclasses.fields(decoded)},
    )
    if flow is None:
        return clip
    return dataclasses.replace(
        clip,
        flows=flow.jpegs,
        flow_scale_px=flow.scale_px,
        flow_height_px=flow.height_px,
        flow_width_px=flow.width_px,
    )


# --- Entry ---------------------------------------------------------------------------------------
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
            f"Shards per split (default: one per {CLIPS_PER_SHARD} clips, at most {MAX_SHARDS}).",
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
            "Wall-clock limit per clip, seconds.",
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


def main(_: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and prepares the folder."""
    settings = {keyword: holder.value for keyword, holder in holders.items()}
    if settings["split_fractions"] is not None:
        settings["split_fractions"] = manifest.parse_fractions(settings["split_fractions"])
    write_shards(**settings)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
