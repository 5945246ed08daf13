"""Tiles: what one Triton program computes, as straight-line code over blocks of numbers.

In: nothing; these are the types that `schedule.triton` builds from a chunk program. Out: `TileKernel`s, a walk and an
output, and `Missing`, the reasons why there are none. A tile has lanes, not axes: the chunk's rows whole, the same rows
as columns of a matrix, the state's rows whole, one block of the state's columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction

from flowc.schedule.plan import Role
from flowc.semantics.size import Size


class Lane(IntEnum):
    """An axis of a tile, in the order in which a tile stores them."""

    ROW = 0  # the chunk's tokens
    COLUMN = 1  # the same tokens, as the second axis of a matrix
    KEY = 2  # the state's rows, whole
    VALUE = 3  # a block of the state's columns


@dataclass(frozen=True, slots=True)
class Tile:
    """The result of a step. `sums`: log gates or their sums, base 2, as whole numbers and fractions apart."""

    index: int
    name: str = field(compare=False)
    lanes: tuple[Lane, ...]
    sums: bool = False


# -- operations: sources ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """An input or param in its own type; entries past the sequence's end or the state's sizes are 0."""

    name: str
    is_param: bool


@dataclass(frozen=True, slots=True)
class Carry:
    """The state before the chunk, float32."""


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Extent:
    """A size, as a number."""

    size: Size


@dataclass(frozen=True, slots=True)
class HeadNumber:
    """The value head's index, or (`count`) the number of value heads."""

    count: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """1 where an earlier token is the column, or (`same`) the row's own, else 0."""

    same: bool


# -- operations: tiles ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """An elementwise function, broadcasting by lanes, in float32."""

    name: str
    arguments: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """The argument repeated along lanes it does not have."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Turned:
    """The same numbers, rows called columns."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Masked:
    """The argument, 0 in rows past the sequence's end."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Total:
    """The sum, or (`largest`) the maximum, over the lane KEY."""

    argument: Tile
    largest: bool


@dataclass(frozen=True, slots=True)
class Split:
    """Natural log gates as base-2 ones, the nearest whole number and the fraction apart.

    Whole numbers add exactly, so that a gate of -20 does not round what milder gates of its chunk sum to.
    """

    logs: Tile


@dataclass(frozen=True, slots=True)
class RunningSums:
    """Sums over the rows up to and with each, of several gates per row."""

    gates: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class SumsBefore:
    """Running sums less the row's own gates that come `later` in its step."""

    sums: Tile
    later: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class WholeSums:
    """Sums over all rows of the chunk."""

    gates: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Decay:
    """exp(upper - lower) of sums; without `lower`, exp(upper)."""

    upper: Tile
    lower: Tile | None


@dataclass(frozen=True, slots=True)
class DecayMatrix:
    """exp(rows - columns) of sums where a column is seen (see `Seen`), else 0; masked before exp."""

    rows: Tile
    columns: Tile
    same: bool


@dataclass(frozen=True, slots=True)
class Product:
    """The sum of left * right over their common lane, plus `added`; lanes are left's other one, then right's.

    Computed operands stand on the right: a left one taken from registers can be corrupted on Hopper
    (design/performance.md). `turned`: the two were exchanged for that, and the result is transposed, its lanes right's
    other one, then left's.
    """

    left: Tile
    right: Tile
    lane: Lane
    turned: bool
    added: Tile | None


TileOp = (
    Load | Carry | Number | Extent | HeadNumber | Seen | Function | Spread | Turned | Masked | Total
    | Split | RunningSums | SumsBefore | WholeSums | Decay | DecayMatrix | Product
)  # fmt: skip


def tile_operands(op: TileOp) -> tuple[Tile, ...]:
    """The tiles an operation reads, in order."""
    match op:
        case Load() | Carry() | Number() | Extent() | HeadNumber() | Seen():
            return ()
        case Function(_, arguments):
            return arguments
        case RunningSums(gates) | WholeSums(gates):
            return gates
        case SumsBefore(sums, later):
            return (sums, *later)
        case Split(logs):
            return (logs,)
        case Decay(upper, lower):
            return (upper,) if lower is None else (upper, lower)
        case DecayMatrix(rows, columns, _):
            return (rows, columns)
        case Product(left, right, _, _, added):
            return (left, right) if added is None else (left, right, added)
        case _:
            return (op.argument,)


@dataclass(frozen=True, slots=True)
class Step:
    """One statement: `tile = op`."""

    tile: Tile
    op: TileOp


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a kernel runs for operands of `size` bytes, tiles of up to `rows` rows, and states of up to `keys` rows.

    `block` is how many of the state's columns a program holds at most; `warps` and `stages` are Triton's.
    """

    size: int
    rows: int
    keys: int
    block: int
    warps: int
    stages: int


@dataclass(frozen=True, slots=True)
class TileKernel:
    """What one program does for one chunk: a walk makes the next state, an output its results by name.

    The first of `tilings` that fits a call is its configuration.
    """

    role: Role
    steps: tuple[Step, ...]
    results: tuple[tuple[str, Tile], ...]
    tilings: tuple[Tiling, ...]


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The kernels of a forward pass, and the tokens of a chunk by the bytes of an operand's number."""

    walk: TileKernel
    output: TileKernel
    tokens: tuple[tuple[int, int], ...]
    most_keys: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a recurrence has no Triton kernels yet."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence for a user."""
        return f"backend='triton' has no kernels yet for: {'; '.join(self.reasons)}; use backend='torch'"
