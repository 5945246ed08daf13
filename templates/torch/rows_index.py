@_cached
def _rows_index(points: tuple[int, ...], gates: int, tokens: int, device: torch.device) -> Tensor:
    """The gate sum that each row of a chunk takes: entry t G + point."""
    steps = torch.arange(tokens, device=device)[:, None] * gates
    return (steps + torch.tensor(points, device=device)).reshape(tokens * len(points))
