"""Archives as sources of videos: what is read of them, what is refused, what is kept."""

import contextlib
import errno
import gzip
import io
import os
import pathlib
import random
import shutil
import tarfile
import tracemalloc
import zipfile

import pytest

from data_prep.archives import member_copies, member_index, tar_files, zip_files
from data_prep.archives.member_index import Index
from data_prep.archives.members import Damage, Member, checked_name
from data_prep.lists import dataset_rows, make_manifest, manifest
from data_prep.lists.media_files import MediaFiles, find
from l3net.errors import UserError
from l3net.media.ffmpeg import MediaError
from l3net.media.file_kinds import VIDEO
from tests import tiny_folders
from tests.tiny_archives import (
    KINDS,
    archive_bytes,
    change_field,
    claim_of_a_terabyte,
    header,
    hostile_members,
    tar_bytes,
    without_end,
    write,
    zip_bytes,
)

RNG = random.Random(0)
FILES = [(f"clips/{k}.mp4", RNG.randbytes(700 + 700 * k)) for k in range(6)]
kinds = pytest.mark.parametrize("kind", KINDS)


def needs(kind: str) -> None:
    if kind == "tar.gz":
        pytest.importorskip("indexed_gzip")


def indexed(path: pathlib.Path, folder: pathlib.Path) -> MediaFiles:
    folder.mkdir(exist_ok=True)
    return find(path, "videos").indexed(folder)


def content(files: MediaFiles, path: str) -> bytes:
    with files.opened(path) as copy:
        assert copy.suffix == pathlib.PurePosixPath(path).suffix
        return copy.read_bytes()


def failure(files: MediaFiles, path: str) -> tuple[str, str]:
    with pytest.raises(MediaError) as caught:
        content(files, path)
    assert caught.value.outcome == "failed"
    return caught.value.reason, caught.value.detail


def videos(files: MediaFiles) -> list[str]:
    return list(files.paths(VIDEO))


def listed(members) -> tuple[list[Member], str]:
    """Returns what can be read, and why no more."""
    found = []
    try:
        found.extend(members)
    except Damage as error:
        return found, str(error)
    return found, ""


def members_of(kind: str, data: bytes):
    module = zip_files if kind == "zip" else tar_files
    return module.members(io.BytesIO(gzip.decompress(data) if kind == "tar.gz" else data))


# --- The same as loose files ---------------------------------------------------------------------
def test_a_mixture_gives_the_shards_of_the_loose_files(tiny_videos, tiny_shards, tmp_path):
    needs("tar.gz")
    names = sorted(path.name for path in tiny_videos.glob("*.mp4"))
    files = [(name, (tiny_videos / name).read_bytes()) for name in names]
    mixed, other = tmp_path / "mixed", tmp_path / "other"
    write(mixed / "loose.json", b"{}")
    for name, data in files[:2]:
        write(mixed / name, data)
    # A WebDataset: each video with what belongs to it.
    beside = [(f"{name[:-4]}.{kind}", b"{}") for name, _ in files[2:4] for kind in ("json", "txt")]
    write(mixed / "00000.tar", tar_bytes(sorted(files[2:4] + beside), hostile_members()))
    write(mixed / "part.tgz", archive_bytes("tar.gz", files[4:6]))
    write(other / "last.zip", zip_bytes(files[6:]))
    write(other / "notes.txt", b"no archive")
    write(tmp_path / "out" / ".member-0123456789abcdef.mp4", b"left by a run that was killed")
    settings = {"manifest": tiny_videos / "manifest.csv", "dataset_name": "tiny", "num_shards": 2}
    settings |= {"videos_dir": f"{mixed},{other}/*.zip", "num_workers": 1}
    tiny_folders.prepare(out_dir=tmp_path / "out", **settings)
    assert tiny_folders.contents(tmp_path / "out") == tiny_folders.contents(tiny_shards)
    hidden = {path.name for path in (tmp_path / "out").glob(".*")}
    assert hidden == {".lock", member_index.FILE}
    assert not list(tmp_path.glob("**/out.mp4")) and not pathlib.Path("/tmp/out.mp4").exists()


