"""One HTML page that needs nothing else: figures, plots, generated images.

Patients' tiles are on it only on request; the page then says so at the top, and only its owner can
read it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from craftsfl.model.evaluation.examine import Examined
from craftsfl.model.evaluation.plots import contact_sheet, figure_plots, nearest_plot
from craftsfl.model.evaluation.report import EvaluationReport, beside_text, number
from model.lab.evaluation import Figure, Question
from model.lab.evaluation.memorisation import Found, symmetries
from privacy.files import replacing, told_if_unwritable

_SHOWN = 48  # generated images
_PAIRS = 12  # nearest neighbours, the most suspicious first
_COLUMNS = 12
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid #ddd;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.warning{border:3px solid #b00020;color:#b00020;padding:.6em 1em;font-weight:bold;margin:1em 0}
.synthetic{background:#eef4fb;border:1px solid #0072b2;padding:.3em .8em;display:inline-block}
figure{margin:1.5em 0}figcaption{color:#555}img{max-width:100%}code{font-size:13px}
"""
_PATIENTS = (
    "LOCAL: THIS PAGE SHOWS PATIENTS' TILES. It may not leave this site: do not send, upload or "
    "publish it."
)


def write_page(path: Path, examined: Examined, *, with_patients: bool) -> None:
    """Write the page. Raises `ConfigError` if it cannot be written."""
    text = page(examined, with_patients=with_patients)
    mode = 0o644 if examined.report.public and not with_patients else 0o600
    hint = "Choose another file with --html."
    with told_if_unwritable(path, hint), replacing(path, mode) as file:
        file.write(text.encode("utf-8"))


def page(examined: Examined, *, with_patients: bool) -> str:
    """The page's HTML. Captions, ids and file names are never on it."""
    report = examined.report
    title = escape(str(report.about["title"]))
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f'<div class="warning">{_PATIENTS}</div>' if with_patients else "",
        f"<h1>{title}</h1>",
        f'<div class="warning">{escape(report.warning)}</div>' if report.warning else "",
        *_about(report),
        *_table(report),
        "<h2>Plots</h2>",
        *_plots(report),
        *_images(examined.question),
    ]
    if with_patients:
        parts += _patients(report, examined.question)
    return "\n".join([*parts, "</body></html>\n"])


def _about(report: EvaluationReport) -> Iterator[str]:
    yield "<table>"
    for name, value in report.about.items():
        if name != "title" and value is not None:
            many = value.items() if isinstance(value, dict) else ()
            text = ", ".join(f"{key} {one}" for key, one in many) or str(value)
            yield f"<tr><th>{escape(name)}</th><td><code>{escape(text)}</code></td></tr>"
    yield "</table>"


def _table(report: EvaluationReport) -> Iterator[str]:
    heads = (
        "Figure",
        "Encoder",
        "Value",
        "95 %",
        "Real",
        "Generated",
        "Seed",
        "Compare with",
        "Source",
    )
    yield "<h2>Figures</h2><table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"
    for figure in report.answer.figures:
        yield _row(figure)
    yield "</table>"
    for gap in report.answer.unavailable:
        yield f"<p>Not available: {escape(gap.metric)}, {escape(gap.encoder)}. "
        yield f"{escape(gap.reason)}</p>"
    for note in report.notes:
        yield f"<p>{escape(note)}</p>"


def _row(figure: Figure) -> str:
    numbers = (
        number(figure.value),
        f"{number(figure.low)} to {number(figure.high)}",
        str(figure.n_real or ""),
        str(figure.n_generated),
        str(figure.seed),
    )
    cells = "".join(f'<td class="n">{cell}</td>' for cell in numbers)
    beside = "<br>".join(escape(beside_text(reference)) for reference in figure.beside)
    return (
        f"<tr><td>{escape(figure.metric)} ({figure.better})</td><td>{escape(figure.encoder)}</td>"
        f"{cells}<td>{beside}</td><td>{escape(figure.source)}</td></tr>"
    )


def _plots(report: EvaluationReport) -> Iterator[str]:
    for caption, svg in figure_plots(report.answer.figures):
        yield _figure("svg+xml", svg.encode(), caption)
    for caption, svg in nearest_plot(report.answer.nearest):
        yield _figure("svg+xml", svg.encode(), caption)


def _figure(kind: str, content: bytes, caption: str) -> str:
    data = base64.b64encode(content).decode()
    text = escape(caption)
    return (
        f'<figure><figcaption>{text}</figcaption><img alt="{text}" '
        f'src="data:image/{kind};base64,{data}"></figure>'
    )


def _images(question: Question) -> Iterator[str]:
    generated = question.generated.images
    rows = np.linspace(0, len(generated) - 1, min(_SHOWN, len(generated))).astype(int)
    yield '<h2>Generated images</h2><p class="synthetic">SYNTHETIC: no patient, no specimen.</p>'
    caption = f"{len(rows)} of {len(generated)} generated images"
    yield _figure("png", contact_sheet(generated[rows], _COLUMNS), caption)


def _patients(report: EvaluationReport, question: Question) -> Iterator[str]:
    real = question.real.images
    rows = np.linspace(0, len(real) - 1, min(_SHOWN, len(real))).astype(int)
    yield "<h2>Patients' tiles</h2>"
    yield _figure("png", contact_sheet(real[rows], _COLUMNS), f"{len(rows)} of {len(real)} tiles")
    if question.training is None:
        return
    for space, found in report.answer.nearest.items():
        yield _pairs(space, found, question)


def _pairs(space: str, found: Found, question: Question) -> str:
    """The generated images nearest to a training tile, above that tile."""
    training = question.training
    if training is None:
        return ""
    ratio = found.generated.distance / np.maximum(found.radius[found.generated.row], 1e-12)
    worst = np.argsort(ratio)[:_PAIRS]
    above = question.generated.images[worst]
    below = training.images[found.generated.row[worst]]
    turned = [_as(image, tile) for image, tile in zip(above, below, strict=True)]
    shown = np.concatenate([above, np.stack(turned)])
    ratios = ", ".join(f"{value:.2f}" for value in ratio[worst])
    caption = (
        f"{space}: generated images (above) and their nearest training tiles (below, turned to "
        f"fit), the most suspicious first. Distance as a share of that tile's distance to other "
        f"patients: {ratios}"
    )
    return _figure("png", contact_sheet(shown, len(worst)), caption)


def _as(image: NDArray[np.uint8], tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The tile in whichever of its 8 symmetries is nearest to the image, pixel by pixel."""
    ways = symmetries(tile[None])[:, 0]
    apart = [np.square(way.astype(int) - image).sum() for way in ways]
    return np.asarray(ways[int(np.argmin(apart))])
