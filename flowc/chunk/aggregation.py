"""How a chunk's system (I - N) U = Z is solved (design/algebra.md section 4), and what each way takes.

In: the name of an aggregation, the rows of a system, the columns that are solved for. Out: what is formed of N before
the walk, and the products with it in the walk, each with its flops, 2 for a multiply-add. Refuses other names, with
ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 16  # rows of a diagonal block of `signature`

STATEMENTS = {
    "wy": "T = (I - N)^-1, row by row by forward substitution; U = T Z",
    "tensorinv": "T = (I - N)^-1, inverses of two blocks merged into one of both; U = T Z",
    "signature": (
        f"D_b = (I - N_bb)^-1 for every {BLOCK} rows b; then block by block U_b = D_b Z_b, Z_m += N_mb U_b for later m"
    ),
}
AGGREGATIONS = tuple(STATEMENTS)


@dataclass(frozen=True, slots=True)
class Formed:
    """So many inverses of so many rows each."""

    count: int
    rows: int

    @property
    def entries(self) -> int:
        """The numbers that they hold."""
        return self.count * self.rows * self.rows

    def __str__(self) -> str:
        """Its shape, for readers."""
        own = f"{self.rows} x {self.rows}"
        return own if self.count == 1 else f"{self.count} of {own}"


def formed(aggregation: str, rows: int) -> Formed:
    """The inverses that are formed of a system before the walk."""
    return Formed(-(-rows // BLOCK), min(BLOCK, rows)) if aggregation == "signature" else Formed(1, rows)


def inverse_products(aggregation: str, rows: int) -> list[tuple[int, int]]:
    """What forms them: (independent products, flops of each), one entry after another in time."""
    match aggregation:
        case "wy":  # row by row forward substitution, rows of a triangle: n^3 / 3
            return [(1, row * row) for row in range(rows)]
        case "signature":  # the same within every diagonal block: under 85 n
            blocks = formed(aggregation, rows)
            return [(blocks.count, row * row) for row in range(blocks.rows)]
        case "tensorinv":  # blocks of two merged by two dense products: 2 n^3 / 3
            halves = [1 << level for level in range(max(rows - 1, 0).bit_length())]
            return [(halves[-1] // half, 4 * half**3) for half in halves]
        case _:
            raise ValueError(f"no aggregation {aggregation!r}")


def inverse_flops(aggregation: str, rows: int) -> int:
    """The flops of what is formed of a system before the walk."""
    return sum(count * flops for count, flops in inverse_products(aggregation, rows))


def solve_products(aggregation: str, rows: int, columns: int) -> list[int]:
    """The products, one after another, that solve for `columns` columns with what was formed: the flops of each."""
    if aggregation != "signature":
        return [2 * rows * rows * columns]
    found = []
    for start in range(0, rows, BLOCK):
        here = min(BLOCK, rows - start)
        later = rows - start - here
        found += [2 * here * here * columns, *([2 * here * later * columns] if later else [])]
    return found
