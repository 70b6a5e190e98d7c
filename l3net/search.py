"""Finds among your own videos, pictures and sounds what goes with a picture, sound or video.

    python -m l3net.search --saved_model=runs/demo_ave_net/saved_model --index=idx --add=videos/
    python -m l3net.search --saved_model=runs/demo_ave_net/saved_model --index=idx \
        --query=drum.jpg --modality=sound
    python -m l3net.search ... --query=clip.mp4 --query_start=3.5 --format=html --out=found.html

AVE-Net puts pictures and sounds into one space of 128 dimensions, where what goes together is near
(OTS §3): so pictures find sounds, sounds find pictures, and each its like. An index holds an entry
per second of sound (every --hop_seconds), per picture (--frame_rate_hz a second of a video). A
result is a file; its distance, in [0, 2], is that of its best entry, whose time is told.

Files of the same content are added once. A run that was interrupted goes on where it was. An index
belongs to the network that it was made with; another one is refused.
"""

import dataclasses
import functools
import itertools
import json
import logging
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm
from absl import flags

from l3net import constants, errors, files
from l3net.errors import UserError, first_line
from l3net.inference import file_features, saved_model, search_index, search_page
from l3net.media import ffmpeg, file_kinds, images
from l3net.media.file_kinds import IMAGE, SOUND, VIDEO

TABLE, JSON, HTML = FORMATS = ("table", "json", "html")
ANY = "any"
MODALITIES = (ANY, IMAGE, SOUND)
# A long query is thinned out evenly: every entry of the index is compared with each of these.
MAX_QUERY_VECTORS = 256
_DEFAULTS = {"hop_seconds": 0.5, "center": False, "frame_rate_hz": 1.0}
_LENGTH_TOLERANCE = 1e-3

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Query:
    """A file as vectors.

    Attributes:
        path: of the file.
        sha256: of its content.
        vectors: float32 [Q, D] of length 1.
        modalities: of the vectors.
        times_seconds: of the vectors.
    """

    path: pathlib.Path
    sha256: str
    vectors: np.ndarray
    modalities: list[str]
    times_seconds: list[float]


# --- Adding --------------------------------------------------------------------------------------
def open_index(
    folder: str | pathlib.Path,
    model: saved_model.SavedModel,
    settings: Mapping[str, Any],
    *,
    create: bool,
) -> tuple[search_index.SearchIndex, file_features.Settings]:
    """Opens an index for a network, or makes one.

    Args:
        folder: of the index.
        model: an AVE-Net.
        settings: hop_seconds, center, frame_rate_hz; None takes the index's, or in a new index 0.5,
            False and 1.
        create: whether to make it if it is not there.

    Returns:
        The index, and how its entries are made.

    Raises:
        UserError: if there is none and none is to be made, it is damaged or of another network or
            other settings, or the network gives no embeddings to compare.
    """
    fingerprint = _fingerprint(model)
    if not search_index.is_index(folder) and create:
        chosen = {
            name: _DEFAULTS[name] if value is None else value for name, value in settings.items()
        }
        file_features.Settings(features="embedding", **chosen).check()
        search_index.SearchIndex.create(
            folder, fingerprint=fingerprint, size=constants.EMBEDDING_UNITS, settings=chosen
        )
    index = search_index.SearchIndex(folder)
    index.check_network(fingerprint)
    made_with = index.config["settings"]
    for name, value in settings.items():
        if value is not None and value != made_with.get(name):
            raise UserError(
                f"{folder} was made with --{name}={made_with.get(name)}, not {value}; leave the "
                "flag out, or name another --index"
            )
    return index, file_features.Settings(features="embedding", **made_with)


