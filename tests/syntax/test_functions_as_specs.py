"""A Python function gives the very tree that the language's own text gives, with spans into the Python file."""

import ast
import keyword
import linecache
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given

sys.path.insert(0, str(Path(__file__).parent))
from as_python import as_python
from trees import bare, expressions

from flowc.diagnostics import CODES, FlowError
from flowc.semantics import load, loaded
from flowc.source import Source
from flowc.syntax import parse
from flowc.syntax import tree as syntax
from flowc.syntax.parse import read
from flowc.syntax.printer import canonical, expression
from flowc.syntax.python.function import functions
from flowc.syntax.python.places import Places

ROOT = Path(__file__).parents[2]
SPECS = sorted((*ROOT.glob("examples/*.flow"), *ROOT.glob("tests/cases/*/*.flow")))


def sources(text: str, name: str = "file.py") -> list[Source]:
    """Every function of a Python file as a spec's source, in the order of the file."""
    places = Places(Source(name, text))
    offsets = sorted(places.span(node).start for node in functions(ast.parse(text)))
    return [Source(name, text, offset) for offset in offsets]


def spec(text: str) -> syntax.Spec:
    return parse(sources(text)[0])


def step(*lines: str, arguments: str = "") -> str:
    """The statements, in the language's own words, of a function with a state S, inputs k and v and these lines."""
    body = "\n".join(f"    {line}" for line in lines)
    text = f'def f(S: "state K x V", k: "K", v: "V"{arguments}):\n{body}\n'
    return canonical(spec(text)).split("\n\n")[-1]


# -- the same tree -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_is_the_same_as_a_function(path: Path) -> None:
    one = load(path.read_text("utf-8"), path.name)
    other = loaded(sources(as_python(one.canonical))[0])
    assert other.canonical == one.canonical
    assert [i.name for i in other.inputs] == [i.name for i in one.inputs]


@given(expressions)
def test_random_expressions(tree: syntax.Expression) -> None:
    """What the printer writes is Python but for names that Python keeps, and times, which Python writes with `prev`."""
    text = expression(tree)
    words = {node.id for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)}
    assume("t" not in words and not any(keyword.iskeyword(word) for word in words))
    assume(not any(isinstance(node, ast.Subscript) and _twice(node) for node in ast.walk(_parsed(text))))
    item = spec(f'def f(carried: "state A9"):\n    a = {text}\n    return carried, a9\n').items[1]
    assert isinstance(item, syntax.Let)
    assert bare(item.value) == bare(tree)


def _parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except SyntaxError:
        assume(False)
        raise


def _twice(node: ast.Subscript) -> bool:
    return isinstance(node.value, ast.Subscript)


def test_numbers_are_what_is_written() -> None:
    """Not the float that Python makes of it: 0.1 is a tenth."""
    written = "0.1 + 1_000 + .5 + 1. + 1e-6 + 0x10 + 12345678901234567890.125"
    assert step(f"a = {written}", "S = a * S", "return S, S.T @ k").splitlines()[0] == (
        "let a = 0.1 + 1000 + 0.5 + 1 + 1e-6 + 16 + 1.2345678901234567890125e19"
    )


# -- states ------------------------------------------------------------------------------------------------------------


def test_a_state_is_the_old_one_until_it_is_assigned() -> None:
    found = step("a = S.T @ k", "S = S + k @ v.T", "b = S.T @ k - prev(S).T @ k", "S = S - k @ b.T", "return S, a")
    assert found.splitlines() == [
        "a[t] = S[t-1].T @ k",
        "S[t] = S[t-1] + k @ v.T",
        "let b = S[t].T @ k - S[t-1].T @ k",
        "S[t] = S[t] - k @ b.T",
    ]


def test_a_loop_that_reads_a_state_first_starts_from_the_old_one() -> None:
    """As it would if Python ran it: the second round reads what the first one wrote."""
    found = step("for r in range(3):", "    S = S + k @ v.T", "return S, S.T @ k")
    assert found.splitlines() == ["S[t] = S[t-1]", "repeat r in 3:", "    S[t] = S[t] + k @ v.T", "o[t] = S[t].T @ k"]
    found = step("for r in range(3):", "    for s in range(2):", "        S = S + k @ v.T", "return S, S.T @ k")
    assert found.splitlines()[:3] == ["S[t] = S[t-1]", "repeat r in 3:", "    repeat s in 2:"]


@pytest.mark.parametrize("before", [["S = 2 * S"], []])
def test_a_loop_that_assigns_first_needs_no_start(before: list[str]) -> None:
    found = step(*before, "for r in range(3):", "    S = prev(S) + k @ v.T", "    S = S / 2", "return S, S.T @ k")
    assert "S[t] = S[t-1]\n" not in found
    assert "    S[t] = S[t] / 2" in found


