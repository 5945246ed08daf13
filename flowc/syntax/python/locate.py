"""A function object -> its place in its file.

In: a function. Out: the `Source` of the file that it comes from, with the function's place there. Refuses what is no
function (TypeError), functions whose source is not at hand or no longer the one that runs (OSError), and functions that
another decorator has wrapped (FlowError).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from flowc.diagnostics import Diagnostic, FlowError
from flowc.source import Source
from flowc.syntax.python.function import Function, functions
from flowc.syntax.python.places import Places


def function_source(function: Callable[..., Any]) -> Source:
    """The file of `function`, and where in it the function stands.

    Raises:
        FlowError: a function that another decorator has wrapped.
        OSError: its source is not at hand, or has changed since it was loaded.
        TypeError: no function.
    """
    inner = inspect.unwrap(function)
    if not isinstance(inner, FunctionType):
        raise TypeError(f"expected a function that is written in Python, not {type(inner).__name__}")
    code = inner.__code__
    try:
        lines, _ = inspect.findsource(inner)
        text = "".join(lines).replace("\r\n", "\n").replace("\r", "\n")  # a file's are; a notebook's may not be
        module = ast.parse(text)
    except (OSError, TypeError, SyntaxError) as error:
        raise OSError(
            f"{_named(code)} is read from its source, and there is none at hand:"
            " put the function into a file, or give the spec as a text to flowc.compile"
        ) from error
    found = next((node for node in functions(module) if _is(node, code)), None)
    if found is None:
        raise OSError(f"{_named(code)} is no longer what its file has there: load the file again")
    places = Places(Source(code.co_filename, text))
    source = Source(code.co_filename, text, places.span(found).start)
    if inner is not function:
        message, advice = f"`{code.co_name}` is wrapped by another decorator", "remove it: the function is never run"
        span = places.span(found if isinstance(found, ast.Lambda) else found.decorator_list[-1])
        raise FlowError(source, (Diagnostic("F707", message, advice, span),))
    return source


def _named(code: CodeType) -> str:
    return f"{code.co_name} ({code.co_filename}:{code.co_firstlineno})"


def _is(node: Function, code: CodeType) -> bool:
    """Whether `node` is what `code` was made of, as far as name, place and arguments tell."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    name, first = "<lambda>", node.lineno
    if not isinstance(node, ast.Lambda):
        name, first = node.name, min((node.lineno, *(decorator.lineno for decorator in node.decorator_list)))
    taken = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return (name, first) == (code.co_name, code.co_firstlineno) and [argument.arg for argument in arguments] == [*taken]
