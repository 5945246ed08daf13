@_jit
def _tl_real_power(base, exponent):
    """base ** exponent: of a negative base by a whole exponent alone, 0 ** 0 is 1."""
    whole = tl.floor(exponent) == exponent
    odd = tl.floor(exponent * 0.5) * 2.0 != exponent
    size = tl.exp2(exponent * tl.log2(tl.where(base == 0.0, 1.0, tl.abs(base))))
    size = tl.where(base < 0.0, tl.where(whole, tl.where(odd, -size, size), float("nan")), size)
    zero = tl.where(exponent > 0.0, 0.0, tl.where(exponent == 0.0, 1.0, float("inf")))
    return tl.where(base == 0.0, zero, size)
