@_jit
def _tl_split(log_gates):
    """Natural logs in base 2, as whole numbers, whose sums are exact, and what is left of each, at most a half."""
    logs = log_gates * 1.4426950408889634
    whole = tl.floor(logs + 0.5)
    return whole, logs - whole
