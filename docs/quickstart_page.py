"""Runs examples/quickstart.ipynb and writes quickstart.md: its words, its code, what it printed.

    make quickstart-page

Pictures are left out; the notebook shows them.
"""

import pathlib
import tempfile

import nbclient
import nbformat

HERE = pathlib.Path(__file__).parent
NOTEBOOK, PAGE = HERE / "examples/quickstart.ipynb", HERE / "quickstart.md"
_NOTE = "<!-- Made by `make quickstart-page` from examples/quickstart.ipynb: change that. -->"


def execute(folder: str | pathlib.Path) -> nbformat.NotebookNode:
    """Returns the notebook with its outputs, run in a folder; raises if a cell fails."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    return nbclient.NotebookClient(notebook, timeout=1800, resources=resources).execute()


def as_markdown(notebook: nbformat.NotebookNode) -> str:
    """Returns a page of all cells, what code printed below it."""
    parts = [_NOTE]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            # The notebook is a folder deeper than the page.
            parts.append(cell.source.replace("](../", "]("))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        streams = [out for out in cell.outputs if out.output_type == "stream"]
        printed = "".join(out.text for out in streams if out.name == "stdout")
        if printed:
            parts.append(f"```\n{printed.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as workplace:
        PAGE.write_text(as_markdown(execute(workplace)))
