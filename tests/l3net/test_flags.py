import dataclasses
import pathlib
import shutil
import subprocess
import sys

import pytest
from absl import flags as absl_flags

import l3net
from l3net import flags
from l3net.flags import REQUIRED, setting

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Network:
    """The network.

    More than its first line is for readers of the code.
    """

    model: str = setting("small", "Network to build.", choices=("small", "large"))
    width: float = setting(1.0, "Factor on the channels.", at_least=0.5, at_most=2.0)
    seed: int = setting(0, "Seed of the weights.", at_least=0)
    batch_size: int = setting(8, "Pairs per step.", flag="global_batch_size")
    out: str | None = setting(None, "Folder to write.")
    xla: bool = setting(False, "Compile the step.")
    flip: bool = setting(True, "Flip images.")
    parts: tuple[str, ...] = setting(("sound", "vision"), "Parts of the network to train.")
    media: list[str] = setting((), "File to read; may be repeated.", any_name=True)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The pairs."""

    shards: str = setting(REQUIRED, "Prepared folder.")
    seed: int = 3  # no flag of its own
    depth: int = 5  # of no command's flag


DEFAULT = Network(media=[])


def parse(*arguments: str):
    rest, (network, pairs) = flags.parse(["--shards=s", *arguments], Network, Pairs)
    assert not rest
    return network, pairs


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("--model=large", "model", "large"),
        ("--width=2", "width", 2.0),
        ("--global_batch_size=16", "batch_size", 16),
        ("--out=a b=c", "out", "a b=c"),
        ("--xla", "xla", True),
        ("--noflip", "flip", False),
        ("--flip=false", "flip", False),
        ("--parts=vision", "parts", ("vision",)),
        ("--parts=", "parts", ()),
        ('--parts=a,"b, c"', "parts", ("a", "b, c")),
        ("--media=a,b", "media", ["a,b"]),
    ],
)
def test_a_flag_is_a_field_and_back(argument, field, value):
    network, pairs = parse(argument)
    assert network == dataclasses.replace(DEFAULT, **{field: value})
    assert type(getattr(network, field)) is type(value)
    lines = flags.as_flagfile(network, pairs).splitlines()
    assert flags.parse(lines, Network, Pairs) == ([], [network, pairs])


def test_media_may_have_any_name():
    assert parse("--media=\udcff")[0].media == ["\udcff"]


def test_defaults_are_the_configurations_and_a_field_without_flag_takes_anothers():
    assert parse() == (DEFAULT, Pairs("s", seed=0))
    network, pairs = parse("--seed=7")
    assert (network.seed, pairs.seed, pairs.depth) == (7, 7, 5)
    assert flags.as_flagfile(network, pairs).count("seed") == 1


def test_a_flagfile_has_a_flag_a_line_and_none_for_none():
    text = flags.as_flagfile(Network(), Pairs("s"))
    assert text.startswith("--model=small\n--width=1.0\n--seed=0\n--global_batch_size=8\n--noxla\n")
    assert text.endswith("--shards=s\n") and "--out" not in text
    network, pairs = parse("--media=a", "--media=b")  # a repeated flag is a list
    assert network.media == ["a", "b"]
    lines = flags.as_flagfile(network, pairs).splitlines()
    assert flags.parse(lines, Network, Pairs)[1] == [network, pairs]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=huge"], "should be one of <small|large>"),
        (["--width=0.4"], "--width=0.4"),
        (["--width=2.1"], "2.0"),
        (["--seed=-1"], "non-negative"),
        (["--seed=x"], "--seed=x"),
        (["--xla=maybe"], "--xla=maybe"),
        (["--seeds=1"], "Did you mean: seed"),
        (["--out=a/\udcff"], "--out=a/\udcff: need a name in UTF-8"),
        (["--parts=a,\udcff"], "--parts=a,\udcff: need a name in UTF-8"),
    ],
)
def test_what_is_not_allowed_is_refused(arguments, message):
    with pytest.raises(absl_flags.Error) as error:
        parse(*arguments)
    assert message in str(error.value)
    with pytest.raises(absl_flags.Error, match="--shards is needed: "):
        flags.parse([], Network, Pairs)


COMMAND = '''"""Tries flags.

    python command.py --shards=FOLDER

