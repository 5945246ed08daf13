"""Training steps of the model of examples/hybrid_lm.py: with flowc's op, the peer's in its place, and attention.

    .venv/bin/python benchmarks/train_step.py [--op NAME] [--lengths T ...] [--json FILE] [--svg FILE]
        [--budget MINUTES] [--again]
    TRITON_INTERPRET=1 .venv/bin/python benchmarks/train_step.py --tiny --backend triton

In: an example, and sizes, by default those of `SIZES`: of a GPU, of a CPU, of `--tiny`. Out: for every length and model
a row: tokens per second, the median step, peak memory, the loss of the first step. A step is a forward pass, the loss,
a backward pass and fused AdamW, over the same `--tokens` every time, cut into sequences of length T. Layers are all of
one kind. `flowc` and `peer` have the same `flowc.nn.FlowLayer`s, of which the call of the op alone differs; the peer
takes whatever backend it chooses. `attention` is causal scaled_dot_product_attention without a mask; its blocks have
more channels, so that parameters are as many within 0.5 %. Parameters and activations are of one type, bfloat16 on a
GPU; nothing is compiled, checkpointed or clipped. Time is a clock's; with one thread (OMP_NUM_THREADS=1) on a CPU what
the process itself took, whatever else the machine did.

Of flowc and peer, the losses of the first step's tokens, and their gradients through all layers, must agree within what
rounding explains (`limits`), or the exit code is 1. A peer that is absent is told of, with the reason.

Peak memory is what torch allocates on a GPU; on a CPU what a process takes beyond what it had before it made the model,
so every row has a process of its own there, but for `--tiny`, which tells no memory. At the sizes of a GPU a layer of
gated_deltanet with its block keeps 10.8 GiB for the backward pass, one of attention 6.3 (counted on tensors without
values, the op's part as in kept.json); with parameters, moments and what a backward pass needs at once, 92 and 56 GiB
of the 139 of an H200; twelve layers would not fit. A row that does not fit says so. Refuses examples that are not
there.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
from gpu import prepared
from gpu_peers import PEERS, absent
from ledger import SAME, about, is_lost, read
from processes import ROOT
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from train_models import KINDS, OP, OTHERS, SIZES, Call, Setting, built, compiled, drawn, parameters

from flowc.files import write_whole
from flowc.fuzz.find import last
from flowc.report.curves import Panel, svg

ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}
SUMS = 2.0**-20
"""What sums in float32 add to that: of some hundred products, each rounded to 2**-24."""

SHOWN = 64
"""Tokens of a sequence whose gradients are compared."""


@dataclass(frozen=True)
class Row:
    """One model at one length; None where the row failed, or nothing tells of memory."""

    model: str
    length: int
    batch: int
    parameters: int
    steps_ms: tuple[float, ...] = ()
    peak_mib: float | None = None
    loss: float | None = None
    failed: str | None = None

    @property
    def step_ms(self) -> float | None:
        """The median step."""
        return median(self.steps_ms) if self.steps_ms else None

    @property
    def tokens_per_second(self) -> float | None:
        """Over the median step."""
        return None if self.step_ms is None else 1e3 * self.batch * self.length / self.step_ms


class First(NamedTuple):
    """Of the first step: the losses of its tokens, and the gradients of some embedded ones, [tokens, width]."""

    losses: Tensor
    gradients: Tensor


# -- steps ------------------------------------------------------------------------------------------------------------


def measured(kind: str, s: Setting, peer: Call | None = None) -> tuple[Row, First | None]:
    """A row, and what its first step made; the model is gone afterwards."""
    compiled(s.op, s.backend)  # on no other device than later
    with torch.device("meta"):
        row = Row(kind, s.length, s.batch, parameters(built(kind, s, peer)))
    try:
        return timed(row, s, peer)
    except torch.OutOfMemoryError:
        return replace(row, failed="out of memory"), None
    except Exception as error:  # of the peer, which refuses devices and versions; ours end the run with 1
        if is_lost(error):
            raise
        return replace(row, failed=last(error)), None
    finally:
        gc.collect()
        if s.device == "cuda":
            torch.cuda.empty_cache()


def timed(row: Row, s: Setting, peer: Call | None) -> tuple[Row, First]:
    """Take the steps, after one to warm up, on a GPU two."""
    tokens = drawn(s)
    if s.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = held(s)
    with torch.device(s.device):
        model = built(row.model, s, peer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    first = first_step(model, optimizer, tokens)
    if s.device == "cuda":
        step(model, optimizer, tokens)
        torch.cuda.reset_peak_memory_stats()  # what kernels took while they were tuned is not the model's
    steps = []
    for _ in range(s.steps):
        began = now(s.device)
        step(model, optimizer, tokens)
        steps.append(1e3 * (now(s.device) - began))
    taken = None if before is None else (held(s) or 0) - before
    return replace(row, steps_ms=tuple(steps), peak_mib=taken, loss=float(first.losses.mean())), first


def step(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor) -> Tensor:
    """One; the losses of its tokens."""
    losses = losses_of(model, tokens)
    losses.mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    return losses.detach()


def losses_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """Of all tokens, one after another."""
    scores, _ = model(tokens[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")


def first_step(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor) -> First:
    """The first one."""
    embedded: list[Tensor] = []

    def keep(_module: object, _given: object, made: Tensor) -> None:
        made.retain_grad()
        embedded.append(made)

    hook = model.embedding.register_forward_hook(keep)
    losses = step(model, optimizer, tokens)
    hook.remove()
    gradients = embedded[0].grad
    assert gradients is not None
    return First(losses.cpu(), gradients[:, :: max(1, gradients.shape[1] // SHOWN)].flatten(0, 1).float().cpu())


def now(device: str) -> float:
    """The time, when all that was asked of a device is done; with one thread that of the process."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def held(s: Setting) -> float | None:
    """The most that was held so far, MiB, of a GPU or by a process of its own; None where nothing tells."""
    if s.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")  # getrusage's maximum starts from that of the parent
    if not s.alone or not status.is_file():
        return None
    return next(int(n.split()[1]) for n in status.read_text().splitlines() if n.startswith("VmHWM")) / 2**10


