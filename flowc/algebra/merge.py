"""Merging: the edits of a step brought to one spelling.

In: a `Step`. Out: the same step with gates that follow each other multiplied, writes that do not see each other written
together, and one row per left factor. Coefficients go to the right and are never divided by: beta may be 0.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from flowc.algebra.edits import Edit, GateEdit, RowEdit, Step, WriteEdit
from flowc.algebra.forms import Point
from flowc.algebra.leaves import Leaves, factors, product
from flowc.algebra.term import Axis

MOST_PARTS = 128


def merge(step: Step, leaves: Leaves, row: Axis) -> Step:
    """The step with as few edits and rows as its meaning allows; `row` is the state's row axis."""
    return _Merger(step, leaves, row).run()


class _Merger:
    def __init__(self, step: Step, leaves: Leaves, row: Axis) -> None:
        self.step, self.leaves, self.row = step, leaves, row

    def run(self) -> Step:
        for index in range(len(self.step.segments)):
            self.each_row(index)
            at = 0
            while at + 1 < len(self.step.segments[index].edits):
                if not self.joined(index, at):
                    at += 1
            self.each_row(index)
        return self.step

    def each_row(self, index: int) -> None:
        """Scalars to the right and equal factors together, in every write of a segment."""
        segment = self.step.segments[index]
        for at, edit in enumerate(segment.edits):
            if isinstance(edit, WriteEdit):
                segment.edits[at] = WriteEdit(self.combined([self.primitive(r) for r in edit.rows]))

    def primitive(self, r: RowEdit) -> RowEdit:
        """The row with its left factor's scalars moved to the right."""
        scalars = [f for f in factors(r.left) if self.row not in self.leaves.axes(f)]
        left = product(f for f in factors(r.left) if self.row in self.leaves.axes(f))
        scale = product(scalars)
        if left.could_extract_minus_sign():
            left, scale = -left, -scale
        return replace(r, left=left, free=scale * r.free, read=scale * r.read)

    def combined(self, rows: list[RowEdit]) -> tuple[RowEdit, ...]:
        """Rows of one left factor added up, then rows of one right factor."""
        by_left: list[RowEdit] = []
        for r in rows:
            for at, seen in enumerate(by_left):
                points = {p for p in (seen.point, r.point) if p is not None}
                if (seen.left, seen.rank) == (r.left, r.rank) and len(points) <= 1:
                    point = seen.point or r.point
                    by_left[at] = replace(seen, free=seen.free + r.free, read=seen.read + r.read, point=point)
                    break
            else:
                by_left.append(r)
        by_right: list[RowEdit] = []
        for r in (r for r in by_left if (r.free, r.read) != (0, 0)):
            for at, seen in enumerate(by_right):
                if (seen.free, seen.read, seen.point, seen.rank) == (r.free, r.read, r.point, r.rank):
                    by_right[at] = replace(seen, left=seen.left + r.left)
                    break
            else:
                by_right.append(r)
        known = [replace(r, point=None) if r.read == 0 else r for r in by_right]
        return tuple(sorted(known, key=lambda r: (r.read == 0, str(r.left), str(r.rank))))

    def joined(self, index: int, at: int) -> bool:
        """Join edits `at` and `at + 1` of a segment where that changes nothing."""
        edits = self.step.segments[index].edits
        first, second = edits[at], edits[at + 1]
        middle = Point(index, at + 1)
        if self.seen(middle, besides=second):
            return False
        joined: Edit | None = None
        match first, second:
            case GateEdit(), GateEdit():
                joined = GateEdit(first.left * second.left, first.right * second.right, first.span)
            case WriteEdit(), WriteEdit():
                joined = self.substituted(first, second, middle)
        if joined is None:
            return False
        edits[at : at + 2] = [joined]
        self.renumber(middle)
        return True

    def substituted(self, first: WriteEdit, second: WriteEdit, middle: Point) -> WriteEdit | None:
        """Both writes as one; a read that sees the first is written out where it then merges with it."""
        readers = [r for r in second.rows if r.point == middle]
        if not readers:
            return WriteEdit((*first.rows, *second.rows))
        if len(first.rows) != 1 or any(r.left != first.rows[0].left for r in second.rows):
            return None
        seen = first.rows[0]
        start = Point(middle.segment, middle.offset - 1)
        if seen.rank is not None or any(r.rank is not None for r in readers) or seen.point not in (None, start):
            return None
        rows = [seen]
        for r in second.rows:
            if r.point == middle:
                overlap = self.leaves.total(r.read * seen.left, self.row)
                r = replace(r, free=r.free + overlap * seen.free, read=r.read + overlap * seen.read, point=start)
                if larger(r.free) or larger(r.read):
                    return None  # another row costs less than a number that doubles with every write
            rows.append(r)
        return WriteEdit(self.combined(rows))

    def seen(self, point: Point, besides: Edit) -> bool:
        """Whether anything but `besides` reads the state at `point`."""
        if any(read.point == point for read in self.step.reads):
            return True
        return any(
            r.point == point
            for segment in self.step.segments
            for edit in segment.edits
            if edit is not besides and isinstance(edit, WriteEdit)
            for r in edit.rows
        )

    def renumber(self, middle: Point) -> None:
        """Points after a removed one, moved up by one."""

        def moved(p: Point) -> Point:
            later = p.segment == middle.segment and p.offset >= middle.offset
            return Point(p.segment, p.offset - 1) if later else p

        for segment in self.step.segments:
            for at, edit in enumerate(segment.edits):
                if isinstance(edit, WriteEdit):
                    segment.edits[at] = WriteEdit(
                        tuple(replace(r, point=r.point and moved(r.point)) for r in edit.rows)
                    )
        self.step.reads = [replace(read, point=moved(read.point)) for read in self.step.reads]


def larger(expr: sp.Expr, limit: int = MOST_PARTS) -> bool:
    """Whether an expression has more parts than `limit`."""
    waiting, count = [expr], 0
    while waiting and count <= limit:
        count += 1
        waiting.extend(waiting.pop().args)
    return count > limit
