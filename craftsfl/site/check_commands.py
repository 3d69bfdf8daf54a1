"""`craftsfl site check`, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def site_check(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Only what site serve looks at before it starts.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check data, study, keys and machine before the first round; changes nothing.

    Ends with 0 if there is nothing to do, with 1 if a person should look at
    something, with 2 if the site would not take part. docs/checks.md explains
    every finding by its id. Run it as the agent's user.
    """
    from craftsfl.site.check.command import show_check

    raise typer.Exit(show_check(settings, quick=quick, as_json=json))
