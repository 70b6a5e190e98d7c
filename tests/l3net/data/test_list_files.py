import pytest

from l3net.data import list_files
from l3net.errors import UserError


def test_rows_and_lines_have_their_numbers(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('\ufeff# made by hand\n\na, "b,c"\n  #1,2\nd\n', encoding="utf-8")
    assert list(list_files.csv_rows(path)) == [(3, ["a", "b,c"]), (5, ["d"])]
    assert list(list_files.text_lines(path)) == [(3, 'a, "b,c"'), (5, "d")]


@pytest.mark.parametrize("read", [list_files.csv_rows, list_files.text_lines])
def test_files_that_are_no_text_are_refused(tmp_path, read):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80" * 9)
    for name in ("binary", "nowhere"):
        with pytest.raises(UserError, match=f"cannot read the list .*{name}"):
            list(read(tmp_path / name))
