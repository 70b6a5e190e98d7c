"""Who may import whom (docs/design.md): walked from the source, nothing is imported."""

import ast
import pathlib
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("l3net", "data_prep", "eval")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _module(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path) for path in SOURCES}
ENTRIES = {_module(path) for path in SOURCES if '__name__ == "__main__"' in path.read_text()}


def _imports(path: pathlib.Path) -> set[str]:
    """Our own modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


# Module or package -> the only modules or packages of ours that it may import.
ALLOWED = {
    "l3net.constants": [],
    "l3net.files": [],
    "l3net.log_spectrogram": ["l3net.constants"],
    "l3net.data.schema": ["l3net.constants", "l3net.errors"],
    "l3net.data.recording_lists": ["l3net.errors"],
    "l3net.data.file_kinds": [],
    "l3net.data.augment": ["l3net.constants"],
    "l3net.data.avc_pairs": ["l3net.constants"],
    "l3net.data.input_pipeline": [
        "l3net.constants", "l3net.errors", "l3net.data", "l3net.log_spectrogram",
    ],
    "l3net.data.fixed_pairs": ["l3net.constants", "l3net.errors", "l3net.data"],
    "l3net.losses": ["l3net.constants"],
    "l3net.optimization": ["l3net.constants"],
    "l3net.models": [
        "l3net.constants", "l3net.errors", "l3net.losses", "l3net.log_spectrogram", "l3net.models",
    ],
    "data_prep": [
        "l3net", "l3net.constants", "l3net.errors", "l3net.files", "l3net.html_pages",
        "l3net.data.schema", "l3net.data.recording_lists", "l3net.data.file_kinds",
        "l3net.log_spectrogram", "data_prep",
    ],
    "eval": [
        "l3net", "l3net.constants", "l3net.errors", "l3net.files", "l3net.html_pages",
        "l3net.log_spectrogram", "l3net.saved_model", "l3net.heat_map", "l3net.data", "eval",
    ],
    "eval.from_scratch": [
        "l3net", "l3net.constants", "l3net.errors", "l3net.data", "l3net.models",
        "l3net.precise_batch_norm", "eval",
    ],
}  # fmt: skip


def _within(module: str, owner: str) -> bool:
    return module == owner or module.startswith(f"{owner}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path):
    module, imports = _module(path), _imports(path)
    assert not imports & ENTRIES, "an ENTRY module is imported"
    owners = [owner for owner in ALLOWED if _within(module, owner)]
    if owners:
        allowed = ALLOWED[max(owners, key=len)]
        exact = {"l3net"}  # the package itself, not everything in it
        bad = {
            name
            for name in imports
            if not any(name == item if item in exact else _within(name, item) for item in allowed)
        }
        assert not bad, f"{module} imports {bad}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_flags_live_in_entry_modules_and_eval_flags(path):
    defines_flags = "flags.DEFINE" in path.read_text()
    assert not defines_flags or _module(path) in ENTRIES | {"eval.flags"}


def test_no_drawer_for_everything():
    assert not {path.stem for path in SOURCES} & {"utils", "common", "helpers", "misc"}


def test_functions_stay_short():
    lengths = {
        f"{_module(path)}.{node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    too_long = {name: length for name, length in lengths.items() if length > 80}
    assert not too_long, too_long
    assert statistics.median(lengths.values()) <= 15
