import json

import pytest

from eval.reporting import curves
from l3net.errors import UserError


def _run(folder, name, accuracy):
    run_dir = folder / name
    run_dir.mkdir()
    content = {"model": {"model": "ave_net"}, "pipeline": {"batch_size": 32}}
    content["data"] = {"name": "demo"}
    (run_dir / "training.json").write_text(json.dumps(content))
    lines = [{"step": 5, "split": "train", "accuracy": 0.9}]
    lines += [{"step": step, "split": "val", "accuracy": a} for step, a in accuracy.items()]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run_dir / "metrics.jsonl").write_text(text + '{"step": 99, "spl')  # a killed write
    return run_dir


def test_table_has_the_validation_accuracies_by_step(tmp_path):
    runs = [_run(tmp_path, "a", {10: 0.5, 20: 0.75}), _run(tmp_path, "b", {20: 0.8})]
    table = curves.make_table([curves.read_curve(run_dir) for run_dir in runs])
    assert [metric.heading for metric in table.metrics] == ["10", "20"]
    assert [row.ours for row in table.rows] == [{"10": 50.0, "20": 75.0}, {"20": 80.0}]
    assert {row.data for row in table.rows} == {"demo data (synthetic)"}
    assert {row.method for row in table.rows} == {"a", "b"}


def test_no_run_or_no_evaluation_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no run of l3net.train"):
        curves.read_curve(tmp_path / "nowhere")
    with pytest.raises(UserError, match="never evaluated"):
        curves.read_curve(_run(tmp_path, "a", {}))
