"""The models of examples/: they run at their smallest size, and what is committed of them is what they are for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
SMALL = {
    "mqar": ("--ops", "deltanet", "lowrank_delta", "--seeds", "1", "--steps", "4"),
    "hybrid_lm": ("--steps", "3", "--width", "32", "--length", "64", "--heads", "2", "--batch", "2"),
}


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_at_its_smallest_size(name, tmp_path):
    saved, drawn = tmp_path / "found.json", tmp_path / "found.svg"
    command = [sys.executable, str(ROOT / f"examples/{name}.py"), *SMALL[name]]
    done = subprocess.run(
        [*command, "--workers", "1", "--json", str(saved), "--plot", str(drawn)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(saved.read_text())
    assert {"machine", "commit", "command"} <= found.keys()
    assert len(found["runs" if name == "mqar" else "models"]) == 2
    assert drawn.read_text().count("<polyline") == 2


def test_what_states_hold():
    """At four times the pairs that linear attention holds, delta ops recall 0.95, and it recalls less than 0.6."""
    runs = json.loads((RESULTS / "mqar.json").read_text())["runs"]

    def mean(op, pairs):
        found = [run["accuracy"][str(pairs)] for run in runs if run["op"] == op]
        assert len(found) == 3
        return sum(found) / 3

    held = max(pairs for pairs in (4, 8, 16, 32) if mean("linear_attention", pairs) >= 0.95)
    assert held == 8
    assert mean("linear_attention", 4 * held) < 0.6
    for op in ("deltanet", "gated_deltanet", "lowrank_delta"):
        assert mean(op, 4 * held) >= 0.95


def test_a_token_at_a_time_is_the_whole():
    found = json.loads((RESULTS / "hybrid_lm.json").read_text())
    hybrid, attention = found["models"]
    assert hybrid["off"] < 1e-3
    assert len(hybrid["generated"]) > 100
    assert hybrid["curve"][-1][1] < hybrid["curve"][0][1]
    assert attention["model"] == "attention"
