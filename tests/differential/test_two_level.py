"""Schedule two-level: sequences in segments that walk beside one another, against step by step and the other schedules.

On a GPU by `pytest -m gpu`, under the interpreter from tests/triton/test_interpreter.py. A device of a thousand
processors, which is what the module is told here, cuts every sequence into segments of a chunk each.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from differential.harness import EXAMPLES, Case, check, draw, draw_states, model_of, op_of
from differential.targets import on_kernels

from flowc.schedule.staged import kernel_plan
from flowc.schedule.tile_plan import Missing


def segments_of(name):
    """The kernels of a spec's segments, if it has such."""
    found = kernel_plan(op_of(name).compilation.plan)
    return None if isinstance(found, Missing) or not found.stages else found.stages[0].segments


CUT = [n for n in EXAMPLES if segments_of(n) is not None]


@pytest.fixture
def many(monkeypatch):
    """Lets a module cut sequences as for a device of so many processors; counts the segments of every composition."""
    counts = []

    def patch(name, processors=1000):
        module = op_of(name)._module
        composed = module._InSegments.composed
        monkeypatch.setattr(module, "_processors", lambda _: processors)
        monkeypatch.setattr(
            module._InSegments, "composed", lambda self, *given: counts.append(len(self.ends)) or composed(self, *given)
        )
        return counts

    return patch


def two_level(target):
    return replace(target, options=(*target.options, ("schedule", "two-level")))


@on_kernels
@pytest.mark.parametrize("name", CUT)
def test_as_step_by_step(name, target, many):
    """Three segments, the last of one chunk that is not whole: the flow of the second passes states on both ways."""
    counts = many(name)
    check(name, Case(1, 37, 2, (6, 20, 2, 2), 16, start=True), torch.float32, target=two_level(target))
    assert counts == [3, 3]


@on_kernels
@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "simple_gla"])
def test_in_half_precision(name, target, many):
    """By walks that make the outputs; heads share queries, entries of a batch have segments of their own."""
    counts = many(name, processors=13)  # six programs for each of two segments
    case = Case(3, 70, 2, (18, 20), 16, start=True, group=2)
    check(name, case, torch.float16, target=two_level(target))
    assert counts == [6, 6]


def test_what_can_be_cut():
    """One state; but for reads of the columns with gates over rows, a part that torch makes, a scan before."""
    several = {n for n in EXAMPLES if len(kernel_plan(op_of(n).compilation.plan).stages) != 1}
    assert set(EXAMPLES) - set(CUT) - several == {"gated_oja", "mamba3", "preconditioned_gated_deltanet"}
    dense = {n for n in CUT if segments_of(n).dense}
    assert {"deltanet", "kda", "rwkv7", "comba"} <= dense
    assert not dense & {"gla", "mamba2", "retnet", "decaying_fast_weights"}
    assert [n for n in CUT if segments_of(n).wide] == ["decaying_fast_weights"]


def results(op, x, starts, target, **options):
    given = {n: v.float().to(target.device).requires_grad_() for n, v in x.items()}
    begin = [s.float().to(target.device).requires_grad_() for s in starts.values()]
    made = op(**given, initial_state=begin[0], output_final_state=True, **dict(target.options), **options)
    loss = sum(v.square().sum() for v in made)  # of each sequence what it is alone
    return *(v.detach() for v in made), *torch.autograd.grad(loss, [*given.values(), *begin])


@on_kernels
@pytest.mark.parametrize("name", ["gated_deltanet", "gla"])
def test_packed_sequences(name, target, many):
    """Of any length, none too: the numbers of each alone, and the same bits on every run."""
    counts = many(name, processors=9)
    offsets = [0, 40, 40, 43, 91]
    case = Case(1, 91, 1, (6, 20), start=True)
    x, options = draw(model_of(name), case), {"schedule": "two-level", "chunk_size": 16}
    drawn = draw_states(model_of(name), case)
    start = {n: s.repeat(4, 1, 1, 1) * torch.arange(1, 5).view(4, 1, 1, 1) for n, s in drawn.items()}
    packed = torch.tensor(offsets, device=target.device)
    found = results(op_of(name), x, start, target, cu_seqlens=packed, **options)
    again = results(op_of(name), x, start, target, cu_seqlens=packed, **options)
    assert all(map(torch.equal, found, again))
    assert set(counts) == {8}  # of segments of a chunk: 3, 1, 1 and 3
    for n, (first, last) in enumerate(pairwise(offsets)):
        alone = {i: v[:, first:last] for i, v in x.items()}, {i: s[n : n + 1] for i, s in start.items()}
        own = results(op_of(name), *alone, target, schedule="split", chunk_size=16)
        for at, (whole, part) in enumerate(zip(found, own, strict=True)):
            mine = whole[n : n + 1] if at in (1, len(found) - 1) else whole[:, first:last]  # states, and of tokens
            # Sums of at most 48 tokens, each rounded to 6e-8 of its largest term: a random walk of 7 of those roundings
            # either way, through a state and back; twice that
            assert (mine - part).abs().max() <= 2e-6 * part.abs().max() if part.numel() else True, (at, n)


@on_kernels
def test_states_without_segments_run_as_by_auto(target):
    check("abc", Case(1, 20, 1, (6, 8, 5), 16, start=True), torch.float32, target=two_level(target))
