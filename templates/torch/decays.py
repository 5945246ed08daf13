def _decays(log: Tensor) -> Tensor:
    """exp(log) in the memory of `log`, and exactly 0 where it is below _LEAST: a trace of 1 that no result shows.

    Two decays multiplied are still no denormal number, with which exponentials and products take many times as long.
    """
    least = _LEAST[log.dtype]
    log.clamp_(min=math.log(least) - 1)
    odd = math.prod(log.shape[2:]) % 32  # no whole vectors: exp of what is left rounds differently
    return F.threshold_(log.copy_(log.double().exp_()) if odd else log.exp_(), least, 0.0)
