"""Layers over every example: shapes, gradients, one token at a time, sequences cut and packed, and what wraps modules.

Tolerances: float64 where the op's own numbers are compared with themselves in another order, 1e-9 of outputs of size 1.
"""

import os
import re

import pytest
import torch
from differential.harness import EXAMPLES, model_of, op_of
from torch.utils.checkpoint import checkpoint

from flowc.nn import FlowLayer, LayerState

HIDDEN, HEADS, LENGTH = 12, 2, 11
NAMES = sorted(EXAMPLES)


def layer_of(name, **options):
    torch.manual_seed(0)
    recurrence = op_of(name).compilation.recurrence
    others = [d.name for d in model_of(name).dimensions if d.value is None and d.name not in recurrence.sides]
    sizes = {n: 2 for n in others} | ({"K": 3} if name in ("based", "rebased") else {})
    return FlowLayer(op_of(name), HIDDEN, HEADS, sizes=sizes, **options).double()


def hidden(batch=2, length=LENGTH):
    return torch.randn(batch, length, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_a_layer(name):
    """With gradients for all that is learnt."""
    layer = layer_of(name)
    y = layer(hidden())
    assert y.shape == (2, LENGTH, HIDDEN)
    y.square().sum().backward()
    unused = [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not unused
    assert all(p.grad.abs().sum() > 0 for n, p in layer.named_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_tokens_one_by_one(name):
    layer, x = layer_of(name), hidden()
    whole, state = layer(x), None
    for t in range(LENGTH):
        y, state = layer.step(x[:, t], state)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mamba3", "gated_deltanet", "mlstm", "momentum_delta"])
def test_sequences_are_cut_and_go_on(name):
    layer, x = layer_of(name, output_gate=True), hidden()
    first, state = layer(x[:, :4], return_state=True)
    assert isinstance(state, LayerState)
    rest = layer(x[:, 4:], state)
    torch.testing.assert_close(torch.cat((first, rest), 1), layer(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mamba3", "gla", "lowrank_delta"])
def test_sequences_are_packed(name):
    """None sees the one before it, an empty one among them."""
    layer, x = layer_of(name), hidden(1, 13)
    cuts = torch.tensor([0, 5, 5, 6, 13])
    apart = [layer(x[:, a:b]) for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True) if b > a]
    torch.testing.assert_close(layer(x, cu_seqlens=cuts), torch.cat(apart, 1), rtol=1e-9, atol=1e-9)


def test_options():
    plain = layer_of("gla", conv_size=0, output_norm=False)
    assert plain.conv is plain.norm is plain.gate is None
    assert plain(hidden()).shape == (2, LENGTH, HIDDEN)
    assert layer_of("deltanet").normalized == {"k"}
    assert layer_of("momentum_delta").normalized == {"k"}  # read by one state, written by another
    assert layer_of("gla").normalized == frozenset()
    assert "deltanet, hidden_size=12, heads=2, K=6, V=6" in repr(layer_of("deltanet"))


@pytest.mark.parametrize("conv_size", [0, 4])
def test_under_autocast_an_op_gets_what_it_multiplies_in_one_type(conv_size):
    """That of autocast: in float32 its products would be made so too; parameters have gradients of their own type."""
    layer = layer_of("gated_deltanet", conv_size=conv_size).float()
    x = hidden().float()
    with torch.autocast("cpu", torch.bfloat16):
        given, _ = layer.tensors(x, None, None)
        y = layer(x)
    assert {n: given[n].dtype for n in "qkv"} == dict.fromkeys("qkv", torch.bfloat16)
    y.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())
    torch.testing.assert_close(y.float(), layer(x), rtol=0.1, atol=0.05)  # of numbers of size 1, some roundings of 2^-8


def test_gates_start_mild():
    """A fresh layer's log decays are near 0, and its ranges are the spec's."""
    layer = layer_of("kda")
    given, _ = layer.tensors(hidden(), None, None)
    assert given["g"].max() <= 0
    assert given["g"].mean() > -0.1
    assert 0 < given["beta"].min() < given["beta"].max() < 1
    torch.testing.assert_close(given["k"].norm(dim=-1), torch.ones(2, LENGTH, HEADS, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gla", {"sizes": {"N": 3}}, "gla: sizes has N; its symbolic dimensions are K, V"),
        ("lowrank_delta", {}, "lowrank_delta: R is no side of a state; give it, as sizes={'R': 2}"),
        ("gla", {"heads": 5}, "gla: hidden_size = 12 is no multiple of heads = 5, and K is not given"),
        ("gla", {"normalize": ("w",)}, "gla has no input 'w' to normalize"),
        ("gla", {"heads": 0}, "heads is 0; expected an integer from 1"),
        ("gla", {"heads": 2.0}, "heads is 2.0; expected an integer from 1"),
    ],
)
def test_what_does_not_fit(name, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        FlowLayer(op_of(name), HIDDEN, **{"heads": HEADS, **options})


def test_what_is_no_op_and_what_are_no_hidden_vectors():
    with pytest.raises(TypeError, match=r"a layer takes an op, as flowc\.compile gives it, not str"):
        FlowLayer("examples/gla.flow", HIDDEN, HEADS)
    for shape in ((LENGTH, HIDDEN), (2, LENGTH, HIDDEN + 1)):
        with pytest.raises(ValueError, match=re.escape(f"x has shape {list(shape)}; expected [B, T, {HIDDEN}]")):
            layer_of("gla")(torch.zeros(shape))


def test_wrapped():
    """Under torch.compile, under checkpointing and in DistributedDataParallel: the same gradients."""
    x = hidden().float()

    def gradients(wrap):
        layer = layer_of("gated_deltanet").float()
        wrap(layer)(x).square().sum().backward()
        return [p.grad for p in layer.parameters()]

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        plain = gradients(lambda layer: layer)
        for wrap in (
            torch.nn.parallel.DistributedDataParallel,
            lambda layer: lambda x: checkpoint(layer, x, use_reentrant=False),
            lambda layer: torch.compile(layer, backend="aot_eager", fullgraph=True),
        ):
            # the same operations in the same order; a compiler may add parts up in another, each rounded to 1.2e-7
            for one, other in zip(plain, gradients(wrap), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    finally:
        torch.distributed.destroy_process_group()
