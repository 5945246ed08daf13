"""What the parts of `make gpu` launch, as runs without values: for `ship`, which compiles it ahead.

In: an example. Out: for every part that has it its runs by name, to be called where a device is `pretended`. They are
the parts' own calls, less what needs a number: times and comparisons. Of a search the first candidates of every kernel
are launched, as many as a GPU has time for; of the peer's kernels every configuration among which it chooses at its
first call. Raises what an op raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import checks
import decode as decoding
import gpu
import torch
import train_models
import train_step
import tune as tuning
from gpu_peers import PEERS, RECURRENT, triton_path
from inputs import drawn, sizes_of
from long import HEADS, LENGTHS, NAMES, SIDE, TINY_LENGTHS, called
from processes import ROOT
from train_models import OP, SIZES, Setting, built

from flowc.compiler import Stage, compile_text
from flowc.fuzz.targets import GPU
from flowc.options import Options, choices
from flowc.source import Source
from flowc.tune.trial import Trial
from flowc.tune.tune import searched

Runs = Iterator[tuple[str, partial[object]]]

CANDIDATES = 6
"""Of a kernel. A candidate takes half a second, judged and timed; a search of eleven ops has three minutes."""


def correctness(name: str, tiny: bool) -> Runs:
    """Every check."""
    one = checks.example(name)
    for check in checks.checks(one, GPU, tiny):
        inputs, start = checks.drawn(check, one)
        yield check.key, partial(checks.run, check, one, GPU, inputs, start)


def bench(name: str, tiny: bool) -> Runs:
    """Values with gradients, then every shape forward and both; without the peer's."""
    if name not in PEERS:
        return
    dtype, place = torch.float16 if tiny else torch.bfloat16, "cuda"
    op, model = gpu.example(name)

    def values(shape: tuple[int, int, int, int] = gpu.TINY[0] if tiny else gpu.VALUES) -> object:
        x = gpu.drawn(model, shape[:3], gpu.sizes_of(model, shape[3]), dtype, place)
        return gpu.results(lambda **given: op(**given, backend="triton"), x)

    yield "bench, values", partial(values)
    for passes in gpu.GOALS:
        for shape in gpu.shapes(name, tiny):
            yield f"bench, {passes}, {shape}", partial(_untimed, name, passes, shape, dtype, place, tiny)


def _untimed(*given: object) -> object:
    """A row of gpu.py whose clocks call once."""

    def once(call: Any, _: object) -> float:
        call()
        return 0.0

    with patch.multiple(gpu, milliseconds=once, is_there=bool):
        return gpu.measured(*given)  # type: ignore[arg-type]


def tune(name: str, tiny: bool) -> Runs:
    """The call by the rules, then with each of the first candidates of every kernel."""
    if name not in PEERS:
        return
    compilation = compile_text(Source(name, (ROOT / f"examples/{name}.flow").read_text()), Options(), Stage.PLAN)
    request = tuning.TINY if tiny else tuning.AT

    def search() -> None:
        trial = Trial(compilation, request.workload(compilation), "cuda")
        for site in searched(compilation, trial, request):
            for candidate in site.candidates()[:CANDIDATES] if site.role in trial.places else ():
                with trial.configured({site.role: candidate.tiling}), suppress(Exception):  # refused there, with why
                    trial.call()
                    trial.judged()

    yield "tune", partial(search)


def decode(name: str, tiny: bool) -> Runs:
    """A step for every batch and type of states."""
    if name not in decoding.NAMES:
        return
    usual = decoding.TINY if tiny else {"batches": decoding.BATCHES, "heads": decoding.HEADS, "side": decoding.SIDE}
    dtype = torch.float16 if tiny else torch.bfloat16
    sizes = sizes_of(decoding.compiled(name)[1], usual["side"])
    for state in (torch.float32, dtype):
        for batch in usual["batches"]:
            given = name, batch, usual["heads"], sizes, dtype, state, "cuda"
            yield f"decode, {batch}, {state}", partial(_step, given)


def _step(given: tuple[Any, ...]) -> object:
    with torch.no_grad():
        return decoding.case(*given).call()


def train(name: str, tiny: bool) -> Runs:
    """A forward and a backward pass of the model at every length."""
    if name != OP:
        return
    sizes = dict(SIZES["tiny" if tiny else "cuda"])
    for length in sizes.pop("lengths"):
        s = Setting(name, "auto", "cuda", "bfloat16", **sizes, alone=False, means_something=True, length=length)
        yield f"train, {length}", partial(_trained, s)


def _trained(s: Setting, kind: str = "flowc") -> None:
    tokens = train_models.drawn(s)
    with torch.device(s.device):
        model = built(kind, s)
    train_step.losses_of(model, tokens).mean().backward()


def long(name: str, tiny: bool) -> Runs:
    """Every schedule at every length."""
    if name not in NAMES:
        return
    op, model = gpu.example(name)
    lengths, heads = (TINY_LENGTHS, (1,)) if tiny else (LENGTHS, HEADS)
    dtype, side = torch.float16 if tiny else torch.bfloat16, 16 if tiny else SIDE

    def run(length: int, heads: int, schedule: str, trained: bool) -> None:
        x = drawn(model, (1, length, heads), sizes_of(model, side), dtype, "cuda")
        called(op, {n: v.requires_grad_(trained) for n, v in x.items()}, schedule, trained)

    for schedule in choices()["schedule"]:
        for trained in (False, True):
            for length in lengths:
                for n in heads:
                    key = f"long, {schedule}, {length}, {n}, {trained}"
                    yield key, partial(run, length, n, schedule, trained)


def peer(name: str, tiny: bool) -> Runs:
    """What the peer launches in all of them; it refuses some of it, by Triton's version and the device."""
    if name not in PEERS or find_spec("fla") is None:  # which is imported where there is a device
        return
    dtype = torch.float16 if tiny else torch.bfloat16
    _, model = gpu.example(name)

    def run(shape: tuple[int, int, int, int], trained: bool) -> None:
        ready = PEERS[name].ready(drawn(model, shape[:3], sizes_of(model, shape[3]), dtype, "cuda"), trained)
        with triton_path(), torch.set_grad_enabled(trained):
            (ready.both if trained else ready.call)()

    for shape in (gpu.TINY[0] if tiny else gpu.VALUES, *gpu.shapes(name, tiny)):
        for trained in (False, True):
            yield f"peer, {shape}, {'both' if trained else 'forward'}", partial(run, shape, trained)
    for key, step in decode(name, tiny) if name in RECURRENT else ():
        yield f"peer, {key}", partial(_peers_step, name, step.args[0])
    for key, passes in train(name, tiny):
        yield f"peer, {key}", partial(passes, "peer")


def _peers_step(name: str, given: tuple[Any, ...]) -> None:
    case = decoding.case(*given)
    with triton_path(), torch.no_grad():
        RECURRENT[name].decoded(case.along_time(), case.pools[0][case.slots])()


PARTS = {
    "correctness": correctness, "bench": bench, "tune": tune, "decode": decode, "train": train, "long": long,
    "peer": peer,
}  # fmt: skip
"""By the names that on_gpu.py has for them, and the peer's of all."""
