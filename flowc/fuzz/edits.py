"""Steps of drawn specs: gates, writes and reads in every place and spelling, repeats, and outputs between them.

In: a `Vocabulary`. Out: its lines. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from flowc.fuzz import spelling as w
from flowc.fuzz.gates import gate, gated
from flowc.fuzz.vocabulary import Vocabulary
from flowc.syntax.tree import Expression

STATE = "S"

Terms = list[tuple[Literal["+", "-"], Expression]]


@dataclass
class Step:
    """A step that is being written; `reads` is False for class G, `ranks` what is simultaneous and what repeats."""

    words: Vocabulary
    reads: bool
    sums: tuple[str, ...]
    repeats: tuple[str, ...]
    assigned: bool = False
    held: list[Expression] = field(default_factory=list)
    outputs: int = 0

    # -- the state ----------------------------------------------------------------------------------------------------

    def now(self) -> Expression:
        """The latest state."""
        return w.name(STATE, w.NOW if self.assigned else w.BEFORE)

    def seen(self, of_100: int = 25) -> Expression:
        """A state to read: the latest, or the old one."""
        if self.assigned and self.words.chance(of_100):
            self.words.note("read", "old state")
            return w.name(STATE, w.BEFORE)
        self.words.note("read", "latest state")
        return self.now()

    def assign(self, x: Expression) -> None:
        """A new value of the state."""
        self.words.lines.append((f"{self.words.indent}S[t] = ", x))
        self.assigned = True

    # -- updates ------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """One assignment: perhaps a gate, and some terms."""
        words, state = self.words, self.now()
        kind = words.pick(("write", "gate", "gate and write", "write and gate", "write"))
        terms = [] if kind == "gate" else self.terms()
        if kind == "write":
            self.assign(self.total(state, terms))
            return
        vector = words.chance(45)
        factor = gate(words, vector)
        if kind == "write and gate":
            words.note("order", "gate after write")
            self.assign(gated(words, factor, vector, self.total(state, terms)))
        else:
            if terms:
                words.note("order", "gate and write at once")
            kept = gated(words, factor, vector, state)
            if self.reads and terms and words.chance(25):
                terms += self.read_under(factor, vector, state)
            self.assign(self.total(kept, terms))

    def read_under(self, factor: Expression, vector: bool, state: Expression) -> Terms:
        """A delta whose read has the step's gate written inside."""
        self.words.note("read", "under a gate")
        key = self.words.unit()
        inside = w.matmul(w.call("diag", factor), state) if vector else w.times(factor, state)
        read = w.transposed(w.matmul(w.transposed(key), inside))
        return [("-", w.times(self.words.strength(), self.outer(key, read)))]

    def terms(self) -> Terms:
        """What is added to the state."""
        words = self.words
        found: Terms = []
        for _ in range(words.pick((1, 1, 1, 2, 3))):
            kinds = ["write", "ranks"] if self.sums and words.repeated is None else ["write"]
            if self.reads:
                kinds = ["delta", "delta", "general", "factored", *kinds]
            match words.pick(kinds):
                case "delta":
                    found += self.delta()
                case "factored":
                    found += self.delta_apart()
                case "general":
                    found += self.general()
                case "ranks":
                    found += self.ranks(words.pick(self.sums))
                case _:
                    found.append(("+", self.write()))
        words.note("terms", str(min(len(found), 4)))
        return found

    def total(self, state: Expression, terms: Terms) -> Expression:
        """The state and terms, in some order and association."""
        words = self.words
        order: Terms = [("+", state)]
        for each in terms:
            order.insert(words.pick(range(len(order), -1, -1)) if words.chance(40) else len(order), each)
        if order[0][1] is not state:
            words.note("spelling", "reordered sum")
        result: Expression | None = None
        rest: Expression | None = None
        for at, (sign, term) in enumerate(order):
            if result is None:
                result = term if sign == "+" else w.negated(term)
            elif at == len(order) - 1 and rest is not None:
                rest = w.plus(rest, term) if sign == "+" else w.minus(rest, term)
                return w.plus(result, rest)
            elif rest is None and sign == "+" and at < len(order) - 1 and words.chance(20):
                rest = term
                words.note("spelling", "sum to the right")
            elif rest is not None:
                rest = w.plus(rest, term) if sign == "+" else w.minus(rest, term)
            else:
                result = w.plus(result, term) if sign == "+" else w.minus(result, term)
        assert result is not None
        return result

    def write(self) -> Expression:
        """A write that reads nothing."""
        self.words.note("write", "vectors")
        return self.outer(self.words.plain(), self.words.values(), self.words.scalar())

    def outer(self, left: Expression, right: Expression, scale: Expression | None = None) -> Expression:
        """Left right^T, spelled in some way."""
        words = self.words
        match words.pick(("left", "left", "right", "whole", "function", "transposed", "behind")):
            case "right":
                return w.matmul(left, w.transposed(w.times(scale, right)))
            case "whole" if scale is not None:
                return w.times(scale, w.matmul(left, w.transposed(right)))
            case "behind" if scale is not None:
                return w.times(w.matmul(left, w.transposed(right)), scale)
            case "function":
                words.note("spelling", "outer")
                return w.times(scale, w.call("outer", left, right))
            case "transposed":
                words.note("spelling", "transposed product")
                return w.transposed(w.matmul(w.times(scale, right), w.transposed(left)))
            case _:
                return w.matmul(w.times(scale, left), w.transposed(right))

    def read(self, state: Expression, vector: Expression) -> Expression:
        """S^T y, spelled in some way, now and then by a name or one that was held earlier."""
        words = self.words
        if words.chance(35):
            words.note("spelling", "transposed product")
            found = w.transposed(w.matmul(w.transposed(vector), state))
        else:
            found = w.matmul(w.transposed(state), vector)
        if words.repeated is not None:
            return found
        if self.held and words.chance(25):
            words.note("read", "held")
            return words.pick(self.held)
        if words.chance(15):
            name = words.fresh("seen")
            words.lines.append((f"{words.indent}let {name} = ", found))
            self.held.append(w.name(name))
            return w.name(name)
        return found

    def delta(self) -> Terms:
        """Strength key (v - S^T key)^T."""
        words = self.words
        words.note("write", "delta")
        key, strength = words.unit(), words.strength()
        found = self.read(self.seen(), key)
        inner = w.minus(words.values(), found) if words.chance(70) else w.plus(w.negated(found), words.values())
        return [("+", self.outer(key, inner, strength))]

    def delta_apart(self) -> Terms:
        """The same with the write and the read apart, or the read alone: an erasure."""
        words = self.words
        words.note("write", "delta apart")
        key, strength, state = words.unit(), words.strength(), self.seen()
        match words.pick(("rows", "dense", "outer")):
            case "dense":
                erased = w.matmul(w.times(strength, key), w.transposed(key), state)
            case "outer":
                erased = w.times(strength, self.outer(key, self.read(state, key)))
            case _:
                erased = w.matmul(w.times(strength, key), w.matmul(w.transposed(key), state))
        terms: Terms = [("-", erased)]
        if words.chance(75):
            terms.append(("+", self.outer(key, words.values(), strength)))
        return terms

    def general(self) -> Terms:
        """A read with one vector, written with another."""
        words = self.words
        words.note("write", "general")
        left, vector = words.unit(), words.unit()
        found = self.read(self.seen(), vector)
        number = w.value(words.pick(("0.5", "0.3", "0.1")))
        term = self.outer(left, found, number)
        return [("-" if words.chance(60) else "+", term)]

    def ranks(self, rank: str) -> Terms:
        """Several rows at once, all of which see one state."""
        words = self.words
        words.note("write", "ranks")
        left = self.factors("A", words.rows, rank, unit=True)
        if not self.reads or words.chance(30):
            return [
                ("+", w.matmul(w.times(words.scalar(), left), w.transposed(self.factors("W", words.columns, rank))))
            ]
        right = left if words.chance(50) else self.factors("A", words.rows, rank, unit=True)
        state, part = self.seen(), w.over(w.value(1), w.name(rank))
        match words.pick(("together", "erase", "dense")):
            case "erase":
                return [("-", w.matmul(w.times(part, left), w.transposed(right), state))]
            case "dense":
                free = w.matmul(left, w.transposed(self.factors("W", words.columns, rank)))
                return [("-", w.times(part, w.matmul(left, w.transposed(right), state))), ("+", free)]
            case _:
                read = w.matmul(w.transposed(state), right)
                inner = w.minus(self.factors("W", words.columns, rank), read)
                return [("+", w.matmul(w.times(part, left), w.transposed(inner)))]

    def factors(self, stem: str, rows: str, rank: str, unit: bool = False) -> Expression:
        """A matrix of `rank` columns."""
        return self.words.leaf(stem, f"{rows} x {rank}", unit=unit)

    def identity_minus(self) -> None:
        """(I - strength key key^T) S and a write, as papers have it."""
        words = self.words
        words.note("write", "delta as a product")
        words.note("spelling", "I")
        key, strength, state = words.unit(), words.strength(), self.now()
        inner = w.minus(w.name("I"), w.matmul(w.times(strength, key), w.transposed(key)))
        terms: Terms = [("+", self.outer(key, words.values(), strength))] if words.chance(70) else []
        if words.chance(40):
            vector = words.chance(50)
            words.note("order", "gate and write at once")
            state = gated(words, gate(words, vector), vector, state)
        self.assign(self.total(w.matmul(inner, state), terms))

    # -- repeats ------------------------------------------------------------------------------------------------------

    def repeat(self, count: str) -> None:
        """Updates that run several times a token."""
        words = self.words
        words.note("write", "repeat")
        if not self.assigned:
            self.assign(self.now())
        words.lines.append(f"repeat index in {count}:")
        words.repeated, words.indent = count, "    "
        before = words.log_gates
        for _ in range(words.pick((1, 1, 2))):
            if self.reads and words.chance(20):
                self.identity_minus()
            else:
                self.update()
        words.log_gates += 3 * (words.log_gates - before)
        words.repeated, words.indent = None, ""

    # -- the whole step -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Updates, repeats and outputs in some order; at least one update, and an output at the end or before."""
        from flowc.fuzz.outputs import output

        words = self.words
        kinds = ["update"] * words.pick((1, 1, 2, 3))
        kinds += [f"repeat {count}" for count in self.repeats]
        if self.sums:
            kinds.append("ranks")
        if self.reads and words.chance(30):
            kinds.append("identity")
        while kinds:
            if words.chance(20):
                output(self)
            kind = kinds.pop(words.pick(range(len(kinds))))
            match kind.split():
                case ["repeat", count]:
                    self.repeat(count)
                case ["ranks"]:
                    self.assign(self.total(self.now(), self.ranks(words.pick(self.sums))))
                case ["identity"]:
                    self.identity_minus()
                case _:
                    self.update()
        if not self.outputs or words.chance(80):
            output(self)
            if words.chance(15):
                output(self)
