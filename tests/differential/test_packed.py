"""Packed sequences against the same sequences run apart: the same bits, on every target.

Outputs, final states and the gradients of tokens and starts are compared bit by bit, with heads that share queries and
keys as well. A param's gradient sums T tokens in another order: T additions, a random walk of half roundings of partial
sums, which are T terms at most, each as large as other gradients.
"""

from functools import partial
from itertools import pairwise

import pytest
import torch
from differential.harness import EXAMPLES, SPECS, Case, draw, draw_states, model_of, op_of, rms, run_op, several
from differential.targets import INTERPRETED, on_targets
from differential.test_ops import LONGEST, PROGRAMS, can_share, gates_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

# Under the interpreter, where programs run one after another: what kernels differ in, and parts that torch makes.
KINDS = ("gated_deltanet", "kda", "gated_delta_product", "mamba2", "rwkv7", "retnet", "outputs_everywhere", "by_hand")
NAMES = KINDS if INTERPRETED else (*EXAMPLES, *SPECS)
FEW = settings(max_examples=max(2, settings().max_examples // (50 if INTERPRETED else 10)))


def apart(op, offsets):
    """The op that runs sequence after sequence, each from memory of its own."""

    def run(*, initial_state=None, output_final_state=True, **arguments):
        names = [i.name for i in model_of(op.__name__).inputs if not i.is_param]
        results, finals = [], []
        for n, (first, last) in enumerate(pairwise(offsets)):
            own = {name: arguments[name][:, first:last].clone() for name in names}
            begin = None if initial_state is None else tuple(x[n : n + 1].clone() for x in several(initial_state))
            start = begin[0] if begin is not None and len(begin) == 1 else begin
            result, final = op(**(arguments | own), initial_state=start, output_final_state=True)
            results.append(several(result))
            finals.append(several(final))
        whole = [torch.cat(parts, 1) for parts in zip(*results, strict=True)]
        ends = tuple(torch.cat(parts) for parts in zip(*finals, strict=True))
        return whole[0] if len(whole) == 1 else tuple(whole), ends[0] if len(ends) == 1 else ends

    return run


@st.composite
def packings(draw_, name):
    """A case of one batch entry, and where its sequences begin and end."""
    lengths = st.sampled_from((0, 1, 1, 2, 7, 16, 33, 64)) | st.integers(0, 40)
    lengths = draw_(st.lists(lengths, min_size=1, max_size=3 if INTERPRETED else 6))
    offsets = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    group = draw_(st.sampled_from((1, 2, 5))) if can_share(name) else 1
    heads = draw_(st.integers(1, 2)) * group
    chunk = draw_(st.sampled_from((3, 7, 16, 20, None)))
    if INTERPRETED:
        assume(heads * (-(-offsets[-1] // (chunk or 64)) + len(lengths)) <= PROGRAMS)
    case = Case(
        batch=1,
        length=offsets[-1],
        heads=heads,
        sizes=(draw_(st.integers(1, LONGEST.get(name, 20))), draw_(st.integers(1, 20)), 3, 2),
        chunk=chunk,
        gate=draw_(st.sampled_from(gates_of(name))),
        start=draw_(st.booleans()),
        aggregation=draw_(st.sampled_from(("auto", "wy", "tensorinv"))),
        group=group,
        seed=draw_(st.integers(0, 2**20)),
    )
    return case, offsets


@on_targets
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@FEW
def test_the_same_bits_as_apart(name, target, data):
    model, op = model_of(name), op_of(name)
    (case, offsets), dtype = data.draw(packings(name)), data.draw(st.sampled_from(target.types))
    inputs, params = draw(model, case), [i.name for i in model.inputs if i.is_param]
    start = {}
    if case.start:
        states = Case(batch=len(offsets) - 1, heads=case.heads, sizes=case.sizes, seed=case.seed)
        start = draw_states(model, states)
    cu_seqlens = torch.tensor(
        offsets, dtype=data.draw(st.sampled_from((torch.int32, torch.int64))), device=target.device
    )
    packed = run_op(partial(op, cu_seqlens=cu_seqlens), model, inputs, start, dtype, case, target)
    found = run_op(apart(op, offsets), model, inputs, start, dtype, case, target)
    for n, x in found.items():
        if n.removeprefix("d") not in params:
            assert torch.equal(packed[n], x), n
    largest = max(rms(x) for n, x in found.items() if n.startswith("d"))
    for n in params:
        half_rounding = torch.finfo(found[f"d{n}"].dtype).eps / 2
        off = rms(packed[f"d{n}"].double() - found[f"d{n}"].double())
        assert off <= half_rounding * case.length**1.5 * largest, n


@on_targets
@pytest.mark.parametrize("name", ["gated_deltanet", "by_hand"])
@pytest.mark.parametrize("offsets", [[0], [0, 0], [0, 0, 0]])
def test_sequences_without_tokens(name, offsets, target):
    model = model_of(name)
    inputs, start = draw(model, Case(batch=1, length=0)), draw_states(model, Case(batch=len(offsets) - 1))
    op = partial(op_of(name), cu_seqlens=torch.tensor(offsets, device=target.device))
    found = run_op(op, model, inputs, start, torch.float32, Case(batch=1, length=0), target)
    assert torch.equal(found["S[T]"], start["S"].float())
    assert found["dS[0]"].shape == start["S"].shape


@on_targets
@pytest.mark.parametrize("name", ["gated_deltanet", "by_hand"])
@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([1, 23], "begins with 1; expected 0"),
        ([0, 9, 7, 23], "falls: 7 follows 9 at index 2"),
        ([0, 22], "ends with 22; expected 23, the tokens of"),
        ([0, 5, 24], "ends with 24; expected 23, the tokens of"),
    ],
)
def test_offsets_that_do_not_fit(name, offsets, words, target):
    inputs = {n: x.to(target.device, torch.float32) for n, x in draw(model_of(name), Case(batch=1)).items()}
    with pytest.raises(ValueError, match=f"{name}: `cu_seqlens` {words}"):
        op_of(name)(**inputs, cu_seqlens=torch.tensor(offsets, device=target.device), **dict(target.options))


@on_targets
@pytest.mark.parametrize("name", ["gated_deltanet", "by_hand"])
def test_the_backward_pass_goes_by_the_offsets_of_the_forward(name, target):
    def gradient(changed):
        inputs = {
            n: x.to(target.device, torch.float32) for n, x in draw(model_of(name), Case(batch=1, heads=1)).items()
        }
        offsets = torch.tensor([0, 4, 5, 23], device=target.device)
        inputs["k"].requires_grad_()
        o = op_of(name)(**inputs, cu_seqlens=offsets, **dict(target.options))
        if changed:
            offsets[2] = 9
        return torch.autograd.grad(o.sum(), inputs["k"])[0]

    assert torch.equal(gradient(False), gradient(True))
