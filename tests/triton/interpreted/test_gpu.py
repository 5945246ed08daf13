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
import kernel_times as kernel_profile  # noqa: E402
import model  # noqa: E402
from kernel_times import UnprofiledError, kernel_times, launches, of_one  # noqa: E402

import flowc  # noqa: E402
from flowc.options import choices  # noqa: E402
from flowc.report.shape import shape_facts  # noqa: E402
from flowc.schedule.devices import DEVICES  # noqa: E402
from flowc.schedule.predict import Shape  # noqa: E402
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
        assert row["kernels"].keys() >= {"_fused", *(["_gradients_backward"] if row["passes"] == "both" else [])}
        assert min(row["kernels"].values()) > 0
        assert row["unprofiled"] is None
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


def cuts(name):
    """The schedules of an example's kernels, on an H200 and under the interpreter."""
    op, _ = gpu.example(name)
    facts = shape_facts(op.compilation, Shape(1, 4096, 2), (128, 128), DEVICES["h200"], True)
    return [c.schedule if c.schedule in choices()["schedule"] else "auto" for c in facts.candidates]


@pytest.mark.parametrize("name", ["gated_deltanet", "gla", "based", "mlstm", "mamba"])
def test_kernels_are_those_of_the_model(name, monkeypatch):
    """What is launched under every schedule has the names that times are predicted for; scans have none."""
    op, model_of = gpu.example(name)
    x = gpu.drawn(model_of, (1, 40, 2), gpu.sizes_of(model_of, 8), gpu.torch.float16, "cpu")
    monkeypatch.setattr(op._module, "_processors", lambda _: 1000, raising=False)
    for schedule in cuts(name):
        given = {"schedule": schedule, "chunk_size": 16} if schedule != "auto" else {}
        found = kernel_times(lambda given=given: gpu.results(lambda **y: op(**y, backend="triton", **given), x), False)
        asked = None if schedule == "auto" else schedule
        known = model.kernels(name, "both", (1, 4096, 2, 128), DEVICES["h200"], asked)
        assert found.keys() - {"_scan_kernel"} == {f"_{k.name}" for k in known}
        assert ("_flow" in found) == (schedule == "two-level")


def trace(*kernels):
    """As torch's profiler writes it: kernels, the copy before each call, what the host did."""
    others = [{"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoD (Device -> Device)", "ts": 1, "dur": 60.0},
              {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 2, "dur": 5.0},
              {"ph": "M", "name": "process_name"}]  # fmt: skip
    made = [{"ph": "X", "cat": "kernel", "name": n, "ts": 10 + t, "dur": us} for t, (n, us) in enumerate(kernels)]
    return {"traceEvents": [*others, *reversed(made)]}


def test_a_profile_is_read_call_by_call():
    """Medians of three calls, in which one kernel is launched twice; calls that differ are refused."""
    calls = (
        [("_walk", 7.0), ("_compose", 1.0), ("_compose", 2.0)],
        [("_walk", 9.0), ("_compose", 2.0), ("_compose", 2.0)],
    )
    found = of_one(launches(trace(*calls[0], *calls[1], *calls[0])), 3)
    assert found == pytest.approx({"_walk": 7e-3, "_compose": 3e-3})
    with pytest.raises(UnprofiledError, match="2 calls launched _walk 1 times"):
        of_one(launches(trace(*calls[0])), 2)
    with pytest.raises(UnprofiledError, match="tells of no kernel"):
        of_one(launches(trace()), 2)


def test_a_profile_is_taken(monkeypatch):
    """Warm, then every call behind a copy; what the profiler writes is what is read."""
    seen, empty = [], gpu.torch.empty

    class Profile:
        def __init__(self, activities):
            assert activities == [kernel_profile.ProfilerActivity.CUDA]

        def __enter__(self):
            seen.append("begun")
            return self

        def __exit__(self, *_):
            seen.append("ended")

        def export_chrome_trace(self, path):
            Path(path).write_text(json.dumps(trace(*[("_walk", 5.0)] * kernel_profile.CALLS)))

    monkeypatch.setattr(kernel_profile, "profile", Profile)
    monkeypatch.setattr(kernel_profile, "EMPTIED", 4)
    monkeypatch.setattr(gpu.torch, "empty", lambda *size, device, **more: empty(*size, **more))
    monkeypatch.setattr(gpu.torch.cuda, "synchronize", lambda: seen.append("waited"))
    assert kernel_times(lambda: seen.append("called"), True) == {"_walk": pytest.approx(5e-3)}
    calls = ["called"] * kernel_profile.CALLS
    assert seen == [*["called"] * kernel_profile.WARM, "begun", *calls, "waited", "ended"]
    monkeypatch.setattr(Profile, "export_chrome_trace", lambda self, path: Path(path).write_text(json.dumps(trace())))
    with pytest.raises(UnprofiledError, match="CUPTI"):
        kernel_times(lambda: None, True)


