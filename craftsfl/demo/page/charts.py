"""Small SVG figures without a library: a curve with its interval, and a bar.

Colours are the page's own variables, so that a figure follows light and dark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from craftsfl.demo.page.facts import Change, Curve

_WIDTH, _HEIGHT = 560.0, 240.0
_LEFT, _TOP, _BOTTOM = 86.0, 14.0, 34.0
_RIGHT, _FOR_NAMES = 24.0, 130.0  # the right margin, and what the references' names add
_TICKS: Final = 5  # as many steps of an axis, or fewer
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class _Scale:
    steps: int
    low: float
    high: float
    right: float  # where the last step is

    def x(self, step: float) -> float:
        return _LEFT + (self.right - _LEFT) * step / max(1, self.steps)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def figure_text(value: float, *, share: bool) -> str:
    """A change as the page writes it: +1.23 % or +0.0123; never "-0"."""
    shown = round(100 * value, 2) if share else round(value, 3)
    text = f"{shown + 0.0:+.2f} %" if share else f"{shown + 0.0:+.3f}"
    return text.replace("-", "\N{MINUS SIGN}")


def curve_svg(curve: Curve, steps: int) -> Markup:
    """The curve over `steps` steps, its band, and a mark for each reference at the right edge."""
    scale = _scale(curve, steps)
    parts = [*_axes(scale, curve.share)]
    if curve.points:
        band = [(scale.x(item.step), scale.y(item.high)) for item in curve.points]
        band += [(scale.x(item.step), scale.y(item.low)) for item in reversed(curve.points)]
        line = [(scale.x(item.step), scale.y(item.mean)) for item in curve.points]
        parts.append(f'<polygon class="band" points="{_points(band)}"/>')
        parts.append(f'<polyline class="line" points="{_points(line)}"/>')
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in line]
    parts += _references(scale, curve)
    title = escape(f"{curve.title}: {_spoken(curve)}")
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )


def _scale(curve: Curve, steps: int) -> _Scale:
    all_of_them = [*curve.points, *curve.references.values()]
    low = min([0.0, *(item.low for item in all_of_them)])
    high = max([0.0, *(item.high for item in all_of_them)])
    if low == high:
        low, high = -0.01, 0.01
    margin = 0.06 * (high - low)
    right = _WIDTH - _RIGHT - (_FOR_NAMES if curve.references else 0.0)
    return _Scale(steps, low - margin, high + margin, right)


def _axes(scale: _Scale, share: bool) -> list[str]:
    right, bottom = scale.right, _HEIGHT - _BOTTOM
    parts = []
    for value in round_ticks(scale.low, scale.high):
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = _tick_text(value, share=share)
        parts.append(f'<text class="tick end" x="{_LEFT - 8}" y="{y + 4:.1f}">{text}</text>')
    zero = scale.y(0.0)
    parts.append(f'<line class="zero" x1="{_LEFT}" x2="{right}" y1="{zero:.1f}" y2="{zero:.1f}"/>')
    for step in sorted({0, scale.steps // 2, scale.steps}):
        text = f"step {step}" if step == scale.steps else f"{step}"
        place = f'x="{scale.x(step):.1f}" y="{bottom + 22:.1f}"'
        anchor = "end" if step == scale.steps else "middle"  # the last one stays in the picture
        parts.append(f'<text class="tick {anchor}" {place}>{text}</text>')
    return parts


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, 0 among them where it lies between."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in _ROUND if power * factor >= rough * (1 - 1e-9))
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_text(value: float, *, share: bool) -> str:
    shown = 100 * value if share else value
    text = f"{round(shown, 9) + 0.0:g}{' %' if share else ''}".replace("-", "\N{MINUS SIGN}")
    return f"+{text}" if shown > 0 else text


def _references(scale: _Scale, curve: Curve) -> list[str]:
    """A bar with its interval for each, and its name: apart from each other, whatever they are."""
    right = scale.right
    parts, taken = [], _TOP
    ordered = sorted(curve.references.items(), key=lambda item: -item[1].mean)
    for number, (name, change) in enumerate(ordered):
        x, y = right + 10 + 7 * number, scale.y(change.mean)
        label = max(y + 4, taken + 14)
        taken = label
        parts.append(
            f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{scale.y(change.low):.1f}" y2="{scale.y(change.high):.1f}"/>'
            f'<circle class="reference" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
            f'<text class="tick" x="{right + 14 + 7 * len(ordered):.1f}" y="{label:.1f}">'
            f"{escape(name)}</text>"
        )
    return parts


def _points(pairs: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _spoken(curve: Curve) -> str:
    """The newest figure in words, for those who hear the page."""
    if not curve.points:
        return "not measured yet"
    return f"after step {curve.points[-1].step} {change_text(curve.points[-1], share=curve.share)}"


def change_text(change: Change, *, share: bool) -> str:
    """A change and its interval: "−0.28 % (−0.41 % to −0.15 %)"."""
    mean, low, high = (
        figure_text(value, share=share) for value in (change.mean, change.low, change.high)
    )
    return f"{mean} ({low} to {high})"
