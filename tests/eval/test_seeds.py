import dataclasses

import pytest

from eval.reporting import seeds, tables
from l3net.errors import UserError


def table(accuracy: float | None, *, method: str = "Ours") -> tables.Table:
    ours = {} if accuracy is None else {"accuracy": accuracy}
    status = tables.NOT_RUN if accuracy is None else tables.RUN
    rows = [
        tables.Row("demo", method, status, {"accuracy": 74.0}, ours, note=f"{accuracy}"),
        tables.Row("demo", "SoundNet", tables.QUOTED, {"accuracy": 88.0}),
    ]
    return tables.Table("table1", "L3 Table 1", [tables.Metric("accuracy", "accuracy %")], rows)


def test_mean_and_sample_deviation_are_beside_the_papers_number():
    combined = seeds.combine([table(70.0), table(74.0), table(78.0)], ["0", "1", "2"])
    row, quoted = combined.rows
    assert row.ours == {"accuracy": 74.0} and row.spread == {"accuracy": 4.0}
    assert row.details == {"by_seed": {"accuracy": [70.0, 74.0, 78.0]}}
    assert quoted.status == tables.QUOTED and quoted.spread == {}
    text = tables.markdown(combined)
    assert "74.0 ± 4.0" in text and "seeds 0, 1, 2" in text
    (row, _) = seeds.combine([table(70.0)]).rows  # one seed has no spread
    assert row.ours == {"accuracy": 70.0} and row.spread == {} and row.note == "70.0"


def test_test_errors_are_no_spread_and_do_not_shrink_with_seeds():
    def with_error(value, **errors):
        made = table(value)
        return dataclasses.replace(
            made, rows=[dataclasses.replace(row, errors=errors) for row in made.rows]
        )

    made = [with_error(70.0, accuracy=0.5), with_error(74.0, accuracy=0.7)]
    row, quoted = seeds.combine(made).rows
    assert row.errors == {"accuracy": pytest.approx(0.6)} and row.spread["accuracy"] > 2.8
    assert seeds.combine([made[0], table(74.0)]).rows[0].errors == {}  # not known of both
    row, _ = seeds.combine([made[0], made[0]]).rows  # no seed changes it
    assert row.spread == {} and row.errors == {"accuracy": 0.5}


def test_rows_that_were_not_run_can_be_left_out(tmp_path):
    tables.write_table(table(70.0), tmp_path / "a", flags={}, seconds=1.0)
    for only_run, methods in ((False, ["Ours", "SoundNet"]), (True, ["Ours"])):
        config = seeds.Config(out_dir=str(tmp_path / f"{only_run}"), only_run=only_run)
        seeds.main([str(tmp_path / "a" / "table1.json")], config)
        written, _ = tables.read_table(tmp_path / f"{only_run}" / "table1.json")
        assert [row.method for row in written.rows] == methods


def test_rows_may_be_absent_or_in_another_order():
    row = seeds.combine([table(70.0), table(None), table(74.0)]).rows[0]  # not run with one seed
    assert row.status == tables.RUN and row.ours == {"accuracy": 72.0}
    assert row.note == "2 of 3 seeds" and row.details == {"by_seed": {"accuracy": [70.0, 74.0]}}
    row = seeds.combine([table(None), table(70.0)]).rows[0]
    assert row.ours == {"accuracy": 70.0} and row.spread == {} and row.note == "70.0; 1 of 2 seeds"
    assert seeds.combine([table(None), table(None)]).rows[0].status == tables.NOT_RUN
    complete, other = table(70.0), table(74.0)
    turned = tables.Table(other.name, other.title, other.metrics, other.rows[::-1])
    assert seeds.combine([complete, turned]).rows[0].ours == {"accuracy": 72.0}
    short = tables.Table(other.name, other.title, other.metrics, other.rows[1:])
    first, quoted = seeds.combine([complete, short]).rows
    assert first.note == "70.0; 1 of 2 seeds" and quoted.status == tables.QUOTED
    with pytest.raises(UserError, match="other rows"):
        seeds.combine([table(70.0), table(70.0, method="Theirs")])
    assert len(seeds.combine([table(70.0), table(None, method="Not given")]).rows) == 2


def test_command_reads_what_tables_wrote(tmp_path, capsys):
    paths = [
        str(tables.write_table(table(value), tmp_path / str(value), flags={}, seconds=2))
        for value in (70.0, 74.0)
    ]
    seeds.main(paths, seeds.Config(out_dir=str(tmp_path / "out"), seeds=("0", "1")))
    made, record = tables.read_table(tmp_path / "out" / "table1.json")
    assert made.rows[0].ours["accuracy"] == 72.0 and record["seconds"] == 4
    assert "72.0 ± 2.8" in capsys.readouterr().out
    with pytest.raises(UserError, match="2 tables 'table1' for 1 seeds"):
        seeds.main(paths, seeds.Config(seeds=("0",)))
