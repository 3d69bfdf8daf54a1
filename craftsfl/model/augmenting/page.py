"""What `craftsfl model augment` found, for people: a table for the terminal, and a page.

Labels and captions are a table's own words, so they reach the page escaped, as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from rich.table import Table
from rich.text import Text

from craftsfl.model.augmenting.done import Augmented, promises_text
from craftsfl.model.augmenting.promises import about_figures
from craftsfl.model.augmenting.trial import TrialRow
from privacy.visible import visible

_CLASS_HEADER = (
    *("label", "caption", "drawn by", "tiles", "patients"),
    *("judged rightly", "drawn", "kept"),
)
_LISTED = 8
_PERFECT = 0.999
_HEADER = ("patients labelled", "trained on", "class", "right", "95 %", "over real alone", "95 %")
_PAGE_STYLE = """
:root{color-scheme:light dark;--line:#8886;--none:#b00020;--has:#0072b2;--doubt:#b26a00}
@media (prefers-color-scheme:dark){:root{--none:#ff6b81;--has:#56b4e9;--doubt:#ffb74d}}
body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;width:100%;font-size:14px;margin:1em 0}
.wide{overflow-x:auto}
th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid var(--line);vertical-align:top}
.number{font-variant-numeric:tabular-nums;white-space:nowrap}
.none,.has,.doubt{border:2px solid var(--none);padding:.5em 1em;overflow-wrap:anywhere}
.has{border-color:var(--has)}.doubt{border-color:var(--doubt)}
.found{font-size:1.15em}
"""


def augmentation_table(done: Augmented) -> Table:
    """The figures; every class by itself below all of them."""
    table = Table(*_HEADER, title="Real tiles alone, and with synthetic pictures")
    for row in done.rows:
        style = "bold" if row.label is None else ""
        table.add_row(*(Text(cell, style) for cell in _cells(row)))
    return table


def augmentation_words(done: Augmented) -> list[str]:
    """What was drawn, what helped from which amount on, and what is promised, in sentences."""
    helped = helped_words(done.rows)
    return [*done.notes, *_kept_words(done), *helped, *promises_text(done.promises)]


def augmentation_page(done: Augmented) -> str:
    """The page's HTML: no patient, no file and no picture is on it."""
    title = "What synthetic pictures add"
    promises = "".join(
        _paragraph(words, "has" if promise.inherits else "none")
        for promise, words in zip(done.promises, promises_text(done.promises), strict=True)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_PAGE_STYLE}</style></head><body><h1>{title}</h1>"
        + "".join(_paragraph(words, "doubt") for words in done.notes)
        + "".join(_paragraph(words, "found") for words in helped_words(done.rows))
        + "".join(_paragraph(words) for words in _kept_words(done))
        + _html_table(_HEADER, (_cells(row) for row in done.rows))
        + f"<h2>Who is promised what</h2>{promises}"
        + _paragraph(about_figures(), "none")
        + "<h2>Classes</h2>"
        + _html_table(_CLASS_HEADER, _class_cells(done))
        + "</body></html>\n"
    )


def _paragraph(words: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(words)}</p>' if kind else f"<p>{escape(words)}</p>"


def _html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td{_numeric(cell)}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _numeric(cell: str) -> str:
    return ' class="number"' if cell[:1] in "+-0123456789" else ""


def _cells(row: TrialRow) -> tuple[str, ...]:
    trained = row.arm.replace("-", " ")
    if row.amount:
        trained += f", up to {row.amount} a class"
    gain, spread = "", ""
    if row.gain is not None and row.gain_low is not None and row.gain_high is not None:
        gain, spread = f"{row.gain:+.3f}", f"{row.gain_low:+.3f} to {row.gain_high:+.3f}"
    label = "all, each the same" if row.label is None else visible(row.label)
    interval = f"{row.low:.3f} to {row.high:.3f}"
    return (f"{row.share:.0%}", trained, label, f"{row.score:.3f}", interval, gain, spread)


