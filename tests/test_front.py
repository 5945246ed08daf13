"""What `import flowc` gives: names that load what they need when they are asked for, and specs as paths or texts."""

import copy
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from differential.harness import Case, draw, model_of, op_of

import flowc
from flowc.source import Source, opened

ROOT = Path(__file__).parent.parent
SPEC = """flow it(K, V)
input q, k : K; input v : V; {declared}
state S : K x V
S[t] = {gate} S[t-1] + k @ v.T
o[t] = S[t].T @ q
"""

FRESH = """
import sys, flowc
assert {"compile", "Op", "FlowError", "load", "reference", "verify"} <= set(dir(flowc))
assert flowc.load("examples/kda.flow").name == "kda"
assert not {"torch", "sympy"} & set(sys.modules)
model = flowc.load("examples/kda.flow")
import torch
inputs = {i.name: torch.rand(1, 3, 1, *(2 for _ in i.shape.sizes)) for i in model.inputs}
outputs, states = flowc.reference.run(model, inputs)
assert outputs["o"].shape == (1, 3, 1, 2)
assert flowc.verify.verify(flowc.compile("examples/kda.flow")).holds
try:
    flowc.no_such_name
except AttributeError as error:
    print(error)
"""


def test_names_load_when_they_are_asked_for():
    done = subprocess.run([sys.executable, "-c", FRESH], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "module 'flowc' has no attribute 'no_such_name'\n", done.stderr


# -- a spec as a path or a text ----------------------------------------------------------------------------------------


def test_paths_and_texts(tmp_path):
    path = ROOT / "examples/kda.flow"
    assert opened(str(path)) == opened(path) == Source(str(path), path.read_text())
    assert opened(path.read_text()) == Source("<text>", path.read_text())
    marked = tmp_path / "marked.flow"
    marked.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark, as some editors put it
    assert flowc.load(marked).canonical == flowc.load(path).canonical


@pytest.mark.parametrize("take", [flowc.compile, flowc.load])
@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("", ValueError, "the spec is empty"),
        ("  ", ValueError, "the spec is empty"),
        (None, TypeError, "a path or a text, not NoneType"),
        (b"flow", TypeError, "a path or a text, not bytes"),
        ("nowhere.flow", FileNotFoundError, r"nowhere\.flow"),
        ("flow f(K); input q : K", ValueError, r"no file 'flow f\(K\).*end it with a line break"),
        ("S[t] = S[t-1];" * 99, ValueError, r"no file 'S\[t\].*\.\.\.'; .*end it with a line break"),
        ("\n", flowc.FlowError, "F101"),
    ],
)
def test_what_is_no_spec(take, spec, error, words):
    with pytest.raises(error, match=words):
        take(spec)


def test_a_file_that_is_not_utf_8(tmp_path):
    path = tmp_path / "latin.flow"
    path.write_bytes("flow f(K)  # Gedächtnis\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.flow: not UTF-8: byte 16 is 0xe4"):
        flowc.compile(path)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "gate", "advice"),
    [
        ("input a : scalar", "a *", "`input a : scalar in (0, 1]`, or"),
        ("param a : K", "diag(a) @", "`param a : K in (0, 1]`, or"),
        ("input a, b : scalar", "a * b *", "`input a : scalar in (0, 1]` and `input b : scalar in (0, 1]`, or"),
        ("input a : scalar", "tanh(a) *", "`input a : scalar in (0, 1]`, or"),
        ("input a : scalar", "exp(a) * (a - 1) *", "declare ranges that keep it above 0"),
        ("input a : scalar in (0, 1]", "(1 - a) *", "declare ranges that keep it above 0"),
    ],
)
def test_a_gate_of_unknown_sign_is_told_what_to_declare(declared, gate, advice):
    with pytest.warns(UserWarning, match="W204") as found:
        flowc.compile(SPEC.format(declared=declared, gate=gate))
    assert advice in str(found[0].message)
    if advice.endswith("or"):
        flowc.compile(SPEC.format(declared=f"{declared} in (0, 1]", gate=gate))  # the advice helps


@pytest.mark.parametrize(("declared", "told"), [("(0, 1]", "W202"), ("[0.1, 1]", ""), ("[0, 1]", "W204")])
def test_a_gate_that_may_come_near_0_is_a_warning_where_its_gradient_is_a_quotient(declared, told):
    """In chunks it is divided by the gate, token by token not."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        flowc.compile(SPEC.format(declared=f"input a : scalar in {declared}", gate="a *"))
    assert re.findall(r"W\d+", " ".join(str(w.message) for w in found)) == ([told] if told else [])


def test_what_has_no_compiled_form_runs_as_its_error_says():
    path = ROOT / "tests/cases/zoo/squashed_in_rounds.flow"
    with pytest.raises(flowc.FlowError) as error:
        flowc.compile(path)
    (found,) = error.value.diagnostics
    assert "`flowc.reference.run(flowc.load(SPEC), INPUTS)`" in found.help
    model = flowc.load(path)
    sizes = {d.name: d.value or 3 for d in model.dimensions}
    assert "a number in the header" in found.help
    inputs = {i.name: torch.rand(1, 2, 1, *(s.value(sizes) for s in i.shape.sizes)) for i in model.inputs}
    outputs, _ = flowc.reference.run(model, inputs)
    assert all(torch.isfinite(o).all() for o in outputs.values())


# -- copies ------------------------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op
        self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, **x):
        return self.scale * self.op(**x)


def test_an_op_is_copied_and_pickled(tmp_path):
    """So can a module that holds it; the options come along."""
    x = draw(model_of("kda"), Case())
    op = flowc.compile(ROOT / "examples/kda.flow", chunk_size=5)
    layer = Layer(op)
    torch.save(layer, tmp_path / "layer.pt")
    copies = [
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(tmp_path / "layer.pt", weights_only=False),
    ]
    for other in copies:
        assert other.scale is not layer.scale
        assert (other.op.source, other.op.spec) == (op.source, op.spec)
        assert torch.equal(other(**x), layer(**x))
    assert copy.copy(op) is copy.deepcopy(op) is op
    assert op.source != op_of("kda").source


LOAD_ELSEWHERE = """
import pickle, sys, torch
op, x, o = pickle.load(open(sys.argv[1], "rb"))
assert torch.equal(op(**x), o) and op.explain()
"""


def test_a_pickled_op_is_compiled_where_it_is_loaded(tmp_path):
    """Another process, which has neither the file nor the module."""
    path = tmp_path / "kda.flow"
    path.write_text((ROOT / "examples/kda.flow").read_text())
    op, x = flowc.compile(path), draw(model_of("kda"), Case())
    (tmp_path / "op.pickle").write_bytes(pickle.dumps((op, x, op(**x))))
    path.unlink()
    command = [sys.executable, "-c", LOAD_ELSEWHERE, tmp_path / "op.pickle"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