def _fingerprint(model: saved_model.SavedModel) -> str:
    """Returns the fingerprint of a network that gives embeddings of both modalities."""
    if model.inputs != (constants.FRAME, constants.LOG_SPECTROGRAM):
        raise UserError(
            f"a network that takes {', '.join(model.inputs)} cannot embed single pictures and "
            "sounds; need an AVE-Net"
        )
    for signature in (saved_model.AUDIO, saved_model.VISION):
        model.features(signature, "embedding")
    fingerprint = model.metadata.get("weights_sha256")
    if not isinstance(fingerprint, str):
        raise UserError("the SavedModel does not tell its weights_sha256; run l3net.export again")
    return fingerprint


def add_files(
    index: search_index.SearchIndex,
    features: file_features.FileFeatures,
    inputs: Iterable[str | pathlib.Path],
) -> tuple[dict[str, int], list[str]]:
    """Adds files and folders to an index; a bad file does not stop the others.

    Args:
        index: to add to.
        features: of the index's network and settings.
        inputs: files and folders.

    Returns:
        (how many were "added", "known" and "failed"; why they failed, a line each).

    Raises:
        UserError: if another process is adding, or the folder cannot be written.
    """
    paths, complaints = _find(inputs)
    counts = {"added": 0, "known": 0, "failed": len(complaints)}
    seconds = 0.1 if sys.stderr.isatty() else 30.0  # a log file needs no more
    with index.adding() as adder:
        bar = tqdm.tqdm(paths, unit="file", dynamic_ncols=True, mininterval=seconds)
        for path in bar:
            try:
                counts["added" if _add(adder, features, path) else "known"] += 1
            except UserError as error:
                complaints.append(str(error))
                counts["failed"] += 1
            except Exception as error:  # whatever is wrong with this file, the others must go on
                _log.debug("%s", path, exc_info=True)
                name = type(error).__name__
                complaints.append(f"{path}: {name}: {first_line(error)}")
                counts["failed"] += 1
            bar.set_postfix(failed=counts["failed"], refresh=False)
    index.build_clusters()
    return counts, complaints


def _find(inputs: Iterable[str | pathlib.Path]) -> tuple[list[pathlib.Path], list[str]]:
    paths: dict[pathlib.Path, None] = {}
    complaints: list[str] = []
    for given in map(pathlib.Path, inputs):
        found, wrong = file_features.files_below(given) if given.is_dir() else ([given], [])
        paths |= dict.fromkeys(found)
        complaints += wrong
    return list(paths), complaints


def _add(
    adder: search_index.Adder, features: file_features.FileFeatures, path: pathlib.Path
) -> bool:
    """Adds one file; returns False if its content is there already."""
    kind = file_kinds.kind_of(path)
    sha256 = files.sha256_of(path)
    known = adder.find(sha256)
    if known is not None and adder.is_there(known):
        return False
    adder.add(
        path,
        sha256=sha256,
        kind=kind,
        streams=_streams(features, path, kind),
        replaces=known.path if known else "",
    )
    return True


def _streams(
    features: file_features.FileFeatures, path: pathlib.Path, kind: str
) -> Iterator[tuple[str, Iterable[np.ndarray], float]]:
    """Yields the streams that a file has; a video may lack one of them."""
    num_missing, lacking = 0, None

    def chunks_there_are(stream: file_features.Stream) -> Iterator[np.ndarray]:
        nonlocal num_missing, lacking
        try:
            yield from map(_of_length_one, stream.chunks)
        except UserError as error:
            reason = getattr(error.__cause__, "reason", getattr(error, "reason", None))
            if kind != VIDEO or reason not in ("no_audio", "no_video"):
                raise
            num_missing, lacking = num_missing + 1, error

    for stream in features.streams(path, kind):
        yield stream.kind, chunks_there_are(stream), stream.step_seconds
    if num_missing == 2:
        raise UserError(f"{path}: neither sound nor picture") from lacking


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    """Raises UserError unless vectors are AVE-Net's: of length 1."""
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.abs(lengths - 1) < _LENGTH_TOLERANCE).all():
        raise UserError(
            "this network's embeddings are not of length 1, so their distances say nothing; need "
            "an AVE-Net"
        )
    return vectors


