"""A compiled op against the oracle: drawing, running and judging.

`Case` says what to draw; `differences` runs op and oracle on it and gives, for every output, final state and gradient,
its error and its tolerance. The truth is the oracle in float64 with autograd through it.

An error is the RMS of the difference over the RMS of the truth. Where that all but vanishes only the rounding of what
cancels is left. An erased state is a difference of inputs of size one, so a value counts as at least a tenth. A gate's
gradient is a difference of sums over the rows of a chunk of terms as large as the other gradients, so a gradient counts
as at least the largest; a param's sums over the tokens, whose errors are alike as later tokens' are in all of them.

Tolerance: `BAR` times what the oracle itself loses in the op's precision, plus a floor. Measuring the loss takes all
growth out of the recurrence (delta steps with beta = 2, gates above 1) out of the constant. It is measured by running
the oracle in float32 and, because a small number of entries may come out well by luck, also by running it on inputs
moved by one rounding; in float64 both are scaled by the ratio of the eps. The floor is for sums that the chunked form
has and the loop has not: an entry passes through a forward and an adjoint sum of at most n = C R <= 256 rows and of
K <= 64 keys, each a random walk of sqrt(n + K) = 18 half roundings: 18 eps. Up to 64 additions behind each other are
off by sqrt(64) / 2 = 4 roundings: a gate's gradient adds that many such entries, so a gradient's floor is four times as
high; and in float64 a sum of log gates, which is an exponent's error, is off by four roundings of the largest (in
float32 they are summed in float64).

In half precision everything but the operands of products and the results is still float32. What rounding those costs
is measured in the same way, by the oracle in float64 on vectors moved by half a distance of neighbours, u, and counts
`BAR` times: a number goes through several products, each of which rounds it, its partner and what the two make. Where
nothing grows a value passes through at most four such roundings on its way (the two operands of a product, the state or
the weights before, its own), u each at most, and a gradient through as many in the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from flowc import reference
from flowc.fuzz.cases import HALVES, Case, Tensors, draw, draw_states, is_log_gate, type_of
from flowc.fuzz.targets import TORCH, Target, placed, poisoned
from flowc.semantics.model import Model

BAR = 8
FLOOR = 18
HALF_FLOOR = 4
SUMMED = 4
LEAST = 0.1
RANGE = 2.0**10  # what a result of float16 may be for operands of its products to stay below 2 ** 16
LARGEST = 2.0**50  # beyond, squares and products of what a chunk has leave float32
EPS32 = torch.finfo(torch.float32).eps


def cotangents(outputs: Tensors, states: Tensors) -> list[torch.Tensor]:
    """Normal numbers that every type holds exactly: multiples of 1/64 of at most eight digits."""
    rng = torch.Generator().manual_seed(7)
    values = [*outputs.values(), *states.values()]
    return [
        torch.randn(v.shape, generator=rng, dtype=torch.float64).mul(64).round().clamp(-256, 256) / 64 for v in values
    ]


Form = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]


def _with_gradients(run: Form, inputs: Tensors, start: Tensors) -> Tensors:
    """Outputs, `S[T]`, `dX` of all inputs and `dS[0]`, all on the CPU; the inputs stay as they are."""
    leaves = {n: x.detach().requires_grad_() for n, x in inputs.items()}
    starts = {n: x.detach().requires_grad_() for n, x in start.items()}
    before = {n: x.detach().clone() for n, x in (leaves | starts).items()}
    outputs, states = run(leaves, starts)
    values = [*outputs.values(), *states.values()]
    loss: Any = sum((v * w.to(v)).sum() for v, w in zip(values, cotangents(outputs, states), strict=True))
    wanted = {f"d{n}": x for n, x in leaves.items()} | {f"d{n}[0]": x for n, x in starts.items()}
    known = isinstance(loss, torch.Tensor) and loss.requires_grad  # not where there is neither a token nor a start
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True) if known else [None] * len(wanted)
    grads = {n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(wanted.items(), found, strict=True)}
    for n, x in (leaves | starts).items():
        assert torch.equal(x, before[n]), f"{n} was modified"
    return {n: v.detach().cpu() for n, v in (_values(outputs, states) | grads).items()}


def _values(outputs: Tensors, states: Tensors) -> Tensors:
    """Outputs and final states as quantities, whose names start with `d` only where they are gradients."""
    named = outputs | {f"{n}[T]": v for n, v in states.items()}
    return {f"value of {n}" if n.startswith("d") else n: v for n, v in named.items()}


def run_reference(model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype) -> Tensors:
    """The oracle, on the CPU, where no product is made of less than its type."""

    def run(leaves: Tensors, starts: Tensors) -> tuple[Tensors, Tensors]:
        outputs, final = reference.run(model, leaves, starts)
        return outputs, {s.name: final[s.name] for s in model.states}

    return _with_gradients(run, *({n: x.to(dtype) for n, x in xs.items()} for xs in (inputs, start)))


def run_op(
    op: Callable[..., Any],
    model: Model,
    inputs: Tensors,
    start: Tensors,
    dtype: torch.dtype,
    case: Case,
    target: Target = TORCH,
) -> Tensors:
    """An op on a target, in memory that holds NaN until something is written."""
    types = {i.name: type_of(i, case, dtype) for i in model.inputs}

    def run(leaves: Tensors, starts: Tensors) -> tuple[Tensors, Tensors]:
        options: dict[str, Any] = dict(chunk_size=case.chunk, aggregation=case.aggregation, output_final_state=True)
        result, final = op(**leaves, initial_state=given_states(model, starts), **options, **dict(target.options))
        return _named(model, result), states_of(model, final)

    leaves = {n: placed(x, types[n], target.device) for n, x in inputs.items()}
    starts = {n: placed(x, torch.float32 if dtype in HALVES else dtype, target.device) for n, x in start.items()}
    with poisoned():
        return _with_gradients(run, leaves, starts)


def run_emitted_reference(
    op: Any, model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype, case: Case, target: Target = TORCH
) -> Tensors:
    """The step-by-step form that the op's own module has."""

    def run(leaves: Tensors, starts: Tensors) -> tuple[Tensors, Tensors]:
        begin = given_states(model, starts)
        result, final = op.reference(**leaves, initial_state=begin, output_final_state=True)
        return _named(model, result), states_of(model, final)

    return _with_gradients(run, *({n: x.to(dtype) for n, x in xs.items()} for xs in (inputs, start)))


