@_jit
def _tl_own_apply(weights, vectors, same):
    """weights[m,m] vectors[m,k] same[k], where a token has one row."""
    row = tl.arange(0, weights.shape[0])
    own = tl.sum(tl.where(row[:, None] == row[None, :], weights.to(tl.float32), 0.0), 1)
    return own[:, None] * vectors.to(tl.float32) * same
