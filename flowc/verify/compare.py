"""The compiled op of a spec against the oracle: values, final states, every gradient, token by token.

In: a Model, its compiled op, a seed. Out: `Report`, one `Finding` per quantity. Refuses nothing: an error above its
tolerance is a finding that does not hold.

The tolerance of a quantity is its own growth of rounding errors: the oracle is run a second time on inputs moved by a
relative `NUDGE`, and what that changes, per unit of NUDGE, is how much this quantity amplifies an error made early. A
compiled op makes errors of a few eps per operation, at most `OPERATIONS` of them between an input and a value (two
passes of sums over at most 256 rows, forward and adjoint), so `tolerance = OPERATIONS * eps * max(1, growth)`. It is
capped at `CEILING`: a quantity that amplifies more is not told from noise, and such a draw must not pass for a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from flowc import reference
from flowc.semantics.model import Model
from flowc.verify.draw import Sizes, draw_inputs, draw_states

EPS = torch.finfo(torch.float64).eps
OPERATIONS = 2 * 2 * 256
NUDGE = 1e-8
CEILING = 1e-7

Quantities = dict[str, Tensor]


class Op(Protocol):
    """A compiled op, as far as it is compared."""

    def __call__(self, **arguments: Any) -> Any:
        """All tokens."""

    def step(self, **arguments: Any) -> Any:
        """One token."""


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: length, forced chunk size (None: the compiler's) and whether states are handed in."""

    length: int
    chunk_size: int | None
    with_start: bool

    def __str__(self) -> str:
        """As a table shows it."""
        chunk = "auto" if self.chunk_size is None else str(self.chunk_size)
        return f"T {self.length}, chunk {chunk}{', given start' if self.with_start else ''}"


CASES = (Case(1, None, False), Case(37, 8, True), Case(64, 16, False), Case(101, None, True), Case(5, 16, True))
STEPS = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The worst relative RMS error of one quantity over all cases, with the case and tolerance where it came up."""

    quantity: str
    error: float
    tolerance: float
    case: str

    @property
    def holds(self) -> bool:
        """Whether the error is within its tolerance; NaN is not."""
        return self.error <= self.tolerance


def compare(model: Model, op: Op, seed: int, chunk_size: int | None = None) -> tuple[Finding, ...]:
    """All findings on `op`, the compiled form of `model`; a given `chunk_size` replaces those of the cases."""
    findings: dict[str, Finding] = {}
    for number, case in enumerate(CASES):
        forced = case if chunk_size is None else Case(case.length, chunk_size, case.with_start)
        for finding in _compare_case(model, op, forced, seed + number):
            _keep_worst(findings, finding)
    for finding in _compare_steps(model, op, seed + len(CASES)):
        _keep_worst(findings, finding)
    return tuple(findings.values())


def _keep_worst(findings: dict[str, Finding], finding: Finding) -> None:
    known = findings.get(finding.quantity)
    if known is None or not finding.error / finding.tolerance <= known.error / known.tolerance:
        findings[finding.quantity] = finding


def _compare_case(model: Model, op: Op, case: Case, seed: int) -> tuple[Finding, ...]:
    sizes = Sizes(length=case.length)
    inputs = draw_inputs(model, sizes, seed)
    states = draw_states(model, sizes, seed + 1000) if case.with_start else {}
    expected = _gradients(_run_reference(model), model, inputs, states)
    moved = _gradients(_run_reference(model), model, _nudged(inputs, seed), _nudged(states, seed + 1))
    actual = _gradients(_run_op(model, op, case.chunk_size), model, inputs, states)
    scale = max((_rms(value) for name, value in expected.items() if name.startswith("d")), default=0.0)
    return tuple(
        Finding(
            name,
            _relative(expected[name], actual.get(name), _floor(name, scale)),
            _tolerance(expected[name], moved[name], _floor(name, scale)),
            str(case),
        )
        for name in expected
    )


def _compare_steps(model: Model, op: Op, seed: int) -> tuple[Finding, ...]:
    """`op.step` token by token against the oracle's, from the declared start."""
    inputs = draw_inputs(model, Sizes(length=STEPS), seed)
    params = {i.name for i in model.inputs if i.is_param}
    mine: dict[str, Tensor] | None = None
    theirs: Any = None
    findings = []
    for t in range(STEPS):
        token = {name: value if name in params else value[:, t] for name, value in inputs.items()}
        expected, mine = reference.step(model, token, mine)
        result, theirs = op.step(**token, state=theirs)
        actual = _named(list(expected), result)
        findings += [
            Finding(f"{name} (step)", _relative(value, actual[name], 0.0), OPERATIONS * EPS, f"token {t}")
            for name, value in expected.items()
        ]
    return tuple(findings)


