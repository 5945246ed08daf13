@_cached
def _mask(reads: tuple[int, ...], writes: tuple[int, ...], tokens: int, device: torch.device) -> Tensor:
    """Whether row (t', j') is written before row (t, j) reads: an earlier token, or the same one and earlier in the step."""
    t = torch.arange(tokens, device=device)
    within = torch.tensor([[w < r for w in writes] for r in reads], device=device, dtype=torch.bool)
    before = t[:, None, None, None] > t[:, None]
    same = (t[:, None, None, None] == t[:, None]) & within[:, None]
    return (before | same).reshape(tokens * len(reads), tokens * len(writes))
