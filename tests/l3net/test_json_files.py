import dataclasses
import json
import os
from typing import Any

import pytest

from l3net.errors import UserError
from l3net.json_files import read_json, read_lines, read_published, write_json


@dataclasses.dataclass(frozen=True)
class Content:
    num_clips: int
    names: tuple[str, ...]
    seconds: float | None = None
    rest: dict[str, Any] = dataclasses.field(default_factory=dict)


WHOLE = {"num_clips": 3, "names": ["a", "ä"], "seconds": 1.5, "rest": {"x": [1, None]}}


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "folder" / "a.json"
    write_json(path, WHOLE)
    assert read_json(path, Content, "") == Content(3, ("a", "ä"), 1.5, {"x": [1, None]})
    assert read_json(path, dict, "") == WHOLE
    path.write_text(json.dumps({"num_clips": 3, "names": [], "more": 1}))  # by hand
    assert read_json(path, Content, "") == Content(3, ())
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json", Content, "")


@dataclasses.dataclass(frozen=True)
class Settings:
    size: int = 3
    names: tuple[str, ...] = ()


def test_a_file_of_another_kind_is_refused_where_every_member_has_a_default(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"names": ["a"], "unknown": 1})
    assert read_json(path, Settings, "") == Settings(names=("a",))
    path.write_text("{}")
    assert read_json(path, Settings, "") == Settings()
    write_json(path, {"config": {}, "config_hash": "x"})
    with pytest.raises(UserError, match="a.json is damaged .it has none of names, size.; advice"):
        read_json(path, Settings, "advice")


DAMAGES = {
    '{"num_clips": "3", "names": []}': "num_clips: expected `int`, got `str`",
    '{"names": []}': "missing required field `num_clips`",
    '{"num_clips": 3, "names": "ab"}': "names: expected `array`, got `str`",
    '{"num_clips": 3, "names": ["a", 2]}': r"names\[1\]: expected `str`, got `int`",
    '{"num_clips": 3, "names": [], "seconds": [1]}': "seconds: expected `float",
    "[3]": "[Ee]xpected `object`, got `array`",
    "": "Expecting value",
    "{": "Expecting",
    "[" * 100_000: "recursion",
    '{"num_clips": 1' + "0" * 5000 + ', "names": []}': "num_clips|digits",
    b"\xff\xfe{}".decode("latin1"): "Expecting value|codec",
}


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_is_one_line_that_names_file_and_field(tmp_path, number):
    text, reason = list(DAMAGES.items())[number]
    (tmp_path / "a.json").write_text(text, encoding="latin1")
    with pytest.raises(UserError, match=rf"a.json is damaged \(.*({reason}).*\); copy it") as error:
        read_json(tmp_path / "a.json", Content, "copy it again")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", ["pipe", "device", "folder"])
def test_what_never_ends_is_not_read(tmp_path, make):
    path = tmp_path / "a.json"
    if make == "pipe":
        os.mkfifo(path)
    elif make == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for read in (read_json, read_published):
        with pytest.raises(UserError, match="a.json.*(not a regular file|Is a directory)"):
            read(path, Content, "copy it again")
    with pytest.raises(OSError):
        read_lines(path, Content)


def test_lines_of_json(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"num_clips": 1, "names": [], "x": 5}\n{"num_clips": 2, "na')  # cut off
    assert read_lines(path, Content) == [{"num_clips": 1, "names": [], "x": 5}]
    path.write_text('{"num_clips": 1, "names": []}\n{"num_clips": "2"}\n')
    with pytest.raises(UserError, match="line 2 of .*a.jsonl is damaged .num_clips: expected"):
        read_lines(path, Content)


def test_any_changed_byte_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, WHOLE)
    whole = path.read_bytes()
    num_found = 0
    for place in range(len(whole)):
        for bit in (0, 1, 4):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert read_json(path, dict, "") in (WHOLE, {**WHOLE}) or b"checksum" not in changed
            except UserError:
                num_found += 1
    assert num_found > len(whole)
