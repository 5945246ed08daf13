"""benchmarks/tune.py: searches that are there are not run again, and a device that is lost ends the process."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import ledger  # noqa: E402
import tune  # noqa: E402

from flowc.tune.trial import DeviceLostError  # noqa: E402

GIVEN = ["--ops", "simple_gla,gla", "--tiny"]


@pytest.fixture
def searched(monkeypatch):
    """Searches that find one row each; what is in `raised` is raised instead."""
    seen, raised = [], {}

    def found(name, *_):
        seen.append(name)
        if name in raised:
            raise raised[name]
        row = {"name": name, "kernel": "fused", "rule": [1], "found": [1], "tried": 1, "candidates": 2}
        return [row | {"seconds": 1.0, "seconds_by_rules": 2.0}], []

    monkeypatch.setattr(tune, "searched", found)
    found.seen, found.raised = seen, raised
    return found


def test_what_is_there_is_not_searched_again(tmp_path, searched):
    path = tmp_path / "tune.json"
    given = [*GIVEN, "--json", str(path)]
    assert tune.main([*given, "--budget", "0"]) == 0
    assert json.loads(path.read_text())["left"] == ["simple_gla", "gla"]
    assert tune.main(given) == 0
    first = json.loads(path.read_text())
    assert ([r["key"] for r in first["rows"]], first["left"]) == (["simple_gla fused", "gla fused"], [])
    assert tune.main(given) == 0
    assert searched.seen == ["simple_gla", "gla"]
    assert json.loads(path.read_text())["rows"] == first["rows"]
    assert tune.main([*given, "--again"]) == 0
    assert searched.seen == ["simple_gla", "gla"] * 2


def test_a_lost_device_ends_the_process_and_the_next_goes_on(tmp_path, searched):
    path = tmp_path / "tune.json"
    given = [*GIVEN, "--json", str(path)]
    searched.raised["simple_gla"] = DeviceLostError("the device failed")
    assert tune.main(given) == ledger.LOST
    assert json.loads(path.read_text())["left"] == ["gla"]
    assert tune.main(given) == 1
    assert searched.seen == ["simple_gla", "gla"]
    rows = {r["name"]: r for r in json.loads(path.read_text())["rows"]}
    assert rows["simple_gla"]["failed"] == "the device failed"
    assert rows["gla"]["tried"] == 1
