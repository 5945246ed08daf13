def _by_spec_name(function: Any) -> Any:
    """Accept arguments by the names that the spec gives them."""

    @wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{_SPELLED.get(name, name): value for name, value in kwargs.items()})

    return renamed
