"""Whether a network sees what it hears: hits and overlaps, plain NumPy on one map at a time.

Positions and boxes are shares of height and width: (0, 0) is the top left corner, (1, 1) the bottom
right one. A box is (ymin, xmin, ymax, xmax); a frame may have several, drawn around several things
or by several people. Where `consensus` people must agree, a position inside fewer boxes counts in
part (Senocak et al., "Learning to Localize Sound Source in Visual Scenes", CVPR 2018, §4: three
people, two must agree).
"""

import math
from collections.abc import Sequence

import numpy as np

# Height and width that maps and boxes are compared at, as in the code of VGG-SS (Chen et al.,
# "Localizing Visual Sounds the Hard Way", CVPR 2021).
RASTER_PX = 224
CIOU_THRESHOLD = 0.5
_NUM_AUC_STEPS = 20


# --- Hits (OTS §4.1) -----------------------------------------------------------------------------
def is_hit(point: tuple[float, float], boxes: np.ndarray, consensus: int = 1) -> bool:
    """Returns whether a position is in the annotated region, borders included.

    Args:
        point: (y, x) in shares of the frame.
        boxes: float [num, 4], at least one.
        consensus: people who must agree: the region is where as many boxes overlap or, if nowhere
            as many do (our choice), as many as overlap anywhere.

    Returns:
        (0.5, 0.5) is in (0, 0, 0.5, 0.5), and no longer if that must agree with
        (0.2, 0.2, 0.4, 0.4).
    """
    # Boxes overlap most at some top edge and some left edge.
    corners = [(y, x) for y in boxes[:, 0] for x in boxes[:, 1]]
    most = max(_num_around(corner, boxes) for corner in corners)
    return _num_around(point, boxes) >= min(consensus, most)


def _num_around(point: tuple[float, float], boxes: np.ndarray) -> int:
    corner = np.array(point)
    return int(((boxes[:, :2] <= corner) & (corner <= boxes[:, 2:])).all(axis=1).sum())


def wilson_interval(num_hits: int, num: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share: 81 hits of 100 give (0.722, 0.875)."""
    z = 1.959964
    share = num_hits / num
    centre = share + z * z / (2 * num)
    spread = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


# --- Overlap (the measure of VGG-SS and Flickr-SoundNet) -----------------------------------------
def consensus_map(boxes: np.ndarray, consensus: int = 1, size: int = RASTER_PX) -> np.ndarray:
    """Draws how far people agree that something sounds at a position.

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
    """Returns where the half of the pixels with the highest values is, as the code of VGG-SS does.

    [[1, 4], [2, 3]] gives [[False, True], [False, True]].
    """
    values = np.sort(raster, axis=None)
    return raster >= values[len(values) // 2]


def ciou(area: np.ndarray, agreed: np.ndarray) -> float:
    """Returns the consensus intersection over union of a predicted area (Senocak et al., §4).

    Args:
        area: bool [height, width], the prediction.
        agreed: float [height, width] in [0, 1], see `consensus_map`.

    Returns:
        sum of `agreed` inside the area / (sum of all of it + pixels of the area where it is 0), in
        [0, 1]; 0 if both are empty. Area [1, 1, 0] and agreed [1, 0, 0.5] give 1 / (1.5 + 1) = 0.4.
    """
    union = agreed.sum() + (area & (agreed == 0)).sum()
    return float(agreed[area].sum() / union) if union else 0.0


def success_rate(values: Sequence[float], threshold: float = CIOU_THRESHOLD) -> float:
    """Returns the share of cIoUs that reach a threshold: what the field reports as "cIoU".

    cIoUs 0.3, 0.5 and 0.8 give 2/3.
    """
    return float(np.mean(np.asarray(values) >= threshold))


def success_auc(values: Sequence[float]) -> float:
    """Returns the area under the success rate over thresholds 0, 0.05 ... 1: the field's "AUC".

    The cIoU 0.5 alone succeeds up to the threshold 0.5 and then falls within one step: 0.525.
    """
    # Whole numbers over the count: 0.05 * 3 is more than 0.15.
    thresholds = np.arange(_NUM_AUC_STEPS + 1) / _NUM_AUC_STEPS
    rates = np.array([success_rate(values, threshold) for threshold in thresholds])
    return float(((rates[1:] + rates[:-1]) / 2).mean())
