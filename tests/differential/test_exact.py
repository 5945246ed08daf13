"""The printed code bit for bit: torch functions and Triton kernels on inputs on which nothing is rounded.

Everything that a function returns or a kernel stores is compared with the program's value of that name, and outputs,
final state and gradients with the program's results. `INEXACT` is what is excluded: divisions, norms and
transcendentals, so specs of which some value is no fraction that float32 holds on any such input, by what makes the
first such value; `Decay` where a gate is no exponential of a log gate or has constants (0.9) that are no power of two.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from differential import exact
from differential.harness import EXAMPLES, TEXTS, given_states, several, states_of
from differential.targets import INTERPRETED, TORCH, on_kernels

import flowc
from flowc.chunk.aggregation import AGGREGATIONS
from flowc.schedule.staged import kernel_plan
from flowc.schedule.tile_plan import Missing
from flowc.schedule.turned import is_turned

SIZES = (4, 3, 2, 2)
INEXACT = {
    "abc": "Final",
    "based": "the constant 1.4142135623730951 is a rounded float",
    "before_in_scans": "sigmoid",
    "beside_columns": "an exponent without an inverse",
    "bounded_gate": "sub",
    "by_head": "Contract",
    "constants": "Literal",
    "counted": "exp",
    "coupled_in_rounds": "the square root of a non-square",
    "delta_exact": "a division by 0",
    "delta_of_pairs": "the square root of a non-square",
    "dense_transition": "Literal",
    "doubled": "exp",
    "epilogue": "the square root of a non-square",
    "features": "the constant 1.4142135623730951 is a rounded float",
    "gate_of_a_norm": "the square root of a non-square",
    "gated_retnet": "Contract",
    "gated_rfa": "sigmoid",
    "growing": "Contract",
    "gsa": "ToRows",
    "held_reads": "Literal",
    "hgrn": "sigmoid",
    "hgrn2": "sub",
    "joined_reads": "an exponent without an inverse",
    "length_of_nothing": "the square root of a non-square",
    "lightning": "Contract",
    "linear_attention_normalized": "softplus",
    "mamba": "softplus",
    "mamba2": "ToRows",
    "mamba3": "cos",
    "mixed_scalars": "a division by 0",
    "mlstm": "exp",
    "momentum_delta": "Loop",
    "negative_free_gate": "mul",
    "normalised": "exp",
    "normed_pairs": "the square root of a non-square",
    "oja_everywhere": "Contract",
    "outer_gates": "add",
    "param_gate": "pow",
    "preconditioned_gated_deltanet": "an absolute value that is no square",
    "prelude": "the square root of a non-square",
    "product_of_reads": "exp",
    "read_then_write": "DecayMatrix",
    "rebased": "Literal",
    "retnet": "Contract",
    "rows_alone": "an exponent without an inverse",
    "rwkv4": "a division by 0",
    "rwkv6": "Decay",
    "scalar_output": "the square root of a non-square",
    "scan_of_a_read": "a division by 0",
    "scans_in_blocks": "sigmoid",
    "scans_together": "the square root of a non-square",
    "set_from_params": "an exponent without an inverse",
    "small_denominators": "the square root of a non-square",
    "square": "Literal",
    "squashed_fast_weights": "an exponent without an inverse",
    "squashed_features": "the square root of a non-square",
    "states_in_turn": "Final",
    "value_gate_and_rank": "Contract",
    "value_gate_of_a_param": "sigmoid",
    "value_gates_in_repeat": "GateSumsAdjoint",
    "value_gates_in_rounds": "the square root of a non-square",
}


@cache
def op_of(name):
    return flowc.compile(TEXTS[name])


def bound(model):
    free = iter(SIZES)
    return {d.name: next(free) if d.value is None else d.value for d in model.dimensions}


@cache
def on_torch(name):
    """A draw and what the programs of the torch target make of it."""
    compilation = op_of(name).compilation
    programs = compilation.programs
    parts = programs.forward, programs.backward, programs.saved
    return exact.exact(compilation.model, parts, bound(compilation.model), ("wy",))


def called(op, drawn, target, aggregation):
    """Outputs, final state and gradients of an op, by name, as the programs name them."""
    leaves = {n: x.float().requires_grad_() for n, x in drawn.inputs.items()}
    start = {n: x.float().requires_grad_() for n, x in drawn.start.items()}
    options = {"chunk_size": exact.CHUNK, "aggregation": aggregation, "output_final_state": True}
    begin = given_states(op.compilation.model, start)
    result, final = op(**leaves, initial_state=begin, **options, **dict(target.options))
    outputs, finals = several(result), states_of(op.compilation.model, final)
    made = zip([*outputs, *finals.values()], drawn.cotangents, strict=True)
    loss = sum((x * bar.float()).sum() for x, bar in made)
    found = torch.autograd.grad(loss, [*leaves.values(), *start.values()], allow_unused=True)
    return outputs, finals, dict(zip([*leaves, *(f"{n}[0]" for n in start)], found, strict=True))


def compare_results(drawn, outputs, finals, gradients):
    for (name, number), out in zip(drawn.forward.results.items(), outputs, strict=True):
        every = torch.tensor(number.shadow).expand_as(out[0])  # one that is no token's has no axis of them
        assert torch.equal(out[0].double(), every), name
    for name, number in drawn.forward.states.items():
        assert torch.equal(finals[name][0].double(), torch.tensor(number.shadow)), f"{name}[T]"
    for name, number in drawn.backward.states.items():
        assert torch.equal(gradients[f"{name}[0]"][0].double(), torch.tensor(number.shadow)), f"d{name}[0]"
    for name, number in drawn.backward.results.items():
        found = gradients[name] if gradients[name].shape == number.shape else gradients[name][0]
        assert torch.equal(found.double(), torch.tensor(number.shadow)), f"d{name}"


@contextmanager
def returned(module) -> Iterator[dict[str, tuple[torch.Tensor, ...]]]:
    """What the functions of a module return."""
    found = {}
    plain = {name: getattr(module, name) for name in ("_forward_rows", "_forward", "_backward_rows")}

    def noting(name):
        def noted(*arguments):
            made = plain[name](*arguments)
            found[name] = tuple(x.clone() for x in made)
            return made

        return noted

    for name in plain:
        setattr(module, name, noting(name))
    try:
        yield found
    finally:
        for name, function in plain.items():
            setattr(module, name, function)


@pytest.mark.skipif(INTERPRETED, reason="torch functions")
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_torch_functions(name):
    if name in INEXACT:
        with pytest.raises(exact.Inexact, match=INEXACT[name]):
            on_torch(name)
        return
    op, drawn = op_of(name), on_torch(name)
    plan = op.compilation.plan
    for aggregation in AGGREGATIONS if plan.aggregations else AGGREGATIONS[:1]:
        with returned(op._module) as found:
            compare_results(drawn, *called(op, drawn, TORCH, aggregation))
        passes = (
            ("_forward_rows", plan.forward.once.stores, plan.forward.program, drawn.forward),
            ("_forward", [value for value, _ in plan.saved], plan.forward.program, drawn.forward),
            ("_backward_rows", plan.backward.once.stores, plan.backward.program, drawn.backward),
        )
        for function, values, program, ran in passes:
            for value, tensor in zip(values, found[function], strict=True):
                if exact.comparable(value, program):
                    assert not exact.differs(value, tensor, drawn, ran), (aggregation, function, value.name)


@pytest.mark.skipif(INTERPRETED, reason="torch functions")
def test_the_smallest_difference_is_found():
    """In every place of a token: the next float of one entry, and of what lies beyond the sequence's end, none."""
    drawn, program = on_torch("gated_deltanet"), op_of("gated_deltanet").compilation.programs.forward
    value = next(n.value for n in program.nodes if n.value.name == "U")
    made = torch.tensor(drawn.forward.values[value].shadow).float()
    assert not exact.differs(value, made, drawn, drawn.forward)
    for place in ((0, 0, 0, 0), (1, 1, exact.CHUNK - 1, 2), (2, 1, exact.LENGTH % exact.CHUNK - 1, 0)):
        other = made.clone()
        other[place] = torch.nextafter(other[place], torch.tensor(torch.inf))
        assert exact.differs(value, other, drawn, drawn.forward)
    beyond = made.clone()
    beyond[2, :, exact.LENGTH % exact.CHUNK :] = torch.nan
    assert not exact.differs(value, beyond, drawn, drawn.forward)


