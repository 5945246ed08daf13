"""Recurrence -> ChunkProgram: a chunk of tokens at once, its adjoint, and what it costs.

In: a `Recurrence`. Out: `derive` gives the forward `Program`, `differentiate` its adjoint, `cost` interprets either.
Refuses, as `Refusal` with a span, a recurrence that has a normal form but no chunk program yet.
"""
