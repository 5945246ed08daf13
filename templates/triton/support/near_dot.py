@_jit
def _tl_near_dot(left, right, up, low, seen, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """`_tl_decay_dot` where only rows and columns of the same 16 are seen: blocks on the diagonal."""
    M: tl.constexpr = left.shape[0]
    K: tl.constexpr = left.shape[1]
    rows = tl.reshape((left * up).to(DOT), (M // 16, 16, K))
    columns = tl.permute(tl.reshape((right * low).to(DOT), (M // 16, 16, K)), (0, 2, 1))
    near = tl.dot(rows, columns, input_precision=PRECISION, out_dtype=tl.float32)
    return tl.where(seen, tl.reshape(tl.broadcast_to(near[:, :, None, :], (M // 16, 16, M // 16, 16)), (M, M)), 0.0)
