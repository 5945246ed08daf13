"""benchmarks/train_step.py, whole at tiny size on torch, with the op's step-by-step form for the peer's op.

The same run on Triton's kernels is in tests/triton/interpreted.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import hybrid_lm  # noqa: E402
import train_models  # noqa: E402
import train_step  # noqa: E402

import flowc  # noqa: E402

OP = "gated_deltanet"


def reference(**changed):
    """The step-by-step form, with some inputs changed before it sees them."""
    op = train_models.compiled(OP, "auto")
    return lambda x: op.reference(**{**x, **{n: change(x[n]) for n, change in changed.items()}})


class Pretended:
    """An op whose outputs have no values."""

    def __call__(self, v, **_):
        return torch.empty_like(v), None

    def step(self, v, **_):
        return torch.empty_like(v), None


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def settings(*given):
    _, found = train_step.given_settings(given)
    return found


def test_it_runs_whole(tmp_path, capsys):
    files = {n: tmp_path / f"train_step.{n}" for n in ("json", "svg")}
    given = ["--tiny", "--lengths", "16", "32", *(str(x) for n, f in files.items() for x in (f"--{n}", f))]
    assert train_step.main(given, reference()) == 0
    found = json.loads(files["json"].read_text())
    assert {"machine", "commit", "command", "versions", "options"} <= found.keys()
    assert "times mean nothing" in found["device"]
    lengths = [16, 32]
    assert [(r["length"], r["model"]) for r in found["rows"]] == [(t, k) for t in lengths for k in train_models.KINDS]
    for attention, flow, peer in zip(*(found["rows"][i::3] for i in range(3)), strict=True):
        assert flow["parameters"] == peer["parameters"]
        assert flow["loss"] == pytest.approx(peer["loss"], abs=1e-5)
        assert flow["loss"] != attention["loss"]
        for row in (attention, peer, flow):
            assert row["batch"] * row["length"] == train_models.SIZES["tiny"]["tokens"]
            assert row["tokens_per_second"] == pytest.approx(1e3 * row["batch"] * row["length"] / row["step_ms"])
            assert row["of_peer"] == pytest.approx(row["tokens_per_second"] / peer["tokens_per_second"])
            assert row["peak_mib"] is None
    assert [(told["length"], told["wrong"]) for told in found["agreed"]] == [(t, False) for t in lengths]
    assert files["svg"].read_text().count("<polyline") == 3
    assert "flowc and the peer are apart by losses" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("input", "change"),
    [
        ("g", torch.zeros_like),  # no decay
        ("v", lambda v: v.roll(1, 1)),  # the value of the token before
        ("beta", torch.detach),  # the right outputs, a gradient missing
    ],
)
def test_a_wrong_op_is_caught(input, change, capsys):
    assert train_step.main(["--tiny", "--lengths", "16"], reference(**{input: change})) == 1
    assert "WRONG" in capsys.readouterr().out


def test_a_peer_that_refuses_leaves_the_others(tmp_path):
    """Its rows say why, and nothing is wrong; where our op raises, something is."""

    def refuses(_):
        raise RuntimeError("not on this device")

    path = tmp_path / "rows.json"
    given = ["--tiny", "--lengths", "16", "--json", str(path)]
    assert train_step.main(given, refuses) == 0
    rows = {r["model"]: r for r in json.loads(path.read_text())["rows"]}
    assert {k for k, r in rows.items() if r["failed"]} == {"peer"}
    assert "not on this device" in rows["peer"]["failed"]
    assert train_step.main([*given, "--again", "--budget", "0"], refuses) == 0
    found = json.loads(path.read_text())
    assert (found["rows"], found["left"]) == ([], ["T 16"])


def test_another_run_goes_on(tmp_path, monkeypatch):
    """A length that was ended is kept, with how far the sides were apart; one that was cut short begins anew."""
    path = tmp_path / "rows.json"
    given = ["--tiny", "--lengths", "16", "32", "--json", str(path)]
    measured = train_step.measured

    def cut(kind, s, peer):
        if (s.length, kind) == (32, train_models.KINDS[-1]):
            raise KeyboardInterrupt
        return measured(kind, s, peer)

    monkeypatch.setattr(train_step, "measured", cut)
    with pytest.raises(KeyboardInterrupt):
        train_step.main(given, reference())
    first, called = json.loads(path.read_text()), []
    monkeypatch.setattr(
        train_step, "measured", lambda kind, s, peer: called.append((s.length, kind)) or measured(kind, s, peer)
    )
    assert train_step.main(given, reference()) == 0
    second = json.loads(path.read_text())
    assert called == [(32, kind) for kind in train_models.KINDS]
    ended = len(train_models.KINDS)
    assert second["rows"][:ended] == first["rows"][:ended]
    assert [told["length"] for told in second["agreed"]] == [16, 32]


def test_an_op_that_raises_is_wrong(monkeypatch):
    def raises(*_):
        raise RuntimeError("no such luck")

    timed = train_step.timed
    monkeypatch.setattr(train_step, "timed", lambda row, *more: {"flowc": raises}.get(row.model, timed)(row, *more))
    assert train_step.main(["--tiny", "--lengths", "16"], reference()) == 1


def test_what_is_no_number_is_caught():
    assert train_step.main(["--tiny", "--lengths", "16"], reference(v=lambda v: v * float("nan"))) == 1


def test_without_the_peer(capsys, monkeypatch):
    monkeypatch.setattr(train_step, "absent", lambda: "no such luck")
    monkeypatch.setattr(train_step.triton.knobs.runtime, "interpret", True)
    assert train_step.main(["--tiny", "--lengths", "48", "--steps", "1"]) == 0
    said = capsys.readouterr().out
    assert "no rows of the peer: no such luck" in said
    assert "apart" not in said
    assert train_step.missing("mamba", "cuda") == "it has no mamba"


def test_a_process_of_its_own_tells_its_memory():
    """All parameters, gradients and both of AdamW's moments are there at once, and the libraries were before."""
    (s,) = (replace(s, alone=True, width=256, layers=5) for s in settings("--tiny", "--lengths", "48"))
    row, _ = train_step.in_its_own_process("attention", s)
    at_once = 4 * 4 * row.parameters / 2**20
    assert at_once > 60
    assert 0.9 * at_once < row.peak_mib < 4 * at_once


