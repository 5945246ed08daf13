"""Layers over compiled ops, for models that are trained with them.

In: an `Op`, sizes. Out: `FlowLayer`, a `torch.nn.Module` from [B, T, hidden] to [B, T, hidden]. Refuses, as ValueError,
sizes that an op does not have or that are missing.
"""

from flowc.nn.layer import FlowLayer as FlowLayer
from flowc.nn.layer import LayerState as LayerState

__all__ = ["FlowLayer", "LayerState"]
