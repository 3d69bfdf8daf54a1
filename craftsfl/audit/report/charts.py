"""Curves of epsilon as SVG, without a library; colours are the page's own."""

from __future__ import annotations

import math
from typing import Final

from markupsafe import Markup, escape

from craftsfl.audit.report.figures import CostCurve, SiteCurves
from craftsfl.privacy_words import epsilon_text

_WIDTH, _HEIGHT = 560.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 120.0, 14.0, 34.0
_TICKS: Final = 4
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "1 4")  # curves are told apart without colour too


def epsilon_svg(site: SiteCurves) -> Markup:
    """The site's epsilon against each observer, and its budget."""
    curves = [curve for curve in site.curves if all(math.isfinite(y) for _, y in curve.points)]
    if not curves:
        return Markup("<p>Something was charged without noise: there is no bound.</p>")
    last = max(x for curve in curves for x, _ in curve.points)
    most = max(y for curve in curves for _, y in curve.points) or 1.0
    shown = site.budget if site.budget is not None and site.budget <= 3 * most else None
    top = 1.08 * max(most, shown or 0.0)
    parts = _axes(last, top)
    parts += _lines(curves, last, top)
    if shown is not None:
        y = _y(shown, top)
        parts.append(
            f'<line class="budget" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_WIDTH - _RIGHT + 6}" y="{y + 4:.1f}">budget {shown:g}</text>'
        )
    spoken = ", ".join(f"{c.observer}: {epsilon_text(c.points[-1][1])}" for c in curves)
    label = escape(f"Epsilon of {site.name} after {last} charged attempts. {spoken}")
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(last: int, top: float) -> list[str]:
    parts = []
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        y = _y(value, top)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:.2g}</text>'
        )
    bottom = _HEIGHT - _BOTTOM + 18
    parts.append(f'<text class="tick middle" x="{_x(0, last):.1f}" y="{bottom}">0</text>')
    parts.append(f'<text class="tick middle" x="{_x(last, last):.1f}" y="{bottom}">{last}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick middle" x="{middle}" y="{bottom}">charged attempts</text>')
    return parts


def _lines(curves: list[CostCurve], last: int, top: float) -> list[str]:
    parts, names = [], dict[str, list[str]]()
    for curve, dash in zip(curves, _DASHES, strict=False):
        points = " ".join(f"{_x(x, last):.1f},{_y(y, top):.1f}" for x, y in curve.points)
        number = list(_NUMBERS).index(curve.observer)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline class="line o{number}" points="{points}"{dashed}/>')
        end = f"{_y(curve.points[-1][1], top):.0f}"
        names.setdefault(end, []).append(str(curve.observer))
    at = -math.inf
    for end, several in sorted(names.items(), key=lambda item: float(item[0])):
        for name in several:
            at = max(at + 17, float(end) + 4)
            x = _WIDTH - _RIGHT + 6
            parts.append(f'<text class="tick" x="{x}" y="{at:.1f}">{escape(name)}</text>')
    return parts


def _x(place: float, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / max(1, last)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


_NUMBERS: Final = ("server", "site", "coalition", "public", "masks-broken")
