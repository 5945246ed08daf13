"""Whole specs, drawn as trees and printed as text.

In: hypothesis. Out: `Drawn`, a legal spec mostly of class G or D with what its inputs are for and what was drawn.
Refuses nothing; what the compiler refuses is its business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from flowc.fuzz.cases import Case, Roles
from flowc.fuzz.edits import STATE, Step
from flowc.fuzz.spelling import Spelling
from flowc.fuzz.states import second_state
from flowc.fuzz.vocabulary import Vocabulary
from flowc.options import choices

_CLASHING = """
B T H C N tl torch triton F math chunk chunks out outs grad grads row rows key value program block head_ do dS
dq dk dv dg o lambda class None print self ctx Tensor final start end result results raw x of in inf input param
let repeat flow scalar int float len λ é _x __x x_ x1 g_C gates dtype device mask offset n m i j BK BV BLOCK
num_warps num_stages grid kernel args kwargs dq_ type match pi E exp sum I ones diag norm how lead time timed
sizes steps columns Outputs forward backward save_for_backward step reference outputs states op cotangents own
reduce wraps inspect operator sys Any range zip tuple list dict str object batch length tokens programs keep
need saved c tensors P U W Z Y L Q A S K V R y l r u w g h q k v a b cg gr gl gq acc carry init last first eye
zeros arange static constexpr jit load store dot cumsum annotations Iterator field replace True False yield
global _Kernels _checked _walk index t_ state_ heads_ t1 q1 s0
"""
CLASHES = tuple(dict.fromkeys(_CLASHING.split()))
"""Names that emitted modules, Python, Triton or the language use."""


@dataclass(frozen=True)
class Drawn:
    """A spec's text, what its inputs are for, what it has, and the most rows that a token of it writes."""

    text: str
    roles: Roles
    notes: frozenset[tuple[str, str]]
    ranks: int


@st.composite
def specs(draw: Any) -> Drawn:
    """A spec."""
    words = Vocabulary(draw)
    words.size("K", words.pick((None, None, None, 6)))
    square = words.chance(8)
    if square:
        words.columns = "K"
    else:
        words.size("V", words.pick((None, None, None, 5)))
    words.rows = words.pick(("K", "K", "K", "K", "K", "2 * K", "1 + K"))
    rank = words.pick(("one", "sum", "repeat", "sum and repeat", "two repeats", "two sums"))
    counts = [words.size(stem, words.pick((None, None, 2, 1, 3))) for stem in ("R", "J")[: ranks_of(rank)]]
    sums = {"sum": (0,), "sum and repeat": (0,), "two sums": (0, 1)}.get(rank, ())
    repeats = {"repeat": (0,), "sum and repeat": (1,), "two repeats": (0, 1)}.get(rank, ())
    words.note("rank", rank)
    for count in counts:
        words.note("size of a rank", "symbolic" if words.sizes[count] is None else "fixed")
    if words.chance(25):
        second_state(words)
    step = Step(words, not words.chance(35), tuple(counts[i] for i in sums), tuple(counts[i] for i in repeats))
    step.run()
    if words.chance(5):
        words.note("input", "unused")
        words.leaf("spare", words.pick(("scalar", words.key, words.columns)), param=50)
    words.note("rows", words.rows if not square else f"{words.rows}, square")
    return finished(words, len(counts))


def ranks_of(rank: str) -> int:
    """How many sizes a kind of rank has."""
    return {"one": 0, "sum": 1, "repeat": 1}.get(rank, 2)


