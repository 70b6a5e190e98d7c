"""The page that data_prep.report writes: a survey of a prepared folder as one HTML file."""

import logging
import pathlib

from data_prep.shards import clip_records
from data_prep.survey import figures
from data_prep.survey.counts import Survey, survey_folder
from data_prep.survey.loudness import CLIPPED_RUN_SAMPLES
from data_prep.survey.sample import SampleClip, Sampling
from l3net import html_pages
from l3net.errors import UserError
from l3net.files import write_whole
from l3net.log_spectrogram import VALUE_RANGE
from l3net.media import images
from l3net.media.sound import SILENCE_DBFS
from l3net.progress import track

REPORT_FILE = "report.html"
_TEMPLATE = "report.html.j2"
_MAX_FRAME_SIZES = 10
_MAX_LABELS = 1000
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_log = logging.getLogger(__name__)


def write_report(shards_dir: str | pathlib.Path, sampling: Sampling) -> pathlib.Path:
    """Writes the report of a prepared folder, finished or not, into it; returns its path.

    Raises:
        UserError: if this is no prepared folder, it has no clip yet, a file in it is damaged, or
            the page cannot be written.
    """
    survey = survey_folder(shards_dir, sampling)
    page = render(survey, seed=sampling.seed)
    path = pathlib.Path(shards_dir) / REPORT_FILE
    try:
        write_whole(path, page)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    _log.info("%d clips of %s -> %s", survey.num_clips, survey.dataset_name, path)
    return path


def render(survey: Survey, *, seed: int) -> str:
    """Returns the page as HTML; `seed` is that of the survey.

    Whatever comes from the folder is escaped: file names are strangers' words.
    """
    environment = html_pages.environment("data_prep", extra="prep")
    filters = {"count": _count, "decimal": _decimal, "duration": _duration, "size": _size}
    environment.filters |= filters
    environment.tests["infinite"] = lambda level: level == float("-inf")
    return environment.get_template(_TEMPLATE).render(
        survey=survey,
        seed=seed,
        outcomes=clip_records.OUTCOMES,
        share=_share,
        pictures=_pictures(survey),
        sample=_sample(survey),
        themes=figures.THEMES,
        spectrogram_range=VALUE_RANGE,
        reasons=_reasons(survey),
        frame_sizes=survey.frame_sizes_px.most_common(_MAX_FRAME_SIZES),
        labels=_labels(survey),
        max_labels=_MAX_LABELS,
        clipped_run=CLIPPED_RUN_SAMPLES,
        silence_dbfs=SILENCE_DBFS,
    )


# --- Parts of the page ---------------------------------------------------------------------------
def _pictures(survey: Survey) -> dict[str, figures.Picture]:
    sound = survey.sound
    return {
        "durations": figures.histogram(survey.durations_seconds, "duration, s"),
        "rms": figures.histogram(sound.rms_dbfs, "RMS level, dBFS", trim=True),
        "peak": figures.histogram(sound.peak_dbfs, "peak level, dBFS", trim=True),
    }


def _reasons(survey: Survey) -> list[tuple[str, str, dict[str, int]]]:
    """Returns (outcome, reason, split -> rows) of the rows that gave no clip, frequent first."""
    return [
        (outcome, reason, {name: s.reasons[outcome, reason] for name, s in survey.splits.items()})
        for (outcome, reason), _ in sorted(
            survey.reasons.items(), key=lambda item: (-item[1], item[0])
        )
        if outcome != clip_records.OK
    ]


def _labels(survey: Survey) -> list[tuple[str, dict[str, int], int]]:
    """Returns (label, split -> clips, rows of the manifest) of every label, frequent first."""
    labels = sorted({*survey.labels, *survey.label_rows})
    rows = [
        (label, dict(survey.labels.get(label, {})), survey.label_rows[label]) for label in labels
    ]
    return sorted(rows, key=lambda row: (-sum(row[1].values()), -row[2]))


def _sample(survey: Survey) -> list[tuple[SampleClip, str, figures.Picture]]:
    """Returns (clip, frame, log-spectrogram) of the clips to show."""
    clips = track(survey.sample, "drawing", unit="clip")
    return [(clip, _frame_uri(clip), figures.spectrogram(clip)) for clip in clips]


def _frame_uri(clip: SampleClip) -> str:
    """Returns the frame as it is in the shard, once it is known to be a JPEG."""
    try:
        with images.opened(clip.frame) as image:
            image.load()
            if image.format != "JPEG":
                raise ValueError(f"it is {image.format}")
    except UserError as error:
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


def _share(part: float, total: float) -> str:
    return f"{100 * part / total:.1f} %" if total else "none"