def test_what_does_not_fit_is_told(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(train_step, "timed", full)
    (s,) = settings("--tiny", "--lengths", "48")
    row, first = train_step.measured("attention", s)
    assert (row.failed, row.tokens_per_second, first) == ("out of memory", None, None)
    assert train_step.main(["--tiny", "--lengths", "16"], reference()) == 0


@pytest.mark.parametrize("op", [OP, "gla", "mamba2", "gated_delta_product"])
@pytest.mark.parametrize("preset", ["cuda", "cpu"])
def test_parameters_are_as_many(op, preset):
    """At the sizes that are measured; no model is made."""
    (s, *_) = settings("--tiny", "--op", op)
    own = {n: v for n, v in train_models.SIZES[preset].items() if n != "lengths"}
    with torch.device("meta"):
        models = {k: train_models.built(k, replace(s, **own), reference()) for k in train_models.KINDS}
    counts = {k: train_models.parameters(m) for k, m in models.items()}
    assert counts["flowc"] == counts["peer"]
    assert counts["attention"] == pytest.approx(counts["flowc"], rel=5e-3)


@pytest.mark.parametrize("attention", ["none", "window", "global"])
def test_every_tensor_is_on_the_device_of_the_model(attention):
    """On a device without values, where tensors of two devices raise as on a GPU: training, and a token at a time."""
    op, args = train_models.compiled(OP, "auto"), argparse.Namespace(width=32, heads=2, layers=2, every=2, window=8)
    with torch.device("meta"):
        model = train_models.Model(op, attention, args).bfloat16()
    for block in model.blocks:
        if isinstance(block.mixer, flowc.nn.FlowLayer):
            block.mixer.op = Pretended()
    tokens = torch.empty(2, 25, dtype=torch.long, device="meta")
    optimizer = torch.optim.AdamW(model.parameters())
    losses = train_step.step(model, optimizer, tokens)
    assert (losses.device.type, losses.shape) == ("meta", (48,))
    _, held = model(tokens)
    scores, held = model(tokens[:, :1], held)
    later, _ = model(tokens[:, :3], held)  # several tokens at once, after others
    assert (scores.dtype, later.shape) == (torch.bfloat16, (2, 3, 256))


def test_attention_is_the_same_with_and_without_a_mask():
    """A whole sequence, which takes no mask, against the same tokens in two parts, which do, and a window as wide."""
    torch.manual_seed(0)
    attention = hybrid_lm.Attention(32, 2, None).double()
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    whole, _ = attention(x)
    first, held = attention(x[:, :4])
    torch.testing.assert_close(torch.cat((first, attention(x[:, 4:], held)[0]), 1), whole)
    attention.window = 9
    torch.testing.assert_close(attention(x)[0], whole)
    attention.window = 8
    assert not torch.allclose(attention(x)[0], whole)


def test_what_it_refuses(capsys):
    for given, said in ((["--op", "nothing"], "there is no example nothing"), (["--tools", "x"], "--tools goes with")):
        with pytest.raises(SystemExit):
            train_step.main(given)
        assert said in capsys.readouterr().err
