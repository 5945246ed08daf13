"""The bytes that a step on pools moves, and benchmarks/decode.py, whole at tiny size beside a stand-in or without."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import decode  # noqa: E402
import gpu_peers  # noqa: E402
from meter import Meter  # noqa: E402

import flowc  # noqa: E402

BATCH, HEADS, BLOCK = 5, 2, 16
SIZES = {"K": 24, "V": 40, "R": 2}
MOVED = ("gated_deltanet", "gla", "kda", "rwkv7", "rwkv6", "gated_delta_product", "mlstm", "mamba", "rebased", "hgrn")
APART = {"mlstm": ("m", "n"), "rebased": ("z",)}
"""States that every program makes all of: they go by memory of their own, in float32, and a launch puts them back."""


def sizes_of(model):
    return {d.name: d.value or SIZES.get(d.name, 40) for d in model.dimensions}


def stepped(name, state, skipped=0):
    """A step of sequences of which the first have no slot, and what it moved."""
    _, model = decode.compiled(name)
    given = decode.case(name, BATCH, HEADS, sizes_of(model), torch.float16, state, "cpu")
    given.slots[:skipped] = torch.tensor([0, -3])[:skipped]
    with Meter() as meter, torch.no_grad():
        given.call()
    return given, meter


def entries_of(model):
    """Of every state of one sequence and head."""
    return {s.name: torch.Size([n.value(sizes_of(model)) for n in s.shape.sizes]).numel() for s in model.states}


@pytest.mark.parametrize("state", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", MOVED)
def test_bytes_of_a_step(name, state):
    """States once in and once out, inputs, outputs and slots once; what is apart twice more, in float32.

    A launch that puts a state back reads the slots again. A sequence without a slot moves no state.
    """
    given, meter = stepped(name, state)
    model = given.model
    entries = entries_of(model)
    apart = [entries[n] for n in APART.get(name, ())]
    extra = BATCH * sum(2 * 4 * HEADS * n + 8 for n in apart)
    least = decode.least(model, BATCH, HEADS, sizes_of(model), torch.float16, state)
    assert meter.distinct() == least + extra
    assert meter.launches.total() == 1 + len(apart)
    _, meter = stepped(name, state, skipped=2)
    less = 2 * HEADS * sum(2 * state.itemsize * n for n in entries.values())
    unread = 2 * HEADS * sum(4 * n for n in apart)  # of what is apart: written, and not put back
    assert meter.distinct() == least + extra - less - unread


@pytest.mark.parametrize("name", ["gated_deltanet", "gla", "kda", "rwkv6", "rwkv7", "mlstm", "mamba", "rebased"])
def test_what_blocks_read_again(name):
    """Through L2 go once more for each further block of columns: inputs without them, states that are not divided.

    Params go through for every sequence, slots for every program; the states that are divided, once.
    """
    given, meter = stepped(name, torch.float32)
    model, blocks = given.model, -(-SIZES["V"] // BLOCK)
    again = 0
    for i in model.inputs:
        programs = 1 if any("V" in n.names for n in i.shape.sizes) else blocks
        programs *= BATCH if i.is_param else 1
        again += (programs - 1) * given.inputs[i.name].numel() * given.inputs[i.name].element_size()
    entries = entries_of(model)
    again += (blocks - 1) * BATCH * HEADS * 4 * sum(entries[n] for n in APART.get(name, ()))
    again += (blocks * HEADS - 1) * 8 * BATCH
    (kernel,) = (k for k in meter.launches if k != "_put_back")
    assert meter.read[kernel] + meter.written[kernel] == meter.distinct_of(kernel) + again


# -- the benchmark -----------------------------------------------------------------------------------------------------

OPS = {"gated_delta_rule": "gated_deltanet", "gla": "gla"}


def stand_in(monkeypatch, wrong=0.0):
    """Modules that are called like the peer's and give what examples give step by step."""

    class BackendRegistry:
        def _get_sorted_backends(self):
            return []

    root, ops, backends = (ModuleType(n) for n in ("fla", "fla.ops", "fla.backends"))
    root.__spec__, root.__version__, backends.BackendRegistry = object(), "0", BackendRegistry
    made = {"fla": root, "fla.ops": ops, "fla.backends": backends}
    for module, name in OPS.items():
        made[f"fla.ops.{module}"] = own = ModuleType(module)
        reference = flowc.compile(ROOT / f"examples/{name}.flow").reference

        def recurrent(*, scale, _reference=reference, **given):
            assert scale == 1.0
            inputs = {{"gk": "g"}.get(n, n): x for n, x in given.items()}
            assert inputs["q"].shape[1] == 1
            output, final = _reference(**inputs)
            return output + wrong, final

        setattr(own, f"fused_recurrent_{module}", recurrent)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("there", [True, False])