# -- running either form ----------------------------------------------------------------------------------------------

Form = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Quantities, Quantities]]


def _run_reference(model: Model) -> Form:
    def form(inputs: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> tuple[Quantities, Quantities]:
        outputs, final = reference.run(model, inputs, states)
        return outputs, {state.name: final[state.name] for state in model.states}

    return form


def _run_op(model: Model, op: Op, chunk_size: int | None) -> Form:
    outputs = [statement.name for statement in reference.outputs_of(model.statements)]
    states = [state.name for state in model.states]

    def form(inputs: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> tuple[Quantities, Quantities]:
        options: dict[str, Any] = {} if chunk_size is None else {"chunk_size": chunk_size}
        if start:
            values = tuple(start[name] for name in states)
            options["initial_state"] = values[0] if len(values) == 1 else values
        result, final = op(**inputs, output_final_state=True, **options)
        return _named(outputs, result), _named(states, final)

    return form


def _named(names: list[str], values: Any) -> Quantities:
    """What an op returns, by name: bare for one, a tuple for several."""
    return {names[0]: values} if len(names) == 1 else dict(zip(names, values, strict=True))


def _gradients(form: Form, model: Model, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> Quantities:
    """Outputs, final states and the gradients of a random functional of both, by the names a table shows."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    starts = {name: value.detach().clone().requires_grad_() for name, value in states.items()}
    outputs, final = form(leaves, starts)
    rng = torch.Generator().manual_seed(1)
    # A cotangent for outputs and final states alike, drawn in the same order for both forms.
    weighed = [
        (value, torch.randn(value.shape, generator=rng, dtype=value.dtype))
        for value in (*outputs.values(), *final.values())
    ]
    loss = torch.stack([(value * weight).sum() for value, weight in weighed]).sum()
    wanted = {f"d{name}": leaf for name, leaf in leaves.items()} | {f"d{n}[0]": leaf for n, leaf in starts.items()}
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    named = {
        name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(wanted.items(), grads, strict=True)
    }
    return {**_detached(outputs), **{f"{n}[T]": v for n, v in _detached(final).items()}, **named}


def _detached(values: Quantities) -> Quantities:
    return {name: value.detach() for name, value in values.items()}


# -- errors -----------------------------------------------------------------------------------------------------------


def _nudged(values: Mapping[str, Tensor], seed: int) -> Quantities:
    rng = torch.Generator().manual_seed(seed)
    return {
        name: value * (1 + NUDGE * torch.randn(value.shape, generator=rng, dtype=value.dtype))
        for name, value in values.items()
    }


def _rms(value: Tensor) -> float:
    return value.double().pow(2).mean().sqrt().item() if value.numel() else 0.0


def _floor(name: str, scale: float) -> float:
    """What a gradient is measured by where it all but vanishes: a tenth of the largest one.

    A gate's gradient is a difference of sums as large as the other gradients, so where it is 0 their rounding is left.
    """
    return 0.1 * scale if name.startswith("d") else 0.0


def _relative(expected: Tensor, actual: Tensor | None, floor: float) -> float:
    """RMS error over the RMS of `expected`; infinite where `actual` is missing, misshapen or not finite."""
    if actual is None or actual.shape != expected.shape or not torch.isfinite(actual).all():
        return float("inf")
    tiny = torch.finfo(torch.float64).tiny
    return _rms(actual - expected) / max(_rms(expected), floor, tiny)


def _tolerance(expected: Tensor, moved: Tensor, floor: float) -> float:
    growth = _relative(expected, moved, floor) / NUDGE
    return min(CEILING, OPERATIONS * EPS * max(1.0, growth))
