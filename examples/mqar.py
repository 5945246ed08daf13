"""Multi-query associative recall: what a state of K x V numbers can hold, by the recurrence that writes it.

A sequence tells N pairs of a key and a value, ROUNDS times over in changing order, then asks for the value of every
key. One layer of a compiled op, with its short convolution, is trained from scratch on sequences of many N and judged
at each. Keys are eight times as many as the state has rows, so that no embedding makes them all orthogonal, and values
are codes of eight numbers, which noise confuses: a state that only adds (linear attention) mixes what it holds however
often it is told; one that takes out what it reads before it writes (the delta rule) corrects what it got wrong.

    python examples/mqar.py --json benchmarks/results/mqar.json --plot docs/mqar.svg      # 40 minutes on two cores
    python examples/mqar.py --ops deltanet --seeds 1 --steps 20                           # a few seconds

In: options. Out: a table, and with `--json`, `--plot` the same as JSON and as SVG. Refuses nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from training import Report, record, run_all

import flowc
from flowc.nn import FlowLayer
from flowc.report.curves import Panel, svg

HERE = Path(__file__).parent
OPS = ("linear_attention", "gla", "deltanet", "gated_deltanet", "lowrank_delta")
KEYS, VALUES = 512, 512
WIDTH, ROWS, COLUMNS = 64, 64, 8  # of hidden vectors, and of the state
PAIRS = (4, 8, 16, 32)
ROUNDS = 4


class LowRank(FlowLayer):
    """lowrank_delta with A = -beta B, columns of length one: R delta writes at once, which cannot grow."""

    def __init__(self, *args: object, **options: object) -> None:
        """Add the write strength of every column."""
        super().__init__(*args, normalize=("B",), **options)  # type: ignore[arg-type]
        self.beta = nn.Linear(self.hidden_size, self.heads * self.sizes["R"])

    def tensors(self, x: Tensor, tail: Tensor | None, cu_seqlens: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """Tie A to B, and scale what is written."""
        given, after = super().tensors(x, tail, cu_seqlens)
        beta = torch.sigmoid(self.beta(x)).unflatten(-1, (self.heads, 1, self.sizes["R"]))
        return given | {"A": -beta * given["B"], "W": beta * given["W"]}, after


class Recall(nn.Module):
    """Embedding, one layer of an op, a readout of values."""

    def __init__(self, name: str) -> None:
        """Compile examples/NAME.flow and make the parameters."""
        super().__init__()
        op = flowc.compile(HERE / f"{name}.flow")
        layer, more = (LowRank, {"R": 2}) if name == "lowrank_delta" else (FlowLayer, {})
        self.embedding = nn.Embedding(KEYS + VALUES, WIDTH)
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.layer = layer(op, WIDTH, 1, sizes={"K": ROWS, "V": COLUMNS, **more})
        self.readout = nn.Linear(WIDTH, VALUES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of values at every token, [B, T, VALUES]."""
        return self.readout(self.layer(self.norm(self.embedding(tokens))))  # type: ignore[no-any-return]


def draw(batch: int, pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences [B, (2 ROUNDS + 1) N] of tokens, and the values [B, N] that are asked for at the last N of them."""
    keys = torch.rand(batch, KEYS, generator=rng).argsort(1)[:, :pairs]
    values = torch.randint(VALUES, (batch, pairs), generator=rng)
    orders = torch.rand(batch, ROUNDS + 1, pairs, generator=rng).argsort(2)
    *rounds, asked = ((keys.gather(1, o), values.gather(1, o)) for o in orders.unbind(1))
    told = [torch.stack((k, KEYS + v), 2).flatten(1) for k, v in rounds]
    return torch.cat((*told, asked[0]), 1), asked[1]


def accuracy(model: Recall, pairs: int, rng: torch.Generator) -> float:
    """The share of values that are recalled, of 32 sequences and more."""
    tokens, wanted = draw(max(32, 512 // pairs), pairs, rng)
    with torch.no_grad():
        found = model(tokens)[:, -pairs:].argmax(-1)
    return float((found == wanted).float().mean())


def train(name: str, seed: int, steps: int, report: Report) -> dict[str, Any]:
    """Train one model; its accuracy at every number of pairs."""
    begun = time.perf_counter()
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    model = Recall(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(steps, 2), pct_start=0.1)
    for step in range(steps):
        pairs = PAIRS[step % len(PAIRS)]
        tokens, wanted = draw(1024 // pairs, pairs, rng)
        loss = F.cross_entropy(model(tokens)[:, -pairs:].flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step + 1, f"loss {loss.item():.3f}")
    found = {str(pairs): accuracy(model, pairs, rng) for pairs in PAIRS}
    return {"op": name, "seed": seed, "accuracy": found, "seconds": round(time.perf_counter() - begun)}


def table(rows: list[dict[str, Any]]) -> Table:
    """A line for every op: the mean over seeds at every number of pairs, and the least."""
    shown = Table(title=f"recall at N pairs, a state of {ROWS} x {COLUMNS}: mean over seeds (least)")
    for name in ("op", *(f"N = {n}" for n in PAIRS)):
        shown.add_column(name, justify="left" if name == "op" else "right")
    for op in dict.fromkeys(r["op"] for r in rows):
        found = [[r["accuracy"][str(n)] for r in rows if r["op"] == op] for n in PAIRS]
        shown.add_row(op, *(f"{sum(x) / len(x):.3f} ({min(x):.3f})" for x in found))
    return shown


def plot(rows: list[dict[str, Any]]) -> str:
    """Accuracy against pairs, the mean over seeds."""
    series = {}
    for op in dict.fromkeys(r["op"] for r in rows):
        found = {n: [r["accuracy"][str(n)] for r in rows if r["op"] == op] for n in PAIRS}
        series[op] = [(float(n), sum(x) / len(x)) for n, x in found.items()]
    return svg([Panel("values recalled", "pairs", series, (False, True))], "Multi-query associative recall")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", nargs="+", default=OPS, help="examples; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, help="save every run there, with versions, commit and command")
    parser.add_argument("--plot", type=Path, help="draw it, as an .svg file")
    args = parser.parse_args()
    runs = [(op, seed, args.steps) for op in args.ops for seed in range(args.seeds)]
    rows = run_all(train, runs, args.steps, args.workers)
    Console().print(table(rows))
    if args.json is not None:
        record(args.json, {"steps": args.steps, "runs": rows})
    if args.plot is not None:
        args.plot.write_text(plot(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