# -- Triton kernels ---------------------------------------------------------------------------------------------------


@contextmanager
def stored(module) -> Iterator[dict[str, dict[str, torch.Tensor]]]:
    """What lies in memory after every launch, by the kernel's role and the pointer's name."""
    kernels, found = module._Kernels, {}
    run = kernels.run

    def noted(self, kernel, role, *rest, **arguments):
        run(self, kernel, role, *rest, **arguments)
        found[role] = {n: x.clone() for n, x in arguments.items() if isinstance(x, torch.Tensor)}

    kernels.run = noted
    try:
        yield found
    finally:
        kernels.run = run


@cache
def on_kernels_of(name):
    """The passes of the Triton target, a draw, and what their programs make of it."""
    compilation = op_of(name).compilation
    found = kernel_plan(compilation.plan)
    assert not isinstance(found, Missing)
    if found.whole is not None or not found.stages:  # what is stored is its stages' or a loop's affair
        programs = compilation.programs
        own = programs.forward, programs.backward, programs.saved
        return None, exact.exact(compilation.model, own, bound(compilation.model), ("wy",), False)
    (stage,) = found.stages
    cuts = stage.cuts
    programs = cuts.forward.program, cuts.backward.program, ()
    turned = is_turned(compilation.plan.recurrence.memories[0])
    return cuts, exact.exact(compilation.model, programs, bound(compilation.model), ("wy",), turned)


