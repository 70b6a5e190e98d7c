"""Configurations become flags: a field is a flag, its help text is written once.

    @dataclasses.dataclass(frozen=True)
    class Config:
        '''Where the figures go.'''

        out_dir: str = setting(REQUIRED, "Folder for the figures.")
        seed: int = setting(0, "Seed of everything that is drawn.", at_least=0)

    def main(config: Config) -> None: ...

    if __name__ == "__main__":
        flags.run(main, Config)

A field made without `setting` is no flag of its own, but takes the value of another configuration's
flag of the same name, if the command has one.
"""

import atexit
import csv
import dataclasses
import difflib
import io
import itertools
import logging
import os
import pathlib
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags as absl_flags
from absl import logging as absl_logging

from l3net import __version__
from l3net.errors import UserError
from l3net.files import disk_errors, is_utf8

REQUIRED = dataclasses.MISSING
CONFIGS = pathlib.Path(__file__).parent / "configs"
HELP_FLAGS = {"-h", "-?", "-help", "--help", "--helpshort", "--helpfull"}
VERSION_FLAG = "--version"
_HELP_COLUMNS = 96
_INTERRUPTED = 130


def setting(
    default: Any,
    help_text: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    flag: str | None = None,
    any_name: bool = False,
) -> Any:
    """Makes a field of a configuration that is a flag as well.

    Args:
        default: the value without the flag, `REQUIRED` for none.
        help_text: full phrases that make sense alone: meaning, unit, the papers' value.
        choices: the allowed strings.
        at_least: the smallest allowed number.
        at_most: the largest allowed number.
        flag: the flag's name where it differs from the field's.
        any_name: may name files whose names are not UTF-8, for TensorFlow does not open them.
    """
    metadata = {
        "help": help_text,
        "choices": choices,
        "at_least": at_least,
        "at_most": at_most,
        "flag": flag,
        "any_name": any_name,
    }
    return dataclasses.field(default=default, metadata=metadata)


