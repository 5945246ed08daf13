"""Gates of drawn specs: how they are made positive, and on what they act.

In: a `Vocabulary`. Out: expressions, and the state with a gate on it. Refuses nothing.
"""

from __future__ import annotations

from fractions import Fraction

from flowc.fuzz import spelling as w
from flowc.fuzz.vocabulary import Vocabulary
from flowc.syntax.tree import Expression

FORMS = ("exp", "sigmoid", "plain", "bounded", "power", "product", "constant", "head", "complement", "softplus")


def gate(words: Vocabulary, vector: bool) -> Expression:
    """A gate over the state's rows, or a scalar one."""
    words.note("gate", "key side" if vector else "scalar")
    shape = words.key if vector else "scalar"
    if vector and words.rows != words.key:
        return words.let(stacked(words), 20)
    return words.let(positive(words, shape, FORMS), 20)


def stacked(words: Vocabulary) -> Expression:
    """A gate over rows that are made of two vectors."""
    words.log_gates += 3
    if words.chance(60):
        words.note("gate form", "exp")
        return w.call("exp", words.stacked(lambda: words.leaf("g", words.key, " <= 0"), 0))
    words.note("gate form", "sigmoid")
    return w.call("sigmoid", words.stacked(lambda: words.leaf("f", words.key)))


def positive(words: Vocabulary, shape: str, forms: tuple[str, ...]) -> Expression:
    """Something provably positive, mostly at most 1."""
    form = words.pick(forms)
    if form in ("constant", "head") and shape != "scalar":
        form = "complement"
    words.note("gate form", form)
    words.log_gates += 3  # a plain gate of 0.1 has a logarithm of 2.3, a softplus seldom more than 3
    match form:
        case "exp":
            log = words.leaf("g", shape, " <= 0")
            return w.call("exp", log if words.chance(80) else w.over(log, w.value(words.pick((2, 16)))))
        case "sigmoid":
            return w.call("sigmoid", words.leaf("f", shape, param=15))
        case "plain":
            return words.leaf("a", shape, " in [0.1, 1]", param=10)
        case "bounded":
            return bounded(words, shape)
        case "power":
            return w.binary("**", w.call("sigmoid", words.leaf("f", shape)), root(words))
        case "product":
            words.log_gates += 3
            return w.times(*(positive(words, shape, FORMS[:4]) for _ in range(2)))
        case "constant":
            return w.value(words.fraction())
        case "head":
            words.note("prelude", "head")
            count = w.plus(w.name("head"), w.value(1))
            if words.chance(50):
                return w.minus(w.value(1), w.binary("**", w.value(2), w.minus(w.negated(w.value(5)), w.name("head"))))
            return w.call("exp", w.negated(w.over(count, w.times(w.value(2), w.name("heads")))))
        case "complement":
            return w.minus(w.value(1), w.call("sigmoid", words.leaf("f", shape)))
        case _:
            return decay(words, shape)


def root(words: Vocabulary) -> Expression:
    """A power that brings a gate nearer to 1."""
    return w.over(w.value(1), w.value(4)) if words.chance(50) else w.value(Fraction(1, 16))


def bounded(words: Vocabulary, shape: str) -> Expression:
    """A gate that ranges keep above 0."""
    match words.pick(("clamp", "lower", "where", "norm")):
        case "lower":
            low = words.leaf("lower", shape, " in [0.1, 0.9]", param=100)
            rest = w.call("sigmoid", words.leaf("f", shape))
            return w.plus(low, w.times(w.minus(w.value(1), low), rest))
        case "where":
            return w.call("where", w.below(words.leaf("f", shape), w.value(0)), w.value("0.5"), w.value("0.75"))
        case "norm" if shape == "scalar":
            words.note("prelude", "norm")
            size = w.call("norm", words.query_leaf())
            return w.over(w.plus(size, w.value("0.1")), w.plus(size, w.value("0.5")))
        case _:
            return w.call("clamp", words.leaf("f", shape), w.value("0.1"), w.value("0.9"))


def decay(words: Vocabulary, shape: str) -> Expression:
    """Exp of minus something positive."""
    words.note("prelude", "softplus")
    match words.pick(("softplus", "rate", "twice", "logsigmoid", "min")):
        case "rate":
            rate = w.call("exp", words.leaf("rate", "scalar", param=100))
            step = w.call("softplus", w.plus(words.leaf("f", shape), words.leaf("bias", shape, param=100)))
            return w.call("exp", w.times(w.negated(rate), step))
        case "twice":
            return w.call("exp", w.negated(w.call("exp", words.leaf("f", shape))))
        case "logsigmoid":
            return w.call("exp", w.over(w.call("logsigmoid", words.leaf("f", shape)), w.value(16)))
        case "min":
            return w.call("exp", w.call("min", words.leaf("f", shape), w.value(0)))
        case _:
            return w.call("exp", w.negated(w.call("softplus", words.leaf("f", shape))))


def gated(words: Vocabulary, factor: Expression, vector: bool, state: Expression) -> Expression:
    """The state with a gate on it."""
    if vector:
        match words.pick(("diag", "diag", "scaled diag", "outer", "diag of product")):
            case "scaled diag":
                words.note("gate", "scalar")
                return w.matmul(w.times(gate_number(words), w.call("diag", factor)), state)
            case "outer":
                words.note("spelling", "outer")
                return w.times(w.call("outer", factor, w.call("ones", w.name(words.columns))), state)
            case "diag of product":
                return w.matmul(w.call("diag", w.times(gate_number(words), factor)), state)
            case _:
                return w.matmul(w.call("diag", factor), state)
    match words.pick(("left", "left", "right", "identity", "divided")):
        case "right":
            return w.times(state, factor)
        case "identity":
            words.note("spelling", "I")
            return w.matmul(w.times(factor, w.name("I")), state)
        case "divided":
            return w.times(w.over(factor, w.value(2)), state)
        case _:
            return w.times(factor, state)


def gate_number(words: Vocabulary) -> Expression:
    """A scalar gate beside a vector's."""
    return positive(words, "scalar", ("constant", "exp", "sigmoid"))
