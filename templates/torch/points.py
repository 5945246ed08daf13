def _points(positions: tuple[int, ...], gates: tuple[int, ...]) -> tuple[int, ...]:
    """How many of a step's gates come before each position."""
    return tuple(sum(g < p for g in gates) for p in positions)
