"""What a certificate is computed on: sizes, and random numbers for every input, param, state and cotangent.

In: a `Model`, sizes, a seed. Out: `Draw`; its arrays have the axes [T, H, *shape] (inputs), [H, *shape] (params,
states). Values and exponents are uniform but for the sign; shadows lie within the declared ranges, and no zero is
drawn. A token of a head, or a head's params and state, can be drawn again. Refuses nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from flowc.certify import field as fp
from flowc.certify.field import ORDER, Entries, P
from flowc.certify.number import Number, Oracles, array
from flowc.semantics.model import Input, Interval, Model, Shape, State


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one point: tokens, tokens in a chunk, heads, and every dimension of the spec."""

    length: int
    chunk: int
    heads: int
    dimensions: tuple[tuple[str, int], ...]

    @property
    def bound(self) -> dict[str, int]:
        """Dimensions by name."""
        return dict(self.dimensions)

    def __str__(self) -> str:
        """As a report shows it."""
        free = ", ".join(f"{name} {value}" for name, value in self.dimensions)
        return f"T {self.length}, C {self.chunk}, H {self.heads}, {free}"


def _signed(value: int, shadow: float) -> int:
    """Squares are what positive numbers are, so that roots of squares and absolute values are the same."""
    return value if (fp.root(value) is None) == (shadow < 0) else P - value


@dataclass
class Draw:
    """Numbers by name; `start` are the states before the first token."""

    model: Model
    sizes: Sizes
    seed: int
    scanned: frozenset[str] = frozenset()  # states whose functions have a second evaluation, as those of inputs do
    oracles: Oracles = field(init=False)
    inputs: dict[str, Number] = field(init=False)
    start: dict[str, Number] = field(init=False)

    def __post_init__(self) -> None:
        """Draw everything."""
        self._rng = random.Random(self.seed)
        self.oracles = Oracles(self.seed)
        s = self.sizes
        self.inputs = {
            i.name: self.numbers((s.heads,) if i.is_param else (s.length, s.heads), i.shape, i.range)
            for i in self.model.inputs
        }
        self.start = {state.name: self.numbers((s.heads,), state.shape, None) for state in self.model.states}

    def numbers(self, lead: tuple[int, ...], shape: Shape, interval: Interval | None) -> Number:
        """Random numbers."""
        full = (*lead, *(size.value(self.sizes.bound) for size in shape.sizes))
        exponents = array(self.integers(full, fp.WIDE) * fp.IN_WIDE % ORDER)
        shadow = np.empty(full)
        for at in np.ndindex(full):
            shadow[at] = self.real(interval)
        values = fp.each(_signed, self.integers(full, P), shadow.astype(object))
        return Number(self.oracles, values, shadow, exponents)

    def integers(self, shape: tuple[int, ...], modulus: int) -> Entries:
        """Random entries from 1."""
        made = np.empty(shape, dtype=object)
        for at in np.ndindex(shape):
            made[at] = self._rng.randrange(1, modulus)
        return made

    def real(self, interval: Interval | None) -> float:
        """A float of a range: normal, or uniform within it, or exponential from its end."""
        uniform = 0.02 + 0.96 * self._rng.random()
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        if low is not None and high is not None:
            return float(low) + float(high - low) * uniform
        if low is not None:
            return float(low) - math.log(uniform)
        return self._rng.gauss(0, 1) if high is None else float(high) + 0.3 * math.log(uniform)

    def again(self, head: int, token: int | None, names: Collection[str] | None = None) -> None:
        """Draw a token of a head again, or with None its params and states; with `names` those alone."""
        for declared, number in self._of(token is None):
            if names is not None and declared.name not in names:
                continue
            at = head if token is None else (token, head)
            new = self.numbers((), declared.shape, declared.range if isinstance(declared, Input) else None)
            number.value[at], number.exponent[at], number.shadow[at] = new.value, new.exponent, new.shadow
            if new.shape == ():  # NumPy would store the array
                number.value[at], number.exponent[at] = new.value[()], new.exponent[()]

    def _of(self, whole_head: bool) -> Iterator[tuple[Input | State, Number]]:
        for i in self.model.inputs:
            if i.is_param == whole_head:
                yield i, self.inputs[i.name]
        for state in self.model.states if whole_head else ():
            yield state, self.start[state.name]