def test_a_peer_that_cannot_be_imported_is_told(monkeypatch, tmp_path, capsys):
    """Its columns are empty, and the file says why."""
    (tmp_path / "fla/ops").mkdir(parents=True)
    (tmp_path / "fla/__init__.py").write_text("")
    (tmp_path / "fla/ops/__init__.py").write_text("import no_package_of_this_name")
    for name in [n for n in sys.modules if n.partition(".")[0] == "fla"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert gpu.main(["simple_gla", "--tiny", "--budget", "0", "--json", str(tmp_path / "gpu.json")]) == 0
    why = json.loads((tmp_path / "gpu.json").read_text())["peer_absent"]
    assert why.startswith("flash-linear-attention is installed, and cannot be imported: ModuleNotFoundError")
    assert "no_package_of_this_name" in why
    assert why.split(":")[0] in " ".join(capsys.readouterr().err.split())
    sys.modules.pop("fla", None)
    sys.modules.pop("fla.ops", None)


def test_a_wrong_peer_is_told_and_is_not_ours(monkeypatch, tmp_path):
    stand_in(monkeypatch, wrong=True)
    assert gpu.main(["simple_gla", "--tiny", "--json", str(tmp_path / "gpu.json")]) == 0
    errors = json.loads((tmp_path / "gpu.json").read_text())["errors"]["simple_gla"]
    assert errors["peer"]["o"] > 0.1 > max(errors["flowc"].values())


def test_a_peer_that_refuses_leaves_our_rows(monkeypatch, tmp_path):
    """As flash-linear-attention does on Hopper below Triton 3.7.1: rows have what it said in the place of its times."""
    stand_in(monkeypatch)

    def refuses(**_):
        raise RuntimeError("not with this Triton")

    monkeypatch.setattr(sys.modules["fla.ops.simple_gla"], "chunk_simple_gla", refuses)
    monkeypatch.setattr(gpu, "TINY", gpu.TINY[:1])
    assert gpu.main(["simple_gla", "--tiny", "--json", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "not with this Triton" in found["refused"]["simple_gla"]
    for row in found["rows"]:
        assert (row["flowc"] > 0, row["peer"], row["peer_default"]) == (True, None, None)
        assert "not with this Triton" in row["refused"]


@pytest.mark.parametrize(("said", "code"), [("no such luck", 1), ("CUDA error: an illegal memory access", 75)])
def test_what_our_op_raises_is_a_failed_row(said, code, monkeypatch, tmp_path):
    """The other rows go on, but where the device is lost: then another process goes on behind it."""
    path, measured = tmp_path / "gpu.json", gpu.measured

    def raising(name, passes, *given):
        if passes == "forward":
            raise RuntimeError(said)
        return measured(name, passes, *given)

    monkeypatch.setattr(gpu, "TINY", gpu.TINY[:1])
    with monkeypatch.context() as patched:
        patched.setattr(gpu, "measured", raising)
        assert gpu.main(["simple_gla", "--tiny", "--json", str(path)]) == code
    found = json.loads(path.read_text())
    assert list(found["failed"]) == ["simple_gla, forward, (1, 64, 2, 16)"]
    assert [r["passes"] for r in found["rows"]] == (["both"] if code == 1 else [])
    assert gpu.main(["simple_gla", "--tiny", "--json", str(path)]) == 1
    again = json.loads(path.read_text())
    assert again["failed"] == found["failed"]
    assert [r["passes"] for r in again["rows"]] == ["both"]


@pytest.mark.parametrize("quantity", ["o", "dv"])
def test_what_is_no_number_fails(quantity, monkeypatch):
    monkeypatch.setattr(gpu, "TINY", gpu.TINY[:1])
    apart = gpu.errors

    def broken(*given):
        found, refused = apart(*given)
        found["flowc"][quantity] = float("nan")
        return found, refused

    monkeypatch.setattr(gpu, "errors", broken)
    assert gpu.main(["simple_gla", "--tiny", "--passes", "forward"]) == 1


def test_a_wrong_value_of_ours_fails(monkeypatch):
    monkeypatch.setitem(gpu.ERROR, gpu.torch.float16, 0.0)
    monkeypatch.setattr(gpu, "TINY", gpu.TINY[:1])
    assert gpu.main(["simple_gla", "--tiny"]) == 1


def test_what_it_refuses(capsys):
    for given, said in ((["mamba"], "the peer has no mamba"), ([], "there is no GPU; --tiny runs it small")):
        with pytest.raises(SystemExit):
            gpu.main(given)
        assert said in capsys.readouterr().err
