"""A second state of a drawn spec, and the scalars that are made of it.

In: a `Vocabulary`. Out: its declaration, its update, and expressions that other updates and outputs may use. Refuses
nothing.
"""

from __future__ import annotations

from flowc.fuzz import spelling as w
from flowc.fuzz.vocabulary import Vocabulary
from flowc.syntax.tree import Expression


def second_state(words: Vocabulary) -> None:
    """A vector that is contracted, or a scalar that is scanned; what is made of it is at most 1."""
    kind = words.pick(("vector", "linear scan", "maximum", "logsumexp"))
    words.note("second state", kind)
    name = words.fresh("state")
    now, before = w.name(name, w.NOW), w.name(name, w.BEFORE)
    x, y = words.leaf("x", "scalar"), words.leaf("y", "scalar")
    match kind:
        case "vector":
            words.states.append((name, words.key, ""))
            gate = words.pick((w.call("sigmoid", x), w.value("0.9"), None))
            value = w.plus(w.times(gate, before), words.key_leaf())
            read = w.matmul(w.transposed(words.pick((now, before))), words.query_leaf())
        case "linear scan":
            words.states.append((name, "scalar", ""))
            value = w.plus(w.times(w.call("sigmoid", x), before), y)
            read = words.pick((now, before))
        case "maximum":
            words.states.append((name, "scalar", words.pick((" = -inf", ""))))
            value = w.call("max", w.plus(w.call("logsigmoid", x), before), y)
            read = now
        case _:
            words.states.append((name, "scalar", words.pick((" = -inf", ""))))
            decayed = w.minus(before, w.call("softplus", x)) if words.chance(50) else before
            value = w.call("log", w.plus(w.call("exp", decayed), w.call("exp", y)))
            read = now
    words.lines.append((f"{name}\0[t] = ", value))
    words.beside = _made(read, y if kind in ("maximum", "logsumexp") else None, now)


def _made(read: Expression, written: Expression | None, now: Expression) -> list[Expression]:
    """Scalars of at most 1."""
    made = [w.call("tanh", read), w.over(w.value(1), w.plus(w.value(1), w.call("abs", read)))]
    return made if written is None else [*made, w.call("exp", w.minus(written, now))]
