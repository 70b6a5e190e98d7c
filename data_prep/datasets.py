r"""Makes a manifest from the official lists of a data set and what you have of it.

    python -m data_prep.datasets --dataset=kinetics_sounds --media_dir=kinetics/videos \
        --lists=train.csv,validate.csv,test.csv --manifest=data/kinetics_sounds/manifest.csv
    python -m data_prep.datasets --dataset=folder --media_dir=my_videos --labels_from=directory \
        --split_fractions=train=0.8,val=0.1,test=0.1 --manifest=data/mine/manifest.csv

    python -m data_prep.datasets --dataset=av_digits --mnist=mnist --spoken_digits=fsdd/recordings \
        --media_dir=data/av_digits/videos --manifest=data/av_digits/videos/manifest.csv

The last makes its videos first, of handwritten digits and voices. Then
`data_prep.write_shards --manifest=… --videos_dir=…` for videos. Beside the manifest:

    missing.csv  example_id,media_id,split,reason,detail,source,line: what is listed and not there
    boxes.csv    of vggss and flickr_soundnet_test, with the columns of the demo data set's

Lists, layouts and where their formats are described: docs/datasets.md.
"""

import sys
from collections import Counter

from data_prep.av_digits import data_set
from data_prep.lists.dataset_lists import SPLITS
from data_prep.lists.dataset_rows import Request, Result
from data_prep.lists.make_manifest import Config, make_manifest, write_manifest
from l3net import flags
from l3net.errors import UserError


def summary(result: Result) -> str:
    """Returns a table of the splits, the reasons why clips are missing, and the notes."""
    table = [("split", "clips", "classes", "hours", "missing")]
    missing = Counter(item.split for item in result.missing)
    present = Counter(row.split for row in result.rows)
    for split in sorted({*present, *missing}, key=_split_order):
        rows = [row for row in result.rows if row.split == split]
        classes = len({label for row in rows for label in row.labels})
        hours = sum(row.end_seconds - row.start_seconds for row in rows) / 3600
        numbers = (str(len(rows)), str(classes), f"{hours:.2f}", str(missing[split]))
        table.append((split or "-", *numbers))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    reasons = Counter(item.reason for item in result.missing)
    lines += [f"missing: {count} {reason}" for reason, count in reasons.most_common()]
    if result.num_other:
        lines.append(f"left out: {result.num_other} listed clips of other classes")
    return "".join(f"{line}\n" for line in [*lines, *(f"note: {note}" for note in result.notes)])


def _split_order(split: str) -> tuple[int, str]:
    order = SPLITS.index(split) if split in SPLITS else len(SPLITS)
    return order, split or "~"  # unknown splits last


def main(config: Config, request: Request, digits: data_set.Config) -> None:
    """Makes the manifest and prints a summary."""
    if config.dataset == data_set.NAME:
        result = data_set.make_digits(digits, request.media_dir, request.seed)
        write_manifest(config, result)
    else:
        if digits != data_set.Config():
            raise UserError(
                f"--mnist and --spoken_digits are for --dataset={data_set.NAME}; leave them out "
                f"for {config.dataset}"
            )
        result = make_manifest(config, request)
    sys.stdout.write(f"{config.manifest}\n{summary(result)}")


if __name__ == "__main__":
    flags.run(main, Config, Request, data_set.Config)
