import os
import pathlib
import subprocess
import sys

import pytest

import l3net
from l3net import cli

ROOT = pathlib.Path(__file__).parents[2]
# What no --help of these may import; that of others needs it to know their flags.
HEAVY = {"tensorflow", "keras"}


def run(*arguments: str, module: str = "l3net") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def imported_by(*arguments: str) -> set[str]:
    """Returns the packages that `l3net` with these arguments has imported when it ends well."""
    program = "\n".join(
        [
            "import sys; from l3net import cli",
            "cli.main()",
            "sys.stderr.write(' '.join({name.split('.')[0] for name in sys.modules}))",
        ]
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_commands_are_all_that_can_be_run():
    found = cli.commands()
    assert found["extract"] == "l3net.extract" and found["write_shards"] == "data_prep.write_shards"
    runnable = {
        f"{package}.{path.stem}"
        for package in ("l3net", "data_prep")
        for path in (ROOT / package).glob("*.py")
        if "flags.run(" in path.read_text() and path.stem not in ("flags", "cli")
    }
    assert set(found.values()) == runnable and len(found) == len(runnable)


def test_help_names_every_command_and_imports_none():
    for arguments in (["--help"], ["--helpfull"], []):
        done = run(*arguments)
        assert done.returncode == 0 and not done.stderr
        for name, module in cli.commands().items():
            (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"  {name} ")]
            text = (ROOT / f"{module.replace('.', '/')}.py").read_text()
            assert line.split(maxsplit=1)[1] in text
    assert not imported_by("--help") & {*HEAVY, "numpy"}


@pytest.mark.parametrize("name", ["extract", "localize", "search"])
def test_help_of_what_reads_files_imports_no_tensorflow(name):
    assert not imported_by(name, "--help") & HEAVY


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"l3net {l3net.__version__}\n")


def test_a_command_runs_as_its_module_does():
    arguments = ["--dataset=folder", "--media_dir=none", "--manifest=none.csv"]
    ours, its = run("datasets", *arguments), run(*arguments, module="data_prep.datasets")
    assert ours.returncode == its.returncode == 1
    assert ours.stderr == its.stderr and ours.stderr.startswith("error: ")


def test_an_unknown_command_is_one_line_and_a_status():
    done = run("extracts", "--help")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == (
        "error: no command 'extracts'; l3net --help lists them (l3net extract, …)\n"
    )


def test_another_backend_of_keras_is_one_line():
    command = [sys.executable, "-m", "l3net.train", "--help"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: got KERAS_BACKEND='jax'; l3net needs tensorflow")
    assert done.stderr.count("\n") == 1
