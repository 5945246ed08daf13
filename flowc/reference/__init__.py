"""The oracle: runs a Model token by token in torch, exactly as the language page says.

In: a `Model` and tensors by name. Out: `run` over all tokens, `step` over one, `carried`, what a token hands to the
next. It shares no code with algebra, chunk, schedule or emit. Refuses tensors that do not fit, with ValueError.
"""

from flowc.reference.interpret import carried, outputs_of, run, step

__all__ = ["carried", "outputs_of", "run", "step"]