# --- Asking --------------------------------------------------------------------------------------
def make_query(
    features: file_features.FileFeatures,
    path: str | pathlib.Path,
    *,
    start_seconds: float | None = None,
    modality: str = ANY,
) -> Query:
    """Turns a file into vectors.

    Args:
        features: of the index's network and settings.
        path: of an image, a sound or a video.
        start_seconds: of a sound or video: take the second of sound that begins there, and the
            frame in its middle, as the network was trained; None takes all of the file.
        modality: what to take of a video: `IMAGE`, `SOUND` or `ANY`.

    Returns:
        The query, of at most MAX_QUERY_VECTORS vectors.

    Raises:
        UserError: if the file gives none.
    """
    path = pathlib.Path(path)
    kind = file_kinds.kind_of(path)
    if start_seconds is not None:
        if kind == IMAGE:
            raise UserError(f"--query_start={start_seconds:g}: {path} is an image, without times")
        if not 0 <= start_seconds < math.inf:
            raise UserError(f"--query_start={start_seconds}: need 0 or more")
        streams = _at(features, path, kind, start_seconds, modality)
    else:
        streams = _streams(features, path, kind)
    vectors, modalities, times = [], [], []
    for name, chunks, step_seconds in streams:
        if modality in (ANY, name) or kind != VIDEO:
            rows = np.concatenate([np.zeros((0, constants.EMBEDDING_UNITS)), *chunks])
            vectors.append(rows)
            modalities += [name] * len(rows)
            times += [(start_seconds or 0.0) + k * step_seconds for k in range(len(rows))]
        else:
            for _ in chunks:  # told if it is missing
                break
    stacked = np.concatenate(vectors).astype(np.float32) if vectors else np.zeros((0, 0))
    if not len(stacked):
        raise UserError(f"{path}: no {modality if modality != ANY else 'entry'} to ask with")
    chosen = _thinned(len(stacked))
    return Query(
        path,
        files.sha256_of(path),
        stacked[chosen],
        [modalities[k] for k in chosen],
        [times[k] for k in chosen],
    )


def _thinned(num: int) -> np.ndarray:
    if num <= MAX_QUERY_VECTORS:
        return np.arange(num)
    _log.info("a long query: %d of its %d entries are asked with", MAX_QUERY_VECTORS, num)
    return np.round(np.linspace(0, num - 1, MAX_QUERY_VECTORS)).astype(int)


def _at(
    features: file_features.FileFeatures,
    path: pathlib.Path,
    kind: str,
    start_seconds: float,
    modality: str,
) -> Iterator[tuple[str, Iterable[np.ndarray], float]]:
    """Yields the second of sound that begins at a time, and the frame in its middle."""
    if kind == SOUND or modality in (ANY, SOUND):
        blocks = ffmpeg.stream_audio(
            path, start_seconds=start_seconds, seconds=constants.AUDIO_SECONDS
        )
        waveform = np.concatenate([np.zeros(0, np.int16), *blocks])
        sound = features.sound([waveform[: constants.AUDIO_SAMPLES]])
        yield SOUND, map(_of_length_one, itertools.islice(sound.chunks, 1)), 0.0
    if kind == VIDEO and modality in (ANY, IMAGE):
        middle = start_seconds + constants.AUDIO_SECONDS / 2
        frame_px = features.model.frame_px
        image = search_page.frame_at(
            path, middle, round(frame_px * constants.SMALLEST_SIDE_PX / constants.FRAME_PX)
        )
        pictures = features.pictures([images.center_crop(image, frame_px)], 0.0)
        yield IMAGE, map(_of_length_one, pictures.chunks), 0.0


