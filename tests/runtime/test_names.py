"""Names that Python, torch or the emitted module have a use for are legal in a spec, and callable by name."""

import re
from pathlib import Path

import pytest
import torch

import flowc
from flowc import reference
from flowc.semantics import load

ROOT = Path(__file__).parent.parent.parent

# Sizes, a value, a gate, keys and queries, a state, an output and a let, all of names that collide with something.
SPEC = """flow {op}({K}, {V})
input {q}, {k} : {K}; input {v} : {V}; input {g} : scalar <= 0; param {p} : {K}
state {S} : {K} x {V}
let {a} = exp({g})
{S}[t] = {a} * {S}[t-1]
{S}[t] = {S}[t] + {k} @ ({v} - {S}[t].T @ {k}).T
{o}[t] = {S}[t].T @ ({q} + {p})
"""
PLAIN = dict(op="plain", K="K", V="V", q="q", k="k", v="v", g="g", p="p", S="S", a="a", o="o")

SETS = {
    "tensor axes": dict(K="B", V="C", q="T", k="H", v="N", g="D", p="I", S="R", a="P", o="Q"),
    "keywords": dict(K="K", V="V", q="lambda", k="if", v="class", g="def", p="None", S="yield", a="import", o="return"),
    "modules": dict(
        K="math", V="F", q="torch", k="tl", v="triton", g="Tensor", p="Any", S="lru_cache", a="once", o="nn"
    ),
    "what functions call themselves": dict(
        K="tokens", V="rows", q="self", k="ctx", v="cls", g="dtype", p="device", S="start", a="need", o="saved"
    ),
    "the module's own": dict(
        K="chunks",
        V="programs",
        q="batch",
        k="length",
        v="_forward",
        g="_backward",
        p="reference",
        S="step",
        a="l",
        o="U",
    ),
    "the chunk program's": dict(
        K="N", V="P", q="sums", k="mask", v="Z", g="g_last", p="y_decayed", S="U", a="T", o="q_"
    ),
    "gradients": dict(K="K", V="V", q="q_bar", k="grad", v="q", g="S_bar", p="end", S="N_bar", a="t_", o="o_bar"),
    "builtins": dict(
        K="len", V="list", q="tuple", k="int", v="float", g="range", p="zip", S="print", a="sum_", o="any"
    ),
    "Greek": dict(K="κ", V="Δ", q="θ", k="λ", v="φ", g="δ", p="π", S="Σ", a="β", o="ω"),
    "underscores": dict(K="_", V="__", q="_q", k="__k", v="v_", g="g__", p="_p_", S="_S", a="a_1", o="_o"),
    "the module's private": dict(
        op="_InChunks",
        K="_C",
        V="_put",
        q="_to_rows",
        k="_NAME",
        v="_VALUE",
        g="_gate_sums",
        p="_TENSORS",
        o="_put_rows",
    ),
    "the op itself": dict(op="v", K="K", V="V", q="q", k="k", v="value", g="g", p="p", S="S", a="a", o="o"),
    "op like a module": dict(op="torch", K="K", V="V", q="q", k="k", v="v", g="g", p="p", S="S", a="a", o="o"),
    "op like an import": dict(
        op="operator", K="sys", V="wraps", q="reduce", k="k", v="v", g="g", p="p", S="S", a="a", o="o"
    ),
    "op like another": dict(
        op="sys", K="K", V="V", q="inspect", k="pairwise", v="v", g="g", p="p", S="S", a="a", o="o"
    ),
    "op like a keyword": dict(op="lambda", K="K", V="V", q="q", k="k", v="v", g="g", p="p", S="S", a="a", o="o"),
    "op like its function": dict(op="step", K="K", V="V", q="q", k="k", v="v", g="g", p="p", S="S", a="a", o="o"),
    "case": dict(K="K", V="V", q="s", k="S_", v="o", g="O", p="x", S="S", a="A", o="Y"),
}


def tensors():
    rng = torch.Generator().manual_seed(0)
    shapes = {"q": (3,), "k": (3,), "v": (2,), "g": ()}
    x = {n: torch.randn(2, 7, 2, *s, generator=rng, dtype=torch.float64) for n, s in shapes.items()}
    x["g"] = -x["g"].abs()
    return x | {"p": torch.randn(2, 3, generator=rng, dtype=torch.float64)}


@pytest.mark.parametrize("name", SETS)
def test_names(name):
    names = PLAIN | SETS[name]
    spec, x = SPEC.format(**names), tensors()
    op, plain = flowc.compile(spec), flowc.compile(SPEC.format(**PLAIN))
    mine = {names[n]: v.clone().requires_grad_() for n, v in x.items()}
    theirs = {n: v.clone().requires_grad_() for n, v in x.items()}
    (o, state), (o2, state2) = (f(**v, output_final_state=True, chunk_size=3) for f, v in ((op, mine), (plain, theirs)))
    assert torch.equal(o, o2)
    assert torch.equal(state, state2)
    o.sum().backward()
    o2.sum().backward()
    for n in x:
        assert torch.equal(mine[names[n]].grad, theirs[n].grad), n
    whole, _ = reference.run(load(spec, "test"), mine)
    assert ((op.reference(**mine) - whole[names["o"]]).norm() / whole[names["o"]].norm()).item() < 1e-13
    token = {n: v if n == names["p"] else v[:, 0] for n, v in mine.items()}
    first, _ = op.step(**token)
    assert ((first - whole[names["o"]][:, 0]).norm() / first.norm()).item() < 1e-13