def in_its_own_process(kind: str, s: Setting) -> tuple[Row, First | None]:
    """`measured`, where nothing was held before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, kind, s).result()


# -- what agrees ------------------------------------------------------------------------------------------------------


def apart(one: First, other: First) -> dict[str, float]:
    """Medians over tokens: how far losses are apart, of how far they are spread; gradients, of their length.

    Medians, since a few tokens, whose outputs nearly cancel before they are normed, show all of their rounding.
    """
    spread = (one.losses - one.losses.median()).abs().median()
    lengths = (one.gradients - other.gradients).norm(dim=-1) / one.gradients.norm(dim=-1)
    return {
        "losses": float((one.losses - other.losses).abs().median() / spread),
        "gradients": float(lengths.median()),
    }


def limits(s: Setting) -> dict[str, float]:
    """Of `apart`: either side rounds 8 times one after another in a layer, sides and layers add up like noise.

    A backward pass has three times the products. What rounding does is below that: 8.7e-3 of a limit of 1.7e-2 for
    rwkv7's gradients in float16, a third of it and less for the peer's other ops (one layer, Triton's kernels,
    interpreted). Twelve layers in bfloat16 are at 0.3 to 0.6 in losses without the decay, at 0.5 to 0.8 in gradients
    where the op has none for its queries or keys.
    """
    noise = 8 * (2 * s.layers) ** 0.5 * (ROUNDING[getattr(torch, s.dtype)] + SUMS)
    return {"losses": noise, "gradients": 3 * noise}


def agreed(found: Mapping[str, First], s: Setting) -> dict[str, Any] | None:
    """How far flowc and the peer are apart, and whether it is too far; None where one of them is missing."""
    if not {"flowc", "peer"} <= found.keys():
        return None
    told, bounds = apart(found["flowc"], found["peer"]), limits(s)
    wrong = not all(told[n] <= bounds[n] for n in bounds)  # nor is NaN
    return {"length": s.length, "apart": told, "limits": bounds, "wrong": wrong}


# -- what is told -----------------------------------------------------------------------------------------------------


def ratio(rows: Sequence[Row], row: Row, kind: str) -> float | None:
    """How many times as many tokens per second a row has as another model at its length."""
    speeds = {r.model: r.tokens_per_second for r in rows if r.length == row.length}
    own, other = row.tokens_per_second, speeds.get(kind)
    return None if own is None or other is None else own / other


def table(rows: Sequence[Row], title: str, absent: str | None) -> Table:
    """A line for every model and length."""
    made = Table(title=title, caption=None if absent is None else f"no rows of the peer: {absent}")
    for column in (
        "T",
        "B",
        "model",
        "parameters",
        "tokens/s",
        "x attention",
        "x peer",
        "step, ms",
        "peak, MiB",
        "loss",
    ):
        made.add_column(column, justify="left" if column == "model" else "right")
    for r in rows:
        numbers = [(r.tokens_per_second, ",.0f"), *((ratio(rows, r, kind), ".2f") for kind in OTHERS)]
        numbers += [(r.step_ms, ",.1f"), (r.peak_mib, ",.0f"), (r.loss, ".4f")]
        cells = ["-" if value is None else format(value, form) for value, form in numbers]
        cells[0] = r.failed or cells[0]
        made.add_row(str(r.length), str(r.batch), r.model, f"{r.parameters:,}", *cells)
    return made


def picture(rows: Sequence[Row], op: str) -> str:
    """Tokens per second and memory against T."""
    panels = []
    for title, of in (("tokens per second", "tokens_per_second"), ("peak memory, MiB", "peak_mib")):
        series = {
            kind: [(float(r.length), value) for r in rows if r.model == kind and (value := getattr(r, of)) is not None]
            for kind in KINDS
        }
        if any(series.values()):
            panels.append(Panel(title, "T", {n: points for n, points in series.items() if points}, (False, True)))
    return svg(panels, f"A training step, {op}")


def record(rows: Sequence[Row], judged: Sequence[Any], s: Setting, absent: str | None) -> dict[str, Any]:
    """What is kept."""
    device = torch.cuda.get_device_name() if s.device == "cuda" else f"cpu, threads: {torch.get_num_threads()}"
    ratios = [{f"of_{kind}": ratio(rows, r, kind) for kind in OTHERS} for r in rows]
    told = [
        asdict(r) | {"step_ms": r.step_ms, "tokens_per_second": r.tokens_per_second} | own
        for r, own in zip(rows, ratios, strict=True)
    ]
    options = {n: v for n, v in asdict(s).items() if n not in ("length", "alone")}
    return about(device if s.means_something else f"{device}; times mean nothing") | {
        "options": options, "peer_absent": absent, "agreed": judged, "rows": told,
    }  # fmt: skip


def missing(op: str, device: str) -> str | None:
    """Why the peer has no rows."""
    if op not in PEERS:
        return f"it has no {op}"
    if device != "cuda" and not triton.knobs.runtime.interpret:
        return "its ops run on a GPU"
    return absent()


def given_settings(given: Sequence[str] | None) -> tuple[argparse.Namespace, list[Setting]]:
    """The command line, and a setting for every length."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--op", default=OP, help="an example; default: %(default)s")
    parser.add_argument("--backend", choices=("auto", "torch", "triton"), default="auto", help="of flowc's op")
    parser.add_argument("--dtype", choices=[str(d).partition(".")[2] for d in ROUNDING])
    parser.add_argument("--lengths", type=int, nargs="+")
    for name in ("width", "heads", "layers", "tokens", "steps"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tools", type=Path, help="with --tiny, as for gpu.py: lets the peer run without a GPU")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--again", action="store_true", help="run again the lengths that the file has")
    parser.add_argument("--budget", type=float, default=inf, metavar="MINUTES", help="begin no other length after that")
    args = parser.parse_args(given)
    if not (ROOT / f"examples/{args.op}.flow").is_file():
        parser.error(f"there is no example {args.op}")
    if args.tools is not None and not args.tiny:
        parser.error("--tools goes with --tiny")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = dict(SIZES["tiny" if args.tiny else device])
    sizes |= {n: v for n, v in vars(args).items() if n in sizes and v is not None}
    dtype = args.dtype or ("bfloat16" if device == "cuda" else "float32")
    lengths, alone = sizes.pop("lengths"), device == "cpu" and not args.tiny
    interpreted = device == "cpu" and args.backend == "triton"
    shared = {"op": args.op, "backend": args.backend, "device": device, "dtype": dtype, "alone": alone}
    shared["means_something"] = not (args.tiny or interpreted)
    return args, [Setting(**shared, **sizes, length=length) for length in lengths]


