"""Every function of the language, before the recurrence (on an input) and after it (on a read), values and gradients.

The points cover the functions' corners: 0, ties, both sides of a threshold, arguments that overflow a naive formula.
"""

import re

import pytest
import torch
from differential.targets import TORCH, on_targets, placed, poisoned

import flowc
from flowc import reference
from flowc.semantics import load
from flowc.semantics.functions import CALLABLE, Rule

SPEC = """flow it(K, V)
input q, k : K; input v, x, y, z : V
state S : K x V
let a = {before}
S[t] = 0.5 * S[t-1] + k @ (v + a).T
let r = S[t].T @ q
o[t] = {after}
"""

# A function of x (and y, z), defined for every real argument.
EXPRESSIONS = {
    "exp": "exp(x)",
    "log": "log(x * x + 0.5)",
    "expm1": "expm1(x)",
    "log1p": "log1p(x * x)",
    "exprel": "exprel(x)",
    "sigmoid": "sigmoid(x)",
    "logsigmoid": "logsigmoid(x)",
    "softplus": "softplus(x)",
    "tanh": "tanh(x)",
    "sin": "sin(x)",
    "cos": "cos(x)",
    "relu": "relu(x)",
    "silu": "silu(x)",
    "gelu": "gelu(x)",
    "sqrt": "sqrt(x * x + 0.5)",
    "rsqrt": "rsqrt(x * x + 0.5)",
    "abs": "abs(x)",
    "min": "min(x, y)",
    "max": "max(x, y)",
    "clamp": "clamp(x, -1, y)",
    "where": "where(x < y, x * x, y)",
    "l2norm": "l2norm(x)",
    "rmsnorm": "rmsnorm(x, eps=0.01)",
    "softmax": "softmax(x)",
    "sum": "sum(x) * y",
    "norm": "norm(x) * y",
    "ones": "ones(V) + x",
    "zeros": "zeros(V) + x",
    "diag": "diag(x) @ y",
    "outer": "outer(x, y) @ z",
    "concat": "x * sum(concat(x, y))",
    "kron": "x * sum(kron(x, y) * kron(y, z))",
    # operators
    "power": "abs(x)**1.5 + x**3 + 2**y",
    "negative power": "(x * x + 1)**(-2)",
    "power of a power": "(x * x + 1)**y",
    "le": "where(x <= y, x, 2 * y)",
    "gt": "where(x > y, x, 2 * y)",
    "ge": "where(x >= y, x, 2 * y)",
    "division": "x / (2 + y * y) / 3",
    "precedence": "-x**2 + 2 * x.T @ y * z - x / 2 * 3",
    "max of numbers": "max(x, 0.5) + min(1, y)",
    "where of numbers": "where(x < 0, 0.3, 0.7) * y",
    "clamp of numbers": "clamp(x, -0.5, 0.5) + relu(0.25) + sigmoid(1) + exp(0.5) * z",
    "nested": "tanh(exp(-softplus(x)) * silu(gelu(y) + z))",
    "identity": "(I + outer(x, x)) @ y",
}

POINTS = (-30.0, -3.1, -1.0, -0.5, 0.0, 1e-9, 0.3, 0.5, 0.999, 1.0, 2.2, 25.0)


def test_every_function_is_here():
    names = {name for name, function in CALLABLE.items() if function.rule is not Rule.IDENTITY}
    assert names <= set(EXPRESSIONS)


def tensors(seed=0):
    rng = torch.Generator().manual_seed(seed)
    lead = (1, len(POINTS), 1)
    x = {n: torch.randn(*lead, 3 if n in "qk" else 4, generator=rng, dtype=torch.float64) for n in "qkvxyz"}
    x["x"][..., 0] = torch.tensor(POINTS).reshape(1, -1, 1)
    x["y"][:, ::3, :, 0] = x["x"][:, ::3, :, 0].clamp(-2, 2)  # ties
    return x


