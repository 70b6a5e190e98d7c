"""What the README says of our results, put together from docs/evidence.md and demo_results.md."""

import re
import textwrap

from eval.reporting import paper_values
from eval.reporting.paper_values import AUDIOSET, IMAGENET, KINETICS
from l3net.errors import UserError

# What is measured; the table's name in the results; its row; the column's heading; the paper's
# table, data set and metric.
_AVC_L3, _AVC_OTS = (("avc_accuracy", data, "accuracy") for data in (KINETICS, AUDIOSET))
_IM_AUD, _HITS = ("retrieval", AUDIOSET, "im_aud"), ("localization", AUDIOSET, "hits")
ROWS = (
    ("AVC accuracy %, supervised direct", "networks", "Supervised direct", "accuracy %", _AVC_L3),
    ("AVC accuracy %, L3-Net as in OTS", "networks", "L3-Net, as in OTS", "accuracy %", _AVC_OTS),
    ("AVC accuracy %, AVE-Net", "networks", "AVE-Net", "accuracy %", _AVC_OTS),
    ("AVC accuracy %, AVOL-Net", "networks", "AVOL-Net", "accuracy %", _AVC_OTS),
    (
        *("Images classified %, L3-Net (L3 Table 3)", "table3", "Ours", "top-1 accuracy %"),
        ("table3", IMAGENET, "accuracy"),
    ),
    (
        *("Image finds sound, nDCG@30, L3-Net (OTS Table 1)", "retrieval", "L3-Net", "im-aud"),
        _IM_AUD,
    ),
    ("Image finds sound, nDCG@30, AVE-Net", "retrieval", "AVE-Net", "im-aud", _IM_AUD),
    (
        *("Localization hits %, image centre (OTS §4.1)", "localization", "Image centre"),
        *("hits %", _HITS),
    ),
    ("Localization hits %, AVOL-Net", "localization", "AVOL-Net", "hits %", _HITS),
)
# Results on real material: what is measured; the table's name in docs/evidence.md; how the name of
# its data begins; the column's heading; the rows to show.
_PAIRS, _CLIPS = "AVC accuracy % (chance 50)", "Image finds sound, nDCG@30"
_SOUNDS, _PHOTOS = "Sounds classified %", "Photographs classified %"
_UNTRAINED = ("Ours random", "l3_net_ots untrained, batch norm identity")
_NETWORKS = (*_UNTRAINED, "Ours", "l3_net_ots trained on demo")
_FULL_WIDTH = (
    "Ours random",
    "l3_net untrained, batch norm identity",
    "l3_net_ots untrained, batch norm of real_videos",
    "l3_net_ots untrained, batch norm identity",
)
EVIDENCE = (
    (_PAIRS, "digits_networks", "", "accuracy %", ("L3-Net, as in OTS", "AVE-Net", "AVOL-Net")),
    (
        *(_CLIPS, "digits_retrieval", "", "im-aud"),
        ("Random chance", "L3-Net", "L3-Net with CCA", "AVE-Net"),
    ),
    ("Localization hits %", "digits_localization", "", "hits %", ("Image centre", "AVOL-Net")),
    (_SOUNDS, "sounds", "spoken digits", "accuracy %", ("SVM-MFCC", "Random Forest", *_NETWORKS)),
    (_SOUNDS, "sounds", "ESC-10", "accuracy %", ("SVM-MFCC", "Random Forest", *_NETWORKS)),
    (_SOUNDS, "sounds", "ESC-50", "accuracy %", ("SVM-MFCC", "Random Forest", *_NETWORKS)),
    (f"{_SOUNDS}, the papers' width", "esc50", "", "accuracy %", _FULL_WIDTH),
    (
        *(_PHOTOS, "photographs", "", "top-1 accuracy %"),
        (*_NETWORKS, "Ours, trained from scratch"),
    ),
)
# What data_prep.demo was made with so that the effects exist; see docs/measurements.md.
GIVEN = (
    "The demo data was made so that these effects exist in it: its labels are coarse (three "
    "families of classes), which leaves L3-Net something to learn that they do not say; objects "
    "are cut off by the border, so that the image centre is not always right; a camera ticks "
    "faintly with every frame, so that there is a shortcut to prevent. What holds on it shows that "
    "the code can find such effects, not that real data has them."
)


def summary(results: str) -> str:
    """Returns the README's table.

    Args:
        results: Markdown with tables between marks, see `docs_tables.put`.

    Raises:
        UserError: if a table, row or column is missing.
    """
    lines = ["| Measure | Paper, on its data | Ours, demo data |", "| --- | ---: | ---: |"]
    for what, name, method, heading, (table, data_set, metric) in ROWS:
        row = _row(results, name, method)
        paper = paper_values.values(table, data_set, method)[metric]
        ours = row.get(f"{heading}, ours") or row.get(heading)
        if not ours:
            raise UserError(f"table {name!r} of the results has no column {heading!r}; make readme")
        lines.append(f"| {what} | {paper} | {ours} |")
    return "\n".join(lines)


def evidence(results: str) -> str:
    """Returns the README's table of results on real material.

    Args:
        results: as of `summary`, docs/evidence.md.

    Raises:
        UserError: if a table, row or column is missing.
    """
    lines = ["| Measure | Data | Method | Result |", "| --- | --- | --- | ---: |"]
    for what, name, data, heading, methods in EVIDENCE:
        for method in methods:
            row = _row(results, name, method, data)
            ours = row.get(f"{heading}, ours") or row.get(heading)
            note = re.search(r", on (\w+)", row["Note"])
            trained_on = f", trained on {note[1]}" if note and "trained" not in method else ""
            lines.append(f"| {what} | {row['Data']} | {method}{trained_on} | {ours} |")
    return "\n".join(lines)


def claims_count(results: str) -> str:
    """Returns how many of the papers' claims hold, and what the data was given for that.

    Args:
        results: as of `summary`; its table of claims has the count as a note.
    """
    block = _block(results, "claims")
    counted = re.search(r"^- (\d+ claims: .+\.)$", block, re.M)
    seeds = re.search(r"^- Means over (\d+) seed", block, re.M)
    said = "The papers' claims were not counted yet: `make check-claims readme`."
    if counted and seeds:
        said = f"The papers' orderings, over {seeds[1]} seed(s): {counted[1]}"
    return textwrap.fill(f"{said} {GIVEN}", 100, break_on_hyphens=False)


def _block(results: str, name: str) -> str:
    block = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", results, re.S)
    return block[1] if block else ""


def _row(results: str, name: str, method: str, data: str = "") -> dict[str, str]:
    """Returns the first row of a method on data whose name begins so, by heading."""
    grid = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in _block(results, name).splitlines()
        if line.startswith("|")
    ]
    rows = [row for row in grid if row[1:2] == [method] and row[0].startswith(data)]
    if not rows:
        raise UserError(f"the results hold no table {name!r} with a row {method!r}; make readme")
    return dict(zip(grid[0], rows[0], strict=True))
