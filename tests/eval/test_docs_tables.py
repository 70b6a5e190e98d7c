import pathlib
import re

import pytest

from eval.reporting import docs_tables, summary
from l3net.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
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
        ("README.md", "summary"),
        ("docs/demo_results.md", "claims networks table2 table3 table4 retrieval localization"),
        ("docs/measurements.md", "learning_curves"),
        ("docs/real_results.md", "table2_esc10"),
    ],
)
def test_every_document_has_the_marks_of_its_tables(document, names):
    for name in names.split():
        docs_tables.put((ROOT / document).read_text(), name, "x")


def test_the_readme_sums_up_the_results(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_bytes((ROOT / "README.md").read_bytes())
    config = docs_tables.Config(readme=str(copy), results=str(ROOT / "docs" / "demo_results.md"))
    docs_tables.main([], config)
    assert copy.read_text() == (ROOT / "README.md").read_text()
    assert len(summary.summary(RESULTS).splitlines()) == 2 + len(summary.ROWS)
    with pytest.raises(UserError, match="no table 'networks' with a row 'Supervised direct'"):
        summary.summary("")


def test_tables_that_are_missing_are_one_line(tmp_path):
    for arguments, names in (([], ()), ([str(tmp_path / "x.md")], ()), (["x.md"], ("a", "b"))):
        with pytest.raises(UserError, match="give the .md files of tables"):
            docs_tables.main(arguments, docs_tables.Config(names=names))


def test_every_file_that_the_readme_names_exists():
    for path in re.findall(r"\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / path).is_file(), path
