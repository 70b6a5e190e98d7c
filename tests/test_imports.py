"""Who may import whom (CONTRIBUTING.md): read from the source of every module, none is exempt."""

import ast
import pathlib
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("l3net", "data_prep", "eval")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# A room -> the rooms that its modules may import, besides each other. The first that fits counts.
GROUND = [
    "l3net.cli", "l3net.constants", "l3net.errors", "l3net.files", "l3net.flags",
    "l3net.html_pages", "l3net.json_files", "l3net.log_spectrogram", "l3net.npz_files",
    "l3net.progress", "l3net.provenance",
]  # fmt: skip
SETS = ["eval.sets", "eval.reporting"]
METHODS = ["eval.methods", "eval.metrics", *SETS]
LIBRARY = ["l3net.data", "l3net.inference", "l3net.media"]
ROOMS = {
    **dict.fromkeys(GROUND, GROUND),
    "l3net.models": GROUND,
    "l3net.data": GROUND,
    "l3net.media": GROUND,
    "l3net.training": [*GROUND, "l3net.data", "l3net.models"],
    "l3net.inference": [*GROUND, "l3net.data", "l3net.media", "l3net.models"],
    "l3net": [*GROUND, "l3net.data", "l3net.models", "l3net.media", "l3net.training",
              "l3net.inference"],
    "data_prep.archives": [*GROUND, "l3net.media"],
    "data_prep.parallel": GROUND,
    "data_prep.lists": [*GROUND, "l3net.data", "l3net.media", "data_prep.archives"],
    "data_prep.shards": [*GROUND, "l3net.data", "l3net.media", "data_prep.archives",
                         "data_prep.lists", "data_prep.parallel"],
    "data_prep.survey": [*GROUND, "l3net.data", "l3net.media", "data_prep.lists",
                         "data_prep.shards"],
    "data_prep.demo_data": [*GROUND, "l3net.data", "l3net.media", "data_prep.lists",
                            "data_prep.parallel"],
    "data_prep.av_digits": [*GROUND, "l3net.data", "l3net.media", "data_prep.lists",
                            "data_prep.demo_data", "data_prep.parallel"],
    "data_prep": [*GROUND, "l3net.data", "l3net.media", "data_prep.lists", "data_prep.parallel",
                  "data_prep.shards",
                  "data_prep.survey", "data_prep.demo_data", "data_prep.av_digits"],
    "eval.reporting": [*GROUND, *LIBRARY],
    "eval.sets": [*GROUND, *LIBRARY, "eval.reporting"],
    "eval.metrics": [*GROUND, *LIBRARY, *SETS],
    "eval.methods": [*GROUND, *LIBRARY, "eval.metrics", *SETS],
    "eval.figures": [*GROUND, *LIBRARY, *METHODS],
    "eval": [*GROUND, *LIBRARY, *METHODS, "eval.figures"],
}  # fmt: skip


def _module(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path) for path in SOURCES}
DOORS = {_module(path) for path in SOURCES if '\nif __name__ == "__main__"' in path.read_text()}


def _imports(path: pathlib.Path) -> set[str]:
    """Our own modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in MODULES else node.module)
    # The package l3net itself holds nothing but its version and a variable of the environment.
    return {name for name in names if name.split(".")[0] in PACKAGES and name != "l3net"}


def _within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_its_own_room_and_those_below(path):
    module = _module(path)
    room = max((room for room in ROOMS if _within(module, room)), key=len)
    # A door or a shim in a package's own folder is no room for the others in that folder.
    allowed = ROOMS[room] if room in PACKAGES else [*ROOMS[room], room]
    wrong = {name for name in _imports(path) if not any(_within(name, allow) for allow in allowed)}
    assert not wrong, f"{module} (in {room}) imports {sorted(wrong)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_imports_a_door(path):
    assert not _imports(path) & DOORS


def test_absl_flags_are_read_in_one_module():
    reads = {_module(path) for path in SOURCES if "from absl import" in path.read_text()}
    assert reads == {"l3net.flags"}


def test_no_drawer_for_everything():
    assert not {path.stem for path in SOURCES} & {"utils", "common", "helpers", "misc"}


def test_tests_build_on_no_other_test_module():
    wrong = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        if name.startswith("tests.") and name.rsplit(".", 1)[-1].startswith("test_")
    }
    assert not wrong


FUNCTIONS = {
    f"{_module(path)}.{node.name}": node
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef)
}


def test_functions_stay_short():
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in FUNCTIONS.items()}
    assert not {name: length for name, length in lengths.items() if length > 70}
    deciles = statistics.quantiles(lengths.values(), n=10)
    assert statistics.median(lengths.values()) <= 12 and deciles[-1] <= 33


# They take openl3's parameters in openl3's order.
OPENL3S = {f"l3net.inference.embeddings.get_{kind}_embedding" for kind in ("audio", "image")}


def test_functions_take_at_most_eight_parameters():
    counts = {
        name: len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
        for name, node in FUNCTIONS.items()
    }
    assert {name for name, count in counts.items() if count > 8} <= OPENL3S
