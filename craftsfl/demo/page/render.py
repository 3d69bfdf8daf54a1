"""Facts to files: one HTML page, written whole or not at all."""

# Why: docs/adr/0055-the-demos-page.md

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from craftsfl.demo.page.charts import change_text, curve_svg, figure_text
from craftsfl.demo.page.facts import PageFacts, PageState
from craftsfl.privacy_words import epsilon_text
from privacy.errors import DeploymentError
from privacy.files import replacing

PAGE_NAME = "index.html"
_LOAD_AGAIN_SECONDS = 4


def render_page(facts: PageFacts) -> str:
    """The page. Every word of a caption, a name or an answer is escaped."""
    running = facts.state is PageState.RUNNING
    return (
        _environment()
        .get_template("page.html")
        .render(facts=facts, again=_LOAD_AGAIN_SECONDS if running else None)
    )


@cache
def _environment() -> Environment:
    """Made once: a page is written every other second, and compiling its template takes cores."""
    environment = Environment(
        loader=PackageLoader("craftsfl.demo.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["epsilon"] = epsilon_text
    environment.globals.update(
        curve_svg=curve_svg, change_text=change_text, figure_text=figure_text
    )
    return environment


def write_demo_page(facts: PageFacts, folder: Path) -> Path:
    """Write the page into `folder`; a browser never sees half of it.

    Raises `DeploymentError` where it cannot be written.
    """
    path = folder / PAGE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path, 0o644) as file:
            file.write(render_page(facts).encode("utf-8"))
    except OSError as error:
        raise DeploymentError(
            f"{path} cannot be written: {error.strerror}.", "Free some space there."
        ) from None
    return path
