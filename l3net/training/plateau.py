"""A network that learns nothing says so: AVC can stay at 50 % for tens of thousands of pairs."""

import math

# Our choice: some five times what small networks took to leave the plateau (docs/measurements.md).
FIRST_PAIRS = 200_000
_DEVIATIONS = 3.0


def warning(accuracy: float, *, num_pairs: int, pairs_now: int) -> str | None:
    """Returns a line for the log if training stands at chance after many pairs.

    It is due when `FIRST_PAIRS` were seen, and each time their number has doubled.

    Args:
        accuracy: share of the last pairs classified correctly, in [0, 1]; half of all are matches.
        num_pairs: how many pairs that is measured on, all since the last call.
        pairs_now: how many pairs were seen since training began.

    Returns:
        What was got and what to try, or None if it is not due or the network is above chance by
        more than three standard deviations.
    """
    doublings = math.floor(math.log2(max(pairs_now, 1) / FIRST_PAIRS))
    if doublings < 0 or pairs_now - num_pairs >= FIRST_PAIRS * 2**doublings:
        return None
    if accuracy > 0.5 + _DEVIATIONS * math.sqrt(0.25 / num_pairs):
        return None
    return (
        f"after {pairs_now:,} pairs the network still guesses: accuracy {accuracy:.1%} on the last "
        f"{num_pairs:,}; in a new --run_dir try --paired_negatives=7, --global_batch_size=128 or "
        "more, --learning_rate from 1e-3 down to 1e-4, and more different videos"
    )
