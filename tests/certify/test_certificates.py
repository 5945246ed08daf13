"""The exact certificate: what it certifies, what it refuses, what it says when a program is wrong."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from differential.harness import ROOT, TEXTS

import flowc
from flowc import reference
from flowc.certify import certify, field, record, reproducer, step, text, verdict
from flowc.certify.certificate import points_of
from flowc.certify.chunked import Setting
from flowc.certify.draw import Draw, Sizes
from flowc.certify.functions import exp, log, value
from flowc.certify.number import Number, Oracles
from flowc.certify.primitives import constant_of
from flowc.certify.systems import solve
from flowc.chunk.ir import Apply, Node
from flowc.cli import cli
from flowc.compiler import Compilation, Stage, compile_text
from flowc.options import Options
from flowc.source import Source

NOT_CERTIFIED: dict[str, str] = {
    "coupled_in_rounds": "it has no exact form: every draw met the square root of a non-square",
    "beside_columns": "it has no exact form: every draw met an exponent without an inverse",
    "joined_reads": "it has no exact form: every draw met an exponent without an inverse",
    "rows_alone": "it has no exact form: every draw met an exponent without an inverse",
    "scans_together": "it has no exact form: every draw met an exponent without an inverse",
    "set_from_params": "it has no exact form: every draw met an exponent without an inverse",
    "squashed_fast_weights": "it has no exact form: every draw met an exponent without an inverse",
    "squashed_features": "it has no exact form: every draw met an exponent without an inverse",
}  # by spec, the reason; it may only get shorter

DELTA = """flow it(K, V)
input q, k : K; input v : V; input g : scalar <= 0; input x : scalar
state S : K x V
{steps}
o[t] = S[t].T @ q
"""
GATE_FIRST = DELTA.format(steps="S[t] = exp(g) * S[t-1]\nS[t] = S[t] + k @ (v - S[t].T @ k).T")
READ_FIRST = DELTA.format(steps="S[t] = exp(g) * S[t-1] + k @ (v - S[t-1].T @ k).T")


def compiled(spec):
    return compile_text(Source("SPEC", spec), Options(), Stage.PLAN)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_spec_is_certified(name):
    found = compiled(TEXTS[name]).certify()
    assert found.mismatch is None, text(found, name, TEXTS[name])
    assert found.reason == NOT_CERTIFIED.get(name, ""), verdict(found)
    if name not in NOT_CERTIFIED:
        assert found.holds
        assert found.probability < 2e-7
        assert len({p.dimensions for p in found.points}) >= 2


@pytest.mark.parametrize("name", ["gated_delta_product", "gated_lowrank_delta", "lowrank_delta"])
def test_ranks_are_one_to_three(name):
    points = list(points_of(compiled(TEXTS[name]).model))
    assert {dict(p.dimensions)["R"] for p in points} == {1, 2, 3}
    assert all(p.length == 2 * p.chunk + 1 for p in points)


@pytest.mark.parametrize("name", ["kda", "prelude", "epilogue", "by_head", "two_repeats", "doubled", "scalar_output"])
def test_the_steps_shadows_are_the_oracles_values(name):
    """The step in the field follows the float oracle's formulas: its shadows are the oracle's floats."""
    model = compiled(TEXTS[name]).model
    sizes = next(points_of(model))
    draw = Draw(model, sizes, 3)
    heads = [step.head_of(draw, h) for h in range(sizes.heads)]
    params = {i.name for i in model.inputs if i.is_param}
    tensors = {n: torch.tensor(x.shadow if n in params else x.shadow[None]) for n, x in draw.inputs.items()}
    outputs, final = reference.run(model, tensors, {n: torch.tensor(x.shadow[None]) for n, x in draw.start.items()})
    for number, head in enumerate(heads):
        for output, values in head.outputs.items():
            mine = np.stack([x.number.shadow.reshape(outputs[output].shape[3:]) for x in values])
            assert np.allclose(mine, outputs[output][0, :, number].numpy(), rtol=1e-9, atol=1e-9)
        for state, x in head.states.items():
            assert np.allclose(x.number.shadow, final[state][0, number].numpy(), rtol=1e-9, atol=1e-9)


# -- programs of another recurrence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "other", "place"),
    [
        (GATE_FIRST, READ_FIRST, "o differs first at step 0, chunk 0, head 0"),
        (
            GATE_FIRST.replace("S[t].T @ q", "S[t-1].T @ q"),
            READ_FIRST.replace("S[t].T @ q", "S[t-1].T @ q"),
            "o differs first at step 1, chunk 0, head 0",
        ),
        (
            GATE_FIRST.replace("exp(g)", "sigmoid(x)"),
            GATE_FIRST.replace("exp(g)", "(1 - sigmoid(x))"),
            "o differs first at step 0, chunk 0, head 0",
        ),
        (GATE_FIRST.replace("exp(g)", "exp(g)**2"), GATE_FIRST, "o differs first at step 0, chunk 0, head 0"),
    ],
)
def test_programs_of_another_recurrence_are_wrong(spec, other, place):
    assert place in str(certify(compiled(spec).model, compiled(other).programs).mismatch)


def test_a_state_spoilt_between_chunks_is_found_in_the_second():
    right = compiled(GATE_FIRST)
    forward = right.programs.forward
    (carry,) = forward.carries
    negative = replace(carry.after, index=10_000)
    nodes = (*forward.nodes, Node(negative, Apply("neg", (carry.after,))))
    spoilt = replace(forward, nodes=nodes, carries=(replace(carry, after=negative),))
    found = certify(right.model, replace(right.programs, forward=spoilt))
    assert "o differs first at step 3, chunk 1, head 0, at T 7, C 3, H 2, K 4, V 2" in str(found.mismatch)


def test_a_gradient_that_is_missing_or_of_another_input_is_wrong():
    right = compiled(GATE_FIRST)
    backward = right.programs.backward
    swap = {"q": "k", "k": "q"}
    exchanged = tuple((swap.get(name, name), x) for name, x in backward.results)
    wrong = replace(right.programs, backward=replace(backward, results=exchanged))
    assert str(certify(right.model, wrong).mismatch).startswith("dq differs first at step 0")
    fewer = tuple((name, x) for name, x in backward.results if name != "v")
    wrong = replace(right.programs, backward=replace(backward, results=fewer))
    assert str(certify(right.model, wrong).mismatch).startswith("dv differs: the program does not make it")


# -- what it says -----------------------------------------------------------------------------------------------------


def spoil(monkeypatch):
    wrong = compiled(READ_FIRST).programs
    monkeypatch.setattr(Compilation, "programs", property(lambda self: wrong))


def test_a_wrong_module_is_not_written(monkeypatch, tmp_path):
    spoil(monkeypatch)
    file = tmp_path / "it.flow"
    file.write_text(GATE_FIRST)
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["compile", str(file), "-o", str(out)])
    assert done.exit_code == 1
    assert not out.exists()
    assert "the chunk program is wrong: o differs first at step 0, chunk 0, head 0" in done.stderr
    assert CliRunner().invoke(cli, ["compile", str(file), "-o", str(out), "--no-certify"]).exit_code == 0
    assert (out / "it.py").exists()


@pytest.mark.parametrize("longer", [0, 20])
def test_the_reproducer_is_short_and_finds_it_again(monkeypatch, capsys, tmp_path, longer):
    spoil(monkeypatch)
    unused = "".join(f"let a{i} = {i} * x\n" for i in range(longer))
    file = tmp_path / "it.flow"
    file.write_text(GATE_FIRST.replace("S[t] = exp(g)", unused + "S[t] = exp(g)"))
    mine = compile_text(Source(str(file), file.read_text()), Options(), Stage.PLAN)
    found = mine.certify(seed=5)
    script = reproducer(found, str(file), mine.model.canonical)
    assert len(script.splitlines()) <= 20
    exec(script, {})
    assert capsys.readouterr().out.strip() == str(found.mismatch)


def test_verify_prints_the_certificate_first(tmp_path):
    done = CliRunner().invoke(cli, ["verify", str(ROOT / "examples/deltanet.flow")])
    assert done.exit_code == 0
    assert done.stdout.startswith("deltanet: certified: all 7 tensors are equal at 2 points")
    for part in ("2^61 - 1", "T 7, C 3, H 2, K 4, V 2", "degree", "not covered", "wy, tensorinv, signature"):
        assert part in done.stdout
    found = json.loads(CliRunner().invoke(cli, ["verify", "--json", str(ROOT / "examples/deltanet.flow")]).stdout)
    assert found["certificate"]["certified"]
    assert 0 < found["certificate"]["error_probability"] < 1e-9


def test_what_cannot_be_certified_says_why(tmp_path):
    spec = GATE_FIRST.replace("= S[t].T @ q", "= sqrt(3) * (S[t].T @ q)")
    found = compiled(spec).certify()
    assert not found.holds
    assert found.mismatch is None
    assert verdict(found) == "it: not certified: the square root of 3 is not in the field"
    assert record(found)["reason"] == "the square root of 3 is not in the field"
    assert record(found)["certified"] is False
    file = tmp_path / "it.flow"
    file.write_text(spec)
    done = CliRunner().invoke(cli, ["compile", str(file)])
    assert done.exit_code == 0
    assert "it: not certified: the square root of 3" in done.stderr


def test_compile_in_python_certifies_where_it_is_asked_to(monkeypatch):
    assert flowc.compile(GATE_FIRST, certify=True)
    with pytest.warns(UserWarning, match="not certified: the square root of 3"):
        flowc.compile(GATE_FIRST.replace("= S[t].T @ q", "= sqrt(3) * (S[t].T @ q)"), certify=True)
    spoil(monkeypatch)
    assert flowc.compile(GATE_FIRST)
    with pytest.raises(RuntimeError, match="the chunk program is wrong: o differs first at step 0"):
        flowc.compile(GATE_FIRST, certify=True)


def test_sizes_that_the_header_fixes_stay():
    fixed = compiled(GATE_FIRST.replace("(K, V)", "(K = 8, V)")).certify()
    assert fixed.holds
    assert [dict(p.dimensions) for p in fixed.points] == [{"K": 8, "V": 4}, {"K": 8, "V": 2}]
    large = compiled(GATE_FIRST.replace("(K, V)", "(K = 128, V = 128)")).certify()
    assert large.reason == "the header fixes a state of 16384 entries, and at most 4096 are computed"


def test_a_bound_that_says_nothing_is_no_certificate():
    """exp(c g) is a power of a root of exp(g) with as many digits as c has; what is added to g is a number."""
    assert compiled(GATE_FIRST.replace("exp(g)", "exp(0.25 * g - 0.0883883476483184)")).certify().holds
    found = compiled(GATE_FIRST.replace("exp(g)", "exp(0.0883883476483184 * g)")).certify()
    assert found.mismatch is None
    assert found.reason == "exponents have factors of so many digits that the error bound says nothing"


def test_a_token_of_many_roots_has_a_draw():
    steps = "S[t] = exp(g) * S[t-1] + sqrt(1 + k * k) @ l2norm(v).T"
    spec = DELTA.format(steps=steps).replace("= S[t].T @ q", "= rmsnorm(S[t].T @ rmsnorm(q)) + sqrt(1 + v * v)")
    assert compiled(spec).certify().holds


# -- arithmetic -------------------------------------------------------------------------------------------------------


def test_logarithms_give_their_argument_back():
    for exponent in (0, 1, 2, 450, field.ORDER - 1, 123456789012345678):
        assert field.logarithm(field.power_of_generator(exponent)) == exponent
    oracles = Oracles(0)
    x = Number(oracles, np.array([5, 7, field.P - 1], dtype=object), np.array([5.0, 7.0, -1.0]))
    assert list(exp(log(x)).value) == list(x.value)


def test_the_logarithm_of_an_exponential_is_its_argument():
    oracles = Oracles(0)
    x = Number(oracles, np.array([5, 7], dtype=object), np.array([5.0, 7.0]))
    assert list(log(exp(x)).value) == [5, 7]
    assert list(log(exp(-x)).value) == [field.P - 5, field.P - 7]
    assert list(log(Number.fraction(oracles, 1, (1,))).value) == [0]


def test_fractions_of_exponents_are_roots():
    oracles = Oracles(0)
    square = Number.fraction(oracles, Fraction(9, 4), (1,))
    bare = Number(oracles, square.value, square.shadow)
    half = Number.fraction(oracles, Fraction(1, 2))
    assert list(value("pow", bare, half).value) == [field.root(int(square.value[0]))]
    drawn = Number(oracles, np.array([11], dtype=object), np.array([1.0]))
    third = exp(drawn * Number.fraction(oracles, Fraction(1, 3)))
    assert list((third * third * third).value) == list(exp(drawn).value)


def test_rounded_constants_are_those_of_the_spec():
    oracles = Oracles(0)
    two = value("sqrt", Number.fraction(oracles, 2))
    assert list(constant_of(oracles, Fraction(3 / 2**0.5), (1,)).value) == [
        3 * pow(int(two.value), -1, field.P) % field.P
    ]
    assert list(exp(constant_of(oracles, Fraction(np.log(0.9)), (1,))).value) == [field.fraction(Fraction(9, 10))]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("aggregation", ["wy", "tensorinv", "signature"])
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_systems_are_solved(aggregation, transposed, rows):
    rng = np.random.default_rng(rows)
    matrix = np.tril(rng.integers(0, 2**60, (rows, rows)), -1).astype(object)
    right = rng.integers(0, 2**60, (rows, 3)).astype(object)
    solved = solve(aggregation, matrix, right, transposed)
    used = matrix.T if transposed else matrix
    assert np.all((solved - used @ solved - right) % field.P == 0)


def test_an_aggregation_that_differs_is_found(monkeypatch):
    from flowc.certify import primitives

    def off(aggregation, matrix, right, transposed):
        return solve(aggregation, matrix, right, transposed) + (aggregation == "signature")

    monkeypatch.setattr(primitives, "solve", off)
    found = compiled(GATE_FIRST).certify()
    assert "signature solves a system otherwise than wy" in str(found.mismatch)


def test_a_setting_has_the_last_chunk_in_part():
    assert Setting(Oracles(0), Sizes(7, 3, 2, ()), ("wy",)).chunks == 3


@pytest.mark.parametrize("value", ["S[t].T @ (0 * q)", "v - v", "ones(K)", "3", "S[t].T @ q - S[t].T @ q"])
def test_an_output_may_be_a_constant(value):
    assert compiled(f"{GATE_FIRST}p[t] = {value}\n").certify().holds


def test_a_step_of_many_statements_is_not_certified():
    """It would take minutes; one that floats cannot solve either, whose shadows decide nothing, is certified."""
    many = DELTA.format(steps="\n".join(["S[t] = exp(g) * S[t-1]"] + ["S[t] = S[t] + k @ (v - S[t].T @ k).T"] * 60))
    assert compiled(many).certify().reason.startswith("a step of 62 statements")
    repeated = "flow f(K, V, R = 100000)\ninput q, k : K; input v : V; input b : R of scalar\nstate S : K x V\n"
    repeated += "S[t] = S[t-1]\nrepeat r in R:\n    S[t] = S[t] + b[r] * k @ v.T\no[t] = S[t].T @ q\n"
    assert "100,002 statements, repeats written out" in compiled(repeated).certify().reason
    fewer = DELTA.format(
        steps="\n".join(["S[t] = exp(g) * S[t-1]"] + ["S[t] = S[t] + 999 * k @ (v - S[t].T @ k).T"] * 29)
    )
    assert compiled(fewer).certify().mismatch is None


READ_GATE = """flow f(K, V)
input q, k : K; input v : V; input g : scalar <= 0
state P, W : K x V
P[t] = exp(g) * P[t-1] + k @ v.T
let a = P[t].T @ q
W[t] = W[t-1] @ diag({gate}) + k @ v.T
o[t] = W[t].T @ q
"""


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("sigmoid(a)", ""),
        ("sigmoid(a) * exp(g)", ""),
        ("exp(-a * a) * exp(g)", "a gate is made of several factors, some of them of what is read from a state"),
    ],
)
def test_a_gate_of_what_another_state_gives(gate, reason):
    found = compiled(READ_GATE.format(gate=gate)).certify()
    assert (found.mismatch, found.reason) == (None, reason)


@pytest.mark.parametrize(
    ("name", "right", "wrong", "place"),
    [
        ("mlstm", "n[t] = decay * n[t-1] + write * k", "n[t] = decay * n[t-1] + k", "o differs first at step 2"),
        ("mlstm", "max(logsigmoid(f) + m[t-1], i)", "max(f + m[t-1], i)", "m[T] differs first"),
        ("rwkv4", "m[t] = max(m[t-1] - w, k)", "m[t] = max(m[t-1] + w, k)", "m[T] differs first"),
        ("abc", "P[t-1] @ diag(keep)", "P[t-1]", "o differs first at step 0"),
        ("hgrn", "o[t] = h[t]", "o[t] = h[t-1]", "o differs first at step 0"),
    ],
)
def test_a_wrong_state_among_several_is_found(name, right, wrong, place):
    assert right in TEXTS[name]
    found = certify(compiled(TEXTS[name]).model, compiled(TEXTS[name].replace(right, wrong)).programs)
    assert place in str(found.mismatch)
