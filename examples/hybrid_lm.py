"""A small language model of characters: layers of a compiled op, attention every n-th, against attention alone.

Both models are trained from scratch on the text that the repository ships, with the same widths, steps and batches, and
judged on its last tenth. The one with flowc layers then goes on from a prompt with `op.step`, one token at a time from
a state of fixed size, and every token's scores are held to those of the whole sequence at once.

    python examples/hybrid_lm.py --json benchmarks/results/hybrid_lm.json --plot docs/hybrid_lm.svg
    python examples/hybrid_lm.py --op gla --attention window --every 2 --steps 5 --width 32 --length 64

In: options. Out: a table of losses and speeds, what was generated, and with `--json`, `--plot` curves. Ends with exit
code 1 where a generated token's scores are off by more than 1e-3.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from training import ROOT, Report, record, run_all

import flowc
from flowc.nn import FlowLayer
from flowc.report.curves import Panel, svg

TEXT = ROOT / "benchmarks/data/us-constitution.txt"
LIMIT = 1e-3
"""Scores are of size 10; float32 rounds each of some hundred sums on the way to 1.2e-7 of that: 1e-4 with a margin."""


class Attention(nn.Module):
    """Causal attention, over all tokens before or over the last `window` of them, with rotary places."""

    def __init__(self, width: int, heads: int, window: int | None) -> None:
        """Projections; `window` None: all tokens before."""
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, held: Any = None) -> tuple[Tensor, Any]:
        """[B, T, width] and, of earlier tokens, keys, values and how many there were."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        first = 0 if held is None else held[2]
        places = torch.arange(first, first + x.shape[1], device=x.device)
        q, k = turned(q, places), turned(k, places)
        if held is not None:
            k, v = torch.cat((held[0], k), 1), torch.cat((held[1], v), 1)
        whole = held is None and self.window is None  # a GPU's fast kernels take no mask
        mask = None if whole else self.mask(places, k.shape[1])
        o = F.scaled_dot_product_attention(*(z.transpose(1, 2) for z in (q, k, v)), attn_mask=mask, is_causal=whole)
        kept = slice(None) if self.window is None else slice(-self.window, None)
        return self.out(o.transpose(1, 2).flatten(2)), (k[:, kept], v[:, kept], first + x.shape[1])

    def mask(self, places: Tensor, keys: int) -> Tensor:
        """Whether the token at a place sees each of the last `keys` tokens."""
        seen = places[-1] - torch.arange(keys - 1, -1, -1, device=places.device)
        back = places[:, None] - seen[None, :]
        return back >= 0 if self.window is None else (back >= 0) & (back < self.window)


