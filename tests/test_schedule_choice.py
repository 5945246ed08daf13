"""Which schedule a call takes: what the emitted module finds by its table is what the cost model says."""

import json
import random
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from differential.harness import ROOT, op_of

from flowc.cli import cli
from flowc.schedule.devices import DEVICES, OF_FAMILY
from flowc.schedule.predict import MARGIN, Shape, nominal
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tilings import KEYS, TOKENS, tiling
from flowc.schedule.two_level import Segmented, behind, chosen, schedules

NAMES = ("deltanet", "gated_delta_product", "gla", "kda", "simple_gla")
SHAPES = 200


def models_of(name, device, keep):
    plan = op_of(name).compilation.plan
    sizes, rows = nominal(plan)
    stages = kernel_plan(plan).stages
    models = schedules(stages, sizes, rows, device, keep=keep)
    return models, behind(stages, sizes, models, device) if keep else (), rows


def tensor(*shape, dtype=torch.bfloat16):
    """What the choice reads of a tensor on a GPU."""
    return SimpleNamespace(shape=shape, dtype=dtype, is_cuda=True, device=torch.device("cuda"))


def test_the_module_chooses_what_the_model_does(monkeypatch):
    """200 random shapes on every family of devices; and what is chosen is near the fastest.

    Thresholds are of long sequences, with `MARGIN`, and of short ones with few programs: 1.25 for what lies between.
    """
    draw, taken = random.Random(0), set()
    for _ in range(SHAPES):
        name, device, keep = draw.choice(NAMES), draw.choice(list(OF_FAMILY.values())), draw.random() < 0.5
        shape = Shape(2 ** draw.randint(0, 6), draw.randint(1, 2**17), draw.randint(1, 64))
        models, back, rows = models_of(name, device, keep)
        module = op_of(name)._module
        monkeypatch.setattr(module, "_family", lambda _, device=device: device.family)
        monkeypatch.setattr(module, "_processors", lambda _, device=device: device.processors)
        lead = (shape.batch, shape.length, shape.heads)
        inputs = [tensor(*lead, 128) for _ in op_of(name).compilation.model.inputs]
        start = tensor(shape.batch, shape.heads, 128, 128, dtype=torch.float32)
        found = module._kernel_choice("auto", None, inputs, [start], rows, 128, keep)
        expected = chosen(models, back, shape)
        inner, count = (expected.inner, expected.count(shape)) if isinstance(expected, Segmented) else (expected, 1)
        assert found == (inner.schedule, inner.tokens, count), (name, device.name, keep, shape)
        taken.add(expected.schedule)
        times = [sum(m.at(shape).seconds for m in own) for own in zip(models, *([back] if back else []), strict=True)]
        own = times[models.index(expected)]
        assert own <= 1.25 * MARGIN * min(times), (name, device.name, keep, shape, times)
    assert taken == {"split", "fused", "two-level"}


@pytest.mark.parametrize("name", ["gated_deltanet", "lightning", "mlstm"])
def test_float32_and_wide_states_are_split(name, monkeypatch):
    module = op_of(name)._module
    monkeypatch.setattr(module, "_family", lambda _: "any")
    monkeypatch.setattr(module, "_processors", lambda _: 132)
    inputs = [tensor(8, 4096, 16, 128, dtype=torch.float32) for _ in op_of(name).compilation.model.inputs]
    starts = [tensor(8, 16, 256, 256, dtype=torch.float32) for _ in op_of(name).compilation.model.states]
    for keys in (128, 256):
        assert module._kernel_choice("auto", None, inputs, starts, 1, keys, False)[0] == "split"
    assert module._kernel_choice("fused", 16, inputs, starts, 1, 128, False) == ("fused", 16, 1)


@pytest.mark.parametrize("name", ["gated_deltanet", "gated_lowrank_delta", "kda", "mlstm", "rwkv7"])
def test_the_module_s_table_says_what_was_chosen(name):
    """For every role, family, number of rows and of tokens, though rows that others make needless are left out."""
    module = op_of(name)._module
    for stage in kernel_plan(op_of(name).compilation.plan).stages:
        for kernel, adjoint in stage.kernels():
            role = f"{kernel.name}{'_backward' if adjoint else ''}"
            for family, keys, tokens in product(("any", "ampere", "blackwell", "amd"), KEYS, TOKENS):
                columns, rows, warps, stages = tiling(stage, role, family, keys, tokens)[0]
                expected = columns, rows, warps // 2 if family == "amd" else warps, stages
                assert module._tiling(f"{role}{stage.suffix}", 2, family, keys, tokens) == expected
                assert module._tiling(f"{role}{stage.suffix}", 2, family, keys - 1, tokens - 1) == expected