def finished(words: Vocabulary, ranks: int) -> Drawn:
    """The text, with names and brackets drawn."""
    own = [*words.sizes, *(d.name for d in words.declared), STATE, "index"]
    if not words.states:
        words.note("second state", "none")
    own += [line[0].split()[1] for line in words.lines if isinstance(line, tuple) and line[0].split()[0] == "let"]
    own += [line[0].split("\0")[0] for line in words.lines if isinstance(line, tuple) and "\0" in line[0]]
    names = dict(zip(own, own, strict=True)) | {"spec": "drawn"}
    axes = {axis for d in words.declared for axis in (*d.shape.split(" x "), d.count)}
    for size, value in words.sizes.items():
        if size not in axes and value is None:
            words.sizes[size] = 4  # no input tells it
    hostile = words.chance(50)
    if hostile:
        words.note("names", "clashing")
        taken = {*names.values(), "I"} if ("spelling", "I") in words.noted else set(names.values())
        free = [c for c in CLASHES if c not in taken]
        for name in names:
            if words.chance(60):
                names[name] = free.pop(words.pick(range(len(free))))
                if names[name] == "scalar" and name in words.sizes:
                    names[name] = name  # a shape
    odd = words.chance(40)
    if odd:
        words.note("spelling", "brackets")
    spelling = Spelling(names, lambda: odd and words.chance(20))
    text = "\n".join(lines(words, spelling)) + "\n"
    roles = Roles(
        tuple(sorted(names[n] for n in words.units)),
        tuple(sorted(names[n] for n in words.strengths)),
        tuple(sorted(names[d.name] for d in words.declared if d.name[:-1] in ("q", "k") and not d.is_param)),
        max(words.log_gates, 1),
    )
    gates = {kind for what, kind in words.noted if what == "gate"}
    if len(gates) != 1:
        words.noted -= {("gate", g) for g in gates}
        words.note("gate", "both" if gates else "none")
    return Drawn(text, roles, frozenset(words.noted), ranks)


def lines(words: Vocabulary, spelling: Spelling) -> list[str]:
    """The lines of a spec."""
    names = spelling.names

    def renamed(size: str) -> str:
        return " ".join(names.get(part, part) for part in size.split())

    header = (names[n] if v is None else f"{names[n]} = {v}" for n, v in words.sizes.items())
    result = [f"flow {names['spec']}({', '.join(header)})"]
    declared = list(words.declared)
    if words.chance(30):
        declared = [declared.pop(words.pick(range(len(declared)))) for _ in range(len(declared))]
    for d in declared:
        count = "" if d.count is None else f"{names[d.count]} of "
        keyword = "param" if d.is_param else "input"
        result.append(f"{keyword} {names[d.name]} : {count}{renamed(d.shape)}{d.range}")
    start = words.pick(("", "", "", " = 0.5"))
    result.append(f"state {names[STATE]} : {renamed(words.rows)} x {names[words.columns]}{start}")
    result += [f"state {names[name]} : {renamed(shape)}{begin}" for name, shape, begin in words.states]
    for line in words.lines:
        if isinstance(line, str):
            _, index, _, count = line.removesuffix(":").split()
            result.append(f"repeat {names[index]} in {names[count]}:")
            continue
        head, value = line
        indent = head[: len(head) - len(head.lstrip())]
        first, *rest = head.replace("\0", " ").split()
        if first == "let":
            head = f"let {names[rest[0]]} = "
        elif "\0" in line[0]:
            head = f"{names[first]}[t] = "
        else:
            head = f"{names[STATE]}[t] = "
        result.append(f"{indent}{head}{spelling.text(value)}")
    return result


@st.composite
def cases(draw: Any, drawn: Drawn, small: bool) -> Case:
    """What to run a spec on; `small` where programs run one after another."""
    heads = draw(st.integers(1, 2))
    group = draw(st.sampled_from((1, 1, 2))) if drawn.roles.shared else 1
    length = draw(st.sampled_from((5, 1, 9, 13, 23, 5, 9, 40, 0) if not small else (5, 1, 5, 9, 18)))
    chunk = draw(st.sampled_from((7, 3, 16, 1) if small else (7, 3, 16, None, 1, 40)))
    limit = draw(st.sampled_from((6, 6, 6, 20) if small else (6, 12, 40)))
    return Case(
        batch=1 if small else draw(st.sampled_from((1, 2))),
        length=length,
        heads=heads * group,
        sizes=tuple(draw(st.integers(1, limit)) for _ in range(2)) + tuple(draw(st.integers(1, 3)) for _ in range(3)),
        chunk=chunk,
        gate=draw(st.sampled_from(("mild", "zero", "strong", "mixed", "never"))),
        keys=draw(st.sampled_from(("random", "repeated", "near", "alternating"))),
        beta=draw(st.sampled_from((None, 0, 1))),
        start=draw(st.booleans()),
        aggregation=draw(st.sampled_from(choices()["aggregation"])),
        layout=draw(st.sampled_from(("contiguous", "strided", "expanded"))),
        group=group,
        wide=draw(st.booleans()),
        seed=draw(st.integers(0, 2**20)),
        roles=drawn.roles,
    )