def run_steps(
    op: Any, model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype, case: Case, target: Target = TORCH
) -> Tensors:
    """Token by token, each in a call of its own: outputs and the last state."""
    params = {i.name for i in model.inputs if i.is_param}
    typed = {i.name: inputs[i.name].to(type_of(i, case, dtype)).to(target.device) for i in model.inputs}
    wide = torch.float32 if dtype in HALVES else dtype
    state = given_states(model, {n: x.to(wide).to(target.device) for n, x in start.items()})
    tokens = []
    with poisoned():
        for t in range(case.length):
            token = {n: x if n in params else x[:, t] for n, x in typed.items()}
            made, state = op.step(**token, state=state)
            tokens.append(_named(model, made))
    assert state is not None
    outputs = {n: torch.stack([token[n] for token in tokens], 1).cpu() for n in tokens[0]}
    return _values(outputs, {n: x.cpu() for n, x in states_of(model, state).items()})


def given_states(model: Model, states: Tensors) -> Any:
    """States by name as an op takes them: one bare, several in a tuple, none as None."""
    ordered = tuple(states[s.name] for s in model.states) if states else None
    return ordered if ordered is None or len(ordered) > 1 else ordered[0]


def states_of(model: Model, final: Any) -> Tensors:
    """States that an op returns, by name."""
    return dict(zip((s.name for s in model.states), final if isinstance(final, tuple) else (final,), strict=True))


def _named(model: Model, result: Any) -> Tensors:
    """What an op returns, by name: bare for one output, a tuple for several."""
    names = [o.name for o in reference.outputs_of(model.statements)]
    return {names[0]: result} if len(names) == 1 else dict(zip(names, result, strict=True))


# -- judging -----------------------------------------------------------------------------------------------------------


Runner = Callable[..., Tensors]


