"""The oracle against loops written by hand, and its functions against formulas of their own."""

from math import factorial
from pathlib import Path

import pytest
import torch
from differential.loops import LOOPS, Sizes, draw, run, start

from flowc import reference
from flowc.semantics import load

ROOT = Path(__file__).parent.parent
EPS = torch.finfo(torch.float64).eps

# Both forms do the same sums of at most K * R = 15 terms over 9 tokens in another order: each token adds a few eps, and
# a gradient passes through them twice. 2 * 9 * 15 * eps = 6e-14, and a factor of ten for the states' growth.
TOLERANCE = 10 * 2 * 9 * 15 * EPS


def spec(name):
    for folder in ("examples", "tests/cases/zoo"):
        path = ROOT / folder / f"{name}.flow"
        if path.exists():
            return load(path.read_text(), name)
    raise AssertionError(f"no spec of {name}")


def error(a, b):
    assert a.shape == b.shape
    return ((a - b).norm() / b.norm().clamp_min(1e-30)).item()


def model(text):
    return load(text, "test")


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("given_start", [False, True])
def test_the_oracle_is_the_loop(name, given_start):
    sizes, it = Sizes(), spec(name)
    x = {n: v.clone().requires_grad_() for n, v in draw(name, sizes).items()}
    first = start(name, sizes)
    if given_start:
        rng = torch.Generator().manual_seed(5)
        first = tuple(torch.randn(s.shape, generator=rng, dtype=s.dtype).requires_grad_() for s in first)
    names = [state.name for state in it.states]
    initial = dict(zip(names, first, strict=True)) if given_start else None
    outputs, final = reference.run(it, x, initial)
    (mine,) = outputs.values()
    theirs, states = run(name, x, first)
    assert error(mine, theirs) < TOLERANCE
    for state, theirs_state in zip(names, states, strict=True):
        assert error(final[state], theirs_state) < TOLERANCE

    leaves = [*x.values(), *(first if given_start else ())]
    weight = torch.randn(mine.shape, generator=torch.Generator().manual_seed(6), dtype=mine.dtype)
    losses = [
        (o * weight).sum() + sum(s.sin().sum() for s in last)
        for o, last in ((mine, [final[n] for n in names]), (theirs, states))
    ]
    grads = [torch.autograd.grad(loss, leaves, allow_unused=True) for loss in losses]
    for a, b in zip(*grads, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            assert error(a, b) < TOLERANCE


@pytest.mark.parametrize("name", ["gated_deltanet", "mlstm", "gated_delta_product", "hgrn2"])
def test_steps_are_the_run(name):
    it, x = spec(name), draw(name)
    params = {i.name for i in it.inputs if i.is_param}
    outputs, final = reference.run(it, x)
    states = None
    for t in range(Sizes().T):
        o, states = reference.step(it, {n: v if n in params else v[:, t] for n, v in x.items()}, states)
        for output, value in outputs.items():
            assert torch.equal(o[output], value[:, t])
    assert all(torch.equal(states[n], final[n]) for n in final)


def test_no_token_gives_the_start():
    it, x = spec("mlstm"), {n: v[:, :0] for n, v in draw("mlstm").items()}
    outputs, final = reference.run(it, x)
    assert outputs["o"].shape == (2, 0, 2, 4)
    assert (final["m"] == -torch.inf).all()


def test_the_previous_token_is_zero_before_the_first_and_carried():
    it = model(
        "flow shift(K, V)\ninput k : K; input v : V\nstate S : K x V\n"
        "S[t] = S[t-1] + (k + 2 * k[t-1]) @ v.T\no[t] = S[t].T @ k"
    )
    torch.manual_seed(0)
    k, v = torch.randn(1, 6, 1, 3).double(), torch.randn(1, 6, 1, 2).double()
    outputs, final = reference.run(it, {"k": k, "v": v})
    before = torch.cat([torch.zeros_like(k[:, :1]), k[:, :-1]], 1)
    S = torch.einsum("bthk,bthv->bthkv", k + 2 * before, v).cumsum(1)
    assert error(outputs["o"], torch.einsum("bthkv,bthk->bthv", S, k)) < TOLERANCE
    assert torch.equal(final["k_before"], k[:, -1])
    _, middle = reference.run(it, {"k": k[:, :4], "v": v[:, :4]})
    rest, _ = reference.run(it, {"k": k[:, 4:], "v": v[:, 4:]}, middle)
    assert torch.equal(rest["o"], outputs["o"][:, 4:])


def test_fewer_heads_are_shared_by_groups():
    it = spec("linear_attention")
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 5, 2, 3), torch.randn(1, 5, 2, 3), torch.randn(1, 5, 6, 4)
    whole, _ = reference.run(it, {"q": q, "k": k, "v": v})
    spread = {"q": q[:, :, [0, 0, 0, 1, 1, 1]], "k": k[:, :, [0, 0, 0, 1, 1, 1]], "v": v}
    assert torch.equal(whole["o"], reference.run(it, spread)[0]["o"])
    with pytest.raises(ValueError, match="q has 4 heads"):
        reference.run(it, {"q": torch.randn(1, 5, 4, 3), "k": k, "v": v})


