"""Puts measured tables into the README: written by the code that measured them, never typed.

    python -m eval.reporting.docs_tables runs/demo_l3_net/avc_accuracy.md runs/demo_l3_net/table2.md

Each table replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is the
file's name without suffix, or what --names gives.
"""

import pathlib
import re
import sys
from collections.abc import Sequence

from absl import flags

from l3net import errors
from l3net.errors import UserError
from l3net.files import write_whole

_README = flags.DEFINE_string("readme", "README.md", "File to put the tables into.")
_NAMES = flags.DEFINE_list("names", None, "Names of the places, one for each table.")


def put(readme: str, name: str, table: str) -> str:
    """Replaces the text between a place's marks.

    Args:
        readme: whole text.
        name: of the place.
        table: Markdown, as `report.markdown` writes it; its title becomes a line in bold.

    Returns:
        The new text.

    Raises:
        UserError: if the place is not there exactly once.
    """
    body = re.sub(r"^# (.+)$", r"**\1**", table.strip(), count=1, flags=re.MULTILINE)
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.S)
    text, count = pattern.subn(lambda match: f"{match[1]}{body}\n{match[2]}", readme)
    if count != 1:
        raise UserError(
            f"the README has {count} places <!-- {name} --> ... <!-- /{name} -->; need exactly one"
        )
    return text


def main(argv: Sequence[str]) -> None:
    """Reads the flags and rewrites the README."""
    tables = [pathlib.Path(path) for path in argv[1:]]
    names = _NAMES.value or [path.stem for path in tables]
    missing = [str(path) for path in tables if not path.is_file()]
    if not tables or missing or len(names) != len(tables):
        raise UserError(
            f"got {len(tables)} table(s) and {len(names)} name(s), missing: {missing or 'none'}; "
            "give the .md files of table scripts that have run"
        )
    path = pathlib.Path(_README.value)
    text = path.read_text()
    for table, name in zip(tables, names, strict=True):
        text = put(text, name, table.read_text())
    write_whole(path, text)
    sys.stdout.write(f"{path}: {', '.join(names)}\n")


if __name__ == "__main__":
    errors.run(main)
