"""Files as entries of a search index and as queries: adding them, and finding their nearest."""

import dataclasses
import itertools
import logging
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from l3net import constants, files, json_files
from l3net.errors import UserError, first_line
from l3net.files import CannotWriteError
from l3net.flags import setting
from l3net.inference import file_features, saved_model, search_index, search_page
from l3net.media import ffmpeg, images
from l3net.media.file_kinds import IMAGE, SOUND, VIDEO, kind_of
from l3net.progress import progress

ANY = "any"
MODALITIES = (ANY, IMAGE, SOUND)
# A long query is thinned out evenly: every entry of the index is compared with each of these.
MAX_QUERY_VECTORS = 256
_LENGTH_TOLERANCE = 1e-3
# The signatures of a network -> the streams of a video that it embeds.
_STREAMS = {
    (saved_model.VISION, saved_model.AUDIO): file_features.BOTH,
    (saved_model.AUDIO,): file_features.SOUND,
    (saved_model.VISION,): file_features.PICTURE,
}
_Streams = Iterator[tuple[str, Iterable[np.ndarray], float]]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entries:
    """How files become entries; an index keeps what it was made with."""

    hop_seconds: float | None = setting(
        None,
        "Seconds between the starts of two one-second entries of sound; by default the index's, "
        "in a new index 0.5 (our choice).",
    )
    center: bool | None = setting(
        None,
        "Centre entry i of a sound on i * hop_seconds; by default as the index does, in a new "
        "index it starts there.",
    )
    frame_rate_hz: float | None = setting(
        None,
        "Pictures taken per second of video; by default the index's, in a new index 1 (our "
        "choice).",
    )
    audio_track: int | None = setting(
        None,
        "Track of sound to take, counted from 0 among a file's tracks of sound; by default the "
        "index's, in a new index the one flagged as default, else the first.",
        at_least=0,
    )
    video_track: int | None = setting(
        None,
        "Track of pictures to take, counted from 0, cover pictures left out; by default the "
        "index's, in a new index the one flagged as default, else the first.",
        at_least=0,
    )


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What an index keeps of `Entries`."""

    hop_seconds: float = file_features.Settings.hop_seconds
    center: bool = file_features.Settings.center
    frame_rate_hz: float = file_features.Settings.frame_rate_hz
    audio_track: int | None = None
    video_track: int | None = None


@dataclasses.dataclass(frozen=True)
class Query:
    """A file as vectors float32 [Q, D] of length 1, each with its modality and time."""

    path: pathlib.Path
    sha256: str
    vectors: np.ndarray
    modalities: list[str]
    times_seconds: list[float]


# --- Adding --------------------------------------------------------------------------------------
def open_index(
    folder: str | pathlib.Path, model: saved_model.SavedModel, entries: Entries, *, create: bool
) -> tuple[search_index.SearchIndex, file_features.Settings]:
    """Opens an index for an AVE-Net, or makes one if `create` and there is none.

    A network of sound or of images alone, as openl3's, has an index of that alone. Its embeddings
    are scaled to length 1 (our choice: no distance was trained).

    Returns:
        The index, and how its entries are made.

    Raises:
        UserError: if there is none and none is to be made, it is damaged or made with another
            network or other settings, or the network gives no embeddings to compare.
    """
    signatures = _signatures(model)
    fingerprint = _fingerprint(model)
    given = {k: v for k, v in dataclasses.asdict(entries).items() if v is not None}
    if create and not search_index.is_index(folder):
        chosen = file_features.Settings(features="embedding", **given)
        chosen.check()
        settings = {name: getattr(chosen, name) for name in dataclasses.asdict(entries)}
        size = model.signature(signatures[0]).structured_outputs["embedding"].shape[-1]
        search_index.SearchIndex.create(
            folder, fingerprint=fingerprint, size=size, settings=settings
        )
    index = search_index.SearchIndex(folder)
    index.check_network(fingerprint)
    for name, value in given.items():
        own = index.settings.get(name)
        if value != own:
            raise UserError(
                f"{folder} was made with --{name}={own}, not {value}; leave the flag out, or name "
                "another --index"
            )
    kept = json_files.check(index.folder, index.settings, _Kept, "name a new --index")
    settings_of_index = file_features.Settings(
        features="embedding", video_streams=_STREAMS[signatures], **dataclasses.asdict(kept)
    )
    settings_of_index.check()
    return index, settings_of_index


def _signatures(model: saved_model.SavedModel) -> tuple[str, ...]:
    """Returns the signatures of a network that embeds single pictures, sounds or both."""
    takes = {constants.FRAME: saved_model.VISION, constants.LOG_SPECTROGRAM: saved_model.AUDIO}
    signatures = tuple(takes[name] for name in model.inputs if name in takes)
    if len(signatures) != len(model.inputs):
        raise UserError(
            f"a network that takes {', '.join(model.inputs)} cannot embed single pictures and "
            "sounds; need an AVE-Net"
        )
    for signature in signatures:
        model.features(signature, "embedding")
    return signatures


def _fingerprint(model: saved_model.SavedModel) -> str:
    fingerprint = model.metadata.get("weights_sha256")
    if not isinstance(fingerprint, str):
        raise UserError("the SavedModel has no weights_sha256; run l3net.export again")
    return fingerprint


def add_files(
    index: search_index.SearchIndex,
    features: file_features.FileFeatures,
    inputs: Iterable[str | pathlib.Path],
) -> tuple[dict[str, int], list[str]]:
    """Adds files and folders to an index; a bad file does not stop the others.

    Returns:
        (how many were "added", "known" and "failed"; why they failed, a line each).

    Raises:
        UserError: if another process is adding, or the folder cannot be written.
    """
    paths, problems = _list_files(inputs)
    counts = {"added": 0, "known": 0, "failed": len(problems)}
    with index.adding(), progress("adding", unit="file", total=len(paths)) as shown:
        for path in paths:
            try:
                counts["added" if _add(index, features, path) else "known"] += 1
            except CannotWriteError:
                raise  # nor the next file's
            except UserError as error:
                problems.append(str(error))
            except Exception as error:  # whatever is wrong with this file, the others must go on
                _log.debug("%s", path, exc_info=True)
                problems.append(f"{path}: {type(error).__name__}: {first_line(error)}")
            counts["failed"] = len(problems)
            shown.note(f"{len(problems)} failed")
            shown.advance()
    return counts, problems


def _list_files(inputs: Iterable[str | pathlib.Path]) -> tuple[list[pathlib.Path], list[str]]:
    paths: dict[pathlib.Path, None] = {}
    problems: list[str] = []
    for given in map(pathlib.Path, inputs):
        below, wrong = file_features.files_below(given) if given.is_dir() else ([given], [])
        paths |= dict.fromkeys(below)
        problems += wrong
    return list(paths), problems


def _add(
    index: search_index.SearchIndex, features: file_features.FileFeatures, path: pathlib.Path
) -> bool:
    """Adds one file; returns False if its content is there already."""
    kind = kind_of(path)
    sha256 = files.sha256_of(path)
    known = index.find(sha256)
    if known is not None and known.is_file():
        return False
    index.add(path, sha256=sha256, kind=kind, streams=_streams(features, path, kind))
    return True


def _streams(features: file_features.FileFeatures, path: pathlib.Path, kind: str) -> _Streams:
    """Yields the streams that a file has; a video may lack one of them."""
    alone = features.settings.video_streams
    if (kind, alone) in ((IMAGE, file_features.SOUND), (SOUND, file_features.PICTURE)):
        raise UserError(f"{path}: this network embeds {alone}s alone")
    num_streams, num_missing, lacking = 0, 0, None

    def chunks_there_are(stream: file_features.Stream) -> Iterator[np.ndarray]:
        nonlocal num_missing, lacking
        try:
            yield from map(_unit_vectors(features), stream.chunks)
        except UserError as error:
            reason = getattr(error.__cause__, "reason", getattr(error, "reason", None))
            if kind != VIDEO or reason not in ("no_audio", "no_video"):
                raise
            num_missing, lacking = num_missing + 1, error

    for stream in features.streams(path, kind):
        num_streams += 1
        yield stream.kind, chunks_there_are(stream), stream.step_seconds
    if num_missing == num_streams:
        lacks = "neither sound nor picture" if alone == file_features.BOTH else f"no {alone}"
        raise UserError(f"{path}: {lacks}") from lacking


def _unit_vectors(features: file_features.FileFeatures) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what is done with vectors before their distances mean something."""
    both = features.settings.video_streams == file_features.BOTH
    return _of_length_one if both else _scaled_to_length_one


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    """Raises UserError unless vectors are AVE-Net's: of length 1."""
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.abs(lengths - 1) < _LENGTH_TOLERANCE).all():
        raise UserError(
            "this network's embeddings are not of length 1, so their distances say nothing; need "
            "an AVE-Net"
        )
    return vectors


