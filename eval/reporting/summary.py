"""The README's one table, put together from the tables in docs/demo_results.md."""

import re

from l3net.errors import UserError

# What is measured; the table's name in the results; its row; the column's heading.
ROWS = (
    ("AVC accuracy %, supervised direct", "networks", "Supervised direct", "accuracy %"),
    ("AVC accuracy %, L3-Net as in OTS", "networks", "L3-Net, as in OTS", "accuracy %"),
    ("AVC accuracy %, AVE-Net", "networks", "AVE-Net", "accuracy %"),
    ("AVC accuracy %, AVOL-Net", "networks", "AVOL-Net", "accuracy %"),
    ("Images classified %, L3-Net (L3 Table 3)", "table3", "Ours", "top-1 accuracy %"),
    ("Image finds sound, nDCG@30, L3-Net (OTS Table 1)", "retrieval", "L3-Net", "im-aud"),
    ("Image finds sound, nDCG@30, AVE-Net", "retrieval", "AVE-Net", "im-aud"),
    ("Localization hits %, image centre (OTS §4.1)", "localization", "Image centre", "hits %"),
    ("Localization hits %, AVOL-Net", "localization", "AVOL-Net", "hits %"),
)


def summary(results: str) -> str:
    """Returns the README's table.

    Args:
        results: Markdown with tables between marks, see `docs_tables.put`.

    Raises:
        UserError: if a table, row or column is missing.
    """
    lines = ["| Measure | Paper, on its data | Ours, demo data |", "| --- | ---: | ---: |"]
    for what, name, method, heading in ROWS:
        row = _row(results, name, method)
        # L3 Table 3 lists the paper's numbers in rows of their own.
        paper = row.get(f"{heading}, paper") or _row(results, name, method, last=True).get(
            f"{heading}, paper", ""
        )
        lines.append(f"| {what} | {paper} | {row[f'{heading}, ours']} |")
    return "\n".join(lines)


def _row(results: str, name: str, method: str, *, last: bool = False) -> dict[str, str]:
    """Returns the first (or last) row of a method, by heading."""
    block = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", results, re.S)
    grid = [
        [cell.strip() for cell in line.strip("|\n ").split("|")]
        for line in (block[1] if block else "").splitlines()
        if line.startswith("|")
    ]
    rows = [row for row in grid if row[1:2] == [method]]
    if not rows:
        raise UserError(f"the results hold no table {name!r} with a row {method!r}; make readme")
    return dict(zip(grid[0], rows[-1 if last else 0], strict=True))
