"""Verification finds what is wrong with an op, and passes one that is right, without a compiler in the way."""

from pathlib import Path

import pytest
import torch

from flowc import reference
from flowc.compiler import compile_text
from flowc.options import Options
from flowc.runtime.op import Op
from flowc.semantics import load
from flowc.source import Source
from flowc.verify import Report, compare, verify
from flowc.verify.draw import Sizes, draw_inputs, draw_states

ROOT = Path(__file__).parent.parent
SPECS = sorted(ROOT.glob("examples/*.flow"))


class Slow:
    """The oracle behind the interface of a compiled op, with one place to put an error in."""

    def __init__(self, model, spoil=lambda outputs, states: (outputs, states), spoil_step=0.0):
        self.model, self.spoil, self.spoil_step = model, spoil, spoil_step

    def bare(self, values):
        return next(iter(values.values())) if len(values) == 1 else tuple(values.values())

    def __call__(self, *, initial_state=None, output_final_state, chunk_size=None, **inputs):
        names = [state.name for state in self.model.states]
        given = (initial_state,) if len(names) == 1 else initial_state
        initial = None if initial_state is None else dict(zip(names, given, strict=True))
        outputs, states = self.spoil(*reference.run(self.model, inputs, initial))
        return self.bare(outputs), self.bare(states)

    def step(self, *, state, **inputs):
        outputs, states = reference.step(self.model, inputs, state)
        return self.bare({n: v + self.spoil_step for n, v in outputs.items()}), states


def model(name="gated_deltanet"):
    return load((ROOT / f"examples/{name}.flow").read_text(), name)


@pytest.mark.parametrize("name", ["gated_deltanet", "lowrank_delta", "mamba2", "gated_delta_product"])
def test_the_oracle_agrees_with_itself(name):
    findings = compare(model(name), Slow(model(name)), seed=0)
    assert all(f.holds and f.error == 0 for f in findings)


def off(findings):
    return {f.quantity for f in findings if not f.holds}


def test_a_small_error_of_the_output_is_found():
    spoiled = Slow(model(), lambda o, s: ({n: v * (1 + 1e-7) for n, v in o.items()}, s))
    assert {"o", "dq"} <= off(compare(model(), spoiled, seed=0))


def test_a_wrong_final_state_is_found():
    findings = compare(model(), Slow(model(), lambda o, s: (o, {n: v + 1e-6 for n, v in s.items()})), seed=0)
    assert off(findings) == {"S[T]"}


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad / 2


def test_a_gradient_lost_through_the_final_state_is_found():
    findings = compare(model(), Slow(model(), lambda o, s: (o, {n: Halved.apply(v) for n, v in s.items()})), seed=0)
    assert off(findings) == {"dk", "dv", "dg", "dbeta", "dS[0]"}


def test_nan_is_an_error():
    findings = compare(model(), Slow(model(), lambda o, s: ({n: v * torch.nan for n, v in o.items()}, s)), seed=0)
    assert "o" in off(findings)
    assert not Report("x", 0, findings).holds


def test_a_wrong_step_is_found():
    assert off(compare(model(), Slow(model(), spoil_step=1e-9), seed=0)) == {"o (step)"}


def test_a_report_reads_well():
    findings = compare(model(), Slow(model(), spoil_step=1e-9), seed=0)
    report = Report("gated_deltanet", 0, findings)
    assert report.verdict() == f"gated_deltanet: 1 of {len(findings)} quantities are off: o (step)"
    assert report.table().row_count == len(findings) == len(report.record()["findings"])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options", [Options(), Options(chunk_size=16, aggregation="tensorinv")], ids=["auto", "forced"]
)
def test_every_example_holds(path, options):
    report = verify(Op(compile_text(Source(path.name, path.read_text()), options)), seed=1)
    assert report.holds, report.verdict()


# -- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_inputs_keep_to_their_ranges(path):
    spec = load(path.read_text(), path.stem)
    sizes = Sizes(length=200)
    for i in spec.inputs:
        x = draw_inputs(spec, sizes, 0)[i.name]
        assert x.dtype == torch.float64
        assert x.shape[: 1 if i.is_param else 3] == ((2,) if i.is_param else (2, 200, 2))
        if i.range is not None:
            assert i.range.low is None or (x >= float(i.range.low)).all()
            assert i.range.high is None or (x <= float(i.range.high)).all()
    assert all(draw_states(spec, sizes, 0)[s.name].shape[:2] == (2, 2) for s in spec.states)


def test_hard_cases_are_drawn():
    x = draw_inputs(model(), Sizes(length=200), 0)
    assert (x["g"] == -20).any()
    assert (x["g"] > -1).any()
    assert torch.allclose(x["k"].norm(dim=-1), torch.ones(()).double())
    assert (x["k"][:, 1:] == x["k"][:, :-1]).all(-1).any()
    assert torch.equal(x["k"], draw_inputs(model(), Sizes(length=200), 0)["k"])
