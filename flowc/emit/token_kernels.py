"""The Triton section of a module whose states are taken token by token: two kernels, and what launches them.

In: a `TokenPlan`, or a `StepPlan` for the kernel of one token, and the op's `Interface`. Out: `TokensText`. Refuses
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment

from flowc.emit.interface import Interface
from flowc.emit.names import Names
from flowc.emit.sizes import size_code
from flowc.emit.token_passes import BackwardKernel, Common, ForwardKernel, Store
from flowc.emit.token_printer import TokenPrinter
from flowc.emit.token_tiles import ROWS, Lane
from flowc.schedule.stepped import SCANNED_TOKENS, StepPlan, TokenPlan

MOST_ENTRIES = 2**16  # of a tile: registers of a program that has no other in them hold as many
MOST_HELD = 2**14  # of all states, in a step: a quarter of that, so that what is made of them has room too
RESERVED = frozenset(
    ("block", "blocks", "bounds_ptr", "program", "sequence", "batch", "head", "heads", "length", "first", "count",
     "slot", "slots_ptr", "live",
     "chunk", "chunks", "begin", "left", "step", "back", "own", "t", "row", "token", "tl", "BLOCK", "TOKENS")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LauncherView:
    """What the launcher's template gets: `sizes` and `states` are expressions and axes, rows say how results lie.

    `columns`, shares, `warps` and `least` are those of the plan. `apart`: of a divided step some state is made whole by
    every program.
    """

    value: str
    most_keys: int
    held: str
    holds: str
    unpacked: str
    bindings: tuple[str, ...]
    sizes: tuple[str, ...]
    states: tuple[str, ...]
    tiles: tuple[str, ...]
    split: int | None
    apart: bool
    rows: int
    columns: int
    share: int
    backward_share: int
    warps: int
    least: int
    outputs: tuple[str, ...]
    begins: tuple[str, ...]
    grads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokensText:
    """The kernels, their launcher, the device functions that they call, and sizes that do not change a compilation."""

    kernels: tuple[str, ...]
    launch: str
    helpers: tuple[str, ...]
    runtime: tuple[str, ...]


class TokenKernels:
    """Prints both kernels and what launches them, or that of a step."""

    def __init__(self, plan: TokenPlan | StepPlan, interface: Interface, environment: Environment) -> None:
        """Names and sizes are those of both kernels."""
        self.plan, self.interface, self.environment = plan, interface, environment
        self.common = Common(plan, interface, Names(RESERVED))
        self.sizes = self.common.sizes

    def text(self) -> TokensText:
        """Everything."""
        forward, name = ForwardKernel(self.common), "token_calls.py.j2"
        views = [forward.view()]
        printers, begins, grads = list(forward.printers), list[Store](), list[Store]()
        if isinstance(self.plan, TokenPlan):
            backward, name = BackwardKernel(self.common, self.plan), "tokens.py.j2"
            views.append(backward.view())
            printers, begins, grads = [*printers, *backward.printers], backward.begins, backward.stores
        template = self.environment.get_template("token_kernel.py.j2")
        kernels = tuple(template.render(kernel=v, sizes=range(len(self.sizes))) for v in views)
        launch = self.environment.get_template(name).render(launch=self.launcher(forward, printers, begins, grads))
        helpers = tuple(dict.fromkeys(n for p in printers for n in p.used))
        return TokensText(kernels, launch.rstrip(), helpers, ("length", "heads", "blocks", *self.common.runtime))

    def launcher(
        self, forward: ForwardKernel, printers: list[TokenPrinter], begins: list[Store], grads: list[Store]
    ) -> LauncherView:
        """What launches them."""
        face = self.interface
        names = face.sizes
        sizes = tuple(size_code(s, names).text for s in self.sizes)
        split = next((self.sizes.index(a.size) for a in forward.split), None)
        return LauncherView(
            value=str(list(face.inputs).index(face.recurrence.value_input)),
            most_keys=MOST_ENTRIES,
            held="a token's largest tile",
            holds="entries",
            unpacked=", ".join((*face.inputs.values(), "")).strip(),
            bindings=tuple(face.bindings(" ".join(sizes), lead=3)),
            sizes=sizes,
            states=tuple(repr(self.axes_of(lanes)) for lanes in forward.held),
            tiles=tuple(repr(axes) for axes in sorted(self.matrices(printers))),
            split=split,
            apart=self.plan.blocks and not all(any(a.split for a in lanes) for lanes in forward.held),
            rows=SCANNED_TOKENS if self.plan.rows else 0,
            columns=self.plan.columns,
            share=self.plan.share,
            backward_share=self.plan.backward_share if isinstance(self.plan, TokenPlan) else self.plan.share,
            warps=self.plan.warps,
            least=self.plan.least,
            outputs=tuple(s.row for s in forward.stores),
            begins=tuple(s.row for s in begins),
            grads=tuple(s.row for s in grads),
        )  # fmt: skip

    def axes_of(self, lanes: tuple[Lane, ...]) -> tuple[int, ...]:
        """Which sizes a tile has."""
        return tuple(-2 if a.name == ROWS else -1 if a.split else self.sizes.index(a.size) for a in lanes)

    def matrices(self, printers: list[TokenPrinter]) -> set[tuple[int, ...]]:
        """The tiles of several axes."""
        found = {p.lanes(v) for p in printers for v in p.wanted if v not in p.leaves}
        return {tuple(sorted(self.axes_of(lanes))) for lanes in found if len(lanes) > 1}
