"""How much a spec may hold, so that no spec takes long: statements, declarations, and expressions written out.

In: a `Spec`, then the statements of its `Model`. Out: errors in a `Report`. A let counts as what it stands for wherever
it is used, as the algebra writes it out: forty lets that each use the one before twice are 2^40 parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowc.semantics.model import Call, Expr, Let, LetRef, Statement
from flowc.semantics.names import Report
from flowc.semantics.walk import children, flat
from flowc.syntax import tree as syntax

MOST_ITEMS = 256
MOST_PARTS = 4096
USES = {"l2norm": 3, "rmsnorm": 3, "softmax": 4, "silu": 2, "norm": 2}
"""How often the algebra writes an argument out."""


def counted(spec: syntax.Spec, report: Report) -> bool:
    """Whether a spec has few enough statements and declarations; else an error where the first too many stands."""
    declared = [name.span for item in spec.items if not isinstance(item, _STEP) for name in item.names]
    stepped = [item.span for item in _items(spec.items) if isinstance(item, _STEP)]
    for what, found in (("declarations", declared), ("statements", stepped)):
        if len(found) > MOST_ITEMS:
            message = f"this spec has {len(found):,} {what}; the limit is {MOST_ITEMS}"
            report.error("F111", message, "declare lists and write a `repeat`", found[MOST_ITEMS])
            return False
    return True


_STEP = (syntax.Let, syntax.Assign, syntax.Repeat)


def _items(items: Sequence[syntax.Item]) -> Iterator[syntax.Item]:
    for item in items:
        yield item
        if isinstance(item, syntax.Repeat):
            yield from _items(item.body)


def written_out(statements: tuple[Statement, ...], report: Report) -> None:
    """An error at the first statement that has too many parts when its lets are written out."""
    lets: dict[str, int] = {}
    for statement in flat(statements):
        parts = _parts(statement.value, lets)
        if isinstance(statement, Let):
            lets[statement.name] = parts
        if parts > MOST_PARTS:
            shown = f"{parts:,}" if parts < 10**9 else f"over {10**9:,}"
            message = f"with its lets written out this has {shown} parts; the limit is {MOST_PARTS:,}"
            advice = "make it outside the recurrence, and declare it as an input"
            report.error("F112", message, advice, statement.value.span)
            return


def _parts(expr: Expr, lets: dict[str, int]) -> int:
    if isinstance(expr, LetRef):
        return lets.get(expr.name, 1)
    uses = USES.get(expr.function, 1) if isinstance(expr, Call) else 1
    return 1 + uses * sum(_parts(child, lets) for child in children(expr))
