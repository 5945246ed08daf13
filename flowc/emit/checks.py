"""The checks of an op's arguments, as code of the emitted module.

In: an `Interface`. Out: the functions `_checked` and `_agreed`, and the statements that hold inputs to their declared
ranges. They call the support functions of templates/torch/checks.py. Refuses nothing.
"""

from __future__ import annotations

from flowc.emit.interface import Interface
from flowc.semantics.model import Input, Interval, Kind, State
from flowc.semantics.size import Size


def checked(interface: Interface) -> str:
    """The functions that check every argument: one by all there is, one by what was seen before."""
    return "\n\n\n".join((_agreed(interface), _checked(interface)))


def _checked(interface: Interface) -> str:
    passed = ", ".join(interface.inputs.values())
    return "\n".join((
        f"def _checked({interface.typed}, initial_state: Any, cu_seqlens: Tensor | None, timed: bool,"
        " slots: Any = None) -> tuple[list[Tensor], torch.dtype]:",
        '    """Check every argument; the states to start from, with `slots` pools, and the type to compute in."""',
        f"    traits = _traits(({passed},), timed)",
        "    found = None if traits is None else _AGREED.get(traits)",
        "    if found is None:",
        f"        found = _agreed({passed}, timed)",
        "        _note(traits, found)",
        "    dtype, heads, states = found",
        f"    lead = _states(cu_seqlens, {interface.value}), heads",
        "    sizes = tuple([lead + own for own in states])",
        "    if slots is not None:",
        f"        return _pools(initial_state, slots, sizes, {interface.value}), dtype",
        f"    return _start(initial_state, timed, cu_seqlens, sizes, {interface.value}, dtype), dtype",
    ))  # fmt: skip


def _agreed(interface: Interface) -> str:
    value, *others = _value_first(interface)
    v = interface.value
    bound = _fixed(interface)
    lines = [
        f"def _agreed({interface.typed}, timed: bool) -> tuple[torch.dtype, int, tuple[tuple[int, ...], ...]]:",
        '    """Check shapes, types and devices: the type to compute in, the value heads, each state\'s own sizes."""',
        "    lead = 3 if timed else 2",
        *_check(interface, value, "(None,) * lead", "None", bound),
        f"    batch, heads, time = {v}.shape[0], {v}.shape[lead - 1], {v}.shape[1 : lead - 1]",
    ]
    for i in others:
        shared = not i.is_param and i.shape.kind is not Kind.SCALAR
        found = f"_shared_heads({i.name!r}, {interface.inputs[i.name]}, lead, {len(i.shape.sizes)}, heads)"
        heads = found if shared else "heads"
        own = "(heads,)" if i.is_param else f"(batch, *time, {heads})"
        lines += _check(interface, i, own, v, bound)
    lines += _late_checks(interface)
    opened = [d.name for d in interface.model.dimensions if d.value is None]
    sizes = ", ".join(f"{n}={interface.size(Size.of(n))}" for n in opened)
    lines += [
        *([f"    _sized({sizes})"] if opened else []),
        f"    dtype = torch.float64 if {interface.wide} else torch.float32",
        f"    return dtype, heads, ({', '.join(_sizes(interface, s) for s in interface.states)},)",
    ]
    return "\n".join(lines)


def _sizes(interface: Interface, state: State) -> str:
    """The shape of a state beyond sequences and heads."""
    return f"({''.join(f'{interface.size(s)}, ' for s in state.shape.sizes)})"


def state_tables(interface: Interface) -> str:
    """The states' names, shapes and what fills them where they are not given."""
    names = [s.name for s in interface.states]
    shapes = [interface.state_text(s, ", H") for s in interface.states]
    fills = ", ".join(interface.start(s) for s in interface.states)
    return f"_STATE_NAMES = {tuple(names)!r}\n_STATE_SHAPES = {tuple(shapes)!r}\n_FILLS = ({fills},)"


