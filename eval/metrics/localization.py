"""Numbers that sum up where a network saw what it heard: plain NumPy on one map at a time.

Positions and boxes are shares of height and width: (0, 0) is the top left corner, (1, 1) the bottom
right one. A box is (ymin, xmin, ymax, xmax); a frame may have several, drawn around several things
or by several people. Where `consensus` people must agree, a place inside fewer boxes counts in
part (Senocak et al., "Learning to Localize Sound Source in Visual Scenes", CVPR 2018, §4: three
people, two must agree).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from l3net import constants

# Height and width that maps and boxes are compared at, as in the code of VGG-SS (Chen et al.,
# "Localizing Visual Sounds the Hard Way", CVPR 2021).
RASTER_PX = 224
CIOU_THRESHOLD = 0.5
_NUM_AUC_STEPS = 20


# --- Where things are ----------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class View:
    """The part of a frame that a network sees, in shares of the frame.

    Attributes:
        ymin, xmin: of its top left corner.
        height, width: 1 is the frame's.
    """

    ymin: float = 0.0
    xmin: float = 0.0
    height: float = 1.0
    width: float = 1.0

    def to_frame(self, point: tuple[float, float]) -> tuple[float, float]:
        """Turns a position in the view into one in the frame.

        View(0.1, 0.2, 0.5, 0.5) sees at (0.5, 0.5) what the frame has at (0.35, 0.45).
        """
        return self.ymin + point[0] * self.height, self.xmin + point[1] * self.width

    def of_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Turns boxes of the frame into boxes of the view, cut at its borders.

        Args:
            boxes: float [num, 4].

        Returns:
            float [num, 4]; a box outside the view has no area. View(0.1, 0.2, 0.5, 0.5) turns
            (0, 0.2, 0.35, 0.7) into (0, 0, 0.5, 1).
        """
        shifted = boxes - np.array([self.ymin, self.xmin] * 2)
        return np.clip(shifted / np.array([self.height, self.width] * 2), 0.0, 1.0)


def centre_crop(height_px: int, width_px: int) -> View:
    """Returns what the networks see of a frame in evaluation (`augment.decode_and_crop`).

    Args:
        height_px: of the frame.
        width_px: of the frame.

    Returns:
        The centre square of 224/256 of the smallest side: of 256 x 320 pixels View(16/256, 48/320,
        224/256, 224/320).
    """
    crop_px = round(min(height_px, width_px) * constants.FRAME_PX / constants.SMALLEST_SIDE_PX)
    top_px, left_px = (height_px - crop_px) // 2, (width_px - crop_px) // 2
    return View(top_px / height_px, left_px / width_px, crop_px / height_px, crop_px / width_px)


# --- Hits (OTS §4.1) -----------------------------------------------------------------------------
def is_hit(point: tuple[float, float], boxes: np.ndarray, consensus: int = 1) -> bool:
    """Tells whether a position lies in the annotated region, borders included.

    Args:
        point: (y, x) in shares of the frame.
        boxes: float [num, 4], at least one.
        consensus: people who must agree: the region is where as many boxes overlap or, where no
            place has as many (ours), as many as overlap anywhere.

    Returns:
        Whether it does. (0.5, 0.5) lies in (0, 0, 0.5, 0.5), and no longer if that must agree with
        (0.2, 0.2, 0.4, 0.4).
    """
    # Boxes overlap most at some top edge and some left edge.
    corners = [(y, x) for y in boxes[:, 0] for x in boxes[:, 1]]
    most = max(_num_around(corner, boxes) for corner in corners)
    return _num_around(point, boxes) >= min(consensus, most)


def _num_around(point: tuple[float, float], boxes: np.ndarray) -> int:
    place = np.array(point)
    return int(((boxes[:, :2] <= place) & (place <= boxes[:, 2:])).all(axis=1).sum())


def wilson_interval(num_hits: int, num: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share by Wilson's score.

    Args:
        num_hits: of `num`.
        num: at least 1.

    Returns:
        Lower and upper end in [0, 1]: 81 of 100 give (0.722, 0.875).
    """
    z = 1.959964
    share = num_hits / num
    centre = share + z * z / (2 * num)
    spread = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


# --- Overlap (the measure of VGG-SS and Flickr-SoundNet) -----------------------------------------
def consensus_map(boxes: np.ndarray, consensus: int = 1, size: int = RASTER_PX) -> np.ndarray:
    """Draws boxes: how far people agree that something sounds at a place.

    Args:
        boxes: float [num, 4].
        consensus: people who must agree; 2 for Flickr-SoundNet, 1 where boxes stand for things.
        size: height and width of the raster.

    Returns:
        float [size, size], min(number of boxes / consensus, 1) at each pixel's centre. The boxes
        (0, 0, 1, 1) and (0, 0, 0.5, 1) give, with consensus 2 and size 2, [[1, 1], [0.5, 0.5]].
    """
    centres = (np.arange(size) + 0.5) / size
    total = np.zeros((size, size))
    for ymin, xmin, ymax, xmax in boxes:
        rows, columns = [
            (low <= centres) & (centres < high) for low, high in ((ymin, ymax), (xmin, xmax))
        ]
        total += np.outer(rows, columns)
    return np.minimum(total / consensus, 1.0)


def upper_half(raster: np.ndarray) -> np.ndarray:
    """Returns the half of the pixels with the highest values, as the code of VGG-SS predicts.

    Args:
        raster: float [height, width].

    Returns:
        bool [height, width]; [[1, 4], [2, 3]] gives [[False, True], [False, True]].
    """
    values = np.sort(raster, axis=None)
    return raster >= values[len(values) // 2]


def ciou(area: np.ndarray, agreed: np.ndarray) -> float:
    """Returns the consensus intersection over union of a predicted area (Senocak et al., §4).

    Args:
        area: bool [height, width], predicted.
        agreed: float [height, width] in [0, 1], see `consensus_map`.

    Returns:
        sum of `agreed` inside the area / (sum of all of it + pixels of the area where it is 0), in
        [0, 1]; 0 if both are empty. Area [1, 1, 0] and agreed [1, 0, 0.5] give 1 / (1.5 + 1) = 0.4.
    """
    union = agreed.sum() + (area & (agreed == 0)).sum()
    return float(agreed[area].sum() / union) if union else 0.0


def success_rate(values: Sequence[float], threshold: float = CIOU_THRESHOLD) -> float:
    """Returns the share of cIoUs that reach a threshold: what the field reports as "cIoU".

    Args:
        values: cIoUs, at least one.
        threshold: 0.5 in the field.

    Returns:
        In [0, 1]; cIoUs 0.3, 0.5 and 0.8 give 2/3.
    """
    return float(np.mean(np.asarray(values) >= threshold))


def success_auc(values: Sequence[float]) -> float:
    """Returns the area under the success rate over thresholds 0, 0.05 ... 1: the field's "AUC".

    Args:
        values: cIoUs, at least one.

    Returns:
        In [0, 1]. The cIoU 0.5 alone succeeds up to the threshold 0.5 and then falls within one
        step: 0.525.
    """
    # Whole numbers over the count: 0.05 * 3 is more than 0.15.
    thresholds = np.arange(_NUM_AUC_STEPS + 1) / _NUM_AUC_STEPS
    rates = np.array([success_rate(values, threshold) for threshold in thresholds])
    return float(((rates[1:] + rates[:-1]) / 2).mean())