def test_it_runs_whole(there, monkeypatch, tmp_path, capsys):
    if there:
        stand_in(monkeypatch)
    elif gpu_peers.is_there():
        pytest.skip("the peer is installed")
    names = [*OPS.values(), "gated_delta_product", "mlstm"]
    assert decode.main([*names, "--tiny", "--device", "a100", "--json", str(tmp_path / "made.json")]) == 0
    found = json.loads((tmp_path / "made.json").read_text())
    rows = {(r["name"], r["state"], r["batch"]): r for r in found["rows"]}
    assert set(rows) == {(n, s, b) for n in names for s in ("float32", "float16") for b in decode.TINY["batches"]}
    row = rows["gla", "float16", 3]
    heads, side = decode.TINY["heads"], decode.TINY["side"]
    assert row["bytes"] == 3 * (8 + heads * (2 * 2 * side**2 + 3 * 2 * side + 4 * side + 2 * side))
    for row in rows.values():
        assert row["limit"] == pytest.approx(1e6 * row["bytes"] / 1.8e12)
        assert row["limit_tokens_per_second"] == pytest.approx(row["batch"] * 1.8e12 / row["bytes"])
        assert (row["basis"], row["eager"], row["peer_graph"]) == ("predicted", None, None)
    assert set(found["errors"]) == set(names)
    for name, by_state in found["errors"].items():
        for sides in by_state.values():
            assert set(sides) == ({"flowc", "peer"} if there and name in OPS.values() else {"flowc"})
            assert all(0 < max(e.values()) < 1e-3 for e in sides.values())
    assert set(found["errors"]["mlstm"]["float32"]["flowc"]) == {"o", "m", "C", "n"}
    said = capsys.readouterr()
    assert "predicted" in said.out
    assert "Nothing was timed" in said.out
    assert "states of float32: values flowc" in said.out


def test_a_wrong_peer_is_told_and_a_wrong_value_of_ours_fails(monkeypatch, tmp_path):
    stand_in(monkeypatch, wrong=1.0)
    given = ["gla", "--tiny", "--batches", "2", "--json", str(tmp_path / "made.json")]
    assert decode.main(given) == 0
    errors = json.loads((tmp_path / "made.json").read_text())["errors"]["gla"]["float32"]
    assert errors["peer"]["o"] > 0.1 > errors["flowc"]["o"]
    monkeypatch.setattr(decode.Case, "call", elsewhere(decode.Case.call))
    assert decode.main(given) == 0  # it is the same code, and is not run again
    assert decode.main([*given, "--again"]) == 1
    errors = json.loads((tmp_path / "made.json").read_text())["errors"]["gla"]["float32"]
    assert errors["flowc"]["S"] == float("inf")


def elsewhere(call):
    """A step that writes to a slot that is nobody's."""

    def called(self):
        made = call(self)
        self.pools[0][0] += 1
        return made

    return called


def test_without_anything_to_run_on_there_are_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(decode.Case, "call", None)
    assert decode.main(["gated_deltanet", "--json", str(tmp_path / "made.json")]) == 0
    found = json.loads((tmp_path / "made.json").read_text())
    assert found["errors"] == {}
    assert [(r["state"], r["batch"]) for r in found["rows"]] == [
        (s, b) for s in ("float32", "bfloat16") for b in (1, 8, 64, 256)
    ]
    one = found["rows"][0]
    assert one["bytes"] == 8 + 32 * (2 * 4 * 128 * 128 + 4 * 2 * 128 + 4 + 2)


def test_another_run_goes_on(monkeypatch, tmp_path):
    """With what the first had no time for, in a file that ends as one run would have left it."""
    path = tmp_path / "made.json"
    given = ["--tiny", "--batches", "2", "--json", str(path)]
    assert decode.main(["gla", *given]) == 0
    first = json.loads(path.read_text())
    checked, called = decode.checked, []
    monkeypatch.setattr(decode, "checked", lambda name, *more: called.append(name) or checked(name, *more))
    assert decode.main(["gla", "hgrn", *given]) == 0
    second = json.loads(path.read_text())
    assert called == ["hgrn"]
    assert {r["name"] for r in second["rows"]} == {"gla", "hgrn"}
    assert [r for r in second["rows"] if r["name"] == "gla"] == first["rows"]
    assert decode.main(["gla", *given, "--side", "24"]) == 0
    assert called == ["hgrn", "gla"]  # other sizes are other rows


def test_what_it_refuses(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        decode.main(["nothing", "--tiny"])
    assert "there is no examples/nothing.flow" in capsys.readouterr().err
    monkeypatch.setattr(decode.triton.knobs.runtime, "interpret", False)
    with pytest.raises(SystemExit):
        decode.main(["gla", "--tiny"])
    assert "set TRITON_INTERPRET=1" in capsys.readouterr().err


def test_what_our_step_raises_is_told(monkeypatch, tmp_path):
    """The other ops go on."""
    checked = decode.checked

    def raising(name, *more):
        if name == "gla":
            raise RuntimeError("no such luck")
        return checked(name, *more)

    monkeypatch.setattr(decode, "checked", raising)
    path = tmp_path / "decode.json"
    assert decode.main(["gla", "retnet", "--tiny", "--json", str(path)]) == 1
    found = json.loads(path.read_text())
    assert found["failed"].keys() == {"gla"}
    assert found["errors"].keys() == {"retnet"}