# --- A command -----------------------------------------------------------------------------------
def run(main: Callable[..., object], *configs: type, arguments: str | None = None) -> None:
    """Runs a command: reads its flags, logs to stderr, turns errors for people into one line.

    Exit status: 0 done, --help or --version; 1 a `UserError`; 2 unusable flags; 130 by Ctrl-C; 143
    by SIGTERM.

    Args:
        main: takes an instance of each configuration; before them the list of arguments that are
            no flags, if the command takes any.
        *configs: frozen dataclasses.
        arguments: what those arguments are, for --help; None if the command takes none.
    """
    _show_own_logs()
    try:
        if HELP_FLAGS & set(sys.argv[1:]):
            sys.stdout.write(help_text(sys.modules["__main__"].__doc__ or "", configs, arguments))
            return
        if VERSION_FLAG in sys.argv[1:]:
            sys.stdout.write(f"l3net {__version__}\n")
            return
        rest, given = parse(sys.argv[1:], *configs)
        if rest and arguments is None:
            raise UserError(f"unknown argument {rest[0]!r}; settings are flags, see --help")
        with disk_errors("results"):
            main(*([] if arguments is None else [rest]), *given)
    except absl_flags.Error as error:
        _exit(2, f"{' '.join(str(error).split())} (--help lists the flags)")
    except UserError as error:
        _exit(error.status, str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _exit(UserError.status, f"{os.fsdecode(error.filename)}: {error.strerror}")
    except KeyboardInterrupt:
        _exit(_INTERRUPTED, "interrupted; finished work is kept, run the same command to go on")


def _show_own_logs() -> None:
    """Shows what our packages log; of TensorFlow and others only warnings."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    for package in ("__main__", "l3net", "data_prep", "eval"):
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
        logger.propagate = False


def _exit(status: int, message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    if status > 128:  # by a signal: at once, without half a minute of TensorFlow's clearing up
        sys.stdout.flush()
        atexit._run_exitfuncs()
        os._exit(status)
    sys.exit(status)


# --- Flags to configurations and back ------------------------------------------------------------
def parse(command_line: Sequence[str], *configs: type[Any]) -> tuple[list[str], list[Any]]:
    """Reads a command line.

    Args:
        command_line: without the program's name.
        *configs: frozen dataclasses.

    Returns:
        The arguments that are no flags, and an instance of each configuration.

    Raises:
        absl.flags.Error: if a flag is unknown, lacks a value or has one that is not allowed.
    """
    values = absl_flags.FlagValues()
    for config in configs:
        hints = typing.get_type_hints(config)
        for name, field in _flags_of(config):
            if name not in values:
                _define(values, name, field, hints[field.name])
    rest = values(["", *expand_flagfiles(command_line)])[1:]
    for config in configs:
        for name, field in _flags_of(config):
            value = values[name].value
            if field.default is REQUIRED and value is None:
                raise absl_flags.Error(f"--{name} is needed: {field.metadata['help']}")
            text = ",".join(value) if isinstance(value, list) else str(value)
            if not field.metadata["any_name"] and not is_utf8(text):
                raise absl_flags.Error(
                    f"--{name}={text}: need a name in UTF-8, TensorFlow opens no other; rename it"
                )
    return rest, [_instance(config, values) for config in configs]


def as_flagfile(*given: Any) -> str:
    """Returns the flagfile that gives these configurations again, a flag a line."""
    lines: dict[str, list[str]] = {}
    for config in given:
        hints = typing.get_type_hints(type(config))
        for name, field in _flags_of(type(config)):
            value = getattr(config, field.name)
            lines.setdefault(name, _lines(name, value, hints[field.name]))
    return "".join(f"{line}\n" for line in itertools.chain(*lines.values()))


def _lines(name: str, value: Any, hint: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no{name}"]
    if hint == list[str]:
        return [f"--{name}={one}" for one in value]
    if isinstance(value, tuple):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(value)  # an item may hold a comma
        return [f"--{name}={text.getvalue()}"]
    return [f"--{name}={value}"]


def _flags_of(config: type) -> Iterator[tuple[str, dataclasses.Field]]:
    for field in dataclasses.fields(config):
        if "help" in field.metadata:
            yield field.metadata["flag"] or field.name, field


def _define(values: absl_flags.FlagValues, name: str, field: dataclasses.Field, hint: Any) -> None:
    kind: Any
    limits: dict[str, Any]
    if field.metadata["choices"] is not None and hint != tuple[str, ...]:
        kind, limits = absl_flags.DEFINE_enum, {"enum_values": list(field.metadata["choices"])}
    else:
        kind, limits = _KINDS[_without_none(hint)], {}
        if kind in (absl_flags.DEFINE_integer, absl_flags.DEFINE_float):
            limits = {
                "lower_bound": field.metadata["at_least"],
                "upper_bound": field.metadata["at_most"],
            }
    default = None if field.default is REQUIRED else field.default
    if isinstance(default, tuple):
        default = list(default)
    kind(
        name,
        default=default,
        help=field.metadata["help"],
        flag_values=values,
        **limits,
    )


_KINDS = {
    bool: absl_flags.DEFINE_bool,
    int: absl_flags.DEFINE_integer,
    float: absl_flags.DEFINE_float,
    str: absl_flags.DEFINE_string,
    tuple[str, ...]: absl_flags.DEFINE_list,
    list[str]: absl_flags.DEFINE_multi_string,
}


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(kind for kind in hint.__args__ if kind is not types.NoneType)
    return hint


def _instance(config: type[Any], values: absl_flags.FlagValues) -> Any:
    given, hints = {}, typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        name = field.metadata.get("flag") or field.name
        if name in values:
            value: Any = values[name].value
            is_tuple = hints[field.name] == tuple[str, ...]
            given[field.name] = tuple(value) if is_tuple else value
    return config(**given)


# --- Flagfiles -----------------------------------------------------------------------------------
def expand_flagfiles(command_line: Sequence[str]) -> list[str]:
    """Puts the lines of each --flagfile in its place; nested ones, too.

    A flagfile is looked for from the working directory, beside the flagfile that names it, and by
    its file name among the package's own (l3net/configs), so `l3net/configs/small_l3_net.flags`
    and `small_l3_net.flags` are found from anywhere.

    Raises:
        absl.flags.Error: if there is no such file, or it contains itself.
    """
    return list(_expanded(list(command_line), ()))


def _expanded(lines: list[str], inside: tuple[pathlib.Path, ...]) -> Iterator[str]:
    left = iter(lines)
    for line in left:
        if line == "--" and not inside:
            yield from [line, *left]
            return
        name, equals, path = line.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            yield line
            continue
        file = _find_flagfile(path if equals else next(left, ""), inside)
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise absl_flags.Error(f"cannot read --flagfile={file}: {reason}") from error
        if file.resolve() in inside:
            raise absl_flags.Error(f"--flagfile={file} contains itself")
        stripped = [line.strip() for line in text.splitlines()]
        kept = [line for line in stripped if line and not line.startswith(("#", "//"))]
        yield from _expanded(kept, (*inside, file.resolve()))


def _find_flagfile(path: str, inside: tuple[pathlib.Path, ...]) -> pathlib.Path:
    candidates = [pathlib.Path(path), *(file.parent / path for file in inside[-1:])]
    candidates += [CONFIGS.parents[1] / path, CONFIGS / pathlib.Path(path).name]
    for candidate in candidates:
        if path and candidate.is_file():
            return candidate
    own = sorted(file.name for file in CONFIGS.glob("*.flags"))
    near = difflib.get_close_matches(pathlib.Path(path).name, own, n=3) or own[:3]
    raise absl_flags.Error(
        f"no flagfile {path!r}; ours are in l3net/configs ({', '.join(near)}, …)"
    )


# --- Help ----------------------------------------------------------------------------------------
def help_text(about: str, configs: Sequence[type], arguments: str | None = None) -> str:
    """Returns what --help prints.

    Args:
        about: the command's docstring.
        configs: its configurations; each is a section under the first line of its docstring.
        arguments: what is given beside flags; None for nothing.
    """
    parts, seen = [about.strip()], set()
    if arguments is not None:
        parts.append(f"Arguments: {arguments}")
    for config in configs:
        items = []
        for name, field in _flags_of(config):
            if name not in seen:
                seen.add(name)
                items.append(_help_item(name, field))
        if items:
            parts.append("\n".join([(config.__doc__ or "").strip().splitlines()[0], *items]))
    return "\n\n".join(parts) + "\n"


def _help_item(name: str, field: dataclasses.Field) -> str:
    default = field.default
    if default is REQUIRED:
        value = "required"
    elif isinstance(default, tuple | list):
        value = f"default: {','.join(default) or 'none'}"
    elif isinstance(default, bool):
        value = f"default: on; --no{name} turns it off" if default else "default: off"
    else:
        value = f"default: {'none' if default is None else default}"
    if field.metadata["choices"] is not None:
        value = f"one of {', '.join(field.metadata['choices'])}; {value}"
    text = f"{field.metadata['help']} ({value})"
    indent = " " * 6
    wrapped = textwrap.fill(
        text,
        _HELP_COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"  --{name}\n{wrapped}"