def _check(interface: Interface, i: Input, lead: str, like: str, bound: dict[str, str]) -> list[str]:
    """The check of one input, and the sizes that it binds, which become `bound`, by what they are known from."""
    name = interface.inputs[i.name]
    sizes, binds = [], []
    from_others = [n for s in i.shape.sizes if s.names <= bound.keys() for n in sorted(s.names)]
    offset = "1" if i.is_param else "lead"
    fresh: set[str] = set()
    for axis, size in enumerate(i.shape.sizes):
        if size.names <= bound.keys():
            sizes.append(interface.size(size))
            continue
        sizes.append("None")
        if size.symbol is not None and size.symbol not in fresh:
            at = offset if axis == 0 else f"{offset} + {axis}"
            binds.append(f"    {interface.sizes[size.symbol]} = {name}.shape[{at}]")
            fresh.add(size.symbol)
    bound |= dict.fromkeys(sorted(fresh), f"`{i.name}`")
    whole = f"{lead} + ({', '.join(sizes)},)" if sizes else lead
    timed, untimed = interface.shape_text(i, True), interface.shape_text(i, False)
    text = repr(timed) if timed == untimed else f"{timed!r} if timed else {untimed!r}"
    known = " and ".join(f"{n} as of {bound[n]}" for n in dict.fromkeys(from_others))
    return [f"    _tensor({i.name!r}, {name}, {text}, {whole}, {like}{f', {known!r}' if known else ''})", *binds]


def _late_checks(interface: Interface) -> list[str]:
    """Checks of sizes that are no single dimension, and of a dimension twice in one input, once all are bound."""
    lines = []
    seen = set(_fixed(interface))
    for i in _value_first(interface):
        before = set(seen)
        late = [
            s
            for n, s in enumerate(i.shape.sizes)
            if not s.names <= before and (s.symbol is None or s in i.shape.sizes[:n])
        ]
        seen |= {s.symbol for s in i.shape.sizes if s.symbol is not None}
        if late:
            name, shape = interface.inputs[i.name], interface.shape_text(i, True)
            sizes = ", ".join(interface.size(s) for s in i.shape.sizes)
            lead = f"tuple({name}.shape[: {'1' if i.is_param else 'lead'}])"
            lines.append(f"    _tensor({i.name!r}, {name}, {shape!r}, {lead} + ({sizes},), None)")
    return lines


def _value_first(interface: Interface) -> list[Input]:
    """The inputs in the order of their checks: that of the values first, since the others' sizes follow it."""
    return sorted(interface.model.inputs, key=lambda i: i.name != interface.recurrence.value_input)


def _fixed(interface: Interface) -> dict[str, str]:
    """The dimensions whose sizes the spec gives, and that it does."""
    return {d.name: "the spec" for d in interface.model.dimensions if d.value is not None}


def range_checks(interface: Interface) -> list[str]:
    """The statements that hold inputs to the ranges that the spec declares, where the caller asks for it."""
    lines = []
    for i in interface.model.inputs:
        if i.range is not None:
            name = interface.inputs[i.name]
            test = _range_test(name, i.range)
            lines.append(f"        _in_range({i.name!r}, {name}, {test}, {range_text(i.range)!r})")
    return ["    if check:", *lines] if lines else []


def _range_test(name: str, bounds: Interval) -> str:
    tests = []
    if bounds.low is not None:
        tests.append(f"({name} {'>' if bounds.low_open else '>='} {float(bounds.low)!r})")
    if bounds.high is not None:
        tests.append(f"({name} {'<' if bounds.high_open else '<='} {float(bounds.high)!r})")
    return " & ".join(tests) or "True"


def range_text(bounds: Interval) -> str:
    """A range as the spec writes it."""
    low = "(-inf" if bounds.low is None else f"{'(' if bounds.low_open else '['}{float(bounds.low):g}"
    high = "inf)" if bounds.high is None else f"{float(bounds.high):g}{')' if bounds.high_open else ']'}"
    return f"in {low}, {high}"
