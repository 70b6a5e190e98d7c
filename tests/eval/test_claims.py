import dataclasses

import pytest

from eval.reporting import claims, tables
from l3net.errors import UserError

CLAIM = claims.Claim("a above b", "L3", claims.Number("t", "a", ("x",)), 3.0)


@pytest.mark.parametrize(
    ("changes", "left", "expected"),
    [
        ({}, 3.1, True), ({}, 3.0, False), ({"strict": False}, 3.0, True),
        ({"factor": 1.5}, 4.6, True), ({"factor": 1.5}, 4.5, False),
        ({"within": 0.5}, 2.5, True), ({"within": 0.5}, 3.6, False),
    ],
)  # fmt: skip
def test_what_holds_by_hand(changes, left, expected):
    assert claims.holds(dataclasses.replace(CLAIM, **changes), left, 3.0) is expected


def tables_where_all_hold() -> list[tables.Table]:
    """The papers' own numbers, as if they were ours."""
    ndcg = {
        "Random chance": (0.407, 0.407, 0.407, 0.407),
        "L3-Net": (0.567, 0.418, 0.385, 0.653),
        "L3-Net with CCA": (0.578, 0.531, 0.560, 0.649),
        "AVE-Net": (0.604, 0.561, 0.587, 0.665),
        "AVE-Net, no shortcut prevention": (0.59, 0.55, 0.57, 0.65),
    }
    accuracy = {
        "L3-Net, as in OTS": 80.8, "AVE-Net": 81.9, "AVOL-Net": 81.9, "Supervised direct": 65.0,
        "AVE-Net, no shortcut prevention": 87.6,
    }  # fmt: skip
    return [
        table("avc_accuracy", "accuracy", accuracy),
        table("table2", "accuracy", {"Ours random": 62.5, "Ours": 79.3}),
        table("table3", "accuracy", {"Ours random": 12.9, "Ours": 32.3}),
        table_of(
            "table4",
            run("demo, 9 frames", "Ours random", nmi=0.204, units_4_of_5=1, units_3_of_5=4),
            run("demo, 9 frames", "Ours", nmi=0.409, units_4_of_5=10, units_3_of_5=23),
            run("demo, 9 sounds", "Ours random", nmi=0.219, units_4_of_5=1, units_3_of_5=3),
            run("demo, 9 sounds", "Ours", nmi=0.330, units_4_of_5=11, units_3_of_5=20),
        ),
        table_of(
            "retrieval",
            *(run("demo", k, **dict(zip(claims.EVERY, v, strict=True))) for k, v in ndcg.items()),
        ),
        table_of(
            "localization",
            run("demo", "Image centre", hits=57.2),
            run("demo", "AVOL-Net", hits=81.7),
            run("demo", "AVOL-Net, sound of another class", hits=0.0, empty_or_moved=90.0),
        ),
    ]


def run(data: str, method: str, **ours: float) -> tables.Row:
    return tables.Row(data, method, tables.RUN, ours=ours)


def table(name: str, metric: str, values: dict[str, float]) -> tables.Table:
    return table_of(name, *(run("demo", key, **{metric: value}) for key, value in values.items()))


def table_of(name: str, *rows: tables.Row) -> tables.Table:
    return tables.Table(name, "", [], list(rows))


def test_the_papers_own_numbers_bear_out_every_claim():
    made = claims.make_table(claims.group(tables_where_all_hold()))
    assert [row.method for row in made.rows if not row.details["holds"]] == []
    assert claims.verdict(made) is None and len(made.rows) == len(claims.CLAIMS)