def ask(
    index: search_index.SearchIndex,
    query: Query,
    *,
    modality: str = ANY,
    top: int = 10,
    exclude_self: bool = False,
    exact: bool = False,
) -> list[dict[str, Any]]:
    """Finds the files of an index nearest to a query.

    Args:
        index: of the same network as the query.
        query: see `make_query`.
        modality: of the entries to look at: `IMAGE`, `SOUND` or `ANY`.
        top: files wanted.
        exclude_self: whether to leave out the file whose content is the query's.
        exact: whether to compute all distances, however large the index is.

    Returns:
        One dictionary per file, nearest first: "rank" from 1, "path", "kind", "distance",
        "modality" and "time_seconds" of its best entry, "query_modality" and "query_time_seconds"
        of the query's vector that it is nearest to, "own" (its content is the query's), "exists".
    """
    hits = index.query(
        query.vectors,
        modalities=search_index.MODALITIES if modality == ANY else (modality,),
        top=top,
        exact=exact,
        without=query.sha256 if exclude_self else None,
    )
    return [
        {
            "rank": rank,
            "path": str(index.path_of(hit.file)),
            "kind": hit.file.kind,
            "distance": hit.distance,
            "modality": hit.modality,
            "time_seconds": hit.time_seconds,
            "query_modality": query.modalities[hit.query_row],
            "query_time_seconds": query.times_seconds[hit.query_row],
            "own": hit.file.sha256 == query.sha256,
            "exists": index.path_of(hit.file).is_file(),
        }
        for rank, hit in enumerate(hits, start=1)
    ]


# --- Answers -------------------------------------------------------------------------------------
def as_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Returns results as lines of text, columns under a header."""
    lines = ["rank  distance  found by           at      file"]
    for result in results:
        found_by = f"{result['query_modality']} -> {result['modality']}"
        mark = "  (the query itself)" if result["own"] else ""
        mark += "" if result["exists"] else "  (no longer there)"
        lines.append(
            f"{result['rank']:>4}  {result['distance']:8.4f}  {found_by:<15}"
            f"{result['time_seconds']:>8.2f} s  {_printable(result['path'])}{mark}"
        )
    return "\n".join(lines) + "\n"


def _printable(name: str) -> str:
    """Returns a name that cannot move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _answer(
    results: Sequence[Mapping[str, Any]],
    query: Query,
    index: search_index.SearchIndex,
    answer_format: str,
    out: pathlib.Path | None,
) -> str:
    if answer_format == TABLE:
        return as_table(results)
    about = {"query": str(query.path), "num_query_vectors": len(query.vectors)}
    if answer_format == JSON:
        content = {**about, "index": str(index.folder), "results": list(results)}
        return json.dumps(content, indent=1) + "\n"
    folder = pathlib.Path.cwd() if out is None else out.parent
    kind = file_kinds.kind_of(query.path)
    return search_page.render(
        {
            **about,
            "kind": kind,
            "time_seconds": query.times_seconds[0],
            "counts": index.counts(),
            "num_files": len(index.files),
        },
        results,
        folder,
    )


