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

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from differential.specs import SPECS
from differential.targets import HALVES, TORCH, Target, placed, poisoned, skip_if_missing

import flowc
from flowc import reference
from flowc.semantics import load
from flowc.semantics.model import Input, Kind, Model

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = {path.stem: path.read_text() for path in sorted((ROOT / "examples").glob("*.flow"))}
TEXTS = EXAMPLES | SPECS

BAR = 8
FLOOR = 18
HALF_FLOOR = 4
SUMMED = 4
LEAST = 0.1
RANGE = 2.0**10  # what a result of float16 may be for operands of its products to stay below 2 ** 16
EPS32 = torch.finfo(torch.float32).eps

# Specs that use a log gate elsewhere than in the gate, where -inf has no meaning.
FINITE_GATES = frozenset({"negative_free_gate", "growing"})

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What to run an op on."""

    batch: int = 2
    length: int = 23
    heads: int = 2
    sizes: tuple[int, ...] = (5, 4, 3, 2)  # of the dimensions that the header leaves open, in order
    chunk: int | None = 7
    gate: str = "mild"  # zero | mild | strong | mixed | never
    keys: str = "random"  # random | repeated | near | alternating
    beta: float | None = None  # None: drawn from (0, 1)
    start: bool = True
    aggregation: str = "auto"
    layout: str = "contiguous"  # contiguous | strided | expanded (strides of 0)
    wide: bool = True  # gates, scalars and params are float32 where vectors are in half precision
    group: int = 1
    seed: int = 0


@cache
def model_of(name: str) -> Model:
    return load(TEXTS[name], name)


@cache
def op_of(name: str) -> flowc.Op:
    return flowc.compile(TEXTS[name])


# -- drawing -----------------------------------------------------------------------------------------------------------


def sizes_of(model: Model, case: Case) -> dict[str, int]:
    free = [d.name for d in model.dimensions if d.value is None]
    fixed = {d.name: d.value for d in model.dimensions if d.value is not None}
    return fixed | dict(zip(free, case.sizes, strict=False))


def draw(model: Model, case: Case) -> Tensors:
    """Float64 inputs by name."""
    rng = torch.Generator().manual_seed(case.seed)
    return {i.name: _laid_out(_drawn(i, model, case, rng), i, case) for i in model.inputs}


def draw_states(model: Model, case: Case) -> Tensors:
    rng = torch.Generator().manual_seed(case.seed + 1)
    sizes = sizes_of(model, case)
    return {
        s.name: torch.randn(
            case.batch, case.heads, *(n.value(sizes) for n in s.shape.sizes), generator=rng, dtype=torch.float64
        )
        for s in model.states
    }


def _drawn(i: Input, model: Model, case: Case, rng: torch.Generator) -> torch.Tensor:
    axes = [size.value(sizes_of(model, case)) for size in i.shape.sizes]
    heads = case.heads // case.group if shares_heads(i) else case.heads
    shape = (heads, *axes) if i.is_param else (case.batch, case.length, heads, *axes)
    normal = torch.randn(shape, generator=rng, dtype=torch.float64)
    uniform = torch.rand(shape, generator=rng, dtype=torch.float64)
    if i.is_param:
        return 0.1 + 0.8 * uniform if i.range else 0.3 * normal
    if i.range and i.range.high == 0:
        return _gate(uniform, case.gate)
    if i.range or i.name.startswith("beta"):
        return uniform if case.beta is None else torch.full_like(uniform, case.beta)
    return _keys(normal, i, case.keys) if is_key(i) else normal


def shares_heads(i: Input) -> bool:
    """Query and key inputs, which may have fewer heads than the values."""
    return not i.is_param and i.name in ("q", "k") and i.shape.kind is Kind.COLUMN


def is_key(i: Input) -> bool:
    return i.name[0] in "kabpABCD" and i.shape.kind is not Kind.SCALAR


def _gate(uniform: torch.Tensor, kind: str) -> torch.Tensor:
    match kind:
        case "zero":
            return torch.zeros_like(uniform)
        case "mild":
            return -uniform
        case "strong":
            return torch.full_like(uniform, -20.0)
        case "mixed":
            return torch.where(uniform < 0.2, -20.0, -0.001)
        case "never":
            return torch.where(uniform < 0.1, -torch.inf, -uniform)
    raise ValueError(kind)


def _keys(normal: torch.Tensor, i: Input, kind: str) -> torch.Tensor:
    """Vectors of length one (half that where a matrix factor writes), alike over time and over a list as asked."""
    if kind != "random" and normal.shape[1]:
        first = normal[:, :1]
        match kind:
            case "repeated":
                normal = first.expand_as(normal)
            case "near":
                normal = first + 0.1 * normal
            case "alternating":
                odd = (torch.arange(normal.shape[1]) % 2).reshape(1, -1, *[1] * (normal.dim() - 2))
                normal = torch.where(odd == 1, normal[:, -1:], first)
    axis = -2 if i.shape.kind is Kind.MATRIX else -1
    unit = normal / normal.norm(dim=axis, keepdim=True)
    return -0.5 * unit if i.name in "bB" else unit


def _laid_out(x: torch.Tensor, i: Input, case: Case) -> torch.Tensor:
    if case.layout == "expanded" and not i.is_param and case.length:
        # Gates and scalars over the tokens. Vectors over the heads: the roundings of equal tokens do not walk randomly.
        over_tokens = i.shape.kind is Kind.SCALAR or (i.range is not None and i.range.high == 0)
        return x[:, :1].expand_as(x) if over_tokens else x[:, :, :1].expand_as(x)
    if case.layout == "strided":
        return torch.stack((x, x + 1), -1)[..., 0].mT.contiguous().mT if x.dim() > 1 else x
    return x


# -- running -----------------------------------------------------------------------------------------------------------


def cotangents(outputs: Tensors, states: Tensors) -> list[torch.Tensor]:
    """Normal numbers that every type holds exactly: multiples of 1/64 of at most eight digits."""
    rng = torch.Generator().manual_seed(7)
    values = [*outputs.values(), *states.values()]
    return [
        torch.randn(v.shape, generator=rng, dtype=torch.float64).mul(64).round().clamp(-256, 256) / 64 for v in values
    ]


def type_of(i: Input, case: Case, dtype: torch.dtype) -> torch.dtype:
    """What an input comes in where vectors come in `dtype`."""
    narrow = i.shape.kind is not Kind.SCALAR and not i.is_param and not is_log_gate(i)
    return torch.float32 if dtype in HALVES and case.wide and not narrow else dtype


def is_log_gate(i: Input) -> bool:
    return i.range is not None and i.range.high == 0


def _with_gradients(run, inputs: Tensors, start: Tensors) -> Tensors:
    """Outputs, `S[T]`, `dX` of all inputs and `dS[0]`, all on the CPU; the inputs stay as they are."""
    leaves = {n: x.detach().requires_grad_() for n, x in inputs.items()}
    starts = {n: x.detach().requires_grad_() for n, x in start.items()}
    before = {n: x.detach().clone() for n, x in (leaves | starts).items()}
    outputs, states = run(leaves, starts)
    values = [*outputs.values(), *states.values()]
    loss = sum((v * w.to(v)).sum() for v, w in zip(values, cotangents(outputs, states), strict=True))
    wanted = {f"d{n}": x for n, x in leaves.items()} | {f"d{n}[0]": x for n, x in starts.items()}
    known = isinstance(loss, torch.Tensor) and loss.requires_grad  # not where there is neither a token nor a start
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True) if known else [None] * len(wanted)
    grads = {n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(wanted.items(), found, strict=True)}
    for n, x in (leaves | starts).items():
        assert torch.equal(x, before[n]), f"{n} was modified"
    finals = {f"{n}[T]": v for n, v in states.items()}
    return {n: v.detach().cpu() for n, v in (outputs | finals | grads).items()}


def run_reference(model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype) -> Tensors:
    """The oracle, on the CPU, where no product is made of less than its type."""

    def run(leaves, starts):
        outputs, final = reference.run(model, leaves, starts)
        return outputs, {s.name: final[s.name] for s in model.states}

    return _with_gradients(run, *({n: x.to(dtype) for n, x in xs.items()} for xs in (inputs, start)))


def run_op(
    op, model: Model, inputs: Tensors, start: Tensors, dtype: torch.dtype, case: Case, target: Target = TORCH
) -> Tensors:
    """An op on a target, in memory that holds NaN until something is written."""
    names = [o.name for o in reference.outputs_of(model.statements)]
    state = model.states[0].name
    types = {i.name: type_of(i, case, dtype) for i in model.inputs}

    def run(leaves, starts):
        options = dict(chunk_size=case.chunk, aggregation=case.aggregation, output_final_state=True)
        try:
            result, final = op(**leaves, initial_state=starts.get(state), **options, **dict(target.options))
        except ValueError as error:
            skip_if_missing(error)
            raise
        outputs = {names[0]: result} if len(names) == 1 else dict(zip(names, result, strict=True))
        return outputs, {state: final}

    leaves = {n: placed(x, types[n], target.device) for n, x in inputs.items()}
    starts = {n: placed(x, torch.float32 if dtype in HALVES else dtype, target.device) for n, x in start.items()}
    with poisoned():
        return _with_gradients(run, leaves, starts)


# -- judging -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    name: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.error <= self.tolerance


def rms(x: torch.Tensor) -> float:
    return x.double().pow(2).mean().sqrt().item() if x.numel() else 0.0


def errors(
    truth: Tensors, found: Tensors, tokens: int = 1, params: frozenset[str] = frozenset(), least: float = 0.0
) -> dict[str, float]:
    """The error of every quantity; `params` are gradients that sum over `tokens`; gradients count as `least`."""
    largest = max((rms(v) for n, v in truth.items() if n.startswith("d")), default=0.0)
    result = {}
    for name, expected in truth.items():
        actual = found[name]
        assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
        gradient = max(largest * (tokens if name in params else 1), least)
        scale = max(rms(expected), gradient if name.startswith("d") else LEAST)
        difference = rms(actual.double() - expected)
        result[name] = difference / scale if scale else difference
    return result


def largest_sum(inputs: Tensors, model: Model) -> float:
    """A bound on the sums of log gates within a chunk: the largest over the sequence, floored as the op floors them.

    A gate that is no input but made of some has a logarithm of about one a token.
    """
    gates = [i for i in model.inputs if i.range and i.range.high == 0 and inputs[i.name].numel()]
    axes = {i.name: (1, 3) if i.shape.items is not None else (1,) for i in gates}
    given = sum(-inputs[i.name].clamp(min=-746).sum(axes[i.name]).min().item() for i in gates)
    return given + max(x.shape[1] for i, x in zip(model.inputs, inputs.values(), strict=True) if not i.is_param)


def differences(
    name: str, case: Case, dtype: torch.dtype = torch.float64, op=None, target: Target = TORCH
) -> list[Difference]:
    """The op's errors on a case with their tolerances; `op` replaces the one of `name`.

    None where the truth leaves the range of float16: what passes through products is then no number either.
    """
    model, op = model_of(name), op or op_of(name)
    inputs, start = draw(model, case), draw_states(model, case) if case.start else {}
    inputs = {i.name: inputs[i.name].to(type_of(i, case, dtype)).double() for i in model.inputs}
    start = {n: x.to(torch.float32 if dtype in HALVES else dtype).double() for n, x in start.items()}
    tokens, params = case.batch * case.length, frozenset(f"d{i.name}" for i in model.inputs if i.is_param)
    # A decay below 2 ** -24 is 0 in float16, so there a gradient counts as much as a value does.
    least = LEAST if dtype is torch.float16 else 0.0
    truth = run_reference(model, inputs, start, torch.float64)
    if dtype is torch.float16 and max((x.abs().max().item() for x in truth.values() if x.numel()), default=0.0) > RANGE:
        return []

    def errors_of(found: Tensors) -> dict[str, float]:
        return errors(truth, found, tokens, params, least)

    found = errors_of(run_op(op, model, inputs, start, dtype, case, target))
    losses = errors_of(run_reference(model, inputs, start, torch.float32))
    eps = torch.finfo(torch.float64).eps if dtype is torch.float64 else target.single
    exponents = SUMMED * largest_sum(inputs, model) if dtype is torch.float64 else 0
    floors = {n: eps * (exponents + FLOOR * (SUMMED if n.startswith("d") else 1)) for n in truth}
    if dtype in HALVES:
        u = torch.finfo(dtype).eps / 2
        vectors = {i.name for i in model.inputs if type_of(i, Case(), dtype) in HALVES}
        near = nudged({n: x for n, x in inputs.items() if n in vectors}, u)
        rounded = errors_of(run_reference(model, inputs | near, nudged(start, u), torch.float64))
        floors = {n: floors[n] + BAR * rounded[n] + HALF_FLOOR * u * (2 if n.startswith("d") else 1) for n in truth}
    result = [Difference(n, found[n], BAR * losses[n] * eps / EPS32 + floors[n]) for n in truth]
    if all(d.holds for d in result):
        return result
    moved = errors_of(run_reference(model, nudged(inputs), nudged(start), torch.float64))
    return [replace(d, tolerance=max(d.tolerance, BAR * moved[d.name] * eps / EPS32 + floors[d.name])) for d in result]


def nudged(values: Tensors, size: float = EPS32) -> Tensors:
    """Moved by a rounding, float32's where no other is given; relative, so that 0 and -inf stay."""
    rng = torch.Generator().manual_seed(11)
    return {n: x * (1 + size * torch.randn(x.shape, generator=rng, dtype=x.dtype)) for n, x in values.items()}


def check(name: str, case: Case, dtype: torch.dtype = torch.float64, op=None, target: Target = TORCH) -> None:
    """Assert that every error of a case is within its tolerance."""
    failed = [d for d in differences(name, case, dtype, op, target) if not d.holds]
    assert not failed, "\n".join(f"{d.name}: error {d.error:.2e}, tolerance {d.tolerance:.2e}" for d in failed)
