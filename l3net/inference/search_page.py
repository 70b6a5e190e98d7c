"""Results of a search as an HTML page: pictures inside it, players that link to the files."""

import base64
import contextlib
import io
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from l3net import html_pages
from l3net.errors import UserError
from l3net.media import ffmpeg, file_kinds

_TEMPLATE = "search.html.j2"
_THUMBNAIL_PX = 180
_JPEG_QUALITY = 80
_FRAME_SECONDS = 0.2


def render(
    query: Mapping[str, Any], results: Sequence[Mapping[str, Any]], folder: str | pathlib.Path
) -> str:
    """Returns the page.

    Args:
        query: "query" (path), "kind", "time_seconds", "num_query_vectors", "num_files" and "counts"
            of the index.
        results: of `l3net.search.ask`.
        folder: that the page will lie in; links to the files start there.

    Returns:
        HTML. File names are strangers' words: everything is escaped.
    """
    environment = html_pages.environment("l3net")
    cards = [
        {
            **result,
            "name": pathlib.Path(result["path"]).name,
            "link": link(result["path"], folder),
            "thumbnail": thumbnail(result["path"], result["kind"], result["time_seconds"]),
        }
        for result in results
    ]
    asked = {
        **query,
        "name": pathlib.Path(query["query"]).name,
        "link": link(query["query"], folder),
        "thumbnail": thumbnail(query["query"], query["kind"], query["time_seconds"]),
    }
    return environment.get_template(_TEMPLATE).render(query=asked, results=cards)


def link(path: str | pathlib.Path, folder: str | pathlib.Path) -> str:
    """Returns a link from a page in a folder to a file, whatever characters its name has.

    Args:
        path: of the file.
        folder: of the page.

    Returns:
        A relative URL; it begins with a dot, so that no name is taken for a protocol.
    """
    relative = pathlib.Path(os.path.relpath(pathlib.Path(path).resolve(), _resolved(folder)))
    words = relative.as_posix()
    return urllib.parse.quote(words if words.startswith("../") else f"./{words}")


def _resolved(folder: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(folder).resolve()


def frame_at(path: str | pathlib.Path, time_seconds: float, smallest_side_px: int) -> np.ndarray:
    """Returns the picture that a video shows at a time.

    Args:
        path: of the video.
        time_seconds: on its own time line.
        smallest_side_px: of the result.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        UserError: if there is none.
    """
    frames = ffmpeg.stream_frames(
        path,
        smallest_side_px=smallest_side_px,
        start_seconds=time_seconds,
        seconds=_FRAME_SECONDS,
    )
    with contextlib.closing(frames):
        frame = next(frames, None)
    if frame is None:
        raise UserError(f"{path}: no picture at {time_seconds:g} s")
    return frame


def thumbnail(path: str | pathlib.Path, kind: str, time_seconds: float) -> str:
    """Returns a small picture of a file as a data URL; "" for a sound, or if there is none.

    Args:
        path: of the file.
        kind: file_kinds.SOUND, IMAGE or VIDEO.
        time_seconds: of a video.
    """
    try:
        if kind == file_kinds.VIDEO:
            return _as_url(Image.fromarray(frame_at(path, time_seconds, _THUMBNAIL_PX)))
        if kind == file_kinds.IMAGE:
            with Image.open(path) as image:
                image.draft("RGB", (2 * _THUMBNAIL_PX,) * 2)
                return _as_url(ImageOps.exif_transpose(image).convert("RGB"))
    except (UserError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # moved or changed since it was added: the page says so without it
    return ""


def _as_url(image: Image.Image) -> str:
    image.thumbnail((2 * _THUMBNAIL_PX, _THUMBNAIL_PX))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