def turned(x: Tensor, places: Tensor) -> Tensor:
    """Pairs of coordinates turned by angles that grow with a token's place."""
    half = x.shape[-1] // 2
    angles = places[:, None, None] * 1e-4 ** (torch.arange(half, device=x.device) / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, two = x[..., :half], x[..., half:]
    return torch.cat((one * cos - two * sin, one * sin + two * cos), -1)


class Block(nn.Module):
    """Mixing over tokens, then over channels, each with a norm before and added to what came in."""

    def __init__(self, width: int, mixer: nn.Module, channels: int) -> None:
        """Take the mixer; `channels` between the two projections of the second part."""
        super().__init__()
        self.mixer = mixer
        self.before, self.between = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.channels = nn.Sequential(nn.Linear(width, channels), nn.GELU(), nn.Linear(channels, width))

    def forward(self, x: Tensor, held: Any = None) -> tuple[Tensor, Any]:
        """[B, T, width], and what the mixer carries on."""
        y = self.before(x)
        if isinstance(self.mixer, Attention):
            mixed, after = self.mixer(y, held)
        elif held is not None and x.shape[1] == 1:
            one, after = self.mixer.step(y[:, 0], held)
            mixed = one[:, None]
        else:
            mixed, after = self.mixer(y, held, return_state=True)
        x = x + mixed
        return x + self.channels(self.between(x)), after


class Model(nn.Module):
    """Bytes in, scores of the next byte out."""

    def __init__(
        self, op: flowc.Op | None, attention: str, args: argparse.Namespace, channels: int | None = None
    ) -> None:
        """Layers of `op`, every `args.every`-th one of attention; of attention alone without an op.

        Parameters are made on torch's default device; `channels` None: four times the width.
        """
        super().__init__()
        self.embedding = nn.Embedding(256, args.width)
        nn.init.normal_(self.embedding.weight, std=0.05)
        blocks = []
        for number in range(1, args.layers + 1):
            window = args.window if attention == "window" and op is not None else None
            mixer = (
                Attention(args.width, args.heads, window)
                if op is None or (attention != "none" and number % args.every == 0)
                else FlowLayer(op, args.width, args.heads, sizes=ranks(op), output_gate=True)
            )
            blocks.append(Block(args.width, mixer, channels or 4 * args.width))
        self.blocks, self.norm = nn.ModuleList(blocks), nn.RMSNorm(args.width, eps=1e-5)

    def forward(self, tokens: Tensor, held: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Scores [B, T, 256], and what every layer carries on."""
        x, after = self.embedding(tokens), []
        for block, own in zip(self.blocks, held or [None] * len(self.blocks), strict=True):
            x, carried = block(x, own)
            after.append(carried)
        return self.norm(x) @ self.embedding.weight.T, after


def ranks(op: flowc.Op) -> dict[str, int]:
    """Dimensions that are no sides of a state, two each."""
    model, sides = op.compilation.model, op.compilation.recurrence.sides
    return {d.name: 2 for d in model.dimensions if d.value is None and d.name not in sides}


def split() -> tuple[Tensor, Tensor]:
    """The text's bytes: what is trained on, and its last tenth."""
    data = torch.tensor(list(TEXT.read_bytes()))
    cut = len(data) * 9 // 10
    return data[:cut], data[cut:]


def held_out(model: Model, text: Tensor, length: int) -> float:
    """Bits per character of a text, in pieces of `length`."""
    pieces = text[: (len(text) - 1) // length * length + 1]
    with torch.no_grad():
        scores, _ = model(pieces[:-1].view(-1, length))
    return float(F.cross_entropy(scores.flatten(0, 1), pieces[1:])) / torch.log(torch.tensor(2.0)).item()


def train(name: str, args: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Train a model; its curve, and for one with flowc layers what it generates and how far that is off."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    op = None if name == "attention" else flowc.compile(ROOT / f"examples/{args.op}.flow")
    with torch.device(args.device):
        model = Model(op, args.attention, args)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(args.steps, 2), pct_start=0.1)
    text, rest = (part.to(args.device) for part in split())
    curve, begun = [], time.perf_counter()
    for step in range(1, args.steps + 1):
        starts = torch.randint(len(text) - args.length - 1, (args.batch,), generator=rng)
        tokens = torch.stack([text[s : s + args.length + 1] for s in starts.tolist()])
        loss = F.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step, f"loss {loss.item():.3f}")
        if step == args.steps or step % max(args.steps // 10, 1) == 0:
            curve.append((step, held_out(model, rest, args.length)))
    seconds = time.perf_counter() - begun
    made = {} if name == "attention" else generated(model, rest[: args.length // 2], args.length // 2)
    speed = args.steps * args.batch * args.length / seconds
    parameters = sum(p.numel() for p in model.parameters())
    return {"model": name, "parameters": parameters, "curve": curve, "tokens_per_second": round(speed), **made}


def generated(model: Model, prompt: Tensor, count: int) -> dict[str, Any]:
    """The likeliest characters after a prompt, token for token, and how far their scores are from the whole's."""
    with torch.no_grad():
        scores, held = model(prompt[None])
        found, last = [scores[0, -1]], []
        for _ in range(count):
            last.append(found[-1].argmax())
            scores, held = model(last[-1][None, None], held)
            found.append(scores[0, -1])
        whole, _ = model(torch.cat((prompt, torch.stack(last)))[None])
    off = float((torch.stack(found) - whole[0, len(prompt) - 1 :]).abs().max())
    text = bytes(int(t) for t in last).decode("latin-1")
    return {"prompt": bytes(prompt.tolist()).decode("latin-1"), "generated": text, "off": off}


def main() -> None:
    """Train both, compare, generate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", default="gated_deltanet", help="an example; default: %(default)s")
    parser.add_argument(
        "--attention", choices=("none", "window", "global"), default="window", help="of every n-th layer"
    )
    parser.add_argument("--every", type=int, default=4, help="n; default: %(default)s")
    for name, value in {
        "window": 64,
        "layers": 4,
        "width": 128,
        "heads": 4,
        "length": 256,
        "batch": 8,
        "steps": 600,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="default: %(default)s")
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=there, help="default: a GPU where there is one")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, help="save losses there, with versions, commit and command")
    parser.add_argument("--plot", type=Path, help="draw them, as an .svg file")
    args = parser.parse_args()
    hybrid = args.op if args.attention == "none" else f"{args.op} + {args.attention} attention"
    rows = run_all(train, [(hybrid, args), ("attention", args)], args.steps, args.workers)
    shown = Table(
        "model", "parameters", "bits per character", "tokens per second", title="on the last tenth of the text"
    )
    for row in rows:
        shown.add_row(
            row["model"], f"{row['parameters']:,}", f"{row['curve'][-1][1]:.3f}", f"{row['tokens_per_second']:,}"
        )
    console = Console()
    console.print(shown)
    console.print(f"after {rows[0]['prompt'][-40:]!r}: {rows[0]['generated']!r}", markup=False)
    console.print(f"one token at a time, scores are off by {rows[0]['off']:.1e} at most (limit {LIMIT:g})")
    if args.json is not None:
        options = {n: v for n, v in vars(args).items() if n not in ("json", "plot")}
        record(args.json, {"options": options, "models": rows})
    if args.plot is not None:
        series = {row["model"]: [(float(x), y) for x, y in row["curve"]] for row in rows}
        args.plot.write_text(
            svg([Panel("bits per character, held out", "steps", series, (True, True))], "Language models")
        )
    sys.exit(rows[0]["off"] > LIMIT)


if __name__ == "__main__":
    main()