@pytest.mark.parametrize(
    ("index", "method", "change", "expected"),
    [
        (0, "L3-Net, as in OTS", {"accuracy": 49.9}, "above chance"),
        (0, "L3-Net, as in OTS", {"accuracy": 64.9}, "supervised direct"),
        (0, "L3-Net, as in OTS", {"accuracy": 82.0}, "AVE-Net's AVC not below L3-Net's"),
        (0, "AVE-Net, no shortcut prevention", {"accuracy": 81.9}, "AVC goes up"),
        (0, "AVOL-Net", {"accuracy": 78.8}, "equal to AVE-Net"),
        (0, "AVOL-Net", {"accuracy": 85.0}, "equal to AVE-Net"),
        (1, "Ours", {"accuracy": 62.5}, "Sounds classified"),
        (2, "Ours", {"accuracy": 12.0}, "Images classified"),
        (3, "Ours", {"nmi": 0.3}, "1.5 times"),
        (3, "Ours", {"units_4_of_5": 1}, "4 of 5, vision"),
        (4, "L3-Net", {"im_aud": 0.5, "aud_im": 0.49}, "at chance"),
        (4, "L3-Net with CCA", {"im_aud": 0.45, "aud_im": 0.45}, "well above"),
        (4, "L3-Net with CCA", {"im_aud": 0.58, "aud_im": 0.58}, "AVE-Net above L3-Net with CCA"),
        (4, "AVE-Net", {"im_im": 0.56}, "im-im"),
        (4, "AVE-Net", {"aud_aud": 0.65}, "aud-aud"),
        (4, "AVE-Net, no shortcut prevention", {"im_im": 0.68}, "retrieval goes down"),
        (5, "AVOL-Net", {"hits": 57.2}, "image centre"),
        (5, "AVOL-Net, sound of another class", {"empty_or_moved": 50.0}, "Mismatched sound"),
    ],
)  # fmt: skip
def test_one_number_that_speaks_against_a_claim_is_reported(index, method, change, expected):
    made = tables_where_all_hold()
    rows = [
        dataclasses.replace(row, ours={**row.ours, **change}) if row.method == method else row
        for row in made[index].rows
    ]
    made[index] = dataclasses.replace(made[index], rows=rows)
    checked = claims.make_table(claims.group(made))
    failed = [row.method for row in checked.rows if not row.details["holds"]]
    assert any(expected in text for text in failed), failed
    assert expected in claims.verdict(checked)


def test_what_was_not_run_is_not_checked_and_fails():
    made = claims.make_table(claims.group(tables_where_all_hold()[:-1]))
    not_run = [row for row in made.rows if row.status == tables.NOT_RUN]
    assert len(not_run) == 2 and all("no table 'localization'" in row.note for row in not_run)
    assert "not checked: AVOL-Net localizes" in claims.verdict(made)


def test_means_over_seeds_decide_and_every_seed_is_counted():
    seeds = claims.group([table("t", "x", {"a": value}) for value in (2.0, 5.0, 5.0)])
    row = claims.check(CLAIM, seeds)
    assert row.ours == {"left": 4.0, "right": 3.0} and row.details["holds"]
    assert row.note.startswith("holds (in 2 of 3 seeds)")
    assert not claims.check(CLAIM, seeds[:1]).details["holds"]


def test_a_table_that_a_seed_lacks_and_two_data_sets_in_one_table_are_refused():
    with pytest.raises(UserError, match="every table once for each seed"):
        claims.group([table("t", "x", {}), table("t", "x", {}), table("u", "x", {})])
    twice = table_of("t", run("ESC-10", "a", x=1.0), run("ESC-50", "a", x=2.0))
    with pytest.raises(UserError, match="one data set at a time"):
        claims.check(CLAIM, claims.group([twice]))


def test_command_writes_the_claims_and_fails_if_one_does(tmp_path, capsys):
    config = claims.Config(out_dir=str(tmp_path / "out"))
    paths = [
        str(tables.write_table(made, tmp_path, flags={}, seconds=1))
        for made in tables_where_all_hold()
    ]
    claims.main(paths, config)
    assert f"All {len(claims.CLAIMS)} claims hold." in capsys.readouterr().out
    with pytest.raises(UserError, match="fail: none; not checked: AVOL-Net localizes"):
        claims.main(paths[:-1], config)
    assert "not run" in (tmp_path / "out" / "claims.md").read_text()
