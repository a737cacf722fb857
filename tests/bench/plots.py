"""Bars as SVG, written out: a plotting library would weigh more than everything that is measured."""

from __future__ import annotations

import math
from html import escape

from bench.row import Result

_WIDTH = 720
_LABEL = 250
_BAR = 18
_STEP = 24


def bars(result: Result) -> str:
    """Return the ratios of *result* as bars on a logarithmic axis; ours is dark, the goal a line."""
    ratios = {name: ratio for name, ratio in result.ratios.items() if ratio > 0}
    ordered = sorted(ratios, key=lambda name: ratios[name], reverse=result.least is not None)
    goal = result.least if result.least is not None else result.most
    values = [*ratios.values(), *([goal] if goal else []), 1.0]
    low, high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.05
    room = _WIDTH - _LABEL - 80

    def at(ratio: float) -> float:
        return _LABEL + room * (math.log10(ratio) - low) / (high - low)

    height = 40 + _STEP * len(ordered)
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18" font-weight="bold">{escape(result.title)}, × {escape(result.base)}</text>',
    ]
    for row, name in enumerate(ordered):
        top = 28 + _STEP * row
        end = at(ratios[name])
        colour = "#1f4e79" if name == result.ours else "#9db8d2"
        out.append(f'<text x="{_LABEL - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>')
        out.append(
            f'<rect x="{_LABEL}" y="{top}" width="{max(end - _LABEL, 1):.0f}" height="{_BAR}" '
            f'fill="{colour}"/>'
        )
        out.append(f'<text x="{end + 5:.0f}" y="{top + 13}">{ratios[name]:.3g}</text>')
    if goal:
        out.append(
            f'<line x1="{at(goal):.0f}" x2="{at(goal):.0f}" y1="24" y2="{height - 8}" stroke="#b03030" '
            'stroke-dasharray="4 3"/>'
        )
    return "\n".join([*out, "</svg>", ""])