def test_half_precision_is_computed_in_float32():
    it, x = spec("gated_deltanet"), {n: v.to(torch.bfloat16) for n, v in draw("gated_deltanet").items()}
    outputs, final = reference.run(it, x)
    assert outputs["o"].dtype == final["S"].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.pop("g"), "missing input 'g'"),
        (lambda x: x.update(z=x["g"]), "unknown input 'z'; declared: q, k, v, g, beta"),
        (lambda x: x.update(g=x["q"]), "g has shape .*; expected 3 axes"),
        (lambda x: x.update(k=x["k"][..., :3]), "k has 3 entries along K; expected 5"),
        (lambda x: x.update(v=x["v"][:, :4]), "inputs differ in batch or length"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, words):
    x = draw("gated_deltanet")
    change(x)
    with pytest.raises(ValueError, match=words):
        reference.run(spec("gated_deltanet"), x)


def test_a_misshapen_or_unknown_start_is_refused():
    x = draw("gated_deltanet")
    with pytest.raises(ValueError, match=r"state S has shape \(2, 2, 4, 5\); expected \(2, 2, 5, 4\)"):
        reference.run(spec("gated_deltanet"), x, {"S": torch.zeros(2, 2, 4, 5)})
    with pytest.raises(ValueError, match="unknown state 'U'; states: S"):
        reference.run(spec("gated_deltanet"), x, {"U": torch.zeros(2, 2, 5, 4)})


# -- the functions of the language ------------------------------------------------------------------------------------


def apply(expression, x, shape="K", outer=""):
    """`expression` of an input x of `shape`, as an output, beside a state that is nothing but required."""
    it = model(
        f"flow f(K{outer})\ninput x : {shape}; input y : K\nstate h : K\nh[t] = h[t-1] + y\n"
        f"let r = {expression}\no[t] = r"
    )
    k = x.shape[-1] if shape == "K" else 4
    y = torch.zeros(1, x.shape[1], 1, k, dtype=x.dtype)
    return reference.run(it, {"x": x, "y": y})[0]["o"]


def points(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1).requires_grad_()


FORMULAS = {
    "exp(x)": torch.exp,
    "log(x*x + 1)": lambda x: torch.log(x * x + 1),
    "expm1(x)": lambda x: torch.exp(x) - 1,
    "log1p(x*x)": lambda x: torch.log(1 + x * x),
    "sigmoid(x)": lambda x: 1 / (1 + torch.exp(-x)),
    "logsigmoid(x)": lambda x: -torch.log(1 + torch.exp(-x)),
    "softplus(x)": lambda x: torch.log(1 + torch.exp(x)),
    "tanh(x)": lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1),
    "sin(x) + cos(x)": lambda x: 2**0.5 * torch.sin(x + torch.pi / 4),
    "relu(x)": lambda x: (x + x.abs()) / 2,
    "silu(x)": lambda x: x / (1 + torch.exp(-x)),
    "gelu(x)": lambda x: x / 2 * (1 + torch.erf(x / 2**0.5)),
    "sqrt(x*x + 1) * rsqrt(x*x + 4)": lambda x: ((x * x + 1) / (x * x + 4)) ** 0.5,
    "abs(x)": lambda x: x * torch.sign(x),
    "min(x, 0.5) + max(x, 0.5)": lambda x: x + 0.5,
    "clamp(x, -1, 0.7)": lambda x: ((x + 1).abs() - (x - 0.7).abs() - 0.3) / 2,
    "where(x < 0.5, x*x, 2*x)": lambda x: torch.stack([a * a if a < 0.5 else 2 * a for a in x.flatten()]).reshape(
        x.shape
    ),
    "-2**x": lambda x: -torch.exp(x * torch.log(torch.tensor(2.0, dtype=x.dtype))),
    "x / 2 * 3": lambda x: 1.5 * x,
    "exprel(x)": lambda x: (torch.exp(x) - 1) / x,
}


