"""How sentences name the parts of the language, which its two spellings write differently.

In: a `Source`. Out: `Words`: those of the language's own text, or those of Python for a decorated function. Refuses
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowc.semantics.model import Input
from flowc.source import Source


@dataclass(frozen=True, slots=True)
class Words:
    """Parts of messages and of help; what stands in braces is put in."""

    let: str
    index: str
    constant: str
    loop: str
    no_size: str
    declare_size: str
    a_size: str
    fix_size: str
    a_constant: str
    declare_name: str
    move_let: str
    name_output: str
    element: str
    an_index: str
    assign_state: str
    read_state: str
    assign_output: str
    declare_state: str
    declare_input: str
    declaration: str

    def declared(self, given: Input, bounds: str) -> str:
        """How an input or param is declared so that it lies within `bounds`."""
        keyword, prefix = ("param", "param ") if given.is_param else ("input", "")
        return self.declaration.format(
            keyword=keyword, prefix=prefix, name=given.name, shape=given.shape, bounds=bounds
        )


FLOW = Words(
    let="a `let`",
    index="the index of a repeat",
    constant="a header constant",
    loop="a repeat",
    no_size="no size of the header",
    declare_size="add `{}` to the header's sizes",
    a_size="a name of the header",
    fix_size="fix the size in the header: `{} = 4`",
    a_constant="a constant of the header",
    declare_name="declare it with `input` or `param`, or name a value with `let`",
    move_let="move its `let` above this line; a `let` inside a repeat is known only there",
    name_output="name its value with `let` and use that in both places",
    element="`{0}[r]` inside `repeat r in {1}:`",
    an_index="the index of a repeat",
    assign_state="assign `{}[t] = ...`, or declare it as a `param`",
    read_state="read `{}[t]` in an output",
    assign_output="assign one, such as `o[t] = S[t].T @ q`",
    declare_state="declare what is carried, such as `state S : K x V`",
    declare_input="declare what comes with every token, such as `input q, k : K`",
    declaration="`{keyword} {name} : {shape} {bounds}`",
)

PYTHON = Words(
    let="a named value",
    index="the index of a loop",
    constant="a constant",
    loop="a loop",
    no_size="no size",
    declare_size="declare it behind `*`: `*, {}`, or `*, {}=4`",
    a_size="a size",
    fix_size="fix the size behind `*`: `*, {}=4`",
    a_constant="a constant",
    declare_name="declare it as an argument, or assign it above",
    move_let="assign it above this line; a name assigned inside a loop is known only there",
    name_output="assign its value to another name, and use that in both places",
    element="`{0}[r]` inside `for r in range({1}):`",
    an_index="the index of a loop",
    assign_state='assign `{} = ...`, or declare it as a `"param ..."`',
    read_state="read `{}` in an output",
    assign_output="return one, such as `return S, S.T @ q`",
    declare_state='declare what is carried, such as `S: "state K x V"`',
    declare_input='declare what comes with every token, such as `q: "K"`',
    declaration='`{name}: "{prefix}{shape} {bounds}"`',
)


def words(source: Source) -> Words:
    """The words for a message about `source`."""
    return FLOW if source.function is None else PYTHON