@kinds
def test_a_member_is_the_file_that_unpacking_would_give(kind, tmp_path):
    needs(kind)
    write(tmp_path / "videos" / "part" / f"x.{kind}", archive_bytes(kind, FILES))
    files = indexed(tmp_path / "videos", tmp_path / "out")
    assert videos(files) == [f"part/{name}" for name, _ in FILES]
    for name, data in FILES:
        assert content(files, f"part/{name}") == data
        assert content(files, f"./part//{name}") == data
        assert files.num_bytes(f"part/{name}") == len(data)
    assert not list((tmp_path / "out").glob(member_copies.LEFTOVERS))
    rows = manifest.rows_from_files(files)
    assert [row.media_id for row in rows] == videos(files)
    # An archive alone is unpacked nowhere in particular.
    alone = indexed(tmp_path / "videos" / "part" / f"x.{kind}", tmp_path / "alone")
    assert videos(alone) == [name for name, _ in FILES]
    assert failure(alone, "clips/9.mp4") == ("missing", "No such file or directory")
    words = "leads out of the folder of the videos"
    assert failure(alone, "../x.mp4") == failure(files, "/etc/passwd") == ("refused", words)


@kinds
def test_a_manifest_is_made_of_archives(kind, tmp_path):
    needs(kind)
    names = ["a/AAAAAAAAAAA_000030_000040.mp4", "a/BBBBBBBBBBB_000001_000011.mp4"]
    data = archive_bytes(kind, [(names[0], b"video"), (names[1], b""), ("a/note.json", b"{}")])
    write(tmp_path / "videos" / f"x.{kind}", data)
    list_ = write(tmp_path / "vggsound.csv", b"AAAAAAAAAAA,30,dog,train\nBBBBBBBBBBB,1,cat,test\n")
    request = dataset_rows.Request(media_dir=tmp_path / "videos", lists=(str(list_),))
    config = make_manifest.Config("vggsound", tmp_path / "new" / "manifest.csv")
    result = make_manifest.make_manifest(config, request)
    assert [row.path for row in result.rows] == names[:1]
    assert [(item.reason, item.detail) for item in result.missing] == [("empty file", names[1])]
    # write_shards takes over what is known.
    (tmp_path / "out").mkdir()
    taken = find(tmp_path / "videos", "videos").indexed(tmp_path / "out", [tmp_path / "new"])
    assert content(taken, names[0]) == b"video"