def there(path: Path | None, s: Setting, absent: str | None, kinds: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows of whole lengths that a file has of the same code, versions, device and sizes, and how far sides agreed."""
    found, now = {} if path is None else read(path), record([], [], s, absent)
    if not found or any(found.get(n) != now[n] for n in (*SAME, "options", "peer_absent")):
        return [], []
    names = [f.name for f in fields(Row)]
    rows = [Row(**{n: r[n] for n in names} | {"steps_ms": tuple(r["steps_ms"])}) for r in found["rows"]]
    ended = {r.length for r in rows if sum(o.length == r.length for o in rows) == kinds}
    return [r for r in rows if r.length in ended], [t for t in found["agreed"] if t["length"] in ended]


def main(given: Sequence[str] | None = None, peer: Call | None = None) -> int:
    """Take steps, compare, save, print; `peer` stands for the peer's op."""
    args, settings = given_settings(given)
    prepared(args.tools)
    absent = None if peer is not None else missing(args.op, settings[0].device)
    kinds = [kind for kind in KINDS if kind != "peer" or absent is None]
    rows, judged = ([], []) if args.again else there(args.json, settings[0], absent, len(kinds))
    until, left = time.monotonic() + 60 * args.budget, list[str]()
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(args.op, total=len(settings) * len(kinds))
        for at, s in enumerate(settings):
            if sum(r.length == s.length for r in rows) == len(kinds):
                progress.advance(bar, len(kinds))
                continue
            if time.monotonic() >= until:
                left = [f"T {s.length}" for s in settings[at:]]
                break
            found = {}
            for kind in kinds:
                row, first = in_its_own_process(kind, s) if s.alone else measured(kind, s, peer)
                rows.append(row)
                found |= {} if first is None else {kind: first}
                speed = row.failed or f"{row.tokens_per_second:,.0f} tokens/s"
                progress.console.print(f"T {s.length}, {kind}: {speed}")
                progress.advance(bar)
                if kind == kinds[-1]:  # a length that the file has whole is judged there
                    judged += [told] if (told := agreed(found, s)) is not None else []
                if args.json is not None:  # a run may be cut short
                    write_whole(args.json, json.dumps(record(rows, judged, s, absent), indent=1) + "\n")
    s = settings[0]
    if args.json is not None:
        write_whole(args.json, json.dumps(record(rows, judged, s, absent) | {"left": left}, indent=1) + "\n")
    title = f"{s.op}, {s.layers} layers, width {s.width}, {s.heads} heads, {s.dtype}, {s.device}"
    Console(width=140).print(table(rows, title, absent))
    for told in judged:
        parts = (f"{n} {told['apart'][n]:.1e} (limit {told['limits'][n]:.1e})" for n in told["limits"])
        print(f"T {told['length']}: flowc and the peer are apart by {', '.join(parts)}{' WRONG' * told['wrong']}")
    if args.svg is not None:
        write_whole(args.svg, picture(rows, args.op))
    broken = any(r.failed not in (None, "out of memory") for r in rows if r.model != "peer")
    finite = all(r.loss is None or isfinite(r.loss) for r in rows)
    return int(any(told["wrong"] for told in judged) or broken or not finite)


if __name__ == "__main__":
    sys.exit(main())
