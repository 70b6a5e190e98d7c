import pathlib
import re

import pytest

from eval.reporting import claims, docs_tables, summary, tables
from l3net.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
MARKS = "<!-- claims -->\n<!-- /claims -->\n"
RESULTS_FILES = tuple(str(ROOT / "docs" / name) for name in ("demo_results.md", "evidence.md"))
RESULTS = (ROOT / "docs" / "demo_results.md").read_text()


def test_put_replaces_what_is_between_the_marks_which_must_be_there_once():
    readme = "a\n<!-- t -->\nold\n<!-- /t -->\nb\n"
    once = docs_tables.put(readme, "t", "# Title\n\n| 1 |\n")
    assert once == "a\n<!-- t -->\n**Title**\n\n| 1 |\n<!-- /t -->\nb\n"
    assert docs_tables.put(once, "t", "# Title\n\n| 1 |\n") == once
    for wrong in ("nothing", "<!-- t -->\n<!-- /t -->\n" * 2):
        with pytest.raises(UserError, match="need exactly one"):
            docs_tables.put(wrong, "t", "x")


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ("README.md", "summary claims_count"),
        ("docs/demo_results.md", "claims_count claims networks table2 table3 table4 retrieval"),
        ("docs/demo_results.md", "localization"),
        ("docs/measurements.md", "learning_curves"),
        ("README.md", "evidence"),
        ("docs/evidence.md", "digits_networks digits_retrieval digits_localization digits_claims"),
        ("docs/evidence.md", "sounds esc50 photographs"),
    ],
)
def test_every_document_has_the_marks_of_its_tables(document, names):
    for name in names.split():
        docs_tables.put((ROOT / document).read_text(), name, "x")


def test_the_readme_sums_up_the_results(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_bytes((ROOT / "README.md").read_bytes())
    config = docs_tables.Config(readme=str(copy), results=RESULTS_FILES)
    docs_tables.main([], config)
    assert copy.read_text() == (ROOT / "README.md").read_text()
    assert len(summary.summary(RESULTS).splitlines()) == 2 + len(summary.ROWS)
    of_real = (ROOT / "docs" / "evidence.md").read_text()
    lines = summary.evidence(of_real).splitlines()
    assert len(lines) == 2 + sum(len(methods) for *_, methods in summary.EVIDENCE)
    with pytest.raises(UserError, match="no table 'digits_networks' with a row 'L3-Net"):
        summary.evidence(RESULTS)
    with pytest.raises(UserError, match="no table 'networks' with a row 'Supervised direct'"):
        summary.summary("")
    other = RESULTS.replace("accuracy %", "hits %")
    with pytest.raises(UserError, match="'networks' of the results has no column 'accuracy %'"):
        summary.summary(other)
    without = re.sub("accuracy %, (paper|ours)", "accuracy %", RESULTS)  # no row has the papers'
    assert "| AVC accuracy %, AVE-Net | 81.9 |" in summary.summary(without)


def test_the_claims_that_hold_are_counted_by_what_checked_them(tmp_path):
    """The count stands in one paragraph with what the demo data was given for it."""
    made = claims.make_table(claims.group([tables.Table("t", "", [], [])] * 3))
    made = tables.markdown(made)
    document = tmp_path / "results.md"
    for body in (MARKS, docs_tables.put(MARKS, "claims", made)):
        document.write_text(body + "<!-- claims_count -->\n<!-- /claims_count -->\n")
        docs_tables.main([], docs_tables.Config(readme=str(document), results=(str(document),)))
        written = " ".join(document.read_text().split("<!-- claims_count -->\n")[1].split())
        assert all(what in written for what in ("coarse", "cut off", "a camera ticks"))
        number = len(claims.CLAIMS)
        counted = f"over 3 seed(s): {number} claims: 0 hold, 0 undecided, 0 do not hold, {number} "
        assert (counted in written) == (made.splitlines()[4] in body)
        assert ("not counted yet" in written) == (counted not in written)
    document.write_text("")
    with pytest.raises(UserError, match="need exactly one"):
        docs_tables.main(
            [],
            docs_tables.Config(readme=str(document), results=RESULTS_FILES),
        )


def test_tables_that_are_missing_are_one_line(tmp_path):
    for arguments, names in (([], ()), ([str(tmp_path / "x.md")], ()), (["x.md"], ("a", "b"))):
        with pytest.raises(UserError, match="give the .md files of tables"):
            docs_tables.main(arguments, docs_tables.Config(names=names))


def test_every_file_and_heading_that_the_readme_names_exists():
    for link in re.findall(r"\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text()):
        path, _, heading = link.partition("#")
        assert (ROOT / path).is_file(), path
        if heading:
            titles = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]
