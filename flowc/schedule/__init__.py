"""ChunkProgram + Options -> Plan: kernels, what is kept for the backward pass, choices by cost, and tiles.

In: a `Recurrence`, its forward `Program` and `Options`. Out: `schedule` gives a `Plan`, `cut` its Triton kernels or the
reason (`Missing`) why it has none. Refuses a chunk of too many rows, with ValueError.
"""
