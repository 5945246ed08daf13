"""benchmarks/train_step.py on Triton's kernels, the op's step-by-step form in place of the peer's op."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import train_models  # noqa: E402
import train_step  # noqa: E402


def test_kernels_make_the_losses_and_gradients_of_the_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(train_step.torch.cuda, "is_available", lambda: False)
    saved = tmp_path / "train_step.json"
    op = train_models.compiled("gated_deltanet", "triton")
    sizes = ["--lengths", "48", "--tokens", "48", "--layers", "1"]
    given = ["--tiny", "--backend", "triton", *sizes, "--json", str(saved)]
    assert train_step.main(given, lambda x: op.reference(**x)) == 0
    (told,) = json.loads(saved.read_text())["agreed"]
    assert 0 < told["apart"]["gradients"] < told["limits"]["gradients"]
