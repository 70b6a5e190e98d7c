"""Every command of this package under one name.

    l3net extract --saved_model=runs/x/saved_model --out_dir=features recordings/
    l3net extract --help

`l3net NAME` is `python -m l3net.NAME`, or `python -m data_prep.NAME` of those that prepare data;
`python -m l3net NAME` is the same.
"""

import ast
import difflib
import importlib.util
import pathlib
import runpy
import sys

import l3net
from l3net.flags import HELP_FLAGS, VERSION_FLAG

_PACKAGES = ("l3net", "data_prep")  # eval runs from a clone and is no part of the wheel


def main() -> None:
    """Runs the command that the first argument names; exit status 2 if there is none such."""
    found = commands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in HELP_FLAGS:
        sys.stdout.write(_help(found))
    elif name == VERSION_FLAG:
        sys.stdout.write(f"l3net {l3net.__version__}\n")
    elif name in found:
        del sys.argv[1]
        # As `python -m` does; nothing of the other commands has been imported.
        runpy.run_module(found[name], run_name="__main__", alter_sys=True)
    else:
        near = difflib.get_close_matches(name, found, n=1) or ["extract"]
        sys.stderr.write(
            f"error: no command {name!r}; l3net --help lists them (l3net {near[0]}, …)\n"
        )
        sys.exit(2)


def commands() -> dict[str, str]:
    """Returns command -> module: the modules in the packages' own folders that can be run."""
    return {
        path.stem: f"{package}.{path.stem}"
        for package in _PACKAGES
        for path in sorted(_folder(package).glob("*.py"))
        if '\nif __name__ == "__main__":' in path.read_text()
    }


def _folder(package: str) -> pathlib.Path:
    spec = importlib.util.find_spec(package)
    return pathlib.Path(spec.origin).parent if spec and spec.origin else pathlib.Path()


def _help(found: dict[str, str]) -> str:
    """Returns what --help prints: each command with its docstring's first line, none imported."""
    parts = [(__doc__ or "").strip()]
    for package in _PACKAGES:
        lines = [f"python -m {package}.NAME:"]
        for name, module in found.items():
            if module == f"{package}.{name}":
                text = (_folder(package) / f"{name}.py").read_text()
                about = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
                lines.append(f"  {name:15} {about}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
