"""Plan -> Artifact: the emitted module.

In: a `Plan`. Out: an `Artifact`, the same bytes on every run. The module imports torch and triton only; what the user
wrote reaches it through the typed printers, quoted text through `repr`-safe comments. Refuses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowc import __version__
from flowc.chunk.differentiate import cotangent
from flowc.chunk.values import Level, Value
from flowc.emit.artifact import Artifact
from flowc.emit.banner import banner
from flowc.emit.checks import state_tables
from flowc.emit.format import formatted
from flowc.emit.interface import Interface, mentions
from flowc.emit.names import Names
from flowc.emit.origins import commented
from flowc.emit.pieces import piece, support
from flowc.emit.public import empty_outputs, kept_sizes, public, start_names
from flowc.emit.step_printer import StepPrinter
from flowc.emit.torch_printer import Statement, TorchPrinter
from flowc.emit.torch_products import product_inputs
from flowc.emit.triton_section import kernels as triton_kernels
from flowc.resources import templates
from flowc.schedule.plan import Pass, Plan, Threshold
from flowc.schedule.schedule import saved_name, system_rows
from flowc.schedule.tuned import Tuned


@dataclass(frozen=True, slots=True)
class ModuleView:
    """What the template gets: printed strings."""

    title: str
    banner: str
    imports: str
    version: str
    hash: str
    options: str
    tables: str
    support: str
    advance: str
    forward: str
    backward: str
    checks: str
    public: str
    segment: str
    forward_segment: str
    segment_tokens: str
    value: str
    kernels: str
    operator: str


def emit(plan: Plan, tuned: Sequence[Tuned] = ()) -> Artifact:
    """The module of a plan, with configurations of its kernels that were searched."""
    writer = _Writer(plan, tuned)
    view = writer.view()
    environment = Environment(
        loader=FileSystemLoader(templates()), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    template = environment.get_template("torch_module.py.j2")
    digest = hashlib.sha256(template.render(module=view).encode()).hexdigest()
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in plan.recurrence.model.name)
    text = template.render(module=replace(view, operator=f"{name}_{digest[:16]}"))
    return Artifact(plan.recurrence.model.name, formatted(text), view.hash, writer.interface.function)


def module_names(plan: Plan) -> tuple[dict[Value, str], dict[Value, str]]:
    """What the two passes of the module call the values that have a name there."""
    writer = _Writer(plan)
    writer.forward()
    writer.backward()
    return writer.forward_names, writer.backward_names


class _Writer:
    def __init__(self, plan: Plan, tuned: Sequence[Tuned] = ()) -> None:
        self.plan, self.tuned = plan, tuned
        self.model = plan.recurrence.model
        self.interface = Interface(plan.recurrence)
        self.helpers: dict[str, None] = {}
        self.forward_names: dict[Value, str] = {}
        self.backward_names: dict[Value, str] = {}

    def view(self) -> ModuleView:
        advance, forward, backward = self.advance(), self.forward(), self.backward()
        kernels = triton_kernels(self.plan, self.interface, tuple(start_names(self.interface)), self.tuned)
        rows, products = system_rows(self.plan.forward.program), product_inputs(self.plan.forward.program)
        callables = public(self.interface, rows, kernels.missing, kernels.keys, kernels.steps, products)
        checks = piece("checks")
        digest = hashlib.sha256(self.model.canonical.encode()).hexdigest()
        kept = kept_sizes(self.interface, [(v, self.plan.forward.program.defined[v]) for v, _ in self.plan.saved])
        forward = f"{forward}\n\n\n{empty_outputs(self.interface)}\n\n\n{kept}"
        code = "\n".join((advance, forward, backward, callables, checks))
        self.helpers |= {"narrow": None} if products else {}
        supported = support(("uncast", "cached", "group_heads", "put", *self.helpers, *kernels.helpers))
        return ModuleView(
            title=self.interface.title,
            banner=banner(self.plan, digest, self.by_derivation()),
            imports=_imports(code + supported),
            version=__version__,
            hash=digest,
            options=repr(self.plan.options.record()),
            tables=self.tables(),
            support=supported,
            advance=advance,
            forward=forward,
            backward=backward,
            checks=checks,
            public=callables,
            segment=str(self.plan.segments.chunks),
            forward_segment=str(self.plan.segments.forward_chunks),
            segment_tokens=str(self.plan.segments.tokens),
            value=f"inputs[{[i.name for i in self.model.inputs].index(self.plan.recurrence.value_input)}]",
            kernels=kernels.text,
            operator="",  # until the rest, which it is named after, is there
        )

    def by_derivation(self) -> dict[str, list[str]]:
        """The names of chunked values in the module by those of the derivation, for the legend."""
        found: dict[str, dict[str, None]] = {}
        for names, passed in ((self.forward_names, self.plan.forward), (self.backward_names, self.plan.backward)):
            for node in passed.program.nodes:
                if node.value in names and node.value.name and node.value.level is Level.CHUNK:
                    found.setdefault(node.value.name, {})[names[node.value]] = None
        return {name: list(shown) for name, shown in found.items()}

    def tables(self) -> str:
        lines = [
            f"_NAME = {self.model.name!r}",
            f"_VALUE = {self.plan.recurrence.value_input!r}",
            f"_TENSORS = {self.interface.tensor_names!r}",
            f"_OUTPUTS = {len(self.plan.recurrence.results)}",
            f"_STATES = {len(self.model.states)}",
            "_RESULTS = _OUTPUTS + _STATES",
            state_tables(self.interface),
            f"_TIMED = {tuple(not i.is_param for i in self.model.inputs)!r}",
            f"_CHUNK_SIZES = {_table(self.plan.chunk_sizes)}  # (rows per token up to, tokens)",
            f"_FORWARD_CHUNK_SIZES = {_table(self.plan.forward_chunk_sizes)}  # where no gradient is asked for",
        ]
        aggregations = self.plan.aggregations or (Threshold(None, "none"),)
        lines.append(f"_AGGREGATIONS = {_table(aggregations)}  # (rows per chunk up to, how)")
        return "\n".join(lines)

    # -- functions ----------------------------------------------------------------------------------------------------

    def advance(self) -> str:
        interface = self.interface
        names = Names(interface.taken)
        printer = StepPrinter(self.model, interface.sizes, interface.inputs, names)
        printer.run()
        self.helpers |= printer.helpers
        states = [printer.states[s.name] for s in self.model.states]
        body = "\n".join(printer.lines)
        expanded = [
            f"{printer.outputs[r.name]}.expand({interface.shape(r.shape, 'batch, heads')})"
            for r in self.plan.recurrence.results
        ]
        kept = [
            f"{name}.expand({interface.shape(s.shape, 'batch, heads')})"  # one that is set from params has no batch
            for name, s in zip(states, self.model.states, strict=True)
        ]
        prologue = interface.prologue("\n".join((body, *expanded, *kept)), lead=2)
        lines = [
            f"def _advance({_typed((*interface.inputs.values(), *states))}, dtype: torch.dtype)"
            " -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:",
            '    """One token: outputs and new states, from inputs [B, H, *] and states [B, H, *] of type `dtype`."""',
            *_indented((*prologue, *printer.lines)),
            f"    return ({', '.join(expanded)},), ({', '.join(kept)},)",
        ]
        return "\n".join(lines)

    def once(self, name: str, passed: Pass) -> tuple[str, dict[Value, str]]:
        """The function that makes what a pass has once for all segments, and what it calls those values."""
        names = Names(self.interface.taken)
        states = self.state_names(names)
        arguments = self.arguments | _carries(states)
        printer = TorchPrinter(passed, self.interface.sizes, arguments, names, (passed.once,))
        printer.run()
        self.take(printer)
        body = [s.text for s in commented(printer.statements, self.plan.recurrence)]
        kind = ["narrow = dtype"] * mentions("\n".join(body), "narrow")
        given = {v: printer.code[v].text for v in passed.once.stores}
        lines = [
            f"def {name}({_typed((*self.interface.inputs.values(), *states.values()))},"
            " tokens: int, dtype: torch.dtype) -> tuple[Tensor, ...]:",
            '    """Numbers per row, [T / C, B H, rows], for all chunks at once: those of a segment are few."""',
            *_indented(self.opening(printer, body, kind) if body else ()),
            *_indented(body),
            f"    return {_tuple(given.values())}",
        ]
        return "\n".join(lines), {v: text for v, text in given.items()}

    def forward(self) -> str:
        plan, interface = self.plan, self.interface
        once, given = self.once("_forward_rows", plan.forward)
        names = Names(interface.taken)
        states = self.state_names(names)
        kept = frozenset(f for f, _ in plan.saved)
        passed = plan.forward
        arguments = self.arguments | _carries(states)
        printer = TorchPrinter(passed, interface.sizes, arguments, names, passed.of_segment, kept)
        taken = self.given(printer, given)
        printer.run()
        self.take(printer)
        results = [self.result(printer, r.name, at) for at, r in enumerate(plan.recurrence.results)]
        saved = _tuple(printer.kept(f) for f, _ in plan.saved)
        body = _guarded(commented(printer.statements, plan.recurrence), ())
        shaped = self.shaped(states)
        shown = " and ".join(f"`{state}`" for state in states.values())
        lines = [
            f"def _forward({_typed((*interface.inputs.values(), *states.values()))}, rows: Sequence[Tensor],"
            " tokens: int, aggregation: str, dtype: torch.dtype, narrow: torch.dtype, keep: bool, outs: list[Tensor])"
            " -> tuple[Tensor, ...]:",
            f'    """Write outputs to `outs` and what comes after the state to {shown}; with `keep`, what to save."""',
            *_indented(self.opening(printer, (*body, *results), (*shaped, *taken))),
            *_indented(body),
            *_indented(results),
            f"    return {saved} if keep else ()",
        ]
        return f"{once}\n\n\n" + "\n".join(lines)

    @property
    def arguments(self) -> dict[str, str]:
        """What inputs and params are called."""
        return {f"{role} {n}": code for n, code in self.interface.inputs.items() for role in ("input", "param")}

    def state_names(self, names: Names, suffix: str = "") -> dict[str, str]:
        """What the states, or their cotangents, are called."""
        return {s.name: names.fresh(s.name + suffix) for s in self.model.states}

    def shaped(self, states: dict[str, str]) -> list[str]:
        """The lines that bring states which are walked into [B H, K, V]."""
        walked = [m.state for m in self.plan.recurrence.memories]
        shapes = ((states[s.name], self.interface.sizes_of(s)) for s in walked)
        return [f"{name} = {name}.view(programs, {sizes})" for name, sizes in shapes]

    def given(self, printer: TorchPrinter, values: dict[Value, str]) -> list[str]:
        """Tell a printer what was made once; the line that takes it apart."""
        named = {
            v: printer.names.fresh(text if text.isidentifier() else printer.named[v]) for v, text in values.items()
        }
        printer.give(named)
        return [f"{', '.join(named.values())}, = rows"] if named else []

    def result(self, printer: TorchPrinter, name: str, at: int) -> str:
        """The statement that writes an output of a segment, [B, T, H, *], in the type of the value input."""
        value = dict(self.plan.forward.program.results)[name]
        code = printer.code[value]
        if value in printer.rows_of:
            return f"_put_rows(outs[{at}], {printer.rows_of[value]}, heads, tokens)"
        return f"outs[{at}].fill_({code.text})" if code.number else f"outs[{at}].copy_({code.text})"

    def opening(self, printer: TorchPrinter, body: Iterable[str], start: Iterable[str]) -> list[str]:
        """Sizes, casts, what `start` names and the step's layout."""
        interface = self.interface
        text = "\n".join((*(line for line in body if not line.lstrip().startswith("#")), *printer.layout.lines, *start))
        counts = {"chunks": "-(-length // tokens)", "programs": "batch * heads"}
        return [
            *interface.prologue(text, lead=3),
            *interface.casts(text),
            *(f"{name} = {count}" for name, count in counts.items() if mentions(text, name)),
            *start,
            *printer.layout.lines,
        ]

    def take(self, printer: TorchPrinter) -> None:
        """Note the support functions that a printer used, and what it called its values."""
        self.helpers |= printer.helpers | printer.layout.helpers
        named = {v: c.text for v, c in printer.code.items() if c.text.isidentifier() and not c.number}
        if printer.program.adjoint:
            self.backward_names |= named
        else:
            self.forward_names |= named

    def backward(self) -> str:
        plan, interface = self.plan, self.interface
        once, given = self.once("_backward_rows", plan.backward)
        names = Names(interface.taken)
        states = self.state_names(names, "_bar")
        saved = {b: names.fresh(b.name or "t") for _, b in plan.saved}
        bars = {r.name: names.fresh(f"{r.name}_bar") for r in plan.recurrence.results}
        arguments = self.arguments | {f"saved {saved_name(b)}": name for b, name in saved.items()}
        arguments |= {f"cotangent {n}": bar for n, bar in bars.items()} | _carries(states)
        printer = TorchPrinter(plan.backward, interface.sizes, arguments, names, plan.backward.of_segment)
        taken = self.given(printer, given)
        printer.run()
        self.take(printer)
        body = _guarded(commented(printer.statements, plan.recurrence), interface.tensor_names)
        cotangents, gradients = self.cotangents(bars, next(iter(states.values()))), self.gradients(printer)
        shaped = self.shaped(states)
        scanned = {c.before: states[c.name] for c in plan.forward.program.carries if c.scanned}
        starts = [(saved[b], scanned[f]) for f, b in plan.saved if f in scanned]
        shown = " and ".join(f"`{state}`" for state in states.values())
        lines = [
            f"def _backward({_typed((*interface.inputs.values(), *states.values()))}, rows: Sequence[Tensor],"
            " saved: Sequence[Tensor], cotangents: Sequence[Tensor | None], tokens: int, aggregation: str,"
            " dtype: torch.dtype, narrow: torch.dtype, need: frozenset[str], grads: list[Tensor | None]) -> None:",
            '    """Write the gradients named in `need` to `grads`, adding up those of params, '
            f'and that of the state before to {shown}."""',
            *_indented(self.opening(printer, (*body, *cotangents, *gradients), (*shaped, *taken))),
            *_indented(cotangents),
            *([f"    {', '.join(saved.values())}, = saved"] if saved else []),
            *(f"    {name} = _segment_start({name}, {like})" for name, like in starts),
            *_indented(body),
            *_indented(gradients),
        ]
        return f"{once}\n\n\n" + "\n".join(lines)

    def cotangents(self, bars: dict[str, str], state: str) -> list[str]:
        """Missing cotangents are zero."""
        lines = [f"{', '.join(bars.values())}, = cotangents"]
        for r in self.plan.recurrence.results:
            shape = self.interface.shape(r.shape, "batch, length, heads")
            bar = bars[r.name]
            lines.append(f"{bar} = {state}.new_zeros({shape}) if {bar} is None else {bar}.to(dtype)")
        return lines

    def gradients(self, printer: TorchPrinter) -> list[str]:
        """The statements that write the gradients of a segment, and the state's."""
        values = dict(self.plan.backward.program.results)
        lines = []
        for at, i in enumerate(self.model.inputs):
            out = f"grads[{at}]"
            lines.append(f"if {i.name!r} in need:")
            if i.name not in values:
                lines.append(f"    {out}.zero_()")
            elif values[i.name] in printer.rows_of:
                lines.append(f"    _put_rows({out}, {printer.rows_of[values[i.name]]}, heads, tokens)")
            else:
                code = printer.code[values[i.name]].text
                lines.append(f"    {out}.add_({code})" if i.is_param else f"    _put({out}, {code})")
        return lines


