"""docs/fidelity.md against the code: every row names code and tests that exist.

Nothing is imported or run: files are parsed. Whether a test really tests the fact is for people.
"""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FACT, CHOICE = "Fact", "Choice"
COLUMNS = ["Paper, section", "Code", "Test"]

# What a row may cite of each paper: its sections, figures and tables.
L3_SECTIONS = "2 2.1 2.2 3 3.1 3.2 3.3 3.4 3.5 3.5.1 3.5.2 3.5.3"
OTS_SECTIONS = "2 3 3.1 3.2 3.3 4 4.1"
IN_PAPERS = {
    *(f"L3 §{section}" for section in L3_SECTIONS.split()),
    *(f"L3 Fig. {number}" for number in range(1, 11)),
    *(f"L3 Table {number}" for number in range(1, 5)),
    "L3 appendix A",
    *(f"OTS §{section}" for section in OTS_SECTIONS.split()),
    *(f"OTS Fig. {number}" for number in range(1, 8)),
    "OTS Table 1",
    "OTS appendix",
}


def parse(text: str) -> list[list[str]]:
    """Returns kind (Fact or Choice) and the four cells of every row of every table."""
    rows, kind = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            kind = None
            continue
        assert line.endswith("|"), line
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        assert len(cells) == 4 and all(cells), line
        if kind is None:
            kind = cells[0]
            assert kind in (FACT, CHOICE) and cells[1:] == COLUMNS, line
        elif set("".join(cells)) != {"-"}:
            rows.append([kind, *cells])
    return rows


def faults(kind: str, what: str, paper: str, code: str, test: str) -> list[str]:
    """Returns what is wrong with a row."""
    cited = paper.split(", ")
    wrong = [f"not in the papers: {c}" for c in cited if c not in IN_PAPERS | {"ours", "derived"}]
    if (kind == CHOICE) != (cited[0] == "ours"):
        wrong.append(f"a {kind} of {cited[0]}")
    for cell, exists in ((code, _is_code), (test, _is_test)):
        names = re.findall(r"`([^`]*)`", cell)
        if not names and not re.match("none: .", cell):
            wrong.append(f"{cell!r} names nothing and does not say 'none: ' and why")
        wrong += [f"there is no `{name}`" for name in names if not exists(name)]
    return [f"{what}: {fault}" for fault in wrong]


def _is_code(name: str) -> bool:
    path, _, symbol = name.partition(": ")
    return symbol in _definitions(path)


def _is_test(name: str) -> bool:
    path, _, function = name.partition("::")
    is_path = re.fullmatch(r"tests/(\w+/)*test_\w+\.py", path)
    return bool(is_path) and function.startswith("test_") and function in _definitions(path)


@functools.cache
def _definitions(path: str) -> set[str]:
    """Functions, classes, constants and Class.member of a file; flags of a flagfile."""
    if path.endswith(".flags") and (ROOT / path).is_file():
        lines = (ROOT / path).read_text().splitlines()
        flags = [line for line in lines if line.startswith("--")]
        return {*flags, *(line.partition("=")[0] for line in flags)}
    if path.endswith(".py") and (ROOT / path).is_file():
        return set(_names(ast.parse((ROOT / path).read_text()).body))
    return set()


def _names(body: list[ast.stmt], owner: str = ""):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield owner + node.name
        if isinstance(node, ast.ClassDef):
            yield from _names(node.body, f"{owner}{node.name}.")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (owner + n.id for n in ast.walk(target) if isinstance(n, ast.Name))


@pytest.fixture(scope="module")
def rows():
    return parse((ROOT / "docs" / "fidelity.md").read_text())


def test_every_row_names_code_and_tests_that_exist(rows):
    wrong = [fault for row in rows for fault in faults(*row)]
    assert not wrong, "\n".join(wrong)


def test_no_row_is_there_twice_and_both_papers_and_kinds_are(rows):
    assert len({(kind, what) for kind, what, *_ in rows}) == len(rows) > 150
    assert {kind for kind, *_ in rows} == {FACT, CHOICE}
    cited = " ".join(paper for kind, _, paper, *_ in rows if kind == FACT)
    for table in ("L3 Table 1", "L3 Table 2", "L3 Table 3", "L3 Table 4", "OTS Table 1"):
        assert table in cited


def test_every_open_reading_has_a_row(rows):
    """A module that docs/readings.md names is named by a choice here, too."""
    readings = (ROOT / "docs" / "readings.md").read_text()
    modules = set(re.findall(r"([a-z0-9_]+)\.(?:py|[a-z_]+)[`(]", readings))
    names = [n for kind, *_, code, _ in rows if kind == CHOICE for n in re.findall("`(.*?)`", code)]
    assert len(modules) > 10
    assert not modules - {pathlib.PurePath(name.partition(": ")[0]).stem for name in names}


GOOD = [FACT, "x", "L3 §2.2", "`l3net/constants.py: FRAME_PX`",
        "`tests/test_fidelity.py::test_a_good_row_and_a_bad_one`"]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "bad"),
    [
        (0, CHOICE), (2, "ours"), (2, "L3 §3.5.4"), (2, "OTS §2.1"),
        (3, "somewhere"), (3, "none:"), (3, "`l3net/constants.py`"), (3, "`l3net/none.py: f`"),
        (3, "`l3net/constants.py: MISSING`"), (3, "`tests/test_fidelity.py: ast`"),
        (3, "`l3net/configs/common.flags: --missing`"), (3, "`l3net/configs/common.flags: model`"),
        (4, "by eye"), (4, "`tests/test_fidelity.py::test_missing`"),
        (4, "`tests/test_fidelity.py::parse`"), (4, "`l3net/constants.py::FRAME_PX`"),
    ],
)  # fmt: skip
def test_a_good_row_and_a_bad_one(cell, bad):
    assert not faults(*GOOD)
    assert len(faults(*GOOD[:cell], bad, *GOOD[cell + 1 :])) == 1


@pytest.mark.parametrize("line", ["| a | b | c |", "| a | L3 §2.2 | b |  |", "| a | b | c | d"])
def test_a_table_of_another_form_is_refused(line):
    with pytest.raises(AssertionError):
        parse(f"| Fact | Paper, section | Code | Test |\n|---|---|---|---|\n{line}\n")
