import os

import pytest

from l3net.media import folders


@pytest.fixture
def tree(tmp_path):
    """A folder with links within it, in a circle, out of it, and to nothing."""
    root = tmp_path / "root"
    (root / "b" / "c").mkdir(parents=True)
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    names = ("a.wav", "b/b.wav", "b/c/c.wav", "../outside/out.wav", "../outside/deep/deep.wav")
    for name in (*names, ".hidden.wav"):
        (root / name).touch()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.wav").touch()
    (root / "0_again").symlink_to("b/c")
    (root / "b" / "c" / "up").symlink_to("../..")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out_too").symlink_to(tmp_path / "outside" / "deep")
    (root / "self").symlink_to("self")
    (root / "nowhere").symlink_to("nothing")
    (root / "file.wav").symlink_to("a.wav")
    (tmp_path / "outside" / "back").symlink_to(root)
    return root


PLAIN = ["a.wav", "file.wav", "nowhere", "self", "b/b.wav", "b/c/c.wav"]


def listed(root, may_leave):
    notes, errors = [], []
    found = folders.files_below(root, may_leave=may_leave, note=notes.append, failed=errors.append)
    return list(found), [note.replace(str(root), "ROOT") for note in notes], errors


def test_links_are_followed_and_each_folder_is_read_once(tree):
    found, notes, errors = listed(tree, may_leave=True)
    assert found == [*PLAIN, "out/out.wav", "out/deep/deep.wav"] and not errors
    assert notes == [
        "left out the link ROOT/0_again: the same folder as ROOT/b/c",
        "left out the link ROOT/out_too: the same folder as ROOT/out/deep",
        "left out the link ROOT/b/c/up: the same folder as ROOT/",
        "left out the link ROOT/out/back: the same folder as ROOT/",
    ]


def test_ways_out_are_named_where_they_are_closed(tree):
    found, notes, errors = listed(tree, may_leave=False)
    assert found == PLAIN and not errors
    assert notes == [
        "left out the link ROOT/0_again: the same folder as ROOT/b/c",
        "left out the link ROOT/out: it leads out of the folder",
        "left out the link ROOT/out_too: it leads out of the folder",
        "left out the link ROOT/b/c/up: the same folder as ROOT/",
    ]


def test_the_folder_itself_may_be_a_link(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    assert listed(tmp_path / "link", may_leave=False)[0] == PLAIN


def test_a_folder_that_cannot_be_read_is_told_and_the_others_are_listed(tree, monkeypatch):
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    found, _, errors = listed(tree, may_leave=False)
    assert found == [*PLAIN[:4], "0_again/c.wav"]
    assert [error.strerror for error in errors] == ["Permission denied"]
