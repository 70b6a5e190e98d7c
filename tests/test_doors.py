"""Every command's --help: each flag once, full phrases that make sense alone."""

import ast
import importlib
import pathlib
import re

import pytest

from l3net import flags

ROOT = pathlib.Path(__file__).parents[1]
DOORS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("l3net", "data_prep", "eval")
    for path in (ROOT / package).rglob("*.py")
    if '\nif __name__ == "__main__"' in path.read_text()
}


def _configurations(door: str) -> list[type]:
    """Returns what the door's last lines give `flags.run` behind `main`."""
    calls = [
        node
        for node in ast.walk(ast.parse(DOORS[door].read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "flags.run"
    ]
    assert len(calls) == 1
    module = vars(importlib.import_module(door))
    return [eval(ast.unparse(argument), dict(module)) for argument in calls[0].args[1:]]


@pytest.mark.parametrize("door", DOORS)
def test_every_flag_is_explained_in_full_phrases(door):
    configs = _configurations(door)
    text = flags.help_text(importlib.import_module(door).__doc__, configs)
    names = re.findall(r"^  --(\w+)$", text, re.M)
    assert names and len(names) == len(set(names))
    for config in configs:
        for name, field in flags._flags_of(config):
            words = field.metadata["help"]
            assert name in names
            assert re.match(r"(?!Of )[^a-z\s].* .* .*[.)]$", words, re.S), f"--{name}: {words!r}"


def test_a_flag_shared_by_commands_means_the_same_everywhere():
    helps: dict[tuple[str, str], set[str]] = {}
    for door in DOORS:
        for config in _configurations(door):
            for name, field in flags._flags_of(config):
                helps.setdefault((config.__module__, name), set()).add(field.metadata["help"])
    assert all(len(texts) == 1 for texts in helps.values())
