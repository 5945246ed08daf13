"""Arguments and options that do not fit: each error names the argument, what it is and what was expected."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from differential.harness import Case, draw, model_of, op_of

import flowc

ROOT = Path(__file__).parent.parent.parent


def inputs(name="kda", **case):
    return {n: x.float() for n, x in draw(model_of(name), Case(**case)).items()}


def test_a_missing_argument():
    x = inputs()
    del x["beta"]
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'beta'"):
        op_of("kda")(**x)


def test_an_unknown_argument():
    x = inputs()
    with pytest.raises(TypeError, match=r"kda: there is no argument `z`; there are q, k, v, g, beta, initial_state, "):
        op_of("kda")(**x, z=torch.zeros(1))
    with pytest.raises(TypeError, match=r"`initial_state`; there are q, k, v, g, beta, state, state_indices, backend$"):
        op_of("kda").step(**{n: v[:, 0] for n, v in x.items()}, initial_state=None)


@pytest.mark.parametrize("function", ["__call__", "reference"])
@pytest.mark.parametrize(
    ("offsets", "error", "words"),
    [
        ([0, 23], TypeError, r"`cu_seqlens` is list; expected a tensor \[N \+ 1\]"),
        (torch.tensor([0.0, 23.0]), TypeError, r"`cu_seqlens` has dtype torch.float32; expected torch.int32 or"),
        (torch.tensor([False, True]), TypeError, r"`cu_seqlens` has dtype torch.bool; expected torch.int32 or"),
        (torch.tensor(23), ValueError, r"`cu_seqlens` has shape \[\]; expected \[N \+ 1\]"),
        (torch.tensor([[0, 23]]), ValueError, r"`cu_seqlens` has shape \[1, 2\]; expected \[N \+ 1\]"),
        (torch.tensor([], dtype=torch.long), ValueError, r"`cu_seqlens` has shape \[0\]; expected \[N \+ 1\]"),
        (torch.tensor([0, 23], device="meta"), ValueError, r"`cu_seqlens` is on meta; expected cpu, where `v` is"),
        (torch.tensor([1, 23]), ValueError, r"`cu_seqlens` begins with 1; expected 0"),
        (torch.tensor([0, 9, 7, 23]), ValueError, r"`cu_seqlens` falls: 7 follows 9 at index 2; expected offsets"),
        (torch.tensor([0, 22]), ValueError, r"`cu_seqlens` ends with 22; expected 23, the tokens of `v`"),
        (torch.tensor([0, 24]), ValueError, r"`cu_seqlens` ends with 24; expected 23, the tokens of `v`"),
        (torch.tensor([0]), ValueError, r"`cu_seqlens` ends with 0; expected 23, the tokens of `v`"),
    ],
)
def test_offsets_that_do_not_fit(function, offsets, error, words):
    with pytest.raises(error, match="kda: " + words):
        getattr(op_of("kda"), function)(**inputs(batch=1), cu_seqlens=offsets)


def test_packed_sequences_are_one_batch_entry_with_a_state_each():
    offsets = torch.tensor([0, 5, 23])
    with pytest.raises(ValueError, match=r"kda: `v` has batch size 2; expected 1, as `cu_seqlens` packs along T"):
        op_of("kda")(**inputs(), cu_seqlens=offsets)
    words = r"kda: `initial_state` has shape \[1, 2, 5, 4\]; expected \[N, H, K, V\] = \[2, 2, 5, 4\]"
    with pytest.raises(ValueError, match=words):
        op_of("kda")(**inputs(batch=1), initial_state=torch.zeros(1, 2, 5, 4), cu_seqlens=offsets)
    with pytest.raises(TypeError, match=r"kda: there is no argument `cu_seqlens`; there are q, k, v, g, beta, state, "):
        op_of("kda").step(**{n: x[:, 0] for n, x in inputs().items()}, cu_seqlens=offsets)


def test_offsets_changed_in_place_are_read_again():
    x, offsets = inputs(batch=1), torch.tensor([0, 5, 23])
    first = op_of("kda")(**x, cu_seqlens=offsets)
    offsets[1] = 9
    second = op_of("kda")(**x, cu_seqlens=offsets)
    assert not torch.equal(first, second)
    assert torch.equal(second, op_of("kda")(**x, cu_seqlens=torch.tensor([0, 9, 23])))
    offsets[1] = 24
    with pytest.raises(ValueError, match=r"`cu_seqlens` falls: 23 follows 24 at index 2"):
        op_of("kda")(**x, cu_seqlens=offsets)


def test_an_unknown_option():
    with pytest.raises(TypeError, match=r"kda: there is no argument `chunk_length`; .* chunk_size"):
        op_of("kda")(**inputs(), chunk_length=3)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'chunk_length'"):
        flowc.compile(ROOT / "examples/kda.flow", chunk_length=3)


# B 2, T 23, H 2, K 5, V 4.
@pytest.mark.parametrize(
    ("name", "change", "error", "words"),
    [
        ("q", lambda x: x[..., 0], ValueError, r"`q` has shape \[2, 23, 2\]; expected \[B, T, H, K\]"),
        ("k", lambda x: x[..., :3], ValueError, r"`k` has shape \[2, 23, 2, 3\]; expected .* = \[2, 23, 2, 5\]"),
        ("k", lambda x: x[:, :9], ValueError, r"`k` has shape \[2, 9, 2, 5\]; expected .* = \[2, 23, 2, 5\]"),
        ("q", lambda x: x[..., :3], ValueError, r"`k` has shape .*; expected .* = \[.*, 3\], K as of `q`"),
        ("v", lambda x: x[:, :9], ValueError, r"`q` has .*; expected .* = \[2, 9, 2, \*\], B and T as of `v`"),
        ("v", lambda x: x[..., :0], ValueError, r"V is 0; expected a size from 1"),
        ("v", lambda x: x[0], ValueError, r"`v` has shape \[23, 2, 4\]; expected \[B, T, H, V\]"),
        ("beta", lambda x: x[:1], ValueError, r"`beta` has shape \[1, 23, 2\]; expected \[B, T, H\] = \[2, 23, 2\]"),
        ("beta", lambda x: x[:, :, :1], ValueError, r"`beta` has shape \[2, 23, 1\]; expected .* = \[2, 23, 2\]"),
        ("q", lambda x: x.repeat(1, 1, 2, 1)[:, :, :3], ValueError, r"`q` has 3 heads; expected a divisor of 2"),
        ("q", lambda x: x.long(), TypeError, r"`q` has dtype torch.int64; expected a floating one"),
        ("g", lambda x: x.to(torch.complex64), TypeError, r"`g` has dtype torch.complex64; expected a floating one"),
        ("g", lambda x: x.tolist(), TypeError, r"`g` is list; expected a tensor \[B, T, H, K\]"),
        ("v", lambda x: None, TypeError, r"`v` is NoneType; expected a tensor \[B, T, H, V\]"),
        ("q", lambda x: x.to("meta"), ValueError, r"`q` is on meta; expected cpu, where `v` is"),
    ],
)
def test_an_input_that_does_not_fit(name, change, error, words):
    x = inputs()
    x[name] = change(x[name])
    with pytest.raises(error, match="kda: " + words):
        op_of("kda")(**x)


@pytest.mark.parametrize(
    ("start", "error", "words"),
    [
        (torch.zeros(2, 2, 4, 5), ValueError, r"has shape \[2, 2, 4, 5\]; expected \[B, H, K, V\] = \[2, 2, 5, 4\]"),
        (torch.zeros(2, 5, 4), ValueError, r"has shape \[2, 5, 4\]; expected .* = \[2, 2, 5, 4\]"),
        (torch.zeros(2, 2, 5, 4, device="meta"), ValueError, r"is on meta; expected cpu"),
        (torch.zeros(2, 2, 5, 4, dtype=torch.int32), TypeError, r"has dtype torch.int32"),
        (0.0, TypeError, r"is float; expected a tensor"),
    ],
)
def test_a_start_that_does_not_fit(start, error, words):
    with pytest.raises(error, match="kda: `initial_state` " + words):
        op_of("kda")(**inputs(), initial_state=start)


@pytest.mark.parametrize("name", ["mamba2", "hgrn2"])
def test_a_param_that_does_not_fit(name):
    x = inputs(name)
    param = next(i.name for i in model_of(name).inputs if i.is_param)
    for value in (x[param][:1], x[param][None]):
        with pytest.raises(ValueError, match=rf"{name}: `{param}` has shape .*; expected \[H.*\] = \[2.*\]"):
            op_of(name)(**(x | {param: value}))


def test_a_list_that_does_not_fit():
    x = inputs("gated_delta_product")
    x["v"] = x["v"][:, :, :, :2]
    with pytest.raises(ValueError, match=r"gated_delta_product: `\w+` has shape .*; expected \[B, T, H, R"):
        op_of("gated_delta_product")(**x)


def test_a_rank_fixed_in_the_header():
    x = inputs("by_hand")
    x["beta"] = x["beta"][..., :2]
    with pytest.raises(ValueError, match=r"`beta` has shape \[2, 23, 2, 2\]; expected .* = \[2, 23, 2, 3\]"):
        op_of("by_hand")(**x)


def test_a_token_that_does_not_fit_a_step():
    x = {n: v[:, 0] for n, v in inputs().items()}
    with pytest.raises(ValueError, match=r"`k` has shape \[2, 2, 4\]; expected \[B, H, K\] = \[2, 2, 5\]"):
        op_of("kda").step(**(x | {"k": x["k"][..., :4]}))
    with pytest.raises(ValueError, match=r"`state` has shape \[2, 2, 4, 5\]; expected \[B, H, K, V\]"):
        op_of("kda").step(**x, state=torch.zeros(2, 2, 4, 5))


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"chunk_size": 0}, r"chunk_size is 0"),
        ({"chunk_size": -3}, r"chunk_size is -3"),
        ({"chunk_size": 1.5}, r"chunk_size is 1\.5"),
        ({"chunk_size": True}, r"chunk_size is True"),
        ({"chunk_size": torch.tensor(5.0)}, r"chunk_size is tensor\(5\.\)"),
        ({"chunk_size": "16"}, r"chunk_size is '16'"),
        ({"aggregation": "magic"}, r"aggregation is 'magic'.*'wy'.*'tensorinv'.*'signature'"),
        ({"schedule": "merged"}, r"schedule is 'merged'.*'split'.*'fused'"),
        ({"backend": "cuda"}, r"backend is 'cuda'.*'torch'.*'triton'"),
    ],
)
def test_an_option_that_is_not_allowed(option, words):
    with pytest.raises(ValueError, match=words):
        op_of("kda")(**inputs(), **option)
    with pytest.raises(ValueError, match=words):
        flowc.compile(ROOT / "examples/kda.flow", **option)


@pytest.mark.parametrize(("rank", "largest"), [(1, 256), (2, 128), (3, 85), (4, 64)])
def test_a_chunk_of_too_many_rows(rank, largest):
    x = inputs("gated_delta_product", sizes=(5, 4, rank))
    op_of("gated_delta_product")(**x, chunk_size=largest)
    words = rf"chunk_size = {largest + 1}\b.*{(largest + 1) * rank} rows.*largest legal chunk_size is {largest}$"
    with pytest.raises(ValueError, match=rf"R = {rank}\b") as error:
        op_of("gated_delta_product")(**x, chunk_size=largest + 1)
    assert re.search(words, str(error.value))
    with pytest.raises(ValueError, match=words):
        flowc.compile(ROOT / "examples/gated_delta_product.flow", chunk_size=largest + 1)(**x)


def test_a_compiled_chunk_of_too_many_rows_is_refused_where_the_rank_is_known():
    words = r"^{}: chunk_size = 257{} makes 257 rows a chunk, at most 256; the largest legal chunk_size is 256$"
    for example, per_token in (("kda", ""), ("gated_delta_product", " with R >= 1 rows per token")):
        with pytest.raises(ValueError, match=words.format(example, per_token)):
            flowc.compile(ROOT / f"examples/{example}.flow", chunk_size=257)


def test_a_spec_without_a_rank_says_nothing_of_one():
    with pytest.raises(ValueError, match=r"^kda: chunk_size = 300 makes 300 rows a chunk, at most 256; .* is 256$"):
        op_of("kda")(**inputs(), chunk_size=300)
    with pytest.raises(ValueError, match=r"^two_repeats: chunk_size = 99 with 2\*P \+ R = 7 rows per token makes 693"):
        op_of("two_repeats")(**inputs("two_repeats"), chunk_size=99)


def test_a_rank_that_no_chunk_holds():
    x = inputs("lowrank_delta", length=2, sizes=(3, 2, 257))
    with pytest.raises(ValueError, match=r"lowrank_delta: R = 257 rows per token, and a chunk holds at most 256 rows"):
        op_of("lowrank_delta")(**x)


@pytest.mark.parametrize("size", [np.int64(5), torch.tensor(5)])
def test_a_chunk_size_of_any_integral_type(size):
    x, path = inputs(), ROOT / "examples/kda.flow"
    expected = op_of("kda")(**x, chunk_size=5)
    assert torch.equal(op_of("kda")(**x, chunk_size=size), expected)
    compiled = flowc.compile(path, chunk_size=size)
    assert torch.equal(compiled(**x), expected)
    assert compiled.source == flowc.compile(path, chunk_size=5).source


def test_the_call_s_option_wins():
    """Another chunk or aggregation rounds otherwise, which tells which one ran."""
    x = draw(model_of("kda"), Case(length=64))  # float64: systems are solved in it, whatever the inputs' type
    path = ROOT / "examples/kda.flow"

    def outcome(compiled, called):
        return flowc.compile(path, **compiled)(**x, **called)

    for option, one, other in (("chunk_size", 16, 3), ("aggregation", "wy", "tensorinv")):
        rest = {} if option == "chunk_size" else {"chunk_size": 64}
        first, second = outcome({option: one} | rest, {}), outcome({option: other} | rest, {})
        assert not torch.equal(first, second)
        assert torch.equal(outcome({option: one} | rest, {option: other}), second)
        assert torch.equal(outcome({option: other} | rest, {option: one}), first)


def test_triton_is_refused_by_name_where_it_has_no_kernels():
    with pytest.raises(ValueError, match=r"kda: backend='triton'.*backend='torch'"):
        op_of("kda")(**inputs(), backend="triton")


# -- ranges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "name", "value", "declared"),
    [
        ("kda", "g", 0.5, r"\(-inf, 0\]"),
        ("kda", "beta", 1.0, r"\(0, 1\)"),
        ("kda", "beta", 0.0, r"\(0, 1\)"),
        ("kda", "beta", float("nan"), r"\(0, 1\)"),
        ("hgrn2", "lower", 0.0, r"\(0, 1\]"),
        ("gated_delta_product", "beta", 2.5, r"\(0, 2\)"),
    ],
)
def test_check_enforces_ranges(example, name, value, declared):
    x = inputs(example, gate="mild")
    op_of(example)(**x, check=True)
    x[name].view(-1)[-1] = value
    with pytest.raises(ValueError, match=rf"{example}: `{name}` holds {value}; the spec declares it in {declared}"):
        op_of(example)(**x, check=True)
    op_of(example)(**x)


def test_the_ends_of_a_closed_range_are_in_it():
    x = inputs("hgrn2")
    op_of("hgrn2")(**(x | {"lower": torch.ones_like(x["lower"])}), check=True)
    x = inputs("kda", gate="zero")
    op_of("kda")(**x, check=True)


# -- compile -----------------------------------------------------------------------------------------------------------


def test_no_such_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.flow"):
        flowc.compile("nowhere.flow")


def test_errors_of_a_spec_come_as_diagnostics():
    with pytest.raises(flowc.FlowError, match=r"no_such"):
        flowc.compile("flow f(K)\ninput x : K\nstate S : K x K\nS[t] = S[t-1] + x @ no_such.T\no[t] = S[t].T @ x\n")


def test_a_class_without_a_compiled_form_is_named():
    with pytest.raises(flowc.FlowError, match=r"class R has no compiled form"):
        flowc.compile(ROOT / "tests/cases/zoo/squashed_in_rounds.flow")


def test_what_a_tensor_is_not():
    """Too few dimensions are no heads, a step says how many it takes, and what kernels cannot read is refused."""
    x = inputs(batch=1)
    with pytest.raises(ValueError, match=r"`k` has shape \[23, 2, 5\]; expected \[B, T, H, K\] = \[1, 23, 2, 5\]$"):
        op_of("kda")(**{**x, "k": x["k"][0]})
    with pytest.raises(ValueError, match=r"`v` has shape \[1, 23, 2, 4\]; expected \[B, H, V\], 3 dimensions$"):
        op_of("kda").step(**x)
    with pytest.raises(TypeError, match=r"`k` has layout torch.sparse_coo; expected a dense tensor \[B, T, H, K\]$"):
        op_of("kda")(**{**x, "k": x["k"].to_sparse()})
    with pytest.raises(TypeError, match=r"`q` has dtype torch.float8_e4m3fn; expected float16, bfloat16, float32 or"):
        op_of("kda")(**{**x, "q": x["q"].to(torch.float8_e4m3fn)})
