"""A plan as an SVG file: what is learnt, over how many patients there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from craftsfl.planning.plan import PlannedMode, StudyPlan
from craftsfl.planning.recovery import MOST
from craftsfl.planning.words import share_words, time_words
from privacy.errors import ConfigError
from privacy.files import write_public

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 700, 76, 340
_AROUND: Final = 16  # the axis spans from N over this to N times this
_POINTS: Final = 97
# Okabe and Ito's palette, which colour-blind people can tell apart too.
_COLOURS: Final = {"alone": "#D55E00", "local": "#CC79A7", "pooled": "#0072B2"}
_NAMES: Final = {"alone": "largest site alone", "local": "each its own noise", "pooled": "together"}
# Dark where the reader's system is dark; in both, text and lines contrast with the ground.
_STYLE: Final = """\
text{font:13px system-ui,sans-serif;fill:#222}.t{font-size:17px;font-weight:600}
.g{stroke:#999;stroke-width:1}.b{fill:#fff}.d{stroke-dasharray:4 4}
@media (prefers-color-scheme:dark){text{fill:#eee}.b{fill:#16181c}.g{stroke:#888}}"""


def write_picture(plan: StudyPlan, path: Path) -> None:
    """Write the picture to `path`. Raises `ConfigError` unless it can be, and is an SVG's name."""
    if path.suffix.lower() != ".svg":
        raise ConfigError(f"{path} is no SVG file.", "Name it plan.svg, for instance.")
    try:
        write_public(path, plan_svg(plan).encode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", "Choose another file."
        ) from None


def plan_svg(plan: StudyPlan) -> str:
    """The SVG document. Text stays text: it can be searched and read aloud."""
    body = "\n".join((*_frame(plan), *_levels(plan), *_curves(plan), *_legend(plan)))
    title = escape(_title(plan))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{title}</title><style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _title(plan: StudyPlan) -> str:
    return (
        f"Together {share_words(plan.pooled)}, alone {share_words(plan.alone)}: "
        f"{plan.asked.steps} steps, {time_words(plan.pooled.cost.whole)}"
    )


def _frame(plan: StudyPlan) -> Iterator[str]:
    asked = plan.asked
    yield f'<rect class="b" width="{_WIDTH}" height="{_HEIGHT}"/>'
    yield f'<text class="t" x="20" y="32">{escape(_title(plan))}</text>'
    yield (
        f'<text x="20" y="54">{len(asked.sites)} sites, {asked.patients} patients, '
        f"{asked.parameters} numbers, ε {asked.epsilon:g}</text>"
    )
    yield f'<path class="g" fill="none" d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"/>'
    for factor in (1 / 16, 1 / 4, 1, 4, 16):
        x = _x(factor)
        yield f'<path class="g" d="M{x:.1f} {_BOTTOM}v5"/>'
        count = round(asked.patients * factor)
        yield f'<text x="{x:.1f}" y="{_BOTTOM + 20}" text-anchor="middle">{count}</text>'
    middle = (_LEFT + _RIGHT) / 2
    yield f'<text x="{middle}" y="{_BOTTOM + 42}" text-anchor="middle">patients of all sites</text>'


def _levels(plan: StudyPlan) -> Iterator[str]:
    recovery = plan.known.recovery
    lines = ((1.0, "all data, no noise"), (MOST, "half of it"), (recovery.least, "nothing below"))
    for share, words in lines:
        y = _y(share)
        yield f'<path class="g d" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>'
        yield f'<text x="{_LEFT + 6}" y="{y - 5:.1f}">{words}</text>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'


def _curves(plan: StudyPlan) -> Iterator[str]:
    for place, mode in enumerate(plan.modes):
        colour, x = _COLOURS[mode.noise.mode], _x(1) + 6 * (place - 1)  # apart, to be seen
        points = " ".join(
            f"{_x(factor):.1f},{_y(share):.1f}" for factor, share in _curve(plan, mode)
        )
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2.5" points="{points}"/>'
        low, high, middle = (_y(v) for v in (mode.share.low, mode.share.high, mode.share.middle))
        yield f'<path stroke="{colour}" stroke-width="1.5" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
        yield f'<circle cx="{_x(1):.1f}" cy="{middle:.1f}" r="5.5" fill="{colour}"/>'


def _curve(plan: StudyPlan, mode: PlannedMode) -> Sequence[tuple[float, float]]:
    """Shares for other numbers of patients: noise over signal falls with their number."""
    factors = [_AROUND ** (2 * i / (_POINTS - 1) - 1) for i in range(_POINTS)]
    return [(f, plan.known.recovery.share(mode.snr * f).middle) for f in factors]


def _legend(plan: StudyPlan) -> Iterator[str]:
    for place, mode in enumerate(reversed(plan.modes)):
        x = _LEFT + 212 * place
        yield f'<circle cx="{x}" cy="{_BOTTOM + 66}" r="5.5" fill="{_COLOURS[mode.noise.mode]}"/>'
        text = f"{_NAMES[mode.noise.mode]}: {mode.share.middle:.2f}"
        yield f'<text x="{x + 12}" y="{_BOTTOM + 70}">{text}</text>'


def _x(factor: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (math.log(factor, _AROUND) + 1) / 2


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * share / 1.05