def _carries(states: dict[str, str]) -> dict[str, str]:
    """The names of states, or of their cotangents, as arguments of a program."""
    return {f"carry {own}": name for state, name in states.items() for own in (state, cotangent(state))}


def _guarded(statements: list[Statement], order: Iterable[str]) -> list[str]:
    """Statements, neighbours needed by the same gradients under one `if`."""
    lines: list[str] = []
    current: tuple[bool, frozenset[str] | None] = (False, None)
    for s in statements:
        indent = "    " * s.walk
        if (s.walk, s.needed_by) != current and s.needed_by is not None:
            names = ", ".join(repr(n) for n in order if n in s.needed_by)
            lines.append(f"{indent}if need & {{{names}}}:")
        current = s.walk, s.needed_by
        lines.append(indent + "    " * (s.needed_by is not None) + s.text)
    return lines


def _tuple(texts: Iterable[str]) -> str:
    return "(" + "".join(f"{text}, " for text in texts).strip() + ")"


def _typed(names: Iterable[str]) -> str:
    return ", ".join(f"{name}: Tensor" for name in names)


def _indented(lines: Iterable[str]) -> list[str]:
    return ["    " + line for line in lines]


def _table(thresholds: tuple[Threshold, ...]) -> str:
    return "(" + "".join(f"({t.limit!r}, {t.choice!r}), " for t in thresholds).strip() + ")"


def _imports(code: str) -> str:
    used = [n for n in ("cached_property", "lru_cache") if n in code] + ["reduce", "wraps"]
    lines = ["import inspect", "import math", "import operator", "import sys"]
    lines += ["from collections.abc import Sequence", "from contextlib import nullcontext"]
    lines += ["from contextvars import ContextVar"] if "ContextVar" in code else []
    lines += [f"from functools import {', '.join(used)}"] if used else []
    lines += ["from itertools import pairwise"]
    lines += ["from typing import Any, NamedTuple"]
    lines += ["", "import torch"]
    lines += ["import torch.nn.functional as F"] if "F." in code else []
    lines += ["from torch import Tensor"]
    mode = "is_in_torch_dispatch_mode"
    lines += [f"from torch.utils._python_dispatch import {mode}"] if mode in code else []
    lines += ["from torch.utils.weak import WeakTensorKeyDictionary"]
    return "\n".join(lines)