prints what it got.
"""
import dataclasses, sys
from l3net import errors, flags
from l3net.flags import REQUIRED, setting

@dataclasses.dataclass(frozen=True)
class Config:
    """What to try."""
    shards: str = setting(REQUIRED, "Prepared folder.")
    steps: int = setting(2, "Number of steps, long enough to be wrapped " * 4, at_least=1)
    xla: bool = setting(False, "Compile the step.")

def main(config):
    if config.steps == 3:
        raise errors.UserError("three steps: need two")
    if config.steps == 4:
        raise KeyboardInterrupt
    sys.stdout.write(f"{config}")

def with_files(files, config):
    sys.stdout.write(f"{files} {config}")

if __name__ == "__main__":
    takes_files = sys.argv.pop(1) == "files"
    if takes_files:
        flags.run(with_files, Config, arguments="Files to read.")
    else:
        flags.run(main, Config)
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the command: in an empty folder, with this package or a copy of it on the path."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "command.py").write_text(COMMAND)

    def run_in(*arguments: str, takes: str = "nothing", package=ROOT, cwd=folder):
        command = [sys.executable, str(folder / "command.py"), takes, *arguments]
        environment = {"PYTHONPATH": str(package), "PATH": ""}
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    return run_in


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--shards=s", "--steps=0"], 2, "--steps=0"),
        ([], 2, "--shards is needed: "),
        (["--shards=s", "--stepz=1"], 2, "Did you mean: steps"),
        (["--shards=s", "--flagfile=none.flags"], 2, "no flagfile 'none.flags'"),
        (["--shards=s", "file"], 1, "unknown argument 'file'; settings are flags, see --help"),
        (["--shards=s", "--steps=3"], 1, "three steps: need two"),
        (["--shards=s", "--steps=4"], 130, "run the same command to go on"),
    ],
)
def test_mistakes_are_one_line_and_a_status(run, arguments, status, message):
    done = run(*arguments)
    assert done.returncode == status and not done.stdout
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n")


def test_a_command_gets_its_configuration_and_its_arguments(run):
    done = run("a", "--shards=s", "b", "--", "--c", takes="files")
    assert done.stdout == "['a', 'b', '--c'] Config(shards='s', steps=2, xla=False)", done.stderr


def test_help_lists_every_flag_once_with_its_default(run):
    done = run("--help", takes="files")
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith(
        "Tries flags.\n\n    python command.py --shards=FOLDER\n\nprints what it got.\n\n"
        "Arguments: Files to read.\n\nWhat to try.\n"
    )
    for name in ("shards", "steps", "xla"):
        assert done.stdout.count(f"\n  --{name}\n") == 1
    assert "Prepared folder. (required)" in done.stdout
    assert "(default: 2)" in done.stdout and "(default: off)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("flag", ["-h", "-?", "--helpshort", "--helpfull"])
def test_every_way_to_ask_for_help_succeeds(run, flag):
    done, expected = run("--steps=0", flag), run("--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, "")


def test_every_command_says_its_version(run):
    done = run("--shards=s", "--version")
    assert (done.returncode, done.stdout) == (0, f"l3net {l3net.__version__}\n")


def test_help_of_configurations_that_share_a_flag():
    text = flags.help_text("About.", (Network, Pairs, Network))
    assert text.count("\n  --seed\n") == text.count("\n  --global_batch_size\n") == 1
    assert "The network.\n" in text and "More than its first line" not in text
    assert "(one of small, large; default: small)" in text
    assert "(default: sound,vision)" in text and "(default: none)" in text
    assert "(default: on; --noflip turns it off)" in text and "--depth" not in text


def test_flagfiles_nest_and_later_lines_count(tmp_path, monkeypatch):
    (tmp_path / "inner.flags").write_text("# a comment\n\n--steps=1\n// another\n  --xla \n")
    (tmp_path / "outer.flags").write_text("--flagfile=inner.flags\n--steps=2\n")
    monkeypatch.chdir(tmp_path)
    expected = ["--steps=1", "--xla", "--steps=2", "--steps=3"]
    for given in (["--flagfile=outer.flags"], ["--flagfile", "outer.flags"]):
        assert flags.expand_flagfiles([*given, "--steps=3"]) == expected
    monkeypatch.chdir("/")  # nested ones are found beside the file that names them
    assert flags.expand_flagfiles([f"--flagfile={tmp_path}/outer.flags"]) == expected[:3]
    assert flags.expand_flagfiles(["--", "--flagfile=x"]) == ["--", "--flagfile=x"]


@pytest.mark.parametrize("name", [path.name for path in sorted(flags.CONFIGS.glob("*.flags"))])
def test_the_packages_own_are_found_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = flags.expand_flagfiles([f"--flagfile=l3net/configs/{name}"])
    assert "--weight_decay=1e-5" in lines  # of common.flags, nested into all
    assert lines == flags.expand_flagfiles([f"--flagfile={name}"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("itself.flags", "--flagfile=itself.flags\n", "itself.flags contains itself"),
        ("circle.flags", "--flagfile=back.flags\n", "circle.flags contains itself"),
        ("missing.flags", "--flagfile=none.flags\n", "no flagfile 'none.flags'; ours are in"),
        ("bytes.flags", b"\xff\xfe", "bytes.flags: not a text file"),
        ("near.flags", "--flagfile=small_ave_nets.flags\n", r"\(small_ave_net.flags, "),
    ],
)
def test_a_flagfile_that_cannot_be_read_is_refused(tmp_path, name, text, message):
    (tmp_path / "back.flags").write_text("--flagfile=circle.flags\n")
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(absl_flags.Error, match=message):
        flags.expand_flagfiles([f"--flagfile={tmp_path / name}"])


def test_an_installed_package_finds_its_flagfiles_outside_the_repository(run, tmp_path):
    installed = tmp_path / "site-packages"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "l3net", installed / "l3net", ignore=ignored)
    configs = installed / "l3net" / "configs"
    (configs / "inner.flags").write_text("--steps=7\n")
    (configs / "outer.flags").write_text("--flagfile=l3net/configs/inner.flags\n--xla\n")
    for path in ("outer.flags", "l3net/configs/outer.flags"):
        done = run("--shards=s", f"--flagfile={path}", package=installed, cwd=tmp_path)
        assert done.stdout == "Config(shards='s', steps=7, xla=True)", done.stderr