@pytest.mark.parametrize("name", ["keywords", "Greek", "modules"])
def test_errors_speak_of_the_spec_s_names(name):
    names = PLAIN | SETS[name]
    op = flowc.compile(SPEC.format(**names))
    x = {names[n]: v for n, v in tensors().items()}
    x[names["k"]] = x[names["k"]][..., :2]
    with pytest.raises(ValueError, match=rf"`{names['k']}` has shape .*; expected \[B, T, H, {names['K']}\]"):
        op(**x)


def test_several_outputs_are_named_as_in_the_spec():
    spec = """flow two(K, V)
input q, k : K; input v : V
state S : K x V
S[t] = S[t-1] + k @ v.T
ω[t] = S[t].T @ q
o[t] = S[t-1].T @ q
"""
    x = {n: v for n, v in tensors().items() if n in "qkv"}
    op = flowc.compile(spec)
    result = op(**x)
    assert result._fields == ("ω", "o")
    assert torch.equal(result[0], result.ω)
    outputs, _ = reference.run(load(spec, "test"), x)
    assert all(((getattr(result, n) - v).norm() / v.norm()).item() < 1e-13 for n, v in outputs.items())


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (("_o", "u"), ("output_o", "u")),
        (("_", "_1"), ("output_", "output_1")),
        (("_u", "__u"), ("output_u", "output_u_")),
        (("lambda", "output_lambda"), ("output_lambda_", "output_lambda")),
        (("class", "count"), ("output_class", "count")),  # a method of tuples is a legal field
        (("step", "sum"), ("step", "sum")),  # what the module or Python has a use for is legal too
        (("match", "Tensor"), ("match", "Tensor")),
    ],
)
def test_outputs_that_no_tuple_can_name(names, fields):
    """An output whose name cannot be a field has the documented one beside it, and its place."""
    spec = """flow two(K, V)
input q, k : K; input v : V
state S : K x V
S[t] = S[t-1] + k @ v.T
{}[t] = S[t].T @ q
{}[t] = S[t-1].T @ q
""".format(*names)
    x = {n: v for n, v in tensors().items() if n in "qkv"}
    outputs, _ = reference.run(load(spec, "test"), x)
    op = flowc.compile(spec)
    token = {n: v[:, 0] for n, v in x.items()}
    assert op.step(**token)[0]._fields == op.reference(**x)._fields == fields
    found = op(**x)
    assert found._fields == fields
    for field, name in zip(fields, names, strict=True):
        expected = outputs[name]
        assert ((getattr(found, field) - expected).norm() / expected.norm()).item() < 1e-13


def assigned(name):
    """The names that the two passes of an example's module assign, once each."""
    source = flowc.compile(ROOT / f"examples/{name}.flow").source
    passes = source[source.index("def _forward") : source.index("class _Run(")]
    return set(re.findall(r"^ +(\w+) = ", passes, re.MULTILINE))


def test_the_legend_has_what_the_code_uses():
    """Under the module's names, which give way to the spec's own: here an input called inverse."""
    spec = SPEC.format(**(PLAIN | dict(q="inverse", p="scale")))
    legend = flowc.compile(spec).source.split("In the code:\n")[1].split('"""')[0]
    assert re.search(r"^    inverse_ +\(I - N\)\^-1; by `signature`", legend, re.MULTILINE)
    assert re.search(r"^    scale_ +scalar factors", legend, re.MULTILINE)
    assert "l_e" not in legend  # no row writes without reading
    linear = flowc.compile(ROOT / "examples/linear_attention.flow").source.split('"""')[1]
    assert "_e marks rows that write without reading" in linear
    for word in ("(I - N)", "log gates", "gq", "y reads"):
        assert word not in linear, word


def test_temporaries_say_what_they_hold():
    found = assigned("gated_deltanet")
    assert {"beta_rows", "exp_g_query", "O_bar", "P_bar", "decay_P_bar", "N_dot_bar", "y_decayed_bar"} <= found
    assert {"P", "P_bar", "above_floor_g"} <= assigned("kda")
    for path in sorted((ROOT / "examples").glob("*.flow")):
        found = assigned(path.stem)
        scans = flowc.compile(path).compilation.recurrence.scans
        few = len(found) / (2 if scans else 4)  # what scans are made of has no name
        assert sum(re.fullmatch(r"t(_\d*)?", n) is not None for n in found) <= few, path.stem