def _kept_words(done: Augmented) -> Iterator[str]:
    count, kept = sum(done.drawn.drawn), sum(done.drawn.kept())
    judge = done.judge
    yield (
        f"The judge named {judge.score:.2f} of the real tiles rightly ({judge.low:.2f} to "
        f"{judge.high:.2f}; guessing: {1 / len(judge.by_class):.2f}). Of {count} pictures drawn, "
        f"{kept} passed."
    )
    lacking = [
        f"{visible(own.label)} ({number})"
        for own, number in zip(done.tiles.classes, done.drawn.kept(), strict=True)
        if number < done.request.target
    ]
    if lacking:
        yield (
            f"Fewer than {done.request.target} passed of: {', '.join(lacking)}. The model does not "
            "draw them so that the judge knows them: see the grids beside them."
        )


def helped_words(rows: Sequence[TrialRow]) -> Iterator[str]:
    """From which amount on real and synthetic pictures beat real ones, at each share; or not."""
    for share in dict.fromkeys(row.share for row in rows):
        own = sorted(
            (
                row
                for row in rows
                if row.share == share and row.label is None and row.arm == "real-and-synthetic"
            ),
            key=lambda row: row.amount,
        )
        words = f"With {share:.0%} of the patients labelled, synthetic pictures "
        if not own:
            yield f"{words}could not be tried: none passed the judge."
            continue
        yield f"{words}{_verdict(own)} {_by(own[-1])}.{_left_to_gain(rows, share)}"
        yield from _by_class([row for row in rows if row.share == share])


def _verdict(own: Sequence[TrialRow]) -> str:
    """In ascending order of the amounts."""
    sure, worse = (
        [row.amount for row in own if test(row)] for test in (_surely_better, _surely_worse)
    )
    tried = f"tried: {_listed(row.amount for row in own)} a class"
    if worse and not sure:
        return f"do not help, and do harm with {_listed(worse)} a class ({tried})."
    if not sure:
        return f"made no difference that these patients could show ({tried})."
    first = sure[0]
    unsure = [row.amount for row in own if row.amount not in (*sure, *worse)]
    if worse or any(amount > first for amount in unsure):
        maybe = f", but not surely with {_listed(unsure)}" if unsure else ""
        harm = f", and did harm with {_listed(worse)}" if worse else ""
        return f"helped with {_listed(sure)} a class{maybe}{harm}."
    least = ", the fewest that were tried" if first == own[0].amount else ""
    return f"help from {first} a class on{least} ({tried})."


def _left_to_gain(rows: Sequence[TrialRow], share: float) -> str:
    real = next((row for row in rows if row.share == share and row.arm == "real"), None)
    if real is None or real.score < _PERFECT:
        return ""
    return " Real tiles alone were right already: there was nothing left to gain."


def _by(row: TrialRow) -> str:
    return (
        f"With {row.amount}, balanced accuracy changed by {row.gain:+.2f} "
        f"({row.gain_low:+.2f} to {row.gain_high:+.2f})"
    )


def _by_class(rows: Sequence[TrialRow]) -> Iterator[str]:
    """Classes by themselves: each interval is its own, so of many one in forty seems better."""
    own = [row for row in rows if row.label is not None and row.arm == "real-and-synthetic"]
    for words, test in (("helped", _surely_better), ("did harm to", _surely_worse)):
        found = [f"{visible(row.label or '')} ({row.gain:+.2f})" for row in own if test(row)]
        if found:
            more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            yield f"Of the classes by themselves they {words} {', '.join(found[:_LISTED])}{more}."


def _surely_better(row: TrialRow) -> bool:
    return row.gain_low is not None and row.gain_low > 0


def _surely_worse(row: TrialRow) -> bool:
    return row.gain_high is not None and row.gain_high < 0


def _listed(amounts: Iterable[int]) -> str:
    *first, last = map(str, amounts)
    return f"{', '.join(first)} and {last}" if first else last


def _class_cells(done: Augmented) -> Iterator[tuple[str, ...]]:
    table = zip(
        done.tiles.classes, done.judge.by_class, done.drawn.drawn, done.drawn.kept(), strict=True
    )
    for number, (own, right, drawn, kept) in enumerate(table):
        words = (own.label, " | ".join(own.captions), done.drawer_of(number))
        numbers = (own.tiles, own.patients, f"{right:.2f}", drawn, kept)
        yield tuple(visible(str(cell)) for cell in (*words, *numbers))
