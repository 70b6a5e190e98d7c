"""The light install: an extra is imported where it is used, and its lack is one line."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from data_prep import report, survey
from data_prep.archives import tar_files
from data_prep.shards import beam
from data_prep.survey.sample import Sampling
from eval.methods import baselines
from eval.metrics import clusters
from l3net import html_pages
from l3net.errors import UserError, needs_extra
from l3net.media import heat_map

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
    path for name in ("l3net", "data_prep", "eval") for path in (ROOT / name).rglob("*.py")
)
# What the extras bring, by the names they are imported by.
OPTIONAL = (
    "apache_beam", "cv2", "huggingface_hub", "indexed_gzip", "jinja2", "librosa", "matplotlib",
    "sklearn", "tensorflow_io",
)  # fmt: skip


def _extras() -> dict[str, str]:
    """Extra -> requirements, from setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return dict(parser["options.extras_require"])


def test_every_module_but_those_that_draw_is_imported_without_any_extra():
    drawing = {"data_prep.survey.figures", "data_prep.survey.page"}
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]
    wanted = [name for name in modules if name not in drawing and "eval.figures" not in name]
    wanted += ["eval.figures.__main__"]
    program = f"""
import importlib, sys
for name in {OPTIONAL}:
    sys.modules[name] = None
for name in {wanted}:
    importlib.import_module(name.removesuffix(".__init__"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("jinja2", "search", lambda _: html_pages.environment("l3net", extra="search")),
        ("matplotlib", "localize", lambda _: heat_map.Painter()),
        ("matplotlib", "prep", lambda path: report.main(report.Config(str(path)), Sampling())),
        ("indexed_gzip", "prep", lambda path: tar_files.opened_gzip(path).__enter__()),
        ("apache_beam", "beam", lambda _: beam._pipeline_options([])),
        ("sklearn", "eval", lambda _: baselines.classifier(baselines.FOREST, 0)),
        ("librosa", "eval", lambda _: baselines.mfcc_statistics(np.zeros(44_100, np.float32))),
        ("sklearn", "eval", lambda _: clusters.nmi(np.arange(2), np.arange(2))),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(package, extra, use, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("figures", "page"):  # as if they had not been imported yet
        monkeypatch.delitem(sys.modules, f"data_prep.survey.{name}", raising=False)
        monkeypatch.delattr(survey, name, raising=False)
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError) as raised:
        use(tmp_path)
    assert re.search(rf"{package}.*pip install 'l3net\[{extra}\]'$", str(raised.value))
    assert "\n" not in str(raised.value)


def test_a_mistake_of_another_kind_is_no_missing_extra():
    with pytest.raises(ZeroDivisionError), needs_extra("eval", "dividing"):
        _ = 1 / 0


def test_every_extra_that_is_named_exists():
    named = {
        argument.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for argument in _extra_of(node)
        if isinstance(argument, ast.Constant)
    }
    assert {"beam", "eval", "flow", "io", "localize", "prep", "search"} <= named
    assert named <= set(_extras())


def _extra_of(call: ast.Call) -> list[ast.expr]:
    if ast.unparse(call.func).endswith("needs_extra"):
        return call.args[:1]
    return [keyword.value for keyword in call.keywords if keyword.arg == "extra"]


def test_all_has_everything_that_goes_with_any_tensorflow():
    extras = _extras()
    everything = set(
        re.findall(r"[a-z_]+", extras["all"].removeprefix("l3net").replace("l3net", ""))
    )
    assert everything == set(extras) - {"all", "io", "test"}
