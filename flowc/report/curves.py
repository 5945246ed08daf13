"""Curves as an SVG picture, across logarithmic or not, upwards logarithmic or from 0.

In: `Panel`s, each with some named series of numbers, positive where an axis is logarithmic. Out: the text of an SVG
file, panels three in a row, every series of one name in one colour. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 180, 60, 50, 40
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # told apart by colour-blind readers too
STYLE = "font-family: sans-serif; font-size: 11px"


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: series of points by name; those of `linear` axes are as they are, upwards from 0."""

    title: str
    across: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    linear: tuple[bool, bool] = (False, False)  # across, upwards


def svg(panels: Sequence[Panel], title: str) -> str:
    """The picture."""
    columns = min(len(panels), 3)
    rows = ceil(len(panels) / columns)
    names = list(dict.fromkeys(n for p in panels for n in p.series))
    apart = 40 + 7 * max(10, *(len(n) for n in names))
    width = max(columns * (WIDTH + LEFT + GAP), LEFT + apart * len(names))
    height = TOP + rows * (HEIGHT + 2 * GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" style="{STYLE}">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(LEFT, 20, title, weight="bold"),
    ]
    for at, name in enumerate(names):
        x, colour = LEFT + apart * at, COLOURS[at % len(COLOURS)]
        parts.append(f'<line x1="{x}" y1="34" x2="{x + 20}" y2="34" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(x + 26, 38, name))
    for at, panel in enumerate(panels):
        left = at % columns * (WIDTH + LEFT + GAP) + LEFT
        parts += _panel(panel, left, TOP + at // columns * (HEIGHT + 2 * GAP) + GAP // 2, names)
    return "\n".join((*parts, "</svg>", ""))


def _panel(panel: Panel, left: float, top: float, names: Sequence[str]) -> list[str]:
    points = [p for series in panel.series.values() for p in series]
    plain_x, plain_y = panel.linear
    ticks = _upwards([y for _, y in points], plain_y)
    low, high = (y if plain_y else log10(y) for y in (ticks[0], ticks[-1]))
    first, last = (x if plain_x else log10(x) for x in (f(x for x, _ in points) for f in (min, max)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = ((x if plain_x else log10(x)) - first) / ((last - first) or 1)
        return left + WIDTH * across, top + HEIGHT * (high - (y if plain_y else log10(y))) / (high - low)

    parts = [
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>',
        _text(left, top - 6, panel.title),
        _text(left + WIDTH / 2, top + HEIGHT + 30, panel.across, anchor="middle"),
    ]
    for tick in ticks:
        _, y = place(points[0][0], tick)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(left - 5, y + 4, f"{tick:g}" if plain_y else f"1e{round(log10(tick))}", anchor="end"))
    across = sorted({x for x, _ in points})
    for value in across[:: ceil(len(across) / 8)]:
        x, _ = place(value, ticks[0])
        parts.append(_text(x, top + HEIGHT + 15, f"{value:g}", anchor="middle"))
    for name, series in panel.series.items():
        colour = COLOURS[names.index(name) % len(COLOURS)]
        places = [place(x, y) for x, y in series]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return parts


def _upwards(values: Sequence[float], plain: bool) -> list[float]:
    """Where lines go: powers of ten around the values, or from 0 in steps of 1, 2 or 5 times one, six at most."""
    if not plain:
        low = floor(log10(min(values)))
        return [10.0**p for p in range(low, max(ceil(log10(max(values))), low + 1) + 1)]
    most = max(values)
    step = next(s for p in range(-9, 12) for s in (1 * 10.0**p, 2 * 10.0**p, 5 * 10.0**p) if s * 5 >= most)
    return [step * n for n in range(ceil(most / step - 1e-9) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
