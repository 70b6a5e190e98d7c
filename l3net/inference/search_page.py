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
from l3net.media import ffmpeg, file_kinds, images

_TEMPLATE = "search.html.j2"
_THUMBNAIL_PX = 180
_JPEG_QUALITY = 80
_FRAME_SECONDS = 0.2


def render(
    query: Mapping[str, Any], results: Sequence[Mapping[str, Any]], folder: str | pathlib.Path
) -> str:
    """Returns an HTML page; file names are strangers' words, so everything is escaped.

    Args:
        query: "query" (path), "kind", "time_seconds", "num_query_vectors", and of the index
            "counts" and "video_track".
        results: see `file_search.nearest_files`.
        folder: the folder that the page will be in; links to the files start there.
    """

    def shown(file: Mapping[str, Any], path: str) -> dict[str, Any]:
        track = query["video_track"]
        picture = thumbnail(path, file["kind"], file["time_seconds"], track)
        name = pathlib.Path(path).name
        return {**file, "name": name, "link": link(path, folder), "thumbnail": picture}

    cards = [shown(result, result["path"]) for result in results]
    environment = html_pages.environment("l3net", extra="search")
    return environment.get_template(_TEMPLATE).render(
        query=shown(query, query["query"]), results=cards
    )


def link(path: str | pathlib.Path, folder: str | pathlib.Path) -> str:
    """Returns a relative link from a page in `folder` to a file, whatever characters its name has.

    It begins with a dot, so that no name is taken for a protocol.
    """
    start = pathlib.Path(folder).resolve()
    words = pathlib.Path(os.path.relpath(pathlib.Path(path).resolve(), start)).as_posix()
    return urllib.parse.quote(words if words.startswith("../") else f"./{words}")


def frame_at(
    path: str | pathlib.Path, time_seconds: float, smallest_side_px: int, track: int | None = None
) -> np.ndarray:
    """Returns the picture that a video shows at a time on its own time line.

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
        track=track,
    )
    with contextlib.closing(frames):
        frame = next(frames, None)
    if frame is None:
        raise UserError(f"{path}: no picture at {time_seconds:g} s")
    return frame


def thumbnail(
    path: str | pathlib.Path, kind: str, time_seconds: float, track: int | None = None
) -> str:
    """Returns a small picture of a file as a data URL; "" for a sound, or if there is none."""
    try:
        if kind == file_kinds.VIDEO:
            return _as_url(Image.fromarray(frame_at(path, time_seconds, _THUMBNAIL_PX, track)))
        if kind == file_kinds.IMAGE:
            with images.opened(path) as image:
                image.draft("RGB", (2 * _THUMBNAIL_PX,) * 2)
                return _as_url(ImageOps.exif_transpose(image).convert("RGB"))
    except UserError:
        pass  # moved or changed since it was added: the page says so without it
    return ""


def _as_url(image: Image.Image) -> str:
    image.thumbnail((2 * _THUMBNAIL_PX, _THUMBNAIL_PX))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
