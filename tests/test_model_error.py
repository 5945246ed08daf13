"""benchmarks/model.py: the cost model against measured times, and what `flowc explain --shape` says of it."""

import json
import math
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import model  # noqa: E402

from flowc.cli import cli  # noqa: E402
from flowc.report.accuracy import PATH, Accuracy, accuracy  # noqa: E402
from flowc.schedule.devices import DEVICES  # noqa: E402

KEPT = json.loads((ROOT / "benchmarks/results/model.json").read_text())


def gpu_record(device, factors):
    """A file of benchmarks/gpu.py in which times are what is predicted now, times given factors."""
    rows = []
    for (name, passes), factor in factors.items():
        row = {"name": name, "passes": passes, "shape": [4, 2048, 16, 128], "flowc": 1.0}
        row["flowc"] = factor * model._of_flowc(row, "h200", "").predicted
        rows.append(row)
    return json.dumps({"device": device, "commit": "0123456789", "rows": rows})


def test_what_is_kept_is_what_the_command_gives(tmp_path):
    """The rows and the package's file follow from what lies in benchmarks; else `benchmarks/model.py` is due."""
    made, package = tmp_path / "model.json", tmp_path / "accuracy.json"
    assert model.main(["--json", str(made), "--package", str(package)]) == 0
    assert package.read_text() == PATH.read_text()
    again = json.loads(made.read_text())
    assert (again["rows"], again["accuracy"]) == (KEPT["rows"], KEPT["accuracy"])
    assert {"machine", "commit", "command"} <= KEPT.keys()
    assert accuracy().text() == PATH.read_text()


def test_published_figures_serve_where_nothing_is_measured(tmp_path):
    """What was counted of others is compared by the model's own function; what was not says what is missing."""
    rows = [*model.of_flowc(tmp_path), *model.of_others()]
    assert all(r.source == "published, of others' kernels" for r in rows)
    assert all((r.predicted is None) == (r.why is not None) for r in rows)
    counted = {
        r["name"]: r["peer"]["forward"] for r in json.loads((model.RESULTS / "traffic.json").read_text())["rows"]
    }
    row = next(r for r in rows if r.op == "gated delta rule" and r.predicted is not None)
    own, h200 = counted["gated_deltanet"], DEVICES["h200"]
    tokens = math.prod(row.shape[:3]) / 512
    bytes_alone = 1e3 * tokens * own["distinct"] / h200.bandwidth
    launches = 1e3 * sum(own["kernels"].values()) * h200.launch
    assert row.predicted == pytest.approx(bytes_alone + launches, rel=1e-6)
    found = model.accuracy(rows)
    ratios = [r.ratio for r in rows if r.ratio is not None]
    assert (found.of, found.count) == ("published", len(ratios))
    assert found.bias == pytest.approx(math.prod(ratios) ** (1 / len(ratios)), abs=1e-3)
    assert "none of flowc's own measured" in str(found)


def test_own_times_come_before_others(tmp_path):
    """Twice as long, and half: off by 2 with no bias. Other devices' and interpreted files say nothing."""
    factors = {("gla", "forward"): 2.0, ("gla", "both"): 0.5}
    (tmp_path / "gpu.json").write_text(gpu_record("NVIDIA H200", factors))
    (tmp_path / "tiny-gpu.json").write_text(gpu_record("interpreted, times mean nothing", factors))
    rows = [*model.of_flowc(tmp_path), *model.of_others()]
    own = [r for r in rows if r.of == "flowc"]
    assert [(r.op, r.passes, r.source) for r in own] == [
        ("gla", "forward", "gpu.json, 0123456"), ("gla", "both", "gpu.json, 0123456"),
    ]  # fmt: skip
    assert [r.ratio for r in own] == pytest.approx([0.5, 2.0])
    found = model.accuracy(rows)
    assert found == Accuracy("measured", 2, 2.0, 1.0, ("h200",))
    assert str(found) == (
        "the model is off by a factor of 2.00 in the geometric mean, what it says is 1.00 of what is measured"
        " (2 measured times of flowc's kernels on h200)"
    )


def test_nothing_to_compare_with():
    found = model.accuracy([])
    assert (found.count, found.error) == (0, None)
    assert "compared with no time" in str(found)


def test_explain_tells_it():
    arguments = ["explain", str(ROOT / "examples/simple_gla.flow"), "--shape", "8,4096,16,128,128"]
    text, found = (CliRunner().invoke(cli, [*arguments, *more]).stdout for more in ([], ["--json"]))
    assert f"predictions: {accuracy()}" in text
    assert json.loads(found)["accuracy"] == json.loads(PATH.read_text())
