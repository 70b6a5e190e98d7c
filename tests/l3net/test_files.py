import errno
import os
import resource
import subprocess
import sys

import pytest

from l3net import files
from l3net.errors import UserError
from l3net.files import (
    CannotWriteError,
    disk_errors,
    locked,
    temporary_name,
    write_csv,
    write_whole,
)


def test_half_written_files_are_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "a.json"
    write_whole(path, "old")

    def fail(*args):
        raise KeyboardInterrupt

    with pytest.raises(TypeError):
        write_whole(path, 3.0)
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_text_is_utf8_and_bytes_are_themselves(tmp_path):
    write_whole(tmp_path / "text", b"replaced")
    write_whole(tmp_path / "text", "§ 3")
    write_whole(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "§ 3".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"


def test_csv_is_lines_of_cells_quoted_where_need_be(tmp_path):
    write_csv(tmp_path / "t.csv", ["a", "b"], [(1, "x, y"), ("", 'z"')])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n1,"x, y"\n,"z"""\n'
    path = tmp_path / "old.csv"  # stays when a row fails
    write_csv(path, ["a"], [[1]])
    with pytest.raises(ZeroDivisionError):
        write_csv(path, ["a"], ([1 // k] for k in (1, 0)))
    assert path.read_bytes() == b"a\n1\n" and len(list(tmp_path.iterdir())) == 2


def test_what_a_full_disk_refuses_is_one_line_and_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_whole(tmp_path / "a", "old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a full disk: no more bytes
    try:
        with pytest.raises(CannotWriteError, match="cannot write .*a: File too large; make room"):
            write_whole(tmp_path / "a", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_libraries_say_it_in_words_of_their_own(number):
    line = f"cannot write x: .*{os.strerror(number)}"
    with pytest.raises(CannotWriteError, match=line), disk_errors("x"):
        raise RuntimeError(f"Error opening '/a/b': {os.strerror(number)}")
    with pytest.raises(CannotWriteError), disk_errors("x"):
        raise OSError(number, os.strerror(number))


def test_a_file_in_the_way_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="cannot write .*Not a directory|File exists"):
        write_whole(tmp_path / "file" / "a", "text")


def test_what_is_read_is_not_taken_for_what_is_written(tmp_path):
    with pytest.raises(PermissionError), disk_errors(tmp_path / "out" / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "in" / "b"))
    with pytest.raises(ValueError), disk_errors("x"):
        raise ValueError("something else")


def test_a_long_name_and_one_that_is_no_text_can_be_written(tmp_path):
    for name in ("ä" * 127, "a" * 255, os.fsdecode(b"\xff" * 250)):
        write_whole(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_temporary_name_is_drawn(tmp_path):
    names = {temporary_name(tmp_path / "a") for _ in range(9)}
    assert len(names) == 9 and {name.parent for name in names} == {tmp_path}


LOCK = """
import sys
from l3net.files import locked
with locked(sys.argv[1]):
    print("has it", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_killed_one_leaves_no_lock(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", LOCK, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"has it\n"
        line = "another process is at work in .*run; wait for it"
        with pytest.raises(UserError, match=line), locked(folder):
            pass
        process.kill()
    with locked(folder):
        (folder / "work").touch()
    assert (folder / "work").exists()


def test_a_folder_that_nothing_came_into_does_not_stay(tmp_path):
    with pytest.raises(ValueError), locked(tmp_path / "run"):
        raise ValueError
    assert not (tmp_path / "run").exists()


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, caplog):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with locked(tmp_path):
        pass
    assert "has no locks (No locks available): see to it" in caplog.text
