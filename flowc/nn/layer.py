"""A sequence layer whose mixing over tokens is a compiled op.

In: an `Op`, the width of the model, heads, sizes. Out: `FlowLayer`: every input of the spec is projected from the
hidden vectors and brought into the range that the spec declares for it, the op runs, its outputs are normed and
projected back. Refuses, as ValueError, sizes that are missing, unknown or do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowc.nn.conv import ShortConv
from flowc.runtime.op import Op
from flowc.semantics.cautions import delta_keys
from flowc.semantics.model import Input, Interval, Kind


class LayerState(NamedTuple):
    """What a layer carries from call to call: the last tokens of its convolution, and the state as the op has it."""

    conv: Tensor | None
    state: Any


class FlowLayer(nn.Module):
    """`y = W_o norm(op(projections of x))`, [B, T, hidden] to [B, T, hidden].

    - An input of the spec of shape s, [B, T, heads, *s], is a linear projection of x. One with a declared range is
      brought into it: `<= 0` by -softplus(x - 4), `> 0` by softplus, an interval by a sigmoid, each an elementwise
      function of the projection plus a learnt bias. The others, if they are vectors or matrices, go through the short
      convolution.
    - `normalize` names the inputs that are divided by their length (of matrices, each column): by default those that
      an update subtracts what it reads at, which `flowc check` warns about otherwise (W203).
    - A param of the spec is a parameter [heads, *s], brought into its range likewise; without one it starts at 1.

    The layer can be compiled by torch.compile, checkpointed and wrapped by DistributedDataParallel.
    """

    def __init__(
        self,
        op: Op,
        hidden_size: int,
        heads: int,
        *,
        sizes: Mapping[str, int] | None = None,
        normalize: Sequence[str] | None = None,
        conv_size: int = 4,
        output_norm: bool = True,
        output_gate: bool = False,
    ) -> None:
        """Make the parameters.

        Args:
            op: a compiled op.
            hidden_size: the width of the model.
            heads: heads of the op; those of all inputs.
            sizes: the spec's symbolic dimensions by name. A dimension that is a side of a state and is not given is
                hidden_size / heads.
            normalize: inputs that are divided by their length; None: the keys of delta reads.
            conv_size: tokens of the causal, depthwise convolution with SiLU before the op; 0: none.
            output_norm: whether every head's output goes through an RMSNorm.
            output_gate: whether outputs are multiplied by silu of a projection of x.

        Raises:
            TypeError: what is no op.
            ValueError: sizes that are missing, unknown, or do not divide; inputs that the spec does not have.
        """
        super().__init__()
        _check(op, hidden_size=hidden_size, heads=heads)
        self.op, self.hidden_size, self.heads = op, hidden_size, heads
        model = op.compilation.model
        self.sizes = _sizes(op, hidden_size, heads, dict(sizes or {}))
        self.inputs = {i.name: i for i in model.inputs if not i.is_param}
        own = {i.name: i for i in model.inputs if i.is_param}
        keys = delta_keys(model) if normalize is None else tuple(normalize)
        unknown = [n for n in keys if n not in self.inputs]
        if unknown:
            raise ValueError(f"{model.name} has no input {', '.join(map(repr, unknown))} to normalize")
        self.normalized = frozenset(keys)
        self.ranged = {n: i.range for n, i in {**self.inputs, **own}.items() if i.range is not None}
        self.projections = nn.ModuleDict(
            {n: nn.Linear(hidden_size, heads * self.width(i), bias=n in self.ranged) for n, i in self.inputs.items()}
        )
        self.own = nn.ParameterDict({n: nn.Parameter(self.first(i)) for n, i in own.items()})
        self.shapes = {n: (heads, *(s.value(self.sizes) for s in i.shape.sizes)) for n, i in self.inputs.items()}
        self.matrices = frozenset(n for n, i in self.inputs.items() if i.shape.kind is Kind.MATRIX)
        self.bounds = {n: _bounds(r) for n, r in self.ranged.items()}
        self.mixed = [n for n, i in self.inputs.items() if n not in self.ranged and i.shape.kind is not Kind.SCALAR]
        channels = heads * sum(self.width(self.inputs[n]) for n in self.mixed)
        self.conv = ShortConv(channels, conv_size) if conv_size and self.mixed else None
        outputs = [r.shape for r in op.compilation.recurrence.results]
        made = [max(1, _entries([s.value(self.sizes) for s in shape.sizes])) for shape in outputs]
        self.norm = nn.RMSNorm(sum(made), eps=1e-5) if output_norm else None
        self.gate = nn.Linear(hidden_size, heads * sum(made), bias=False) if output_gate else None
        self.out = nn.Linear(heads * sum(made), hidden_size, bias=False)

    # -- shapes and ranges --------------------------------------------------------------------------------------------

    def width(self, i: Input) -> int:
        """The numbers of an input per token and head."""
        return _entries([s.value(self.sizes) for s in i.shape.sizes])

    def first(self, i: Input) -> Tensor:
        """What a param starts as, before its range: such that it starts in the middle, or at 1."""
        shape = (self.heads, *(s.value(self.sizes) for s in i.shape.sizes))
        return torch.zeros(shape) if i.name in self.ranged else torch.ones(shape)

    # -- forward ------------------------------------------------------------------------------------------------------

    def tensors(self, x: Tensor, tail: Tensor | None, cu_seqlens: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """The op's inputs by name, [B, T, heads, *shape], and the convolution's next tail; override to tie some."""
        if x.dim() != 3 or x.shape[-1] != self.hidden_size:
            raise ValueError(f"x has shape {list(x.shape)}; expected [B, T, {self.hidden_size}]")
        made = {n: projection(x) for n, projection in self.projections.items()}
        after = x.new_zeros(x.shape[0], 0, 0)
        if self.conv is not None:
            joined, after = self.conv(torch.cat([made[n] for n in self.mixed], -1), tail, cu_seqlens)
            made |= dict(zip(self.mixed, joined.split([made[n].shape[-1] for n in self.mixed], -1), strict=True))
        shaped = {}
        for n, shape in self.shapes.items():
            value = made[n].unflatten(-1, shape)
            if n in self.bounds:
                value = within(value, *self.bounds[n])
            if n in self.normalized:
                # in the type of the others, also under autocast: an op multiplies in float32 where types differ
                value = F.normalize(value, dim=-2 if n in self.matrices else -1).to(value.dtype)
            shaped[n] = value
        return shaped, after

    def params(self) -> dict[str, Tensor]:
        """The op's params by name, [heads, *shape]."""
        return {n: within(p, *self.bounds[n]) if n in self.bounds else p for n, p in self.own.items()}

    def forward(
        self,
        x: Tensor,
        state: LayerState | None = None,
        *,
        cu_seqlens: Tensor | None = None,
        return_state: bool = False,
    ) -> Any:
        """[B, T, hidden] to [B, T, hidden], or with `return_state` (y, LayerState).

        Args:
            x: hidden vectors [B, T, hidden].
            state: where an earlier call left off; None: the start.
            cu_seqlens: offsets of sequences packed along T, as the op takes them; B is 1.
            return_state: whether what the next call takes is returned too.
        """
        given, tail = self.tensors(x, None if state is None else state.conv, cu_seqlens)
        own = None if state is None else state.state
        made, after = self.op(
            **given, **self.params(), initial_state=own, output_final_state=True, cu_seqlens=cu_seqlens
        )
        y = self.mixed_out(x, made)
        return (y, LayerState(tail, after)) if return_state else y

    def step(self, x: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """One token, for generation: [B, hidden] to [B, hidden], and the next state."""
        given, tail = self.tensors(x[:, None], None if state is None else state.conv, None)
        one = {n: value[:, 0] for n, value in given.items()}
        made, after = self.op.step(**one, **self.params(), state=None if state is None else state.state)
        several = made if isinstance(made, tuple) else (made,)
        y = self.mixed_out(x[:, None], tuple(part[:, None] for part in several))
        return y[:, 0], LayerState(tail, after)

    def mixed_out(self, x: Tensor, made: Any) -> Tensor:
        """Outputs of the op, of all heads together, as hidden vectors."""
        parts = made if isinstance(made, tuple) else (made,)
        o = torch.cat([part.flatten(3) if part.dim() > 3 else part[..., None] for part in parts], -1)
        o = o if self.norm is None else self.norm(o)
        o = o.flatten(2)
        return self.out(o if self.gate is None else o * F.silu(self.gate(x)))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The op and its sizes."""
        sizes = ", ".join(f"{n}={s}" for n, s in self.sizes.items())
        return f"{self.op.__name__}, hidden_size={self.hidden_size}, heads={self.heads}, {sizes}"


def within(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """A projection in a range: near the upper end of `<= 0` at 0, so that gates start mild."""
    if low is not None and high is not None:
        return low + (high - low) * torch.sigmoid(x)
    if high is not None:
        return high - F.softplus(x - 4)
    return x if low is None else low + F.softplus(x)


def _bounds(declared: Interval) -> tuple[float | None, float | None]:
    low, high = declared.low, declared.high
    return None if low is None else float(low), None if high is None else float(high)


def _entries(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _check(op: object, **numbers: object) -> None:
    """Refuse what is no op, and numbers that are no sizes."""
    if not isinstance(op, Op):
        raise TypeError(f"a layer takes an op, as flowc.compile gives it, not {type(op).__name__}")
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} is {number!r}; expected an integer from 1")


def _sizes(op: Op, hidden_size: int, heads: int, given: dict[str, int]) -> dict[str, int]:
    """Every dimension of the spec by name."""
    name, recurrence = op.__name__, op.compilation.recurrence
    symbolic = [d.name for d in recurrence.model.dimensions if d.value is None]
    fixed = {d.name: d.value for d in recurrence.model.dimensions if d.value is not None}
    unknown = [n for n in given if n not in symbolic]
    if unknown:
        raise ValueError(f"{name}: sizes has {', '.join(unknown)}; its symbolic dimensions are {', '.join(symbolic)}")
    found = dict(given)
    for n in symbolic:
        if n in found:
            continue
        if n not in recurrence.sides:
            raise ValueError(f"{name}: {n} is no side of a state; give it, as sizes={{{n!r}: 2}}")
        if hidden_size % heads:
            size = f"hidden_size = {hidden_size} is no multiple of heads = {heads}"
            raise ValueError(f"{name}: {size}, and {n} is not given")
        found[n] = hidden_size // heads
    return found | fixed
