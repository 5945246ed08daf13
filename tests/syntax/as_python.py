"""A canonical spec -> the decorated Python function that says the same, text to text, sharing nothing with flowc."""

import re

_DECLARATION = re.compile(r"(input|param|state) (.+?) : (.+)")
_SIZE = re.compile(r"[^\W\d]\w*")
_KEYWORDS = {"x", "of", "in", "inf", "scalar"}


def as_python(canonical: str, decorator: str = "@flowc.jit") -> str:
    """The function, with its states in front, its sizes behind `*` only where their order or a value asks for it."""
    lines = canonical.rstrip("\n").split("\n")
    doc = [line[2:] for line in lines if line.startswith("#")]
    name, header = re.fullmatch(
        r"flow (\w+)\((.*)\)", next(line for line in lines if line.startswith("flow "))
    ).groups()
    declared = [m.groups() for line in lines if (m := _DECLARATION.fullmatch(line))]
    states = [n for kind, names, _ in declared if kind == "state" for n in names.split(", ")]
    arguments = [
        f'{n}: "{"" if kind == "input" else kind + " "}{shape}"'
        for wanted in (["state"], ["input", "param"])
        for kind, names, shape in declared
        if kind in wanted
        for n in names.split(", ")
    ]
    sizes = [size for size in header.split(", ") if size]
    if sizes != _named(arguments):
        arguments += ["*", *(size.replace(" ", "") for size in sizes)]
    start = next(i for i, line in enumerate(lines) if line.startswith("flow "))
    steps = [line for line in lines[start + 1 :] if line and not _DECLARATION.fullmatch(line)]
    body, outputs = _body(steps, states)
    docstring = ['    """' + "\n    ".join(doc).replace("\\", "\\\\").replace('"', '\\"') + '"""'] if doc else []
    returned = [f"    return {', '.join([*states, *outputs])}"]
    return "\n".join([decorator, f"def {name}({', '.join(arguments)}):", *docstring, *body, *returned]) + "\n"


def _named(arguments: list[str]) -> list[str]:
    """The sizes in annotations, in the order in which they first stand there."""
    shapes = (a.split('"')[1].removeprefix("state ").removeprefix("param ") for a in arguments)
    shapes = (re.split(r" in [\[(]|[<>=]", shape)[0] for shape in shapes)
    return list(dict.fromkeys(word for shape in shapes for word in _SIZE.findall(shape) if word not in _KEYWORDS))


def _body(steps: list[str], states: list[str]) -> tuple[list[str], list[str]]:
    body, outputs, assigned = [], [], set()
    for line in steps:
        indent = "    " + line[: len(line) - len(line.lstrip())]
        words = line.strip()
        if words.startswith("repeat "):
            body.append(re.sub(r"repeat (\w+) in (.*):", r"for \1 in range(\2):", indent + words))
            continue
        target, _, value = words.removeprefix("let ").partition(" = ")
        value = re.sub(r"(\w+(?:\[\w+\])?)\[t-1\]", lambda m: _earlier(m[1], states, assigned), value)
        target, value = target.removesuffix("[t]"), value.replace("[t]", "")
        body.append(f"{indent}{target} = {value}")
        if target in states:
            assigned.add(target)
        elif not words.startswith("let "):
            outputs.append(target)
    return body, outputs


def _earlier(name: str, states: list[str], assigned: set[str]) -> str:
    """The old value: a state that is not assigned yet has it without `prev`."""
    return name if name in states and name not in assigned else f"prev({name})"