def _scaled_to_length_one(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


# --- Queries -------------------------------------------------------------------------------------
def make_query(
    features: file_features.FileFeatures,
    path: str | pathlib.Path,
    *,
    start_seconds: float | None = None,
    modality: str = ANY,
) -> Query:
    """Turns an image, a sound or a video into vectors.

    Args:
        features: the index's network and settings.
        path: the file.
        start_seconds: take the second of a sound or video that begins there, and the frame in its
            middle, as the network was trained; None takes all of the file.
        modality: what to take of a video: `IMAGE`, `SOUND` or `ANY`.

    Returns:
        The query, at most MAX_QUERY_VECTORS vectors.

    Raises:
        UserError: if the file gives none.
    """
    path = pathlib.Path(path)
    kind = kind_of(path)
    if start_seconds is None:
        streams = _streams(features, path, kind)
    elif kind == IMAGE:
        raise UserError(f"--query_start={start_seconds:g}: {path} is an image, without times")
    elif not 0 <= start_seconds < math.inf:
        raise UserError(f"--query_start={start_seconds}: need 0 or more")
    else:
        streams = _at(features, path, kind, start_seconds, modality)
    vectors: list[np.ndarray] = []
    entries: list[tuple[str, float]] = []
    for name, chunks, step_seconds in streams:
        if modality in (ANY, name) or kind != VIDEO:
            rows = list(itertools.chain.from_iterable(chunks))
            vectors += rows
            entries += [(name, (start_seconds or 0.0) + k * step_seconds) for k in range(len(rows))]
        else:
            next(iter(chunks), None)  # notes whether it is missing
    if not entries:
        raise UserError(f"{path}: no {modality if modality != ANY else 'entry'} to query with")
    chosen = _thinned(len(entries))
    stacked = np.stack([vectors[k] for k in chosen]).astype(np.float32)
    modalities, times = zip(*[entries[k] for k in chosen], strict=True)
    return Query(path, files.sha256_of(path), stacked, list(modalities), list(times))


def _thinned(num: int) -> np.ndarray:
    if num <= MAX_QUERY_VECTORS:
        return np.arange(num)
    _log.info("a long query: %d of its %d entries are compared", MAX_QUERY_VECTORS, num)
    return np.round(np.linspace(0, num - 1, MAX_QUERY_VECTORS)).astype(int)


def _at(
    features: file_features.FileFeatures,
    path: pathlib.Path,
    kind: str,
    start_seconds: float,
    modality: str,
) -> _Streams:
    """Yields the second of sound that begins at a time, and the frame in its middle."""
    streams = features.settings.video_streams
    if kind == SOUND or (modality in (ANY, SOUND) and streams != file_features.PICTURE):
        blocks = ffmpeg.stream_audio(
            path,
            start_seconds=start_seconds,
            seconds=constants.AUDIO_SECONDS,
            track=features.settings.audio_track,
        )
        waveform = np.concatenate([np.zeros(0, np.int16), *blocks])
        sound = features.sound([waveform[: constants.AUDIO_SAMPLES]])
        yield SOUND, map(_unit_vectors(features), itertools.islice(sound.chunks, 1)), 0.0
    if kind == VIDEO and modality in (ANY, IMAGE) and streams != file_features.SOUND:
        middle = start_seconds + constants.AUDIO_SECONDS / 2
        frame_px = features.model.frame_px
        smallest_side_px, track = images.uncropped_px(frame_px), features.settings.video_track
        image = search_page.frame_at(path, middle, smallest_side_px, track)
        pictures = features.pictures([images.center_crop(image, frame_px)], 0.0)
        yield IMAGE, map(_unit_vectors(features), pictures.chunks), 0.0


def nearest_files(
    index: search_index.SearchIndex,
    query: Query,
    *,
    modality: str = ANY,
    top: int = 10,
    exclude_self: bool = False,
) -> list[dict[str, Any]]:
    """Finds the files of an index nearest to a query.

    Args:
        index: an index of the query's network.
        query: see `make_query`.
        modality: the modality of the entries that are compared: `IMAGE`, `SOUND` or `ANY`.
        top: the number of files wanted.
        exclude_self: whether to leave out the file whose content is the query's.

    Returns:
        One dictionary per file, nearest first: "rank" from 1, "path", "kind", "distance",
        "modality" and "time_seconds" of its best entry, "query_modality" and "query_time_seconds"
        of the query's vector that it is nearest to, "own" (its content is the query's). Files that
        are gone are none.
    """
    hits = index.query(
        query.vectors,
        modalities=search_index.MODALITIES if modality == ANY else (modality,),
        top=top,
        without=query.sha256 if exclude_self else None,
        is_there=pathlib.Path.is_file,
    )
    return [
        {
            "rank": rank,
            "path": str(hit.path),
            "kind": hit.kind,
            "distance": hit.distance,
            "modality": hit.modality,
            "time_seconds": hit.time_seconds,
            "query_modality": query.modalities[hit.query_row],
            "query_time_seconds": query.times_seconds[hit.query_row],
            "own": hit.sha256 == query.sha256,
        }
        for rank, hit in enumerate(hits, start=1)
    ]
