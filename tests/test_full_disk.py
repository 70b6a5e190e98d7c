"""Every command on a disk that is full, at once or half-way, or where it may not write."""

import pathlib

import pytest

from tests import all_commands, commands
from tests.all_commands import COMMANDS, OUT

# TensorBoard's file and a lock are there before anything is written.
_EMPTY_ALLOWED = (".lock", "tfevents")
_WITHOUT_FILES = {"verify_shards", "extract_again", "search_prune"}
# Their files are all shorter than what fits.
_SHORT = ("datasets", "curves", "claims", "seeds", "docs_tables", "extract")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> pathlib.Path:
    return all_commands.make_world(tmp_path_factory.mktemp("world"))


def _content(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(name in path.name for name in _EMPTY_ALLOWED)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "fills up", "no folder"])
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - _WITHOUT_FILES))
def test_what_cannot_be_written_is_one_line_and_leaves_nothing_half(world, tmp_path, name, kind):
    """No byte fits, or 3000 of each file (as a limit of the process), or `OUT` is a file."""
    command = COMMANDS[name]
    if kind == "no folder":
        if not any(OUT in argument for argument in command.arguments):
            pytest.skip("it writes beside what it reads")
        (tmp_path / OUT).write_text("a file")
    all_commands.copy_reads(world, command, tmp_path)
    before = _content(tmp_path)
    most = {"full": 0, "fills up": 3000}.get(kind)
    environment = all_commands.environment()
    done = commands.run(
        "-m", *command.arguments, cwd=tmp_path, env=environment, file_bytes=most, timeout=500
    )
    after = _content(tmp_path)
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    partial = [path for path in after if path.endswith(".tmp") or "-journal" in path]
    assert not partial and most not in map(len, after.values())
    if kind == "fills up" and done.returncode == 0:
        assert name.startswith(_SHORT)
        return
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and done.stderr.count("cannot write") <= 1, done.stderr
    assert kind == "fills up" or after == before