# --- Entry ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    return {
        "saved_model": flags.DEFINE_string(
            "saved_model", None, "Folder of an AVE-Net that l3net.export wrote.", required=True
        ),
        "index": flags.DEFINE_string("index", None, "Folder of the index.", required=True),
        "add": flags.DEFINE_multi_string(
            "add",
            [],
            "File or folder to add; several times for several. What is no flag is added, too.",
        ),
        "hop_seconds": flags.DEFINE_float(
            "hop_seconds",
            None,
            "Between the starts of two one-second entries of sound; 0.5 in a new index (ours).",
        ),
        "center": flags.DEFINE_bool(
            "center",
            None,
            "Centre entry i of a sound on i * hop_seconds instead of starting there.",
        ),
        "frame_rate_hz": flags.DEFINE_float(
            "frame_rate_hz", None, "Pictures per second of video; 1 in a new index (ours)."
        ),
        "batch_size": flags.DEFINE_integer(
            "batch_size", 32, "Entries that go through the network at once.", lower_bound=1
        ),
        "query": flags.DEFINE_string("query", None, "Image, sound or video to ask with."),
        "query_start": flags.DEFINE_float(
            "query_start",
            None,
            "Ask with the second of sound that begins there and the frame in its middle; else with "
            "the whole file.",
        ),
        "query_modality": flags.DEFINE_enum(
            "query_modality", ANY, MODALITIES, "What of a video to ask with."
        ),
        "modality": flags.DEFINE_enum("modality", ANY, MODALITIES, "Of the entries to find."),
        "top": flags.DEFINE_integer("top", 10, "Files to show.", 1, 1000),
        "exclude_self": flags.DEFINE_bool(
            "exclude_self", False, "Leave out the file whose content is the query's."
        ),
        "exact": flags.DEFINE_bool(
            "exact", False, "Compute all distances, however large the index is."
        ),
        "format": flags.DEFINE_enum("format", TABLE, FORMATS, "Of the answer."),
        "out": flags.DEFINE_string(
            "out", None, "File for the answer; --format=html needs one. Else standard output."
        ),
    }


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, adds and asks; fails at the end if any file could not be added."""
    given = {name: holder.value for name, holder in holders.items()}
    inputs = [*given["add"], *argv[1:]]
    if not inputs and given["query"] is None:
        raise UserError("nothing to do; give --add=FOLDER, --query=FILE or both")
    out = None if given["out"] is None else pathlib.Path(given["out"])
    _check_answer(given["format"], out, given["query"])
    if argv[1:] and not given["add"]:
        raise UserError(f"unexpected argument {argv[1]!r}; to add files give --add=FILE")
    model = saved_model.SavedModel(given["saved_model"])
    settings = {name: given[name] for name in _DEFAULTS}
    index, settings = open_index(given["index"], model, settings, create=bool(inputs))
    features = file_features.FileFeatures(model, settings, given["batch_size"])
    complaints = _add_and_tell(index, features, inputs) if inputs else []
    if given["query"] is not None:
        _ask_and_tell(index, features, given, out)
    if complaints:
        if len(complaints) == 1:
            raise UserError(complaints[0])
        raise UserError(f"{len(complaints)} inputs could not be added; the reasons are above")


def _check_answer(answer_format: str, out: pathlib.Path | None, query: str | None) -> None:
    if answer_format == HTML and out is None:
        raise UserError("--format=html needs --out=FILE.html")
    if out is not None and out.is_dir():
        raise UserError(f"--out={out} is a folder; name a file to write")
    both_there = None not in (out, query) and os.path.exists(out) and os.path.exists(query)
    if both_there and os.path.samefile(out, query):
        raise UserError(f"--out={out} is the query itself; it would be written over")


def _add_and_tell(
    index: search_index.SearchIndex, features: file_features.FileFeatures, inputs: list
) -> list[str]:
    counts, complaints = add_files(index, features, inputs)
    for complaint in complaints if len(complaints) > 1 else ():
        _log.error("failed: %s", complaint)
    rows = index.counts()
    _log.info(
        "%s; %s holds %d files, %d windows of sound and %d pictures",
        ", ".join(f"{count} {status}" for status, count in counts.items()),
        index.folder,
        len(index.files),
        rows[SOUND],
        rows[IMAGE],
    )
    return complaints


def _ask_and_tell(index, features, given: Mapping[str, Any], out: pathlib.Path | None) -> None:
    query = make_query(
        features,
        given["query"],
        start_seconds=given["query_start"],
        modality=given["query_modality"],
    )
    results = ask(
        index,
        query,
        modality=given["modality"],
        top=given["top"],
        exclude_self=given["exclude_self"],
        exact=given["exact"],
    )
    if not results:
        raise UserError(f"{index.folder} holds no entry to find; --add files")
    answer = _answer(results, query, index, given["format"], out)
    if out is None:
        sys.stdout.write(answer)
        return
    try:
        files.write_whole(out, answer)
    except OSError as error:
        raise UserError(f"cannot write --out={out}: {error.strerror or error}") from error
    _log.info("%d files -> %s", len(results), out)


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