def test_explain_tells_what_a_shape_takes():
    file = str(ROOT / "examples/gated_deltanet.flow")
    text = CliRunner().invoke(cli, ["explain", file, "--shape", "8,4096,16,128,128", "--device", "h200"]).stdout
    record = json.loads(CliRunner().invoke(cli, ["explain", file, "--json", "--shape", "8,4096,16,128,128"]).stdout)
    for candidate in record["candidates"]:
        assert candidate["seconds"] == pytest.approx(sum(k["seconds"] for k in candidate["kernels"]))
        assert f"{candidate['schedule']}: {candidate['chunk_size']} tokens a chunk" in text
    assert record["schedule"] in [c["schedule"] for c in record["candidates"]]
    assert record["why"] in text
    tokens = 8 * 4096 * 16
    fused = next(c for c in record["candidates"] if c["schedule"] == "fused")
    own = {k["kernel"]: k["distinct_bytes"] / tokens for k in fused["kernels"]}
    # q, k, v, o of 128 entries, the 40 of T's and P's 64 that their lower blocks have on average, in two bytes; g and
    # beta in four; the first kernel reads q, k and gates
    assert own == {"matrices": 2 * (2 * 128 + 2 * 40) + 8, "fused": 2 * (4 * 128 + 2 * 40) + 8}


def told(name, *arguments):
    file = str(ROOT / f"examples/{name}.flow")
    return CliRunner().invoke(cli, ["explain", file, "--shape", "8,4096,16,16,128", *arguments]).stdout


def test_explain_tells_of_kernels_from_token_to_token():
    """Of mamba a token has x, dt, o of V and B, C of K; A has K V, D V; a state at either end K V."""
    (only,) = json.loads(told("mamba", "--json"))["candidates"]
    (kernel,) = only["kernels"]
    token, once = 2 * (3 * 128 + 2 * 16), 4 * (3 * 16 * 128 + 128)
    assert kernel["distinct_bytes"] == 8 * 16 * (4096 * token + once)
    assert "tokens: 64 tokens a chunk, 1 launch," in told("mamba")


def test_explain_tells_of_the_backward_pass():
    """What stands under a schedule's name is what a call launches after it; one program per chunk and head, or walk."""
    record, text = json.loads(told("gated_deltanet", "--backward", "--json")), told("gated_deltanet", "--backward")
    for candidate in record["candidates"]:
        back = candidate["backward"]
        programs = {k["kernel"]: k["programs"] for k in back["kernels"]}
        first = {"begins", "compose"} if candidate["schedule"] == "two-level" else set()
        assert set(programs) == {"walk_backward", "gradients_backward"} | first
        assert programs["gradients_backward"] == 8 * 16 * 4096 // candidate["chunk_size"]
        assert back["seconds"] == pytest.approx(sum(k["seconds"] for k in back["kernels"]))
        if candidate["schedule"] == record["schedule"]:
            assert record["seconds"] == pytest.approx(candidate["seconds"] + back["seconds"])
            assert f"in all {1e3 * record['seconds']:.3f} ms; save='recompute' " in text
    assert "backward after fused, 2 launches" in text
    (only,) = json.loads(told("mamba", "--backward", "--json"))["candidates"]
    assert [k["kernel"] for k in only["backward"]["kernels"]] == ["tokens_backward"]
    assert "backward" not in json.loads(told("mamba", "--json"))["candidates"][0]


def test_explain_goes_by_options_and_sizes():
    """What a call asks for is what is predicted: chunks, a schedule, the rank, and no more rows than kernels hold."""
    own = json.loads(told("gated_delta_product", "--json", "--chunk-size", "16", "--schedule", "split"))
    assert (own["schedule"], own["why"], {c["chunk_size"] for c in own["candidates"]}) == ("split", "asked for", {16})
    wide = json.loads(told("gated_deltanet", "--json", "--chunk-size", "128"))
    assert (wide["schedule"], wide["why"]) == ("split", "a walk that makes the outputs has room for chunks of 64 rows")
    file = str(ROOT / "examples/gated_delta_product.flow")
    chunks = {}
    for rank in (1, 4):
        shape = f"8,4096,16,128,128,R={rank}"
        record = json.loads(CliRunner().invoke(cli, ["explain", file, "--json", "--shape", shape]).stdout)
        assert record["shape"]["R"] == rank
        chunks[rank] = record["candidates"][0]["chunk_size"]
    assert chunks == {1: 64, 4: 16}
    shape = "8,4096,16,128,128,R=8"
    refused = CliRunner().invoke(cli, ["explain", file, "--shape", shape, "--chunk-size", "64"])
    assert "8 rows a token make 512 rows a chunk, and kernels hold at most 256" in refused.stderr


def test_explain_tells_what_torch_operators_make():
    assert json.loads(told("mlstm", "--json"))["beside"] == ["m", "given0", "given1", "o"]
    assert "scans and torch operators make m, given0, given1, o\n" in told("mlstm")
    assert "torch operators" not in told("gla")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "8,4096,16,128"], "five numbers from 1"),
        (["--shape", "8,4096,0,128,128"], "five numbers from 1"),
        (["--shape", "8,4096,16,128,128,R"], "five numbers from 1"),
        (["--shape", "8,4096,16,128,128,R=0"], "five numbers from 1"),
        (["--shape", "8,4096,16,128,128,R=2"], "R is no open dimension; there is none"),
        (["--shape", "8,4096,16,512,128"], "its state has 512 rows, and kernels hold at most 256"),
        (["--device", "h200"], "--device and --backward go with --shape"),
        (["--shape", "1,1,1,1,1", "--scaling"], "exclude each other"),
    ],
)
def test_what_explain_refuses(arguments, said):
    result = CliRunner().invoke(cli, ["explain", str(ROOT / "examples/gla.flow"), *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_device_of_every_family():
    assert {d.family for d in DEVICES.values()} == set(OF_FAMILY)
    assert OF_FAMILY["any"].name == "h200"