def memory_of(launched, name):
    """What a kernel stored of a name, [chunks, heads, *]; an input may have that name too."""
    chunks = -(-exact.LENGTH // exact.CHUNK)
    (found,) = (
        x for n, x in launched.items() if n.rstrip("_") == f"{name}_ptr" and x.shape[:2] == (chunks, exact.HEADS)
    )
    return found


def with_zeros(made, lower):
    """A matrix over rows with 0 where it has none in memory: blocks of 16 columns after a row's token, if `lower`."""
    if not lower:
        return made
    (rows, columns), tokens = made.shape[2:], exact.CHUNK
    of, at = columns // tokens, torch.arange(columns)
    padded = 1 << (of - 1).bit_length()
    first = (at // of * padded + at % of) // 16 * 16 // padded
    there = torch.arange(rows)[:, None] // (rows // tokens) >= first
    return made.where(there, 0.0)


@on_kernels
@pytest.mark.parametrize("name", sorted(TEXTS.keys() - INEXACT.keys()))
def test_kernels(name, target):
    """Every aggregation and schedule of the examples; of specs that stress something else, those that are chosen."""
    op, (cuts, drawn) = op_of(name), on_kernels_of(name)
    several = op.compilation.plan.aggregations and name in EXAMPLES
    schedules = ("split", "fused") if cuts is not None and cuts.fused is not None and name in EXAMPLES else ("auto",)
    for aggregation, schedule in product(AGGREGATIONS if several else ("auto",), schedules):
        own = replace(target, options=(*target.options, ("schedule", schedule)))
        with nullcontext({}) if cuts is None else stored(op._module) as found:
            compare_results(drawn, *called(op, drawn, own, aggregation))
        both = () if cuts is None else ((cuts.forward, drawn.forward, ""), (cuts.backward, drawn.backward, "_backward"))
        for passed, ran, suffix in both:
            values = {s.name: s.value for s in passed.scratch} | {passed.states: passed.program.carries[0].before}
            kernels = [k for k in passed.kernels if f"{k.name}{suffix}" in found]
            kernels += [cuts.fused] * ("fused" in found and not suffix)
            assert {f"{k.name}{suffix}" for k in kernels} == {
                n for n in found if n.endswith("_backward") == bool(suffix)
            }
            for kernel in kernels:
                for name, lower in {(s.name, s.lower) for s in kernel.stores if s.name in values}:
                    if exact.comparable(values[name], passed.program):
                        made = with_zeros(memory_of(found[f"{kernel.name}{suffix}"], name), lower)
                        assert not exact.differs(values[name], made, drawn, ran), (aggregation, kernel.name, name)
