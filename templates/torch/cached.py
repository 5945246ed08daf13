def _cached(make: Any) -> Any:
    """What `make` builds, kept for later calls; not under a dispatch mode, whose tensors may be fakes that end with it."""
    kept = lru_cache(maxsize=64)(make)

    @wraps(make)
    def found(*arguments: Any) -> Any:
        return (make if is_in_torch_dispatch_mode() else kept)(*arguments)

    return found
