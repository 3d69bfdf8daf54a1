"""The atlas as a page: plain HTML beside its pictures, no script, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from craftsfl.model.atlas.facts import Atlas
from model.lab.atlas.obedience import Obedience
from privacy.files import write_public
from privacy.visible import visible

ATLAS_PAGE = "index.html"


def write_atlas_page(atlas: Atlas, folder: Path) -> Path:
    """Write the page into `folder`, whole or not at all; raises `OSError`."""
    path = folder / ATLAS_PAGE
    write_public(path, render_atlas(atlas).encode("utf-8"))
    return path


def render_atlas(atlas: Atlas) -> str:
    """The page. Whatever a file says about itself is escaped, and hidden characters shown."""
    environment = Environment(
        loader=PackageLoader("craftsfl.model.atlas", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(seen=visible, share=share_text, gain=gain_text)
    return environment.get_template("atlas.html").render(atlas=atlas)


def share_text(found: Obedience) -> str:
    """ "12 of 16 (48 to 93 %)": a share with its interval."""
    return f"{found.followed} of {found.count} ({100 * found.low:.0f} to {100 * found.high:.0f} %)"


def gain_text(found: Obedience) -> str:
    """ "0.81 (0.77 to 0.85)"; without an interval for one picture."""
    mean = f"{found.gain:.2f}"
    if found.count < 2:
        return mean
    return f"{mean} ({found.gain_low:.2f} to {found.gain_high:.2f})".replace("-", "\N{MINUS SIGN}")
