"""docs/fidelity.md against the code: every row names code and tests that exist.

Nothing is imported or run: files are parsed. Whether a test really tests the fact is for people.
"""

import ast
import dataclasses
import functools
import itertools
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "fidelity.md"
FACT, CHOICE = KINDS = ("Fact", "Choice")
OTHER_COLUMNS = ("Paper, section", "Code", "Test")
NONE = "none: "  # and why

# What a row may cite of each paper: its sections, figures and tables.
L3_SECTIONS = ("2", "2.1", "2.2", "3", "3.1", "3.2", "3.3", "3.4", "3.5", "3.5.1", "3.5.2", "3.5.3")
OTS_SECTIONS = ("2", "3", "3.1", "3.2", "3.3", "4", "4.1")
PLACES = {
    *(f"L3 §{section}" for section in L3_SECTIONS),
    *(f"L3 Fig. {number}" for number in range(1, 11)),
    *(f"L3 Table {number}" for number in range(1, 5)),
    "L3 appendix A",
    *(f"OTS §{section}" for section in OTS_SECTIONS),
    *(f"OTS Fig. {number}" for number in range(1, 8)),
    "OTS Table 1",
    "OTS appendix",
}
OURS, DERIVED = "ours", "derived"


# --- Parsing -------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: its line in the document, its kind (Fact or Choice) and its four cells."""

    line: int
    kind: str
    what: str
    paper: str
    code: str
    test: str


def parse(text: str) -> list[Row]:
    """Reads the rows of all tables; ValueError for a row or a header of another form."""
    rows, numbered = [], enumerate(text.splitlines(), start=1)
    for is_table, lines in itertools.groupby(numbered, key=lambda pair: pair[1].startswith("|")):
        if is_table:
            rows += _rows(list(lines))
    return rows


def _rows(lines: list[tuple[int, str]]) -> Iterator[Row]:
    (number, header), *body = [(number, _cells(number, line)) for number, line in lines]
    if header[0] not in KINDS or header[1:] != OTHER_COLUMNS:
        raise ValueError(f"line {number}: got the columns {header}; need Fact or Choice, ...")
    if not body or any(cell.strip("-:") for cell in body[0][1]):
        raise ValueError(f"line {number}: no line of dashes under the header")
    for number, cells in body[1:]:
        yield Row(number, header[0], *cells)


def _cells(number: int, line: str) -> tuple[str, ...]:
    cells = tuple(cell.strip() for cell in line.strip().split("|")[1:-1])
    if len(cells) != 4 or not line.rstrip().endswith("|"):
        raise ValueError(f"line {number}: got {len(cells)} cells; need 4, and a | at the end")
    if not all(cells):
        raise ValueError(f"line {number}: a cell is empty")
    return cells


# --- What a row may name -------------------------------------------------------------------------
def faults(row: Row, root: pathlib.Path) -> Iterator[str]:
    """Yields what is wrong with a row, one line each."""
    found = (
        *_faults_of_paper(row),
        *_faults_of_cell(row.code, root, _fault_of_code),
        *_faults_of_cell(row.test, root, _fault_of_test),
    )
    for fault in found:
        yield f"line {row.line}: {fault}"


def _faults_of_paper(row: Row) -> Iterator[str]:
    cited = [place.strip() for place in row.paper.split(",")]
    for place in cited:
        if place not in PLACES | {OURS, DERIVED}:
            yield f"{place!r} is no place in the papers"
    if (row.kind == CHOICE) != (cited[0] == OURS):
        yield f"the {row.kind} is of {cited[0]!r}: choices are ours, facts are not"


def _faults_of_cell(cell: str, root: pathlib.Path, fault_of) -> Iterator[str]:
    named = re.findall(r"`([^`]*)`", cell)
    if not named and not (cell.startswith(NONE) and len(cell) > len(NONE)):
        yield f"{cell!r} names nothing and does not say 'none: ' and why"
    yield from filter(None, (fault_of(name, root) for name in named))


