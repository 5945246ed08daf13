"""The shipped text is what its note says, what the demo makes of it fits the spec, peers are asked what specs say."""

import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import compare_peer  # noqa: E402
import worker  # noqa: E402
from peer_rows import ROWS  # noqa: E402

from flowc.semantics import load  # noqa: E402

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


# -- the peer ---------------------------------------------------------------------------------------------------------

PEER = ROOT / ".venv-fla/bin/python"
FOLDERS = (ROOT / "examples", ROOT / "tests/cases/zoo")


@pytest.mark.parametrize("label", ROWS)
def test_a_row_of_the_peer_is_a_spec_that_is_there(label):
    """What a row names are states and inputs of its spec, and its own text has the inputs and states of the spec."""
    row = ROWS[label]
    (path,) = (folder / f"{row.spec}.flow" for folder in FOLDERS if (folder / f"{row.spec}.flow").is_file())
    model = load(path.read_text(), row.spec)
    inputs, states = [[x.name for x in some] for some in (model.inputs, model.states)]
    assert set(row.states) <= set(states)
    assert {*row.units, *row.unjudged} <= set(inputs)
    own = load(row.text or path.read_text(), row.spec)
    assert ([i.name for i in own.inputs], [s.name for s in own.states]) == (inputs, states)
    assert compare_peer.drawn(row, own)[0].keys() == set(inputs)


def test_what_is_off_is_told():
    """A difference that is not known, and a known one that is not there."""
    small, large = {"o": 1e-7, "dq": 2e-7}, {"o": 1e-7, "dq": 1e-2}
    for errors, known, expected in ((small, "", True), (small, "why", False), (large, "", False), (large, "why", True)):
        assert compare_peer.Result("r", "p", errors, errors, known).is_expected == expected
    assert compare_peer.Result("r", "p", {"o": float("nan")}, {}).differs
    assert compare_peer.Result("r", "p", large, large).worst("gradient") == "1e-02 dq"


@pytest.mark.skipif(not PEER.is_file(), reason="`make fla` sets the peer up")
def test_the_peer_agrees():
    rows = {label: row for label, row in ROWS.items() if row.spec in ("comba", "gla")}
    found, _ = compare_peer.compare(rows, ROOT / "examples", False, PEER)
    assert all(r.is_expected and not r.skipped for r in found)
    rows = {"gla": ROWS["gla"]}
    (nothing,), _ = compare_peer.compare(rows, ROOT / "tests", False, PEER)
    assert nothing.skipped == "there is no tests/gla.flow yet"
