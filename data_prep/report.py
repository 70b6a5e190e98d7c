"""ENTRY: writes report.html into a prepared folder: what is in it, in numbers, figures and clips.

    python -m data_prep.report --shards_dir=shards/my

The page is one file, needs no network and runs no script. An unfinished folder is reported as far
as it is; the page says so. The same folder and flags give the same bytes.
"""

import functools
import io
import logging
import pathlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import PIL.Image
import tqdm
from absl import flags

from data_prep.shards import clip_records
from data_prep.survey import figures, survey
from l3net import errors, html_pages
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.log_spectrogram import VALUE_RANGE

REPORT_FILE = "report.html"
DEFAULT_NUM_CLIPS = 24
_TEMPLATE = "report.html.j2"
_MAX_FRAME_SIZES = 10
_MAX_LABELS = 1000
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_log = logging.getLogger(__name__)


def write_report(
    shards_dir: str | pathlib.Path,
    *,
    num_clips: int = DEFAULT_NUM_CLIPS,
    seed: int = 0,
    max_shards: int | None = None,
) -> pathlib.Path:
    """Writes the report of a prepared folder into it.

    Args:
        shards_dir: as `data_prep.write_shards` left it, finished or not.
        num_clips: to show.
        seed: of the choice of clips and of shards.
        max_shards: see `survey.survey_folder`.

    Returns:
        The path of the page.

    Raises:
        UserError: if this is no prepared folder, it has no clip yet, a file in it is damaged, or
            the page cannot be written.
    """
    shards_dir = pathlib.Path(shards_dir)
    found = survey.survey_folder(shards_dir, num_clips=num_clips, seed=seed, max_shards=max_shards)
    page = render(found, seed=seed)
    path = shards_dir / REPORT_FILE
    try:
        write_whole(path, page)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    _log.info("%d clips of %s -> %s", found.num_clips, found.dataset_name, path)
    return path


def render(found: survey.Survey, *, seed: int) -> str:
    """Returns the page.

    Args:
        found: in the folder.
        seed: that the survey was made with, to be told.

    Returns:
        HTML. Whatever comes from the folder is escaped: file names are strangers' words.
    """
    environment = html_pages.environment("data_prep")
    environment.filters |= {
        "count": _count,
        "decimal": _decimal,
        "duration": _duration,
        "size": _size,
    }
    environment.tests["infinite"] = lambda level: level == float("-inf")
    return environment.get_template(_TEMPLATE).render(
        survey=found,
        seed=seed,
        outcomes=clip_records.OUTCOMES,
        share=_share,
        pictures=_pictures(found),
        sample=_sample(found),
        themes=figures.THEMES,
        spectrogram_range=VALUE_RANGE,
        reasons=_reasons(found),
        frame_sizes=found.frame_sizes_px.most_common(_MAX_FRAME_SIZES),
        labels=_labels(found),
        max_labels=_MAX_LABELS,
        examples_per_reason=survey.EXAMPLES_PER_REASON,
        clipped_run=survey.CLIPPED_RUN_SAMPLES,
    )


# --- Parts of the page ---------------------------------------------------------------------------
def _pictures(found: survey.Survey) -> dict[str, figures.Picture]:
    sound = found.sound
    return {
        "durations": figures.histogram(found.durations_seconds, "duration, s"),
        "rms": figures.histogram(sound.rms_dbfs, "RMS level, dBFS", trim=True),
        "peak": figures.histogram(sound.peak_dbfs, "peak level, dBFS", trim=True),
    }


def _reasons(found: survey.Survey) -> list[tuple[str, str, dict[str, int]]]:
    """Returns (outcome, reason, split -> rows) of the rows that gave no clip, frequent first."""
    total = sum((split.reasons for split in found.splits.values()), Counter())
    return [
        (outcome, reason, {name: s.reasons[outcome, reason] for name, s in found.splits.items()})
        for (outcome, reason), _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))
        if outcome != clip_records.OK
    ]


def _labels(found: survey.Survey) -> list[tuple[str, dict[str, int], int]]:
    """Returns (label, split -> clips, rows of the manifest) of every label, frequent first."""
    labels = sorted({*found.labels, *found.label_rows})
    rows = [(label, dict(found.labels.get(label, {})), found.label_rows[label]) for label in labels]
    return sorted(rows, key=lambda row: (-sum(row[1].values()), -row[2]))


def _sample(
    found: survey.Survey,
) -> list[tuple[survey.SampleClip, str, figures.Picture]]:
    """Returns (clip, frame, log-spectrogram) of the clips to show."""
    clips = tqdm.tqdm(
        found.sample,
        desc="drawing",
        unit="clip",
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 30,
    )
    return [(clip, _frame_uri(clip), figures.spectrogram(clip)) for clip in clips]


def _frame_uri(clip: survey.SampleClip) -> str:
    """Returns the frame as it lies in the shard, once it is known to be a JPEG."""
    try:
        with PIL.Image.open(io.BytesIO(clip.frame), formats=("JPEG",)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UserError(
            f"clip {clip.example_id}: the frame at {clip.frame_seconds:g} s is no JPEG ({error}); "
            "data_prep.verify_shards finds every bad record, write_shards makes it again"
        ) from error
    return figures.data_uri(clip.frame, "image/jpeg")


# --- Words ---------------------------------------------------------------------------------------
def _count(number: int) -> str:
    return f"{number:,}"


def _decimal(number: float) -> str:
    return f"{round(number, 1) + 0.0:.1f}".replace("-", "\N{MINUS SIGN}")  # + 0.0: no minus zero


def _size(num_bytes: float) -> str:
    power = 0
    while num_bytes >= 999.5 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1000, power + 1
    return f"{num_bytes:.{0 if num_bytes >= 99.95 or not power else 1}f} {_UNITS[power]}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


# --- Entry ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    return {
        "shards_dir": flags.DEFINE_string(
            "shards_dir", None, "Folder that write_shards made.", required=True
        ),
        "num_clips": flags.DEFINE_integer(
            "num_clips", DEFAULT_NUM_CLIPS, "Clips to show.", lower_bound=0
        ),
        "seed": flags.DEFINE_integer(
            "seed", 0, "Of the choice of those clips, and of --max_shards.", lower_bound=0
        ),
        "max_shards": flags.DEFINE_integer(
            "max_shards",
            None,
            "For very large folders: read the clips of so many shards only (default: of all).",
            lower_bound=1,
        ),
    }


def main(_: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags, writes the page."""
    write_report(**{keyword: holder.value for keyword, holder in holders.items()})


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
