"""Reads every record of a prepared folder back and lists what is wrong.

python -m data_prep.verify_shards --shards_dir=shards/my
"""

import dataclasses
import logging

from data_prep.shards.verification import DEFAULT_FRAMES_PER_CLIP, Report, verify_folder
from l3net import flags
from l3net.errors import UserError
from l3net.flags import REQUIRED, setting

_MAX_LISTED = 50
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is verified."""

    shards_dir: str = setting(REQUIRED, "Prepared folder, as data_prep.write_shards made it.")
    frames_per_clip: int = setting(
        DEFAULT_FRAMES_PER_CLIP,
        "Frames (and flows) of each clip to decode completely, evenly spread; 0 is all.",
        at_least=0,
    )
    num_workers: int | None = setting(
        None,
        "Processes that read shards; none is one per processor, fewer for little data.",
        at_least=1,
    )


def main(config: Config) -> None:
    """Verifies and logs the summary; exit status 1 if there is a fault."""
    report = verify_folder(
        config.shards_dir,
        frames_per_clip=config.frames_per_clip,
        num_workers=config.num_workers,
    )
    _log.info("%s\n%s", config.shards_dir, _table(report))
    for fault in report.faults[:_MAX_LISTED]:
        _log.error("%s", fault)
    if report.faults:
        count = len(report.faults)
        raise UserError(
            f"{count} fault{'s' if count > 1 else ''} in {config.shards_dir}"
            f"{f' (the first {_MAX_LISTED} are listed)' if count > _MAX_LISTED else ''}; delete "
            "the shards named and run data_prep.write_shards again: it makes what is missing"
        )
    _log.info("no faults")


def _table(report: Report) -> str:
    lines = ["split        shards   clips   frames  minutes       MB"]
    lines += [
        f"{split:12.12} {s.num_shards:6d} {s.num_clips:7d} {s.num_frames:8d} "
        f"{s.seconds / 60:8.1f} {s.num_bytes / 1e6:8.1f}"
        for split, s in report.splits.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, Config)
