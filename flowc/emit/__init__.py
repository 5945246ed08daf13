"""Plan -> Artifact: printers and templates that write one self-contained module.

In: a `Plan`. Out: `emit` gives an `Artifact`, the text of a module that imports torch (and triton), never flowc.
Refuses nothing that `schedule` planned; what Triton lacks becomes an error of the emitted op.
"""
