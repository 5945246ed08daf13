"""Every row of the zoo parses, checks, and keeps its meaning in its canonical spelling."""

from dataclasses import replace
from pathlib import Path

import pytest

from flowc.semantics import load, warnings
from flowc.semantics.model import Model
from flowc.source import Source

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.flow"))
OTHERS = sorted(path.stem for path in (ROOT / "tests" / "cases" / "zoo").glob("*.flow"))
PATHS = [ROOT / "examples" / f"{name}.flow" for name in EXAMPLES]
PATHS += [ROOT / "tests" / "cases" / "zoo" / f"{name}.flow" for name in OTHERS]

SIGNATURES = {
    "linear_attention": "q k v",
    "retnet": "q k v",
    "lightning": "q k v",
    "simple_gla": "q k v g",
    "gated_retnet": "q k v x",
    "gated_rfa": "q k v x",
    "mamba2": "x B C dt A_log D",
    "gla": "q k v g",
    "hgrn2": "q v f lower",
    "rwkv6": "r k v w u",
    "deltanet": "q k v beta",
    "gated_deltanet": "q k v g beta",
    "kda": "q k v g beta",
    "gated_deltanet2": "q k v g b w",
    "comba": "q k p v g beta",
    "rwkv7": "q k v a b g",
    "iplr": "q k v a b",
    "delta_product": "q k v beta",
    "gated_delta_product": "q k v beta g",
    "lowrank_delta": "q A B W",
    "gated_lowrank_delta": "q A B W g",
    "kda_lowrank": "q A B W g",
    "delta_exact": "q k v beta",
    "linear_attention_normalized": "q k v",
    "based": "q k v",
    "rebased": "q k v gamma b",
    "mlstm": "q k v i f",
    "rwkv4": "k v w u",
    "preconditioned_gated_deltanet": "q k v g ga beta ba m c",
    "hgrn": "x f",
    "gsa": "q k v s f",
    "abc": "q k v s",
    "decaying_fast_weights": "q k v ga gb",
    "gated_oja": "q k v g beta",
}
KEYS = ("W203",)
WARNED = {
    "hgrn2": ("W202",),
    "comba": KEYS,
    "delta_product": KEYS,
    "deltanet": KEYS,
    "gated_delta_product": KEYS,
    "gated_deltanet": KEYS,
    "gated_deltanet2": KEYS,
    "gated_oja": KEYS,
    "kda": KEYS,
    "momentum_delta": KEYS,
    "preconditioned_gated_deltanet": KEYS,
}


def model(path: Path) -> Model:
    return load(path.read_text("utf-8"), path.name)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_checks(path: Path) -> None:
    found = model(path)
    assert found.name == path.stem
    assert found.doc.startswith(f"{path.name} -- ")
    assert tuple(warning.code for warning in warnings(found)) == WARNED.get(path.stem, ())
    assert len(path.read_text("utf-8").splitlines()) <= 20


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_canonical_spelling_means_the_same(path: Path) -> None:
    one = model(path)
    other = load(one.canonical, path.name)
    assert other.canonical == one.canonical
    assert (other.name, other.doc, other.canonical) == (one.name, one.doc, one.canonical)
    assert [replace(x, span=one.inputs[0].span) for x in other.inputs] == [
        replace(x, span=one.inputs[0].span) for x in one.inputs
    ]
    assert [type(statement) for statement in other.statements] == [type(statement) for statement in one.statements]


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_call_has_these_inputs_in_this_order(name: str) -> None:
    assert " ".join(declared.name for declared in model(ROOT / "examples" / f"{name}.flow").inputs) == SIGNATURES[name]


def test_all_rows_are_there() -> None:
    assert set(EXAMPLES) >= set(SIGNATURES)
    assert len(EXAMPLES) + len(OTHERS) == 40


def test_the_source_is_the_users() -> None:
    text = PATHS[0].read_text("utf-8")
    assert load(text, "here.flow").source == Source("here.flow", text)
