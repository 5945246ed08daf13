def _concat(*parts: Tensor) -> Tensor:
    """Vectors one after another, those without batch or heads repeated."""
    lead = torch.broadcast_tensors(*(p[..., 0] for p in parts))[0].shape
    return torch.cat([p.expand(*lead, p.shape[-1]) for p in parts], -1)
