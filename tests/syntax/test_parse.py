"""What the parser takes and refuses: names, lines, blocks, sizes of files and depths of nesting."""

import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowc.diagnostics import FlowError
from flowc.resources import grammar, templates
from flowc.source import Source
from flowc.syntax import parse, tree
from flowc.syntax.parse import ERRORS, read
from flowc.syntax.reading import LENGTH

START = "flow f(K)\ninput q : K\nstate S : K\n"


def codes(text: str) -> list[str]:
    with pytest.raises(FlowError) as caught:
        parse(Source("<text>", text))
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


def test_rules_are_named_as_the_classes() -> None:
    rules = {name for name in re.findall(r"^\??([a-z]\w*):", grammar(), re.MULTILINE)}
    rules |= set(re.findall(r"-> (\w+)", grammar()))
    inlined = {"sum_of_sizes", "product_of_sizes", "size_atom", "sum", "product", "unary", "power", "postfix", "atom"}
    inlined |= {"annotation"}
    classes = {name for name, kind in vars(tree).items() if inspect.isclass(kind) and kind.__module__ == tree.__name__}
    assert {"".join(part.title() for part in rule.split("_")) for rule in rules - inlined - {"subscript"}} == classes


def test_templates_are_found() -> None:
    assert templates().is_dir()


def test_keywords_are_legal_names() -> None:
    text = "flow let(x, of, in)\ninput input, param : x x of\ninput scalar : in of x in (0, 1]\n"
    text += "let repeat = let + of\nlet[t] = input\nrepeat in in in:\n    let let = x\n"
    spec = parse(Source("<text>", text))
    assert [name.text for item in spec.items[:2] for name in item.names] == ["input", "param", "scalar"]  # type: ignore[union-attr]


def test_names_are_normalised() -> None:
    spec = parse(Source("<text>", "flow ﬁ(\uff2b)\ninput k² : \uff2b\n"))
    assert (spec.name.text, spec.dimensions[0].name.text) == ("fi", "K")
    assert spec.items[0].names[0].text == "k2"  # type: ignore[union-attr]


def test_spans_point_into_the_text() -> None:
    text = START + "S[t] = (S[t-1] + q) * q\n"
    item = parse(Source("<text>", text)).items[2]
    assert isinstance(item, tree.Assign)
    product = item.value
    assert isinstance(product, tree.Binary)
    assert text[product.span.start : product.span.end] == "(S[t-1] + q) * q"
    assert text[product.left.span.start : product.left.span.end] == "S[t-1] + q"
    assert text[item.span.start : item.span.end] == "S[t] = (S[t-1] + q) * q"


@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n", "   # the end", "\n    # the end", "\n\t\n", ";", ";\n"])
def test_ends_of_files(end: str) -> None:
    assert len(parse(Source("<text>", START + "o[t] = q" + end)).items) == 3


def test_crlf_and_a_byte_order_mark() -> None:
    text = "\ufeff# doc\r\nflow f(K)\r\ninput q : K\r\n\r\nrepeat r in K:\r\n    let a = q\r\no[t] = q\r\n"
    spec = parse(Source("<text>", text))
    assert spec.doc == "doc"
    assert len(spec.items) == 3


def test_the_docstring_is_the_block_at_the_top() -> None:
    assert (
        parse(Source("<text>", "\n#!doc\n#   more\n#\n# end\n\n# not this\nflow f(K)\n")).doc == "!doc\n  more\n\nend"
    )
    assert parse(Source("<text>", "flow f(K)  # no\n# no\n")).doc == ""


def test_an_indented_text_is_taken_as_it_stands() -> None:
    spec = parse(
        Source("<text>", "\n    flow f(K)\n    input q : K\n    repeat r in K:\n        let a = q\n    o[t] = q\n    ")
    )
    assert len(spec.items) == 3


@pytest.mark.parametrize("depth", [250, 1000, 20000])
@pytest.mark.parametrize(
    ("open_", "close"), [("(", ")"), ("-", ""), ("2**", ""), ("exp(", ")"), ("q + ", ""), ("(", ""), ("", ".T")]
)
def test_deep_nesting_is_refused(open_: str, close: str, depth: int) -> None:
    text = START + "o[t] = " + open_ * depth + "q" + close * depth
    found = codes(text)
    assert found
    assert set(found) <= {"F103", "F104", "F106"}


def test_deep_blocks_are_refused() -> None:
    text = START + "".join(" " * i + f"repeat r{i} in K:\n" for i in range(230)) + " " * 230 + "let a = q\n"
    assert "F104" in codes(text)


def test_nesting_below_the_cap_is_taken() -> None:
    parse(Source("<text>", START + "o[t] = " + "(" * 199 + "q" + ")" * 199))
    parse(Source("<text>", START + "o[t] = q" + " + q" * 198))


def test_files_over_the_limit_are_refused() -> None:
    assert codes("#" * (LENGTH + 1)) == ["F103"]
    parse(Source("<text>", START + "#" * (LENGTH - len(START))))


def test_control_characters_are_refused() -> None:
    for character in "\0\x0b\x0c\x1b\x85\u2028\u202e\ud800\r":
        assert codes(START + f"# {character} \no[t] = q") == ["F102"], repr(character)


def test_errors_are_collected_up_to_a_limit() -> None:
    assert codes(START + "let a = )\n" * 5 + "o[t] = q") == ["F106"] * 5
    assert len(codes(START + "let a = )\n" * 100 + "o[t] = q")) == ERRORS


def test_what_parses_is_kept() -> None:
    reading = read(Source("<text>", START + "let a = $\nrepeat r in :\n    let b = 1\no[t] = q"))
    assert reading.spec is not None
    assert len(reading.spec.items) == 3
    assert reading.broken >= {"a", "b"}
    assert [diagnostic.code for diagnostic in reading.diagnostics] == ["F101", "F101"]


EXAMPLES = [path.read_text("utf-8") for path in sorted((Path(__file__).parents[2] / "examples").glob("*.flow"))]


@given(st.text(max_size=80))
def test_any_text_gives_a_spec_or_diagnostics(text: str) -> None:
    reading = read(Source("<text>", text))
    assert reading.diagnostics or reading.spec is not None


@given(st.data())
def test_any_mutation_gives_a_spec_or_diagnostics(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(EXAMPLES))
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(len(text), at + 6)))
    piece = data.draw(
        st.sampled_from(
            ["", " ", "\n", "\n    ", "(", ")", "[", "]", ";", "=", "x", "in", "**", "$", "let ", "repeat r in K:\n"]
        )
    )
    reading = read(Source("<text>", text[:at] + piece + text[until:]))
    assert reading.diagnostics or reading.spec is not None
    for diagnostic in reading.diagnostics:
        assert 0 <= diagnostic.span.start <= diagnostic.span.end