@dataclass(frozen=True)
class Difference:
    """One quantity's error."""

    name: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether it is small enough; NaN is not."""
        return self.error <= self.tolerance


def rms(x: torch.Tensor) -> float:
    """The root of the mean square, 0 of nothing."""
    return x.double().pow(2).mean().sqrt().item() if x.numel() else 0.0


def errors(
    truth: Tensors, found: Tensors, tokens: int = 1, params: frozenset[str] = frozenset(), least: float = 0.0
) -> dict[str, float]:
    """The error of every quantity; `params` are gradients that sum over `tokens`; gradients count as `least`."""
    largest = max((rms(v) for n, v in truth.items() if n.startswith("d")), default=0.0)
    result = {}
    values = [n for n in truth if not n.startswith("d")]
    assert found.keys() in (truth.keys(), set(values)), (list(found), list(truth))
    for name in found:
        expected, actual = truth[name], found[name]
        assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
        gradient = max(largest * (tokens if name in params else 1), least)
        scale = max(rms(expected), gradient if name.startswith("d") else LEAST)
        difference = rms(actual.double() - expected)
        result[name] = difference / scale if scale else difference
    return result


def largest_sum(inputs: Tensors, model: Model, case: Case) -> float:
    """A bound on the sums of log gates within a chunk: the largest over the sequence, floored as the op floors them.

    A gate that is no input but made of some has a logarithm of about one a token; there are `Roles.gates` of them.
    """
    gates = [i for i in model.inputs if is_log_gate(i) and inputs[i.name].numel()]
    axes = {i.name: (1, 3) if i.shape.items is not None else (1,) for i in gates}
    given = sum(-inputs[i.name].clamp(min=-746).sum(axes[i.name]).min().item() for i in gates)
    made = case.roles.gates if case.roles is not None else 1
    if not case.start and any(s.start == -float("inf") for s in model.states):
        given += 746  # the first gate that is made of such a state is -inf
    return given + made * max(x.shape[1] for i, x in zip(model.inputs, inputs.values(), strict=True) if not i.is_param)


class Trials:
    """An op's forms on one case: what is true of it is found once, and each form judged by it."""

    def __init__(self, model: Model, op: Callable[..., Any], case: Case, dtype: torch.dtype, target: Target) -> None:
        """Draw the inputs and run the oracle on them."""
        self.model, self.op, self.case, self.dtype, self.target = model, op, case, dtype, target
        inputs, start = draw(model, case), draw_states(model, case) if case.start else {}
        self.inputs = {i.name: inputs[i.name].to(type_of(i, case, dtype)).double() for i in model.inputs}
        self.start = {n: x.to(torch.float32 if dtype in HALVES else dtype).double() for n, x in start.items()}
        self.truth = run_reference(model, self.inputs, self.start, torch.float64)

    @property
    def judgeable(self) -> bool:
        """Whether the truth keeps within float16's range, and within bounds: what passes through products does then."""
        largest = max((x.abs().max().item() for x in self.truth.values() if x.numel()), default=0.0)
        return largest <= (RANGE if self.dtype is torch.float16 else LARGEST)

    def errors(self, found: Tensors) -> dict[str, float]:
        """The error of every quantity found."""
        tokens = self.case.batch * self.case.length
        params = frozenset(f"d{i.name}" for i in self.model.inputs if i.is_param)
        # A decay below 2 ** -24 is 0 in float16, so there a gradient counts as much as a value does.
        return errors(self.truth, found, tokens, params, LEAST if self.dtype is torch.float16 else 0.0)

    @cached_property
    def losses(self) -> dict[str, float]:
        """What the oracle loses in float32."""
        return self.errors(run_reference(self.model, self.inputs, self.start, torch.float32))

    @cached_property
    def eps(self) -> float:
        """The rounding of the op's precision."""
        return torch.finfo(torch.float64).eps if self.dtype is torch.float64 else self.target.single

    @cached_property
    def floors(self) -> dict[str, float]:
        """What an error may be where the oracle loses nothing."""
        exponents = 0.0
        if self.dtype is torch.float64:
            exponents = SUMMED * largest_sum(self.inputs, self.model, self.case)
        floors = {n: self.eps * (exponents + FLOOR * (SUMMED if n.startswith("d") else 1)) for n in self.truth}
        if self.dtype not in HALVES:
            return floors
        u = torch.finfo(self.dtype).eps / 2
        vectors = {i.name for i in self.model.inputs if type_of(i, Case(), self.dtype) in HALVES}
        near = nudged({n: x for n, x in self.inputs.items() if n in vectors}, u)
        rounded = self.errors(run_reference(self.model, self.inputs | near, nudged(self.start, u), torch.float64))
        return {n: x + BAR * rounded[n] + HALF_FLOOR * u * (2 if n.startswith("d") else 1) for n, x in floors.items()}

    def judge(self, run: Runner = run_op) -> list[Difference]:
        """The errors of what `run` makes of the op, which may be values alone, with their tolerances."""
        made = run(self.op, self.model, self.inputs, self.start, self.dtype, self.case, self.target)
        found = self.errors(made)
        scale = BAR * self.eps / EPS32
        result = [Difference(n, found[n], scale * self.losses[n] + self.floors[n]) for n in found]
        if all(d.holds for d in result):
            return result
        inputs, start = nudged(self.inputs), nudged(self.start)
        moved = self.errors(run_reference(self.model, inputs, start, torch.float64))
        return [replace(d, tolerance=max(d.tolerance, scale * moved[d.name] + self.floors[d.name])) for d in result]


def differences(
    model: Model, op: Callable[..., Any], case: Case, dtype: torch.dtype = torch.float64, target: Target = TORCH
) -> list[Difference]:
    """The errors of `op`, the compiled form of `model`, on a case, with their tolerances; none where none is due."""
    trials = Trials(model, op, case, dtype, target)
    return trials.judge() if trials.judgeable else []


def nudged(values: Tensors, size: float = EPS32) -> Tensors:
    """Moved by a rounding, float32's where no other is given; relative, so that 0 and -inf stay."""
    rng = torch.Generator().manual_seed(11)
    return {n: x * (1 + size * torch.randn(x.shape, generator=rng, dtype=x.dtype)) for n, x in values.items()}
