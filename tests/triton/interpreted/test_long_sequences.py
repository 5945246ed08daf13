"""benchmarks/long.py, whole at tiny size: every schedule runs, their outputs agree, and what differs is told."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import long  # noqa: E402

import flowc  # noqa: E402


def test_it_runs_whole(tmp_path, monkeypatch):
    module = flowc.compile(ROOT / "examples/gla.flow")._module
    monkeypatch.setattr(module, "_processors", lambda _: 8)  # segments of a chunk each
    file, picture = tmp_path / "long.json", tmp_path / "long.svg"
    given = ["gla", "--tiny", "--json", str(file), "--svg", str(picture)]
    assert long.main(given) == 0
    found = json.loads(file.read_text())
    rows = {(r["passes"], r["schedule"]): r for r in found["rows"]}
    assert set(rows) == {(p, s) for p in ("forward", "both") for s in ("split", "fused", "two-level")}
    assert all(r["measured"] > 0 and r["apart"] <= 2 * long.ERROR[long.torch.float16] for r in rows.values())
    assert sum(r["taken"] for r in rows.values()) == 2
    assert found["device"] == "interpreted, times mean nothing"
    assert picture.read_text().startswith("<svg")
    monkeypatch.setattr(long, "ERROR", dict.fromkeys(long.ERROR, -1.0))
    assert long.main(["gla", "--tiny", "--passes", "forward"]) == 1


def test_rows_are_kept_one_by_one(tmp_path, monkeypatch, capsys):
    """What the file has is not run again; without time nothing is, and what is left is named."""
    file = tmp_path / "long.json"
    given = ["--ops", "longhorn,gla", "--tiny", "--passes", "forward", "--json", str(file)]
    assert long.main([*given, "--budget", "0"]) == 0
    assert json.loads(file.read_text())["left"] == ["longhorn forward 1 150", "gla forward 1 150"]
    assert long.main(given) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(r["name"], r["schedule"]) for r in rows] == [
        ("longhorn", "tokens"), ("gla", "split"), ("gla", "fused"), ("gla", "two-level"),
    ]  # fmt: skip
    assert "interpreted, times mean nothing" in capsys.readouterr().out
    monkeypatch.setattr(long, "rows", None)
    assert long.main(given) == 0
    assert json.loads(file.read_text())["rows"] == rows


@pytest.mark.parametrize(("said", "code"), [("no such luck", 1), ("Triton Error [CUDA]: device-side assert", 75)])
def test_what_raises_is_a_row(said, code, tmp_path, monkeypatch, capsys):
    """The sizes behind it go on, but where the device is lost: those are another process's."""
    file, rows = tmp_path / "long.json", long.rows

    def raising(name, *more):
        if name == "longhorn":
            raise RuntimeError(said)
        return rows(name, *more)

    given = ["--ops", "longhorn,gla", "--tiny", "--passes", "forward", "--json", str(file)]
    monkeypatch.setattr(long, "rows", raising)
    assert long.main(given) == code
    found = {r["key"]: r for r in json.loads(file.read_text())["rows"]}
    assert said in found["longhorn forward 1 150 -"]["failed"]
    assert ("gla forward 1 150 split" in found) == (code == 1)
    assert long.main(given) == 1
    assert "gla forward 1 150 split" in {r["key"] for r in json.loads(file.read_text())["rows"]}
    assert said in capsys.readouterr().out


def test_a_size_that_ends_the_process_twice_is_not_begun_again(tmp_path):
    file = tmp_path / "long.json"
    book = long.Ledger.opened(file, long.about(long.INTERPRETED) | {"predicted_for": "h200"})
    assert [book.begin("gla forward 1 150") for _ in range(3)] == [True, True, False]
    assert long.main(["gla", "--tiny", "--passes", "forward", "--json", str(file)]) == 1
    (row,) = json.loads(file.read_text())["rows"]
    assert row["failed"] == "the process ended in it 2 times"
