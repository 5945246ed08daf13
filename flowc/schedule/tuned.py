"""Configurations that `flowc tune` found: what a row says, where it holds, and which of several a call takes.

In: rows as JSON, or as an emitted module prints them, which are taken apart type by type and never evaluated. Out:
`Tuned`, what emitted modules print, and `nearest`, which finds what they find. Refuses, with ValueError that names the
field, values outside what it allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date

from flowc.schedule.plan import Plan
from flowc.schedule.staged import KernelPlan, kernel_plan
from flowc.schedule.tile_cost import tile_length
from flowc.schedule.tilings import FAMILIES, KEYS, Tiling

INTERPRETED = "interpreted"
"""The family and the name of what is no GPU: no GPU reads its rows, and it reads no other's."""

MEASURED, PREDICTED = "measured", "predicted"
LENGTHS = (16, 32, 64, 128)
"""Columns and rows that a program may hold."""

WARPS = (4, 8)
STAGES = (1, 2, 3)
WIDTHS = (2, 4)
LONGEST_TEXT = 100
ROLE = re.compile(r"(matrices|walk|fused|columns|rows|gradients)(_backward)?(_[0-9]+)?")

ALLOWED: dict[str, tuple[int | str, ...]] = {
    "family": (*FAMILIES, INTERPRETED),
    "width": WIDTHS,
    "columns": LENGTHS,
    "rows": LENGTHS,
    "warps": WARPS,
    "stages": STAGES,
    "how": (MEASURED, PREDICTED),
}
POWERS = ("keys", "values", "tokens", "length", "walks")


@dataclass(frozen=True, slots=True, order=True)
class Tuned:
    """What a kernel takes on a device near some sizes, and how that was found.

    `width`: bytes of an operand's number; `keys`, `values`: of the state, as `size_class` has them; `tokens`: the tile
    of a chunk's; `length`: tokens of a sequence, `walks`: sequences times heads, each by the next power of two. Warps
    of AMD count double. `version` is flowc's.

    Raises:
        ValueError: a value that its field does not allow.
    """

    family: str
    device: str
    role: str
    width: int
    keys: int
    values: int
    tokens: int
    length: int
    walks: int
    columns: int
    rows: int
    warps: int
    stages: int
    how: str
    date: str
    version: str

    def __post_init__(self) -> None:
        """Check every field against what it allows."""
        for field in fields(self):
            value: object = getattr(self, field.name)
            if type(value).__name__ != field.type:
                raise ValueError(f"{field.name} is {value!r}; allowed: {'text' if field.type == 'str' else 'a number'}")
            if field.name in ALLOWED and value not in ALLOWED[field.name]:
                allowed = ", ".join(map(repr, ALLOWED[field.name]))
                raise ValueError(f"{field.name} is {value!r}; allowed: {allowed}")
            if isinstance(value, str) and not (0 < len(value) <= LONGEST_TEXT and value.isprintable()):
                raise ValueError(f"{field.name} is {value!r}; allowed: a line of up to {LONGEST_TEXT} characters")
        for name in POWERS:
            count: int = getattr(self, name)
            if not 1 <= count <= 2**40 or count & (count - 1):
                raise ValueError(f"{name} is {count}; allowed: a power of two")
        if not ROLE.fullmatch(self.role):
            raise ValueError(f"role is {self.role!r}; allowed: a kernel's, such as 'walk' or 'gradients_backward'")
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(f"date is {self.date!r}; allowed: a day, such as '2026-11-23'") from None

    @property
    def tiling(self) -> Tiling:
        """The configuration."""
        return self.columns, self.rows, self.warps, self.stages

    @property
    def key(self) -> tuple[object, ...]:
        """Where it holds: of two rows with the same key the newer one replaces the other."""
        return (*astuple(self)[:9], self.how)

    def __str__(self) -> str:
        """How it was found."""
        on = "for" if self.how == PREDICTED else "on"
        return f"{self.how} {on} {self.device} at {self.date} by flowc {self.version}"

    def at(self) -> str:
        """Where it holds, in words."""
        return (
            f"K {self.keys}, V {self.values}, chunks of {self.tokens}, T {self.length:,}, B H {self.walks:,},"
            f" {8 * self.width}-bit"
        )


def printed(rows: Iterable[Tuned]) -> tuple[str, ...]:
    """Rows as an emitted module has them, in an order of their own."""
    return tuple(repr(astuple(row)) for row in sorted(rows))


def of_printed(rows: object) -> tuple[Tuned, ...]:
    """The rows that a module has; ValueError for what is none."""
    if not isinstance(rows, tuple) or not all(isinstance(row, tuple) for row in rows):
        raise ValueError("rows of a module are tuples")
    if any(len(row) != len(fields(Tuned)) for row in rows):
        raise ValueError(f"a row of a module has {len(fields(Tuned))} parts")
    return tuple(Tuned(*row) for row in rows)


def roles(plan: Plan) -> frozenset[str]:
    """What the kernels of a plan are configured as; none where it has none, or none that are."""
    found = kernel_plan(plan)
    return frozenset(_roles(found)) if isinstance(found, KernelPlan) else frozenset()


def _roles(found: KernelPlan) -> Iterator[str]:
    for stage in found.stages:
        yield from (stage.role(kernel, adjoint) for kernel, adjoint in stage.kernels())


# -- where rows hold --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A launch as rows tell them apart: its device's family and name, a kernel's role, the class of every size."""

    family: str
    device: str
    role: str
    width: int
    keys: int
    values: int
    tokens: int
    length: int
    walks: int

    @staticmethod
    def of(
        family: str, device: str, role: str, width: int, state: tuple[int, int], tokens: int, length: int, walks: int
    ) -> Place:
        """Of a launch with exact sizes."""
        keys, values = (size_class(n) for n in state)
        classes = min(keys, KEYS[-1]), values, tile_length(tokens), power(length), power(walks)
        return Place(family, device, role, width, *classes)


def size_class(size: int) -> int:
    """Of a side of a state: the length of its tile, and that of `KEYS` below the first of them."""
    return max(KEYS[0], tile_length(size))


def power(count: int) -> int:
    """The next power of two."""
    return 1 << max(count - 1, 0).bit_length()


def nearest(rows: Sequence[Tuned], place: Place) -> Tuned | None:
    """What a launch takes of rows for its family of devices; None: there is none for its kernel and sizes.

    Of its own device's if there are any, of measured ones if there are any, the nearest in length and walks, each a
    power of two; the first of two that are as near.
    """
    exact = place.role, place.width, place.keys, place.values, place.tokens
    own = [r for r in rows if r.family == place.family and astuple(r)[2:7] == exact]

    def far(r: Tuned) -> tuple[bool, bool, int]:
        return (
            r.device != place.device,
            r.how != MEASURED,
            _apart(r.length, place.length) + _apart(r.walks, place.walks),
        )

    return min(sorted(own), key=far, default=None)


def _apart(one: int, other: int) -> int:
    return abs(one.bit_length() - other.bit_length())
