@_jit
def _tl_decay_apply(
    weights, vectors, mine, theirs, seen, TURNED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr
):
    """sum_m' weights[m,m'] mine[m,k] vectors[m',k] theirs[m',k] over those that are seen.

    TURNED: of weights[m',m], transposed when they are masked, so that both ways take one copy of them.
    """
    seen = tl.where(seen, weights.to(DOT), 0.0).to(DOT)
    if TURNED:
        seen = tl.trans(seen)
    return mine * _tl_product(seen, (vectors * theirs).to(DOT), PRECISION)
