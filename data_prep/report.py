"""Writes report.html into a prepared folder: what is in it, in numbers, figures and clips.

    python -m data_prep.report --shards_dir=shards/my

The page is one file, needs no network and runs no script. An unfinished folder is reported as far
as it is; the page says so. The same folder and flags give the same bytes.
"""

import dataclasses

from data_prep.survey.sample import Sampling
from l3net import flags
from l3net.errors import needs_extra
from l3net.flags import REQUIRED, setting


@dataclasses.dataclass(frozen=True)
class Config:
    """What is reported."""

    shards_dir: str = setting(
        REQUIRED, "Prepared folder, as data_prep.write_shards made it, finished or not."
    )


def main(config: Config, sampling: Sampling) -> None:
    """Writes the page."""
    with needs_extra("prep", "data_prep.report"):
        from data_prep.survey.page import write_report
    write_report(config.shards_dir, sampling)


if __name__ == "__main__":
    flags.run(main, Config, Sampling)
