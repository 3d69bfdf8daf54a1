"""Pictures of an evaluation's figures, and pictures of its images, as bytes of PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.lab.evaluation import Figure
from model.lab.evaluation.memorisation import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

# Okabe and Ito's palette, which colour-blind people can tell apart too.
GENERATED, REAL, CONTROL = "#0072B2", "#009E73", "#E69F00"
_STYLE: Any = {
    "svg.hashsalt": "craftsfl",  # the same figures make the same file
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}
DISTANCES: Final = ("frechet", "kid", "cmmd")
SHARES: Final = ("precision", "recall", "density", "coverage")
_CELL, _GAP = 96, 4  # px


def figure_plots(figures: Sequence[Figure]) -> Iterator[tuple[str, str]]:
    """(caption, SVG) for each kind of figure present."""
    for name in DISTANCES:
        chosen = [figure for figure in figures if figure.metric == name]
        if chosen:
            yield f"{name}: at the same size, and the real-against-real floor", _plot(chosen)
    titles = {
        "Precision, recall, density and coverage": SHARES,
        "Captions": ("alignment", "alignment_gain", "semantic_agreement"),
        "Retrieval": tuple(f.metric for f in figures if "_r" in f.metric),
        "Memorisation": ("authentic", "copies", "nearer_training"),
        "Drift": ("drift", "image_drift"),
    }
    for title, names in titles.items():
        chosen = [figure for figure in figures if figure.metric in names]
        if chosen:
            yield title, _plot(chosen)


def _plot(figures: Sequence[Figure]) -> str:
    """A row for each figure: its interval, and its references' intervals below."""
    rows = [row for figure in figures for row in _rows(figure)]

    def draw(axes: Axes) -> None:
        for place, (_, value, ends, colour) in enumerate(rows):
            axes.plot(ends, [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot([value], [place], "o", color=colour)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.invert_yaxis()
        axes.margins(y=0.1)

    return _svg(draw, height=0.6 + 0.32 * len(rows))


_Row = tuple[str, float, tuple[float, float], str]


def _rows(figure: Figure) -> Iterator[_Row]:
    own = f"{figure.metric}, {figure.encoder}"
    yield own, figure.value, (figure.low, figure.high), GENERATED
    for reference in figure.beside:
        if reference.name == "ε bound":
            continue
        low = reference.value if reference.low is None else reference.low
        high = reference.value if reference.high is None else reference.high
        colour = REAL if "real" in reference.name or "held" in reference.name else CONTROL
        colour = GENERATED if "size" in reference.name else colour
        colour = REAL if reference.name == "floor" else colour
        yield reference.name, reference.value, (low, high), colour


def nearest_plot(nearest: Mapping[str, Found]) -> Iterator[tuple[str, str]]:
    """(caption, SVG): how far generated and held-out images are from training tiles."""
    for space, found in nearest.items():
        sides = (found.generated.distance, found.held_out.distance)

        def draw(axes: Axes, sides: tuple[Any, Any] = sides) -> None:
            bins = np.linspace(0, max(side.max() for side in sides) * 1.02, 30).tolist()
            for values, colour, label in zip(
                sides, (GENERATED, REAL), ("generated", "held-out real"), strict=True
            ):
                axes.hist(values, bins, density=True, alpha=0.55, color=colour, label=label)
            axes.set_xlabel("distance to the nearest training tile, over 8 symmetries")
            axes.legend(frameon=False)

        yield f"Nearest training tiles, {space}", _svg(draw, height=2.6)


def _svg(draw: Callable[[Axes], None], *, height: float) -> str:
    import matplotlib  # half a second: only when a page is wanted
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture_

    with matplotlib.rc_context(_STYLE):
        picture: Picture = Picture_(figsize=(7.5, height), layout="constrained")
        FigureCanvasAgg(picture)
        draw(picture.add_subplot())
        text = io.StringIO()
        picture.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]  # without the XML declaration: it goes inside HTML


def contact_sheet(images: NDArray[np.uint8], columns: int) -> bytes:
    """A PNG of images uint8 [n, s, s, 3] in rows of `columns`."""
    rows = -(-len(images) // columns)
    step = _CELL + _GAP
    sheet = Image.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for index, image in enumerate(images):
        cell = Image.fromarray(image).resize((_CELL, _CELL), _resampling(image.shape[0]))
        sheet.paste(cell, (index % columns * step, index // columns * step))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _resampling(side: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if side < _CELL else Image.Resampling.LANCZOS
