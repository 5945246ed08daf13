"""Where the grammar and the templates are.

In: nothing. Out: the text of `flow.lark` and the folder of templates, from the installed wheel (`flowc/_resources`) or,
in a checkout, from the folders beside the package. Refuses an installation that has neither: FileNotFoundError.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    places = (_PACKAGE / "_resources" / name, _PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"flowc is installed without its {name}: looked in {' and '.join(map(str, places))}")


def grammar() -> str:
    """The text of the language's grammar, `grammar/flow.lark`."""
    return (_folder("grammar") / "flow.lark").read_text(encoding="utf-8")


def templates() -> Path:
    """The folder that holds the templates."""
    return _folder("templates")
