"""Options: what a user may choose about a compilation, in one frozen record.

In: values by name, from `flowc.compile(...)`, a call of the op or the command line. Out: `Options`, whose fields are
the one list of options: the command line's flags, the help and the record in an emitted module come from them.
Refuses, with ValueError, a value outside what the field allows, naming option, value and the allowed ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import index
from typing import Any


def _choice(default: str, help_text: str, **choices: str) -> Any:
    """A field that takes one of `choices`, each with a word on what it does."""
    return field(default=default, metadata={"help": help_text, "choices": choices})


def _positive(name: str, value: object) -> int | None:
    """A number of any integral type (NumPy's, a tensor of one) as an int."""
    try:
        number = None if value is None else 0 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number is not None and number < 1:
        raise ValueError(f"{name} is {value!r}; allowed: an integer from 1, or None")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of one compilation; the defaults leave every one of them to the compiler.

    Raises:
        ValueError: a value that its option does not allow.
    """

    chunk_size: int | None = field(
        default=None,
        metadata={"help": "tokens per chunk, times the rank at most 256; default: by the cost model"},
    )
    aggregation: str = _choice(
        "auto",
        "how the system (I - N) U = Z of a chunk is solved",
        auto="the cheapest one, by the cost model",
        wy="the inverse of I - N by forward substitution, formed ahead and multiplied",
        tensorinv="the inverse of I - N by recursive inversion of blocks, formed ahead and multiplied",
        signature="no inverse of I - N: substitution on the right-hand side, 16 rows at a time",
    )
    schedule: str = _choice(
        "auto",
        "how the chunk program is cut into kernels",
        auto="the compiler's choice",
        split="one kernel per stage, intermediates through memory",
        fused="outputs in the kernel that carries the state, where Triton has one; torch operators run stages",
        **{"two-level": "sequences in segments beside one another, where kernels hold one state; otherwise as auto"},
    )
    backend: str = _choice(
        "auto",
        "what the emitted module runs on",
        auto="torch, and Triton where the tensors are on a GPU and the kernels exist",
        torch="torch alone, on any device",
        triton="Triton kernels, an error where a recurrence has none",
    )
    save: str = _choice(
        "states",
        "what is kept between a forward and its backward pass, beside the inputs",
        states="states, and what else is dearer to make again than to read",
        recompute="nothing: the backward pass runs a forward pass first",
    )

    def __post_init__(self) -> None:
        """Check every field against what it allows."""
        object.__setattr__(self, "chunk_size", _positive("chunk_size", self.chunk_size))
        for option in fields(self):
            choices = option.metadata.get("choices")
            value = getattr(self, option.name)
            if choices is not None and value not in choices:
                raise ValueError(f"{option.name} is {value!r}; allowed: {', '.join(map(repr, choices))}")

    def replaced(self, changes: Mapping[str, object]) -> Options:
        """A copy with `changes` by name, where a value of None leaves the option as it is.

        Raises:
            ValueError: a name that is no option, or a value that its option does not allow.
        """
        known = option_names()
        for name in changes:
            if name not in known:
                raise ValueError(f"{name!r} is no option; options: {', '.join(known)}")
        values: dict[str, Any] = {name: getattr(self, name) for name in known}
        return Options(**{**values, **{name: value for name, value in changes.items() if value is not None}})

    def record(self) -> dict[str, object]:
        """The fields by name in declaration order, as an emitted module's `__options__` keeps them."""
        return {name: getattr(self, name) for name in option_names()}


def option_names() -> tuple[str, ...]:
    """The names of all options, in declaration order."""
    return tuple(option.name for option in fields(Options))


def choices() -> dict[str, tuple[str, ...]]:
    """What every option allows that is a choice of several."""
    return {o.name: tuple(o.metadata["choices"]) for o in fields(Options) if "choices" in o.metadata}