def test_archives_are_not_read_where_every_file_is_there(tiny_videos, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(tiny_videos, folder)
    write(folder / "broken.tar", b"no archive")
    settings = {"manifest": folder / "manifest.csv", "smallest_side_px": 16, "max_seconds": 1}
    tiny_folders.prepare(out_dir=tmp_path / "out", frame_rate_hz=1, num_workers=1, **settings)
    assert not (tmp_path / "out" / member_index.FILE).exists()


# --- Hostile members -----------------------------------------------------------------------------
def test_hostile_members_are_left_out(tmp_path, caplog):
    data = tar_bytes(FILES, hostile_members(), encoding="utf-8", errors="surrogateescape")
    write(tmp_path / "x.tar", data)
    files = indexed(tmp_path / "x.tar", tmp_path / "out")
    assert videos(files) == [name for name, _ in FILES]
    assert "left out 11 members; the first: '../out.mp4': leads out" in caplog.text
    for name in ("link.mp4", "hard.mp4"):
        assert failure(files, name) == ("refused", "a link")
    for name in ("tty.mp4", "disk.mp4", "pipe.mp4", "odd.mp4"):
        assert failure(files, name) == ("refused", "not a regular file")
    assert failure(files, "out.mp4")[0] == "missing"


@pytest.mark.parametrize("name", ["..", "a/..", "../a", "/", "/a", "", ".", "a\0b", "\udcff"])
def test_a_name_that_no_file_can_have(name):
    assert checked_name(name)[0] == "" != checked_name(name)[1]


def test_a_folder_may_have_any_name_an_archive_in_it_one_in_utf8(tmp_path, caplog):
    folder = tmp_path / os.fsdecode(b"\xff #?%41")
    folder.mkdir()
    write(folder / "x.tar", tar_bytes(FILES))
    for path in (folder, folder / "x.tar"):
        files = indexed(path, folder / "out")
        assert videos(files) == [name for name, _ in FILES]
        assert content(files, FILES[0][0]) == FILES[0][1]
    write(tmp_path / "\udcfe.tar", tar_bytes(FILES))
    assert not find(tmp_path, "videos").archives  # nor the other, whose path there is not UTF-8
    assert "left out '\\udcfe.tar' in " in caplog.text
    with pytest.raises(UserError, match="its name is not UTF-8; rename it"):
        find(tmp_path / "\udcfe.tar", "videos")


def test_odd_names_are_names():
    names = {"./a//b": "a/b", "..a/b..": "..a/b..", "a\\b": "a\\b", "ü": "ü", "x:|y": "x:|y"}
    assert {name: checked_name(name) for name in names} == {k: (v, "") for k, v in names.items()}
    assert checked_name("a" * 5000)[0] == ""


def test_the_last_file_of_a_name_counts_and_the_first_archive(tmp_path, caplog):
    twice = [("a.mp4", b"first"), ("a.mp4", b"second"), ("b.mp4", b"b")]
    link = header("a.mp4", type=tarfile.SYMTYPE, linkname="b.mp4")
    write(tmp_path / "videos" / "1.tar", tar_bytes(twice, [link]))
    write(tmp_path / "videos" / "2.zip", zip_bytes([("a.mp4", b"other"), ("c.mp4", b"zip")]))
    write(tmp_path / "videos" / "c.mp4", b"loose")
    files = indexed(tmp_path / "videos", tmp_path / "out")
    assert sorted(set(videos(files))) == ["a.mp4", "b.mp4", "c.mp4"]
    assert content(files, "a.mp4") == b"second"
    assert "1 files are in several archives" in caplog.text
    with files.opened("c.mp4") as path:
        assert path == tmp_path / "videos" / "c.mp4"
    assert len(list(manifest.rows_from_files(files))) == 3


def test_a_terabyte_that_is_not_there(tmp_path, caplog):
    data = without_end(tar_bytes(FILES)) + claim_of_a_terabyte() + tar_bytes([("after.mp4", b"x")])
    write(tmp_path / "x.tar", data)
    files = indexed(tmp_path / "x.tar", tmp_path / "out")
    assert videos(files) == [name for name, _ in FILES]
    assert "what can be read of it is taken: cut off in 'huge.mp4', after 6 members" in caplog.text
    # Somebody hears of it: the archive has a row of its own, which fails.
    assert [row.path for row in manifest.rows_from_files(files)][-1] == "x.tar"
    assert failure(files, "x.tar") == ("damaged", "cut off in 'huge.mp4', after 6 members")


def test_a_terabyte_of_zeros_in_a_tar_gz(tmp_path, monkeypatch):
    needs("tar.gz")
    monkeypatch.setattr(tar_files, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    zeros = tar_bytes([("a.mp4", b"a"), ("zeros.mp4", bytes(30 << 20)), ("b.mp4", b"b")])
    write(tmp_path / "x.tar.gz", gzip.compress(zeros))
    files = indexed(tmp_path / "x.tar.gz", tmp_path / "out")
    assert videos(files) == ["a.mp4"]
    words = "'zeros.mp4' of 31457280 bytes is too much for its archive, after 1 members"
    assert failure(files, "x.tar.gz") == ("damaged", words)


@pytest.mark.parametrize(
    ("where", "reason", "words"),
    [
        ((b"PK\1\2", 24, "<L", 1 << 30), "refused", "times what is stored"),
        ((b"PK\1\2", 24, "<L", 100), "damaged", "x.zip: its content is cut off or damaged"),
        ((b"PK\1\2", 16, "<L", 7), "damaged", "x.zip: its content is cut off or damaged"),
        ((b"PK\1\2", 20, "<L", 20), "damaged", "x.zip: its content is cut off or damaged"),
        ((b"PK\1\2", 42, "<L", 3), "damaged", "x.zip: no member where the directory says"),
        ((b"PK\1\2", 42, "<L", 1 << 31), "refused", "at 2147483648, beyond the archive"),
        ((b"PK\1\2", 8, "<H", 1), "refused", "encrypted"),
        ((b"PK\1\2", 10, "<H", 14), "refused", "compressed by method 14"),
        ((b"PK\1\2", 38, "<L", 0o120777 << 16), "refused", "a link"),
        ((b"PK\1\2", 38, "<L", 0o20777 << 16), "refused", "not a regular file"),
    ],
)
def test_a_zip_that_lies(where, reason, words, tmp_path):
    data = zip_bytes([("good.mp4", b"good"), ("bad.mp4", b"bad" * 1000)])
    write(tmp_path / "x.zip", change_field(data, *where))
    files = indexed(tmp_path / "x.zip", tmp_path / "out")
    assert content(files, "good.mp4") == b"good"
    got, detail = failure(files, "bad.mp4")
    assert got == reason and words in detail
    assert not list((tmp_path / "out").glob(member_copies.LEFTOVERS))


def test_a_large_member_is_refused_before_it_is_copied(tmp_path, monkeypatch):
    write(tmp_path / "x.tar", tar_bytes(FILES))
    monkeypatch.setattr(tar_files, "MAX_MEMBER_BYTES", 4000)
    files = indexed(tmp_path / "x.tar", tmp_path / "out")
    assert videos(files) == [name for name, _ in FILES[:5]]
    assert failure(files, FILES[5][0]) == ("refused", "4200 bytes; at most 4000 are read")


@pytest.mark.parametrize("size", [-512, -(1 << 40), -1])
def test_a_negative_size_ends_the_archive(size):
    # tarfile of Python 3.11.7 goes back in the file and never ends.
    block = bytearray(header("a.mp4").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    data = without_end(tar_bytes(FILES)) + bytes(block) + bytes(1024)
    found, damage = listed(tar_files.members(io.BytesIO(data)))
    assert [member.name for member in found] == [name for name, _ in FILES]
    assert "after 6 members" in damage


def test_headers_that_claim_too_much_take_no_memory():
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        block = header("x", 1 << 30, type=kind).tobuf(tarfile.GNU_FORMAT)
        found, damage = listed(tar_files.members(io.BytesIO(block + bytes(4096))))
        assert not found and damage == "a header is too large, after 0 members"
    chain = header("x", 512, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) + bytes(512)
    assert "after 0 members" in listed(tar_files.members(io.BytesIO(chain * 3000)))[1]


# --- Damage --------------------------------------------------------------------------------------
@kinds
def test_a_cut_archive_gives_what_is_there(kind, tmp_path):
    needs(kind)
    data = archive_bytes(kind, FILES)
    for share in (0.0, 0.1, 0.35, 0.6):
        cut = write(tmp_path / f"{share}" / f"x.{kind}", data[: int(share * len(data))])
        files = indexed(cut, cut.parent / "out")
        found = videos(files)
        assert found == [name for name, _ in FILES[: len(found)]] and len(found) < 6
        assert bool(found) == (share > 0 and kind != "zip")  # whose directory is at its end
        for name, complete in FILES[: len(found)]:
            assert content(files, name) == complete
        if share:
            assert failure(files, f"x.{kind}")[0] == "damaged"


@kinds
def test_damage_of_any_byte_is_no_surprise(kind):
    data = archive_bytes(kind, FILES)
    if kind == "tar.gz":
        data = gzip.decompress(data)
    offsets = [512 + 700 * k for k in range(8)] + list(range(len(data) - 1500, len(data)))
    for seed in range(400):
        rng, changed = random.Random(seed), bytearray(data)
        for _ in range(rng.choice((1, 3))):
            place = rng.choice(offsets) if seed % 2 else rng.randrange(len(data))
            changed[min(place + rng.randrange(200), len(data) - 1)] = rng.choice((0, 255, 0x37))
        found, _ = listed(members_of("zip" if kind == "zip" else "tar", bytes(changed)))
        for member in found:
            assert member.num_bytes >= 0 and ".." not in member.name.split("/")
            if kind == "zip" and not member.refusal:
                with contextlib.suppress(Damage, OSError):
                    for piece in zip_files.content(io.BytesIO(changed), member):
                        assert len(piece) <= 1 << 20


@kinds
def test_damage_in_the_middle_keeps_what_is_before(kind, tmp_path, monkeypatch):
    needs(kind)
    # Of a .tar.gz, what is up to this far before the damage is lost, too.
    monkeypatch.setattr(tar_files, "_LEAST_SPACING_BYTES", 1 << 16)
    large = [(name, RNG.randbytes(300_000)) for name, _ in FILES]
    data = bytearray(archive_bytes(kind, large))
    middle = len(data) // 2 + 50_000
    data[middle : middle + 300_000] = bytes(300_000)
    write(tmp_path / f"x.{kind}", bytes(data))
    files = indexed(tmp_path / f"x.{kind}", tmp_path / "out")
    assert content(files, FILES[1][0]) == large[1][1]
    if kind == "zip":  # its directory is well, its CRC finds the damage
        assert failure(files, FILES[3][0])[0] == "damaged"
        assert content(files, FILES[5][0]) == large[5][1]
    else:
        assert failure(files, f"x.{kind}")[0] == "damaged"


def test_what_is_no_archive_is_one_outcome(tmp_path):
    for name in ("text.tar", "text.zip", "text.tgz"):
        write(tmp_path / "videos" / name, b"no archive at all" * 99)
    files = indexed(tmp_path / "videos", tmp_path / "out")
    assert [row.path for row in manifest.rows_from_files(files)] == [
        *("text.tar", "text.tgz", "text.zip")
    ]
    assert failure(files, "text.zip")[0] == failure(files, "text.tar")[0] == "damaged"
    with pytest.raises(UserError, match=r"no clip came out of 3 rows \(3 failed damaged\)"):
        settings = {"videos_dir": tmp_path / "videos", "num_workers": 1}
        tiny_folders.prepare(out_dir=tmp_path / "out", **settings)


# --- Zips of many makers -------------------------------------------------------------------------
def zip_variants() -> dict[str, bytes]:
    streamed = io.BytesIO()
    with zipfile.ZipFile(streamed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment" + bytes(30)
        for name, data in FILES:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
        archive.writestr("ordner/", b"")
        archive.writestr("Grüße/日本.mp4", b"\0" * 5000)
    stored = zip_bytes(FILES, zipfile.ZIP_STORED)
    return {"stored": stored, "streamed": streamed.getvalue(), "in front": b"#!/bin/sh\n" + stored}


@pytest.mark.parametrize("name", ["stored", "streamed", "in front"])
def test_a_zip_is_read_as_zipfile_reads_it(name):
    data = zip_variants()[name]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        expected = {each: archive.read(each) for each in archive.namelist() if each[-1] != "/"}
    found, damage = listed(zip_files.members(io.BytesIO(data)))
    got = {each.name: b"".join(zip_files.content(io.BytesIO(data), each)) for each in found}
    assert got == expected and not damage


def test_a_zip_of_many_members_is_read_as_well(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)  # where its end has another form
    data = zip_bytes(FILES)
    assert b"PK\6\6" in data
    found, damage = listed(zip_files.members(io.BytesIO(data)))
    assert [member.name for member in found] == [name for name, _ in FILES] and not damage


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_are_read_in_little_memory(kind):
    data = archive_bytes(kind, [(f"{number:05d}.mp4", b"") for number in range(3000)])
    members = members_of(kind, data)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    assert sum(1 for _ in members) == 3000
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes - before < 400_000


# --- The index -----------------------------------------------------------------------------------
def test_an_index_is_made_once_and_an_archive_that_changed_read_again(tmp_path, monkeypatch):
    for name in ("1", "2"):
        write(tmp_path / "v" / f"{name}.tar", tar_bytes([(f"{name}.mp4", b"old")]))
    indexed(tmp_path / "v", tmp_path / "out")
    read = []
    members = tar_files.members
    monkeypatch.setattr(tar_files, "members", lambda file: read.append(file.name) or members(file))
    files = indexed(tmp_path / "v", tmp_path / "out")
    assert not read
    write(tmp_path / "v" / "2.tar", tar_bytes([("2.mp4", b"changed")]))
    words = "2.tar: changed since its index was made; run the same command again"
    assert failure(files, "2.mp4") == ("damaged", words)
    files = indexed(tmp_path / "v", tmp_path / "out")
    assert [os.path.basename(name) for name in read] == ["2.tar"]
    assert content(files, "2.mp4") == b"changed" and content(files, "1.mp4") == b"old"
    # One goes, one comes, one moves: paths follow.
    (tmp_path / "v" / "2.tar").unlink()
    write(tmp_path / "v" / "0.zip", zip_bytes([("0.mp4", b"zip")]))
    (tmp_path / "v" / "sub").mkdir()
    (tmp_path / "v" / "1.tar").rename(tmp_path / "v" / "sub" / "1.tar")
    assert videos(indexed(tmp_path / "v", tmp_path / "out")) == ["0.mp4", "sub/1.mp4"]


def test_an_interrupted_index_goes_on(tmp_path, monkeypatch):
    for name in ("1", "2", "3"):
        write(tmp_path / "v" / f"{name}.tar", tar_bytes([(f"{name}.mp4", b"x")]))
    read = []
    members = tar_files.members

    def interrupted(file):
        read.append(os.path.basename(file.name))
        if len(read) == 2:
            raise KeyboardInterrupt
        return members(file)

    monkeypatch.setattr(tar_files, "members", interrupted)
    with pytest.raises(KeyboardInterrupt):
        indexed(tmp_path / "v", tmp_path / "out")
    assert not (tmp_path / "out" / member_index.FILE).exists()
    assert len(videos(indexed(tmp_path / "v", tmp_path / "out"))) == 3
    assert read == ["1.tar", "2.tar", "2.tar", "3.tar"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [member_index.FILE]


def test_an_archive_that_the_disk_refuses_is_read_again(tmp_path, monkeypatch, caplog):
    write(tmp_path / "x.tar", tar_bytes(FILES))

    def refuse(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
        yield

    monkeypatch.setattr(tar_files, "members", refuse)
    files = indexed(tmp_path / "x.tar", tmp_path / "out")
    assert failure(files, "x.tar") == ("damaged", "Input/output error")
    assert "what can be read of it is taken: Input/output error" in caplog.text
    monkeypatch.undo()
    assert len(videos(indexed(tmp_path / "x.tar", tmp_path / "out"))) == 6


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_index_is_made_again(damage, tmp_path):
    write(tmp_path / "x.tar", tar_bytes(FILES))
    for name in ("", ".partial"):
        write(tmp_path / "out" / f"{member_index.FILE}{name}", damage)
    assert len(videos(indexed(tmp_path / "x.tar", tmp_path / "out"))) == 6
    write(tmp_path / "out" / member_index.FILE, damage)
    with pytest.raises(
        UserError, match="index of archives .*; delete it and run the same"
    ) as caught:
        Index(tmp_path / "out" / member_index.FILE)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_a_source_is_one_line(tmp_path):
    write(tmp_path / "x.mp4", b"")
    with pytest.raises(UserError, match=r"x\.mp4: need a folder, or an archive: \.tar, \.tar\.gz"):
        find(tmp_path / "x.mp4", "videos")
    with pytest.raises(UserError, match=r"videos folder .*\*\.tar does not exist"):
        find(f"{tmp_path},{tmp_path}/*.tar", "videos")


def test_of_two_folders_the_first_counts(tmp_path, caplog):
    for name in ("1", "2"):
        write(tmp_path / name / "a.mp4", name.encode())
    write(tmp_path / "2" / "b.mp4", b"b")
    files = find(f"{tmp_path}/1,{tmp_path}/2", "videos")
    assert sorted(videos(files)) == ["a.mp4", "b.mp4"]
    assert content(files, "a.mp4") == b"1" and content(files, "b.mp4") == b"b"
    assert "1 files are in several folders; those of the first count" in caplog.text


def test_a_link_to_an_archive_that_leads_out_is_left_out(tmp_path, caplog):
    write(tmp_path / "other.tar", tar_bytes(FILES))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "x.tar").symlink_to(tmp_path / "other.tar")
    (tmp_path / "videos" / "y.tar").symlink_to(tmp_path / "nowhere.tar")
    assert not find(tmp_path / "videos", "videos").archives
    assert "x.tar: leads out of the folder of the videos" in caplog.text
    # Who names it wants it, as in the cache of a hub.
    assert [each.label for each in find(tmp_path / "videos" / "x.tar", "videos").archives] == [
        "x.tar"
    ]
