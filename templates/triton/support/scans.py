@_jit
def _tl_join_linear(gate, value, later_gate, later_value):
    """Two steps z -> gate z + value as one."""
    return gate * later_gate, later_gate * value + later_value


@_jit
def _tl_join_max(gate, value, later_gate, later_value):
    """Two steps z -> max(gate + z, value) as one."""
    return gate + later_gate, _tl_maximum(later_gate + value, later_value)


@_jit
def _tl_log_add(a, b):
    """log(exp(a) + exp(b))."""
    most = _tl_maximum(a, b)
    return tl.where(most == float("-inf"), most, most + tl.log(tl.exp(a - most) + tl.exp(b - most)))


@_jit
def _tl_join_logsumexp(gate, value, later_gate, later_value):
    """Two steps z -> log(exp(gate + z) + exp(value)) as one."""
    return gate + later_gate, _tl_log_add(later_gate + value, later_value)
