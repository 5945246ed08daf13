def _named(function: Any) -> Any:
    """Take arguments by the names that the spec gives them, and name one that there is none of."""
    own = tuple(inspect.signature(function).parameters)
    shown = [next((name for name, spelled in _SPELLED.items() if spelled == n), n) for n in own]
    known = frozenset((*own, *shown))

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not known.issuperset(kwargs):
            name = min(kwargs.keys() - known)
            raise TypeError(f"{_NAME}: there is no argument `{name}`; there are {', '.join(shown)}")
        if _SPELLED:
            kwargs = {_SPELLED.get(name, name): value for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return called
