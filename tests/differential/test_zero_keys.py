"""Keys that are exactly zero, where the exact flow of the delta rule divides 0 by 0 as it is written in papers."""

import torch
from differential.harness import errors, op_of
from differential.loops import Sizes, draw, run, start
from differential.targets import on_targets

NAME, SIZES = "delta_exact", Sizes(T=40, K=6, V=5)


def drawn(dtype):
    x = {n: v.to(dtype) for n, v in draw(NAME, SIZES).items()}
    x["k"][:, [0, 7, 8, 39]] = 0  # the first token, two of a chunk, the last
    return {n: v.requires_grad_() for n, v in x.items()}


def with_gradients(o, state, x):
    rng = torch.Generator().manual_seed(3)
    weights = [torch.randn(y.shape, generator=rng, dtype=torch.float64) for y in (o, state)]
    loss = sum((y * w.to(y)).sum() for y, w in zip((o, state), weights, strict=True))
    grads = torch.autograd.grad(loss, list(x.values()))
    return {"o": o, "S[T]": state} | {f"d{n}": g for n, g in zip(x, grads, strict=True)}


@on_targets
def test_values_and_gradients_are_the_loop_s(target):
    dtype = target.types[0]
    exact = drawn(torch.float64)
    o, (state,) = run(NAME, exact, start(NAME, SIZES))
    truth = {n: v.detach() for n, v in with_gradients(o, state, exact).items()}
    assert all(v.isfinite().all() for v in truth.values())
    assert truth["dk"][:, [0, 7, 8, 39]].abs().min() > 0  # a key of zero is moved by what it would write

    x = {n: v.detach().to(target.device, dtype).requires_grad_() for n, v in drawn(torch.float64).items()}
    o, state = op_of(NAME)(**x, chunk_size=16, output_final_state=True, **dict(target.options))
    found = {n: v.detach().cpu() for n, v in with_gradients(o, state, x).items()}
    assert all(v.isfinite().all() for v in found.values())
    off = errors(truth, found)
    # 40 tokens of sums of at most 16 rows and 6 keys: some hundred roundings, ten times that for what grows.
    assert max(off.values()) < 1e3 * torch.finfo(dtype).eps, off
