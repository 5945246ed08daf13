"""Tiles: what one Triton program computes, as straight-line code over blocks of numbers.

In: nothing; these are the types that `schedule.lowering` makes of a chunk program. Out: `Tile`, the result of a step,
and `TileOp`, the closed union of what a step may do. A tile has lanes, not axes: the chunk's rows whole, rows as the
second axis of a matrix, the state's rows whole, one block of the state's columns, another vector whole. Refuses
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction

from flowc.schedule.lanes import KEY as KEY
from flowc.schedule.lanes import SUB as SUB
from flowc.schedule.lanes import VALUE as VALUE
from flowc.schedule.lanes import Change as Change
from flowc.schedule.lanes import Kind as Kind
from flowc.schedule.lanes import Lane as Lane
from flowc.schedule.lanes import Place as Place
from flowc.schedule.lanes import View as View
from flowc.semantics.size import ONE, Size


class Within(Enum):
    """Which rows of its own token a row sees; of earlier tokens it sees all."""

    NONE = "none"
    EARLIER = "earlier"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Tile:
    """The result of a step. `sums`: log gates or their sums, base 2, as whole numbers and fractions apart."""

    index: int
    name: str = field(compare=False)
    lanes: tuple[Lane, ...]
    sums: bool = False

    def __hash__(self) -> int:
        """Its number: lanes take longer to hash than all else that is done with a tile."""
        return self.index

    def lane(self, kind: Kind) -> Lane | None:
        """Its lane of a kind."""
        return next((lane for lane in self.lanes if lane.kind is kind), None)


# -- operations: sources ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """An argument per token or per head in its own type; 0 past the sequence's end and the state's sizes.

    `stored` are its axes as stored, each by its size and what runs over it; 0 where a view leaves the axis.
    """

    name: str
    role: str  # input | param | cotangent
    stored: tuple[tuple[Size, Place], ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """What another kernel, or the forward pass, stored of this chunk.

    `lower`: a matrix over rows of which blocks of 16 columns are 0, and not in memory, that begin after a row's token.
    """

    name: str
    lower: bool = False


@dataclass(frozen=True, slots=True)
class Carry:
    """The state that the walk carries, float32."""


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
class SubNumber:
    """A row's number within its token."""


@dataclass(frozen=True, slots=True)
class Seen:
    """1 where a column is of an earlier token, or of the row's own and seen there, else 0."""

    within: Within


@dataclass(frozen=True, slots=True)
class Selected:
    """1 where one lane's index is what `view` makes of the other's, else 0.

    A product with it moves entries, and adds up those that go to one place.
    """

    view: View


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
class Joined:
    """Parts one after another along an axis: part i where the index is below `ends[i]`, the last one elsewhere."""

    parts: tuple[Tile, ...]
    place: Lane | View
    ends: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Turned:
    """The same numbers, rows called columns or columns rows."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Transposed:
    """A matrix over rows, its two lanes exchanged."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Masked:
    """The argument, 0 in rows past the sequence's end."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Total:
    """The sum, or (`largest`) the maximum, over one lane."""

    argument: Tile
    lane: Lane
    largest: bool


@dataclass(frozen=True, slots=True)
class PerToken:
    """The sum over the rows of every token."""

    argument: Tile


@dataclass(frozen=True, slots=True)
class Split:
    """Natural log gates as base-2 ones, the nearest whole number and the fraction apart.

    Whole numbers add exactly, so that a gate of -20 does not round what milder gates of its chunk sum to.
    """

    logs: Tile


@dataclass(frozen=True, slots=True)
class RunningSums:
    """Sums over the tokens up to and with each row's, of several gates per token."""

    gates: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class SumsBefore:
    """Running sums less the token's own gates that come `later` in its step."""

    sums: Tile
    later: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class WholeSums:
    """Sums over all tokens of the chunk."""

    gates: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class SuffixSums:
    """Sums over later tokens: of `after`, and with the token's own of `own`; `whole` is added to each."""

    own: tuple[Tile, ...]
    after: tuple[Tile, ...]
    whole: tuple[Tile, ...]


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
    within: Within


@dataclass(frozen=True, slots=True)
class Exponents:
    """What lies between the rows and the columns of a gated primitive, as natural log gates; `rows`, `columns`: frames.

    `gates` are those of every token between the two tokens, `before` and `after` those of the row's own token before it
    and of the column's after it; None: there are none. `same` is the decay between rows of one token, per column.
    """

    gates: Tile
    before: Tile | None
    after: Tile | None
    same: Tile | None
    rows: Size
    columns: Size
    within: Within

    @property
    def single(self) -> bool:
        """Whether a token has one row and one column."""
        return self.rows == self.columns == ONE

    @property
    def lane(self) -> Lane:
        """What the gates run over: the state's rows or its columns."""
        return next(x for x in self.gates.lanes if not x.over_rows)


@dataclass(frozen=True, slots=True)
class DecayDot:
    """sum_k left[m,k] right[m',k] exp(what lies between, at k) where a column is seen."""

    left: Tile
    right: Tile
    exponents: Exponents


@dataclass(frozen=True, slots=True)
class DecayApply:
    """sum_m' weights[m,m'] vectors[m',k] exp(what lies between, at k), or (`transposed`) over m; see `chunk.ir`."""

    weights: Tile
    vectors: Tile
    exponents: Exponents
    transposed: bool


@dataclass(frozen=True, slots=True)
class Inverse:
    """What an aggregation forms of a strictly lower triangular matrix; see `chunk.ir.Inverse`."""

    matrix: Tile


@dataclass(frozen=True, slots=True)
class Solve:
    """(I - N)^{-1} right, or with N transposed, by what an aggregation formed of N, in memory under a name."""

    inverse: str
    right: Tile
    transposed: bool


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
    Load | Fetch | Carry | Number | Extent | HeadNumber | SubNumber | Seen | Selected
    | Function | Spread | Joined | Turned | Transposed | Masked | Total | PerToken
    | Split | RunningSums | SumsBefore | WholeSums | SuffixSums | Decay | DecayMatrix | DecayDot | DecayApply
    | Inverse | Solve | Product
)  # fmt: skip


def tile_operands(op: TileOp) -> tuple[Tile, ...]:
    """The tiles an operation reads, in order."""
    match op:
        case Load() | Fetch() | Carry() | Number() | Extent() | HeadNumber() | SubNumber() | Seen() | Selected():
            return ()
        case Joined(parts, _, _):
            return parts
        case Function(_, arguments):
            return arguments
        case RunningSums(gates) | WholeSums(gates):
            return gates
        case SumsBefore(sums, later):
            return (sums, *later)
        case SuffixSums(own, after, whole):
            return (*own, *after, *whole)
        case Split(logs):
            return (logs,)
        case Decay(upper, lower):
            return (upper,) if lower is None else (upper, lower)
        case DecayMatrix(rows, columns, _):
            return (rows, columns)
        case DecayDot(left, right, exponents) | DecayApply(left, right, exponents, _):
            return (left, right, *_exponents(exponents))
        case Inverse(matrix):
            return (matrix,)
        case Solve(_, right, _):
            return (right,)
        case Product(left, right, _, _, added):
            return (left, right) if added is None else (left, right, added)
        case _:
            return (op.argument,)


def _exponents(e: Exponents) -> tuple[Tile, ...]:
    return (e.gates, *(t for t in (e.before, e.after, e.same) if t is not None))
