"""A certificate in words.

In: a `Certificate`. Out: text, a record for JSON, a reproducer of at most 20 lines. Refuses nothing.
"""

from __future__ import annotations

from flowc.certify.certificate import Certificate
from flowc.certify.field import SMALL

NOT_COVERED = (
    "other sizes and lengths",
    "rounding, overflow and the floor of log gates at -104",
    "gates that are exactly 0",
    "ties of max, min, abs, relu and clamp",
    "the printed PyTorch and Triton code, and its step by one token",
)
SPEC_LINES = 11


def verdict(found: Certificate) -> str:
    """One sentence."""
    if found.reason:
        return f"{found.name}: not certified: {found.reason}"
    if found.mismatch is not None:
        return f"{found.name}: the chunk program is wrong: {found.mismatch}"
    tensors = f"all {found.quantities} tensors are equal at {len(found.points)} points"
    return f"{found.name}: certified: {tensors}; an error is missed with probability below {found.probability:.1g}"


def text(found: Certificate, path: str, canonical: str) -> str:
    """The verdict and what it rests on; a reproducer where the program is wrong."""
    lines = [verdict(found)]
    if found.mismatch is not None:
        lines += [
            "This is a bug in flowc, not in the spec; no module is written without --no-certify. To reproduce it:",
            "",
            reproducer(found, path, canonical),
        ]
    if not found.holds:
        return "\n".join(lines)
    lines += [
        "  field         integers modulo 2^61 - 1",
        "  compared      outputs, final state, gradients of every input, param and the first state",
        f"  aggregations  {', '.join(found.aggregations)}",
        *(f"  point         {point}" for point in found.points),
        f"  degree        at most {found.degree} in the drawn numbers, {SMALL} times that in exponentials' roots",
        f"  oracles       {found.oracles} values of functions that the field does not have",
        f"  not covered   {'; '.join(NOT_COVERED)}",
    ]
    return "\n".join(lines)


def record(found: Certificate) -> dict[str, object]:
    """As JSON shows it."""
    return {
        "certified": found.holds,
        "reason": found.reason or None,
        "mismatch": None if found.mismatch is None else str(found.mismatch),
        "verdict": verdict(found),
        "field": "2^61 - 1",
        "seed": found.seed,
        "points": [{"T": p.length, "C": p.chunk, "H": p.heads, "dimensions": dict(p.dimensions)} for p in found.points],
        "aggregations": list(found.aggregations),
        "tensors": found.quantities,
        "degree": found.degree,
        "oracles": found.oracles,
        "error_probability": found.probability if found.holds else None,
        "not_covered": list(NOT_COVERED),
    }


def reproducer(found: Certificate, path: str, canonical: str) -> str:
    """A script that finds the mismatch again; it holds the spec where that is short."""
    spec = canonical.strip().splitlines()
    short = len(spec) <= SPEC_LINES
    source = ['Source("SPEC", """', *spec, '""")'] if short else [f'Source("{path}", open("{path}").read())']
    source[0] = "source = " + source[0]
    if short:
        source[0:2] = [source[0] + spec[0]]
    return "\n".join(
        [
            "from flowc.compiler import Stage, compile_text",
            "from flowc.options import Options",
            "from flowc.source import Source",
            *source,
            "compiled = compile_text(source, Options(), Stage.PLAN)",
            f"print(compiled.certify(seed={found.seed}).mismatch)",
        ]
    )
