"""Puts measured tables into documents: written by the code that measured them, never typed.

    python -m eval.reporting.docs_tables --readme=docs/demo_results.md runs/demo/table2.md
    python -m eval.reporting.docs_tables --results=docs/demo_results.md

Each table replaces the text between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is the file's
name without suffix, or what --names gives. With --results it is `<!-- summary -->`,
`<!-- claims_count -->` and `<!-- evidence -->` instead, as far as the document has them, put
together from the tables of documents, perhaps the same.
"""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Sequence

from eval.reporting import summary
from l3net import flags
from l3net.errors import UserError
from l3net.files import read_text, write_whole
from l3net.flags import setting

_ADVICE = "give the .md files of tables that were made"


@dataclasses.dataclass(frozen=True)
class Config:
    """The document."""

    readme: str = setting("README.md", "Markdown file to put the tables into.")
    names: tuple[str, ...] = setting(
        (),
        "Names of the tables' marks in the file, separated by commas, one for each table. Without "
        "it: the tables' file names.",
    )
    results: tuple[str, ...] = setting(
        (),
        "Documents with tables, separated by commas, to sum up in the file's places named summary, "
        "claims_count and evidence.",
    )


def put(readme: str, name: str, table: str) -> str:
    """Returns a document with another table between a name's marks.

    Args:
        readme: the document.
        name: the name in the marks.
        table: Markdown, as `tables.markdown` writes it; its title becomes a line in bold.

    Raises:
        UserError: if the marks are not there exactly once.
    """
    body = re.sub(r"^# (.+)$", r"**\1**", table.strip(), count=1, flags=re.MULTILINE)
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.S)
    text, count = pattern.subn(lambda match: f"{match[1]}{body}\n{match[2]}", readme)
    if count != 1:
        raise UserError(
            f"the document has {count} marks <!-- {name} --> ... <!-- /{name} -->; need exactly one"
        )
    return text


def main(arguments: Sequence[str], config: Config) -> None:
    """Puts each table into the document."""
    paths = [pathlib.Path(path) for path in arguments]
    names = list(config.names) or [path.stem for path in paths]
    missing = [str(path) for path in paths if not path.is_file()]
    if not (paths or config.results) or missing or len(names) != len(paths):
        raise UserError(
            f"got {len(paths)} table(s) and {len(names)} name(s), missing: {missing or 'none'}; "
            + _ADVICE
        )
    tables = {name: read_text(path, _ADVICE) for name, path in zip(names, paths, strict=True)}
    document = pathlib.Path(config.readme)
    text = read_text(document, "name a document with marks")
    if config.results:
        results = "\n".join(read_text(path, _ADVICE) for path in config.results)
        made = {
            "summary": summary.summary,
            "claims_count": summary.claims_count,
            "evidence": summary.evidence,
        }
        places = [name for name in made if f"<!-- {name} -->" in text] or list(made)
        tables |= {name: made[name](results) for name in places}
    for name, table in tables.items():
        text = put(text, name, table)
    write_whole(document, text)
    sys.stdout.write(f"{document}: {', '.join(tables)}\n")


if __name__ == "__main__":
    flags.run(main, Config, arguments=".md files of tables.")
