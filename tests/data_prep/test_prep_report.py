import base64
import configparser
import dataclasses
import fnmatch
import html.parser
import io
import pathlib

import PIL.Image
import pytest

from data_prep.shards import config as prep_config
from data_prep.survey import figures
from data_prep.survey import page as report_page
from data_prep.survey.page import write_report
from data_prep.survey.sample import Sampling
from l3net.data.markers import OUTCOMES_FILE, marker_path
from l3net.errors import UserError
from tests import commands
from tests.conftest import make_video
from tests.tiny_folders import prepare, write_folder
from tests.tiny_shards import make_clip

REPOSITORY = pathlib.Path(__file__).parents[2]
SCRIPT = "<script>alert(1)</script>.mp4"
HANDLER = '"><img src=x onerror=alert(1)>.mp4'
STYLE = "</style></title>{{ 7 * 7 }}&amp;'\""
VOID = {"meta", "link", "img", "br", "source"}


@pytest.fixture
def drawn() -> None:
    """Asked for by tests that look at pictures: for all others none are drawn, to save time."""


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
    if "drawn" not in request.fixturenames:
        blank = figures.Picture("data:,", "data:,", 1, 1)
        monkeypatch.setattr(figures, "_picture", lambda draw, size: blank)


class Page(html.parser.HTMLParser):
    """What a browser would see: elements, their attributes, texts and tables."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.elements, self.texts, self.tables, self._open = [], [], [], []
        self.feed(path.read_text())
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"{tag} closes another element"

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts.append(" ".join(data.split()))
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += " ".join(data.split())

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.texts))

    def table(self, *heads: str) -> list[list[str]]:
        """Returns the rows under the only table that begins with these column names."""
        (table,) = [t for t in self.tables if tuple(t[0][: len(heads)]) == heads]
        return table[1:]

    @property
    def addresses(self) -> list[str]:
        return [
            attributes[key]
            for _, attributes in self.elements
            for key in ("src", "srcset", "href")
            if key in attributes
        ]


def page_of(folder: pathlib.Path, **settings) -> Page:
    return Page(write_report(folder, Sampling(**settings)))


def check_harmless(page: Page) -> None:
    """No script, no handler, no style or address from outside the template."""
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "svg"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert all(address.startswith("data:") for address in page.addresses)
    (policy,) = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in policy


# --- A folder that write_shards made --------------------------------------------------------------
@pytest.fixture(scope="module")
def real(tmp_path_factory) -> pathlib.Path:
    videos, out_dir = (tmp_path_factory.mktemp(name) for name in ("videos", "shards"))
    for name in (SCRIPT, "good.mp4"):
        path = videos / name
        path.parent.mkdir(exist_ok=True)
        make_video(path, seconds=1.2, picture="testsrc=s=88x64:r=25")
    make_video(videos / HANDLER, seconds=1.2, sound=None)
    (videos / "text.mp4").write_text("no video")
    prepare(out_dir=out_dir, videos_dir=videos, num_workers=1, smallest_side_px=64)
    return out_dir


def test_report_of_a_real_folder(real):
    page = page_of(real, num_clips=5)
    check_harmless(page)
    outcomes = page.table("split", "rows")
    assert outcomes[0][:7] == ["train", "4", "2", "1", "1", "50.0 %", "2.4 s"]
    assert outcomes[1][0] == "all"
    failed, skipped = ["failed", "not_media", "1", "1"], ["skipped", "no_audio", "1", "1"]
    assert page.table("outcome", "reason") == [failed, skipped]
    assert page.table("width x height, px") == [["88 x 64", "2", "100.0 %", ""]]
    rows = [row for table in page.tables if table[0][0] == "video" for row in table[1:]]
    assert [row[0] for row in rows] == ["text.mp4", HANDLER]
    assert "unfinished" not in page.text
    assert "a sample" not in page.text
    # Hostile file names are shown as they are.
    assert page.texts.count(SCRIPT) == 1  # the head of its clip
    assert HANDLER in page.texts
    alts = [attributes.get("alt", "") for tag, attributes in page.elements if tag == "img"]
    assert len([alt for alt in alts if SCRIPT in alt]) == 2
    settings = dict(row for table in page.tables for row in table if len(row) == 2)
    assert settings["dataset_name"] == "videos"
    assert settings["prep_version"] == prep_config.PREP_VERSION
    assert settings["num_shards"] == "train 1"
    assert {"ffmpeg_version", "config_hash", "manifest_hash"} <= settings.keys()


def test_the_command(real):
    command = ["-m", "data_prep.report", f"--shards_dir={real}", "--num_clips=1"]
    (real / report_page.REPORT_FILE).unlink(missing_ok=True)
    done = commands.run(*command, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "2 clips of videos -> " in done.stderr
    assert "1 clip, drawn at random" in Page(real / report_page.REPORT_FILE).text


# --- Folders made of numbers ---------------------------------------------------------------------
def folder_of(tmp_path, clips: int = 3, **settings) -> pathlib.Path:
    members = [make_clip(index, seconds=1.0, labels=("Dog",)) for index in range(1, clips + 1)]
    return write_folder(tmp_path / "shards", {"train": members}, **settings)


def test_hostile_labels_and_ids_are_escaped(tmp_path):
    words = {"example_id": STYLE + "1", "data_path": STYLE + "2", "labels": (STYLE + "3", SCRIPT)}
    row = {"example_id": STYLE + "4", "split": "train", "outcome": "failed", "reason": "decode"}
    row["detail"] = SCRIPT + "5"
    folder = write_folder(tmp_path, {"train": [make_clip(1, **words)]}, others=[row])
    page = page_of(folder, num_clips=1)
    check_harmless(page)
    for word in (STYLE + "1", STYLE + "2", STYLE + "3", STYLE + "4", SCRIPT, SCRIPT + "5"):
        assert word in page.texts, word
    assert [row[0] for row in page.table("label")] == sorted([STYLE + "3", SCRIPT])


def test_labels_are_counted_per_split(tmp_path):
    def clips(*labels):
        return [make_clip(i, seconds=1.0, labels=names) for i, names in enumerate(labels)]

    members = {"train": clips(("Dog",), ("Dog", "Cat"), ()), "test": clips(("Dog",))}
    page = page_of(write_folder(tmp_path, members), num_clips=0)
    assert page.table("label") == [
        ["Dog", "1", "2", "3", "", "3"],  # splits by name: test, train
        ["Cat", "0", "1", "1", "", "1"],
    ]
    assert "1 of 4 clips have none" in page.text


def test_only_so_many_labels_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "_MAX_LABELS", 2)
    clip = make_clip(1, labels=("a", "b", "c"))
    page = page_of(write_folder(tmp_path, {"train": [clip]}), num_clips=0)
    assert len(page.table("label")) == 2
    assert "The 2 most frequent of 3 labels" in page.text


def test_many_frame_sizes_are_summed_up(tmp_path):
    clips = [make_clip(i, seconds=1.0, size_px=(32, 32 + 2 * i)) for i in range(13)]
    page = page_of(write_folder(tmp_path, {"train": clips}), num_clips=0)
    sizes = page.table("width x height, px")
    assert len(sizes) == 11
    assert sizes[-1][:3] == ["3 others", "3", "23.1 %"]


def test_pictures_and_frames_are_whole(tmp_path, drawn):
    page = page_of(folder_of(tmp_path), num_clips=3)
    sizes = []
    for address in page.addresses:
        head, _, data = address.partition(";base64,")
        if data:
            with PIL.Image.open(io.BytesIO(base64.b64decode(data)), formats=("PNG", "JPEG")) as im:
                im.load()
                sizes.append((head, im.size))
    assert sizes.count(("data:image/jpeg", (72, 64))) == 3
    assert len([head for head, _ in sizes if head == "data:image/png"]) == 2 * (3 + 3)


def test_silence_and_clipping_are_reported(tmp_path):
    loud = make_clip(1, seconds=1.0)
    loud.waveform[10:20] = 32767
    silent = make_clip(0, seconds=1.0)
    silent.waveform[:] = 0
    page = page_of(write_folder(tmp_path, {"train": [loud, silent]}), num_clips=2)
    assert [row[:3] for row in page.table("", "number")] == [
        ["silent clips", "1", "2"],
        ["silent seconds", "1", "2"],
        ["clips that reach full scale", "1", "2"],
        ["clips that clip", "1", "2"],
    ]
    assert "digital silence, frame at" in page.text
    assert f"Silent: {silent.example_id} . --skip_silent" in page.text
    assert "peak 0.0 dBFS" in page.text


def test_an_unfinished_folder_is_reported(tmp_path):
    folder = folder_of(tmp_path, num_shards=2)
    marker_path(folder / "synthetic-train-00001-of-00002").unlink()
    (folder / OUTCOMES_FILE).unlink()
    page = page_of(folder, num_clips=9)
    assert "This folder is unfinished. 1 of 2 shards are finished" in page.text
    assert "outcomes.csv is not written yet" in page.text
    assert page.table("split", "rows")[0][:3] == ["train", "2", "2"]


def test_a_sample_is_reported(tmp_path):
    folder = folder_of(tmp_path, num_shards=3)
    page = page_of(folder, num_clips=9, max_clips=1, seed=4)
    assert "come from 1 of 3 clips: those of 1 of 3 shards, drawn with seed 4" in page.text


def test_no_clips_and_no_labels(tmp_path):
    page = page_of(write_folder(tmp_path, {"train": [make_clip(1)]}), num_clips=0)
    assert "None were wanted" in page.text
    assert "The clips have no labels" in page.text
    assert "Every row gave a clip" in page.text


def test_the_same_bytes_again(tmp_path, drawn):
    folder = folder_of(tmp_path, clips=6)
    first = write_report(folder, Sampling(num_clips=1)).read_bytes()
    assert write_report(folder, Sampling(num_clips=1)).read_bytes() == first
    assert write_report(folder, Sampling(num_clips=1, seed=1)).read_bytes() != first


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    folder = folder_of(tmp_path)
    (folder / report_page.REPORT_FILE).mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=r"cannot write .*report\.html"):
        write_report(folder, Sampling(num_clips=0))
    assert sorted(folder.iterdir()) == before
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="is no folder of shards"):
        write_report(tmp_path / "none", Sampling())
    assert list((tmp_path / "none").iterdir()) == []


def test_a_frame_that_is_no_jpeg_is_named(tmp_path):
    picture = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(picture, "PNG")
    clip = make_clip(1)
    frames = (picture.getvalue(),) * len(clip.frames)
    folder = write_folder(tmp_path, {"train": [dataclasses.replace(clip, frames=frames)]})
    with pytest.raises(UserError, match=r"clip clip0001: the frame at .* s is no JPEG"):
        write_report(folder, Sampling(num_clips=1))
    assert not (folder / report_page.REPORT_FILE).exists()


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (
            report_page._size,
            {0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 99_949: "99.9 kB", 99_950: "100 kB",
             999_499: "999 kB", 999_500: "1.0 MB", 5.6e6: "5.6 MB", 1.234e15: "1234 TB"},
        ),
        (report_page._duration, {9.96: "10.0 s", 150: "2.5 min", 36e6: "10,000.0 h"}),
        (report_page._decimal, {-0.003: "0.0", -60.51: "−60.5", 4.79: "4.8"}),
    ],
)  # fmt: skip
def test_numbers_in_words(words, numbers):
    assert {number: words(number) for number in numbers} == numbers


def test_the_template_is_installed():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    package, patterns = REPOSITORY / "data_prep", config["options.package_data"]["data_prep"]
    names = {path.relative_to(package).as_posix() for path in package.rglob("*.j2")}
    installed = [fnmatch.filter(names, pattern) for pattern in patterns.split()]
    assert names and names == set().union(*installed)
