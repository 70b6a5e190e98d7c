import html.parser
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from eval import results_page
from eval.figures import drawings
from eval.reporting import tables
from l3net.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--allow-file-access-from-files"),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("page")
    rows = [
        tables.Row("<b>made up</b>", "Ours", tables.RUN, {"accuracy": 81.7}, {"accuracy": 12.34}),
        tables.Row("ESC-50", "Ours", tables.NOT_RUN, {"accuracy": 79.3}),
    ]
    metrics = [tables.Metric("accuracy", "accuracy %")]
    table = tables.Table("table2", "A table of everything", metrics, rows, ["A note"])
    tables.write_table(table, folder / "tables", flags={"seed": 7, "out_dir": "x"}, seconds=3)
    four = [
        tables.Metric(name, name, decimals=3) for name in ("im-im", "im-aud", "aud-im", "aud-aud")
    ]
    numbers, errors = ({metric.key: value for metric in four} for value in (0.567, 0.012))
    note = (
        "l3_net_ots, 3500 steps, on demo; 128 components from 50000 training pairs, regularisation"
    )
    measured = (tables.RUN, numbers, numbers, f"{note} {note}")
    row = tables.Row("audioset, 4300 clips", "L3-Net with CCA", *measured, errors=errors)
    wide = tables.Table("retrieval", "As many columns as OTS Table 1", four, [row], ["A note"])
    tables.write_table(wide, folder / "tables", flags={"seed": 7, "out_dir": "x"}, seconds=3)
    drawing = drawings.new_figure(9, 3)
    drawing.subplots().plot([1, 2])
    sound = drawings.Sound("a tone", np.zeros(4800, np.float32))
    subject = drawings.Subject("one", "One", "L3 Fig. 3")
    made = drawings.Drawing(subject, "A caption.", drawing, [sound])
    entry = drawings.write(made, folder / "drawn")
    subject = drawings.Subject("two", "Two", "OTS Fig. 5")
    missing = drawings.not_run(subject, "no --avol_saved_model was given")
    drawings.write_list([entry, missing], folder / "drawn")
    config = results_page.Config(
        tables=(str(folder / "tables"),),
        figures=str(folder / "drawn"),
        out_dir=str(folder / "report"),
        title="All results",
    )
    return results_page.write_page(config)


def test_the_page_has_the_papers_numbers_beside_ours_and_says_what_was_not_run(page):
    text = page.read_text()
    assert "<td" in text and ">81.7<" in text and ">12.3<" in text
    assert "&lt;b&gt;made up&lt;/b&gt;" in text and "<b>made up" not in text
    assert "All results" in text and "A note" in text and "seed 7" in text
    assert text.count("make reproduce-table4") == 1  # a table that is not there
    assert "OTS Fig. 5, Two: not run; no --avol_saved_model was given" in text
    assert ">not run<" in text  # a row that was not run


def test_tables_of_one_name_are_all_shown(page):
    folder = page.parent.parent / "tables"
    shown = results_page.read_tables([folder, folder])
    assert not shown["table2"]["missing"] and shown["table2-2"] == shown["table2"]


class Addresses(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


def test_everything_the_page_shows_is_beside_it(page, tmp_path):
    copy = tmp_path / "sent"
    shutil.copytree(page.parent, copy)
    parser = Addresses()
    parser.feed(page.read_text())
    files = [a for a in parser.addresses if not a.startswith(("#", "data:"))]
    assert {pathlib.Path(a).suffix for a in files} == {".png", ".pdf", ".flac"}
    assert all((copy / address).is_file() for address in files)
    assert "http" not in page.read_text().replace("http-equiv", "")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
@pytest.mark.parametrize("width_px", [1300, 390])
def test_a_browser_shows_it_without_errors(page, tmp_path, width_px):
    # In a frame: a window of Chromium's own cannot be as narrow as a telephone. Pictures that wait
    # until they are scrolled to would not be there at the end of loading.
    eager = page.with_name("eager.html")
    eager.write_text(page.read_text().replace(' loading="lazy"', ""))
    (tmp_path / "frame.html").write_text(
        f"""<iframe id="f" src="{eager.as_uri()}" width="{width_px}" height="800"></iframe>
        <script>window.onload = () => {{
          const page = document.getElementById("f").contentDocument;
          const root = page.documentElement;
          document.title = JSON.stringify({{
            too_wide: root.scrollWidth - root.clientWidth,
            rows: page.querySelectorAll("tbody tr").length,
            pictures: [...page.images].filter((image) => image.naturalWidth > 0).length,
            players: page.querySelectorAll("audio").length,
            hidden: [...page.querySelectorAll(".scroll")].map((e) => e.scrollWidth - e.clientWidth),
            heights: [...page.querySelectorAll("tbody tr")].map((e) => e.clientHeight),
            scrolls: getComputedStyle(page.querySelector(".scroll")).overflowX,
            note_to: page.querySelector(".beneath div").getBoundingClientRect().right,
          }});
        }};</script>"""
    )
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}",
         "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    shown = json.loads(done.stdout.partition("<title>")[2].partition("</title>")[0])
    hidden, heights = shown.pop("hidden"), shown.pop("heights")
    assert shown.pop("note_to") < width_px  # a long note is in view at any width
    assert shown == {"too_wide": 0, "rows": 4, "pictures": 1, "players": 1, "scrolls": "auto"}
    assert max(heights) < 140  # no row is stretched by a narrow note
    if width_px > 1000:
        assert hidden == [0, 0]  # nothing is cut off


def test_nothing_to_show_and_a_damaged_table_are_one_line(tmp_path):
    config = results_page.Config(tables=(str(tmp_path),), out_dir=str(tmp_path / "report"))
    with pytest.raises(UserError, match="make reproduce-all figures"):
        results_page.write_page(config)
    assert not (tmp_path / "report").exists()
    (tmp_path / "table2.json").write_text("{")
    with pytest.raises(UserError, match=r"table2\.json is damaged .*is no table"):
        results_page.read_tables([tmp_path])
