"""What `craftsfl model augment` found, for people: a table for the terminal, and a page.

Labels and captions are a table's own words, so they reach the page escaped, as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from rich.table import Table
from rich.text import Text

from craftsfl.model.augmenting.done import Augmented, promises_text
from craftsfl.model.augmenting.promises import about_figures
from craftsfl.model.augmenting.trial import TrialRow
from privacy.visible import visible

_HEADER = ("patients labelled", "trained on", "class", "right", "95 %", "over real alone", "95 %")
_PAGE_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%;font-size:14px;margin:1em 0}
th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid #ddd;vertical-align:top}
.none{border:2px solid #b00020;padding:.5em 1em}.has{border:2px solid #0072b2;padding:.5em 1em}
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
    return [*_kept_words(done), *_helped_words(done.rows), *promises_text(done.promises)]


def augmentation_page(done: Augmented) -> str:
    """The page's HTML: no patient, no file and no picture is on it."""
    title = "What synthetic pictures add"
    head = "".join(f"<th>{escape(name)}</th>" for name in _HEADER)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(row)) + "</tr>"
        for row in done.rows
    )
    promises = "".join(
        f'<p class="{"has" if promise.inherits else "none"}">{escape(words)}</p>'
        for promise, words in zip(done.promises, promises_text(done.promises), strict=True)
    )
    sentences = [*_kept_words(done), *_helped_words(done.rows)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_PAGE_STYLE}</style></head><body><h1>{title}</h1>"
        + "".join(f"<p>{escape(words)}</p>" for words in sentences)
        + f"<table><tr>{head}</tr>{body}</table><h2>Who is promised what</h2>{promises}"
        + f'<p class="none">{escape(about_figures())}</p><h2>Classes</h2>'
        + f"<table>{''.join(_class_lines(done))}</table></body></html>\n"
    )


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
            "draw them so that the judge knows them: see the grids in drawn/."
        )


def _helped_words(rows: Sequence[TrialRow]) -> Iterator[str]:
    """From which amount on real and synthetic pictures beat real ones, at each share."""
    for share in dict.fromkeys(row.share for row in rows):
        own = [
            row
            for row in rows
            if row.share == share and row.label is None and row.arm == "real-and-synthetic"
        ]
        sure = [row.amount for row in own if row.gain_low is not None and row.gain_low > 0]
        worse = [row.amount for row in own if row.gain_high is not None and row.gain_high < 0]
        words = f"With {share:.0%} of the patients labelled, synthetic pictures "
        if not own:
            yield f"{words}could not be tried: none passed."
        elif sure:
            yield f"{words}helped from {min(sure)} a class on."
        elif worse:
            yield f"{words}did harm (from {min(worse)} a class on)."
        else:
            yield f"{words}made no difference that these patients could show."


def _class_lines(done: Augmented) -> Iterator[str]:
    yield "<tr><th>label</th><th>drawn by</th><th>tiles</th><th>patients</th>"
    yield "<th>judged rightly</th><th>drawn</th><th>kept</th></tr>"
    table = zip(
        done.tiles.classes, done.judge.by_class, done.drawn.drawn, done.drawn.kept(), strict=True
    )
    for own, right, drawn, kept in table:
        cells = [own.label, " | ".join(own.captions), own.tiles, own.patients]
        numbers = [f"{right:.2f}", drawn, kept]
        yield "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in [*cells, *numbers])
        yield "</tr>"
