"""docs/examples/quickstart.ipynb: its calls are checked at once, it runs under make test-slow."""

import ast
import importlib
import inspect
import json
import pathlib
import re
import runpy
import sys

import pytest

from l3net import flags

DOCS = pathlib.Path(__file__).parents[1] / "docs"
NOTEBOOK, PAGE = DOCS / "examples/quickstart.ipynb", DOCS / "quickstart.md"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = "\n\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
TREE = ast.parse(CODE)
PACKAGES = ("l3net", "data_prep")


def calls() -> list[ast.Call]:
    return [node for node in ast.walk(TREE) if isinstance(node, ast.Call)]


def imported() -> dict[str, object]:
    """What the notebook imports of ours, by the name that it has there."""
    names = {}
    for node in ast.walk(TREE):
        if isinstance(node, ast.Import):
            names |= {a.name: importlib.import_module(a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                try:
                    value = importlib.import_module(f"{node.module}.{alias.name}")
                except ImportError:
                    value = getattr(importlib.import_module(node.module), alias.name)
                names[alias.asname or alias.name] = value
    return {
        name: value
        for name, value in names.items()
        if getattr(value, "__module__", getattr(value, "__name__", "")).startswith(PACKAGES)
    }


def flags_of(call: ast.Call) -> set[str]:
    """The flags that a call of `run` gives, those of starred tuples included."""
    tuples = {
        node.targets[0].id: node.value
        for node in ast.walk(TREE)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    given = [
        tuples[argument.value.id] if isinstance(argument, ast.Starred) else argument
        for argument in call.args[1:]
    ]
    texts = [
        node.value
        for argument in given
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {match[1] for text in texts if (match := re.match(r"--(\w+)", text))}


def test_it_is_committed_without_what_a_run_adds():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_its_commands_know_their_flags(monkeypatch):
    runs = [call for call in calls() if ast.unparse(call.func) == "run"]
    by_module = {}
    for call in runs:
        by_module.setdefault(ast.literal_eval(call.args[0]), set()).update(flags_of(call))
    assert {"l3net.train", "l3net.export", "l3net.search"} <= set(by_module)
    doors: list[tuple] = []
    monkeypatch.setattr(flags, "run", lambda main, *configs, **_: doors.append(configs))
    for module, given in by_module.items():
        runpy.run_module(module, run_name="__main__")
        known = set(re.findall(r"^  --(\w+)$", flags.help_text("", doors.pop()), re.M))
        assert given and given <= known | {"flagfile"}, module


def test_its_calls_fit_our_functions():
    names, checked = imported(), set()
    for call in calls():
        first, *attributes = ast.unparse(call.func).split(".")
        if first not in names:
            continue
        function = names[first]
        for attribute in attributes:
            function = getattr(function, attribute)
        arguments = [None] * len(call.args)
        inspect.signature(function).bind(*arguments, **{k.arg: None for k in call.keywords})
        checked.add(function.__name__)
    assert checked >= {
        *("get_audio_embedding", "get_image_embedding", "get_video_embedding", "localize"),
    }


def test_the_page_is_the_notebooks():
    page = PAGE.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert "\n\n".join(block.rstrip("\n") for block in blocks) == CODE
    words = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown"]
    assert all(text.replace("](../", "](") in page for text in words)
    links = re.findall(r"\]\(([^)#]+)", page)
    assert links and all((PAGE.parent / path).exists() for path in links)


@pytest.mark.slow
def test_it_runs_and_what_it_shows_was_learnt(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))  # the kernel starts elsewhere
    made_by = runpy.run_path(str(DOCS / "quickstart_page.py"))
    notebook = made_by["execute"](tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    page = made_by["as_markdown"](notebook)
    sys.stdout.write(page)
    ave_net, avol_net = map(float, re.findall(r"AVC accuracy ([\d.]+)% on", page)[::2])
    assert ave_net > 65 and avol_net > 60
    assert float(re.search(r"recordings, accuracy (\d+)%", page)[1]) > 50  # of four classes
