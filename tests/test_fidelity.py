"""docs/fidelity.md against the code: every row names code and tests that exist.

Nothing is imported or run: files are searched. Whether a test really tests it is for people.
"""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
KINDS = ("Fact", "Reading", "Deviation")
PAPERS = r"(ours|derived|(L3|OTS) (§[234](\.[1-5]){0,2}|Fig\. \d+|Table \d|appendix( A)?))"


def parse(text: str) -> list[list[str]]:
    """Returns kind and the four cells of every row of every table."""
    rows, kind = [], ""
    for line in (line for line in text.splitlines() if line.startswith("|")):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 4 and all(cells), line
        if cells[1] == "Paper, section":
            kind = cells[0]
        elif set(line) != set("|-"):
            rows.append([kind, *cells])
    return rows


def faults(kind: str, what: str, paper: str, code: str, test: str) -> list[str]:
    """Returns what is wrong with a row."""
    wrong = [f"not in the papers: {c}" for c in paper.split(", ") if not re.fullmatch(PAPERS, c)]
    if kind not in KINDS or (kind == "Reading") != paper.startswith("ours"):
        wrong.append(f"a {kind} of {paper}")
    for cell, separator in ((code, ": "), (test, "::")):
        names = re.findall(r"`([^`]*)`", cell)
        if not names and not cell.startswith("none: "):
            wrong.append(f"{cell!r} names nothing and does not say 'none: ' and why")
        wrong += [f"there is no `{name}`" for name in names if not _exists(name, separator)]
    return [f"{what}: {fault}" for fault in wrong]


def _exists(name: str, separator: str) -> bool:
    """Whether the file defines the function, class, constant, attribute, test or flag."""
    path, _, symbol = name.partition(separator)
    last = re.escape(symbol if symbol.startswith("--") else symbol.rpartition(".")[2])
    definition = rf"^\s*((def|class) )?([\w, ]+, )?{last}\b(, [\w, ]+)?\s*[=:(]"
    if symbol.startswith("--"):
        definition = rf"^{last}(=|$)"
    is_place = separator == ": " or re.search(r"^tests/.*test_\w+\.py::test_", name)
    return bool(symbol and is_place and (ROOT / path).is_file()) and bool(
        re.search(definition, (ROOT / path).read_text(), re.MULTILINE)
    )


ROWS = parse((ROOT / "docs" / "fidelity.md").read_text())


def test_every_row_names_code_and_tests_that_exist():
    assert len({(kind, what) for kind, what, *_ in ROWS}) == len(ROWS) > 150
    assert {kind for kind, *_ in ROWS} == set(KINDS)
    wrong = [fault for row in ROWS for fault in faults(*row)]
    assert not wrong, "\n".join(wrong)


def test_every_reading_has_a_row():
    """A module that docs/readings.md names is named by a reading or a deviation here, too."""
    readings = (ROOT / "docs" / "readings.md").read_text()
    modules = set(re.findall(r"(\w+)\.(?:py|[a-z_]+)[`(]", readings))
    cited = " ".join(code for kind, *_, code, _ in ROWS if kind != "Fact")
    assert len(modules) > 10 and not {m for m in modules if f"{m}.py" not in cited}


GOOD = ["Fact", "x", "L3 §2.2", "`l3net/constants.py: FRAME_PX`",
        "`tests/test_fidelity.py::test_a_bad_row_is_noticed`"]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "bad"),
    [(0, "Reading"), (2, "ours"), (2, "L3 §5"), (3, "somewhere"), (3, "`l3net/none.py: f`"),
     (3, "`l3net/constants.py: MISSING`"), (3, "`l3net/configs/common.flags: --missing`"),
     (4, "by eye"), (4, "`tests/test_fidelity.py::parse`"),
     (4, "`tests/test_fidelity.py::test_missing`")],
)  # fmt: skip
def test_a_bad_row_is_noticed(cell, bad):
    assert not faults(*GOOD) and faults(*GOOD[:cell], bad, *GOOD[cell + 1 :])
