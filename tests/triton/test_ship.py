"""Kernels that are compiled ahead are those that a launch looks for, wherever the folder with them comes to lie."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import on_gpu  # noqa: E402
import ptxas  # noqa: E402
import ship  # noqa: E402
from test_doctor import GPU, H200, HOPPER, NEW, OWN, Tool  # noqa: E402

from flowc.doctor import facts  # noqa: E402

# The first checks of an example: values and gradients, as a process with a GPU runs them, kernels not launched.
LAUNCHED = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import checks, ship
whole = checks.checks
checks.checks = lambda *given: whole(*given)[:2]
print(json.dumps(asdict(ship.shipped("linear_attention", ["correctness"], "sm_90", True, Path(sys.argv[1])))))
"""

# The first run of every other part, one candidate of a kernel: kernels by part.
PARTS = """
import json, sys
from itertools import islice
from pathlib import Path
import ship, ship_parts, triton
ship_parts.CANDIDATES = 1
found = {}
for part in set(ship_parts.PARTS) - {"correctness", "peer"}:
    runs = ship_parts.PARTS[part]
    ship.PARTS[part] = lambda *given: islice(runs(*given), 1)
    made = ship.shipped("gated_deltanet", [part], "sm_90", True, Path(sys.argv[1]))
    found[part] = {"errors": made.errors, "kernels": made.kernels}
print(json.dumps(found))
"""

# An autotuner that keeps its choice, as the peer's do.
TUNED = """
import sys, os
os.environ["TRITON_CACHE_DIR"] = sys.argv[1]
import torch, triton, triton.language as tl
from pretended import DEVICES, pretended

configs = [triton.Config({}, num_warps=n) for n in (1, 2, 4)]

@triton.autotune(configs=configs, key=["n"], cache_results=True)
@triton.jit
def double(x, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x + at, 2 * tl.load(x + at, at < n), at < n)

with pretended(DEVICES["sm_90"]):
    double[(1,)](torch.empty(16, device="cuda"), 16, BLOCK=16)
"""


def run(text, folder):
    """What a program prints in a process of its own."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    environment.pop("TRITON_INTERPRET", None)
    script = folder.parent / "script.py"  # kernels are read from a file
    script.write_text(text)
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def launched(folder):
    """What becomes of the kernels."""
    return json.loads(run(LAUNCHED, folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("ship") / "cache"
    first = launched(made)
    assert first["errors"] == []
    assert first["compiled"] == first["kernels"] == len(ship.kernels(made)) > 1
    known = {"target": "sm_90", "ptxas": "12.8", "build": ship.build(), "versions": {"triton": "3.7.1"}}
    (made / ship.MANIFEST).write_text(json.dumps(known))
    return made


def test_a_second_process_compiles_nothing(folder):
    again = launched(folder)
    assert again["errors"] == []
    assert (again["compiled"], again["kernels"]) == (0, len(ship.kernels(folder)))


def test_nor_does_one_on_another_machine(folder, tmp_path):
    """Without the texts between source and binary, through archives, into a folder of another name."""
    own, pack, other = tmp_path / "own", tmp_path / "pack", tmp_path / "elsewhere/cache"
    shutil.copytree(folder, own)
    ship.pruned(own)
    assert {p.suffix for p in own.glob("*/*")} == set(ship.KEPT)
    (one,) = ship.packed(own, pack, 2**20)
    several = ship.packed(own, pack, one.stat().st_size * 0.8)
    assert len(several) > 1
    assert all(p.stat().st_size <= 0.8 * 2**20 for p in several)
    assert several == ship.archives(pack)
    count = len(ship.kernels(own))
    shutil.rmtree(own)
    assert ship.unpacked(other, pack) == ship.unpacked(other, pack) == count
    found = launched(other)
    assert (found["compiled"], found["kernels"]) == (0, count)


def test_every_part_s_kernels_are_compiled(tmp_path):
    found = json.loads(run(PARTS, tmp_path / "cache"))
    assert found.keys() == {p.name for p in on_gpu.PARTS} - {"correctness", "model"}
    assert all(of["errors"] == [] and of["kernels"] > 0 for of in found.values()), found


def test_what_autotuners_choose_among_is_compiled_and_nothing_chosen(tmp_path):
    """The peer's keep what was fastest; here nothing was timed."""
    run(TUNED, tmp_path / "cache")
    assert len(ship.kernels(tmp_path / "cache")) == 3
    assert not list(tmp_path.glob("cache/*/*.autotune.json"))


def test_what_was_shipped_for_another_machine_is_told(folder, monkeypatch):
    monkeypatch.setattr(ship, "FOLDER", folder)
    assert on_gpu.carried(HOPPER, 0)["why"].startswith("none were shipped")
    said = on_gpu.carried(GPU, 5)["why"]
    assert "for target sm_90, and here is sm_100" in said
    right = replace(HOPPER, devices=(H200,), chosen_ptxas=None)
    assert on_gpu.carried(right, 5) == {"kernels": 5, "why": ""}
    monkeypatch.setattr(ship, "triton_key", lambda: "of another Python")
    assert on_gpu.carried(right, 5)["why"].startswith("for the build of Triton ")


def test_a_newer_ptxas_is_taken_where_it_has_to_be(monkeypatch):
    """On Hopper, where Triton's own is known to go wrong, unless the user has said which to take."""
    for name in ("TRITON_PTXAS_PATH", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    hopper = replace(HOPPER, chosen_ptxas=None)
    for there, given, expected in (
        ((NEW, OWN), hopper, NEW), ((OWN,), hopper, None), ((), hopper, None), ((NEW,), GPU, None),
        ((NEW,), replace(hopper, chosen_ptxas=Tool("/mine", "12.8")), None),
    ):  # fmt: skip
        monkeypatch.setattr(ptxas, "packaged_ptxas", lambda there=there: there)
        assert ptxas.better(given) == expected
        chosen = on_gpu.environment(given, 3)
        assert chosen.get("TRITON_PTXAS_PATH") == (expected and expected.path)
        assert chosen["TRITON_CACHE_DIR"] == str(ship.FOLDER)
        assert chosen.items() >= ship.ENVIRONMENT.items()
        assert "TRITON_INTERPRET" not in chosen


def test_ptxas_that_packages_brought(monkeypatch, tmp_path):
    for folder, release in (("cu12", "12.9"), ("cu13", "13.3"), ("broken", "")):
        path = tmp_path / f"nvidia/{folder}/bin/ptxas"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\necho Cuda compilation tools, release {release}, V0\n")
        path.chmod(0o755)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [t for t in facts.packaged_ptxas() if t.path.startswith(str(tmp_path))]
    assert [t.version for t in found] == ["13.3", "12.9"]
