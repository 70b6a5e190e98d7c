import pytest

from l3net.files import write_csv, write_whole


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