def both(spec, x, target=TORCH):
    """The compiled op's and the oracle's output and gradients; of the summed output, weighed at random."""
    dtype = target.types[0]
    weight = torch.randn(1, len(POINTS), 1, 4, generator=torch.Generator().manual_seed(1), dtype=dtype).double()
    model, op, found = load(spec, "test"), flowc.compile(spec), []
    x = {n: v.to(dtype).double() for n, v in x.items()}
    here = {n: placed(v, dtype, target.device) for n, v in x.items()}
    for run, values in (
        (lambda leaves: op(**leaves, chunk_size=5, **dict(target.options)), here),
        (lambda leaves: reference.run(model, leaves)[0]["o"], x),
    ):
        leaves = {n: v.clone().requires_grad_() for n, v in values.items()}
        with poisoned():
            o = run(leaves)
            grads = torch.autograd.grad((o * weight.to(o)).sum(), list(leaves.values()), allow_unused=True)
        made = {"o": o.detach()} | {f"d{n}": g for n, g in zip(leaves, grads, strict=True)}
        found.append({n: None if v is None else v.cpu().double() for n, v in made.items()})
    return found


def compare(found, truth, target=TORCH):
    for name, expected in truth.items():
        actual = found[name]
        if expected is None or not expected.any():
            assert actual is None or not actual.any(), name
            continue
        assert torch.isfinite(expected).all(), f"{name}: the points leave the oracle's range"
        # Up to a thousand roundings of a function's own (exp(25) has 25 in its exponent). Judged per token, as tokens
        # differ in size by exp(25); one that all but vanishes, as l2norm's gradients do, counts as a thousandth.
        scale = expected.abs().amax(-1, keepdim=True).clamp(min=1e-3 * expected.abs().max().item())
        eps = target.single if target.kernels else torch.finfo(torch.float64).eps
        assert ((actual - expected).abs() / scale).max().item() < 4500 * eps, name


@on_targets
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_before(name, target):
    x = tensors()
    if name == "exp":
        x["x"].clamp_(-30, 5)  # a state that holds exp(25) drowns what comes later, in the loop as in the chunks
    found, truth = both(SPEC.format(before=EXPRESSIONS[name], after="r"), x, target)
    compare(found, truth, target)


@on_targets
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_after(name, target):
    after = re.sub(r"\bx\b", "r", EXPRESSIONS[name])
    found, truth = both(SPEC.format(before="z", after=after), tensors(), target)
    compare(found, truth, target)


# -- of numbers --------------------------------------------------------------------------------------------------------

VECTORS = ("precedence", "identity", "negative power")  # the last is infinite at 0 for a size of 4
NUMBERS = {
    name: re.sub(r"\b([xyz])\b", r"n\1", text)
    for name, text in EXPRESSIONS.items()
    if name not in VECTORS and CALLABLE.get(name, CALLABLE["exp"]).rule in (Rule.ELEMENTWISE, Rule.CHOICE)
}


@pytest.mark.parametrize("size", [1, 4, 9])
@pytest.mark.parametrize("name", NUMBERS)
def test_functions_of_sizes_are_python_numbers(name, size):
    """Negative, around 0 and positive: no tensor is made of a number, only to be read back (which breaks a graph)."""
    spec = SPEC.format(before=f"({NUMBERS[name]}) * x", after=f"r + ({NUMBERS[name]}) * y + z")
    spec = spec.replace("let a", "let nx = (K - 4) / 2; let ny = K / 7; let nz = 1 - K; let a", 1)
    rng = torch.Generator().manual_seed(0)
    lead = (1, len(POINTS), 1)
    x = {n: torch.randn(*lead, size if n in "qk" else 4, generator=rng, dtype=torch.float64) for n in "qkvxyz"}
    found, truth = both(spec, x)
    compare(found, truth)
    source = flowc.compile(spec).source
    assert source.count(".item()") == 1  # where `check=True` says which value is out of range
    assert "torch.tensor(" not in source.split("def _advance")[1].split("# -- Triton")[0]
