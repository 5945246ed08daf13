"""The functions of the language on values `[.., rows, cols]`, a vector being a column or a row.

In: torch tensors, one per argument. Out: tables by the names that a Model uses, with the derivatives that the language
page fixes (ties of max split evenly, relu'(0) = abs'(0) = 0). Refuses nothing: a checked Model fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def exprel(x: Tensor) -> Tensor:
    """`(exp(x) - 1) / x`, 1 at 0; any shape. Value and derivative are accurate to a few units in the last place.

    Up to |x| = 1 it is the series sum x^n / (n + 1)!, cut after n = 20 where the next term is below 1e-21; beyond,
    neither the quotient nor its derivative loses more than a factor of two to cancellation.
    """
    small = x.abs() <= 1
    near = torch.where(small, x, 0.0)
    series = torch.ones_like(x)
    for n in range(21, 1, -1):
        series = 1 + near * series / n
    far = torch.where(small, 1.0, x)
    return torch.where(small, series, torch.expm1(far) / far)


def _softplus(x: Tensor) -> Tensor:
    # torch's own softplus is the identity above 20, which is off by 2e-9.
    return -torch.nn.functional.logsigmoid(-x)


def _clamp(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    # As min and max define it, so that ties split evenly here too; torch.clamp gives a tie to x.
    return torch.minimum(torch.maximum(x, low), high)


def _diag(a: Tensor) -> Tensor:
    return torch.diag_embed(a.flatten(-2))


def _kron(a: Tensor, b: Tensor) -> Tensor:
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.flatten(-4, -3).flatten(-2)


def _sum(x: Tensor) -> Tensor:
    return x.sum((-2, -1), keepdim=True)


def _norm(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    return length


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x.flatten(-2), -1).reshape(x.shape)


def _l2norm(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(_sum(x * x) + eps)


def _rmsnorm(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt((x * x).mean((-2, -1), keepdim=True) + eps)


NORMS: Mapping[str, Callable[[Tensor, float], Tensor]] = {"l2norm": _l2norm, "rmsnorm": _rmsnorm}

OPERATORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "@": torch.matmul,
    "**": torch.pow,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
}

FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "clamp": _clamp,
    "cos": torch.cos,
    "diag": _diag,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "exprel": exprel,
    "gelu": torch.nn.functional.gelu,
    "kron": _kron,
    "log": torch.log,
    "log1p": torch.log1p,
    "logsigmoid": torch.nn.functional.logsigmoid,
    "max": torch.maximum,
    "min": torch.minimum,
    "norm": _norm,
    "outer": lambda a, b: a @ b.mT,
    "relu": torch.relu,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "sin": torch.sin,
    "softmax": _softmax,
    "softplus": _softplus,
    "sqrt": torch.sqrt,
    "sum": _sum,
    "tanh": torch.tanh,
    "where": torch.where,
}
