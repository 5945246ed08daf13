@_jit
def _tl_dot(left, right, acc, PRECISION: tl.constexpr):
    """A product whose left operand is as memory holds it, added to `acc`; float32 is multiplied in parts that are computed."""
    if left.dtype != tl.float32:
        return tl.dot(left, right, acc=acc, input_precision=PRECISION, out_dtype=tl.float32)
    elif acc is None:
        return _tl_product(left, right, PRECISION)
    else:
        return acc + _tl_product(left, right, PRECISION)
