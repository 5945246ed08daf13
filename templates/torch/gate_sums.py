def _gate_sums(log_gates: Tensor) -> Tensor:
    """Cumulative sums over a chunk's log gates [N, B H, C G, *], a 0 first: [N, B H, C G + 1, *].

    In float64: differences of float32 sums lose up to 6e-5 where strong and mild gates mix in one chunk.
    """
    sums = log_gates.new_zeros((*log_gates.shape[:2], log_gates.shape[2] + 1, *log_gates.shape[3:]), dtype=torch.float64)
    torch.cumsum(log_gates, 2, dtype=torch.float64, out=sums[:, :, 1:])
    return sums