def test_prev_of_inputs_and_elements() -> None:
    arguments = ', x: "K", w: "R of K"'
    found = step("S = S + (prev(x) + prev(w[0]) + prev(w)[1]) @ v.T", "return S, S.T @ k", arguments=arguments)
    assert found.splitlines()[0] == "S[t] = S[t-1] + (x[t-1] + w[0][t-1] + w[1][t-1]) @ v.T"


# -- the header and the docstring --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "header"),
    [
        ('S: "state K x V", q: "M"', "K, V, M"),
        ('q: "R of K", S: "state K x V"', "R, K, V"),
        ('S: "state 1 + K + K*K x V"', "K, V"),
        ('S: "state K x V", *, R=4, tau=-1.50', "K, V, R = 4, tau = -1.5"),
        ('S: "state K x V", *, V, K', "V, K"),
        ('S: "state K x V", *, K=2', "V, K = 2"),
        ('S: "state K x V", /, q: "scalar"', "K, V"),
    ],
)
def test_sizes_stand_in_the_order_of_the_annotations(arguments: str, header: str) -> None:
    found = spec(f"def f({arguments}):\n    return S, S\n".replace("return S, S", "o = S.T\n    return S, o"))
    assert canonical(found).split("\n")[0] == f"flow f({header})"


def test_the_docstring_is_the_comment_of_the_spec() -> None:
    found = spec('def f(S: "state K"):\n    """One.\n\n      Two  \n    Three\n    """\n    return S, S + 1\n')
    assert found.doc == "One.\n\n  Two\nThree"
    assert parse(Source("", canonical(found))).doc == found.doc


def test_names_are_normalised_like_those_of_a_text() -> None:
    found = spec('def ﬁ(S: "state \uff2b", \uff4b: "\uff2b"):\n    S = S + \uff4b\n    return S, S.T @ k\n')
    assert canonical(found).startswith("flow fi(K)\n\ninput k : K\n")


# -- spans -------------------------------------------------------------------------------------------------------------


def test_spans_point_into_the_file() -> None:
    text = "# é\nclass A:\n    def f(self: \"state K x V\", λ: 'param K in (0, 1]'):\n"
    text += "        é = 'ß' @ λ ; self = (self + λ) * λ\n        return self, self\n"
    source = sources(text)[0]
    reading = read(source)
    assert reading.spec is not None
    assert [text[d.span.start : d.span.end] for d in reading.diagnostics] == ["self", "'ß'"]
    _, declared, product = reading.spec.items[:3]
    assert isinstance(declared, syntax.Param)
    assert isinstance(product, syntax.Assign)
    parts = (declared.names[0], declared.shape, declared.range, product, product.target, product.value)
    assert [text[p.span.start : p.span.end] for p in parts if p is not None] == [
        "λ",
        "K",
        "in (0, 1]",
        "self = (self + λ) * λ",
        "self",
        "(self + λ) * λ",
    ]


# -- what is no spec ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ast", "functools", "textwrap", "statistics", "asyncio.tasks", "dataclasses"])
def test_any_function_at_all_is_refused_with_diagnostics(name: str) -> None:
    """Functions that were never meant to be specs: every one of them is an error of the table, and none a crash."""
    module = __import__(name, fromlist=["x"])
    text = "".join(linecache.getlines(module.__file__))
    found = sources(text, f"{name}.py")
    assert len(found) > 10
    for source in found:
        with pytest.raises(FlowError) as caught:
            loaded(source)
        for diagnostic in caught.value.diagnostics:
            assert diagnostic.code in CODES
            assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(text)
        assert str(caught.value)


@pytest.mark.parametrize("depth", [150, 250])
def test_nesting_is_bounded(depth: int) -> None:
    deep = "exp(" * depth + "k" + ")" * depth if depth < 200 else " + ".join("k" * depth)
    source = sources(f'def f(S: "state K", k: "K"):\n    S = S + {deep}\n    return S, S + 1\n')[0]
    codes = [d.code for d in read(source).diagnostics]
    assert codes == ([] if depth < 200 else ["F104"])


def test_an_annotation_is_bounded() -> None:
    for sum_of, code in (
        ("K + " * 150 + "K", []),
        ("K + " * 250 + "K", ["F104"]),
        ("(" * 250 + "K" + ")" * 250, ["F104"]),
    ):
        source = sources(f'def f(S: "state {sum_of}"):\n    return S, S + 1\n')[0]
        assert [d.code for d in read(source).diagnostics] == code
