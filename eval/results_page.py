"""One page with everything that was measured and drawn: tables, figures, sounds, and their origin.

    python -m eval.results_page --tables=runs/demo --figures=runs/figures --out_dir=runs/report

Writes index.html with pictures, sounds and videos in folders beside it: copy or zip the folder to
send it; no network is needed to look at it. What was not run is listed as "not run". Nothing is
measured here.
"""

import dataclasses
import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eval.reporting import tables
from l3net import flags, html_pages, provenance
from l3net.errors import UserError, needs_extra
from l3net.files import write_whole, written_whole
from l3net.flags import setting

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


@dataclasses.dataclass(frozen=True)
class Config:
    """What the page shows."""

    tables: tuple[str, ...] = setting(
        (), "Folders of tables, .json of eval's commands, separated by commas."
    )
    figures: str | None = setting(None, "Folder that eval.figures wrote.")
    videos: tuple[str, ...] = setting(
        (), "Videos to show, .mp4 such as l3net.localize draws, separated by commas."
    )
    out_dir: str = setting("runs/report", "Folder for index.html and all that it shows.")
    title: str = setting("L3-Net, AVE-Net, AVOL-Net: results", "Title of the page.")


# --- What is there -------------------------------------------------------------------------------
def read_tables(folders: Sequence[str | pathlib.Path]) -> dict[str, dict[str, Any]]:
    """Reads the tables of some folders; of one name in several folders, all are shown.

    Returns:
        Name, in the page, -> "title", "header", "lines" (texts), "notes", "origin", and "missing",
        the command that makes it; either lines or missing is empty.

    Raises:
        UserError: if a file is no table.
    """
    shown = {}
    for name, command in TABLES.items():
        paths = [pathlib.Path(folder) / f"{name}.json" for folder in folders]
        there = [path for path in paths if path.is_file()]
        for number, path in enumerate(there, start=1):
            key = name if number == 1 else f"{name}-{number}"
            shown[key] = {"missing": "", **_entry(*tables.read_table(path))}
        if not there:
            shown[name] = {"missing": command, "title": name, "lines": []}
    return shown


def _entry(table: tables.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
    header, *lines = tables.cells(table)
    commit = (facts.get("commit") or "unknown")[:12]
    seed = "" if facts.get("seed") is None else f", seed {facts['seed']}"
    return {
        "title": table.title,
        "header": header,
        "lines": lines,
        "num_text": tables.NUM_TEXT_COLUMNS,
        "notes": table.notes,
        "origin": f"Made in {facts.get('seconds', 0):.0f} s at commit {commit}{seed}.",
        "flags": json.dumps(facts.get("flags", {}), indent=1, sort_keys=True),
        "commit": commit,
    }


def read_figures(folder: str | pathlib.Path | None) -> list[dict[str, Any]]:
    """Reads the list of figures; see `drawings.write_list`. None or no list gives none."""
    if folder is None:
        return []
    with needs_extra("eval", "a page with figures"):
        from eval.figures import drawings
    if not (pathlib.Path(folder) / drawings.LIST_FILE).is_file():
        return []
    return drawings.read_list(folder)["figures"]


# --- The page ------------------------------------------------------------------------------------
def write_page(config: Config) -> pathlib.Path:
    """Writes index.html and copies what it shows beside it.

    Returns:
        Path of the page.

    Raises:
        UserError: if there is nothing to show, or a file that is named does not exist.
    """
    shown, drawn = read_tables(config.tables), read_figures(config.figures)
    if not drawn and all(table["missing"] for table in shown.values()):
        raise UserError("no table and no figure found; `make reproduce-all figures` makes them")
    out_dir = pathlib.Path(config.out_dir)
    copy = functools.partial(_copied, out_dir)
    folder = pathlib.Path(config.figures or ".")
    page = html_pages.environment("eval", extra="eval").get_template("results.html.j2")
    text = page.render(
        title=config.title,
        tables=shown,
        figures=[_with_copies(figure, folder, copy) for figure in drawn],
        videos=[{"path": copy(path), "name": pathlib.Path(path).stem} for path in config.videos],
        commit=provenance.commit() or "unknown",
        commits=sorted({table["commit"] for table in shown.values() if not table["missing"]}),
        versions=provenance.versions(),
    )
    path = out_dir / "index.html"
    write_whole(path, text)
    return path


def _with_copies(
    figure: Mapping[str, Any], folder: pathlib.Path, copy: Callable[[pathlib.Path], str]
) -> dict[str, Any]:
    """Returns a figure's entry with its files copied beside the page."""
    if "png" not in figure:
        return dict(figure)
    sounds = [{**sound, "path": copy(folder / sound["path"])} for sound in figure["sounds"]]
    files = {kind: copy(folder / figure[kind]) for kind in ("png", "pdf")}
    return {**figure, **files, "sounds": sounds}


def _copied(out_dir: pathlib.Path, source: str | pathlib.Path) -> str:
    """Copies a file beside the page; returns its address from there."""
    source = pathlib.Path(source)
    if not source.is_file():
        raise UserError(f"{source} does not exist; `make figures` draws the figures again")
    # Sounds of two figures have the same names: their folder distinguishes them.
    inside = pathlib.PurePosixPath(_MEDIA)
    if source.parent.name.endswith("_sounds"):
        inside /= source.parent.name
    target = out_dir / inside / source.name
    with written_whole(target) as partial:
        shutil.copyfile(source, partial)
    return (inside / source.name).as_posix()


def main(config: Config) -> None:
    """Writes the page and prints its path."""
    sys.stdout.write(f"{write_page(config)}\n")


if __name__ == "__main__":
    flags.run(main, Config)
