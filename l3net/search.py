"""Finds among your own videos, pictures and sounds what goes with a picture, sound or video.

    python -m l3net.search --saved_model=runs/demo/ave_net/saved_model --index=idx --add=videos/
    python -m l3net.search --saved_model=... --index=idx --query=drum.jpg --modality=sound
    python -m l3net.search ... --query=clip.mp4 --query_start=3.5 --format=html --out=results.html

AVE-Net puts pictures and sounds into one space of 128 dimensions, where what goes together is near
(OTS §3): so pictures find sounds, sounds find pictures, and each its like. An index holds an entry
per second of sound (every --hop_seconds), per picture (--frame_rate_hz a second of a video). A
result is a file; its distance, in [0, 2], is that of its best entry, which is shown with its time.

Files of the same content are added once. An interrupted run is continued by the same command. An
index belongs to the network that it was made with; another one is refused.
"""

import dataclasses
import json
import logging
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from l3net import files, flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting
from l3net.inference import file_features, file_search, saved_model, search_index, search_page
from l3net.media.file_kinds import IMAGE, SOUND, kind_of

TABLE, JSON, HTML = FORMATS = ("table", "json", "html")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """The network, the index and what is added to it."""

    saved_model: str = setting(REQUIRED, "Folder of an AVE-Net that l3net.export wrote.")
    index: str = setting(REQUIRED, "Folder of the index; --add makes a new one.")
    add: list[str] = setting(
        (),
        "File or folder to add; give the flag several times for several. After it, arguments that "
        "are no flags are added as well.",
        any_name=True,
    )
    prune: bool = setting(
        False, "Drop the files that are gone from the index; a query leaves them out anyway."
    )
    batch_size: int = setting(32, "Entries that go through the network at once.", at_least=1)


@dataclasses.dataclass(frozen=True)
class QueryConfig:
    """The query and its results."""

    query: str | None = setting(
        None, "Image, sound or video whose nearest files are wanted.", any_name=True
    )
    query_start: float | None = setting(
        None,
        "Query with the second of sound that begins at this time, in seconds, and the frame in its "
        "middle; without the flag with the whole file.",
    )
    query_modality: str = setting(
        file_search.ANY,
        "Streams of a video to query with: its pictures, its sound or any.",
        choices=file_search.MODALITIES,
    )
    modality: str = setting(
        file_search.ANY, "Modality of the entries to find.", choices=file_search.MODALITIES
    )
    top: int = setting(10, "Number of files to show.", at_least=1, at_most=1000)
    exclude_self: bool = setting(
        False, "Leave out the file whose content is the query's; otherwise it is marked."
    )
    exact: bool = setting(
        False,
        "Has no effect: all distances are computed, however large the index is. Accepted so that "
        "older commands run.",
    )
    format: str = setting(TABLE, "Output format: table, json or html.", choices=FORMATS)
    out: str | None = setting(
        None,
        "File for the output; --format=html needs one. Without the flag it goes to standard "
        "output.",
    )


def main(
    arguments: Sequence[str], config: Config, entries: file_search.Entries, request: QueryConfig
) -> None:
    """Adds and queries; fails at the end if any file could not be added."""
    if not config.add and request.query is None and not config.prune:
        raise UserError("nothing to do; give --add=FOLDER, --query=FILE, --prune or several")
    if arguments and not config.add:
        raise UserError(f"unexpected argument {arguments[0]!r}; to add files give --add=FILE")
    _check_output(request)
    model = saved_model.SavedModel(config.saved_model)
    inputs = [*config.add, *arguments]
    index, settings = file_search.open_index(config.index, model, entries, create=bool(inputs))
    features = file_features.FileFeatures(model, settings, config.batch_size)
    if config.prune:
        with index.adding():
            _log.info("%d files that are gone were dropped from %s", index.prune(), index.folder)
    problems = _add(index, features, inputs) if inputs else []
    if request.query is not None:
        _query(index, features, request.query, request)
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        raise UserError(f"{len(problems)} inputs could not be added; the reasons are above")


def _check_output(request: QueryConfig) -> None:
    if request.out is None:
        if request.format == HTML:
            raise UserError("--format=html needs --out=FILE.html")
        return
    if os.path.isdir(request.out):
        raise UserError(f"--out={request.out} is a folder; name a file to write")
    paths = [
        path for path in (request.out, request.query) if path is not None and os.path.exists(path)
    ]
    if len(paths) == 2 and os.path.samefile(*paths):
        raise UserError(f"--out={request.out} is the query itself; it would be written over")


def _add(
    index: search_index.SearchIndex, features: file_features.FileFeatures, inputs: Sequence[str]
) -> list[str]:
    counts, problems = file_search.add_files(index, features, inputs)
    for problem in problems if len(problems) > 1 else ():
        _log.error("failed: %s", problem)
    counts |= index.counts()
    _log.info(
        "%d added, %d known, %d failed; %s holds %d files, %d windows of sound and %d pictures",
        *(counts[name] for name in ("added", "known", "failed")),
        index.folder,
        *(counts[name] for name in ("files", SOUND, IMAGE)),
    )
    return problems


def _query(
    index: search_index.SearchIndex,
    features: file_features.FileFeatures,
    path: str,
    request: QueryConfig,
) -> None:
    query = file_search.make_query(
        features, path, start_seconds=request.query_start, modality=request.query_modality
    )
    results = file_search.nearest_files(
        index, query, modality=request.modality, top=request.top, exclude_self=request.exclude_self
    )
    if not results:
        raise UserError(f"{index.folder} holds no entry to find; --add files")
    output = _formatted(results, query, index, request)
    if request.out is None:
        sys.stdout.write(output)
        return
    try:
        files.write_whole(request.out, output)
    except OSError as error:
        raise UserError(f"cannot write --out={request.out}: {error.strerror or error}") from error
    _log.info("%d files -> %s", len(results), request.out)


def _formatted(
    results: Sequence[Mapping[str, Any]],
    query: file_search.Query,
    index: search_index.SearchIndex,
    request: QueryConfig,
) -> str:
    if request.format == TABLE:
        return as_table(results)
    about = {"query": str(query.path), "num_query_vectors": len(query.vectors)}
    if request.format == JSON:
        content = {**about, "index": str(index.folder), "results": list(results)}
        return json.dumps(content, indent=1) + "\n"
    about |= {"kind": kind_of(query.path), "time_seconds": query.times_seconds[0]}
    about["counts"], about["video_track"] = index.counts(), index.settings.get("video_track")
    return search_page.render(about, results, pathlib.Path(request.out or "").parent)


def as_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Returns results as lines of text, columns under a header."""
    lines = ["rank  distance  found by           at      file"]
    for result in results:
        found_by = f"{result['query_modality']} -> {result['modality']}"
        mark = "  (the query itself)" if result["own"] else ""
        lines.append(
            f"{result['rank']:>4}  {result['distance']:8.4f}  {found_by:<15}"
            f"{result['time_seconds']:>8.2f} s  {_printable(result['path'])}{mark}"
        )
    return "\n".join(lines) + "\n"


def _printable(name: str) -> str:
    """Returns a name that cannot move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in name)


if __name__ == "__main__":
    flags.run(
        main,
        Config,
        file_search.Entries,
        QueryConfig,
        arguments="files and folders to add, after --add.",
    )