def _fault_of_code(name: str, root: pathlib.Path) -> str | None:
    path, _, symbol = name.partition(": ")
    if not (root / path).is_file() or not path.endswith((".py", ".flags")):
        return f"`{name}`: there is no such file of code or flags"
    if path.endswith(".flags"):
        lines = (root / path).read_text().splitlines()
        flags = {part for line in lines for part in (line, line.partition("=")[0])}
        known = symbol.startswith("--") and symbol in flags
    else:
        known = symbol in _definitions(root / path)
    return None if known else f"`{name}`: the file does not define it"


def _fault_of_test(name: str, root: pathlib.Path) -> str | None:
    path, _, function = name.partition("::")
    if not re.fullmatch(r"tests/test_\w+\.py", path) or not (root / path).is_file():
        return f"`{name}`: there is no such file of tests"
    known = function.startswith("test_") and function in _functions(root / path)
    return None if known else f"`{name}`: the file has no such test"


@functools.cache
def _parsed(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text())


def _functions(path: pathlib.Path) -> set[str]:
    """Names of the functions that stand at the top of a file."""
    return {node.name for node in _parsed(path).body if isinstance(node, ast.FunctionDef)}


@functools.cache
def _definitions(path: pathlib.Path) -> set[str]:
    """What a file itself defines: functions, classes, constants, and Class.member; no imports."""
    return set(_names(_parsed(path).body))


def _names(body: list[ast.stmt], owner: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield owner + node.name
        if isinstance(node, ast.ClassDef):
            yield from _names(node.body, f"{owner}{node.name}.")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            leaves = itertools.chain.from_iterable(ast.walk(target) for target in targets)
            yield from (
                owner + leaf.id
                for leaf in leaves
                if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store)
            )


# --- The document --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def rows():
    return parse(DOCUMENT.read_text())


def test_every_row_names_code_and_tests_that_exist(rows):
    found = [fault for row in rows for fault in faults(row, ROOT)]
    assert not found, "\n".join(found)


def test_no_row_stands_twice_and_both_papers_and_kinds_are_there(rows):
    told = [(row.kind, row.what) for row in rows]
    assert len(set(told)) == len(told) > 150
    assert {row.kind for row in rows} == set(KINDS)
    cited = " ".join(row.paper for row in rows if row.kind == FACT)
    for table in ("L3 Table 1", "L3 Table 2", "L3 Table 3", "L3 Table 4", "OTS Table 1"):
        assert table in cited


def test_every_open_reading_has_a_row(rows):
    """A module that docs/readings.md names is named by a choice here, too."""
    readings = (ROOT / "docs" / "readings.md").read_text()
    modules = set(re.findall(r"([a-z0-9_]+)\.(?:py|[a-z_]+)[`(]", readings))
    chosen = {
        pathlib.PurePath(name.partition(": ")[0]).stem
        for row in rows
        if row.kind == CHOICE
        for name in re.findall(r"`([^`]*)`", row.code)
    }
    assert len(modules) > 10
    assert not modules - chosen


# --- The checks themselves, on made-up rows ------------------------------------------------------
HEAD = "# Topic\n\n| Fact | Paper, section | Code | Test |\n|---|---|---|---|\n"
GOOD = "| a fact | L3 §2.2 | `code/a.py: f` | `tests/test_a.py::test_f` |"
CODE = """
from math import pi
X, (Y, Z) = W = 1, (2, 3)
V: int = 4
def f():
    inner = 1
class C:
    field: int = 0
    def method(self): ...
"""


@pytest.fixture
def root(tmp_path):
    for folder in ("code", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "code" / "a.py").write_text(CODE)
    (tmp_path / "code" / "a.flags").write_text("# --off=1\n--rate=1e-4\n--flag\n")
    (tmp_path / "code" / "a.txt").write_text("f")
    test = "from code import test_g\ntest_x = 1\ndef helper(): ...\n"
    (tmp_path / "tests" / "test_a.py").write_text(test + "def test_f():\n    def test_in(): ...\n")
    return tmp_path


def _faults(root, row):
    return list(itertools.chain.from_iterable(faults(row, root) for row in parse(HEAD + row)))


