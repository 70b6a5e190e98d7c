import pathlib
import re

import pytest

from eval.reporting import docs_tables
from l3net.errors import UserError

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()


def test_put_replaces_what_stands_between_the_marks():
    readme = "a\n<!-- t -->\nold\n<!-- /t -->\nb\n"
    once = docs_tables.put(readme, "t", "# Title\n\n| 1 |\n")
    assert once == "a\n<!-- t -->\n**Title**\n\n| 1 |\n<!-- /t -->\nb\n"
    assert docs_tables.put(once, "t", "# Title\n\n| 1 |\n") == once


@pytest.mark.parametrize("readme", ["nothing", "<!-- t -->\n<!-- /t -->\n" * 2])
def test_the_place_must_be_there_once(readme):
    with pytest.raises(UserError, match="need exactly one"):
        docs_tables.put(readme, "t", "x")


def test_the_readme_has_every_place():
    for name in ("networks", "table2", "table2_esc10"):
        docs_tables.put(README, name, "x")


def test_every_file_that_the_readme_names_exists():
    root = pathlib.Path(__file__).parents[2]
    for path in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (root / path).is_file(), path
