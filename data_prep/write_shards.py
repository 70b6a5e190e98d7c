"""Turns a manifest, or a plain folder of videos, into shards of clips.

    python -m data_prep.write_shards --videos_dir=my_videos --out_dir=shards/my
    python -m data_prep.write_shards --manifest=clips.csv --videos_dir=videos --out_dir=shards/clips
    python -m data_prep.write_shards --videos_dir='webdataset/*.tar' --out_dir=shards/web
    python -m data_prep.write_shards ... --runner=beam -- --runner=FlinkRunner --flink_master=h:8081

The shard of a clip is a hash of its example_id and clips are sorted inside it, so the bytes depend
neither on the order of the manifest nor on who writes them: one process, many, or a cluster
(docs/scaling.md). Whatever kills a run, the same command goes on with the unfinished shards.
"""

import dataclasses
import shlex

from data_prep.shards.config import Media, Target
from data_prep.shards.preparation import Run, Source, prepare
from l3net import flags


def main(rest: list[str], source: Source, target: Target, media: Media, run: Run) -> None:
    """Prepares the folder."""
    options = f"{run.beam_options} {shlex.join(rest)}".strip()
    prepare(source, target, media, dataclasses.replace(run, beam_options=options))


if __name__ == "__main__":
    flags.run(
        main, Source, Target, Media, Run, arguments="options of Beam behind --, for --runner=beam"
    )
