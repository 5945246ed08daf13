"""The shipped text is what its note says, and what the demo makes of it fits the spec."""

import sys
from hashlib import sha256
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import worker  # noqa: E402

TEXT = ROOT / "benchmarks/data/us-constitution.txt"


def test_the_text_is_the_one_whose_source_is_named():
    data = TEXT.read_bytes()
    note = (TEXT.parent / "README.md").read_text()
    assert len(data) <= 100_000
    assert data.isascii()
    assert sha256(data).hexdigest() in note
    assert "public domain" in note


def test_inputs_made_of_the_text():
    x = worker.text_inputs(50, 3, 8)
    assert {n: tuple(v.shape) for n, v in x.items()} == {
        "q": (1, 50, 3, 8), "k": (1, 50, 3, 8), "v": (1, 50, 3, 8), "g": (1, 50, 3), "beta": (1, 50, 3),
    }  # fmt: skip
    assert (x["g"] <= 0).all()
    assert ((x["beta"] > 0) & (x["beta"] < 1)).all()
    assert torch.equal(x["q"], worker.text_inputs(50, 3, 8)["q"])
    # The text's first two spaces share their vectors: it is the characters that are embedded.
    first, second = [i for i, c in enumerate(TEXT.read_text()[:50]) if c == " "][:2]
    assert torch.equal(x["v"][:, first], x["v"][:, second])
