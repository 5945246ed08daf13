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


SHAPE = [4, 2048, 16, 128]
H200 = DEVICES["h200"]


def write(path, rows, device="NVIDIA H200"):
    """What a part leaves."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"device": device, "commit": "0123456789", "rows": rows}))


def bench_rows(factors):
    """Rows of benchmarks/gpu.py in which times are what is predicted now, times given factors; of kernels twice that.

    A kernel's own time has no launch; one more is not of the plan.
    """
    rows = []
    for (name, passes), factor in factors.items():
        own = model.kernels(name, passes, SHAPE, H200, None)
        kernels = {f"_{k.name}": 2e3 * factor * (k.seconds - H200.launch) for k in own} | {"elementwise": 1.0}
        taken = 1e3 * factor * sum(k.seconds for k in own)
        rows.append({"name": name, "passes": passes, "shape": SHAPE, "flowc": taken, "kernels": kernels})
    return rows


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
    """Twice as long, and half: off by 2 with no bias; kernels by 4 and 1. Interpreted files say nothing."""
    factors = {("gla", "forward"): 2.0, ("gla", "both"): 0.5}
    write(tmp_path / "gpu/bench.json", bench_rows(factors))
    write(tmp_path / "bench.json", bench_rows(factors), "interpreted, times mean nothing")
    rows = [*model.of_flowc(tmp_path), *model.of_others()]
    own = [r for r in rows if r.of == "flowc"]
    whole = [r for r in own if r.kernel is None]
    assert [(r.op, r.passes, r.source) for r in whole] == [
        ("gla", "forward", "bench.json, 0123456"), ("gla", "both", "bench.json, 0123456"),
    ]  # fmt: skip
    assert [r.ratio for r in whole] == pytest.approx([0.5, 2.0])
    kernels = {(r.passes, r.kernel): r.ratio for r in own if r.kernel is not None}
    assert [n for n, ratio in kernels.items() if ratio is None] == [("forward", "elementwise"), ("both", "elementwise")]
    slow = [r for (passes, _), r in kernels.items() if passes == "forward" and r is not None]
    assert slow == pytest.approx([0.25] * len(slow))
    others = [r for (passes, _), r in kernels.items() if passes == "both" and r is not None]
    assert others == pytest.approx([1.0] * len(others))
    found = model.accuracy(rows)
    count = len(slow) + len(others)
    assert slow
    assert others
    off = 4 ** (len(slow) / count)
    assert found == Accuracy("measured", 2, 2.0, 1.0, ("h200",), count, round(off, 3), round(1 / off, 3))
    assert str(found) == (
        "the model is off by a factor of 2.00 in the geometric mean, what it says is 1.00 of what is measured"
        f" (2 measured times of flowc's calls on h200); of single kernels by {off:.2f}, {1 / off:.2f} of what"
        f" is measured ({count} times)"
    )


def test_every_part_s_times_are_read(tmp_path):
    """Long sequences by schedule, searches by the rules once a call, steps as graphs by their bytes and a launch."""
    taken = {"name": "gla", "passes": "both", "schedule": "split"}
    at = {"B": 4, "T": 2048, "H": 16, "K": 128, "V": 128}
    search = taken | {"shape": at, "seconds_by_rules": 2e-3}
    write(
        tmp_path / "tune.json",
        [search | {"kernel": "walk"}, search | {"kernel": "rows"}, {"name": "kda", "failed": ""}],
    )
    long = taken | {"heads": 2, "length": 2**16, "predicted": 1.0}
    write(tmp_path / "long.json", [long | {"measured": 3.0}, long | {"measured": None}, {"failed": "out of memory"}])
    step = {"name": "gla", "batch": 8, "heads": 32, "side": 128, "state": "float32", "bytes": 43 * 10**6}
    write(tmp_path / "decode.json", [step | {"graph": 28.0}, step | {"graph": None}])
    search, long, step = sorted(model.of_flowc(tmp_path), key=lambda r: r.source != "tune.json, 0123456")[:3]
    split = sum(k.seconds for k in model.kernels("gla", "both", SHAPE, H200, "split"))
    assert (search.shape, search.measured, search.predicted) == (tuple(SHAPE), 2.0, pytest.approx(1e3 * split))
    split = sum(k.seconds for k in model.kernels("gla", "both", (1, 2**16, 2, 128), H200, "split"))
    assert (long.shape, long.measured) == ((1, 2**16, 2, 128), 3.0)
    assert long.predicted == pytest.approx(1e3 * split)
    assert step.predicted == pytest.approx(1e3 * (43e6 / H200.bandwidth + H200.launch))
    assert step.ratio == pytest.approx(0.5)
    assert len(model.of_flowc(tmp_path)) == 3


def test_nothing_to_compare_with():
    found = model.accuracy([])
    assert (found.count, found.error) == (0, None)
    assert "compared with no time" in str(found)


def test_explain_tells_it():
    arguments = ["explain", str(ROOT / "examples/simple_gla.flow"), "--shape", "8,4096,16,128,128"]
    text, found = (CliRunner().invoke(cli, [*arguments, *more]).stdout for more in ([], ["--json"]))
    assert f"predictions: {accuracy()}" in text
    assert json.loads(found)["accuracy"] == json.loads(PATH.read_text())
