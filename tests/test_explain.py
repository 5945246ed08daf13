"""An explanation names the class, the span that decides it, the choices and every kernel."""

import json
import re
from pathlib import Path

import pytest
import torch
from differential.harness import op_of

from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.report.explain import NOMINAL_SIDE, explain_record, explain_text
from flowc.report.stages import stage_text
from flowc.source import Source

ROOT = Path(__file__).parent.parent
SPECS = sorted(ROOT.glob("examples/*.flow"))


def compiled(path, **options):
    return compile_text(Source(path.name, path.read_text()), Options(**options))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_example_explains(path):
    compilation = compiled(path)
    record, text = explain_record(compilation), explain_text(compilation)
    assert json.loads(json.dumps(record)) == record
    states = len(compilation.recurrence.memories)
    products = states > 0 or path.stem == "momentum_delta"  # the others are stepped entry by entry
    assert record["class"]["name"] in ("G", "D", "E", "M", "R")
    assert f"decided at {path.name}:{record['class']['line']}:" in text
    assert len(record["kernels"]) == (8 if states else 4)
    assert (sum(kernel["product_flops"] for kernel in record["kernels"]) > 0) == products
    assert (record["aggregation"] is None) == (not compilation.plan.aggregations)
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.mark.parametrize("name", ["gated_deltanet", "epilogue", "product_of_reads", "prelude"])
def test_names_are_those_of_the_module(name):
    """Whatever is kept or stored is assigned or unpacked under that name in the module, and kept names are distinct."""
    record, source = explain_record(op_of(name).compilation), op_of(name).source
    forward, backward = source.split("\ndef _backward_rows(")
    passes = {"forward": forward.split("\ndef _forward_rows(")[1], "backward": backward.split("\nclass _Run(")[0]}
    assert len(set(record["saved"])) == len(record["saved"])
    assert re.search(r"\b" + r",\s+".join(record["saved"]) + r",\s+\)? = saved", passes["backward"]) is not None
    results = {o.name for o in op_of(name).compilation.plan.recurrence.results}
    results |= {f"{i.name}_bar" for i in op_of(name).compilation.model.inputs}
    for kernel in record["kernels"]:
        for stored in set(kernel["stores"]) - results:
            assert re.search(rf"\b{stored}\b,? = |\b{stored},\n", passes[kernel["kernel"].split()[0]]), stored


@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "features", "two_repeats"])
def test_the_triton_kernels_are_those_of_the_module(name):
    """Each is launched under its name; what it reads was an argument or stored before it; every result is made."""
    record, source = explain_record(op_of(name).compilation)["triton"], op_of(name).source
    model, plan = op_of(name).compilation.model, op_of(name).compilation.plan
    inputs, results = {i.name for i in model.inputs}, {r.name for r in plan.recurrence.results}
    known = inputs | {f"{n}_bar" for n in results} | set(record["by_torch"])
    assert record["kernels"]
    for kernel in record["kernels"]:
        assert f"def _{kernel['kernel']}(" in source
        assert set(kernel["fetches"]) <= known, kernel
        assert kernel["bytes_read"] > 0
        assert kernel["bytes_written"] > 0
        known |= set(kernel["stores"])
    made = {n for kernel in record["kernels"] for n in kernel["stores"]} | set(record["by_torch"])
    assert results | {f"{n}_bar" for n in inputs} <= made
    assert set(record["saved"]) <= known
    text, shown = explain_text(op_of(name).compilation), stage_text(op_of(name).compilation, Stage.PLAN)
    for kernel in record["kernels"]:
        assert f"\n  {kernel['kernel']} " in text
        assert f"\n    {kernel['kernel']}: " in shown


def test_the_chunk_of_the_triton_kernels_is_the_module_s():
    for name in ("gated_deltanet", "gated_delta_product"):
        record, module = explain_record(op_of(name).compilation), op_of(name)._module
        sizes, model = record["sizes"], op_of(name).compilation.model
        lead = {False: (1, 64, 1), True: (1,)}
        shapes = [(*lead[i.is_param], *(s.value(sizes) for s in i.shape.sizes)) for i in model.inputs]
        tensors = [torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in shapes]
        starts = [torch.empty((1, 1, *(s.value(sizes) for s in model.states[0].shape.sizes)), device="meta")]
        _, tokens, _ = module._kernel_choice(
            "auto", None, tensors, starts, record["rows_per_token"], NOMINAL_SIDE, False
        )
        assert record["triton"]["chunk_size"] == tokens


def test_a_forced_choice_is_told_from_a_chosen_one():
    path = ROOT / "examples/gated_deltanet.flow"
    assert "by the cost model" in explain_text(compiled(path))
    forced = explain_text(compiled(path, chunk_size=16, aggregation="tensorinv"))
    assert "chunk size 16: asked for" in forced
    assert "aggregation tensorinv: asked for" in forced


def test_the_model_prints_with_its_shapes():
    compilation = compiled(ROOT / "examples/gated_delta_product.flow")
    text = stage_text(compilation, Stage.MODEL)
    assert text.splitlines()[:3] == ["model gated_delta_product(K, V, R)", "  input q : K", "  input k : R of K"]
    assert "  repeat r in R:" in text
    assert text.splitlines()[-1] == "  output o : V = S[t].T @ q"


@pytest.mark.parametrize("name", ["gated_deltanet", "gated_delta_product"])
def test_aggregations_differ_in_flops_and_in_what_they_form(name):
    """Of 64 rows: two inverses of the whole, made by other flops, or inverses of 16 rows and many products."""
    path = ROOT / f"examples/{name}.flow"
    record = explain_record(compiled(path))
    ways = {a["aggregation"]: a for a in record["aggregations"]}
    assert list(ways) == ["wy", "tensorinv", "signature"]
    assert [a["formed"] for a in ways.values()] == [
        {"inverses": 1, "rows": 64},
        {"inverses": 1, "rows": 64},
        {"inverses": 4, "rows": 16},
    ]
    assert len({a["forming_flops"] for a in ways.values()}) == 3
    assert ways["signature"]["walk_products"] == 14
    assert ways["signature"]["walk_flops"] < ways["wy"]["walk_flops"]
    kernels = {
        a: {k["kernel"]: k["product_flops"] for k in explain_record(compiled(path, aggregation=a))["kernels"]}
        for a in ways
    }
    for kernel in ("forward intra", "forward walk", "backward walk"):
        assert kernels["signature"][kernel] < kernels["wy"][kernel] <= kernels["tensorinv"][kernel]


def test_a_plan_says_how_systems_are_solved():
    path = ROOT / "examples/deltanet.flow"
    texts = {a: str(compiled(path, aggregation=a).plan) for a in ("wy", "tensorinv", "signature")}
    assert "T = (I - N)^-1, row by row" in texts["wy"]
    assert "merged" in texts["tensorinv"]
    assert "U_b = D_b Z_b" in texts["signature"]
    assert "T = " not in texts["signature"]
