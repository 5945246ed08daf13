"""benchmarks/gpu.py, whole at tiny size: beside a stand-in for the peer, and without one."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402
import gpu_peers  # noqa: E402

import flowc  # noqa: E402
from flowc.semantics import load  # noqa: E402

OPS = {"gated_delta_rule": "gated_deltanet", "simple_gla": "simple_gla"}


def stand_in(monkeypatch, wrong=False):
    """Modules that are called like the peer's and give what examples give step by step."""

    class BackendRegistry:
        def _get_sorted_backends(self):
            return ["another"]

    root, ops, backends = (ModuleType(n) for n in ("fla", "fla.ops", "fla.backends"))
    root.__spec__, root.__version__, backends.BackendRegistry = object(), "0", BackendRegistry
    made = {"fla": root, "fla.ops": ops, "fla.backends": backends}
    seen = []
    for module, name in OPS.items():
        made[f"fla.ops.{module}"] = own = ModuleType(module)
        reference = flowc.compile(ROOT / f"examples/{name}.flow").reference

        def chunked(*, scale, _reference=reference, **inputs):
            assert scale == 1.0
            seen.append(BackendRegistry()._get_sorted_backends())
            return _reference(**inputs) + float(wrong), None

        setattr(own, f"chunk_{module}", chunked)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return seen


@pytest.mark.parametrize("there", [True, False])
def test_it_runs_whole(there, monkeypatch, tmp_path, capsys):
    if there:
        seen = stand_in(monkeypatch)
    elif gpu_peers.is_there():
        pytest.skip("the peer is installed")
    files = {n: tmp_path / f"gpu.{n}" for n in ("json", "svg")}
    given = [str(x) for n, f in files.items() for x in (f"--{n}", f)]
    assert gpu.main(["gated_deltanet", "simple_gla", "--tiny", *given]) == 0
    found = json.loads(files["json"].read_text())
    assert {(r["name"], r["passes"], tuple(r["shape"])) for r in found["rows"]} == {
        (name, passes, shape) for name in OPS.values() for passes in ("forward", "both") for shape in gpu.TINY
    }
    for row in found["rows"]:
        assert row["flowc"] > 0
        assert (row["ratio"] is not None) == there
        assert row["ratio"] is None or row["ratio"] == row["peer"] / row["flowc"]
    for reached in found["goals"].values():
        assert set(reached) == ({"geometric mean", "least"} if there else set())
    for name, errors in found["errors"].items():
        inputs = load((ROOT / f"examples/{name}.flow").read_text(), name).inputs
        assert set(errors) == ({"flowc", "peer"} if there else {"flowc"})
        for made in errors.values():
            assert set(made) == {"o", *(f"d{i.name}" for i in inputs)}
            assert 0 < max(made.values()) < 4e-3
    assert files["svg"].read_text().count("polyline") >= 2 * 2 * (1 + 2 * there)
    assert "times mean nothing" in found["device"]
    if there:  # values and times by its Triton path, times as it likes
        shapes = len(gpu.TINY)
        assert (seen.count([]), seen.count(["another"])) == (len(OPS) * (1 + 2 * shapes), len(OPS) * 2 * shapes)
    assert "simple_gla" in capsys.readouterr().out


def test_a_wrong_peer_is_told_and_is_not_ours(monkeypatch, tmp_path):
    stand_in(monkeypatch, wrong=True)
    assert gpu.main(["simple_gla", "--tiny", "--json", str(tmp_path / "gpu.json")]) == 0
    errors = json.loads((tmp_path / "gpu.json").read_text())["errors"]["simple_gla"]
    assert errors["peer"]["o"] > 0.1 > max(errors["flowc"].values())


def test_a_wrong_value_of_ours_fails(monkeypatch):
    monkeypatch.setitem(gpu.ERROR, gpu.torch.float16, 0.0)
    monkeypatch.setattr(gpu, "TINY", gpu.TINY[:1])
    assert gpu.main(["simple_gla", "--tiny"]) == 1


def test_what_it_refuses(capsys):
    for given, said in ((["mamba"], "the peer has no mamba"), ([], "there is no GPU; --tiny runs it small")):
        with pytest.raises(SystemExit):
            gpu.main(given)
        assert said in capsys.readouterr().err
