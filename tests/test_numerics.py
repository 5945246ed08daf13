"""`flowc verify --numerics`: the grid at 64 tokens, what it finds where an op loses too much, and what it prints."""

import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import flowc
from flowc.cli import cli
from flowc.verify.cells import GATES, KEYS, STRENGTHS, Cell, Drawer, Parts
from flowc.verify.numerics import BAR, DTYPES, SIZES, Loss, numerics
from flowc.verify.numerics_report import record

ROOT = Path(__file__).parent.parent


def op_of(name):
    return flowc.compile(ROOT / f"examples/{name}.flow")


@pytest.mark.parametrize("name", ["gated_deltanet", "rwkv7", "hgrn2", "linear_attention"])
def test_a_short_grid_holds(name):
    found = numerics(op_of(name), [64], None)
    off = [(loss.cell, loss.quantity, loss.error, loss.limit) for loss in found.losses if not loss.holds]
    assert not off
    assert found.repeatable
    assert found.independent
    assert {loss.dtype for loss in found.losses} == set(DTYPES)


def test_a_sum_in_float32_is_found():
    """Of gates of -20 among gates of -0.001: differences of such sums are off by 75 times what the loop is."""
    op = op_of("simple_gla")
    plain = op._module._gate_sums

    def rounded(log_gates):
        return plain(log_gates).float().double()

    op._module._gate_sums = rounded
    try:
        found = numerics(op, [64], None)
    finally:
        op._module._gate_sums = plain
    mixed = [x for x in found.losses if x.cell.gate == "mixed" and x.dtype == torch.float32]
    assert max(x.ratio for x in mixed) > 5 * BAR
    assert not found.holds
    assert numerics(op, [64], None).holds


def test_cells_are_those_that_a_recurrence_has():
    parts = Parts.of(op_of("gated_delta_product").compilation.recurrence)
    assert (parts.log_gates, parts.strengths, parts.keys) == ({"g"}, {"beta"}, ({"k"},))
    assert {c.gate for c in parts.cells()} == set(GATES)
    assert {c.strength for c in parts.cells()} == set(STRENGTHS)
    parts = Parts.of(op_of("mamba2").compilation.recurrence)
    assert (parts.raw_gates, parts.strengths) == ({"dt"}, frozenset())
    parts = Parts.of(op_of("rwkv7").compilation.recurrence)
    assert (parts.reads, set(parts.keys)) == ({"a"}, {frozenset("ab"), frozenset("k")})
    assert {c.gate for c in Parts.of(op_of("deltanet").compilation.recurrence).cells()} == {""}


def test_what_is_drawn_is_of_its_kind():
    recurrence = op_of("gated_deltanet").compilation.recurrence
    drawer = Drawer(recurrence, Parts.of(recurrence), SIZES)
    cells = [Cell("-inf", keys, 2.0, 0) for keys in KEYS] + [Cell("mixed", "unit", 0.0, 1)]
    x = drawer.inputs(cells, 50)
    torch.testing.assert_close(x["k"].norm(dim=-1), torch.ones(5, 50, 1, dtype=torch.float64))
    unit, repeated, near, alternating = x["k"][:4, :, 0]
    assert torch.equal(repeated, repeated[:1].expand_as(repeated))
    assert torch.equal(alternating[2:], alternating[:-2])
    assert not torch.equal(alternating[1], alternating[0])
    assert (near @ near.mT).min() > 0.5 > (unit @ unit.mT).min()
    assert (x["g"][0] == -torch.inf).all()
    assert set(x["g"][4].unique().tolist()) == {-20.0, -0.001}
    assert (x["beta"][0] == 2).all()
    alone = drawer.inputs(cells[3:4], 50)
    assert torch.equal(alone["v"][0], x["v"][3])


def test_the_limit():
    cell = Cell("mild", "unit", 1.0, 0)
    eps = torch.finfo(torch.float32).eps
    loss = Loss(torch.float32, 64, cell, "wy", "o", 1e-6, 1e-7)
    assert loss.limit == pytest.approx(BAR * 1e-7)
    assert not loss.holds
    assert Loss(torch.float32, 64, cell, "wy", "dq", 0, 0).limit == pytest.approx(4 * eps)
    assert not Loss(torch.float32, 64, cell, "wy", "o", float("nan"), 1e-7).holds


def test_the_command(tmp_path):
    path = str(ROOT / "examples/retnet.flow")
    shown = CliRunner().invoke(cli, ["verify", path, "--numerics", "--length", "33"])
    assert shown.exit_code == 0
    assert "12 of 12 cells lose at most 8 times" in shown.output
    found = json.loads(CliRunner().invoke(cli, ["verify", path, "--numerics", "--length", "33", "--json"]).stdout)
    assert found["holds"]
    assert [row["dtype"] for row in found["rows"]] == ["float32", "bfloat16", "float16"]
    assert found == record(numerics(op_of("retnet"), [33], None))
    refused = CliRunner().invoke(cli, ["verify", path, "--length", "33"])
    assert refused.exit_code == 2
    assert "--length is of --numerics" in refused.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "triton"], "the comparison is in float64, which Triton kernels do not have"),
        (["--seed", "99999999999999999999999999"], "is not in the range"),
        (["--numerics", "--length", "9", "--backend", "triton"], "the arguments are on the CPU"),
    ],
)
def test_what_cannot_run_is_said(options, words):
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("kernels run")
    shown = CliRunner().invoke(cli, ["verify", str(ROOT / "examples/retnet.flow"), *options])
    assert shown.exit_code == 2
    assert words in " ".join(shown.output.split())


def test_two_deltas_have_keys_of_their_own():
    steps = "S[t] = S[t] + {0} * {1} @ (v - S[t].T @ {1}).T\n"
    text = "flow f(K, V)\ninput q, k, p : K; input v : V; input b, c : scalar in (0, 1)\nstate S : K x V\n"
    op = flowc.compile(
        text + "S[t] = S[t-1]\n" + steps.format("b", "k") + steps.format("c", "p") + "o[t] = S[t].T @ q\n"
    )
    assert set(Parts.of(op.compilation.recurrence).keys) == {frozenset("k"), frozenset("p")}
    found = numerics(op, [64], None)
    assert found.holds
    assert max(loss.error for loss in found.losses) < 0.5
