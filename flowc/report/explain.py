"""What was derived from a spec and what was chosen for it, and why.

In: a `Compilation`. Out: `explain_text` for people, `explain_record` for programs: the class with the span that
decides it, the normal form, every kernel with its cost, and the choices. Values have the names of the emitted module.
Costs are those of the cost model at nominal sizes, per token and head. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowc.chunk.aggregation import AGGREGATIONS, STATEMENTS, Formed, formed, inverse_flops, solve_products
from flowc.chunk.cost import Cost, Sizes, cost
from flowc.chunk.values import Value
from flowc.compiler import Compilation
from flowc.emit.torch_module import module_names
from flowc.report.configurations import configuration_lines, configuration_records
from flowc.report.kernels import TritonFacts, triton_facts, triton_lines, triton_record
from flowc.schedule.machine import CPU
from flowc.schedule.plan import Pass, Plan, Threshold
from flowc.schedule.schedule import (
    HEAD_SIZE,
    ROOM,
    chunk_candidates,
    inverse_seconds,
    rows_per_token,
    solve_seconds,
)
from flowc.schedule.tile_plan import Missing

NOMINAL_SIDE = 128
"""Rows and columns of the state at which costs are told."""

NOMINAL_RANK = 4
"""Every other size that the header leaves open."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel: how many statements, what it costs per token and head, what it stores."""

    name: str
    statements: int
    cost: Cost
    stores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AggregationFacts:
    """One way to solve a chunk's system: what it forms before the walk, and its products in the walk, both ways."""

    name: str
    formed: Formed
    forming_flops: int
    products: int
    solve_flops: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that both forms of an explanation tell."""

    plan: Plan
    sizes: dict[str, int]
    rows: int
    chunk_size: int
    forward_chunk_size: int
    aggregation: str | None
    aggregations: tuple[AggregationFacts, ...]
    kept: tuple[str, ...]
    kernels: tuple[KernelFacts, ...]
    triton: TritonFacts | Missing


def explain_text(compilation: Compilation) -> str:
    """The explanation as paragraphs."""
    plan = compilation.plan
    found = facts(plan)
    parts = [*_class_lines(plan), "", "One step", *str(plan.recurrence).splitlines()[1:], ""]
    parts += [*_choice_lines(found), "", *_kernel_lines(found), "", *triton_lines(found.triton)]
    parts += ["", *configured] if (configured := configuration_lines(compilation)) else []
    return "\n".join(parts)


def explain_record(compilation: Compilation) -> dict[str, object]:
    """The explanation as JSON shows it."""
    plan = compilation.plan
    found = facts(plan)
    decided = plan.recurrence.classification
    row, column = plan.recurrence.model.source.position(decided.span.start)
    return {
        "name": plan.recurrence.model.name,
        "class": {"name": decided.name, "reason": decided.reason, "line": row, "column": column},
        "step": str(plan.recurrence).splitlines()[1:],
        "sizes": found.sizes,
        "chunk_size": found.chunk_size,
        "forward_chunk_size": found.forward_chunk_size,
        "rows_per_token": found.rows,
        "aggregation": found.aggregation,
        "aggregations": [
            {
                "aggregation": a.name,
                "formed": {"inverses": a.formed.count, "rows": a.formed.rows},
                "forming_flops": a.forming_flops,
                "walk_products": a.products,
                "walk_flops": a.solve_flops,
                "seconds": a.seconds,
            }
            for a in found.aggregations
        ],
        "candidates": [
            {
                "chunk_size": c.tokens,
                "forward_seconds_per_token": c.forward,
                "seconds_per_token": c.both,
                "kept_bytes_per_token": round(c.kept),
            }
            for c in chunk_candidates(plan, found.sizes)
        ],
        "options": plan.options.record(),
        "saved": list(found.kept),
        "kernels": [
            {
                "kernel": kernel.name,
                "statements": kernel.statements,
                "product_flops": round(kernel.cost.products),
                "elementwise_flops": round(kernel.cost.elementwise),
                "bytes": round(kernel.cost.bytes),
                "stores": list(kernel.stores),
            }
            for kernel in found.kernels
        ],
        "triton": triton_record(found.triton),
        "configurations": configuration_records(compilation),
    }


def facts(plan: Plan) -> Facts:
    """What `plan` comes to at nominal sizes."""
    recurrence = plan.recurrence
    sides = recurrence.sides
    sizes = {
        d.name: d.value if d.value is not None else NOMINAL_SIDE if d.name in sides else NOMINAL_RANK
        for d in recurrence.model.dimensions
    }
    # Rows per token do not depend on the length of the chunk; it is their product with it that the tables go by.
    rows = rows_per_token(plan.forward.program, Sizes(sizes, NOMINAL_SIDE))
    chunk_size = int(_chosen(plan.chunk_sizes, rows))
    aggregation = str(_chosen(plan.aggregations, rows * chunk_size)) if plan.aggregations else None
    forward, backward = module_names(plan)
    at = Sizes(sizes, chunk_size)
    kernels = (
        *_kernels("forward", plan.forward, forward, at, aggregation or "wy"),
        *_kernels("backward", plan.backward, backward, at, aggregation or "wy"),
    )
    kept = tuple(backward[value] for _, value in plan.saved)
    alone = int(_chosen(plan.forward_chunk_sizes, rows))
    ways = tuple(aggregation_facts(a, rows * chunk_size) for a in AGGREGATIONS) if aggregation else ()
    triton = triton_facts(plan, sizes, rows)
    return Facts(plan, sizes, rows, chunk_size, alone, aggregation, ways, kept, kernels, triton)


def aggregation_facts(name: str, rows: int, columns: int = HEAD_SIZE) -> AggregationFacts:
    """What an aggregation takes for `rows` rows and `columns` columns of the state."""
    products = 2 * solve_products(name, rows, columns)
    seconds = inverse_seconds(name, rows, CPU) + 2 * solve_seconds(name, rows, CPU)
    return AggregationFacts(name, formed(name, rows), inverse_flops(name, rows), len(products), sum(products), seconds)


def _kernels(name: str, run: Pass, names: Mapping[Value, str], at: Sizes, aggregation: str) -> tuple[KernelFacts, ...]:
    results = {value: f"{n}_bar" if run.program.adjoint else n for n, value in run.program.results}
    shown = {**names, **results}
    found = []
    for kernel in run.kernels:
        whole = cost(kernel.nodes, at, aggregation)
        share = Cost(whole.products / at.tokens, whole.elementwise / at.tokens, whole.bytes / at.tokens)
        stores = dict.fromkeys(shown[value] for value in kernel.stores if value in shown)  # others stand where used
        found.append(KernelFacts(f"{name} {kernel.role.value}", len(kernel.nodes), share, tuple(stores)))
    return tuple(found)


def _chosen(table: tuple[Threshold, ...], key: int) -> int | str:
    return next(t.choice for t in table if t.limit is None or key <= t.limit)


def _class_lines(plan: Plan) -> list[str]:
    model, decided = plan.recurrence.model, plan.recurrence.classification
    row, column = model.source.position(decided.span.start)
    line = model.source.line(row)
    width = max(1, min(decided.span.end - decided.span.start, len(line) - column + 1))
    return [
        f"{model.name}: class {decided.name}: {decided.reason}",
        f"  decided at {model.source.name}:{row}:{column}",
        f"  {row} | {line}",
        f"  {' ' * len(str(row))} | {' ' * (column - 1)}{'^' * width}",
    ]


def _choice_lines(found: Facts) -> list[str]:
    options = found.plan.options
    forced = "asked for" if options.chunk_size is not None else "the cheapest by the cost model"
    where = ", ".join(f"{name} = {value}" for name, value in found.sizes.items())
    lines = [
        f"Choices at {where}",
        f"  chunk size {found.chunk_size}: {forced}, forward and backward; rows per token {found.rows}, "
        f"per chunk {found.rows * found.chunk_size} (at most 256)",
    ]
    if options.chunk_size is None:
        lines.append(f"  chunk size {found.forward_chunk_size} where no gradient is asked for: {forced}, forward alone")
    if found.aggregation is None:
        lines.append("  no aggregation: no edit reads the state, so there is no system to solve")
    else:
        why = "asked for" if options.aggregation != "auto" else "the cheapest by the cost model"
        lines.append(f"  aggregation {found.aggregation}: {why}; {STATEMENTS[found.aggregation]}")
    lines += _candidate_lines(found)
    saved = ", ".join(found.kept) or "nothing"
    lines.append(f"  kept for the backward pass beside the inputs: {saved}; what else it needs is cheaper to repeat")
    return lines


def _candidate_lines(found: Facts) -> list[str]:
    """The table that the chunk size and the aggregation were decided from."""
    lines = [
        "  predicted on one CPU core, microseconds per token and head, and bytes kept, which count too "
        f"({1e9 * ROOM:g} ns each):",
        "    chunk  rows  forward   forward + backward      kept",
    ]
    for c in chunk_candidates(found.plan, found.sizes):
        first, second = (" <-" if c.tokens == n else "   " for n in (found.forward_chunk_size, found.chunk_size))
        rows = c.tokens * found.rows
        text = (
            f"    {c.tokens:5}  {rows:4}  {1e6 * c.forward:7.2f}{first}  {1e6 * c.both:16.2f}{second}  {c.kept:8,.0f}"
        )
        lines.append(text.rstrip())
    return lines if found.aggregation is None else lines + _aggregation_lines(found)


def _aggregation_lines(found: Facts) -> list[str]:
    """The table of what each aggregation takes."""
    lines = [
        f"  (I - N) U = Z of {found.rows * found.chunk_size} rows, per chunk and head, forward and backward:",
        "    aggregation  formed ahead        flops  products in the walk        flops  microseconds",
    ]
    for a in found.aggregations:
        mark = " <-" if a.name == found.aggregation else ""
        lines.append(
            f"    {a.name:11}  {a.formed!s:>12}  {a.forming_flops:>11,}  {a.products:>20}  {a.solve_flops:>11,}"
            f"  {1e6 * a.seconds:>12.1f}{mark}"
        )
    return lines


def _kernel_lines(found: Facts) -> list[str]:
    header = f"  {'kernel':16}{'statements':>12}{'product flops':>15}{'elementwise':>13}{'bytes':>10}   stores"
    rows = [
        f"  {k.name:16}{k.statements:>12}{k.cost.products:>15,.0f}{k.cost.elementwise:>13,.0f}{k.cost.bytes:>10,.0f}"
        f"   {', '.join(k.stores) or '-'}"
        for k in found.kernels
    ]
    total = sum(k.cost.products for k in found.kernels)
    return ["Kernels, per token and head", header, *rows, f"  {'in all':28}{total:>15,.0f}"]