def test_a_good_row_is_read_and_has_no_fault(root):
    (row,) = parse(HEAD + GOOD)
    assert row == Row(5, FACT, "a fact", "L3 §2.2", "`code/a.py: f`", "`tests/test_a.py::test_f`")
    assert not _faults(root, GOOD)


@pytest.mark.parametrize("name", ["X", "Y", "Z", "W", "V", "C", "C.method", "C.field", "f"])
def test_what_a_file_defines_is_found(root, name):
    assert not _faults(root, GOOD.replace(": f`", f": {name}`"))


@pytest.mark.parametrize("flag", ["--rate", "--rate=1e-4", "--flag"])
def test_flags_are_found(root, flag):
    assert not _faults(root, GOOD.replace("a.py: f`", f"a.flags: {flag}`"))


@pytest.mark.parametrize("cell", ["none: not built", "`code/a.py: f`, `code/a.py: C` and words"])
def test_no_code_with_a_reason_and_several_are_good(root, cell):
    assert not _faults(root, GOOD.replace("`code/a.py: f`", cell))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("test_f`", "test_missing`", "the file has no such test"),
        ("test_f`", "helper`", "the file has no such test"),
        ("test_f`", "test_x`", "the file has no such test"),
        ("test_f`", "test_g`", "the file has no such test"),
        ("test_f`", "test_in`", "the file has no such test"),
        ("tests/test_a.py::", "tests/test_b.py::", "no such file of tests"),
        ("tests/test_a.py::", "code/a.py::", "no such file of tests"),
        ("`tests/test_a.py::test_f`", "by eye", "names nothing"),
        ("`tests/test_a.py::test_f`", "none", "names nothing"),
        ("`tests/test_a.py::test_f`", "none:", "names nothing"),
        (": f`", ": missing`", "does not define it"),
        (": f`", ": pi`", "does not define it"),
        (": f`", ": inner`", "does not define it"),
        (": f`", ": C.missing`", "does not define it"),
        (": f`", ": method`", "does not define it"),
        (": f`", "`", "does not define it"),
        ("a.py: f`", "b.py: f`", "no such file of code"),
        ("a.py: f`", "a.txt: f`", "no such file of code"),
        ("a.py: f`", "a.flags: --missing`", "does not define it"),
        ("a.py: f`", "a.flags: --off`", "does not define it"),
        ("a.py: f`", "a.flags: --rate=1`", "does not define it"),
        ("a.py: f`", "a.flags: rate`", "does not define it"),
        ("`code/a.py: f`", "somewhere", "names nothing"),
        ("L3 §2.2", "L3 §3.5.4", "is no place in the papers"),
        ("L3 §2.2", "OTS §2.1", "is no place in the papers"),
        ("L3 §2.2", "ours", "facts are not"),
    ],
)
def test_a_bad_row_is_refused(root, old, new, message):
    assert old in GOOD
    (fault,) = _faults(root, GOOD.replace(old, new))
    assert fault.startswith("line 5: ") and message in fault


def test_a_choice_is_ours(root):
    (row,) = parse(HEAD.replace("Fact", "Choice") + GOOD)
    (fault,) = faults(row, root)
    assert "the Choice is of 'L3 §2.2'" in fault
    assert not list(faults(dataclasses.replace(row, paper="ours, L3 §2.2"), root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "| a | L3 §2.2 | b |", "line 5: got 3 cells"),
        (HEAD + "| a | L3 §2.2 | b | c | d |", "line 5: got 5 cells"),
        (HEAD + "| a | L3 §2.2 | b |  |", "line 5: a cell is empty"),
        (HEAD + GOOD[:-1], "line 5: got 3 cells"),
        (HEAD.replace("Code", "Where") + GOOD, "line 3: got the columns"),
        (HEAD.replace("Fact", "Thing") + GOOD, "line 3: got the columns"),
        (HEAD.splitlines()[2] + "\n" + GOOD, "no line of dashes"),
    ],
)
def test_a_table_of_another_form_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text)
