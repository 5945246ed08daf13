"""Outputs of drawn specs: reads of the latest and the old state, bonus terms, epilogues, scalars and matrices.

In: a `Step`. Out: a line of it. Refuses nothing.
"""

from __future__ import annotations

from flowc.fuzz import spelling as w
from flowc.fuzz.edits import STATE, Step
from flowc.syntax.tree import Expression


def output(step: Step) -> None:
    """One output."""
    words = step.words
    form = words.pick(("vector", "vector", "vector", "vector", "scalar", "matrix"))
    words.note("output", form)
    match form:
        case "scalar":
            value = scalar(step)
        case "matrix":
            value = matrix(step)
        case _:
            value = epilogue(step, bonus(step, query(step)))
    words.note("outputs", "several" if step.outputs else "one")
    step.outputs += 1
    name = words.fresh("out")
    words.lines.append((f"{name}\0[t] = ", value))


def source(step: Step) -> Expression:
    """The state that is read."""
    old = step.assigned and step.words.chance(20)
    if old:
        step.words.note("output", "of the old state")
    return w.name(STATE, w.BEFORE) if old else step.now()


def query(step: Step) -> Expression:
    """S^T q."""
    words = step.words
    vector = words.plain()
    if words.chance(20):
        vector = w.times(words.scalar(), vector)
    if step.held and words.chance(20):
        return words.pick(step.held)
    return step.read(source(step), vector)


def bonus(step: Step, read: Expression) -> Expression:
    """A read and what is added to it without the state."""
    words = step.words
    if words.rows != words.key:
        return read
    match words.pick(("none", "none", "skip", "inner", "second", "undone", "inside")):
        case "skip":
            words.note("output", "bonus")
            shape = words.pick(("scalar", words.columns))
            return w.plus(read, w.times(words.leaf("D", shape, param=100), words.value_leaf()))
        case "inner":
            words.note("output", "bonus")
            weighed = w.times(words.leaf("u", words.key, param=100), words.key_leaf())
            inner = w.matmul(w.transposed(words.query_leaf()), weighed)
            return w.plus(read, w.times(inner, words.value_leaf()))
        case "second":
            words.note("output", "two reads")
            return w.minus(read, w.times(w.value("0.5"), step.read(source(step), words.plain())))
        case "inside":
            words.note("output", "bonus")
            added = w.matmul(w.call("diag", words.leaf("u", words.key, param=100)), words.key_leaf())
            inner = w.plus(source(step), w.matmul(added, w.transposed(words.value_leaf())))
            return w.matmul(w.transposed(inner), words.plain())
        case _:
            return read


def epilogue(step: Step, read: Expression) -> Expression:
    """What is done to a read after it was made."""
    words = step.words
    form = words.pick(("none", "none", "none", "gate", "norm", "function", "quotient", "softmax", "product", "odd"))
    if form == "none":
        return read
    words.note("epilogue", form)
    match form:
        case "gate":
            return w.times(w.call(words.pick(("silu", "sigmoid")), words.leaf("z", words.columns)), read)
        case "norm":
            return w.call(words.pick(("rmsnorm", "l2norm")), read, eps=w.value(words.pick(("0.01", "0.1"))))
        case "function":
            return w.call(words.pick(("tanh", "silu", "gelu")), read)
        case "odd":
            return odd(step, read)
        case "quotient":
            size = w.call("abs", w.call("sum", step.read(step.now(), words.plain())))
            return w.over(read, w.call("max", size, w.value(1)))
        case "softmax":
            return w.plus(w.call("softmax", read), words.value_leaf())
        case _:
            return w.times(read, step.read(step.now(), words.plain()))


def odd(step: Step, read: Expression) -> Expression:
    """An epilogue that few papers have."""
    words = step.words
    match words.pick(("where", "max", "unread", "through", "norm", "squares")):
        case "where":
            return w.call("where", w.below(read, words.value_leaf()), w.value("0.5"), read)
        case "max":
            return w.call(words.pick(("max", "min")), read, w.times(w.value("0.5"), words.value_leaf()))
        case "unread":
            return w.times(words.value_leaf(), words.leaf("x", "scalar"))
        case "through":
            return w.matmul(words.leaf("P", f"{words.columns} x {words.columns}", param=70), read)
        case "norm":
            return w.over(read, w.plus(w.call("norm", step.read(step.now(), words.plain())), w.value(1)))
        case _:
            return w.times(w.matmul(w.transposed(read), words.value_leaf()), words.value_leaf())


def scalar(step: Step) -> Expression:
    """A number that depends on the state."""
    words = step.words
    match words.pick(("both sides", "sum", "norm")):
        case "sum":
            return w.plus(w.call("sum", step.read(source(step), words.plain())), words.leaf("x", "scalar"))
        case "norm":
            return w.call("norm", w.plus(step.read(source(step), words.plain()), w.value("0.5")))
        case _:
            return w.matmul(w.transposed(words.plain()), source(step), words.value_leaf())


def matrix(step: Step) -> Expression:
    """Several reads at once."""
    words = step.words
    words.sizes.setdefault("M", None)
    queries = words.leaf("Q", f"{words.rows} x M", listed=False)
    if words.chance(50):
        return w.matmul(w.transposed(source(step)), queries)
    return w.matmul(w.transposed(queries), source(step))
