"""One page with everything that was measured and drawn: tables, figures, sounds, and their origin.

    python -m eval.results_page --tables=runs/demo --figures=runs/figures --out_dir=runs/report

Writes index.html with pictures, sounds and videos in folders beside it: copy or zip the folder to
send it; no network is needed to look at it. What was not run is listed as "not run". Nothing is
measured here.
"""

import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from eval import figures
from eval.reporting import tables as report
from l3net import errors, html_pages, provenance
from l3net.errors import UserError
from l3net.files import write_whole

# Tables in the order of the page; what makes each that is missing.
TABLES = {
    "claims": "make check-claims",
    "avc_accuracy": "make reproduce-table1",
    "table2": "make reproduce-table2",
    "table3": "make reproduce-table3",
    "table4": "make reproduce-table4",
    "retrieval": "make reproduce-retrieval",
    "localization": "make reproduce-localization",
    "learning_curves": "make train-demo",
}
_MEDIA = "media"  # folder beside the page


# --- What is there -------------------------------------------------------------------------------
def read_tables(folders: Sequence[str | pathlib.Path]) -> dict[str, dict[str, Any]]:
    """Reads the tables of some folders.

    Args:
        folders: of eval's scripts; where several have a table of one name, all are shown.

    Returns:
        Name, in the page, -> "title", "header", "lines" (texts), "notes", "origin", and "missing",
        the command that makes it; either lines or missing is empty.

    Raises:
        UserError: if a file is no table.
    """
    found = {}
    for name, command in TABLES.items():
        paths = [pathlib.Path(folder) / f"{name}.json" for folder in folders]
        there = [path for path in paths if path.is_file()]
        for number, path in enumerate(there, start=1):
            shown = name if number == 1 else f"{name}-{number}"
            found[shown] = {"missing": "", **_described(*report.read_table(path))}
        if not there:
            found[name] = {"missing": command, "title": name, "lines": []}
    return found


def _described(table: report.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
    header, *lines = report.cells(table)
    commit = (facts.get("commit") or "unknown")[:12]
    seed = "" if facts.get("seed") is None else f", seed {facts['seed']}"
    return {
        "title": table.title,
        "header": header,
        "lines": lines,
        "num_text": report.NUM_TEXT_COLUMNS,
        "notes": table.notes,
        "origin": f"Made in {facts.get('seconds', 0):.0f} s at commit {commit}{seed}.",
        "flags": json.dumps(facts.get("flags", {}), indent=1, sort_keys=True),
        "commit": commit,
    }


def read_figures(folder: str | pathlib.Path | None) -> list[dict[str, Any]]:
    """Reads the list of figures; see `figures.write_list`. None or no list gives none."""
    if folder is None or not (pathlib.Path(folder) / figures.LIST_FILE).is_file():
        return []
    return figures.read_list(folder)["figures"]


# --- The page ------------------------------------------------------------------------------------
def write_page(
    tables: Mapping[str, Mapping[str, Any]],
    drawn: Sequence[Mapping[str, Any]],
    *,
    figures_dir: str | pathlib.Path | None,
    videos: Sequence[str | pathlib.Path],
    out_dir: str | pathlib.Path,
    title: str,
) -> pathlib.Path:
    """Writes index.html and copies what it shows beside it.

    Args:
        tables: of `read_tables`.
        drawn: of `read_figures`.
        figures_dir: that the figures' paths are relative to.
        videos: .mp4 files to show, such as of l3net.localize.
        out_dir: folder of the page.
        title: of the page.

    Returns:
        Path of the page.

    Raises:
        UserError: if there is nothing to show, or a file that is named does not exist.
    """
    if not drawn and all(table["missing"] for table in tables.values()):
        raise UserError("no table and no figure found; `make reproduce-all figures` makes them")
    out_dir = pathlib.Path(out_dir)
    copy = functools.partial(_copied, out_dir)
    shown = [_with_copies(figure, pathlib.Path(figures_dir or "."), copy) for figure in drawn]
    page = (
        html_pages.environment("eval")
        .get_template("results.html.j2")
        .render(
            title=title,
            tables=tables,
            figures=shown,
            videos=[{"path": copy(path), "name": pathlib.Path(path).stem} for path in videos],
            commit=provenance.commit() or "unknown",
            commits=sorted({t["commit"] for t in tables.values() if not t["missing"]}),
            versions=provenance.versions(),
        )
    )
    path = out_dir / "index.html"
    write_whole(path, page)
    return path


def _with_copies(figure: Mapping[str, Any], folder: pathlib.Path, copy) -> dict[str, Any]:
    """Returns a figure's entry with its files copied beside the page."""
    if figure["status"] == figures.NOT_RUN:
        return dict(figure)
    sounds = [{**sound, "path": copy(folder / sound["path"])} for sound in figure["sounds"]]
    files = {kind: copy(folder / figure[kind]) for kind in ("png", "pdf")}
    return {**figure, **files, "sounds": sounds}


def _copied(out_dir: pathlib.Path, source: str | pathlib.Path) -> str:
    """Copies a file beside the page; returns its address from there."""
    source = pathlib.Path(source)
    if not source.is_file():
        raise UserError(f"{source} does not exist; `make figures` draws the figures again")
    # Sounds of two figures have the same names: their folder tells them apart.
    inside = pathlib.PurePosixPath(_MEDIA)
    if source.parent.name.endswith("_sounds"):
        inside /= source.parent.name
    target = out_dir / inside / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return (inside / source.name).as_posix()


# --- Flags ---------------------------------------------------------------------------------------
def _define_flags() -> dict[str, flags.FlagHolder]:
    """Defines the flags; the keys are their names."""
    holders = [
        flags.DEFINE_list("tables", [], "Folders of tables, .json of eval's scripts."),
        flags.DEFINE_string("figures", None, "Folder of eval.figures."),
        flags.DEFINE_list("videos", [], "Videos to show, .mp4, such as of l3net.localize."),
        flags.DEFINE_string("out_dir", "runs/report", "Folder of the page."),
        flags.DEFINE_string("title", "L3-Net, AVE-Net, AVOL-Net: results", "Of the page."),
    ]
    return {holder.name: holder for holder in holders}


def main(argv: Sequence[str], holders: Mapping[str, flags.FlagHolder]) -> None:
    """Reads the flags and writes the page."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; flags begin with --")
    values = {name: holder.value for name, holder in holders.items()}
    path = write_page(
        read_tables(values["tables"]),
        read_figures(values["figures"]),
        figures_dir=values["figures"],
        videos=values["videos"],
        out_dir=values["out_dir"],
        title=values["title"],
    )
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    errors.run(functools.partial(main, holders=_define_flags()))
