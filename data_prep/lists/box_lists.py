"""Boxes around what sounds, from two published localization sets -> rows of one boxes.csv.

One row per box; a frame may have several. The demo data set's boxes.csv has the same columns. Both
readers raise UserError if a list cannot be read or its first entry has another format.
"""

import math
import pathlib
import re
import xml.etree.ElementTree
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from data_prep.lists.dataset_lists import ROW_ERRORS, TEST, Entry, ListedClip, Unusable, shown
from data_prep.lists.manifest import is_label
from data_prep.lists.media_index import IMAGE_SECONDS
from l3net import constants
from l3net.errors import UserError
from l3net.files import regular
from l3net.json_files import plain, read_published

# VGG-SS: the boxes are drawn on "the 125th frame of a 25fps video", the middle of the 10 s.
VGGSS_FRAME = 125
# Flickr-SoundNet's boxes are in pixels of frames of this size.
FLICKR_FRAME_PX = 256
_VGGSS_FILE = re.compile(r"(?P<video_id>.{11})_(?P<start>\d{6})")


class _VggssItem(msgspec.Struct):
    file: str
    label: str = msgspec.field(name="class")
    bbox: list[tuple[float, float, float, float]]


class Box(NamedTuple):
    """A box in one frame; a row of boxes.csv."""

    example_id: str  # the clip's
    frame: int  # its index at 25 fps, from the beginning of the clip; an image is frame 0
    time_seconds: str  # when the frame is shown
    ymin: str  # shares of the frame's height and width, in [0, 1]
    xmin: str
    ymax: str
    xmax: str
    label: str  # the class of what sounds, "" if unknown


COLUMNS = Box._fields


def boxes_of_frames(example_id: str, boxes: Iterable[Sequence[float]], label: str) -> Iterator[Box]:
    """Yields the rows of a made clip: a box (ymin, xmin, ymax, xmax) for each frame at 25 fps."""
    for frame, box in enumerate(boxes):
        ymin, xmin, ymax, xmax = (f"{side:.4f}" for side in box)
        time = f"{frame / constants.FRAME_RATE_HZ:.2f}"
        yield Box(example_id, frame, time, ymin, xmin, ymax, xmax, label)


def read_vggss(path: str | pathlib.Path) -> Iterator[tuple[Entry, list[Box]]]:
    """Reads vggss.json: clips of 10 s with their boxes; those without area are left out."""
    path = pathlib.Path(path)
    what = '[{"file": "ID_000030", "class": …, "bbox": [[xmin, ymin, xmax, ymax], …]}, …]'
    content = read_published(path, list[Any], what)
    for number, item in enumerate(content, 1):
        try:
            listed = msgspec.convert(item, _VggssItem)
            yield _vggss_entry(listed, path.name, number)
        except ROW_ERRORS as error:
            if number == 1:
                raise UserError(
                    f"{path}, entry 1: got {shown(item)} ({plain(error)}); need {what}"
                ) from error
            yield Unusable(f"{shown(item)}: {plain(error)}", path.name, number), []


def _vggss_entry(item: _VggssItem, source: str, number: int) -> tuple[ListedClip, list[Box]]:
    match = _VGGSS_FILE.fullmatch(item.file)
    if match is None or not is_label(item.label):
        raise ValueError(f"no clip {item.file!r} or no class {item.label!r}")
    start, label = float(match["start"]), item.label
    end = start + constants.CLIP_SECONDS
    clip = ListedClip(match["video_id"], start, end, TEST, (label,), source, number)
    boxes = [
        _box(clip.clip_id, VGGSS_FRAME, (ymin, xmin, ymax, xmax), label)
        for xmin, ymin, xmax, ymax in item.bbox
    ]
    return clip, [box for box in boxes if box]


def read_flickr_boxes(folder: str | pathlib.Path) -> Iterator[tuple[Entry, list[Box]]]:
    """Reads the annotations of Flickr-SoundNet's test set: one XML file per frame.

    Every annotator's boxes become rows, so a frame on which three agree has three. An element
    `bbox` holds xmin, ymin, xmax, ymax, by these names, or as its last four of five elements in
    this order. A frame is a clip of one frame.
    """
    folder = pathlib.Path(folder)
    paths = sorted(folder.glob("*.xml"))
    if not paths:
        raise UserError(f"{folder} has no .xml file; need the folder of annotations, ID.xml each")
    for number, path in enumerate(paths, 1):
        try:
            root = xml.etree.ElementTree.parse(regular(path)).getroot()
            boxes = [_flickr_box(path.stem, element) for element in root.iter("bbox")]
        # An encoding that Python does not know is a LookupError.
        except (OSError, xml.etree.ElementTree.ParseError, *ROW_ERRORS) as error:
            if number == 1:
                raise UserError(
                    f"{path}: {error}; need XML with elements bbox of xmin, ymin, xmax, ymax"
                ) from error
            yield Unusable(str(error), path.name, 1), []
        else:
            frame = ListedClip(path.stem, 0.0, IMAGE_SECONDS, TEST, (), path.name, 1, False)
            yield frame, [box for box in boxes if box]


def _flickr_box(example_id: str, element: xml.etree.ElementTree.Element) -> Box | None:
    by_name = {child.tag: child.text or "" for child in element}
    names = ("xmin", "ymin", "xmax", "ymax")
    if set(names) <= by_name.keys():
        texts = [by_name[name] for name in names]
    elif len(element) == 5:
        texts = [child.text or "" for child in element][1:]
    else:
        raise ValueError(f"bbox has the elements {', '.join(by_name) or 'none'}")
    xmin, ymin, xmax, ymax = (float(text) / FLICKR_FRAME_PX for text in texts)
    return _box(example_id, 0, (ymin, xmin, ymax, xmax), "")


def _box(
    example_id: str, frame: int, sides: tuple[float, float, float, float], label: str
) -> Box | None:
    """Returns the box, cut at the frame's borders; None if nothing is left of it."""
    if not all(map(math.isfinite, sides)):
        raise ValueError(f"a box with the sides {sides}")
    ymin, xmin, ymax, xmax = (min(max(side, 0.0), 1.0) for side in sides)
    if not (ymin < ymax and xmin < xmax):
        return None
    time = f"{frame / constants.FRAME_RATE_HZ:.2f}"
    written = (f"{side:.4f}" for side in (ymin, xmin, ymax, xmax))
    return Box._make((example_id, frame, time, *written, label))