@pytest.mark.parametrize("expression", FORMULAS)
def test_scalar_functions(expression):
    x = points(-3.1, -1.4, -0.3, 0.2, 0.9, 2.2)
    mine, theirs = apply(expression, x, "scalar"), FORMULAS[expression](x)
    # A dozen operations; the formulas with a difference of nearly equal terms lose up to 1/0.2 of an eps more.
    assert error(mine, theirs) < 100 * EPS
    a, b = (torch.autograd.grad(v.sum(), x)[0] for v in (mine, theirs))
    assert error(a, b) < 100 * EPS


def test_ties_and_corners():
    def slope(expression, at):
        x = points(at)
        return torch.autograd.grad(apply(expression, x, "scalar").sum(), x)[0].item()

    assert slope("max(x, 1)", 1.0) == 0.5
    assert slope("min(x, 1)", 1.0) == 0.5
    assert slope("clamp(x, 0, 1)", 1.0) == 0.5
    assert slope("relu(x)", 0.0) == 0.0
    assert slope("abs(x)", 0.0) == 0.0
    assert slope("exprel(x)", 0.0) == 0.5


def test_exprel_near_zero():
    x = points(-1e-3, -1e-9, 0.0, 1e-20, 1e-9, 1e-5, 0.999, 1.001)
    value = apply("exprel(x)", x, "scalar")
    slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    series = x.detach().flatten()
    exact = sum(series**n / float(factorial(n + 1)) for n in range(25))
    derivative = sum(n * series ** (n - 1) / float(factorial(n + 1)) for n in range(1, 25))
    assert error(value.flatten(), exact) < 10 * EPS
    assert error(slope.flatten(), derivative) < 10 * EPS
    assert torch.autograd.gradcheck(lambda y: apply("exprel(x)", y, "scalar"), points(-2.0, -0.4, 0.0, 0.7, 3.0))


@pytest.mark.parametrize(
    ("expression", "formula"),
    [
        ("l2norm(x)", lambda x: x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()),
        ("l2norm(x, eps=0.01)", lambda x: x / (x.pow(2).sum(-1, keepdim=True) + 0.01).sqrt()),
        ("rmsnorm(x)", lambda x: x / (x.pow(2).sum(-1, keepdim=True) / x.shape[-1] + 1e-6).sqrt()),
        ("softmax(x)", lambda x: x.exp() / x.exp().sum(-1, keepdim=True)),
        ("norm(x) * x", lambda x: x.pow(2).sum(-1, keepdim=True).sqrt() * x),
        ("sum(x) * ones(K)", lambda x: x.sum(-1, keepdim=True).expand(x.shape)),
        ("x + zeros(K)", lambda x: x),
        ("(I + outer(x, x)) @ x", lambda x: x * (1 + x.pow(2).sum(-1, keepdim=True))),
        ("diag(x) @ x", lambda x: x * x),
        ("x.T @ x", lambda x: x.pow(2).sum(-1)),
        ("x / sum(x * x)", lambda x: x / x.pow(2).sum(-1, keepdim=True)),
        ("concat(x, 2 * x)", lambda x: torch.cat([x, 2 * x], -1)),
        ("kron(x, x)", lambda x: torch.einsum("bthi,bthj->bthij", x, x).flatten(-2)),
    ],
)
def test_vector_functions(expression, formula):
    x = torch.randn(1, 3, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mine, theirs = apply(expression, x), formula(x)
    assert error(mine, theirs) < 20 * EPS
    a, b = (torch.autograd.grad(v.sin().sum(), x)[0] for v in (mine, theirs))
    assert error(a, b) < 50 * EPS


def test_head_heads_and_sizes_are_numbers():
    it = model(
        "flow f(K, tau = 4)\ninput x : K\nstate h : K\nh[t] = h[t-1] + x\no[t] = (head + 10 * heads + K / tau) * x"
    )
    outputs, _ = reference.run(it, {"x": torch.ones(1, 1, 3, 8)})
    assert outputs["o"][0, 0, :, 0].tolist() == [32.0, 33.0, 34.0]
